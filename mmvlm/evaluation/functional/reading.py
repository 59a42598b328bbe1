"""Text in images: OCRBench, ANLS of DocVQA and InfoVQA, relaxed ChartQA.

Sources: Yuliang-Liu/MultimodalOCR: OCRBench/example.py; the evaluation script of the
Robust Reading Competition (DocVQA); google-research/pix2struct:
pix2struct/metrics.py, after Masry et al., "ChartQA", 2022, arXiv 2203.10244.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Recognition types of OCRBench and the short names of all its parts.
RECOGNITION = (
    "Regular Text Recognition",
    "Irregular Text Recognition",
    "Artistic Text Recognition",
    "Handwriting Recognition",
    "Digit String Recognition",
    "Non-Semantic Text Recognition",
)
OCRBENCH_PARTS = {
    "recog": RECOGNITION,
    "vqa_s": ("Scene Text-centric VQA",),
    "vqa_d": ("Doc-oriented VQA",),
    "kie": ("Key Information Extraction",),
    "hmer": ("Handwritten Mathematical Expression Recognition",),
}
ANLS_THRESHOLD = 0.5


def ocrbench_hit(text: str, answers: Sequence[str], dataset_name: str) -> bool:
    """Tell whether the text contains one of the answers.

    Blanks are deleted and the case kept for handwritten formulas (``HME100k``); else
    the case is dropped.
    """

    def clean(part: str) -> str:
        if dataset_name == "HME100k":
            return part.strip().replace("\n", " ").replace(" ", "")
        return part.lower().strip().replace("\n", " ")

    return any(clean(answer) in clean(text) for answer in answers)


def edit_distance(first: str, second: str) -> int:
    """Return the Levenshtein distance of two texts, in characters."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        corner, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            step = min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
            corner, row[j] = row[j], step
    return row[-1]


def anls(text: str, answers: Sequence[str]) -> float:
    """Return the normalised similarity to the nearest answer, 0 below 0.5.

    The distance is that of lower-case texts with single blanks; it is divided by the
    longer length before blanks are joined. A similarity of exactly 0.5 stays.
    """
    best = 0.0
    for answer in answers:
        longest = max(len(text), len(answer))
        clean = [" ".join(part.lower().split()) for part in (text, answer)]
        # The lengths alone may say that the answer is too far away.
        apart = abs(len(clean[0]) - len(clean[1]))
        if longest and apart / longest > 1 - ANLS_THRESHOLD:
            continue
        similarity = 1 - edit_distance(*clean) / longest if longest else 1.0
        best = max(best, similarity)
    return best if best >= ANLS_THRESHOLD else 0.0


def relaxed_match(text: str, answer: str, tolerance: float = 0.05) -> bool:
    """Tell whether a number is within the tolerance, or a text equal but for case.

    ``5%`` is 0.05. A target of 0 is compared as text.
    """
    text, answer = text.strip(), answer.strip()
    value, target = _number(text), _number(answer)
    if value is not None and target:
        return abs(value - target) / abs(target) <= tolerance
    return text.lower() == answer.lower()


def _number(text: str) -> float | None:
    try:
        if text.endswith("%"):
            return float(text.rstrip("%")) / 100
        return float(text)
    except ValueError:
        return None
