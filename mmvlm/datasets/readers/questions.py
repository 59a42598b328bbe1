"""What readers of questions about images share."""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.structures import AnnotatedImage, VisualQuestion

#: What LLaVA-1.5 writes behind questions, by the kind of answer that is wanted.
SHORT_ANSWER = "Answer the question using a single word or phrase."
OPTION_LETTER = "Answer with the option's letter from the given choices directly."
_GROUPS = ("question", "image")
#: Fields of an entry that :class:`VisualQuestion` has, but for its id and meta.
_LISTS = ("answers", "choices")


class QuestionDataset(AnnotatedImageDataset):
    """Reader of questions with answers; one sample per question or per image.

    Subclasses yield raw records (:meth:`_records_of_file`) and turn one into entries
    (:meth:`_entries`). An entry is ``id``, ``image`` (path, list of them or None),
    ``question`` and what else :class:`VisualQuestion` has, and ``question_id`` where
    the file's own is not ``id``. A record that cannot be used becomes a damaged row in
    its place.

    A sample's ``meta`` has ``question_id`` in the file's type, ``question`` as the file
    has it, ``answers`` (all of them, blank ones too, which nothing is trained on) and
    ``choices``.

    The size of the image is given where the file has it: no question needs it, and
    the image is not opened for it.

    mmpretrain's classes of the same sets are not used: they keep the whole file as
    Python objects in every worker, choose one answer when the file is read, and give
    samples of their own that carry neither turns nor choices.

    Args:
        ann_file (str): annotation file, relative to ``data_root``.
        group (str): ``question`` makes a sample of every question; ``image`` one of
            all questions about an image, in the file's order, as LLaVA-1.5 merges
            them into one dialogue (all of them are in memory while rows are made).
        rotate_choices (bool): every question with k choices becomes k samples, the
            choices moved on by one each time, as LLaVA-1.5 does for A-OKVQA.
        image_name (str | None): name of an image, with ``{image_id}``, for instance
            ``COCO_train2014_{image_id:012d}.jpg``; None takes the format's own.
        **kwargs: see :class:`AnnotatedImageDataset`.

    Raises:
        ValueError: for an unknown ``group`` or an ``image_name`` that is no pattern.
    """

    default_task: ClassVar[dict] = dict(
        type="VisualQuestionAnswering", suffix=SHORT_ANSWER
    )
    #: Name of an image when the config gives none.
    default_image_name: ClassVar[str | None] = None
    row_version = 2

    def __init__(
        self,
        ann_file: str,
        *,
        group: str = "question",
        rotate_choices: bool = False,
        image_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if group not in _GROUPS:
            raise ValueError(f"group={group!r}: expected one of {list(_GROUPS)}.")
        self.group = group
        self.rotate_choices = bool(rotate_choices)
        self.image_name = image_name or self.default_image_name
        if self.image_name is not None:
            fill_image_name(self.image_name, 1)
        super().__init__(ann_file, **kwargs)

    # What a format defines ------------------------------------------------

    @abstractmethod
    def _records_of_file(self) -> Iterable[tuple[Any, Any]]:
        """Yield (id, raw record); the id names the record when it is damaged.

        Raises:
            ValueError: naming the file, when it cannot be read at all.
        """

    @abstractmethod
    def _entries(self, raw: Any) -> list[dict]:
        """Return the questions of a record.

        Raises:
            ValueError: naming the field, when the record is damaged.
        """

    # Rows -------------------------------------------------------------------

    def _row_options(self) -> dict:
        return dict(
            group=self.group,
            rotate_choices=self.rotate_choices,
            image_name=self.image_name,
        )

    def _beside(self, file: str) -> str:
        """Return the full path of a second file of the set.

        Raises:
            FileNotFoundError: when it is missing.
        """
        path = os.path.join(self.data_root, file)
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"dataset '{self.name}': annotation file '{path}' does not exist "
                f"(data_root='{self.data_root}')."
            )
        return path

    def _flatten(self) -> Iterator[dict]:
        return _merge(self._singles()) if self.group == "image" else self._singles()

    def _singles(self) -> Iterator[dict]:
        for record_id, raw in self._records_of_file():
            try:
                entries = self._entries(raw)
            except ValueError as error:
                yield damaged(record_id, str(error))
                continue
            for entry in entries:
                turned = _rotations(entry) if self.rotate_choices else [entry]
                for one in turned:
                    yield _row(one)

    def _image(self, image_id: int | str) -> str:
        """Return the name of an image; see ``image_name``."""
        return fill_image_name(str(self.image_name), image_id)

    def _num_words(self, record: dict) -> int:
        count = 0
        for entry in record.get("questions", ()):
            texts = [entry["question"], entry.get("hint", "")]
            texts += [*entry.get("choices", ()), *entry.get("answers", ())[:1]]
            count += sum(len(text.split()) for text in texts)
        return count

    def _size(self, record: dict, image: str) -> tuple[int, int] | None:
        sides = record.get("height"), record.get("width")
        known = all(isinstance(side, int) and side > 0 for side in sides)
        return sides if known else None

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        questions = tuple(map(_question, row["questions"]))
        if len(questions) == 1:
            (one,) = questions
            (own,) = row["questions"]
            meta = dict(question_id=own["question_id"], question=one.question)
            meta |= one.meta
            if own.get("answers"):
                meta["answers"] = list(own["answers"])
            if one.choices:
                meta["choices"], meta["choice"] = list(one.choices), one.choice
        else:
            keys = [entry["question_id"] for entry in row["questions"]]
            meta = dict(question_ids=keys)
        return AnnotatedImage(
            row["image"], size, questions=questions, id=row["id"], meta=meta
        )


