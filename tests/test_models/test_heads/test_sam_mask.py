"""LISA's mask head: official arrays, one call for a batch, memory of one mask."""

import json
from collections import Counter

import mmvlm  # noqa: F401  isort: skip

import numpy as np
import pytest
import torch

from mmvlm.models.heads.mask_losses import (
    mask_bce,
    mask_dice,
    runs_to_mask,
    summed_mask_losses,
)
from mmvlm.models.heads.sam_decoder import SAMDecoder
from mmvlm.models.heads.sam_mask import SAMMaskHead
from mmvlm.models.utils.sam import restore_masks, to_transformers
from mmvlm.models.vision_encoders.sam import SAMVisionEncoder
from mmvlm.structures import (
    Boxes,
    Inputs,
    MapSpec,
    Region,
    Targets,
    ViewLayout,
    VisionEncoderSpec,
    VLMDataSample,
)
from mmvlm.structures.masks import mask_to_rle, rle_runs
from mmvlm.testing.builders import make_batch, tiny_vlm

EXACT = dict(atol=1e-5, rtol=0)
CLOSE = dict(atol=1e-6, rtol=1e-6)


def arrays(path):
    with np.load(path) as file:
        return {
            key: value.item() if value.dtype.kind == "U" else torch.tensor(value)
            for key, value in file.items()
        }


def below(data, prefix):
    return {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}


def golden_decoder(data):
    cfg = json.loads(data["cfg_json"])
    width, side = cfg["dim"], cfg["sam_input"]
    spec = VisionEncoderSpec(
        8, 1, side // cfg["grid"], side, maps=(MapSpec("neck", width),)
    )
    state = below(data, "sd/")
    prompt = dict(
        mask_input_channels=len(state["prompt_encoder.mask_downscaling.3.bias"]),
        hidden_act=cfg["act_upscale"],
    )
    decoder = dict(
        hidden_act=cfg["act_mlp"],
        mlp_dim=cfg["mlp_dim"],
        num_hidden_layers=cfg["depth"],
        num_attention_heads=cfg["heads"],
        attention_downsample_rate=cfg["attention_downsample_rate"],
        num_multimask_outputs=cfg["num_multimask"],
        iou_head_depth=cfg["iou_depth"],
        iou_head_hidden_dim=cfg["iou_hidden"],
    )
    built = SAMDecoder(spec, prompt, decoder).eval()
    built.load_sam(state)
    return built, side


@pytest.mark.golden
@torch.no_grad()
def test_golden_mask_decoder(goldens):
    data = arrays(goldens / "lisa_mask_decoder.npz")
    decoder, side = golden_decoder(data)
    names = dict.fromkeys(key.split("/")[0] for key in data if key.startswith("img"))
    torch.testing.assert_close(decoder.positions(), data["image_pe"], **EXACT)
    sizes = []
    images, prompts = [], []
    for name in names:
        own = below(data, f"{name}/")
        count = len(own["text_embeds"])
        images += [own["image_embedding"]] * count
        prompts.append(own["text_embeds"])
        sizes.append(count)

    # All masks of all images at once.
    whole = (torch.cat(images), torch.cat(prompts)[:, None, None])
    single, several = decoder(*whole), decoder(*whole, multimask=True)
    found = [one.split(sizes) for one in (*single, *several)]

    keys = ("low_res_masks", "iou", "low_res_multimask", "iou_multimask")
    for name, *made in zip(names, *found, strict=True):
        own = below(data, f"{name}/")
        for key, value in zip(keys, made, strict=True):
            torch.testing.assert_close(value, own[key], **EXACT)
        one = made[0]
        layout = ViewLayout(
            tuple(own["original_hw"].tolist()), tuple(own["resize_hw"].tolist())
        )
        full = restore_masks(one[:, 0], layout, side)
        torch.testing.assert_close(full, own["mask_logits_full"], **EXACT)


