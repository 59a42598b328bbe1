"""BLEU, ROUGE-L and CIDEr of tokenised captions.

The numbers are those of pycocoevalcap 1.2, whose classes need a scorer per metric
and hide what resampling needs: the document frequencies, which are fixed here by
:class:`CiderFrequencies`. Tokens come from
:mod:`mmvlm.evaluation.functional.ptb`.

Papers: Papineni et al., "BLEU", ACL 2002; Lin, "ROUGE", 2004; Vedantam et al.,
"CIDEr", CVPR 2015, arXiv 1411.5726 (the variant with clipping and length penalty,
CIDEr-D).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mmvlm.evaluation.functional.intervals import ratio

ORDERS = 4
# Guards of pycocoevalcap: a perfect match is 1 - 4e-10, no match is not 0.
_TINY, _SMALL = 1e-15, 1e-9
_CIDER_SIGMA = 6.0
_ROUGE_BETA = 1.2


def ngrams(tokens: Sequence[str]) -> Counter:
    """Count the n-grams of orders 1 to 4."""
    return Counter(
        tuple(tokens[start : start + order])
        for order in range(1, ORDERS + 1)
        for start in range(len(tokens) - order + 1)
    )


def bleu_counts(hypothesis: str, references: Sequence[str]) -> np.ndarray:
    """Return what BLEU sums over a corpus.

    Returns:
        np.ndarray: (10,) clipped matches and guesses of orders 1 to 4, the length of
        the hypothesis and of the reference nearest in length.
    """
    tokens = hypothesis.split()
    found, lengths = ngrams(tokens), [len(ref.split()) for ref in references]
    allowed: Counter = Counter()
    for reference in references:
        allowed |= ngrams(reference.split())
    matches = np.zeros(ORDERS)
    for gram, count in (found & allowed).items():
        matches[len(gram) - 1] += count
    guesses = [max(0, len(tokens) - order) for order in range(ORDERS)]
    nearest = min((abs(n - len(tokens)), n) for n in lengths)[1]
    return np.array([*matches, *guesses, len(tokens), nearest], dtype=np.float64)


def bleu_of_counts(counts: np.ndarray) -> np.ndarray:
    """Return BLEU-1 to BLEU-4, (..., 4), of summed :func:`bleu_counts`, (..., 10)."""
    matches, guesses = counts[..., :ORDERS], counts[..., ORDERS : 2 * ORDERS]
    precisions = np.cumprod((matches + _TINY) / (guesses + _SMALL), axis=-1)
    scores = precisions ** (1 / np.arange(1, ORDERS + 1))
    length = (counts[..., -2] + _TINY) / (counts[..., -1] + _SMALL)
    return scores * np.exp(1 - 1 / np.minimum(length, 1.0))[..., None]


def rouge_l(hypothesis: str, references: Sequence[str]) -> float:
    """Return ROUGE-L, 0-1: precision and recall are each the best of the references."""
    tokens = hypothesis.split(" ")
    others = [reference.split(" ") for reference in references]
    common = [_common_length(tokens, other) for other in others]
    precision = max(common) / len(tokens)
    recall = max(n / len(other) for n, other in zip(common, others, strict=True))
    if not precision or not recall:
        return 0.0
    square = _ROUGE_BETA**2
    return (1 + square) * precision * recall / (recall + square * precision)


def _common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for a in first:
        corner = 0
        for j, b in enumerate(second, 1):
            corner, row[j] = (
                row[j],
                corner + 1 if a == b else max(row[j], row[j - 1]),
            )
    return row[-1]


class CiderFrequencies:
    """Document frequencies of the references of one set, and CIDEr under them.

    A document is an image with all its references. Frequencies of a set stay fixed
    where its images are resampled; scoring a subset on its own changes them.

    Args:
        references (Sequence[Sequence[str]]): references of each image, tokens
            joined by blanks.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        self.counts: Counter = Counter()
        for image in references:
            self.counts.update({g for ref in image for g in ngrams(ref.split())})
        self.log_size = math.log(float(len(references))) if references else 0.0

    def weigh(self, text: str) -> tuple[list[dict], np.ndarray, int]:
        """Return tf-idf by order, its norms and the number of bigrams of a caption."""
        grams = ngrams(text.split())
        weights: list[dict] = [{} for _ in range(ORDERS)]
        for gram, count in grams.items():
            idf = self.log_size - math.log(max(1.0, self.counts[gram]))
            weights[len(gram) - 1][gram] = count * idf
        norms = np.sqrt([sum(w * w for w in order.values()) for order in weights])
        return weights, norms, max(0, len(text.split()) - 1)

    def score(self, hypothesis: str, references: Sequence[str]) -> float:
        """Return CIDEr of one image, 0-10."""
        found, norms, length = self.weigh(hypothesis)
        total = 0.0
        for weights, other_norms, other_length in map(self.weigh, references):
            # In the caption's order: sums in another one differ in the last digit.
            dots = [
                sum(min(own[g], theirs[g]) * theirs[g] for g in own if g in theirs)
                for own, theirs in zip(found, weights, strict=True)
            ]
            scale = norms * other_norms
            apart = length - other_length
            penalty = math.exp(-(apart**2) / (2 * _CIDER_SIGMA**2))
            # Without a norm the product stays as it is: 0.
            total += float(np.mean(ratio(dots, scale))) * penalty
        return 10.0 * total / len(references)
