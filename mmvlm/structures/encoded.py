"""Encoded samples: token ids, labels and the places that inputs fill."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

#: Label of a position that is not trained.
IGNORE_INDEX = -100
#: Id at positions that an encoder's output fills (LLaVA's value).
SLOT_TOKEN_ID = -200


@dataclass(frozen=True)
class Slot:
    """A run of positions that one image (or other input) fills.

    Args:
        index (int): which image (or input of that kind) of the sample.
        start (int): first position in ``input_ids``.
        length (int): number of positions.
        modality (str): kind of the input: ``image``, ``region``, ``audio``, ...
    """

    index: int
    start: int
    length: int
    modality: str = "image"


@dataclass(frozen=True)
class Mark:
    """Tokens of the text that a head reads.

    Args:
        kind (str): what the head learns there: ``mask``, ``box``, ...
        index (int): which of the sample's things to learn.
        start (int): first position in ``input_ids``.
        stop (int): behind the last one.
    """

    kind: str
    index: int
    start: int
    stop: int


@dataclass
class EncodedSample:
    """Token ids of one sample, placeholders already expanded.

    Args:
        input_ids (np.ndarray): (T,) int64, ``SLOT_TOKEN_ID`` in slots.
        labels (np.ndarray): (T,) int64, ``IGNORE_INDEX`` where not trained;
            unshifted: ``labels[t] == input_ids[t]`` where trained.
        slots (list[Slot]): in order of position.
        position_ids (np.ndarray | None): (T,) or (3, T) int64; None counts from 0.
        marks (list[Mark]): tokens that heads read, in order of position.
        answer (EncodedSample | None): what the decoder of an encoder-decoder reads and
            learns; all else is then what its encoder reads.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    slots: list[Slot] = field(default_factory=list)
    position_ids: np.ndarray | None = None
    marks: list[Mark] = field(default_factory=list)
    answer: EncodedSample | None = None

    def __len__(self) -> int:
        return len(self.input_ids) + (0 if self.answer is None else len(self.answer))

    @property
    def text(self) -> EncodedSample:
        """The stream that is trained and continued."""
        return self if self.answer is None else self.answer

    def cut(self, length: int) -> EncodedSample:
        """Return the sample without the tokens behind the first ``length``.

        Slots and marks that do not lie wholly among these are gone.
        """
        if self.answer is not None:
            rest = max(0, length - len(self.input_ids))
            return replace(self, answer=self.answer.cut(rest))
        positions = self.position_ids
        return replace(
            self,
            position_ids=None if positions is None else positions[..., :length],
            input_ids=np.ascontiguousarray(self.input_ids[:length]),
            labels=np.ascontiguousarray(self.labels[:length]),
            slots=[one for one in self.slots if one.start + one.length <= length],
            marks=[one for one in self.marks if one.stop <= length],
        )

    def split(self) -> tuple[EncodedSample, EncodedSample]:
        """Return the streams of an encoder-decoder, each a sample of its own."""
        return replace(self, answer=None), self.answer
