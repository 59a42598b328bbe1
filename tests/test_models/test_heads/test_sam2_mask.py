"""SAM 2's encoder and Sa2VA's mask head: transformers' numbers, losses on points."""

import sys
import types

import mmvlm  # noqa: F401  isort: skip

import pytest
import torch
import transformers
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from mmvlm.models.heads.point_losses import (
    doubtful_points,
    read_points,
    sampled_mask_losses,
)
from mmvlm.models.heads.sam2_mask import SAM2MaskHead
from mmvlm.models.utils.sam import sam2_vision_config
from mmvlm.models.vision_encoders.sam2 import SAM2VisionEncoder
from mmvlm.structures import (
    Boxes,
    Inputs,
    Region,
    Targets,
    ViewLayout,
    VLMDataSample,
)
from mmvlm.structures.masks import mask_to_rle, rle_runs
from mmvlm.testing.builders import make_batch, tiny_vlm

SEG = 58
needs_sam2 = pytest.mark.skipif(
    not hasattr(transformers, "Sam2Model"), reason="this transformers has no SAM 2"
)


def sam2_model():
    """Return a tiny Sam2Model of transformers with weights that show differences."""
    small, decoder = SAM2VisionEncoder.tiny_fields, SAM2MaskHead.tiny_decoder
    model = transformers.Sam2Model(
        transformers.Sam2Config(
            vision_config=sam2_vision_config(small),
            prompt_encoder_config=dict(hidden_size=32, image_size=64),
            mask_decoder_config=dict(decoder, hidden_size=32),
        )
    ).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.1)
    return model


@needs_sam2
@torch.no_grad()
def test_weights_and_masks_are_those_of_transformers(tmp_path):
    torch.manual_seed(0)
    model = sam2_model()
    model.save_pretrained(tmp_path)
    encoder = SAM2VisionEncoder(str(tmp_path)).eval()
    specs, small = dict(image_hi=encoder.spec), dict(SAM2MaskHead.tiny_decoder)
    options = dict(specs=specs, in_width=8, mask_decoder=small)
    head = SAM2MaskHead(name_or_path=str(tmp_path), **options).eval()
    pixels, prompts = torch.randn(2, 3, 64, 64), torch.randn(3, 1, 1, 32)

    features = encoder(pixels, (-1,))
    found = {n: features.map(lambda one, n=n: one[n : n + 1]) for n in range(2)}
    made = head.decoder(head.gather(found, [1, 0, 1]), prompts)

    maps = model.get_image_embeddings(pixels)
    fine, middle, neck = (one[[1, 0, 1]] for one in maps)
    nothing = model.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
    positions = model.get_image_wide_positional_embeddings()
    expected = model.mask_decoder(
        image_embeddings=neck,
        image_positional_embeddings=positions.expand_as(neck),
        sparse_prompt_embeddings=prompts,
        dense_prompt_embeddings=nothing.expand_as(neck),
        multimask_output=False,
        high_resolution_features=[fine, middle],
    )
    for one, theirs in zip(made, expected, strict=False):
        torch.testing.assert_close(one, theirs[:, 0], atol=1e-5, rtol=1e-5)


@needs_sam2
def test_views_that_are_not_stretched_are_refused():
    with pytest.raises(ValueError, match=r"64 x 48 pixels, but it takes 64 x 64\. Use"):
        SAM2VisionEncoder.tiny()(torch.zeros(1, 3, 64, 48))
    with pytest.raises(ValueError, match="give 'name_or_path' or 'config'"):
        SAM2VisionEncoder()


def test_a_library_without_it_says_so(monkeypatch):
    old = types.ModuleType("transformers")
    old.__version__ = "4.48.0"
    monkeypatch.setitem(sys.modules, "transformers", old)

    with pytest.raises(ImportError, match=r"4\.56 or newer, found 4\.48\.0; upgrade"):
        SAM2VisionEncoder.tiny()


# Losses on points ------------------------------------------------------------------


def test_points_are_read_between_cells():
    ramp = torch.arange(4.0).expand(1, 3, 4)
    points = torch.tensor([[[0.125, 0.5], [0.5, 0.5], [0.875, 0.1]]])

    assert read_points(ramp, points)[0, :2].tolist() == pytest.approx([0.0, 1.5])


