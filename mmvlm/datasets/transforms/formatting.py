"""The last step of every pipeline: what the collate function takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import ModalityLayout, VLMDataSample


def check_slots(
    sample_id: str, slots: Sequence[Any], layouts: Sequence[Any], views: Any
) -> None:
    """Hold the slots of a sample against its pictures.

    Args:
        sample_id (str): for the message.
        slots (Sequence[Slot]): of the text.
        layouts (Sequence[ViewLayout]): one per picture.
        views (torch.Tensor | None): (V, 3, H, W), all views of the sample.

    Raises:
        ValueError: naming the sample, when a picture has no slot, a slot no
            picture, or the views are not as many as the layouts say.

    """
    indices = sorted(slot.index for slot in slots if slot.modality == "image")
    if indices != list(range(len(layouts))):
        raise ValueError(
            f"sample '{sample_id}': {len(indices)} slots (pictures {indices}) in the "
            f"text, but {len(layouts)} pictures."
        )
    expected = sum(layout.num_views for layout in layouts)
    found = 0 if views is None else len(views)
    if expected != found:
        raise ValueError(
            f"sample '{sample_id}': {found} views, but the layouts of its "
            f"{len(layouts)} pictures say {expected}."
        )


def check_media_slots(
    sample_id: str, slots: Sequence[Any], media: Mapping[str, Any]
) -> None:
    """Hold the slots of a sample against its inputs that are no pictures.

    Args:
        sample_id (str): for the message.
        slots (Sequence[Slot]): of the text.
        media (Mapping[str, torch.Tensor]): inputs (M, ...) by modality.

    Raises:
        ValueError: naming the sample, when an input has no slot or a slot no input.

    """
    names = {slot.modality for slot in slots} - {"image"}
    for name in sorted(names | set(media)):
        indices = sorted(slot.index for slot in slots if slot.modality == name)
        found = len(media.get(name, ()))
        if indices != list(range(found)):
            raise ValueError(
                f"sample '{sample_id}': {len(indices)} slots for '{name}' (inputs "
                f"{indices}) in the text, but {found} inputs."
            )


@TRANSFORMS.register_module()
class PackVLMInputs:
    """Pack a sample for :func:`collate_flat`.

    Required keys: ``conversation``, ``encoded``, ``dataset``, ``index``. Optional:
    ``views``, ``layouts``, ``image_paths``, ``media``, ``truncated_tokens``,
    ``dropped_labels``, ``gt_text``, ``gt_boxes``, ``instructions``.

    Returns a new item with ``inputs`` (``input_ids`` and ``labels``, (T,) int64;
    ``slots``; ``pixel_values``, (V, 3, H, W) or None; ``layouts``; with other inputs
    ``media``, by modality a (M, ...) tensor, and ``media_layouts``) and
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
            ValueError: naming the sample, when slots and pictures differ.

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
        pixel_values = self._join(conversation.id, item.get("views", ()))
        check_slots(conversation.id, encoded.slots, layouts, pixel_values)
        media = _media_tensors(conversation.id, item.get("media", {}))
        check_media_slots(conversation.id, encoded.slots, media)
        facts = dict(
            sample_id=conversation.id,
            dataset=item["dataset"],
            index=item["index"],
            conversation=conversation,
            image_paths=tuple(item.get("image_paths", ())),
            layouts=layouts,
            meta=conversation.meta,
            truncated_tokens=item.get("truncated_tokens", 0),
            dropped_labels=item.get("dropped_labels", False),
            **{key: item[key] for key in self.meta_keys},
        )
        sample = VLMDataSample()
        for key, value in facts.items():  # set_metainfo would copy deeply
            sample.set_field(value, key, field_type="metainfo")
        for key in ("gt_text", "gt_boxes"):
            if item.get(key) is not None:
                sample.set_field(item[key], key)
        inputs = dict(
            input_ids=torch.from_numpy(np.asarray(encoded.input_ids, np.int64)),
            labels=torch.from_numpy(np.asarray(encoded.labels, np.int64)),
            slots=list(encoded.slots),
            pixel_values=pixel_values,
            layouts=layouts,
        )
        if "instructions" in item:
            inputs["instructions"] = item["instructions"]
        if media:
            inputs["media"] = media
            inputs["media_layouts"] = {
                name: tuple(ModalityLayout(name, tuple(one.shape)) for one in values)
                for name, values in media.items()
            }
        return dict(inputs=inputs, data_samples=sample)

    def plan(self, item: dict) -> dict:
        """Return the item: packing changes no length."""
        return item

    @staticmethod
    def _join(sample_id: str, views: Sequence[np.ndarray]) -> torch.Tensor | None:
        sizes = sorted({tuple(view.shape[1:]) for view in views})
        if len(sizes) > 1:
            raise ValueError(
                f"sample '{sample_id}': its pictures have views of different sizes "
                f"{sizes}; give the view transform a fixed size."
            )
        if not views:
            return None
        return torch.from_numpy(np.concatenate(views))


def _media_tensors(
    sample_id: str, media: Mapping[str, Sequence[np.ndarray]]
) -> dict[str, torch.Tensor]:
    """Stack the inputs of each modality; pixels stay uint8, all else is float32."""
    result = {}
    for name, arrays in media.items():
        shapes = sorted({(array.shape, str(array.dtype)) for array in arrays})
        if len(shapes) > 1:
            raise ValueError(
                f"sample '{sample_id}': its inputs of '{name}' differ: {shapes}; the "
                "pipeline must bring them to one size."
            )
        if arrays:
            stacked = np.stack(arrays)
            keep = stacked.dtype == np.uint8
            result[name] = torch.from_numpy(
                stacked if keep else stacked.astype(np.float32)
            )
    return result
