"""Fill the slots of a flat text with what connectors make of the inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mmvlm.structures import Inputs, TokenCount, VLMBatch
from mmvlm.structures.vision import count_of_kind


def check_inputs(
    batch: VLMBatch, token_count: TokenCount | None, fills: Sequence[str], reads: set
) -> None:
    """Check on the host that a model takes a batch's inputs, and that they fit.

    Args:
        batch (VLMBatch): of any samples.
        token_count (TokenCount | None): positions that an input takes.
        fills (Sequence[str]): kinds of inputs whose slots the model fills.
        reads (set): kinds that a part reads.

    Raises:
        ValueError: naming the sample, when counts disagree or the model does not
            take such inputs.
    """
    for kind, inputs in batch.inputs.items():
        if not len(inputs):
            continue
        if kind not in reads:
            raise ValueError(
                f"{batch.sample_of(kind, 0)} has '{kind}', but the model takes "
                f"{sorted(reads) or 'text only'}."
            )
        views, found = sum(inputs.num_views), len(inputs.shapes or inputs.values)
        if views != found:
            raise ValueError(
                f"samples {list(batch.sample_ids)}: layouts name {views} views of "
                f"'{kind}', but there are {found}."
            )
        if inputs.slot_index is None:
            continue
        if kind not in fills or token_count is None:
            raise ValueError(
                f"{batch.sample_of(kind, 0)} has slots for '{kind}', but the model "
                f"fills {list(fills)}."
            )
        if not len(inputs) == len(inputs.slot_lens) == len(inputs.layouts):
            raise ValueError(
                f"samples {list(batch.sample_ids)}: {len(inputs)} inputs of '{kind}', "
                f"{len(inputs.slot_lens)} slots and {len(inputs.layouts)} layouts."
            )
        _check_lengths(batch, kind, inputs, token_count)


def _check_lengths(
    batch: VLMBatch, kind: str, inputs: Inputs, token_count: TokenCount
) -> None:
    count = count_of_kind(token_count, kind)
    for number, (layout, length) in enumerate(
        zip(inputs.layouts, inputs.slot_lens, strict=True)
    ):
        expected = count(layout)
        if expected != length:
            raise ValueError(
                f"{batch.sample_of(kind, number)}: {kind} {number} of the batch gives "
                f"{expected} tokens ({layout}), but its slot has {length} positions. "
                "Were the samples encoded for another model?"
            )


def merge_embeddings(
    text_embeds: torch.Tensor, image_embeds: torch.Tensor, slot_index: torch.Tensor
) -> torch.Tensor:
    """Write image embeddings into their positions, one copy for the batch.

    Shape:
        - ``text_embeds``: (T, Dl); ``image_embeds``: (S, Dl); ``slot_index``: (S,)
        - output: (T, Dl), dtype of ``text_embeds``

    Raises:
        ValueError: when there are not as many embeddings as positions.
    """
    if len(image_embeds) != len(slot_index):
        raise ValueError(
            f"the connector gave {len(image_embeds)} embeddings for "
            f"{len(slot_index)} positions; its token_count promises otherwise."
        )
    return text_embeds.index_copy(0, slot_index, image_embeds.to(text_embeds.dtype))


def unique_views(
    pixel_values: torch.Tensor, together: int = 1
) -> tuple[list[int], list[int]]:
    """Find views that are equal, so that each is encoded once.

    Several questions about one image are common in benchmarks. Reads values
    on the host, so it is meant for inference.

    Args:
        pixel_values (torch.Tensor): views.
        together (int): that many neighbours are equal only together.

    Returns:
        tuple: indices of the distinct views in order, and for every view its
        place among them.

    Shape:
        - ``pixel_values``: (V, 3, H, W)
    """
    flat = pixel_values.reshape(len(pixel_values) // together, -1)
    sums = flat.sum(1, dtype=torch.float64).tolist()
    known: dict[float, list[int]] = {}
    first, place = [], []
    for image, key in enumerate(sums):
        for number in known.setdefault(key, []):
            if torch.equal(flat[first[number]], flat[image]):
                place.append(number)
                break
        else:
            known[key].append(len(first))
            place.append(len(first))
            first.append(image)
    return _views(first, together), _views(place, together)


def _views(images: list[int], count: int) -> list[int]:
    """Return the views of images that have ``count`` each."""
    return [image * count + view for image in images for view in range(count)]
