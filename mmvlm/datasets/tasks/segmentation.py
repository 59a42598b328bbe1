"""What tasks that answer with a mask share: wordings and the mask's region."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.structures import Boxes, Instance, Region
from mmvlm.structures.masks import empty_rle, rle_box, union_rle

#: Questions for something that a few words name.
NAME_QUESTIONS = (
    "Segment <name> in this picture.",
    "Could you outline <name> for me?",
    "Show me the mask of <name>.",
    "Which pixels of the picture belong to <name>?",
    "Please mark <name> pixel by pixel.",
)
#: Questions behind a sentence that says what is looked for.
SENTENCE_QUESTIONS = (
    "<text> Answer with a segmentation mask.",
    "<text> Please mark it in the picture.",
)
#: What asks for a mask and reasons, behind either.
REASON_REQUESTS = (
    "Answer with a segmentation mask and explain your choice.",
    "Please mark it in the picture and say why.",
    "Please mark it in the picture and give the reason, too.",
)
ANSWERS = (
    "It is <mask>.",
    "Here it is: <mask>.",
    "<mask>.",
    "Of course, the mask is <mask>.",
    "This is the part you mean: <mask>.",
)


def mask_region(
    instances: Sequence[Instance], size: tuple[int, int], phrase: str | None = None
) -> Region:
    """Return one region of kind ``mask``: all of the instances together.

    It has one box, tight around the mask, and one mask: the polygons where all
    instances have polygons, else run lengths. A segmentation token will stand where
    the region stands. Of no instance at all the mask is empty, and its box has no area,
    which codecs that write coordinates refuse.

    Args:
        instances (Sequence[Instance]): with masks; none for an empty mask.
        size (tuple[int, int]): height and width of the image.
        phrase (str | None): the words that it grounds.

    Raises:
        ValueError: naming an instance whose mask is missing, damaged or empty.
    """
    rle = union_rle(instances, size) if instances else empty_rle(size)
    drawn = bool(instances) and all(one.rle is None for one in instances)
    rings = [ring for instance in instances for ring in instance.polygons]
    return Region(
        image=0,
        boxes=Boxes(np.array([rle_box(rle)]), size),
        kind="mask",
        phrase=phrase,
        polygons=(tuple(rings) if drawn else (),),
        rles=(None if drawn else rle,),
    )


def has_mask(instance: Instance) -> bool:
    """Whether the file gives a mask."""
    return bool(instance.rle is not None or instance.polygons)
