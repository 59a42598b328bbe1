"""Reader of Shikra's grounded reasoning: questions, thoughts and their boxes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.datasets.io.annotation_files import InstanceList, need, need_text
from mmvlm.datasets.io.jsonl import JSONLines
from mmvlm.registry import DATASETS
from mmvlm.structures import AnnotatedImage, Caption, VisualQuestion

from .shikra_flickr30k import grounded_text


@DATASETS.register_module()
class ShikraReasoningDataset(AnnotatedImageDataset):
    """Questions and grounded thoughts (``GPT4GEN_BoxCoT_train.jsonl``).

    A line is ``{"img_path": "1.jpg", "question": "What does <ph_st>the man<ph_ed>
    hold?", "question_boxes_seq": [[0]], "cot_with_ans": "<ph_st>The man<ph_ed> has a
    cup. The answer is a cup.", "answer_boxes_seq": [[0]], "answer": "a cup", "boxes":
    [[x1, y1, x2, y2], ...]}``: the n-th list of a sequence has the boxes of the n-th
    marked phrase. An annotation has two captions: the question and the thoughts.

    Source: github.com/shikras/shikra. Paper: Chen et al., "Shikra", 2023, arXiv
    2306.15195.

    Args:
        ann_file (str): see above.
        **kwargs: see :class:`AnnotatedImageDataset`.

    Raises:
        ValueError: for a file that cannot be read, naming it.
    """

    default_task: ClassVar[dict] = dict(type="GroundedReasoning")

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
                    image=need_text(record, "img_path"),
                    texts=[need_text(record, k) for k in ("question", "cot_with_ans")],
                    boxes=need(record, "boxes", list),
                    sequences=[
                        need(record, f"{name}_boxes_seq", list)
                        for name in ("question", "answer")
                    ],
                    answer=record.get("answer"),
                )
            except ValueError as error:
                yield damaged(f"line {line.number}", str(error))

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        instances = InstanceList(size)
        indices = [instances.add(box) for box in row["boxes"]]
        captions = tuple(
            Caption(*grounded_text(text, sequence, indices))
            for text, sequence in zip(row["texts"], row["sequences"], strict=True)
        )
        answers = (row["answer"],) if isinstance(row["answer"], str) else ()
        question = VisualQuestion(captions[0].text, answers, id=row["id"])
        return AnnotatedImage(
            row["image"],
            size,
            tuple(instances.items),
            captions=captions,
            questions=(question,),
            id=row["id"],
            meta=dict(instances.meta),
        )
