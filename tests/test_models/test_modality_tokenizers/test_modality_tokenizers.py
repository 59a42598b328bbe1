"""Tokenizers of every modality: shapes, refusals, and brute-force point clouds."""

import pytest
import torch

from mmvlm.models.modality_tokenizers.point_cloud import (
    PointCloudTokenizer,
    farthest_points,
    nearest_points,
)
from mmvlm.models.modality_tokenizers.series import (
    TimeSeriesTokenizer,
    VectorTokenizer,
)
from mmvlm.models.modality_tokenizers.spectrogram import SpectrogramTokenizer
from mmvlm.models.utils.freezing import freeze_part
from mmvlm.models.vision_encoders.universal import UniversalEncoder
from mmvlm.registry import MODELS


def _cloud(points=40, channels=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, points, channels, generator=generator)


def _farthest_slowly(points, count):
    chosen = [0]
    while len(chosen) < count:
        gaps = [min((p - points[c]).norm() for c in chosen) for p in points]
        chosen.append(max(range(len(points)), key=lambda i: float(gaps[i])))
    return chosen


def test_farthest_points_equal_brute_force():
    cloud = _cloud(channels=3)

    chosen = farthest_points(cloud, 12)

    assert chosen.tolist() == [_farthest_slowly(points, 12) for points in cloud]


def test_nearest_points_equal_brute_force():
    cloud = _cloud(channels=3)
    centres = cloud[:, [5, 0, 17]]

    near = nearest_points(cloud, centres, 7)

    for sample in range(2):
        for number, centre in enumerate(centres[sample]):
            gaps = [float((p - centre).square().sum()) for p in cloud[sample]]
            expected = sorted(range(40), key=lambda i: gaps[i])[:7]
            assert near[sample, number].tolist() == expected


@pytest.mark.parametrize("coordinates", [(3, 4, 5), (0, 1, 2)])
def test_point_tokens_equal_a_loop_over_centres(coordinates):
    torch.manual_seed(0)
    sizes = dict(num_tokens=6, num_neighbours=4)
    tokenizer = PointCloudTokenizer(width=8, coordinate_channels=coordinates, **sizes)
    cloud = _cloud()

    tokens = tokenizer(cloud)

    kernel, bias = tokenizer.conv.weight[:, :, 0, 0], tokenizer.conv.bias
    for sample in range(2):
        places = cloud[sample][:, list(coordinates)]
        for number, centre in enumerate(_farthest_slowly(places, 6)):
            gaps = (places - places[centre]).norm(dim=1)
            group = cloud[sample][gaps.argsort()[:4]]
            expected = (group @ kernel.T + bias).amax(0)
            torch.testing.assert_close(tokens[sample, number], expected)


def test_only_coordinates_decide_which_points_are_taken():
    tokenizer = PointCloudTokenizer(width=8, num_tokens=6, num_neighbours=4)
    cloud = _cloud()
    other = torch.cat([torch.randn(2, 40, 3), cloud[..., 3:]], -1)

    places = [tokenizer.neighbours(c)[..., 3:] for c in (cloud, other)]

    assert torch.equal(*places)


def test_defaults_are_the_sizes_of_the_paper():
    tokenizers = dict(
        audio=SpectrogramTokenizer(width=16),
        imu=TimeSeriesTokenizer(width=16),
        fmri=VectorTokenizer(width=16),
        point=PointCloudTokenizer(width=16),
    )
    counts = {name: len(t.positions) for name, t in tokenizers.items()}

    assert counts == dict(audio=1213, imu=392, fmri=9, point=1025)
    assert tokenizers["audio"].grid == (12, 101)
    assert tokenizers["imu"](torch.zeros(1, 6, 400)).shape == (1, 391, 16)
    assert tokenizers["fmri"](torch.zeros(1, 1, 15724)).shape == (1, 8, 16)


@pytest.mark.parametrize("name", sorted(["rgbd", "audio"]))
def test_encoder_keeps_samples_apart_and_names_the_modality(name):
    torch.manual_seed(0)
    encoder = UniversalEncoder.tiny().eval()
    shapes = dict(rgbd=(3, 2, 3, 32, 32), audio=(3, 1, 36, 56))
    values = torch.randn(shapes[name])

    together = encoder(values, (-1,), name)
    alone = encoder(values[1:2], (-1,), name)

    assert together.modality == name
    torch.testing.assert_close(
        alone.hidden_states[0], together.hidden_states[0][1:2], atol=1e-5, rtol=1e-5
    )
    assert encoder(values[:0], (-1,), name).hidden_states[0].shape[0] == 0


def test_frames_are_averaged_after_the_encoder():
    torch.manual_seed(0)
    encoder = UniversalEncoder.tiny().eval()
    frames = torch.randn(2, 2, 3, 32, 32)

    joined = encoder(frames, (-1,), "rgbd").hidden_states[0]

    each = [encoder(frames[:, t], (-1,)).hidden_states[0] for t in range(2)]
    torch.testing.assert_close(joined, (each[0] + each[1]) / 2)


@pytest.mark.parametrize(
    "values, modality, message",
    [
        (torch.zeros(1, 1, 36, 55), "audio", r"audio: one input has shape \(1, 36, 55"),
        (torch.zeros(1, 3, 3, 32, 32), "rgbd", r"FramesTokenizer takes \(2, 3, H, W"),
        (torch.zeros(1, 6, 400), "imu", "no tokenizer for 'imu'; it takes"),
    ],
)
def test_wrong_inputs_are_refused(values, modality, message):
    with pytest.raises(ValueError, match=message):
        UniversalEncoder.tiny()(values, (-1,), modality)


def test_too_few_points_and_wrong_channels_are_refused():
    tokenizer = PointCloudTokenizer(width=8, num_tokens=64, num_neighbours=4)

    with pytest.raises(ValueError, match="has 40 points, at least 64"):
        tokenizer.check(_cloud(), "point")
    with pytest.raises(ValueError, match=r"takes \(any, 6\)"):
        tokenizer.check(torch.zeros(1, 80, 5), "point")
    with pytest.raises(ValueError, match=r"channels 0\.\.2"):
        PointCloudTokenizer(width=8, channels=3)


def test_tower_must_be_a_clip_and_images_need_no_tokenizer():
    other = MODELS.get("HFVisionEncoder").tiny("dinov2")
    with pytest.raises(ValueError, match=r"expected an HFVisionEncoder of 'clip"):
        UniversalEncoder(other)
    with pytest.raises(ValueError, match="names 'image'"):
        UniversalEncoder(other.tiny(), dict(image=dict(type="FramesTokenizer")))


def test_rule_only_trains_the_tokenizers():
    encoder = UniversalEncoder.tiny()

    freeze_part(encoder, dict(only=["tokenizers"]), "vision_encoder")

    trained = {
        n.split(".")[0] for n, p in encoder.named_parameters() if p.requires_grad
    }
    assert trained == {"tokenizers"}
    with pytest.raises(ValueError, match=r"no parameter lies below 'token'"):
        freeze_part(encoder, dict(only=["token"]), "vision_encoder")