@pytest.mark.golden
def test_golden_names(goldens):
    data = arrays(goldens / "lisa_mask_decoder.npz")
    expected = json.loads(data["official_to_transformers_keys_json"])

    found = to_transformers({key: key for key in below(data, "sd/")})

    assert {found[new]: new for new in found}.items() >= expected.items()
    assert to_transformers(found) == found


@pytest.mark.golden
def test_golden_losses(goldens):
    data = arrays(goldens / "lisa_losses.npz")
    weights = json.loads(data["weights_json"])
    names = sorted({key.split("/")[0] for key in data if key.startswith("img")})
    totals, count = Counter(), 0
    for name in names:
        own = below(data, f"{name}/")
        logits = own["logits"].requires_grad_()
        bce, dice = mask_bce(logits, own["target"]), mask_dice(logits, own["target"])
        number = len(logits)
        for key, terms in (("bce", bce), ("dice", dice)):
            for row, term in enumerate(terms):
                torch.testing.assert_close(term, own[f"{key}_mask{row}"], **CLOSE)
            torch.testing.assert_close(terms.sum() / max(number, 1), own[key], **CLOSE)
            totals[key] += terms.sum().detach()
        if "grad" in own:
            loss = weights["bce"] * bce.sum() + weights["dice"] * dice.sum()
            (grad,) = torch.autograd.grad(loss / number, logits)
            torch.testing.assert_close(grad, own["grad"], **CLOSE)
        count += number
    bce, dice = (weights[key] * totals[key] / count for key in ("bce", "dice"))
    torch.testing.assert_close(bce, data["mask_bce_loss"], **CLOSE)
    torch.testing.assert_close(dice, data["mask_dice_loss"], **CLOSE)
    loss = weights["ce"] * data["ce_loss_in"] + bce + dice
    torch.testing.assert_close(loss, data["loss"], **CLOSE)


@pytest.mark.golden
@torch.no_grad()
def test_golden_states(goldens):
    """Of every [SEG] the state before it, once an image's tokens are in its place."""
    data = below(arrays(goldens / "lisa_losses.npz"), "seg/")
    state = below(data, "sd/text_hidden_fcs.0.")
    out_width, in_width = state["2.weight"].shape
    spec = VisionEncoderSpec(8, 1, 8, 32, maps=(MapSpec("neck", out_width),))
    decoder = dict(num_attention_heads=1, mlp_dim=8, iou_head_hidden_dim=8)
    head = SAMMaskHead(dict(image_hi=spec), in_width=in_width, mask_decoder=decoder)
    head.name = "mask"
    head.projection.load_state_dict(state)
    tokens, places = int(data["num_image_tokens"]), []
    samples, length = [], data["hidden_states"].shape[1]
    for number, ids in enumerate(data["input_ids"].tolist()):
        place = ids.index(-200)
        full = [*ids[:place], *[0] * tokens, *ids[place + 1 :]]
        samples.append((full, full))
        found = [p for p, one in enumerate(full) if one == int(data["seg_token_id"])]
        places += [number * length + p for p in found]
    batch = make_batch(samples)
    owner = tuple(place // length for place in places)
    batch.targets["mask"] = Targets(torch.tensor(places), owner, None)

    rows = head.rows(batch)

    expected = data["mask"].flatten().nonzero().flatten()
    assert rows.tolist() == expected.tolist()
    prompts = head.projection(data["hidden_states"].flatten(0, 1)[rows])
    torch.testing.assert_close(prompts, data["pred_embeddings"], **CLOSE)


@torch.no_grad()
def test_one_call_is_the_loop_over_images(model):
    head = model.mask.double().eval()
    prompts = torch.randn(6, head.in_width, dtype=torch.float64)
    maps = torch.randn(3, 16, 4, 4, dtype=torch.float64)
    number = torch.tensor([2, 0, 0, 1, 2, 2])

    together = head(prompts, maps[number])

    for row, image in enumerate(number):
        alone = head(prompts[row : row + 1], maps[image][None])
        for one, whole in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], whole[row], atol=1e-11, rtol=0)


