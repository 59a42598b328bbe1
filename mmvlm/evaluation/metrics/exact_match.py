"""Exact match of answers, for any test set in LLaVA's format."""

from __future__ import annotations

from typing import Any

from mmvlm.evaluation.functional.text import contains, exact_match
from mmvlm.registry import METRICS

from .answers import AnswersMetric


@METRICS.register_module()
class ExactMatchMetric(AnswersMetric):
    """Fraction of answers equal to the truth once normalised.

    ``accuracy`` is strict; ``lenient`` counts answers that contain the truth as
    whole words; ``parse_failures`` counts empty answers; ``num`` all. With
    ``group_by`` the first two also per group, as in ``accuracy/colour``.

    Args:
        out_file (str | None): JSON lines of all answers; None writes none.
        group_by (str | None): key of the record that names the group.
        **kwargs: see :class:`AnswersMetric`.
    """

    default_prefix = "exact_match"

    def __init__(
        self,
        out_file: str | None = None,
        *,
        group_by: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(out_file, **kwargs)
        self.group_by = group_by

    def read_meta(self, sample: dict) -> dict[str, Any]:
        """Return the group, when there are groups."""
        if self.group_by is None:
            return {}
        meta = sample.get("meta") or {}
        if self.group_by not in meta:
            raise KeyError(
                f"ExactMatchMetric: group_by='{self.group_by}', but sample "
                f"'{sample['sample_id']}' of '{sample.get('dataset')}' has only "
                f"{sorted(meta)} beside its conversation."
            )
        return {self.group_by: meta[self.group_by]}

    def score(self, rows: list[dict]) -> tuple[list[dict], dict[str, float]]:
        """Return the judged rows and the metrics."""
        rows = [
            {
                **row,
                "strict": exact_match(row["pred"], row["gt"]),
                "lenient": contains(row["pred"], row["gt"]),
                "parsed": bool(row["pred"].strip()),
            }
            for row in rows
        ]
        metrics: dict[str, float] = dict(
            accuracy=_share(rows, "strict"),
            lenient=_share(rows, "lenient"),
            parse_failures=sum(not row["parsed"] for row in rows),
            num=len(rows),
        )
        groups: dict[str, list] = {}
        for row in rows if self.group_by else ():
            groups.setdefault(str(row[self.group_by]), []).append(row)
        for name, members in groups.items():
            metrics[f"accuracy/{name}"] = _share(members, "strict")
            metrics[f"lenient/{name}"] = _share(members, "lenient")
        return rows, metrics


def _share(rows: list[dict], key: str) -> float:
    return sum(row[key] for row in rows) / len(rows) if rows else 0.0
