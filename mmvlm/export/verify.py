"""Reload an exported folder in plain transformers and hold it to the original."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmvlm.export.keys import OURS, detect_layout, to_canonical
from mmvlm.structures import SLOT_TOKEN_ID, VLMBatch

TOLERANCE = 1e-5
#: One of 255 steps at the smallest standard deviation in use; resizing on tensors
#: rounds differently by that much.
GREY_LEVEL = 0.02


@dataclass
class VerifyReport:
    """What the comparison saw.

    Args:
        max_logit_diff (float): largest absolute difference of any logit.
        max_logit (float): largest absolute logit, for scale.
        tolerance (float): what was allowed, relative to the largest logit where
            that is above 1.
        num_prompts, num_tokens (int): what was compared.
        loading (list[str]): keys that the reload missed or did not expect.
        weights (list[str]): weights that differ, the worst first.
        notes (list[str]): differences that do not fail (processor).

    """

    max_logit_diff: float = 0.0
    max_logit: float = 0.0
    tolerance: float = TOLERANCE
    num_prompts: int = 0
    num_tokens: int = 0
    loading: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def allowed(self) -> float:
        """Largest difference that float32 rounding explains.

        The tolerance holds for logits up to 1; rounding grows with their size.
        """
        return self.tolerance * max(1.0, self.max_logit)

    @property
    def ok(self) -> bool:
        """Whether the export may be used."""
        equal = self.max_logit_diff <= self.allowed  # False for NaN
        return equal and not self.loading and not self.weights

    def __str__(self) -> str:
        lines = [
            f"verify: {'ok' if self.ok else 'FAILED'}",
            f"  largest logit difference {self.max_logit_diff:.3g} (allowed "
            f"{self.allowed:.3g}, largest logit {self.max_logit:.3g}) over "
            f"{self.num_prompts} prompts, {self.num_tokens} positions",
        ]
        lines += [f"  reload: {line}" for line in self.loading[:10]]
        lines += [f"  weight differs: {line}" for line in self.weights[:10]]
        lines += [f"  note: {line}" for line in self.notes]
        return "\n".join(lines)


@torch.no_grad()
def verify_export(
    model: Any,
    folder: str | Path,
    batches: list[VLMBatch],
    *,
    tolerance: float = TOLERANCE,
    processed: list[tuple[str, Any]] | None = None,
) -> VerifyReport:
    """Compare logits and weights of a model with its exported folder.

    Args:
        model (VisionLanguageModel): the original, in eval mode, float32.
        folder (str | Path): what :func:`export_hf` wrote.
        batches (list[VLMBatch]): one sample each, on the model's device, pixels
            normalised.
        tolerance (float): allowed difference of logits, relative to the largest
            one where that is above 1.
        processed (list | None): per batch (prompt text with ``<image>``, picture
            or None) that the exported processor is tried on; what differs from
            the batch is noted, it does not fail.

    Returns:
        VerifyReport: ``ok`` tells the verdict.

    """
    from transformers import LlavaForConditionalGeneration

    llava, info = LlavaForConditionalGeneration.from_pretrained(
        str(folder), torch_dtype=torch.float32, output_loading_info=True
    )
    report = VerifyReport(tolerance=tolerance)
    for name in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        values = info.get(name) or []
        report.loading += [f"{name}: {value}" for value in sorted(map(str, values))]
    report.weights = _compare_weights(model, llava)
    llava = llava.eval().to(batches[0].input_ids.device)
    for batch in batches:
        ours = model(batch, None, mode="tensor").float()
        theirs = llava(**hf_inputs(batch, llava.config)).logits[0].float()
        diff = (ours - theirs[:, : ours.shape[-1]]).abs().max().item()
        report.max_logit_diff = (
            max(report.max_logit_diff, diff) if diff == diff else diff
        )
        report.max_logit = max(report.max_logit, ours.abs().max().item())
        report.num_prompts += 1
        report.num_tokens += len(ours)
    for batch, (text, picture) in zip(batches, processed or [], strict=False):
        report.notes += _try_processor(folder, batch, text, picture, llava.config)
    return report


def hf_inputs(batch: VLMBatch, config: Any) -> dict[str, torch.Tensor]:
    """Write a batch of one sample as transformers' LLaVA takes it.

    Shape:
        - ``input_ids``: (1, T); ``pixel_values``: (V, 3, H, W)
    """
    ids = batch.input_ids
    image_token = config.image_token_index
    inputs = dict(input_ids=ids.masked_fill(ids == SLOT_TOKEN_ID, image_token)[None])
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if batch.pixel_values is not None:
        inputs["pixel_values"] = batch.pixel_values
    return inputs


def _compare_weights(model: Any, llava: Any) -> list[str]:
    """Return weights that are not bit-equal; grown rows are left out."""
    ours = to_canonical(model.state_dict(), OURS, "model")
    state = llava.state_dict()
    theirs = to_canonical(state, detect_layout(state, "export"), "export")
    found = []
    for name, tensor in ours.items():
        other = theirs.get(name)
        if other is None:
            found.append((float("inf"), f"{name}: not in the export"))
            continue
        other = other[: len(tensor)] if tensor.ndim else other
        if other.shape != tensor.shape:
            found.append((float("inf"), f"{name}: shape {tuple(other.shape)}"))
            continue
        diff = (tensor.float().cpu() - other.float()).abs().max().item()
        if not diff <= 0:
            found.append((diff, f"{name}: by up to {diff:.3g}"))
    return [line for _, line in sorted(found, key=lambda pair: -pair[0])]


def _try_processor(
    folder: str | Path, batch: VLMBatch, text: str, picture: Any, config: Any
) -> list[str]:
    """Return in which respects the exported processor differs from ours."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(str(folder))
    images = [picture] if picture is not None else None
    theirs = processor(images=images, text=text, return_tensors="pt")
    mine, notes = hf_inputs(batch, config), []
    ids, other = mine["input_ids"][0].tolist(), theirs["input_ids"][0].tolist()
    if ids != other:
        notes.append(
            f"the exported tokenizer splits {text[:40]!r}... into {len(other)} ids, "
            f"ours into {len(ids)}; they differ"
        )
    if images and "pixel_values" in mine:
        pixels, seen = mine["pixel_values"].cpu().float(), theirs["pixel_values"]
        if pixels.shape != seen.shape:
            notes.append(f"pixels {tuple(seen.shape)}, ours {tuple(pixels.shape)}")
        elif (gap := (pixels - seen).abs().max().item()) > GREY_LEVEL:
            notes.append(f"the exported image processor differs by up to {gap:.3g}")
    return notes
