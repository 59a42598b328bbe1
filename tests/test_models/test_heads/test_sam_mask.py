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
)
from mmvlm.models.heads.sam_decoder import SAMDecoder
from mmvlm.models.heads.sam_mask import SAMMaskHead
from mmvlm.models.utils.sam import restore_masks, to_transformers
from mmvlm.structures import MapSpec, Targets, ViewLayout, VisionEncoderSpec
from mmvlm.testing.builders import make_batch

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
    single = decoder(*whole).split(sizes)
    several = decoder(*whole, multimask=True).split(sizes)

    for name, one, three in zip(names, single, several, strict=True):
        own = below(data, f"{name}/")
        torch.testing.assert_close(one, own["low_res_masks"], **EXACT)
        torch.testing.assert_close(three, own["low_res_multimask"], **EXACT)
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
