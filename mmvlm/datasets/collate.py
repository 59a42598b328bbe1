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
    TEXT_STREAM,
    EncodedSample,
    Inputs,
    Targets,
    TokenStream,
    VLMBatch,
)

from .bad_samples import BadRecord
from .transforms.formatting import check_inputs

#: ``sample_ids`` of the one-token sample that stands for an empty batch.
EMPTY_SAMPLE_ID = "<no usable sample>"


# mmengine's build_dataloader asks its root registry, without a scope.
@ROOT_FUNCTIONS.register_module()
@FUNCTIONS.register_module()
def collate_flat(items: Sequence[dict | list[dict] | BadRecord]) -> dict:
    """Join what ``PackVLMInputs`` makes into a :class:`VLMBatch`.

    A batch without a usable sample (all left out, or no item at all on this rank)
    becomes one token that trains nothing, with no data sample, so that the ranks
    stay in step.

    Args:
        items (Sequence[dict | list[dict] | BadRecord]): packed samples, lists of
            those that belong together, and records of those that the policy left out.

    Returns:
        dict: ``inputs`` (:class:`VLMBatch`), ``data_samples`` (list, one per sample)
        and ``bad_records`` (list).

    Raises:
        ValueError: naming the sample, when slots and inputs do not agree, marks and
            targets of a head do not agree, or the position of an input would be
            trained.
    """
    bad_records = [item for item in items if isinstance(item, BadRecord)]
    samples = []
    for item in items:
        if not isinstance(item, BadRecord):
            samples += item if isinstance(item, list) else [item]
    return dict(
        inputs=_flat(samples) if samples else _nothing(),
        data_samples=[sample["data_samples"] for sample in samples],
        bad_records=bad_records,
    )


def _nothing() -> VLMBatch:
    """Return one token that trains nothing."""
    sample = EncodedSample(np.zeros(1, np.int64), np.full(1, IGNORE_INDEX, np.int64))
    return VLMBatch(
        {TEXT_STREAM: _stream([sample], (EMPTY_SAMPLE_ID,))},
        sample_ids=(EMPTY_SAMPLE_ID,),
    )


def _flat(samples: list[dict]) -> VLMBatch:
    packed = [sample["inputs"] for sample in samples]
    ids = tuple(str(sample["data_samples"].sample_id) for sample in samples)
    names = list(packed[0]["streams"])
    for one, sample_id in zip(packed, ids, strict=True):
        if list(one["streams"]) != names:
            raise ValueError(
                f"sample '{sample_id}': streams {list(one['streams'])}, but sample "
                f"'{ids[0]}' of the same batch has {names}."
            )
        prompt = next(iter(one["streams"].values()))
        check_inputs(sample_id, prompt.slots, one["inputs"])
    prompts, *_ = texts = [[one["streams"][name] for one in packed] for name in names]
    starts = _starts(prompts)
    kinds = dict.fromkeys(
        kind for one in packed for kind, own in one["inputs"].items() if len(own)
    )
    inputs = {kind: _join(kind, packed, prompts, starts, ids) for kind in kinds}
    for kind, entry in inputs.items():
        if entry.parent:
            entry.parent = _parents(kind, entry, inputs.get("image"), ids)
    filled = [e.slot_index.numpy() for e in inputs.values() if e.slot_lens]
    filled = np.concatenate([np.zeros(0, np.int64), *filled])
    flat_ids = np.concatenate([sample.input_ids for sample in prompts])
    _check_slot_ids(flat_ids, filled, starts, ids)
    streams = [_stream(stream, ids) for stream in texts]
    return VLMBatch(
        dict(zip(names, streams, strict=True)),
        inputs,
        _targets(packed, texts[-1], ids),
        ids,
    )


def _starts(stream: list[EncodedSample]) -> np.ndarray:
    """Return the offsets of the samples in their flat batch: (B + 1,)."""
    return np.cumsum([0, *map(len, stream)])


def _stream(samples: list[EncodedSample], ids: tuple[str, ...]) -> TokenStream:
    """Join the texts of all samples.

    Raises:
        ValueError: naming the sample, for a label that is no token.
    """
    stream = TokenStream.join(samples)
    wrong = stream.target_rows[stream.targets < 0]
    if len(wrong):
        number = int(torch.searchsorted(stream.cu_seqlens, wrong[0], right=True)) - 1
        raise ValueError(
            f"sample '{ids[number]}': label {int(stream.targets.min())} is to be "
            f"trained; only token ids (0 and above) and {IGNORE_INDEX} are labels."
        )
    return stream


