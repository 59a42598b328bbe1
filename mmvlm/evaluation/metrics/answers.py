"""What metrics of answers in words share: raw answers, their order, their file."""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmvlm.utils.files import write_atomic


class AnswersMetric(BaseMetric):
    """Keep raw answers, put them in order, write them, let a subclass score them.

    A row holds ``sample_id``, ``dataset``, ``index``, ``image`` (path of the first
    image or None), ``question``, ``gt``, ``pred`` and what :meth:`read_meta`
    adds.

    Args:
        out_file (str | None): JSON lines, one row per question; None writes none.
        collect_device (str): see mmengine.
        prefix (str | None): of the metrics' names; None takes the class's own.
        datasets (Sequence[str] | None): names of the datasets that it scores, where a
            test mixes questions of several kinds; None: all.
    """

    def __init__(
        self,
        out_file: str | None = None,
        *,
        collect_device: str = "cpu",
        prefix: str | None = None,
        datasets: Sequence[str] | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.out_file = out_file
        self.datasets = None if datasets is None else tuple(datasets)

    @abstractmethod
    def read_meta(self, sample: dict) -> dict[str, Any]:
        """Return further entries of a sample's row; raise KeyError when lacking."""

    @abstractmethod
    def score(self, rows: list[dict]) -> tuple[list[dict], dict[str, float]]:
        """Return the judged rows and the metrics."""

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep questions and raw answers.

        Args:
            data_batch (Any): not used.
            data_samples (Sequence[dict]): ``VLMDataSample`` as dicts; may be empty.

        Raises:
            KeyError: naming the sample, when it lacks an answer or what the metric
                needs to know about it.
        """
        for sample in data_samples:
            name = sample.get("dataset", "")
            if self.datasets is not None and name not in self.datasets:
                continue
            missing = {"sample_id", "index", "gt_text", "pred_text"} - set(sample)
            if not _is_answered(sample.get("conversation")):
                missing -= {"gt_text"}
            if missing:
                raise KeyError(
                    f"{type(self).__name__}: sample {sample.get('sample_id')!r} of "
                    f"'{sample.get('dataset')}' lacks {sorted(missing)}; the test "
                    "pipeline needs EncodeConversation(mode='generate')."
                )
            paths = sample.get("image_paths") or ()
            row = dict(
                sample_id=sample["sample_id"],
                dataset=name,
                index=int(sample["index"]),
                image=str(paths[0]) if paths else None,
                question=last_question(sample.get("conversation")),
                gt=sample.get("gt_text"),
                pred=sample["pred_text"],
            )
            if "finish" in sample:
                row["finish"] = sample["finish"]
            self.results.append({**row, **self.read_meta(sample)})

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Put rows in the order of the dataset, score and write them.

        Where several datasets are tested, every number is also given per set, as in
        ``accuracy/refcoco``.

        Rows without an answer (a public test split) are written, not scored;
        ``unanswered`` counts them.

        Raises:
            ValueError: for a dataset to be scored of which there is no sample.
        """
        rows = sorted(results, key=lambda row: (row["dataset"], row["index"]))
        found = {row["dataset"] for row in rows}
        if not found.issuperset(self.datasets or ()):
            raise ValueError(
                f"{type(self).__name__}: datasets={list(self.datasets)}, but answers "
                f"are of {sorted(found)}; take the names of the test's data sets."
            )
        bare = [row for row in rows if not (row["gt"] or "").strip()]
        if not bare:
            rows, metrics = self._scored(rows)
        else:
            known = [row for row in rows if (row["gt"] or "").strip()]
            scored, metrics = self._scored(known) if known else ([], {})
            metrics["unanswered"] = len(bare)
            rows = sorted(
                [*scored, *bare], key=lambda row: (row["dataset"], row["index"])
            )
            print_log(
                f"{type(self).__name__}: {len(bare)} of {len(rows)} questions have no "
                "answer to compare with and are not scored; predictions are in "
                f"{self.out_file or 'no file (set out_file)'}.",
                logger="current",
                level=logging.WARNING,
            )
        if self.out_file is not None:
            write_json_lines(self.out_file, rows)
        return metrics

    def _scored(self, rows: list[dict]) -> tuple[list[dict], dict[str, float]]:
        """Score all rows, and those of every dataset where there are several."""
        judged, metrics = self.score(rows)
        names = sorted({row["dataset"] for row in rows})
        for name in names if len(names) > 1 else ():
            own = self.score([row for row in rows if row["dataset"] == name])[1]
            metrics.update({f"{key}/{name}": value for key, value in own.items()})
        return judged, metrics


def _is_answered(conversation: Any) -> bool:
    """Whether the last turn is an answer; also when there is no conversation."""
    turns = getattr(conversation, "turns", None)
    return not turns or turns[-1].role != "user"


def last_question(conversation: Any) -> str:
    """Return the text of the last user turn; empty when there is none."""
    turns = getattr(conversation, "turns", ())
    questions = [turn.text for turn in turns if turn.role == "user"]
    return questions[-1].strip() if questions else ""


def write_json_lines(path: str, rows: Sequence[dict]) -> None:
    """Write one JSON object per line; the file appears only when whole."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(path, text)
