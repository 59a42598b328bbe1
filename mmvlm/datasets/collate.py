"""Samples to one flat batch: no padding, all indices that the model needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.registry import FUNCTIONS as ROOT_FUNCTIONS

from mmvlm.registry import FUNCTIONS
from mmvlm.structures import (
    IGNORE_INDEX,
    SLOT_TOKEN_ID,
    ModalityInputs,
    VLMBatch,
)

from .bad_samples import BadRecord
from .transforms.formatting import check_media_slots, check_slots

#: ``sample_ids`` of the one-token sample that stands for an empty batch.
EMPTY_SAMPLE_ID = "<no usable sample>"


# mmengine's build_dataloader asks its root registry, without a scope.
@ROOT_FUNCTIONS.register_module()
@FUNCTIONS.register_module()
def collate_flat(items: Sequence[dict | BadRecord]) -> dict:
    """Join what ``PackVLMInputs`` makes into a :class:`VLMBatch`.

    A batch without a usable sample (all left out, or no item at all on this rank)
    becomes one token that trains nothing, with no data sample, so that the ranks
    stay in step.

    Args:
        items (Sequence[dict | BadRecord]): packed samples, and records of those
            that the policy left out.

    Returns:
        dict: ``inputs`` (:class:`VLMBatch`), ``data_samples`` (list, one per sample)
        and ``bad_records`` (list).

    Raises:
        ValueError: naming the sample, when its slots and pictures do not agree,
            when its views have another size than the batch's, or when a picture
            position would be trained.

    """
    bad_records = [item for item in items if isinstance(item, BadRecord)]
    samples = [item for item in items if not isinstance(item, BadRecord)]
    return dict(
        inputs=_flat(samples) if samples else _nothing(),
        data_samples=[sample["data_samples"] for sample in samples],
        bad_records=bad_records,
    )


def _nothing() -> VLMBatch:
    empty = torch.zeros(0, dtype=torch.int64)
    return VLMBatch(
        input_ids=torch.zeros(1, dtype=torch.int64),
        position_ids=torch.zeros(1, dtype=torch.int64),
        labels=torch.full((1,), IGNORE_INDEX, dtype=torch.int64),
        cu_seqlens=torch.tensor([0, 1], dtype=torch.int32),
        target_rows=empty,
        targets=empty.clone(),
        slot_index=empty.clone(),
        pixel_values=None,
        seq_lens=(1,),
        sample_ids=(EMPTY_SAMPLE_ID,),
    )


def _flat(samples: list[dict]) -> VLMBatch:
    inputs = [sample["inputs"] for sample in samples]
    ids = tuple(str(sample["data_samples"].sample_id) for sample in samples)
    seq_lens = np.array([len(one["input_ids"]) for one in inputs])
    cu_seqlens = np.concatenate([[0], np.cumsum(seq_lens)])
    input_ids = torch.cat([torch.as_tensor(one["input_ids"]) for one in inputs])
    labels = torch.cat([torch.as_tensor(one["labels"]) for one in inputs])

    for one, sample_id in zip(inputs, ids, strict=True):
        check_slots(sample_id, one["slots"], one["layouts"], one["pixel_values"])
        check_media_slots(sample_id, one["slots"], one.get("media", {}))
    slot_index, slot_lens, owner = _slots(inputs, cu_seqlens, "image")
    media = _media(inputs, cu_seqlens, ids)
    others = [entry.slot_index.numpy() for entry in media.values()]
    filled = np.concatenate([slot_index, *others])
    _check_slot_ids(input_ids.numpy(), filled, cu_seqlens, ids)

    rows, targets = _targets(labels.numpy(), cu_seqlens)
    if len(targets) and targets.min() < 0:
        number = np.searchsorted(cu_seqlens, rows[targets.argmin()], side="right") - 1
        raise ValueError(
            f"sample '{ids[number]}': label {targets.min()} is to be trained; only "
            f"token ids (0 and above) and {IGNORE_INDEX} are labels."
        )
    instruction_ids, instruction_mask = _instructions(inputs, ids)
    positions = np.arange(cu_seqlens[-1]) - np.repeat(cu_seqlens[:-1], seq_lens)
    return VLMBatch(
        input_ids=input_ids.long(),
        position_ids=torch.from_numpy(positions),
        labels=labels.long(),
        cu_seqlens=torch.from_numpy(cu_seqlens.astype(np.int32)),
        target_rows=torch.from_numpy(rows),
        targets=torch.from_numpy(targets.astype(np.int64)),
        slot_index=torch.from_numpy(slot_index),
        pixel_values=_stack_views(inputs, ids),
        seq_lens=tuple(seq_lens.tolist()),
        slot_lens=slot_lens,
        image_owner=owner,
        layouts=tuple(layout for one in inputs for layout in one["layouts"]),
        sample_ids=ids,
        instruction_ids=instruction_ids,
        instruction_mask=instruction_mask,
        modality_inputs=media,
    )


def _slots(
    inputs: list[dict], cu_seqlens: np.ndarray, modality: str
) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
    """Return flat positions, lengths and owners of one modality's slots."""
    starts, lengths, owner = [], [], []
    for number, one in enumerate(inputs):
        own = [slot for slot in one["slots"] if slot.modality == modality]
        for slot in sorted(own, key=lambda slot: slot.index):
            starts.append(cu_seqlens[number] + slot.start)
            lengths.append(slot.length)
            owner.append(number)
    index = _runs(np.array(starts, np.int64), np.array(lengths, np.int64))
    return index, tuple(lengths), tuple(owner)


