"""The last step of every pipeline: what the collate function takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import (
    DECODER_STREAM,
    ENCODER_STREAM,
    TEXT_STREAM,
    InputLayout,
    SampleInputs,
    VLMDataSample,
)


@TRANSFORMS.register_module()
class PackVLMInputs:
    """Pack a sample for :func:`collate_flat`.

    Required keys: ``conversation``, ``encoded``, ``dataset``, ``index``. Optional:
    ``views``, ``layouts``, ``image_paths``, ``media``, ``truncated_tokens``,
    ``dropped_regions``, ``dropped_labels``, ``gt_text``, ``gt_boxes``,
    ``gt_regions``, ``instructions``; ``inputs`` (:class:`SampleInputs` by kind) and
    ``targets`` (by head, one array per mark that the head reads) of any other
    transform; ``encoded_answer``, the second
    stream of an encoder-decoder.

    Returns a new item with ``inputs``: ``streams`` (:class:`EncodedSample` by name),
    ``inputs`` (:class:`SampleInputs` by kind) and ``targets``, and with
    ``data_samples`` (:class:`VLMDataSample`).

    Args:
        meta_keys (Sequence[str]): further item keys to keep as metainfo.
    """

    def __init__(self, meta_keys: Sequence[str] = ()) -> None:
        self.meta_keys = tuple(meta_keys)

    def __call__(self, item: dict) -> dict:
        """Return the packed item.

        Raises:
            RuntimeError: when a required key is missing, as the pipeline is wrong.
            ValueError: naming the sample, when slots and images differ.
        """
        missing = {"conversation", "encoded", "dataset", "index", *self.meta_keys}
        missing -= set(item)
        if missing:
            raise RuntimeError(
                f"PackVLMInputs: the item lacks {sorted(missing)}; it has "
                f"{sorted(item)}. EncodeConversation must come before."
            )
        conversation, encoded = item["conversation"], item["encoded"]
        layouts = tuple(item.get("layouts", ()))
        streams = {TEXT_STREAM: encoded}
        if "encoded_answer" in item:
            streams = {ENCODER_STREAM: encoded, DECODER_STREAM: item["encoded_answer"]}
        inputs = _inputs(item, layouts)
        check_inputs(conversation.id, encoded.slots, inputs)
        facts = dict(
            sample_id=conversation.id,
            dataset=item["dataset"],
            index=item["index"],
            conversation=conversation,
            image_paths=tuple(item.get("image_paths", ())),
            layouts=layouts,
            meta=conversation.meta,
            truncated_tokens=item.get("truncated_tokens", 0),
            dropped_regions=item.get("dropped_regions", 0),
            dropped_labels=item.get("dropped_labels", False),
            **{key: item[key] for key in self.meta_keys},
        )
        sample = VLMDataSample()
        for key, value in facts.items():  # set_metainfo would copy deeply
            sample.set_field(value, key, field_type="metainfo")
        for key in ("gt_text", "gt_boxes", "gt_regions"):
            if item.get(key) is not None:
                sample.set_field(item[key], key)
        packed = dict(
            streams=streams, inputs=inputs, targets=dict(item.get("targets", {}))
        )
        return dict(inputs=packed, data_samples=sample)

    def plan(self, item: dict) -> dict:
        """Return the item: packing changes no length."""
        return item


def check_inputs(
    sample_id: str, slots: Sequence[Any], inputs: Mapping[str, SampleInputs]
) -> None:
    """Check that the inputs of a sample agree with the slots of its text.

    Args:
        sample_id (str): for the message.
        slots (Sequence[Slot]): of the text.
        inputs (Mapping[str, SampleInputs]): by kind.

    Raises:
        ValueError: naming the sample, when an input has no slot, a slot no input, or
            its views are not as many as its layout says.
    """
    for kind in sorted({slot.modality for slot in slots} | set(inputs)):
        inputs.get(kind, SampleInputs([])).check(kind, sample_id, slots)


def _inputs(item: dict, layouts: tuple) -> dict[str, SampleInputs]:
    """Gather the sample's inputs of all kinds."""
    inputs: dict[str, SampleInputs] = {}
    if layouts:
        inputs["image"] = SampleInputs.join(item.get("views", ()), layouts)
    for kind, arrays in item.get("media", {}).items():
        if arrays:
            # Pixels stay uint8, all else is float32.
            kept = [a if a.dtype == np.uint8 else a.astype(np.float32) for a in arrays]
            found = tuple(InputLayout(kind, tuple(array.shape)) for array in kept)
            inputs[kind] = SampleInputs.join([array[None] for array in kept], found)
    if "instructions" in item:
        rows = [torch.tensor(ids, dtype=torch.int64) for ids in item["instructions"]]
        inputs["question"] = SampleInputs(
            rows,
            tuple(InputLayout("question", tuple(row.shape)) for row in rows),
            parent=tuple(range(len(rows))),
            fills_slots=False,
        )
    inputs.update(item.get("inputs", {}))
    return inputs
