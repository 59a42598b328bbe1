"""Towers, positions and decoders of Qwen2-VL give what the whole model gives."""

import inspect

import numpy as np
import pytest
import torch
import transformers

from mmvlm.datasets.transforms.native_resolution import (
    AddAxisPositions,
    NativeResolution,
)
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.vision_encoders.qwen2_vl import Qwen2VLVisionEncoder
from mmvlm.structures import SLOT_TOKEN_ID, EncodedSample, Slot
from mmvlm.structures.native_resolution import (
    BlockTokenCount,
    axis_positions,
    from_patches,
)

IMAGE, START, VIDEO = 120, 121, 122
TEXT = dict(
    vocab_size=128,
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.2,
    rope_scaling=dict(type="mrope", mrope_section=[2, 2, 2]),
)
FAMILIES = {
    "qwen2_vl": transformers.Qwen2VLForConditionalGeneration,
    "qwen2_5_vl": transformers.Qwen2_5_VLForConditionalGeneration,
}


@pytest.fixture(scope="module", params=FAMILIES)
def whole(request):
    """Transformers' whole model, tiny."""
    torch.manual_seed(0)
    tower = Qwen2VLVisionEncoder.tiny(request.param).visual.config.to_dict()
    cls = FAMILIES[request.param]
    config = cls.config_class(
        text_config=TEXT,
        vision_config={**tower, "initializer_range": 0.2},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        tie_word_embeddings=False,
    )
    return cls(config).eval()


@pytest.fixture(scope="module")
def parts(whole, tmp_path_factory):
    """Our encoder and language model, loaded from the whole model's folder."""
    folder = str(tmp_path_factory.mktemp("qwen"))
    whole.save_pretrained(folder)
    return Qwen2VLVisionEncoder(folder).eval(), HFCausalLM(folder).eval()


def kinds(whole, ids):
    """Return what newer transformers ask for: 1 at tokens of images, 2 of videos."""
    asked = inspect.signature(whole.model.get_rope_index).parameters
    if "mm_token_type_ids" not in asked:
        return {}
    return dict(mm_token_type_ids=(ids == IMAGE).int() + 2 * (ids == VIDEO).int())


def draw_sample(generator):
    """Return a text with images between, as (sample, grids)."""
    ids, slots, grids = [], [], []
    for index in range(int(generator.integers(0, 4))):
        ids += [*generator.integers(3, 100, generator.integers(0, 5)).tolist(), START]
        grid = (1, *(2 * generator.integers(1, 6, 2)).tolist())
        length = grid[1] * grid[2] // 4
        slots.append(Slot(index, len(ids), length))
        ids += [SLOT_TOKEN_ID] * length
        grids.append(grid)
    ids += generator.integers(3, 100, generator.integers(1, 6)).tolist()
    ids = np.array(ids)
    return EncodedSample(ids, np.full_like(ids, -100), slots), grids


def test_positions_are_those_of_the_whole_model(whole):
    generator = np.random.default_rng(0)
    for _ in range(50):
        sample, grids = draw_sample(generator)
        ids = torch.tensor(np.where(sample.input_ids < 0, IMAGE, sample.input_ids))
        sizes = torch.tensor(grids) if grids else None
        expected, _ = whole.model.get_rope_index(
            ids[None], image_grid_thw=sizes, **kinds(whole, ids[None])
        )
        assert np.array_equal(axis_positions(sample, grids), expected[:, 0])


def test_videos_count_time(whole):
    if whole.config.model_type != "qwen2_vl":
        pytest.skip("Qwen2.5-VL counts seconds")
    ids = torch.tensor([5, START] + [VIDEO] * 8 + [6, 7])
    expected, _ = whole.model.get_rope_index(
        ids[None],
        video_grid_thw=torch.tensor([[2, 4, 4]]),
        **kinds(whole, ids[None]),
    )
    sample = EncodedSample(ids.numpy(), ids.numpy(), [Slot(0, 2, 8, "video")])
    found = axis_positions(sample, [(2, 4, 4)], kind="video")
    assert np.array_equal(found, expected[:, 0])
    with pytest.raises(ValueError, match="image 0: a slot of 8 tokens"):
        axis_positions(sample, [(1, 4, 4)], kind="video")


def test_text_follows_the_last_moment_of_a_long_video():
    # transformers 5.24 goes on from the image's side, at a moment that was taken.
    ids = np.array([5, START] + [VIDEO] * 12 + [6, 7])
    sample = EncodedSample(ids, ids, [Slot(0, 2, 12, "video")])
    found = axis_positions(sample, [(3, 4, 4)], kind="video")
    assert found[:, -2:].tolist() == [[5, 6]] * 3


def flat_batch(parts, count=6):
    """Return a flat batch of mixed samples, and every sample for itself."""
    encoder, language_model = parts
    generator = np.random.default_rng(1)
    samples = [draw_sample(generator) for _ in range(count)]
    patches = [
        torch.randn(sum(h * w for _, h, w in grids), 3, 4, 4) for _, grids in samples
    ]
    flat_ids = torch.tensor(np.concatenate([s.input_ids for s, _ in samples]))
    embeds = language_model.embed(flat_ids.clamp(min=0))
    all_grids = [grid for _, grids in samples for grid in grids]
    features = encoder(torch.cat(patches), (-1,), all_grids)
    embeds[flat_ids < 0] = features.hidden_states[0][0]
    positions = torch.tensor(
        np.concatenate([axis_positions(*sample) for sample in samples], 1)
    )
    return samples, patches, embeds, positions


