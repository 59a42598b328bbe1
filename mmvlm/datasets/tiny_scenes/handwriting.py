"""Real handwritten digits, train and test writers apart.

scikit-learn bundles the 1797 test digits of UCI's "Optical Recognition of
Handwritten Digits", 8 x 8 pixels each, by 13 writers. The rows stand in the order
of the filled-in forms: every form starts with the fixed run ``0123456789`` three
times, then a fixed list of digits, so form borders can be read off the labels.
They lie at rows 0, 130, 256, 386, 516, 646, 776, 915, 1029, 1157, 1287, 1415, 1543
and 1667. The file does not name the writers; a writer with two forms (14 forms,
13 writers) is taken to have handed them in one after the other. Train uses the
forms before row 1287, test those from there on, so that no form and, as far as
the file tells, no writer is in both.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

#: First row of every form.
FORM_STARTS = (
    0, 130, 256, 386, 516, 646, 776, 915, 1029, 1157, 1287, 1415, 1543, 1667,
)  # fmt: skip
#: Rows before this one are for training, the others for testing.
FIRST_TEST_ROW = 1287


@lru_cache(maxsize=1)
def load() -> tuple[np.ndarray, np.ndarray]:
    """Return images (1797, 8, 8) float32 in 0-1 and labels (1797,) int64."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return (digits.images / 16).astype(np.float32), digits.target.astype(np.int64)


@lru_cache(maxsize=32)
def rows(digit: int, split: str) -> np.ndarray:
    """Return the rows that show ``digit`` in a split.

    Raises:
        ValueError: when the split is neither ``train`` nor ``test``.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split='{split}': expected 'train' or 'test'.")
    found = np.flatnonzero(load()[1] == digit)
    is_test = found >= FIRST_TEST_ROW
    return found[is_test if split == "test" else ~is_test]


def draw_row(digit: int, split: str, rng: np.random.Generator) -> int:
    """Draw one row that shows ``digit``."""
    choices = rows(digit, split)
    return int(choices[rng.integers(len(choices))])


@lru_cache(maxsize=2048)
def aspect(row: int) -> float:
    """Return width over height of the ink of one digit."""
    ink = load()[0][row] > 0.3
    columns, lines = np.flatnonzero(ink.any(0)), np.flatnonzero(ink.any(1))
    return float((columns[-1] - columns[0] + 1) / (lines[-1] - lines[0] + 1))
