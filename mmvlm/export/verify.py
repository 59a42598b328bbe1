"""Reload an exported folder in plain transformers and hold it to the original."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmvlm.export import plain_replies
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
        replies (list[str]): questions that a process without mmvlm answers in other
            words than our model.
        num_replies (int): replies that were compared.
        notes (list[str]): differences that do not fail (processor).
    """

    max_logit_diff: float = 0.0
    max_logit: float = 0.0
    tolerance: float = TOLERANCE
    num_prompts: int = 0
    num_tokens: int = 0
    loading: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    num_replies: int = 0
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
        return equal and not (self.loading or self.weights or self.replies)

    def __str__(self) -> str:
        lines = [
            f"verify: {'ok' if self.ok else 'FAILED'}",
            f"  largest logit difference {self.max_logit_diff:.3g} (allowed "
            f"{self.allowed:.3g}, largest logit {self.max_logit:.3g}) over "
            f"{self.num_prompts} prompts, {self.num_tokens} positions",
            f"  {self.num_replies} replies of plain transformers without mmvlm",
        ]
        lines += [f"  reload: {line}" for line in self.loading[:10]]
        lines += [f"  weight differs: {line}" for line in self.weights[:10]]
        lines += [f"  reply differs: {line}" for line in self.replies[:10]]
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
        processed (list | None): per batch (prompt text with ``<image>``, image
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
    llava = llava.eval().to(batches[0].text.input_ids.device)
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
    for batch, (text, image) in zip(batches, processed or [], strict=False):
        report.notes += _try_processor(folder, batch, text, image, llava.config)
    return report


def compare_replies(
    report: VerifyReport,
    folder: str | Path,
    turns: list[tuple[Any, str, Any]],
    ours: list[str],
    *,
    max_new_tokens: int,
    stop_strings: Sequence[str] = (),
) -> None:
    """Ask the folder in a process that cannot import mmvlm, and note what differs.

    It is asked through ``generate(**processor(...))``, with the template's own
    tokens, and through ``pipeline("image-text-to-text")``; greedy.

    Args:
        report (VerifyReport): gets the differences.
        folder (str | Path): what :func:`export_hf` wrote.
        turns (list[tuple]): image ((H, W, 3), uint8) or None, question, and the
            questions and answers before it.
        ours (list[str]): what our model says to each.
        max_new_tokens (int): limit of a reply.
        stop_strings (Sequence[str]): texts that end a reply.
    """
    with tempfile.TemporaryDirectory() as images:
        questions = [
            _as_messages(turn, Path(images) / f"{number}.png")
            for number, turn in enumerate(turns)
        ]
        request = dict(
            folder=str(Path(folder).absolute()),
            max_new_tokens=max_new_tokens,
            stop_strings=list(stop_strings),
            questions=questions,
        )
        # -I: neither PYTHONPATH nor the folder of the script is searched.
        done = subprocess.run(
            [sys.executable, "-I", plain_replies.__file__],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            cwd=images,
        )
    if done.returncode:
        errors = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        report.replies.append(f"plain transformers cannot answer: {errors[-1]:.300}")
        return
    for (_, question, history), mine, theirs in zip(
        turns, ours, json.loads(done.stdout.splitlines()[-1]), strict=True
    ):
        turn = f"{question[:40]!r} (turn {len(history) + 1})"
        for way, reply in theirs.items():
            report.num_replies += 1
            if reply != mine.strip():
                report.replies.append(f"{turn}, {way}: {reply!r}, ours {mine!r}")


def _as_messages(turn: tuple[Any, str, Any], file: Path) -> list[dict]:
    """Write a question as chat messages; its image goes to a file."""
    from PIL import Image

    image, question, history = turn
    texts = [text for pair in history for text in pair] + [question]
    messages = []
    for place, text in enumerate(texts):
        role = ("user", "assistant")[place % 2]
        messages.append(dict(role=role, content=[dict(type="text", text=text)]))
    if image is not None:
        Image.fromarray(image).save(file)
        messages[0]["content"].insert(0, dict(type="image", path=str(file)))
    return messages


def hf_inputs(batch: VLMBatch, config: Any) -> dict[str, torch.Tensor]:
    """Write a batch of one sample as transformers' LLaVA takes it.

    Shape:
        - ``input_ids``: (1, T); ``pixel_values``: (V, 3, H, W)
    """
    ids = batch.text.input_ids
    image_token = config.image_token_index
    inputs = dict(input_ids=ids.masked_fill(ids == SLOT_TOKEN_ID, image_token)[None])
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "image" in batch.inputs:
        inputs["pixel_values"] = batch.inputs["image"].values
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
    folder: str | Path, batch: VLMBatch, text: str, image: Any, config: Any
) -> list[str]:
    """Return in which respects the exported processor differs from ours."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(str(folder))
    images = [image] if image is not None else None
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
