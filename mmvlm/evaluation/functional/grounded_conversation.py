"""Masks and phrases of grounded conversations, as GLaMM's evaluation scores them.

Paper: Rasheed et al., "GLaMM: Pixel Grounding Large Multimodal Model", CVPR 2024, arXiv
2311.03356.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from .masks import rle_overlap

_ARTICLES = {"a", "an", "the"}
#: What two phrases must have in common, and two masks, to be a match.
TEXT_SIMILARITY, MASK_IOU = 0.5, 0.5
Similarity = Callable[[str, str], float]


def iou_matrix(first: Sequence[dict], second: Sequence[dict]) -> np.ndarray:
    """Return the IoU of all pairs of masks of one size; 0 of two without a pixel.

    Shape:
        - output: (len(first), len(second)), float64
    """
    found = np.zeros((len(first), len(second)))
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            inside, union = rle_overlap(one, other)
            found[row, column] = inside / union if union else 0.0
    return found


def paired_miou(ious: np.ndarray) -> float:
    """Return the mean IoU of masks paired one to one, the best pair first.

    Masks without a partner that they overlap are in no pair and take nothing from the
    mean, as in the official code; 0 without any pair.

    Shape:
        - ``ious``: (P, T)
    """
    ious, pairs = np.array(ious, dtype=np.float64), []
    while ious.size and ious.max() > 0:
        row, column = np.unravel_index(ious.argmax(), ious.shape)
        pairs.append(ious[row, column])
        ious = np.delete(np.delete(ious, row, axis=0), column, axis=1)
    return float(np.mean(pairs)) if pairs else 0.0


def count_matches(
    ious: np.ndarray,
    phrases: Sequence[str],
    said: Sequence[str],
    similarity: Similarity,
) -> int:
    """Return how many phrases are found: mask and words alike.

    Pairs are taken by falling IoU. As in the official code, the first one whose masks
    or words are too different ends the search, whatever comes after it.

    Args:
        ious (np.ndarray): see below.
        phrases (Sequence[str]): that are to be found.
        said (Sequence[str]): of the reply; masks beyond them have none.
        similarity (Callable): of two phrases, 0-1.

    Shape:
        - ``ious``: (T, P) of the masks of ``phrases`` and of the reply
    """
    ious, count = np.array(ious, dtype=np.float64), 0
    while ious.size and ious.max() >= MASK_IOU:
        row, column = np.unravel_index(ious.argmax(), ious.shape)
        words = said[column] if column < len(said) else ""
        if similarity(phrases[row], words) < TEXT_SIMILARITY:
            break
        count += 1
        ious[row, :], ious[:, column] = 0, 0
    return count


def shared_words(first: str, second: str) -> float:
    """Return the F1 of the words of two phrases, articles left out: 0-1."""
    one, other = (
        set(re.findall(r"\w+", text.lower())) - _ARTICLES for text in (first, second)
    )
    both = len(one & other)
    return 2 * both / (len(one) + len(other)) if both else 0.0
