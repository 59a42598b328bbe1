"""GQA: exact accuracy and the further numbers of its evaluator.

Source: GQA eval.py (copy in SHI-Labs/VCoder: playground/data/eval/gqa/data/eval);
haotian-liu/LLaVA: scripts/convert_gqa_for_eval.py.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

# A reasoning step that only asks for existence or a name does not count.
_NO_STEP = ("exist", "query: name", "choose name")
# What is allowed as an answer to "what do they have in common?".
_COMMON = ("color", "material", "shape")


def gqa_answer(text: str) -> str:
    """Return what is compared: the text without final periods, in lower case."""
    return text.rstrip(".").lower()


def count_steps(semantic: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of reasoning steps of a question's ``semantic`` list."""
    steps = [f"{step['operation']}: {step['argument']}" for step in semantic]
    return sum(not any(name in step for name in _NO_STEP) for step in steps)


def gqa_scores(
    questions: Mapping[str, Mapping[str, Any]],
    predictions: Mapping[str, str],
    choices: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    consistency: bool = False,
) -> dict[str, Any]:
    """Return all numbers of the GQA evaluator over balanced questions.

    Args:
        questions (Mapping): question id to its entry in the official file:
            ``question``, ``answer``, ``isBalanced``, ``types``, ``groups``,
            ``semantic`` and, for consistency, ``entailed``.
        predictions (Mapping): question id to converted answer, for every question.
        choices (Mapping | None): question id to ``valid`` and ``plausible`` answers;
            without it both scores are 0.
        consistency (bool): whether to score what right answers entail.

    Returns:
        dict: percentages ``accuracy``, ``binary``, ``open``, ``validity``,
        ``plausibility``, ``distribution`` (chi-square / 100, lower is better),
        ``consistency`` if asked for, and for each of ``structural``, ``semantic``,
        ``steps`` and ``words`` a dict of value to (percent, number of questions).

    Raises:
        KeyError: naming questions without a prediction.
    """
    if missing := [key for key in questions if key not in predictions]:
        raise KeyError(f"{len(missing)} questions have no prediction: {missing[:5]}")
    scores: dict[str, list[float]] = defaultdict(list)
    tables: dict[str, dict[str, list[float]]] = {
        name: defaultdict(list) for name in ("structural", "semantic", "steps", "words")
    }
    gold: dict[str, Counter] = defaultdict(Counter)
    predicted: dict[str, Counter] = defaultdict(Counter)
    for key, question in questions.items():
        if not question.get("isBalanced", True):
            continue
        answer, right = predictions[key], predictions[key] == question["answer"]
        types = question["types"]
        scores["accuracy"].append(right)
        scores["open" if types["structural"] == "query" else "binary"].append(right)
        for name, value in (
            ("structural", types["structural"]),
            ("semantic", types["semantic"]),
            ("steps", str(count_steps(question["semantic"]))),
            ("words", str(len(question["question"].split()))),
        ):
            tables[name][value].append(right)
        for name, kind in (("validity", "valid"), ("plausibility", "plausible")):
            allowed = choices[key][kind] if choices is not None else ()
            if choices is not None and "Common" in types.get("detailed", ""):
                allowed = _COMMON
            scores[name].append(answer in allowed)
        if (group := question["groups"]["global"]) is not None:
            gold[group][question["answer"]] += 1
            predicted[group][answer] += 1
        others = [other for other in question.get("entailed", ()) if other != key]
        if consistency and right and others:
            hits = [predictions[o] == questions[o]["answer"] for o in others]
            scores["consistency"].append(sum(hits) / len(hits))
    names = ["accuracy", "binary", "open", "validity", "plausibility"]
    result: dict[str, Any] = {
        name: _percent(scores[name]) for name in names + ["consistency"] * consistency
    }
    result["distribution"] = _chi_square(gold, predicted) / 100
    for name, table in tables.items():
        result[name] = {
            value: (_percent(rows), len(rows)) for value, rows in sorted(table.items())
        }
    return result


def _percent(scores: Sequence[float]) -> float:
    return 100.0 * sum(scores) / len(scores) if scores else 0.0


def _chi_square(gold: Mapping[str, Counter], predicted: Mapping[str, Counter]) -> float:
    """Return the distance of two answer distributions, groups weighted by size."""
    total = weight = 0.0
    for group, counts in gold.items():
        size = sum(counts.values())
        score = sum((predicted[group][a] - n) ** 2 / n for a, n in counts.items())
        total, weight = total + score * size, weight + size
    return total / weight if weight else 0.0
