"""Reader of MMMU."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.io.annotation_files import need, need_text
from mmvlm.datasets.io.arrow_rows import ArrowRows
from mmvlm.datasets.io.file_patterns import expand_files
from mmvlm.registry import DATASETS
from mmvlm.structures import Conversation

from .questions import QuestionDataset

_IMAGES = tuple(f"image_{number}" for number in range(1, 8))
_TAKES = ("first", "all")


@DATASETS.register_module()
class MMMUDataset(QuestionDataset):
    """MMMU: college questions in 30 subjects, with choices or open.

    Parquet files, one per subject and split (``<Subject>/validation-00000-of-00001``),
    with the columns ``id`` (``validation_<Subject>_<number>``), ``question``,
    ``options`` (a list, as text), ``answer`` (a letter, a text, or a list as text),
    ``question_type``, ``image_1`` to ``image_7``, ``subfield``, ... ``<image 1>`` in a
    question stays as it is. ``meta['category']`` is the subject. Paper: Yue et al.,
    "MMMU: A Massive Multi-discipline Multimodal Understanding and Reasoning Benchmark",
    CVPR 2024.

    Args:
        ann_file (str): pattern of the files, see :func:`expand_files`.
        images (str): ``first`` shows ``image_1`` alone, as the scripts of LLaVA do;
            ``all`` shows all, in order.
        **kwargs: see :class:`QuestionDataset`.

    Raises:
        FileNotFoundError: when no file is found.
        ValueError: for another ``images``; naming a file that cannot be read.
    """

    default_task: ClassVar[dict] = dict(
        type="ChoicesOrWords",
        choices=dict(
            type="MultipleChoice",
            prompts=["{question}\n"],
            option="({letter}) {choice}",
            suffix=(
                "\n\nAnswer with the option's letter from the given choices directly."
            ),
        ),
        words=dict(
            type="VisualQuestionAnswering",
            suffix="\nAnswer the question using a single word or phrase.",
        ),
    )

    def __init__(self, ann_file: str, *, images: str = "first", **kwargs: Any) -> None:
        if images not in _TAKES:
            raise ValueError(f"images={images!r}: expected one of {_TAKES}.")
        self.images = images
        root = kwargs.get("data_root") or ""
        names = expand_files(root, ann_file, (".parquet",))
        self.files = [os.path.join(root, name) for name in names]
        self._table: ArrowRows | None = None
        kwargs.setdefault("name", "mmmu")
        super().__init__(names[0], **kwargs)
        self.ann_file = os.path.join(root, ann_file)

    def _sources(self) -> list[str]:
        return self.files

    def _row_options(self) -> dict:
        return {**super()._row_options(), "images": self.images}

    @property
    def _rows_of_files(self) -> ArrowRows:
        if self._table is None:
            self._table = ArrowRows(self.files)
        return self._table

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        rows = self._rows_of_files
        images = [name for name in _IMAGES if name in rows.schema.names]
        missing = {"id", "question", "options", "answer"} - set(rows.schema.names)
        if missing:
            raise ValueError(
                f"'{self.files[0]}': no columns {sorted(missing)}; it has "
                f"{rows.schema.names}."
            )
        texts = [name for name in rows.schema.names if name not in _IMAGES]
        columns = [*texts, *map(rows.leaf_of, images)]
        for number in range(len(rows)):
            try:
                cells = rows.cells(number, columns)
                raw = {name: cells[name].as_py() for name in texts}
            except ValueError as error:
                yield number, error
                continue
            shown = [name for name in images if cells[name].is_valid]
            raw["_images"] = [f"{number}#{name}" for name in shown]
            yield raw["id"], raw

    def _entries(self, raw: Any) -> list[dict]:
        if isinstance(raw, ValueError):
            raise raw
        images = raw["_images"][: 1 if self.images == "first" else None]
        key, answer = need_text(raw, "id"), need(raw, "answer", str)
        choices = _texts(need(raw, "options", str), "options") or []
        parts = key.split("_")
        meta = {
            name: value
            for name, value in raw.items()
            if name not in ("id", "question", "options", "answer", "_images")
        }
        if bare := [name for name, value in meta.items() if isinstance(value, bytes)]:
            raise ValueError(f"{bare} hold bytes, expected text.")
        meta |= dict(
            category="_".join(parts[1:-1]) or key, num_images=len(raw["_images"])
        )
        entry = dict(
            id=key,
            image=(images[0] if len(images) == 1 else images) if images else None,
            question=need_text(raw, "question"),
        )
        hidden = answer in ("", "?")
        if choices:
            entry["choices"] = choices
            if not hidden:
                place = ord(answer) - ord("A") if len(answer) == 1 else -1
                if not 0 <= place < len(choices):
                    raise ValueError(
                        f"'answer' is {answer!r:.40}, with {len(choices)} options."
                    )
                entry["choice"] = place
        elif not hidden:
            entry["answers"] = _texts(answer, "answer") or [answer]
            meta["reference"] = entry["answers"] if answer[:1] == "[" else answer
        return [{**entry, "meta": meta}]

    def _conversation(self, record: dict, images: list, rng: Any) -> Conversation:
        shown = [self._content(reference) for reference in images]
        return super()._conversation(record, shown, rng)

    def _content(self, reference: str) -> bytes:
        number, _, column = reference.partition("#")
        value = self._rows_of_files.cells(int(number), [column])[column].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise ValueError(f"'{column}' holds {value!r:.60}, expected encoded bytes.")
        return content


def _texts(value: str, field: str) -> list[str] | None:
    """Return the texts of a Python list; None for a text that is none."""
    if not value.startswith("["):
        if field == "options" and value:
            raise ValueError(f"'{field}' must be a list, got {value!r:.60}.")
        return None
    try:
        items = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        if field == "answer":
            return None
        raise ValueError(f"'{field}' is no list: {value!r:.60}.") from error
    if not isinstance(items, list) or not all(isinstance(x, str) for x in items):
        raise ValueError(f"'{field}' must be a list of texts, got {value!r:.60}.")
    return items
