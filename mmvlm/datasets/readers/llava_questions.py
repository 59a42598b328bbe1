"""Reader of LLaVA's question files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.io.annotation_files import need, need_text
from mmvlm.datasets.io.json_tables import key_of, others_of, record_of
from mmvlm.datasets.io.jsonl import JSONLines
from mmvlm.registry import DATASETS

from .questions import QuestionDataset


@DATASETS.register_module()
class LLaVAQuestionsDataset(QuestionDataset):
    """Questions in the wording of LLaVA's evaluation: any set of its ``eval.zip``.

    A line is ``{"question_id", "image", "text", "category"}``; ``text`` holds the whole
    wording, so the default task adds nothing. Without ``image`` it is text alone. Ids
    stand twice in some files (MME, TextVQA): those of later lines get the line's
    number in the sample's id.

    LLaVA-Bench and Ferret-Bench have two more files of lines: answers to compare with
    (``{"question_id", "text"}``, a sample's ``reference``) and contexts, what a judge
    that sees no image is told (``{"image" or "question_id", "caption" or "text"}``,
    ``meta['context']``). Paper: Liu et al., "Visual Instruction Tuning", NeurIPS 2023.

    Args:
        ann_file (str): the questions.
        answer_file (str | None): answers, by ``question_id``.
        context_file (str | None): contexts, by ``question_id`` or ``image``.
        **kwargs: see :class:`QuestionDataset`.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: naming a file that cannot be read.
    """

    default_task: ClassVar[dict] = dict(type="VisualQuestionAnswering")

    def __init__(
        self,
        ann_file: str,
        *,
        answer_file: str | None = None,
        context_file: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.answer_file, self.context_file = answer_file, context_file
        super().__init__(ann_file, **kwargs)

    def _sources(self) -> list[str]:
        beside = [file for file in (self.answer_file, self.context_file) if file]
        return [self.ann_file, *map(self._beside, beside)]

    def _row_options(self) -> dict:
        own = dict(answers=bool(self.answer_file), contexts=bool(self.context_file))
        return {**super()._row_options(), **own}

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        answers = self._keyed(self.answer_file, "question_id")
        contexts = self._keyed(self.context_file, "question_id", "image")
        seen: set[Any] = set()
        for line in JSONLines(self.ann_file):
            if line.reason is not None or not isinstance(line.value, dict):
                yield f"line {line.number}", line.reason or line.value
                continue
            raw, key = dict(line.value), line.value.get("question_id")
            name = str(key)
            if name in seen:
                name = f"{name}#{line.number}"
            seen.add(name)
            if answers is not None:
                raw["_answer"] = answers.get(str(key))
            if contexts is not None:
                places = (str(key), str(raw.get("image")))
                found = [contexts[place] for place in places if place in contexts]
                raw["_context"] = found[0] if found else None
            yield name, {**raw, "_name": name}

    def _keyed(self, file: str | None, *fields: str) -> dict[str, Any] | None:
        """Return the lines of a file by the first of these fields that they have."""
        if file is None:
            return None
        path, found = self._beside(file), {}
        for line in JSONLines(path):
            value = line.value if isinstance(line.value, dict) else {}
            keys = [field for field in fields if field in value]
            if not keys:
                raise ValueError(
                    f"'{path}': {line.reason or f'line {line.number}'} expected one of "
                    f"the fields {list(fields)}."
                )
            found[str(value[keys[0]])] = value
        return found

    def _entries(self, raw: Any) -> list[dict]:
        if isinstance(raw, str):
            raise ValueError(raw)
        raw = record_of(raw)
        meta = others_of(raw, "question_id", "image", "text", "_name")
        entry = dict(
            id=raw["_name"],
            question_id=key_of(raw, "question_id"),
            image=None if raw.get("image") is None else need_text(raw, "image"),
            question=need_text(raw, "text"),
        )
        files = dict(_answer=self.answer_file, _context=self.context_file)
        for field, name in files.items():
            if field in raw and not isinstance(meta.pop(field), dict):
                raise ValueError(f"'{name}' has nothing of it.")
        if "_answer" in raw:
            answer = need(raw["_answer"], "text", str)
            entry["answers"], meta["reference"] = [answer], answer
        if "_context" in raw:
            context = raw["_context"]
            field = "caption" if "caption" in context else "text"
            meta["context"] = need(context, field, (str, list))
        return [{**entry, "meta": meta}]