# Losses ---------------------------------------------------------------------------


def target(size, seed):
    mask = np.random.default_rng(seed).random(size) > 0.6
    return mask, torch.from_numpy(rle_runs(mask_to_rle(mask)))


@pytest.mark.parametrize("size", [(7, 9), (1, 5), (12, 4)])
def test_runs_are_the_pixels_of_a_mask(size):
    for mask in (*(target(size, seed)[0] for seed in range(5)), np.ones(size) > 0):
        runs = torch.from_numpy(rle_runs(mask_to_rle(mask)))
        assert np.array_equal(runs_to_mask(runs, size).numpy(), mask)


def test_losses_mask_by_mask_are_those_of_all_masks_with_their_gradients():
    layouts = [ViewLayout((20, 15), (32, 24)), ViewLayout((9, 30), (10, 32))] * 2
    masks = [target(one.original_size, n) for n, one in enumerate(layouts)]
    low = torch.randn(4, 8, 8, requires_grad=True)
    plain = low.detach().clone().requires_grad_()

    sums = summed_mask_losses(low, [runs for _, runs in masks], layouts, 32)
    (2 * sums[0] + sums[1]).backward()

    expected = torch.zeros(2)
    for logits, (mask, _), layout in zip(plain, masks, layouts, strict=True):
        full = restore_masks(logits[None], layout, 32)
        goal = torch.from_numpy(mask).float()[None]
        expected = expected + torch.cat([mask_bce(full, goal), mask_dice(full, goal)])
    (2 * expected[0] + expected[1]).backward()
    torch.testing.assert_close(sums, expected)
    torch.testing.assert_close(low.grad, plain.grad)


def test_a_graph_holds_no_image_sized_tensor():
    size = (540, 960)
    layouts = [ViewLayout(size, (18, 32))] * 3
    mask = np.zeros(size, bool)
    mask[100:200, 300:500] = True
    runs = [torch.from_numpy(rle_runs(mask_to_rle(mask)))] * 3
    low, kept = torch.randn(3, 8, 8, requires_grad=True), []

    with torch.autograd.graph.saved_tensors_hooks(
        lambda one: kept.append(one.numel()) or one, lambda one: one
    ):
        summed_mask_losses(low, runs, layouts, 32)

    assert max(kept) < 1000


# In a model -----------------------------------------------------------------------

SEG, SMALL = 58, SAMMaskHead.tiny_decoder
SAM = dict(type="SAMVisionEncoder", reads=["image_hi"])
SAM["config"] = SAMVisionEncoder.tiny_fields


@pytest.fixture
def model():
    torch.manual_seed(0)
    return tiny_vlm(
        encoders=dict(sam=SAM),
        heads=dict(
            mask=dict(type="SAMMaskHead", mask_decoder=SAMMaskHead.tiny_decoder)
        ),
        train_parts=dict(sam=False, mask=dict(frozen=["prompt_encoder"])),
    )


def batch_of(masks, images, first=0, seed=0):
    """Return samples of some ids that end in as many [SEG] as they have masks."""
    samples = []
    for number, count in enumerate(masks, first):
        ids = [5 + number, 9, 7, *([SEG] * count), 3]
        samples.append((ids, ids))
    batch = make_batch(samples)
    batch.sample_ids = tuple(f"s{n}" for n in range(len(masks)))
    layouts = tuple(ViewLayout((10, 8), tuple(one.shape[1:])) for one in images)
    owner = tuple(range(len(images)))
    values = torch.stack(list(images))
    batch.inputs["image_hi"] = Inputs(values, owner, layouts)
    places = [n for n, one in enumerate(batch.text.input_ids.tolist()) if one == SEG]
    own = tuple(n for n, count in enumerate(masks) for _ in range(count))
    runs = [target((10, 8), seed + number)[1] for number in range(len(own))]
    shapes = tuple(tuple(one.shape) for one in runs)
    learnt = Inputs(torch.cat(runs), own, shapes=shapes) if runs else None
    if runs:
        batch.targets["mask"] = Targets(torch.tensor(places), own, learnt)
    return batch


