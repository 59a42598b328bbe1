"""The batch that a model takes: token streams, inputs and targets of heads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from .encoded import IGNORE_INDEX, EncodedSample

#: Streams of a batch: one, or the two of an encoder-decoder.
TEXT_STREAM, ENCODER_STREAM, DECODER_STREAM = "text", "encoder", "decoder"


class _Tensors:
    """Base: ``map`` a function over all tensors of a dataclass."""

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        """Return a copy with ``function`` applied to every tensor."""
        return replace(
            self,
            **{
                f.name: _mapped(getattr(self, f.name), function)
                for f in dataclasses.fields(self)
            },
        )


def _mapped(value: Any, function: Callable) -> Any:
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, _Tensors):
        return value.map(function)
    if isinstance(value, dict):
        return {key: _mapped(entry, function) for key, entry in value.items()}
    return value


@dataclass
class TokenStream(_Tensors):
    """One flat token dimension for all samples of a batch; no padding.

    Shape:
        - ``input_ids``, ``labels``: (T,), int64
        - ``position_ids``: (T,), int64, restart at 0 with every sample; (3, T) where
          the decoder takes time, row and column
        - ``cu_seqlens``: (B + 1,), int32, offsets of the samples in T
        - ``target_rows``: (R,), int64, flat positions whose output predicts a
          trained token; ``targets``: (R,), int64, those tokens

    Args:
        seq_lens (tuple[int, ...]): B lengths, on the host.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    cu_seqlens: torch.Tensor
    target_rows: torch.Tensor
    targets: torch.Tensor
    seq_lens: tuple[int, ...]

    def __len__(self) -> int:
        return sum(self.seq_lens)

    @classmethod
    def join(cls, samples: Sequence[EncodedSample]) -> TokenStream:
        """Lay samples one after the other.

        Row p predicts label p + 1; the first label of a sample has no row.

        Raises:
            ValueError: when some have positions of their own and others none.
        """
        lengths = np.array([len(sample) for sample in samples])
        starts = np.concatenate([[0], np.cumsum(lengths)])
        labels = np.concatenate([one.labels for one in samples]).astype(np.int64)
        trained = labels != IGNORE_INDEX
        trained[starts[:-1]] = False
        places = np.flatnonzero(trained)
        placed = [one for one in samples if one.position_ids is not None]
        if placed and len(placed) < len(samples):
            raise ValueError(
                f"{len(placed)} of {len(samples)} samples have position_ids, the "
                "others none; put AddAxisPositions into every pipeline of the mixture."
            )
        if placed:
            positions = np.concatenate([one.position_ids for one in samples], axis=-1)
        else:
            positions = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
        ids = np.concatenate([one.input_ids for one in samples]).astype(np.int64)
        return cls(
            input_ids=torch.from_numpy(ids),
            position_ids=torch.from_numpy(positions),
            labels=torch.from_numpy(labels),
            cu_seqlens=torch.from_numpy(starts.astype(np.int32)),
            target_rows=torch.from_numpy(places - 1),
            targets=torch.from_numpy(labels[places]),
            seq_lens=tuple(lengths.tolist()),
        )

    @property
    def num_targets(self) -> int:
        """Number of trained tokens R; known on the host without a sync."""
        return self.targets.numel()


