"""Encoded samples and the flat batch that the model takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

#: Label of a position that is not trained.
IGNORE_INDEX = -100
#: Id at positions that an encoder's output fills (LLaVA's value).
SLOT_TOKEN_ID = -200


@dataclass(frozen=True)
class Slot:
    """A run of positions that one picture (or other modality) fills.

    Args:
        index (int): which picture (or input of that modality) of the sample.
        start (int): first position in ``input_ids``.
        length (int): number of positions.
        modality (str): ``image``, or what the model's encoder names.

    """

    index: int
    start: int
    length: int
    modality: str = "image"


@dataclass
class EncodedSample:
    """Token ids of one sample, placeholders already expanded.

    Args:
        input_ids (np.ndarray): (T,) int64, ``SLOT_TOKEN_ID`` in slots.
        labels (np.ndarray): (T,) int64, ``IGNORE_INDEX`` where not trained;
            unshifted: ``labels[t] == input_ids[t]`` where trained.
        slots (list[Slot]): in order of position.
        answer (EncodedSample | None): what the decoder of an encoder-decoder reads and
            learns; all else is then what its encoder reads.

    """

    input_ids: np.ndarray
    labels: np.ndarray
    slots: list[Slot] = field(default_factory=list)
    answer: EncodedSample | None = None

    def __len__(self) -> int:
        return len(self.input_ids) + (0 if self.answer is None else len(self.answer))

    @property
    def text(self) -> EncodedSample:
        """The stream that is trained and continued."""
        return self if self.answer is None else self.answer

    def cut(self, length: int) -> EncodedSample:
        """Return the sample without the tokens behind the first ``length``."""
        if self.answer is not None:
            rest = max(0, length - len(self.input_ids))
            return dataclasses.replace(self, answer=self.answer.cut(rest))
        return dataclasses.replace(
            self,
            input_ids=np.ascontiguousarray(self.input_ids[:length]),
            labels=np.ascontiguousarray(self.labels[:length]),
        )


@dataclass
class ModalityInputs:
    """The inputs of one modality in a batch; pictures have their own fields.

    Shape:
        - ``values``: (M, ...), uint8 (pixels) or float, one entry per input
        - ``slot_index``: (S,), int64, flat positions that they fill

    Args:
        slot_lens (tuple[int, ...]): positions per input, on the host.
        owner (tuple[int, ...]): which sample each input belongs to.
        layouts (tuple): one ``ModalityLayout`` per input.

    """

    values: torch.Tensor
    slot_index: torch.Tensor
    slot_lens: tuple[int, ...]
    owner: tuple[int, ...]
    layouts: tuple = ()

    def map(self, function: Callable) -> ModalityInputs:
        """Return a copy with ``function`` applied to both tensors."""
        return dataclasses.replace(
            self, values=function(self.values), slot_index=function(self.slot_index)
        )


@dataclass
class VLMBatch:
    """One flat token dimension for all samples of a batch; no padding.

    Shape:
        - ``input_ids``, ``position_ids``, ``labels``: (T,), int64; positions
          restart at 0 with every sample
        - ``cu_seqlens``: (B + 1,), int32, offsets of the samples in T
        - ``pixel_values``: (V, 3, H, W), uint8 (normalised on the device) or
          float; None when the batch has no picture
        - ``slot_index``: (S,), int64, flat positions that picture embeddings
          fill, in the order of the pictures
        - ``target_rows``: (R,), int64, flat positions whose output predicts a
          trained token; ``targets``: (R,), int64, those tokens
        - ``instruction_ids``, ``instruction_mask``: (I, L), int64, the question
          about each of the I pictures for connectors that read it; else None

    Args:
        seq_lens (tuple[int, ...]): B lengths, on the host.
        slot_lens (tuple[int, ...]): positions per picture, on the host.
        image_owner (tuple[int, ...]): which sample each picture belongs to.
        layouts (tuple): one ``ViewLayout`` per picture.
        sample_ids (tuple[str, ...]): for error messages.
        loss_denominator (torch.Tensor | float | None): what the summed token loss
            is divided by. The train loop sets it to the trained tokens of the
            whole optimizer step; None means this batch's own count.
        modality_inputs (dict[str, ModalityInputs]): everything that is no picture,
            by modality; empty for pictures and text.

    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    cu_seqlens: torch.Tensor
    target_rows: torch.Tensor
    targets: torch.Tensor
    slot_index: torch.Tensor
    pixel_values: torch.Tensor | None
    seq_lens: tuple[int, ...]
    slot_lens: tuple[int, ...] = ()
    image_owner: tuple[int, ...] = ()
    layouts: tuple = ()
    sample_ids: tuple[str, ...] = ()
    loss_denominator: Any = None
    instruction_ids: torch.Tensor | None = None
    instruction_mask: torch.Tensor | None = None
    modality_inputs: dict[str, ModalityInputs] = field(default_factory=dict)

    @property
    def num_target_tokens(self) -> int:
        """Number of trained tokens R; known on the host without a sync."""
        return self.targets.numel()

    def to(self, *args: Any, **kwargs: Any) -> VLMBatch:
        """Return a copy whose tensors went through ``Tensor.to`` (dtype kept)."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> VLMBatch:
        """Return a copy in pinned host memory (called by the DataLoader)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Callable) -> VLMBatch:
        changed: dict[str, Any] = {
            f.name: function(value)
            for f in dataclasses.fields(self)
            if isinstance(value := getattr(self, f.name), torch.Tensor)
        }
        changed["modality_inputs"] = {
            name: inputs.map(function) for name, inputs in self.modality_inputs.items()
        }
        return dataclasses.replace(self, **changed)
