"""Recipes of the second set: masks, their losses, their decoder, their scores."""

import json

import mmvlm  # noqa: F401  isort: skip

import numpy as np
import torch
from shifting import shaken

from mmvlm.evaluation.functional.masks import ciou, giou, mask_ious, pixel_overlap
from mmvlm.models.heads.mask_losses import mask_bce, mask_dice
from mmvlm.models.heads.sam_decoder import SAMDecoder
from mmvlm.models.utils.sam import restore_masks, to_transformers
from mmvlm.structures import MapSpec, ViewLayout, VisionEncoderSpec

IGNORED = 255
#: Images of the losses: masks, height, width.
LOSSES = ((2, 11, 8), (0, 5, 6), (1, 7, 9))


def seg_eval(arrays):
    """Draw masks of other numbers and sizes and count their pixels."""
    rng = np.random.default_rng(1)
    made, rows = {}, []
    for number, (count, *size) in enumerate(((2, 9, 14), (1, 30, 5), (4, 12, 12))):
        logits = rng.normal(size=(count, *size)).astype(np.float32)
        truth = rng.choice([0, 1, IGNORED], (count, *size), p=[0.5, 0.4, 0.1])
        pairs = list(zip(logits > 0, truth, strict=True))
        own = [pixel_overlap(*pair) for pair in pairs]
        rest = [
            pixel_overlap(~one, np.where(two == IGNORED, two, 1 - two))
            for one, two in pairs
        ]
        inter, union = np.array([rest, own]).sum(1).T.astype(np.float32)
        means = [mask_ious(rest).mean(), mask_ious(own).mean()]
        found = dict(logits=logits, gt=truth.astype(np.uint8), inter=inter, union=union)
        found["acc_iou"] = np.float32(means)
        made.update({f"s{number}/{key}": value for key, value in found.items()})
        rows += [(number, *one, one.iou) for one in own]
    pairs = np.array(rows)[:, 1:3]
    totals = dict(ciou=ciou(pairs), giou=giou(pairs, exact=False), num_samples=3)
    return {**made, **totals, "giou_exact_count": giou(pairs), "per_mask": rows}


def eval_segmentation_iou(content):
    """Keep two of three pictures."""
    kept = [n for n in range(len(content["inputs"]["samples"])) if n % 3]
    score = content["official_score"]
    for holder, key in ((content["inputs"], "samples"), (score, "per_sample")):
        holder[key] = [holder[key][number] for number in kept]
    masks = [mask for sample in score["per_sample"] for mask in sample]
    pairs = [(mask["intersection"][1], mask["union"][1]) for mask in masks]
    score.update(giou=giou(pairs), ciou=ciou(pairs))


def lisa_losses(arrays):
    """Compute losses of other pictures, and states behind other images."""
    weights = json.loads(str(arrays["weights_json"]))
    made = {key: arrays[key] for key in ("weights_json", "ce_loss_in")}
    totals, count = dict(bce=0.0, dice=0.0), 0
    for number, shape in enumerate(LOSSES):
        logits = torch.randn(shape, requires_grad=True)
        target = (torch.rand(shape) > 0.6).float()
        terms = dict(bce=mask_bce(logits, target), dice=mask_dice(logits, target))
        found = dict(logits=logits, target=target)
        for key, own in terms.items():
            found[key] = own.sum() / max(len(own), 1)
            found.update({f"{key}_mask{row}": one for row, one in enumerate(own)})
            totals[key] = totals[key] + own.sum().detach()
        if not number:
            loss = sum(weights[key] * own.sum() for key, own in terms.items())
            (found["grad"],) = torch.autograd.grad(loss / len(logits), logits)
        made.update({f"img{number}/{key}": value for key, value in found.items()})
        count += len(logits)
    bce, dice = (weights[key] * totals[key] / count for key in ("bce", "dice"))
    loss = weights["ce"] * torch.as_tensor(arrays["ce_loss_in"]) + bce + dice
    made.update(mask_bce_loss=bce, mask_dice_loss=dice, mask_loss=bce + dice, loss=loss)
    return {**made, **_states(arrays, width=16, out=10, tokens=6)}


def _states(arrays, width, out, tokens):
    ids = arrays["seg/input_ids"]
    length = ids.shape[1] - 1 + tokens
    hidden = torch.randn(len(ids), length, width)
    layers = torch.nn.Sequential(
        torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, out)
    )
    mask = np.zeros((len(ids), length), bool)
    for row, own in zip(mask, ids.tolist(), strict=True):
        image = own.index(-200)
        for place, token in enumerate(own):
            if token == arrays["seg/seg_token_id"]:
                row[place + (tokens - 1 if place > image else 0) - 1] = True
    state = {
        f"seg/sd/text_hidden_fcs.0.{key}": value
        for key, value in layers.state_dict().items()
    }
    kept = ("input_ids", "seg_token_id", "offset", "split_per_image")
    return {
        **{f"seg/{key}": arrays[f"seg/{key}"] for key in kept},
        **state,
        "seg/num_image_tokens": tokens,
        "seg/hidden_states": hidden,
        "seg/mask": mask,
        "seg/pred_embeddings": layers(hidden[torch.from_numpy(mask)]),
    }


@torch.no_grad()
def lisa_mask_decoder(arrays, width=24, grid=5, side=80, heads=3):
    """Compute a narrower decoder over another grid."""
    cfg = json.loads(str(arrays["cfg_json"]))
    cfg.update(dim=width, grid=grid, sam_input=side, heads=heads)
    cfg.update(mlp_dim=40, iou_hidden=20)
    spec = VisionEncoderSpec(8, 1, side // grid, side, maps=(MapSpec("neck", width),))
    fields = dict(
        hidden_act=cfg["act_mlp"],
        mlp_dim=cfg["mlp_dim"],
        num_hidden_layers=cfg["depth"],
        num_attention_heads=heads,
        attention_downsample_rate=cfg["attention_downsample_rate"],
        num_multimask_outputs=cfg["num_multimask"],
        iou_head_depth=cfg["iou_depth"],
        iou_head_hidden_dim=cfg["iou_hidden"],
    )
    decoder = shaken(SAMDecoder(spec, dict(mask_input_channels=12), fields)).eval()
    names = [key.removeprefix("sd/") for key in arrays if key.startswith("sd/")]
    ours = to_transformers({name: name for name in names})
    state = decoder.state_dict()
    made = {f"sd/{official}": state[key].clone() for key, official in ours.items()}
    made["image_pe"] = decoder.positions()
    for number, (count, resized, original) in enumerate(
        ((2, (80, 50), (40, 25)), (3, (61, 80), (90, 118)))
    ):
        image = torch.randn(1, width, grid, grid)
        prompts = torch.randn(count, width)
        given = (image.expand(count, -1, -1, -1), prompts[:, None, None])
        (low, iou), (several, ious) = decoder(*given), decoder(*given, multimask=True)
        layout = ViewLayout(original, resized)
        found = dict(
            image_embedding=image,
            text_embeds=prompts,
            low_res_masks=low,
            low_res_multimask=several,
            iou=iou,
            iou_multimask=ious,
            resize_hw=resized,
            original_hw=original,
            mask_logits_full=restore_masks(low[:, 0], layout, side),
        )
        made.update({f"img{number}/{key}": value for key, value in found.items()})
    names = "official_to_transformers_keys_json"
    return {**made, names: arrays[names], "cfg_json": np.array(json.dumps(cfg))}
