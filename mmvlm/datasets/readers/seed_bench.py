"""Reader of SEED-Bench."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from mmvlm.datasets.io.annotation_files import need, need_text
from mmvlm.datasets.io.json_tables import key_of, load_table, others_of, record_of
from mmvlm.registry import DATASETS

from .questions import OPTION_LETTER, QuestionDataset

_FIELDS = ("choice_a", "choice_b", "choice_c", "choice_d")
_KINDS = ("image", "video")


@DATASETS.register_module()
class SEEDBenchDataset(QuestionDataset):
    """SEED-Bench: four choices about images, and about videos by one frame.

    ``SEED-Bench.json`` is ``{"question_type": {name: id}, "questions":
    [{"question_id", "question", "choice_a" ... "choice_d", "answer", "data_type",
    "data_id", "question_type_id", ...}]}``. ``meta['category']`` is the name of the
    type, ``meta['data_type']`` tells images from videos. Paper: Li et al.,
    "SEED-Bench: Benchmarking Multimodal LLMs with Generative Comprehension", arXiv
    2307.16125.

    Args:
        ann_file (str): annotation file.
        data_type (str | None): ``image`` or ``video``; None takes both.
        image_name (str): name of an image, with ``{image_id}`` (``data_id``).
        frame_name (str): of the frame of a video, with ``{image_id}``: the
            ``question_id``, as LLaVA's script names the middle frames.
        **kwargs: see :class:`QuestionDataset`.

    Raises:
        ValueError: for another ``data_type``; naming a file that cannot be read.
    """

    default_task: ClassVar[dict] = dict(type="MultipleChoice", suffix=OPTION_LETTER)
    default_image_name = "SEED-Bench-image/{image_id}"

    def __init__(
        self,
        ann_file: str,
        *,
        data_type: str | None = None,
        frame_name: str = "SEED-Bench-video-image/{image_id}.png",
        **kwargs: Any,
    ) -> None:
        if data_type not in (None, *_KINDS):
            raise ValueError(f"data_type={data_type!r}: expected one of {_KINDS}.")
        self.data_type, self.frame_name = data_type, frame_name
        super().__init__(ann_file, **kwargs)

    def _row_options(self) -> dict:
        own = dict(data_type=self.data_type, frame_name=self.frame_name)
        return {**super()._row_options(), **own}

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        table = load_table(self.ann_file, dict, "questions")
        names = table.get("question_type")
        if not isinstance(names, dict):
            raise ValueError(
                f"annotation file '{self.ann_file}': 'question_type' must be an object "
                f"of names and ids, got {names!r:.60}."
            )
        types = {str(number): name for name, number in names.items()}
        for number, raw in enumerate(table["questions"]):
            if not isinstance(raw, dict):
                yield number, raw
                continue
            kind = raw.get("data_type")
            if self.data_type and kind in _KINDS and kind != self.data_type:
                continue
            category = types.get(str(raw.get("question_type_id")))
            yield raw.get("question_id", number), {**raw, "category": category}

    def _entries(self, raw: Any) -> list[dict]:
        raw = record_of(raw)
        key, kind = key_of(raw, "question_id"), need_text(raw, "data_type")
        if kind not in _KINDS:
            raise ValueError(f"'data_type' must be one of {_KINDS}, got {kind!r:.40}.")
        if raw["category"] is None:
            raise ValueError(
                f"'question_type_id' {raw.get('question_type_id')!r:.40} is not among "
                "the types of the file."
            )
        choices = [need(raw, field, str) for field in _FIELDS]
        answer = need_text(raw, "answer")
        if answer not in "ABCD" or len(answer) != 1:
            raise ValueError(f"'answer' must be A, B, C or D, got {answer!r:.40}.")
        if kind == "image":
            image = self._image(key_of(raw, "data_id"))
        else:
            image = self.frame_name.format(image_id=key)
        return [
            dict(
                id=key,
                image=image,
                question=need_text(raw, "question"),
                choices=choices,
                choice=ord(answer) - ord("A"),
                meta=others_of(raw, "question_id", "question", "answer", *_FIELDS),
            )
        ]
