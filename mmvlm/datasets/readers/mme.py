"""Reader of MME."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from mmvlm.registry import DATASETS

from .questions import QuestionDataset

_REQUEST = "Please answer yes or no."
_LABELS = ("Yes", "No")
_TEXTS, _IMAGES = "questions_answers_YN", "images"
_SUFFIXES = (".jpg", ".png", ".jpeg", ".JPG", ".PNG")


@DATASETS.register_module()
class MMEDataset(QuestionDataset):
    """MME: two yes-no questions about each image, in fourteen tasks.

    A folder per task holds either images and ``<image's stem>.txt`` side by side,
    or ``images`` and ``questions_answers_YN``. A text has two lines, the question and
    ``Yes`` or ``No`` behind a tab. The tail ``Please answer yes or no.`` is left out of
    the question (``meta['line']`` keeps it), as LLaVA does; a wording puts it back.

    ``question_id`` is ``<task>/<image>`` and stands twice; the sample's id has the
    number of the line too. ``meta['category']`` is the task. Paper: Fu et al., "MME: A
    Comprehensive Evaluation Benchmark for Multimodal Large Language Models", arXiv
    2306.13394.

    Args:
        ann_file (str): the folder of tasks; images lie in it, whatever
            ``image_prefix`` is.
        **kwargs: see :class:`QuestionDataset`.

    Raises:
        FileNotFoundError: when the folder is missing.
        ValueError: when it holds no task.
    """

    reads_folder = True

    def __init__(self, ann_file: str, **kwargs: Any) -> None:
        kwargs["image_prefix"] = ann_file
        super().__init__(ann_file, **kwargs)

    def _sources(self) -> list[str]:
        return [self.ann_file, *(path for *_, path in self._texts())]

    def _texts(self) -> Iterator[tuple[str, str, str]]:
        """Yield task, folder of the images (below the task) and text file."""
        for task in sorted(os.listdir(self.ann_file)):
            folder = os.path.join(self.ann_file, task)
            if not os.path.isdir(folder):
                continue
            apart = os.path.isdir(os.path.join(folder, _TEXTS))
            texts = os.path.join(folder, _TEXTS) if apart else folder
            for name in sorted(os.listdir(texts)):
                if name.endswith(".txt"):
                    images = f"{task}/{_IMAGES}" if apart else task
                    yield task, images, os.path.join(texts, name)

    def _records_of_file(self) -> Iterator[tuple[Any, Any]]:
        for task, images, path in self._texts():
            stem = os.path.splitext(os.path.basename(path))[0]
            try:
                with open(path, encoding="utf-8-sig") as file:
                    lines = [line for line in file.read().split("\n") if line.strip()]
            except UnicodeDecodeError as error:
                reason = ValueError(f"'{path}' is not UTF-8 text: {error}.")
                yield f"{task}/{stem}", reason
                continue
            if not lines:
                yield f"{task}/{stem}", ValueError(f"'{path}' holds no question.")
            for number, line in enumerate(lines):
                yield f"{task}/{stem}#{number}", (task, images, path, number, line)

    def _entries(self, raw: Any) -> list[dict]:
        if isinstance(raw, ValueError):
            raise raw
        task, images, path, number, line = raw
        question, tab, label = line.rpartition("\t")
        label = label.strip()
        if not tab or label not in _LABELS or not question.strip():
            raise ValueError(
                f"'{path}', line {number + 1}: expected a question, a tab and one of "
                f"{_LABELS}, got {line!r:.80}."
            )
        image = self._image_of(images, os.path.basename(path))
        key = f"{task}/{os.path.basename(image)}"
        return [
            dict(
                id=f"{key}#{number}",
                question_id=key,
                image=image,
                question=question.strip().removesuffix(_REQUEST).strip(),
                answers=[label.lower()],
                meta=dict(category=task, line=question.strip(), reference=label),
            )
        ]

    def _image_of(self, folder: str, text: str) -> str:
        """Return the image of a text file, below the folder of tasks.

        One that is missing is named all the same: its questions then keep their task,
        and fail when it is opened.
        """
        stem = os.path.splitext(text)[0]
        names = [f"{folder}/{stem}{suffix}" for suffix in _SUFFIXES]
        found = (n for n in names if os.path.isfile(os.path.join(self.ann_file, n)))
        return next(found, names[0])
