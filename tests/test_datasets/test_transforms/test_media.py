"""Sound, frames and arrays: from files to a batch."""

import json
import wave

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import ASTFeatureExtractor

from mmvlm.datasets.collate import collate_flat
from mmvlm.datasets.processor import VLMProcessor
from mmvlm.datasets.readers.llava import LLaVADataset
from mmvlm.datasets.transforms.audio import kaldi_fbank
from mmvlm.datasets.transforms.media import (
    AudioFbank,
    FrameViews,
    NormalizePoints,
    Waveform,
)
from mmvlm.datasets.transforms.random_crop import RandomResizedCropSquare
from mmvlm.registry import CHAT_TEMPLATES, TOKENIZERS
from mmvlm.structures import FixedTokenCount, VisionEncoderSpec

SPEC = VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
PIPELINE = [
    dict(type="LoadImages"),
    dict(type="LoadMedia"),
    dict(type="ResizeSquare"),
    dict(type="FrameViews"),
    dict(type="AudioFbank", num_mel_bins=16, num_frames=20),
    dict(type="EncodeConversation"),
    dict(type="PackVLMInputs"),
]


def _noise(seconds=0.5, rate=16000, seed=0):
    noise = np.random.default_rng(seed).normal(0, 0.1, int(seconds * rate))
    return noise.astype(np.float32)


