"""Yes or no: POPE, MME and HallusionBench.

Sources: haotian-liu/LLaVA: llava/eval/eval_pope.py; the MME eval_tool's
calculation.py; open-compass/VLMEvalKit: vlmeval/dataset/utils/yorn.py.

A reader maps any text to ``yes``, ``no`` or None for neither.
"""

from __future__ import annotations

import numpy as np

from mmvlm.evaluation.functional.intervals import ratio
from mmvlm.evaluation.functional.vqa import process_punctuation

PERCEPTION = (
    *("existence", "count", "position", "color", "posters"),
    *("celebrity", "scene", "landmark", "artwork", "OCR"),
)
COGNITION = (
    *("commonsense_reasoning", "numerical_calculation"),
    *("text_translation", "code_reasoning"),
)


def read_pope(text: str) -> str:
    """Answer no if the first sentence has a word No, no or not, else yes.

    Blanks alone part words, so that ``no`` before a line end is not seen; an empty
    answer is yes.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def read_first_letters(text: str) -> str | None:
    """Look for yes, then no, in the first four characters, as MME does."""
    start = text.lower()[:4]
    return next((word for word in ("yes", "no") if word in start), None)


def read_words(text: str) -> str | None:
    """Accept the one of yes and no that is a word, as VLMEvalKit does."""
    words = set(process_punctuation(text.lower()).split()) & {"yes", "no"}
    return words.pop() if len(words) == 1 else None


def read_exact_word(text: str) -> str | None:
    """Accept nothing but yes or no in any case, as lmms-eval does for POPE."""
    word = text.strip().lower()
    return word if word in ("yes", "no") else None


READERS = {
    "pope": read_pope,
    "mme": read_first_letters,
    "vlmevalkit": read_words,
    "lmms_eval": read_exact_word,
}


def confusion(label: str, predicted: str) -> tuple[int, int, int, int]:
    """Return (TP, FP, TN, FN) of one item, yes being positive."""
    right = label == predicted
    place = {("yes", True): 0, ("yes", False): 1, ("no", True): 2, ("no", False): 3}
    cell = place[predicted, right]
    return tuple(int(cell == i) for i in range(4))


def binary_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return accuracy, precision, recall, F1 and yes ratio, 0-1.

    A quotient whose divisor is 0 is 0.

    Args:
        counts (np.ndarray): (..., 4) of TP, FP, TN, FN.
    """
    tp, fp, tn, fn = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    total, precision, recall = tp + fp + tn + fn, ratio(tp, tp + fp), ratio(tp, tp + fn)
    return dict(
        acc=ratio(tp + tn, total),
        precision=precision,
        recall=recall,
        f1=ratio(2 * precision * recall, precision + recall),
        yes_ratio=ratio(tp + fp, total),
    )


def independent(counts: np.ndarray) -> np.ndarray:
    """Return counts of answers with the same share of yes, blind to the labels.

    Args:
        counts (np.ndarray): (..., 4) of TP, FP, TN, FN.

    Returns:
        np.ndarray: (..., 4) float64, with the same numbers of labels.
    """
    tp, fp, tn, fn = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    share = ratio(tp + fp, tp + fp + tn + fn)
    yes, no = tp + fn, fp + tn
    cells = (share * yes, share * no, (1 - share) * no, (1 - share) * yes)
    return np.stack(cells, axis=-1)
