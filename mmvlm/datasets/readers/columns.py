"""What readers of tables share whose columns the config names."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmvlm.datasets.base import ConversationDataset
from mmvlm.datasets.tasks.base import DataTask
from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Caption, Conversation, VisualQuestion
from mmvlm.text.llava_format import parse_llava_conversation
from mmvlm.text.messages_format import parse_messages

#: What a column can be.
FIELDS = (
    *("id", "image", "conversations", "caption", "question", "answer"),
    *("choices", "choice", "hint", "rationale", "meta"),
)
_WANTED = ("conversations", "caption", "question")


class ColumnMapper:
    """What the columns of a row mean; makes a conversation of its values.

    Args:
        columns (Mapping): name in :data:`FIELDS` to column.
        task (dict | DataTask | None): config in ``DATA_TASKS`` of captions and
            questions; None takes ``ImageCaption`` or ``VisualQuestionAnswering``.

    Raises:
        ValueError: for unknown names, none or several of ``conversations``,
            ``caption`` and ``question``, or a task for written conversations.
    """

    def __init__(
        self, columns: Mapping[str, Any], task: dict | DataTask | None = None
    ) -> None:
        unknown = sorted(set(columns) - set(FIELDS))
        kinds = [name for name in _WANTED if name in columns]
        if unknown or len(kinds) != 1:
            raise ValueError(
                f"columns={dict(columns)}: expected keys of {list(FIELDS)}, and "
                f"exactly one of {list(_WANTED)}."
            )
        self.columns = dict(columns)
        self.kind = kinds[0]
        if task is not None and self.kind == "conversations":
            raise ValueError("task: conversations are written already; leave it out.")
        if task is None:
            names = dict(caption="ImageCaption", question="VisualQuestionAnswering")
            task = dict(type=names[self.kind]) if self.kind in names else None
        self.task = DATA_TASKS.build(task) if isinstance(task, dict) else task

    def conversation(
        self, cells: dict, images: list, sample: str, rng: np.random.Generator
    ) -> Conversation:
        """Return the conversation of a row.

        Args:
            cells (dict): values by the names of ``columns``; ``meta`` is a dict.
            images (list): what is shown.
            sample (str): id.
            rng (np.random.Generator): for the task.

        Raises:
            ValueError: naming the column that is damaged.
        """
        meta = dict(cells.get("meta") or {})
        if self.kind == "conversations":
            turns = _unpacked(cells.get("conversations"))
            if _is_llava(turns):
                raw = {**meta, "id": sample, "conversations": turns}
                return parse_llava_conversation(raw, images=images, where="record")
            return parse_messages(turns, images=images, sample_id=sample, meta=meta)
        annotation = AnnotatedImage(
            images[0] if images else None,
            captions=tuple(map(Caption, _texts(cells, "caption"))),
            questions=tuple(_questions(cells, sample)),
            id=sample,
            meta=meta,
        )
        return self.task(annotation, images, rng)


class ColumnDataset(ConversationDataset):
    """Reader of a table; ``columns`` says what its columns are.

    A conversation is made of one of three kinds of columns:

    - ``conversations``: LLaVA's turns (``from``, ``value``) or messages (``role``,
      ``content``), as a list or as the JSON text of one;
    - ``caption``: a text or a list of them;
    - ``question``, with ``answer`` (a text, a number or a list), ``choices``,
      ``choice`` (index, or a letter), ``hint`` and ``rationale``.

    Beside them ``id``, ``image`` (one image or a list of them, null for text alone)
    and ``meta``: a column, or a list of columns, that are kept for metrics.

    Subclasses give records: ``row`` (int), ``cells`` (values by the names of
    ``columns``, without the images), ``images`` (references) and ``reason`` (why
    the record cannot be read, or None); and :meth:`_image`.

    Args:
        ann_file (str): the table.
        columns (Mapping): see :class:`ColumnMapper`, as ``task``.
        task (dict | DataTask | None): of captions and questions.
        **kwargs: see :class:`ConversationDataset`.

    Raises:
        ValueError: see :class:`ColumnMapper`.
    """

    def __init__(
        self,
        ann_file: str,
        *,
        columns: Mapping[str, Any],
        task: dict | DataTask | None = None,
        **kwargs: Any,
    ) -> None:
        self.mapper = ColumnMapper(columns, task)
        self.columns = self.mapper.columns
        self._is_blind = bool(kwargs.get("shuffle_images"))
        self._firsts: dict[str, str] = {}
        super().__init__(ann_file, **kwargs)

    @abstractmethod
    def _image(self, key: Any) -> Any:
        """Return an image of a record: a path below ``image_prefix``, or bytes.

        Raises:
            ValueError: when it cannot be read.
        """

    # What the base class needs ---------------------------------------------

    def _record_id(self, record: dict) -> str:
        own_id = record["cells"].get("id")
        return str(record["row"] if own_id is None else own_id)

    def _image_keys(self, record: dict) -> tuple:
        keys = tuple(record["images"])
        return tuple(map(self._first_of, keys)) if self._is_blind else keys

    def _first_of(self, key: str) -> str:
        """Return the reference that the same image had first.

        Tables repeat an image for each of its questions. The blind run tells images
        apart by their references, and must not give one back to its own question.
        """
        try:
            content = self._image(key)
        except ValueError:
            return key
        if not isinstance(content, bytes):
            return key
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        return self._firsts.setdefault(digest, key)

    def _num_words(self, record: dict) -> int:
        return _count_words({k: v for k, v in record["cells"].items() if k != "meta"})

    def _conversation(
        self, record: dict, images: list, rng: np.random.Generator
    ) -> Conversation:
        if record.get("reason"):
            raise ValueError(record["reason"])
        shown = [self._image(key) for key in images]
        sample = self._record_id(record)
        return self.mapper.conversation(record["cells"], shown, sample, rng)


def _is_llava(turns: Any) -> bool:
    return isinstance(turns, list) and all(
        isinstance(turn, dict) and "from" in turn for turn in turns
    )


def _unpacked(value: Any) -> Any:
    """Return a list of turns, also of a JSON text or of columns of turns."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"'conversations' is no JSON text: {error}.") from error
    if isinstance(value, dict):  # a list of objects, stored as an object of lists
        lists = list(value.values())
        if lists and all(
            isinstance(x, list) and len(x) == len(lists[0]) for x in lists
        ):
            return [
                dict(zip(value, turn, strict=True)) for turn in zip(*lists, strict=True)
            ]
    return value