def _write_wave(path, samples, rate=16000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def test_filter_bank_equals_the_one_of_transformers():
    samples = _noise()
    extractor = ASTFeatureExtractor(do_normalize=False, max_length=1024)

    bank = kaldi_fbank(samples)

    # The extractor's numpy path, which transformers holds against torchaudio.
    expected = extractor._extract_fbank_features(samples, max_length=len(bank))
    np.testing.assert_allclose(bank, expected, atol=1e-3)
    assert bank.shape == (48, 128)


def test_audio_is_cut_padded_normalised_and_turned():
    transform = AudioFbank(num_mel_bins=16, num_frames=20)
    raw = np.arange(5 * 16, dtype=np.float32).reshape(5, 16)

    (out,) = transform(dict(media=dict(audio=[raw])))["media"]["audio"]

    assert out.shape == (1, 16, 20) and out.dtype == np.float32
    scale = 2 * 4.5689974
    np.testing.assert_allclose(out[0, :, :5], (raw.T + 4.2677393) / scale, rtol=1e-5)
    np.testing.assert_allclose(out[0, :, 5:], 4.2677393 / scale, rtol=1e-5)


def test_masks_hide_at_most_so_many_bands_and_frames():
    transform = AudioFbank(16, 20, freq_mask=4, time_mask=6)
    raw = np.full((20, 16), 7.0, np.float32)
    most = [0, 0]
    for seed in range(30):
        item = dict(media=dict(audio=[raw]), rng=np.random.default_rng(seed))

        (out,) = transform(item)["media"]["audio"]

        hidden = out[0] < 1
        bands, frames = hidden.all(1).sum(), hidden.all(0).sum()
        assert hidden.sum() == bands * 20 + frames * 16 - bands * frames
        most = [max(most[0], bands), max(most[1], frames)]
    assert most == [3, 5]


@pytest.mark.parametrize(
    "sound, message",
    [
        (Waveform(_noise(), 8000), "a file of 8000 Hz, expected 16000"),
        (np.zeros((5, 12)), r"shape \(5, 12\), expected \(frames, 16\)"),
        (Waveform(_noise(0.01), 16000), "160 samples, a frame of 25"),
    ],
)
def test_unfit_sounds_are_refused(sound, message):
    with pytest.raises(ValueError, match=message):
        AudioFbank(num_mel_bins=16)(dict(media=dict(audio=[sound])))


def test_frames_share_one_crop():
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    view = RandomResizedCropSquare(scale=(0.3, 0.6), size=16, resample="bicubic")
    transform = FrameViews(["rgbd"], view)
    item = dict(media=dict(rgbd=[[image, image]]), rng=np.random.default_rng(1))

    (first,) = transform(item)["media"]["rgbd"]
    (second,) = transform(item)["media"]["rgbd"]

    assert first.shape == (2, 3, 16, 16) and first.dtype == np.uint8
    assert np.array_equal(first[0], first[1])
    assert not np.array_equal(first, second)


def test_a_crop_lies_where_its_layout_says():
    lines = np.arange(40, dtype=np.uint8)[:, None, None] * 6
    image = np.broadcast_to(lines, (40, 60, 3))
    view = RandomResizedCropSquare(size=80, resample="nearest")

    pixels, layout = view.view(image, np.random.default_rng(0))

    row = (50.5 - layout.offset[1]) / layout.scale[1]
    assert pixels[0, 0, 50, 0] == int(row) * 6


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "a_depth"):
        pixels = rng.integers(0, 255, (20, 30, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    _write_wave(tmp_path / "a.wav", _noise())
    np.save(tmp_path / "imu.npy", np.zeros((6, 40), np.float32))
    return tmp_path


def _record(number, text="What?", **fields):
    tags = "".join(f"<{name}>\n" for name in fields)
    talk = [("human", tags + text), ("gpt", "It is red.")]
    turns = [{"from": who, "value": value} for who, value in talk]
    return dict(id=f"r{number}", conversations=turns, **fields)


def _dataset(folder, records, modalities=("image", "audio", "rgbd", "imu"), **options):
    (folder / "ann.json").write_text(json.dumps(records))
    options = dict(dict(pipeline=PIPELINE), **options)
    data = LLaVADataset("ann.json", data_root=str(folder), **options)
    data.bind(
        VLMProcessor(
            TOKENIZERS.build(dict(type="TinyTokenizer")),
            CHAT_TEMPLATES.build(dict(type="vicuna_v1")),
            SPEC,
            FixedTokenCount(7),
            modalities=modalities,
        )
    )
    return data


RGBD = [["a.png", "a_depth.png"]]


def test_every_modality_reaches_the_batch(folder):
    records = [
        _record(0, image="a.png"),
        _record(1, audio="a.wav"),
        _record(2, rgbd=RGBD),
        _record(3, imu="imu.npy", audio="a.wav"),
        _record(4),
    ]
    data = _dataset(folder, records)

    batch = collate_flat([data[n] for n in range(5)])["inputs"]

    kinds = ["image", "audio", "rgbd", "audio+imu", "text"]
    assert data.modalities.tolist() == kinds
    assert np.sign(data.lengths).tolist() == [1, 1, 1, 1, -1]
    media = {kind: one for kind, one in batch.inputs.items() if kind != "image"}
    assert {n: tuple(m.values.shape) for n, m in media.items()} == dict(
        audio=(2, 1, 16, 20), rgbd=(1, 2, 3, 32, 32), imu=(1, 6, 40)
    )
    assert media["audio"].owner == (1, 3) and media["audio"].slot_lens == (7, 7)
    assert media["rgbd"].values.dtype == torch.uint8
    filled = torch.cat([one.slot_index for one in batch.inputs.values()])
    slots = (batch.text.input_ids < 0).nonzero().flatten()
    assert torch.equal(filled.sort().values, slots)
    assert batch.to("cpu").inputs["imu"].owner == (3,)


def test_images_alone_bring_no_other_inputs(folder):
    data = _dataset(folder, [_record(0, image="a.png")], modalities=("image",))

    assert set(data[0]["inputs"]["inputs"]) == {"image"}
    assert set(collate_flat([data[0]])["inputs"].inputs) == {"image"}


def test_placeholders_without_a_field_are_text(folder):
    data = _dataset(folder, [_record(0, "What does <audio> mean?", image="a.png")])

    batch = collate_flat([data[0]])["inputs"]

    assert set(batch.inputs) == {"image"}
    assert len(batch.inputs["image"].slot_lens) == 1


@pytest.mark.parametrize(
    "record, message",
    [
        (_record(0, audio=["a.wav", "a.wav"]), "1 <audio> placeholders but 2 inputs"),
        (_record(0, audio="b.wav"), r"b\.wav' does not exist"),
        (_record(0, rgbd=[["a.png", 3]]), "'rgbd' must be a path, or a list"),
        (_record(0, rgbd="imu.npy"), "rgbd: an input must be"),
        (_record(0, video=RGBD), "it has 'video', but the model takes"),
        (_record(0, audio="../a.wav"), "leaves the folder"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(folder, record, message):
    data = _dataset(folder, [record])

    with pytest.raises(ValueError, match=message) as caught:
        data[0]
    assert "r0" in str(caught.value)


def test_pipeline_without_loading_says_what_is_missing(folder):
    pipeline = [s for s in PIPELINE if s["type"] not in ("LoadMedia", "FrameViews")]
    pipeline = [s for s in pipeline if s["type"] != "AudioFbank"]
    data = _dataset(folder, [_record(0, audio="a.wav")], pipeline=pipeline)

    with pytest.raises(ValueError, match="needs LoadMedia before"):
        data[0]


def test_blind_run_deals_sounds_too(folder):
    _write_wave(folder / "b.wav", _noise(seed=1))
    records = [_record(0, audio="a.wav"), _record(1, audio="b.wav")]
    seen = _dataset(folder, records)
    blind = _dataset(folder, records, shuffle_images=True)

    for here, there in ((0, 1), (1, 0)):
        expected = seen[there]["inputs"]["inputs"]["audio"].values
        found = blind[here]["inputs"]["inputs"]["audio"].values
        assert torch.equal(found, expected)


def test_filter_takes_one_modality(folder):
    records = [_record(0, image="a.png"), _record(1, audio="a.wav"), _record(2)]

    for modality, expected in (("audio", ["audio"]), ("image", ["image"])):
        data = _dataset(folder, records, filter_cfg=dict(modality=modality))
        assert data.modalities.tolist() == expected


def test_points_are_centred_and_scaled_by_their_first_three_channels():
    cloud = np.random.default_rng(0).normal(3, 2, (50, 6)).astype(np.float32)
    item = dict(media=dict(point=[cloud.copy()], audio=["as it is"]))

    media = NormalizePoints()(item)["media"]

    (normal,) = media["point"]
    radii = np.linalg.norm(normal[:, :3], axis=1)
    np.testing.assert_allclose(normal[:, :3].mean(0), 0, atol=1e-6)
    assert radii.max() == pytest.approx(1)
    moved = cloud[:, :3] - cloud[:, :3].mean(0)
    scale = np.linalg.norm(moved, axis=1).max()
    np.testing.assert_allclose(normal[:, :3] * scale, moved, atol=1e-5)
    np.testing.assert_array_equal(normal[:, 3:], cloud[:, 3:])
    np.testing.assert_array_equal(item["media"]["point"][0], cloud)
    assert media["audio"] == ["as it is"] and NormalizePoints()(dict(media={}))


@pytest.mark.parametrize("shape", [(5,), (0, 6), (4, 2)])
def test_what_is_no_point_cloud_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(points, channels\)"):
        NormalizePoints()(dict(media=dict(point=[np.zeros(shape)])))
