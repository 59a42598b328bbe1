"""Names of regions (LVIS referring classification)."""

from __future__ import annotations

from typing import Any, ClassVar

from mmvlm.evaluation.functional.region_naming import (
    names_region,
    names_region_loosely,
)
from mmvlm.registry import SCORERS

from .base import MeanScorer, Record, Verdict


@SCORERS.register_module()
class RegionNamingScorer(MeanScorer):
    """Share of regions whose class, or a synonym, the answer says, in percent.

    A record's ``reference`` is ``{"name", "synonyms"}`` as LVIS writes them;
    ``meta['kind']`` (``point``, ``box``, ``mask``) breaks the share down. Leniently,
    case does not count.

    Args:
        rule (str | None): ``ferret``, the only one.
        groups (Sequence[str] | None): see :class:`MeanScorer`.
    """

    rules: ClassVar[tuple[str, ...]] = ("ferret",)
    group_keys: ClassVar[tuple[str, ...]] = ("category", "kind")

    def reference_answer(self, record: Record) -> dict[str, Any]:
        """See :meth:`Scorer.reference_answer`."""
        return dict(text=record["reference"]["name"].replace("_", " "))

    def judge(self, record: Record) -> Verdict:
        """See :meth:`Scorer.judge`."""
        text, truth = record.get("text") or "", record["reference"]
        words = (text, truth["name"], truth.get("synonyms") or ())
        right = float(names_region(*words))
        return dict(
            score=right,
            strict=right,
            lenient=max(right, float(names_region_loosely(*words))),
            parsed=bool(text.strip()),
            prediction=text.strip() or None,
        )
