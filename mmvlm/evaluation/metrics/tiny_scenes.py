"""TinyScenes: accuracy per task, strict and lenient."""

from __future__ import annotations

from typing import Any

from mmengine.logging import print_log

from mmvlm.evaluation.functional.tiny_scenes import aggregate, score_rows
from mmvlm.registry import METRICS
from mmvlm.utils.text_table import text_table

from .answers import AnswersMetric


@METRICS.register_module()
class TinyScenesMetric(AnswersMetric):
    """Score answers to TinyScenes questions.

    The numbers are ``accuracy`` (strict), ``lenient`` and ``majority``, fractions
    0-1, each also per task as in ``accuracy/colour``; ``parse_failures`` and
    ``num`` count answers. Where tasks have groups, ``accuracy_fine`` and so on are
    the accuracies of groups. All stand behind ``tiny_scenes/``.

    Args:
        out_file (str | None): JSON lines with question, ``gt``, ``pred`` and
            judgement of every sample; None writes none.
        **kwargs: see :class:`AnswersMetric`.
    """

    default_prefix = "tiny_scenes"

    def read_meta(self, sample: dict) -> dict[str, Any]:
        """Return ``task``, ``form``, ``group`` if any; ``box``, ``size`` of boxes."""
        meta = sample.get("meta") or {}
        missing = {"task", "form"} - set(meta)
        if meta.get("form") == "box":
            missing |= {"box", "size"} - set(meta)
        if missing:
            raise KeyError(
                f"TinyScenesMetric: sample '{sample['sample_id']}' of "
                f"'{sample.get('dataset')}' lacks {sorted(missing)} in its record; is "
                "it from the test.json of make_tiny_scenes.py?"
            )
        keys = ("task", "form", "group", "box", "size")
        return {key: meta[key] for key in keys if key in meta}

    def score(self, rows: list[dict]) -> tuple[list[dict], dict[str, float]]:
        """Return the judged rows and the metrics; log the table."""
        rows = score_rows(rows)
        table = aggregate(rows)
        print_log("TinyScenes\n" + format_table(table), logger="current")
        overall = table.pop("overall")
        metrics = dict(
            accuracy=overall["strict"],
            lenient=overall["lenient"],
            majority=overall["majority"],
            parse_failures=overall["parse_failures"],
            num=overall["num"],
        )
        for group in sorted({row["group"] for row in rows if "group" in row}):
            members = [row["strict"] for row in rows if row.get("group") == group]
            metrics[f"accuracy_{group}"] = sum(members) / len(members)
        for task, line in table.items():
            metrics[f"accuracy/{task}"] = line["strict"]
            metrics[f"lenient/{task}"] = line["lenient"]
            metrics[f"majority/{task}"] = line["majority"]
            metrics[f"parse_failures/{task}"] = line["parse_failures"]
        return rows, metrics


def format_table(table: dict[str, dict[str, float]]) -> str:
    """Return the result of ``aggregate`` as aligned text, in percent."""
    lines = [("task", "num", "strict", "lenient", "majority", "unparsed")]
    for task, line in table.items():
        shares = (f"{line[key]:.1%}" for key in ("strict", "lenient", "majority"))
        lines.append((task, line["num"], *shares, line["parse_failures"]))
    return text_table(lines)
