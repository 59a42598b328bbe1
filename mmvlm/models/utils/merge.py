"""Fill the slots of a flat text with the embeddings of pictures."""

from __future__ import annotations

import torch

from mmvlm.structures import ModalityInputs, TokenCount, VLMBatch


def check_slots(batch: VLMBatch, token_count: TokenCount | None) -> None:
    """Check on the host that every picture fits its slot.

    Raises:
        ValueError: naming the sample, when counts disagree.

    """
    if not batch.slot_lens:
        if batch.pixel_values is not None and len(batch.pixel_values):
            raise ValueError(
                f"samples {list(batch.sample_ids)} bring {len(batch.pixel_values)} "
                "views but no slot for a picture."
            )
        return
    if token_count is None:
        raise ValueError(
            f"{_sample(batch, 0)} shows a picture, but the model has no vision_encoder."
        )
    if batch.pixel_values is None:
        raise ValueError(f"{_sample(batch, 0)} has slots but no pixel_values.")
    if len(batch.layouts) != len(batch.slot_lens):
        raise ValueError(
            f"samples {list(batch.sample_ids)}: {len(batch.slot_lens)} slots but "
            f"{len(batch.layouts)} pictures."
        )
    for picture, (layout, length) in enumerate(
        zip(batch.layouts, batch.slot_lens, strict=True)
    ):
        expected = token_count(layout)
        if expected != length:
            raise ValueError(
                f"{_sample(batch, picture)}: picture {picture} of the batch gives "
                f"{expected} tokens ({layout.num_views} views of {layout.view_size}), "
                f"but its slot has {length} positions. Were the samples encoded for "
                "another model?"
            )
    views = sum(layout.num_views for layout in batch.layouts)
    if views != len(batch.pixel_values):
        raise ValueError(
            f"samples {list(batch.sample_ids)}: layouts name {views} views, "
            f"pixel_values hold {len(batch.pixel_values)}."
        )


def check_modality_slots(
    batch: VLMBatch, token_count: TokenCount | None, modalities: tuple[str, ...]
) -> None:
    """Check on the host that every input that is no picture fits its slot.

    Raises:
        ValueError: naming the sample, when counts disagree or the model does not
            take the modality.

    """
    for modality, inputs in batch.modality_inputs.items():
        if modality not in modalities or token_count is None:
            raise ValueError(
                f"{_owner(batch, inputs.owner, 0)} has '{modality}', but the model "
                f"takes {list(modalities)}."
            )
        counts = (len(inputs.values), len(inputs.slot_lens), len(inputs.layouts))
        if len(set(counts)) > 1:
            raise ValueError(
                f"samples {list(batch.sample_ids)}: {counts[0]} inputs of "
                f"'{modality}', {counts[1]} slots and {counts[2]} layouts."
            )
        _check_lengths(batch, modality, inputs, token_count)


def _check_lengths(
    batch: VLMBatch, modality: str, inputs: ModalityInputs, token_count: TokenCount
) -> None:
    for number, (layout, length) in enumerate(
        zip(inputs.layouts, inputs.slot_lens, strict=True)
    ):
        expected = token_count(layout)
        if expected != length:
            raise ValueError(
                f"{_owner(batch, inputs.owner, number)}: {modality} {number} of the "
                f"batch gives {expected} tokens (shape {layout.shape}), but its slot "
                f"has {length} positions. Were the samples encoded for another model?"
            )


def _sample(batch: VLMBatch, picture: int) -> str:
    """Name the sample that a picture belongs to."""
    return _owner(batch, batch.image_owner, picture)


def _owner(batch: VLMBatch, owners: tuple[int, ...], number: int) -> str:
    """Name the sample that an input belongs to."""
    owner = owners[number] if number < len(owners) else number
    known = owner < len(batch.sample_ids)
    return (
        f"sample '{batch.sample_ids[owner]}'" if known else f"sample {owner} of batch"
    )


def merge_embeddings(
    text_embeds: torch.Tensor, image_embeds: torch.Tensor, slot_index: torch.Tensor
) -> torch.Tensor:
    """Write picture embeddings into their positions, one copy for the batch.

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
    pixel_values: torch.Tensor, per_picture: int = 1
) -> tuple[list[int], list[int]]:
    """Find views that are equal, so that each is encoded once.

    Several questions about one picture are common in benchmarks. Reads values
    on the host, so it is meant for inference.

    Args:
        pixel_values (torch.Tensor): views.
        per_picture (int): that many neighbours are equal only together.

    Returns:
        tuple: indices of the distinct views in order, and for every view its
        place among them.

    Shape:
        - ``pixel_values``: (V, 3, H, W)

    """
    flat = pixel_values.reshape(len(pixel_values) // per_picture, -1)
    sums = flat.sum(1, dtype=torch.float64).tolist()
    known: dict[float, list[int]] = {}
    first, place = [], []
    for picture, key in enumerate(sums):
        for number in known.setdefault(key, []):
            if torch.equal(flat[first[number]], flat[picture]):
                place.append(number)
                break
        else:
            known[key].append(len(first))
            place.append(len(first))
            first.append(picture)
    return _views(first, per_picture), _views(place, per_picture)


def _views(pictures: list[int], count: int) -> list[int]:
    """Return the views of pictures that have ``count`` each."""
    return [picture * count + view for picture in pictures for view in range(count)]