def images(*seeds):
    made = [torch.Generator().manual_seed(seed) for seed in seeds]
    return [torch.randn(3, 32, 24, generator=one) for one in made]


def counting(module, calls):
    module.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))


def test_only_images_with_masks_are_encoded_and_equal_ones_once(model):
    calls, decoded = [], []
    counting(model.sam, calls)
    counting(model.mask.decoder, decoded)

    model.loss(batch_of([1, 0, 2, 1], images(0, 1, 2, 0)))

    assert (calls, decoded) == ([2], [4])
    calls.clear()
    model.loss(batch_of([0, 0], images(0, 1)))
    assert calls == []


def test_losses_are_means_over_the_masks_of_a_batch(model):
    seen = images(0, 1, 2)
    whole = batch_of([2, 0, 1], seen)
    losses = model.loss(whole)

    runs = whole.targets["mask"].values.entries()
    rows = model.mask.rows(whole)
    hidden = model.hidden_states(whole)[rows]
    necks = model.sam(torch.stack(seen)).maps["neck"][[0, 0, 2]]
    low, _ = model.mask(hidden, necks)
    sums = summed_mask_losses(low, runs, [ViewLayout((10, 8), (32, 24))] * 3, 32)

    torch.testing.assert_close(losses["loss_mask_bce"], sums[0] / 3)
    torch.testing.assert_close(losses["loss_mask_dice"], sums[1] / 3)


def test_gradients_reach_projection_and_decoder_alone(model):
    losses = model.loss(batch_of([1, 1], images(0, 1)))
    sum(losses.values()).backward()

    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert any(n.startswith("mask.projection.") and g.any() for n, g in grads.items())
    assert not any(n.startswith(("sam.", "mask.decoder.prompt")) for n in grads)
    # Ranks wait for every trained weight, also of masks that nothing reads.
    trained = {n for n, p in model.mask.named_parameters() if p.requires_grad}
    assert trained == {n.removeprefix("mask.") for n in grads if n.startswith("mask.")}


def test_ranks_without_masks_touch_the_head_and_no_frozen_encoder(model):
    calls = []
    counting(model.sam, calls)
    model.touch_all_parts = True

    losses = model.loss(batch_of([0, 0], images(0, 1)))
    losses["loss"].backward()

    assert losses["loss_mask_bce"] == losses["loss_mask_dice"] == 0 and calls == []
    trained = [p for p in model.mask.parameters() if p.requires_grad]
    assert trained and all(p.grad is not None for p in trained)


def test_micro_batches_give_the_gradients_of_the_whole_step(model):
    def gradients(*batches):
        model.zero_grad()
        for batch in batches:
            batch.denominators = counts
            sum(model.loss(batch).values()).backward()
        named = model.named_parameters()
        return {n: p.grad.clone() for n, p in named if p.grad is not None}

    whole = batch_of([2, 0, 1], images(0, 1, 2))
    counts = model.loss_counts(whole)
    pieces = (
        batch_of([2], images(0)),
        batch_of([0], images(1), first=1),
        batch_of([1], images(2), first=2, seed=2),
    )

    together, apart = gradients(whole), gradients(*pieces)

    assert counts["mask_bce"] == 3 and together.keys() == apart.keys()
    for name, grad in together.items():
        torch.testing.assert_close(apart[name], grad, atol=1e-6, rtol=1e-4, msg=name)