def _media(
    inputs: list[dict], cu_seqlens: np.ndarray, ids: tuple
) -> dict[str, ModalityInputs]:
    """Join what is no picture, modality by modality."""
    names = {name: None for one in inputs for name in one.get("media", {})}
    joined = {}
    for name in names:
        given = [
            (one["media"][name], sample_id)
            for one, sample_id in zip(inputs, ids, strict=True)
            if name in one.get("media", {})
        ]
        first, first_id = given[0]
        for values, sample_id in given:
            if values.shape[1:] != first.shape[1:] or values.dtype != first.dtype:
                raise ValueError(
                    f"sample '{sample_id}': {name} of {tuple(values.shape[1:])} "
                    f"{values.dtype}, but sample '{first_id}' of the same batch has "
                    f"{tuple(first.shape[1:])} {first.dtype}."
                )
        index, lengths, owner = _slots(inputs, cu_seqlens, name)
        layouts = [
            layout
            for one in inputs
            for layout in one.get("media_layouts", {}).get(name, ())
        ]
        values = torch.cat([values for values, _ in given])
        joined[name] = ModalityInputs(
            values, torch.from_numpy(index), lengths, owner, tuple(layouts)
        )
    return joined


def _instructions(inputs: list[dict], ids: tuple) -> tuple:
    """Pad the questions of all pictures to (I, L); None and None without any."""
    if not any("instructions" in one for one in inputs):
        return None, None
    rows: list[list[int]] = []
    for one, sample_id in zip(inputs, ids, strict=True):
        given = one.get("instructions", [])
        if len(given) != len(one["layouts"]):
            raise ValueError(
                f"sample '{sample_id}': {len(given)} instructions for "
                f"{len(one['layouts'])} pictures; TokenizeInstructions must stand in "
                "the pipeline of every dataset of the batch."
            )
        rows += given
    length = max(map(len, rows), default=0)
    padded = torch.zeros(2, len(rows), length, dtype=torch.int64)
    for row, tokens in enumerate(rows):
        padded[0, row, : len(tokens)] = torch.as_tensor(tokens)
        padded[1, row, : len(tokens)] = 1
    return padded[0], padded[1]


def _runs(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return ``start .. start + length - 1`` of all runs, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - before, lengths)


def _targets(labels: np.ndarray, cu_seqlens: np.ndarray) -> tuple:
    """Return rows whose output predicts a trained token, and those tokens.

    Row p predicts label p + 1; the first label of a sample has no row.
    """
    trained = labels != IGNORE_INDEX
    trained[cu_seqlens[:-1]] = False
    places = np.flatnonzero(trained)
    return places - 1, labels[places]


def _check_slot_ids(
    input_ids: np.ndarray, slot_index: np.ndarray, cu_seqlens: np.ndarray, ids: tuple
) -> None:
    """Hold the placeholders in the text against the slots, sample by sample."""
    expected = np.zeros(len(input_ids), dtype=bool)
    inside = slot_index[(slot_index >= 0) & (slot_index < len(input_ids))]
    expected[inside] = True
    wrong = np.flatnonzero(expected != (input_ids == SLOT_TOKEN_ID))
    if len(wrong) or len(inside) != len(slot_index) or expected.sum() < len(inside):
        flat = wrong[0] if len(wrong) else (slot_index[-1] if len(slot_index) else 0)
        number = int(np.searchsorted(cu_seqlens, flat, side="right")) - 1
        number = min(number, len(ids) - 1)
        span = slice(cu_seqlens[number], cu_seqlens[number + 1])
        raise ValueError(
            f"sample '{ids[number]}': its slots cover {int(expected[span].sum())} "
            f"positions, but {int((input_ids[span] == SLOT_TOKEN_ID).sum())} "
            f"positions hold the placeholder {SLOT_TOKEN_ID} (or they lie elsewhere)."
        )


def _stack_views(inputs: list[dict], ids: tuple) -> torch.Tensor | None:
    given = [
        (one["pixel_values"], sample_id)
        for one, sample_id in zip(inputs, ids, strict=True)
        if one["pixel_values"] is not None
    ]
    if not given:
        return None
    first, first_id = given[0]
    for views, sample_id in given:
        if views.shape[1:] != first.shape[1:] or views.dtype != first.dtype:
            raise ValueError(
                f"sample '{sample_id}': views of {tuple(views.shape[1:])} "
                f"{views.dtype}, but sample '{first_id}' of the same batch has "
                f"{tuple(first.shape[1:])} {first.dtype}; all views of a batch must "
                "have one size. Give the view transform a fixed size."
            )
    return torch.cat([views for views, _ in given])
