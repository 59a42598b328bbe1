"""TinyScenes: accuracy per task, strict and lenient, raw answers kept."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmvlm.evaluation.functional.tiny_scenes import summarise
from mmvlm.registry import METRICS


@METRICS.register_module()
class TinyScenesMetric(BaseMetric):
    """Score answers to TinyScenes questions.

    Args:
        out_file (str | None): JSON lines with every question, answer, prediction
            and judgement; None writes none.
        collect_device (str): see mmengine.
        prefix (str | None): of the metrics' names.

    """

    default_prefix = "tiny_scenes"

    def __init__(
        self,
        out_file: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.out_file = out_file

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep questions and raw answers.

        Args:
            data_batch (Any): not used.
            data_samples (Sequence[dict]): ``VLMDataSample`` as dicts, whose
                ``meta`` holds ``task`` and ``form``.

        Raises:
            KeyError: naming the sample, when it lacks them.

        """
        for sample in data_samples:
            meta = sample.get("meta") or {}
            missing = {"task", "form"} - set(meta)
            if missing:
                raise KeyError(
                    f"TinyScenesMetric: sample '{sample.get('sample_id')}' of "
                    f"'{sample.get('dataset')}' lacks {sorted(missing)}; is it a "
                    "TinyScenes test file?"
                )
            row = dict(
                id=sample.get("sample_id"),
                image=_image(sample),
                task=meta["task"],
                form=meta["form"],
                question=_question(sample),
                answer=sample["gt_text"],
                prediction=sample["pred_text"],
            )
            row.update({k: meta[k] for k in ("box", "size") if k in meta})
            self.results.append(row)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Return ``accuracy`` and its kin, and the accuracy of every task.

        Fractions 0-1; ``parse_failures`` is a number of answers.
        """
        table = summarise(results)
        if self.out_file is not None:
            os.makedirs(os.path.dirname(self.out_file) or ".", exist_ok=True)
            with open(self.out_file, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in results)
        print_log("TinyScenes\n" + format_table(table), logger="current")
        total = table["all"]
        metrics = dict(
            accuracy=total["strict"],
            lenient=total["lenient"],
            majority=total["majority"],
            parse_failures=total["failures"],
            questions=total["number"],
        )
        for task, line in table.items():
            if task != "all":
                metrics[task] = line["strict"]
        return metrics


def format_table(table: dict[str, dict[str, float]]) -> str:
    """Return the result of :func:`summarise` as aligned text, in percent."""
    lines = [f"{'task':<12}{'number':>8}{'strict':>9}{'lenient':>9}{'majority':>10}"]
    lines[0] += f"{'unparsed':>10}"
    for task, line in table.items():
        lines.append(
            f"{task:<12}{line['number']:>8}{100 * line['strict']:>9.1f}"
            f"{100 * line['lenient']:>9.1f}{100 * line['majority']:>10.1f}"
            f"{line['failures']:>10}"
        )
    return "\n".join(lines)


def _question(sample: dict) -> str:
    """Return the last question of the conversation."""
    turns = getattr(sample.get("conversation"), "turns", [])
    asked = [turn.text for turn in turns if turn.role == "user"]
    return asked[-1].strip() if asked else ""


def _image(sample: dict) -> str | None:
    paths = sample.get("image_paths") or ()
    return str(paths[0]) if paths else None
