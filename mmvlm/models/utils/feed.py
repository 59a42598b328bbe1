"""What the parts of a model read of one batch: inputs, and features made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from mmvlm.structures import Inputs, Instructions, VisionFeatures, VLMBatch

from .merge import unique_views

#: Inputs by their numbers in the batch, and the features of their views.
Group = tuple[list[int], VisionFeatures]


def parse_source(source: str) -> tuple[str, int | str | None]:
    """Split what a part declares to read.

    Args:
        source (str): ``image:-2`` is a hidden state, ``image:*`` all that the encoder
            gives, ``question`` an input as it is. In place of the kind of input an
            encoder's name may stand.

    Raises:
        ValueError: for anything else.

    Example:
        >>> parse_source("image:-2"), parse_source("question")
        (('image', -2), ('question', None))
    """
    name, found, layer = source.partition(":")
    if not found:
        return name, None
    if layer == "*":
        return name, layer
    try:
        return name, int(layer)
    except ValueError:
        raise ValueError(
            f"reads names '{source}'; expected 'kind', 'kind:layer' or 'kind:*', as "
            "in 'image:-2'."
        ) from None


class Feed:
    """Inputs and features of one batch; every encoder runs once for all readers.

    Args:
        batch (VLMBatch): on the model's device, pixels normalised.
        encode (Callable): batch, encoder's name and kind of input to groups of
            features.
        find (Callable): kind of input (or encoder) to the encoder's name, the kind
            and its spec.
    """

    def __init__(self, batch: VLMBatch, encode: Callable, find: Callable) -> None:
        self.batch = batch
        #: (T, Dl), what the language model reads, slots filled; set once known.
        self.embeds: torch.Tensor | None = None
        self._encode, self._find = encode, find
        #: Features by encoder and kind; of one image of each where all have to run.
        self.known: dict[tuple[str, str], list[Group]] = {}
        self.lent: dict[tuple[str, str], list[Group]] = {}
        self._alone: dict[tuple[str, str], dict[int, VisionFeatures]] = {}

    def inputs(self, kind: str) -> Inputs | None:
        """Return the inputs of a kind; None when the batch brings none."""
        return self.batch.inputs.get(kind)

    def has(self, kind: str) -> bool:
        """Whether features of a kind were computed."""
        return self._find(kind)[:2] in self.known

    def groups(
        self,
        kind: str,
        layers: Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> list[Group]:
        """Return the features of all inputs of a kind.

        Args:
            kind (str): of the inputs, or an encoder's name.
            layers (Sequence[int] | None): hidden states in the order wanted; None for
                all that were computed.
            dtype (torch.dtype | None): to cast to: a tower in half precision may meet
                a part in full precision.

        Returns:
            list: one entry per size of view: numbers of the inputs, their features.
        """
        *source, spec = self._find(kind)
        key = tuple(source)
        if key not in self.known:
            self.known[key] = self._encode(self.batch, *key)
        groups = self.known[key]
        if layers is not None:
            index = tuple(map(spec.layer_index, layers))
            groups = [
                (n, f if f.layers == index else f.select(index)) for n, f in groups
            ]
        if dtype is not None:
            groups = [(n, f.map(lambda state: state.to(dtype))) for n, f in groups]
        return groups

    def images(self, kind: str = "image", *args: Any) -> list[VisionFeatures]:
        """Return the features of every image by itself, in the order of the batch.

        The arguments are those of :meth:`groups`.
        """
        found: dict[int, VisionFeatures] = {}
        for numbers, features in self.groups(kind, *args):
            for place, number in enumerate(numbers):
                found[number] = features.of_image(place)
        return [found[number] for number in range(len(found))]

    def some_images(
        self, kind: str, numbers: Sequence[int], dtype: torch.dtype | None = None
    ) -> dict[int, VisionFeatures]:
        """Return the features of some images of one view by their numbers.

        The others are not encoded, unless all have been, and of images with equal
        pixels only the first: for parts that need few, and whose encoder is large.

        Args:
            kind (str): of the inputs, or an encoder's name.
            numbers (Sequence[int]): of the images in the batch.
            dtype (torch.dtype | None): see :meth:`groups`.
        """
        *source, _ = self._find(kind)
        if tuple(source) in self.known:
            whole = self.images(kind, None, dtype)
            return {number: whole[number] for number in numbers}
        done = self._alone.setdefault(tuple(source), {})
        wanted = set(numbers) - set(done)
        for own, group in self.batch.inputs[source[1]].same_shapes():
            places = [place for place, number in enumerate(own) if number in wanted]
            if not places:
                continue
            chosen = group.select(places)
            first, copies = unique_views(chosen.values)
            batch = replace(self.batch, inputs={source[1]: chosen.select(first)})
            ((_, features),) = self._encode(batch, *source)
            for place, copy in zip(places, copies, strict=True):
                done[own[place]] = features.of_image(copy)
        cast = (lambda one: one) if dtype is None else (lambda one: one.to(dtype))
        return {number: done[number].map(cast) for number in set(numbers)}

    def questions(self, numbers: Sequence[int], reader: str) -> Instructions:
        """Return the questions about some images.

        Args:
            numbers (Sequence[int]): of the images in the batch.
            reader (str): who reads them, for the message.

        Raises:
            ValueError: naming the samples, when an image has no question.
        """
        inputs = self.inputs("question")
        parent = () if inputs is None else inputs.parent
        if not set(numbers) <= set(parent):
            raise ValueError(
                f"samples {list(self.batch.sample_ids)}: {reader} reads the question, "
                "but the batch brings none for every image. Put TokenizeInstructions "
                "into the pipeline of every dataset."
            )
        rows = inputs.entries()
        rows = [rows[parent.index(number)] for number in numbers]
        return pad_instructions(rows)


def pad_instructions(rows: Sequence[torch.Tensor]) -> Instructions:
    """Pad the ids of questions on the right: I rows of (L,) to (I, L)."""
    ids = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    lengths = torch.tensor([len(row) for row in rows], device=ids.device)
    places = torch.arange(ids.shape[1], device=ids.device)
    return Instructions(ids, (places < lengths[:, None]).long())