def fill_image_name(pattern: str, image_id: int | str) -> str:
    """Return the name of an image.

    Args:
        pattern (str): with ``{image_id}`` or ``{image_id:012d}``.
        image_id (int | str): digits count as a number where one is asked for.

    Raises:
        ValueError: when pattern and id do not fit.
    """
    as_number = re.search(r"\{image_id:\d*d\}", pattern)
    if as_number and isinstance(image_id, str) and image_id.isdecimal():
        image_id = int(image_id)
    try:
        name = pattern.format(image_id=image_id)
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(
            f"image_name={pattern!r} does not fit the image id {image_id!r}: {error}."
        ) from error
    if name == pattern:
        raise ValueError(f"image_name={pattern!r}: expected '{{image_id}}' in it.")
    return name


def by_trust(answers: Iterable[str], best: str | None = None) -> list[str]:
    """Sort answers: the one the file calls best, then the more frequent ones."""
    answers = list(answers)
    counts = Counter(answers)
    first = {answer: answers.index(answer) for answer in counts}
    return sorted(answers, key=lambda a: (a != best, -counts[a], first[a]))


def _row(entry: dict) -> dict:
    entry = dict(entry)
    row = dict(id=str(entry["id"]), image=entry.pop("image"))
    for side in ("height", "width"):
        value = entry.pop(side, None)
        if value is not None:
            row[side] = value
    key = entry.pop("question_id", entry["id"])
    return {**row, "questions": [{**entry, "id": row["id"], "question_id": key}]}


def _rotations(entry: dict) -> list[dict]:
    """Return a question once per choice, each time with the choices moved on."""
    choices = entry.get("choices") or []
    out = []
    for turn in range(max(1, len(choices))):
        choice = entry.get("choice")
        moved = dict(entry, choices=[*choices[turn:], *choices[:turn]])
        if choice is not None:
            moved["choice"] = (choice - turn) % len(choices)
        if turn:
            moved["id"] = f"{entry['id']}-r{turn}"
        out.append(moved)
    return out


def _merge(rows: Iterable[dict]) -> Iterator[dict]:
    """Yield a row per image, in the order of first questions.

    Questions without an image or with several, and damaged records stay alone.
    """
    merged: list[dict] = []
    places: dict[str, int] = {}
    for row in rows:
        image = row["image"]
        if not isinstance(image, str) or "questions" not in row:
            merged.append(row)
        elif image in places:
            merged[places[image]]["questions"] += row["questions"]
        else:
            places[image] = len(merged)
            merged.append({**row, "id": image})
    yield from merged


def _question(entry: dict) -> VisualQuestion:
    values = {key: tuple(entry.get(key, ())) for key in _LISTS}
    # People leave a line blank now and then: it counts in a score, and is no answer.
    values["answers"] = tuple(text for text in values["answers"] if text.strip())
    return VisualQuestion(
        entry["question"],
        choice=entry.get("choice"),
        hint=entry.get("hint", ""),
        rationale=entry.get("rationale", ""),
        id=entry["id"],
        meta=dict(entry.get("meta", {})),
        **values,
    )
