"""The contract of tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from mmvlm.structures import (
    AnnotatedImage,
    Boxes,
    Conversation,
    Image,
    Instance,
    Region,
    Text,
    Turn,
)


class NothingToAsk(ValueError):
    """The annotations of an image do not allow the task; counted, not an error."""

    counted_as = "nothing to ask"


class DataTask(ABC):
    """Make a conversation of what is annotated in an image.

    A task draws from the generator it is given only, so that a sample depends on
    (seed, epoch, record) and on nothing else.
    """

    #: Fields of :class:`AnnotatedImage`, dotted, without which there is nothing to
    #: ask (``instances.box``); the docstring says the same in words.
    needs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return questions and answers; the image is shown by the caller.

        Raises:
            NothingToAsk: when the annotations do not allow the task.
            ValueError: when they are damaged.
        """

    def reference(self, annotation: AnnotatedImage) -> Any:
        """Return what an answer to the one question is scored with, JSON-able.

        None: the file hides it (test splits), or the task is not scored.

        Raises:
            ValueError: when more than one thing could be asked for.
        """
        return None

    def __call__(
        self, annotation: AnnotatedImage, images: list, rng: np.random.Generator
    ) -> Conversation:
        """Return the conversation, the image in front of the first question.

        Args:
            annotation (AnnotatedImage): of one image, or of none.
            images (list): what is shown in its place; empty for text alone.
            rng (np.random.Generator): the only source of randomness.
        """
        turns = list(self.turns(annotation, rng))
        if images:
            shown = (*(Image(index) for index in range(len(images))), Text("\n"))
            turns[0] = Turn(
                turns[0].role, (*shown, *turns[0].parts), turns[0].supervised
            )
        return Conversation(turns, images, annotation.id, dict(annotation.meta))

    @staticmethod
    def separate(conversation: Conversation) -> list[Conversation]:
        """Return every question with its answer as a conversation of its own.

        All show what the first one does. Ids get the number of the question.

        Args:
            conversation (Conversation): of a task: questions and answers in turn.
        """
        turns, images = conversation.turns, conversation.images
        shown = turns[0].parts[: len(images) + 1] if images else ()
        found = []
        for number in range(0, len(turns), 2):
            question, *rest = turns[number : number + 2]
            if number:
                question = replace(question, parts=(*shown, *question.parts))
            name = f"{conversation.id}#{number // 2}"
            found.append(replace(conversation, turns=[question, *rest], id=name))
        return found


def region(
    instances: Sequence[Instance],
    size: tuple[int, int],
    *,
    phrase: str | None = None,
    kind: str = "box",
) -> Region:
    """Return the region of some instances of the one image.

    Args:
        instances (Sequence[Instance]): with boxes.
        size (tuple[int, int]): height and width of the image.
        phrase (str | None): the words that the region grounds.
        kind (str): ``box``, ``mask``, or ``point``: the centre of each box.

    Raises:
        ValueError: for an instance without a box.
    """
    missing = [item.id or item.name for item in instances if item.box is None]
    if missing:
        raise ValueError(f"instances {missing} have no box.")
    xyxy = np.array([item.box for item in instances], dtype=np.float64)
    if kind == "point":
        centre = (xyxy[:, :2] + xyxy[:, 2:]) / 2
        xyxy = np.concatenate([centre, centre], axis=1)
    return Region(
        image=0,
        boxes=Boxes(xyxy, size),
        kind=kind,
        phrase=phrase,
        polygons=tuple(item.polygons for item in instances) if kind == "mask" else (),
        rles=tuple(item.rle for item in instances) if kind == "mask" else (),
    )