def test_masks_without_an_image_name_the_sample(model):
    batch = batch_of([1, 1], images(0, 1))
    batch.inputs["image_hi"].owner = (0, 0)

    with pytest.raises(ValueError, match="sample 's1': it has masks, but no image"):
        model.loss(batch)


def reply(model, counts, seen):
    """Let the head fill samples whose replies hold so many masks."""
    batch = batch_of([0] * len(seen), seen)
    nothing = Region(0, Boxes([], (10, 8)), kind="mask")
    samples = []
    for count in counts:
        one = VLMDataSample()
        one.pred_regions, one.problems = (nothing,) * count, ()
        samples.append(one)
    torch.manual_seed(1)
    states = [torch.randn(count, model.mask.in_width) for count in counts]
    with torch.no_grad():
        model.mask.predict(states, samples, model.feed(batch))
    return samples, states


def test_replies_get_their_masks_and_scores_in_order(model):
    calls = []
    counting(model.sam, calls)
    samples, states = reply(model, [2, 0, 1], images(0, 1, 2))

    assert calls == [2] and [len(one.pred_regions) for one in samples] == [2, 0, 1]
    for sample, own, seen in zip(samples, states, images(0, 1, 2), strict=True):
        for region, state in zip(sample.pred_regions, own, strict=True):
            neck = model.sam(seen[None]).maps["neck"]
            low, iou = model.mask(state[None], neck)
            layout = ViewLayout((10, 8), (32, 24))
            mask = restore_masks(low, layout, 32)[0] > 0
            assert region.rles == (mask_to_rle(mask.numpy()),)
            assert region.boxes.size == (10, 8) and len(region.boxes) == 1
            assert region.score == pytest.approx(iou.item(), abs=1e-6)


def test_a_decoder_that_has_not_learnt_to_tell_gives_no_scores(model):
    model.mask.with_scores = False
    (sample,), _ = reply(model, [2], images(0))

    assert [(len(r.rles), r.score) for r in sample.pred_regions] == [(1, None)] * 2


def test_ten_masks_are_made_and_none_that_is_not_said(model):
    ten, none = reply(model, [10, 0], images(0, 1))[0]

    assert [len(region.rles) for region in ten.pred_regions] == [1] * 10
    assert none.pred_regions == () and not ten.problems and not none.problems


def test_a_thousand_masks_are_made_up_to_a_limit(model):
    model.mask.max_masks = 3
    (sample,), _ = reply(model, [1000], images(0))

    assert len(sample.pred_regions) == 3
    assert sample.problems == ("1000 masks, of which the first 3 are made",)


def test_spans_stay_beside_the_regions_that_are_left(model):
    """A box between masks keeps its place, masks beyond the limit take theirs along."""
    model.mask.max_masks = 2
    batch, sample = batch_of([0], images(0)), VLMDataSample()
    mask, box = (Region(0, Boxes([], (10, 8)), kind=kind) for kind in ("mask", "box"))
    sample.pred_regions = (mask, box, mask, mask, box, mask)
    sample.pred_spans = tuple((10 * n, 10 * n + 5) for n in range(6))
    with torch.no_grad():
        states = [torch.randn(4, model.mask.in_width)]
        model.mask.predict(states, [sample], model.feed(batch))

    assert [r.kind for r in sample.pred_regions] == ["mask", "box", "mask", "box"]
    assert [len(r.rles) for r in sample.pred_regions] == [1, 0, 1, 0]
    assert sample.pred_spans == ((0, 5), (10, 15), (20, 25), (40, 45))
    assert sample.problems == ("4 masks, of which the first 2 are made",)


def test_masks_that_are_not_finite_are_a_problem_not_an_empty_mask(model):
    model.mask.projection[0].bias.data[:] = torch.nan
    (sample,), _ = reply(model, [2], images(0))

    assert sample.problems == ("masks [0, 1]: their logits are not finite",)
    assert [(r.rles, r.score) for r in sample.pred_regions] == [((), None)] * 2
