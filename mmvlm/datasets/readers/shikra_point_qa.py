"""Reader of PointQA as Shikra's files have it: a question about one box."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.datasets.io.annotation_files import InstanceList, need, need_text
from mmvlm.datasets.io.jsonl import JSONLines
from mmvlm.registry import DATASETS
from mmvlm.structures import AnnotatedImage, VisualQuestion

#: Which question of a record is asked, and its field.
QUESTIONS = {
    "plain": "question",
    "object": "obj_question",
    "super": "super_question",
    "general": "general_question",
}


@DATASETS.register_module()
class ShikraPointQADataset(AnnotatedImageDataset):
    """Local and Look-Twice questions (``pointQA_local_train.jsonl``).

    A line is ``{"file_path": "1.jpg", "question": "What colour is it?", "answer":
    "red", "bbox": [x1, y1, x2, y2], "point": [x, y]}``; Look-Twice has its question in
    three wordings, ``obj_question``, ``super_question`` and ``general_question``. The
    instance is the box; its ``meta["point"]`` is the file's point.

    Source: github.com/shikras/shikra. Paper: Mani et al., "Point and Ask:
    Incorporating Pointing into Visual Question Answering", 2020, arXiv 2011.13681.

    Args:
        ann_file (str): see above.
        asks (str): ``plain`` for local questions; ``object``, ``super`` or ``general``
            for Look-Twice.
        **kwargs: see :class:`AnnotatedImageDataset`.

    Raises:
        ValueError: for another ``asks``, or a file that cannot be read, naming it.
    """

    default_task: ClassVar[dict] = dict(type="PointQA")

    def __init__(self, ann_file: str, *, asks: str = "plain", **kwargs: Any) -> None:
        if asks not in QUESTIONS:
            raise ValueError(
                f"ShikraPointQADataset: asks='{asks}', expected one of "
                f"{list(QUESTIONS)}."
            )
        self.asks = asks
        super().__init__(ann_file, **kwargs)

    def _row_options(self) -> dict:
        return dict(asks=self.asks)

    def _flatten(self) -> Iterator[dict]:
        lines = JSONLines(self.ann_file)
        for number in range(len(lines)):
            line = lines[number]
            try:
                if line.reason is not None:
                    raise ValueError(line.reason)
                record = line.value
                yield dict(
                    id=str(number),
                    image=need_text(record, "file_path"),
                    question=need_text(record, QUESTIONS[self.asks]),
                    answer=str(need(record, "answer", (str, int))),
                    box=need(record, "bbox", list),
                    point=record.get("point"),
                )
            except ValueError as error:
                yield damaged(f"line {line.number}", str(error))

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        instances = InstanceList(size, strict=True)
        index = instances.add(row["box"], meta=dict(point=row["point"]))
        question = VisualQuestion(
            row["question"], (row["answer"],), instances=(index,), id=row["id"]
        )
        return AnnotatedImage(
            row["image"],
            size,
            tuple(instances.items),
            questions=(question,),
            id=row["id"],
        )
