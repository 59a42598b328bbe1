"""Files for test servers, as a part of a benchmark's config."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmvlm.evaluation.functional.submissions import WRITERS
from mmvlm.evaluation.scorers.base import Record
from mmvlm.registry import SCORERS


@SCORERS.register_module()
class Submission:
    """Write answer records in the format that a test server takes; no reference needed.

    Args:
        format (str): ``vqav2``, ``vizwiz``, ``gqa``, ``seed``, ``mmbench``, ``mmvet``,
            ``mme`` or ``caption``.
        ids_file (str | None): file of all questions that the server expects answers
            to, for ``vqav2``: the official ``*_questions.json`` or JSON lines with
            ``question_id``. Default: the records' own.

    Raises:
        ValueError: naming the known formats, for another one.
    """

    def __init__(self, format: str, ids_file: str | None = None) -> None:
        if format not in WRITERS:
            raise ValueError(
                f"Submission: no format is named {format!r}; known are "
                f"{', '.join(WRITERS)}."
            )
        self.format, self.ids_file = format, ids_file

    def files(self, records: Sequence[Record]) -> dict[str, str | bytes]:
        """Return file name to content.

        Args:
            records (Sequence[dict]): answer records, in file order.

        Raises:
            ValueError: when the records answer questions that the server does not ask.
        """
        options = {} if self.ids_file is None else {"all_ids": self._read_ids()}
        return WRITERS[self.format](records, **options)

    def _read_ids(self) -> list[Any]:
        text = Path(self.ids_file).read_text(encoding="utf-8")
        try:
            rows = json.loads(text)["questions"]
        except ValueError:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        return [row["question_id"] for row in rows]