def _join(
    kind: str,
    packed: list[dict],
    prompts: list[EncodedSample],
    starts: np.ndarray,
    ids: tuple[str, ...],
) -> Inputs:
    """Join the inputs of one kind, and find the flat positions that they fill."""
    found = [
        (number, one["inputs"][kind])
        for number, one in enumerate(packed)
        if len(one["inputs"].get(kind, ()))
    ]
    values, shapes = _values(kind, found, ids)
    parents = [(n, parent) for n, own in found for parent in own.parent]
    begin, length = [], []
    for number, prompt in enumerate(prompts):
        own = [slot for slot in prompt.slots if slot.modality == kind]
        for slot in sorted(own, key=lambda slot: slot.index):
            begin.append(starts[number] + slot.start)
            length.append(slot.length)
    index = _runs(np.array(begin, np.int64), np.array(length, np.int64))
    return Inputs(
        values,
        owner=tuple(number for number, own in found for _ in range(len(own))),
        layouts=tuple(layout for _, own in found for layout in own.layouts),
        slot_index=torch.from_numpy(index) if found[0][1].fills_slots else None,
        slot_lens=tuple(length),
        parent=tuple(parents),
        shapes=shapes,
        extra=_extra(kind, found, ids),
    )


def _extra(kind: str, found: list[tuple], ids: tuple[str, ...]) -> dict:
    """Join the further tensors of the inputs of one kind, which all samples have."""
    first, own = found[0]
    for number, other in found:
        shapes = [{k: t.shape[1:] for k, t in o.extra.items()} for o in (own, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"sample '{ids[number]}': its inputs of '{kind}' have {shapes[1]} "
                f"beside them, but those of sample '{ids[first]}' of the same batch "
                f"have {shapes[0]}. Were they prepared for different models?"
            )
    return {name: torch.cat([o.extra[name] for _, o in found]) for name in own.extra}


def _values(kind: str, found: list[tuple], ids: tuple[str, ...]) -> tuple:
    """Stack entries of one shape; lay others out flat, with their shapes."""
    for number, own in found:
        first = found[0][1]
        if own.values[0].dtype != first.values[0].dtype:
            raise ValueError(
                f"sample '{ids[number]}': its inputs of '{kind}' are "
                f"{own.values[0].dtype}, but those of sample '{ids[found[0][0]]}' of "
                f"the same batch are {first.values[0].dtype}."
            )
    shapes = [tuple(entry.shape) for _, own in found for entry in own.values]
    if len(set(shapes)) > 1:
        entries = [entry.flatten() for _, own in found for entry in own.values]
        return torch.cat(entries), tuple(shapes)
    stacked = [
        own.values if isinstance(own.values, torch.Tensor) else torch.stack(own.values)
        for _, own in found
    ]
    return torch.cat(stacked), ()


def _parents(
    kind: str, entry: Inputs, images: Inputs | None, ids: tuple[str, ...]
) -> tuple[int, ...]:
    """Turn (sample, image of the sample) into images of the batch.

    Raises:
        ValueError: naming the sample, for an image that it does not show.
    """
    owner = () if images is None else images.owner
    for sample, number in entry.parent:
        shown = owner.count(sample)
        if not 0 <= number < shown:
            raise ValueError(
                f"sample '{ids[sample]}': an input of '{kind}' belongs to its image "
                f"{number}, but it shows {shown} image(s)."
            )
    return tuple(owner.index(sample) + number for sample, number in entry.parent)


def _targets(
    packed: list[dict], text: list[EncodedSample], ids: tuple[str, ...]
) -> dict[str, Targets]:
    """Join what heads learn, by the marks that they read."""
    starts = _starts(text)
    heads = dict.fromkeys(head for one in packed for head in one["targets"])
    joined = {}
    for head in heads:
        rows, owner, values = [], [], []
        for number, (one, sample) in enumerate(zip(packed, text, strict=True)):
            own = one["targets"].get(head, ())
            marks = [mark for mark in sample.marks if mark.kind == head]
            if len(own) != len(marks):
                raise ValueError(
                    f"sample '{ids[number]}': {len(marks)} marks that head '{head}' "
                    f"reads in the text, but {len(own)} targets."
                )
            for mark in sorted(marks, key=lambda mark: mark.index):
                if mark.start < 1:
                    raise ValueError(
                        f"sample '{ids[number]}': the token that head '{head}' reads "
                        "stands first, so that no state chooses it."
                    )
                rows.append(int(starts[number]) + mark.start)
                owner.append(number)
                values.append(torch.as_tensor(own[mark.index]))
        if not values:
            continue
        shapes = tuple(tuple(value.shape) for value in values)
        same = len(set(shapes)) < 2
        flat = torch.stack(values) if same else torch.cat([v.flatten() for v in values])
        learnt = Inputs(flat, tuple(owner), shapes=() if same else shapes)
        places = torch.tensor(rows, dtype=torch.int64)
        joined[head] = Targets(places, tuple(owner), learnt)
    return joined


def _runs(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return ``start .. start + length - 1`` of all runs, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - before, lengths)


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