def test_most_points_lie_where_a_mask_is_doubtful():
    logits = torch.full((2, 16, 16), 5.0)
    logits[:, :, 8:] = -5.0  # an edge in the middle

    points = doubtful_points(logits, [1, 2], 400)

    near = ((points[..., 0] - 0.5).abs() < 0.06).float().mean(1)
    assert points.shape == (2, 400, 2) and (near > 0.2).all()  # else 0.12
    again = doubtful_points(logits, [1, 2], 400)
    assert torch.equal(points, again)
    assert not torch.equal(points[0], points[1])


def test_losses_are_means_over_points():
    torch.manual_seed(0)
    logits = torch.randn(3, 8, 8, requires_grad=True)
    masks = (torch.rand(3, 8, 8) > 0.5).float()
    seeds = [3, 4, 5]

    sums = sampled_mask_losses(logits, masks, seeds, 32)
    sums.sum().backward()

    expected = torch.zeros(2)
    for n, seed in enumerate(seeds):
        points = doubtful_points(logits[n : n + 1].detach(), [seed], 32)
        x, t = (read_points(one[n : n + 1], points)[0] for one in (logits, masks))
        dice = 1 - (2 * (x.sigmoid() * t).sum() + 1) / (x.sigmoid() + t + 1 / 32).sum()
        expected += torch.stack([binary_cross_entropy_with_logits(x, t), dice])
    torch.testing.assert_close(sums, expected)
    assert logits.grad.abs().sum() > 0


# In a model ------------------------------------------------------------------------


def model_and_batch():
    torch.manual_seed(0)
    encoder = dict(type="SAM2VisionEncoder", reads=["image_hi"])
    encoder["config"] = SAM2VisionEncoder.tiny_fields
    head = dict(type="SAM2MaskHead", num_points=64, position="at")
    head.update(mask_decoder=dict(SAM2MaskHead.tiny_decoder))
    head.update(weight=dict(mask_bce=2.0, mask_dice=0.5))
    parts = dict(encoders=dict(sam=encoder), heads=dict(mask=head))
    rest = dict(sam=False, mask=dict(frozen=["prompt_encoder"]))
    model = tiny_vlm(train_parts=rest, **parts)
    samples = [[5, 9, SEG, 3], [6, 8, 8, 4], [7, SEG, 4, SEG, 3]]
    batch = make_batch([(ids, ids) for ids in samples])
    views = torch.randn(2, 3, 64, 64)[[0, 1, 0]]
    layouts = (ViewLayout((10, 8), (64, 64)),) * 3
    batch.inputs["image_hi"] = Inputs(views, (0, 1, 2), layouts)
    ids = batch.text.input_ids.tolist()
    places = torch.tensor([n for n, one in enumerate(ids) if one == SEG])
    masks = [torch.rand(10, 8) > 0.6 for _ in places]
    runs = [torch.from_numpy(rle_runs(mask_to_rle(m.numpy()))) for m in masks]
    shapes = tuple(tuple(one.shape) for one in runs)
    learnt = Inputs(torch.cat(runs), (0, 2, 2), shapes=shapes)
    batch.targets["mask"] = Targets(places, (0, 2, 2), learnt)
    return model, batch


@needs_sam2
def test_a_head_learns_and_reads_each_image_once():
    model, batch = model_and_batch()
    calls = []
    model.sam.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    values = []
    for _ in range(3):
        losses = model.train().loss(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        values.append(sum(losses[f"loss_mask_{n}"].item() for n in ("bce", "dice")))

    assert calls == [1, 1, 1]  # both images with masks are equal
    assert values[2] < values[0]
    trained = {n for n, p in model.mask.named_parameters() if p.requires_grad}
    assert all(model.mask.get_parameter(name).grad is not None for name in trained)
    assert not any(name.startswith("decoder.prompt_encoder") for name in trained)


@needs_sam2
@torch.no_grad()
def test_masks_fill_the_stretched_image():
    model, batch = model_and_batch()
    sample = [VLMDataSample() for _ in range(3)]
    for one in sample:
        one.pred_regions = (Region(0, Boxes([], (10, 8)), kind="mask"),)
        one.problems = ()
    states = [torch.randn(1, 48), torch.randn(0, 48), torch.randn(1, 48)]

    model.mask.predict(states, sample, model.feed(batch))

    feed = model.feed(batch)
    made = model.mask.decode(torch.cat([states[0], states[2]]), [0, 2], feed)
    for one, logits, iou in zip((sample[0], sample[2]), *made, strict=True):
        full = interpolate(logits[None, None], (10, 8), mode="bilinear")[0, 0]
        (region,) = one.pred_regions
        assert region.rles == (mask_to_rle((full > 0).numpy()),)
        assert region.score == pytest.approx(iou.item(), abs=1e-6)