@dataclass
class Inputs(_Tensors):
    """The inputs of one kind (``image``, ``region``, ``audio``, ...) in a batch.

    An input gives one entry of ``values``, or as many as its layout has views.

    Shape:
        - ``values``: (N, ...), N entries of one shape; (E,), all elements one after
          the other, when ``shapes`` says how they are split
        - ``slot_index``: (S,), int64, flat positions that they fill, input after input
        - ``extra[name]``: (N, ...), further tensors with one row per input

    Args:
        owner (tuple[int, ...]): which sample each input belongs to.
        layouts (tuple): one per input.
        slot_index (torch.Tensor | None): None for inputs without slots.
        slot_lens (tuple[int, ...]): positions per input, on the host.
        parent (tuple[int, ...]): which image of the batch each input belongs to
            (regions, questions); empty for those that stand alone.
        shapes (tuple[tuple[int, ...], ...]): of every entry, where they differ.
    """

    values: torch.Tensor
    owner: tuple[int, ...]
    layouts: tuple = ()
    slot_index: torch.Tensor | None = None
    slot_lens: tuple[int, ...] = ()
    parent: tuple[int, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    extra: dict[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def num_views(self) -> tuple[int, ...]:
        """Entries of ``values`` per input."""
        views = tuple(getattr(layout, "num_views", 1) for layout in self.layouts)
        return views or (1,) * len(self.owner)

    def entries(self) -> list[torch.Tensor]:
        """Return the entries of ``values`` one by one."""
        if not self.shapes:
            return list(self.values)
        sizes = [math.prod(shape) for shape in self.shapes]
        pieces = self.values.split(sizes)
        return [one.view(s) for one, s in zip(pieces, self.shapes, strict=True)]

    def of(self, number: int) -> torch.Tensor:
        """Return the entries of one input, which have one shape: (V, ...)."""
        first = sum(self.num_views[:number])
        last = first + self.num_views[number]
        if self.shapes:
            return torch.stack(self.entries()[first:last])
        return self.values[first:last]

    def same_shapes(self) -> list[tuple[list[int], Inputs]]:
        """Return the inputs in groups whose entries have one shape.

        Returns:
            list: numbers of the inputs, and the group with stacked ``values``.
        """
        if not self.shapes:
            return [(list(range(len(self))), self)]
        first = np.cumsum([0, *self.num_views])
        groups: dict[tuple, list[int]] = {}
        for number, start in enumerate(first[:-1]):
            groups.setdefault(self.shapes[start], []).append(number)
        return [(numbers, self.select(numbers)) for numbers in groups.values()]

    def select(self, numbers: Sequence[int]) -> Inputs:
        """Return some inputs, which must have entries of one shape."""
        first = np.cumsum([0, *self.num_views])
        entries = self.entries()
        rows = [row for n in numbers for row in range(first[n], first[n + 1])]
        index = self.slot_index
        if index is not None:
            pieces = index.split(list(self.slot_lens))
            index = torch.cat([pieces[n] for n in numbers] or [index[:0]])
        picked = {
            name: tuple(value[n] for n in numbers) if value else ()
            for name in ("owner", "layouts", "slot_lens", "parent")
            for value in [getattr(self, name)]
        }
        values = torch.stack([entries[r] for r in rows]) if rows else self.values[:0]
        extra = {name: tensor[list(numbers)] for name, tensor in self.extra.items()}
        return Inputs(values, slot_index=index, extra=extra, **picked)


@dataclass
class SampleInputs:
    """The inputs of one kind in one sample, before they are joined to a batch.

    Args:
        values (torch.Tensor | list[torch.Tensor]): (N, ...) of one shape, or N entries
            that differ.
        layouts (tuple): one per input.
        parent (tuple[int, ...]): which image of the sample each input belongs to;
            empty for those that stand alone.
        fills_slots (bool): whether each of them has a slot in the text.
        extra (dict[str, torch.Tensor]): further tensors with one row per input.
    """

    values: torch.Tensor | list[torch.Tensor]
    layouts: tuple = ()
    parent: tuple[int, ...] = ()
    fills_slots: bool = True
    extra: dict[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.layouts)

    def select(self, numbers: Sequence[int]) -> SampleInputs:
        """Return some inputs, of one view each, in another order."""
        rows = list(numbers)
        values = self.values
        picked = values[rows] if torch.is_tensor(values) else [values[n] for n in rows]
        return replace(
            self,
            values=picked,
            layouts=tuple(self.layouts[n] for n in rows),
            parent=tuple(self.parent[n] for n in rows) if self.parent else (),
            extra={name: tensor[rows] for name, tensor in self.extra.items()},
        )

    @classmethod
    def join(cls, arrays: Sequence[np.ndarray], *args: Any, **kwargs: Any) -> Any:
        """Make them of arrays, one per input, whose first axis counts its views."""
        if len({(one.shape[1:], one.dtype) for one in arrays}) == 1:
            values = torch.from_numpy(np.concatenate(arrays))
        else:
            values = [torch.from_numpy(view) for one in arrays for view in one]
        return cls(values, *args, **kwargs)

    def check(self, kind: str, sample_id: str, slots: Sequence[Any]) -> None:
        """Check that they agree with the slots of their kind and with their layouts.

        Raises:
            ValueError: naming the sample.
        """
        numbers = sorted(slot.index for slot in slots if slot.modality == kind)
        expected = list(range(len(self))) if self.fills_slots else []
        if numbers != expected:
            raise ValueError(
                f"sample '{sample_id}': {len(numbers)} slots for '{kind}' (inputs "
                f"{numbers}) in the text, but {len(expected)} inputs."
            )
        for name, tensor in self.extra.items():
            if len(tensor) != len(self):
                raise ValueError(
                    f"sample '{sample_id}': {len(tensor)} rows of '{name}' for "
                    f"{len(self)} inputs of '{kind}'."
                )
        views = sum(getattr(layout, "num_views", 1) for layout in self.layouts)
        if views != len(self.values):
            raise ValueError(
                f"sample '{sample_id}': {len(self.values)} views, but the layouts of "
                f"its {len(self)} inputs of '{kind}' say {views}."
            )


@dataclass
class Targets(_Tensors):
    """What a head learns from a batch.

    Args:
        rows (torch.Tensor): (K,), int64, flat positions of the marked tokens in the
            trained stream.
        owner (tuple[int, ...]): sample of each.
        values (Inputs): what is to be learnt, one entry per target.
    """

    rows: torch.Tensor
    owner: tuple[int, ...]
    values: Inputs

    def __len__(self) -> int:
        return len(self.owner)


@dataclass
class VLMBatch(_Tensors):
    """What all samples of a batch bring.

    Args:
        streams (dict[str, TokenStream]): ``text``, or ``encoder`` and ``decoder``.
        inputs (dict[str, Inputs]): by kind; images are ``image``.
        targets (dict[str, Targets]): by head.
        sample_ids (tuple[str, ...]): for error messages.
        denominators (dict[str, Any]): what the sum of each loss is divided by, by
            term (``text`` and the heads' own). The train loop sets them to the counts
            of the whole optimizer step; a term without one is divided by this
            batch's own count.
    """

    streams: dict[str, TokenStream]
    inputs: dict[str, Inputs] = field(default_factory=dict)
    targets: dict[str, Targets] = field(default_factory=dict)
    sample_ids: tuple[str, ...] = ()
    denominators: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> TokenStream:
        """The stream that is trained and continued."""
        streams = self.streams
        return streams[TEXT_STREAM if TEXT_STREAM in streams else DECODER_STREAM]

    @property
    def prompt(self) -> TokenStream:
        """The stream whose slots inputs fill."""
        streams = self.streams
        return streams[TEXT_STREAM if TEXT_STREAM in streams else ENCODER_STREAM]

    @property
    def num_samples(self) -> int:
        """Number of samples B."""
        return len(self.text.seq_lens)

    def sample_of(self, kind: str, number: int) -> str:
        """Name the sample of an input, for messages."""
        owner = self.inputs[kind].owner
        sample = owner[number] if number < len(owner) else number
        known = sample < len(self.sample_ids)
        return f"sample '{self.sample_ids[sample]}'" if known else f"sample {sample}"

    def to(self, *args: Any, **kwargs: Any) -> VLMBatch:
        """Return a copy whose tensors went through ``Tensor.to`` (dtype kept)."""
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> VLMBatch:
        """Return a copy in pinned host memory (called by the DataLoader)."""
        return self.map(lambda tensor: tensor.pin_memory())
