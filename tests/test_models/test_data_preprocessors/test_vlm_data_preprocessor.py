"""Pixels are normalised once, on the device; the rest passes through."""

import pytest
import torch

from mmvlm.models.data_preprocessors.vlm_data_preprocessor import VLMDataPreprocessor
from mmvlm.testing import tiny_batch, tiny_vlm

MEAN, STD = (0.48, 0.45, 0.40), (0.26, 0.25, 0.27)


def test_uint8_pixels_are_normalised_in_float32():
    views = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    expected = views.double() / 255
    expected -= torch.tensor(MEAN, dtype=torch.float64).view(3, 1, 1)
    expected /= torch.tensor(STD, dtype=torch.float64).view(3, 1, 1)

    got = VLMDataPreprocessor(MEAN, STD).normalize(views)

    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, atol=1e-6, rtol=0)


def test_float_pixels_pass_and_the_batch_is_kept():
    batch = tiny_batch()
    data = dict(inputs=batch, data_samples=[1, 2, 3], bad_records=["gone"])

    out = VLMDataPreprocessor(MEAN, STD)(data)

    assert set(out) == {"inputs", "data_samples"}
    pixels = out["inputs"].inputs["image"].values
    assert torch.equal(pixels, batch.inputs["image"].values)
    assert out["inputs"].text.seq_lens == batch.text.seq_lens


def test_statistics_come_from_the_encoder_and_survive_a_cast():
    model = tiny_vlm().to(torch.bfloat16)
    batch = tiny_batch()
    batch.inputs["image"].values = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)

    out = model.data_preprocessor(dict(inputs=batch))["inputs"]

    pixels = out.inputs["image"].values

    spec = model.vision_spec
    expected = torch.tensor([-m / s for m, s in zip(spec.mean, spec.std, strict=True)])
    torch.testing.assert_close(pixels[0, :, 0, 0], expected)
    assert batch.inputs["image"].values.dtype == torch.uint8


def test_other_batches_are_refused():
    with pytest.raises(TypeError, match=r"dict, expected a VLMBatch.*collate_flat"):
        VLMDataPreprocessor()(dict(inputs={}))
