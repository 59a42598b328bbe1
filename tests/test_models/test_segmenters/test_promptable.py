"""The promptable segmenter: prompts, both rounds, its data, its way into LISA."""

import mmvlm  # noqa: F401  isort: skip

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
from mmvlm.datasets.tiny_scenes.masks import ImageMaskDataset, collate_masks
from mmvlm.engine.runner.checkpoint import load_parts
from mmvlm.models.heads.sam_mask import SAMMaskHead
from mmvlm.models.segmenters.promptable import (
    PromptableSegmenter,
    boxes_of,
    draw_points,
)
from mmvlm.models.vision_encoders.sam import SAMVisionEncoder
from mmvlm.registry import SCENE_WRITERS
from mmvlm.testing.builders import tiny_vlm

SMALL = SAMMaskHead.tiny_decoder


def built(seed=0):
    torch.manual_seed(seed)
    return PromptableSegmenter(SAMVisionEncoder.tiny(), mask_decoder=dict(SMALL))


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    masks = torch.zeros(3, 32, 32, dtype=torch.uint8)
    for mask, (x, y) in zip(masks, rng.integers(0, 20, (3, 2)), strict=True):
        mask[y : y + 9, x : x + 7] = 1
    pixels = torch.full((2, 3, 32, 32), 30, dtype=torch.uint8)
    image = torch.tensor([0, 0, 1])
    for mask, number in zip(masks, image, strict=True):
        pixels[number][:, mask > 0] = torch.randint(90, 255, (3, 1), dtype=torch.uint8)
    return dict(pixel_values=pixels, masks=masks, image=image)


def test_boxes_and_points_lie_where_the_masks_are():
    masks = inputs()["masks"]

    for mask, (x1, y1, x2, y2) in zip(masks, boxes_of(masks).int(), strict=True):
        assert mask[y1:y2, x1:x2].all() and mask.sum() == (x2 - x1) * (y2 - y1)
    for _ in range(20):
        for mask, (x, y) in zip(masks, draw_points(masks), strict=True):
            assert mask[y, x]


@pytest.mark.slow
def test_it_learns_masks_from_prompts():
    model, batch = built(), inputs()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-2
    )
    losses = []
    for _ in range(40):
        out = model(batch)
        optimizer.zero_grad()
        out["loss"].backward()
        losses.append(out["loss"].item())
        missing = [
            name
            for name, p in model.named_parameters()
            if p.requires_grad and p.grad is None
        ]
        assert not missing
        optimizer.step()
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3])
    assert model(batch, mode="tensor").shape == (3, 32, 32)
    with pytest.raises(ValueError, match="mode='predict'"):
        model(batch, mode="predict")


def test_lisa_takes_its_weights_and_draws_the_projection(tmp_path):
    model = built(3)
    path = tmp_path / "sam.pth"
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    sam = dict(type="SAMVisionEncoder", reads=["image_hi"])
    lisa = tiny_vlm(
        encoders=dict(sam=dict(sam, config=SAMVisionEncoder.tiny_fields)),
        heads=dict(mask=dict(type="SAMMaskHead", mask_decoder=SMALL)),
    )
    drawn = lisa.mask.projection[0].weight.clone()

    load_parts(lisa, str(path), parts=["sam"])
    rename = dict(decoder="mask.decoder")
    load_parts(lisa, str(path), parts=["mask"], rename=rename, grow=True)

    for ours, theirs in ((lisa.sam, model.sam), (lisa.mask.decoder, model.decoder)):
        state = theirs.state_dict()
        assert all(torch.equal(v, state[k]) for k, v in ours.state_dict().items())
    assert torch.equal(lisa.mask.projection[0].weight, drawn)


def test_images_come_with_the_masks_of_what_they_show(tmp_path):
    SCENE_WRITERS.import_from_location()
    make_tiny_scenes(tmp_path, num_train=4, num_test=1, formats=("refcoco",))
    source = dict(type="RefCOCODataset", data_root=str(tmp_path), per="image")
    source.update(ann_file="refcoco/refs(unc).p", image_prefix="images")
    dataset = ImageMaskDataset(source)
    with pytest.raises(RuntimeError, match="bind"):
        dataset[0]
    dataset.bind(SimpleNamespace(spec=SimpleNamespace(image_size=96)))

    batch = collate_masks([dataset[number] for number in range(4)])["inputs"]

    assert batch["pixel_values"].shape == (4, 3, 96, 96)
    assert len(batch["masks"]) == len(batch["image"]) >= 4
    assert batch["masks"].flatten(1).any(1).all() and batch["masks"].max() == 1
    alone = dataset[0]["masks"]
    assert torch.equal(batch["masks"][batch["image"] == 0], alone)