def their_inputs(whole, sample, grids, patches):
    ids = torch.tensor(np.where(sample.input_ids < 0, IMAGE, sample.input_ids))[None]
    mask = torch.ones_like(ids)
    inputs = dict(input_ids=ids, attention_mask=mask, **kinds(whole, ids))
    if grids:
        frames = patches[:, :, None].expand(-1, -1, 2, -1, -1)
        inputs.update(
            pixel_values=frames.flatten(1), image_grid_thw=torch.tensor(grids)
        )
    return inputs


@pytest.mark.parametrize("attention", ["segment", "padded"])
@torch.no_grad()
def test_logits_are_those_of_the_whole_model(whole, parts, attention):
    samples, patches, embeds, positions = flat_batch(parts)
    model = parts[1]
    if attention == "padded":
        model = HFCausalLM(config=model.config.to_dict(), attention="padded").eval()
        model.load_state_dict(parts[1].state_dict())
    lens = tuple(len(sample.input_ids) for sample, _ in samples)
    offsets = torch.tensor([0, *lens]).cumsum(0).int()
    found = model.logits(model(embeds, positions, offsets, lens)).split(lens)
    for (sample, grids), own, logits in zip(samples, patches, found, strict=True):
        expected = whole(**their_inputs(whole, sample, grids, own)).logits[0]
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("share_prefix", [False, True])
@torch.no_grad()
def test_replies_are_those_of_the_whole_model(whole, parts, share_prefix):
    samples, patches, embeds, positions = flat_batch(parts)
    lens = [len(sample.input_ids) for sample, _ in samples]
    order = [2, 0, 2, 2, 4, 4, 4] if share_prefix else range(6)
    pieces, places = embeds.split(lens), positions.split(lens, 1)
    calls = []
    hook = parts[1].decoder.register_forward_hook(lambda *args: calls.append(1))
    replies = parts[1].generate(
        torch.cat([pieces[n] for n in order]),
        tuple(lens[n] for n in order),
        position_ids=torch.cat([places[n] for n in order], 1),
        max_new_tokens=5,
        stop_ids=[],
        share_prefix=share_prefix,
    )
    hook.remove()
    assert len(calls) == 5 + share_prefix
    for number, reply in zip(order, replies, strict=True):
        inputs = their_inputs(whole, *samples[number], patches[number])
        expected = whole.generate(**inputs, max_new_tokens=5, do_sample=False)
        assert reply.tolist() == expected[0, lens[number] :].tolist()


def test_images_are_cut_as_the_official_processor_does():
    generator = np.random.default_rng(2)
    # The one that resizes with PIL, whose name depends on the version.
    name = "Qwen2VLImageProcessor"
    official = getattr(transformers, f"{name}Pil", getattr(transformers, name))()
    ours = NativeResolution(size=28, resample="bicubic")
    encoder = Qwen2VLVisionEncoder.tiny()
    mean, std = (np.array(x).reshape(1, 3, 1, 1) for x in _norm(encoder.spec))
    for _ in range(8):
        height, width = generator.integers(20, 300, 2)
        image = generator.integers(0, 256, (height, width, 3), np.uint8)
        views, layout = ours.view(image)
        theirs = official(image, return_tensors="np")
        assert layout.grids == tuple(map(tuple, theirs["image_grid_thw"]))
        assert len(views) == layout.num_views
        assert len(views) // 4 == BlockTokenCount(2)(layout)
        found = (views / 255 - mean) / std
        expected = theirs["pixel_values"].reshape(-1, 3, 2, 14, 14)
        assert np.abs(found - expected[:, :, 0]).max() < 1e-5
        assert np.abs(found - expected[:, :, 1]).max() < 1e-5
        whole = from_patches(views, layout.grids[0], 2)
        size = np.array(layout.scale[::-1]) * (height, width)
        assert np.allclose(whole.shape[:2], size)


def _norm(spec):
    return spec.mean, spec.std


def test_what_does_not_fit_is_refused():
    encoder = Qwen2VLVisionEncoder.tiny()
    with pytest.raises(ValueError, match="3 patches for grids of 4"):
        encoder(torch.zeros(3, 3, 4, 4), (-1,), [(1, 2, 2)])
    with pytest.raises(ValueError, match="gives its last layer only"):
        encoder(torch.zeros(4, 3, 4, 4), (-2,), [(1, 2, 2)])
    with pytest.raises(ValueError, match="more than 200 times"):
        NativeResolution(size=28).layout(10, 3000)
    with pytest.raises(ValueError, match="expected one of"):
        Qwen2VLVisionEncoder(config=dict(model_type="clip"))
    sample = EncodedSample(np.array([3]), np.array([3]), [Slot(0, 0, 1)])
    item = dict(encoded=sample, layouts=[], conversation=_Talk("7"))
    with pytest.raises(ValueError, match=r"sample '7'.*NativeResolution"):
        AddAxisPositions()(item)


class _Talk:
    def __init__(self, name):
        self.id = name


def test_no_image_is_no_token_and_all_weights_learn():
    encoder = Qwen2VLVisionEncoder.tiny()
    empty = encoder(torch.zeros(0, 3, 4, 4), (-1,), [])
    assert empty.hidden_states[0].shape == (1, 0, 48)
    features = encoder(torch.randn(8, 3, 4, 4), (-1,), [(1, 2, 2)] * 2)
    assert features.hidden_states[0].shape == (1, 2, 48)
    assert features.grids == ((1, 1, 1),) * 2
    features.hidden_states[0].square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