def _texts(cells: dict, name: str) -> list[str]:
    """Return one text, a list of texts, or none for null."""
    value = cells.get(name)
    values = value if isinstance(value, list | tuple) else [value]
    texts = [str(v) if isinstance(v, int | float) else v for v in values]
    texts = [text for text in texts if text is not None]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(
            f"'{name}' must be a text or a list of texts, got {value!r:.80}."
        )
    return texts


def _questions(cells: dict, sample: str) -> list[VisualQuestion]:
    if "question" not in cells:
        return []
    questions = _texts(cells, "question")
    if len(questions) != 1:
        raise ValueError(f"'question' must be a text, got {cells['question']!r:.80}.")
    choices = _texts(cells, "choices")
    choice = cells.get("choice")
    if isinstance(choice, str) and len(choice) == 1 and choice.isalpha():
        choice = ord(choice.upper()) - ord("A")
    if choice is not None:
        whole = isinstance(choice, int) and not isinstance(choice, bool)
        if not whole or not 0 <= choice < len(choices):
            raise ValueError(
                f"'choice' must be an index or letter of {len(choices)} choices, got "
                f"{cells['choice']!r:.40}."
            )
    return [
        VisualQuestion(
            questions[0],
            answers=tuple(_texts(cells, "answer")),
            choices=tuple(choices),
            choice=choice,
            hint="\n".join(_texts(cells, "hint")),
            rationale="\n".join(_texts(cells, "rationale")),
            id=sample,
        )
    ]


def _count_words(value: Any) -> int:
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, dict):
        return sum(map(_count_words, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_count_words, value))
    return 0
