"""LLaVA's JSON, and what the towers' pretraining reads beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from mmvlm.datasets.tiny_scenes.prompted import prompted
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.tasks import Question, phrases
from mmvlm.registry import SCENE_WRITERS

from .base import SceneWriter

#: Turns of a conversation. Questions and answers before a turn help to answer it,
#: and the test asks every question alone: with few turns many are first ones.
_TURNS_PER_RECORD = 3


@SCENE_WRITERS.register_module(name="llava")
class LLaVAJSONWriter(SceneWriter):
    """Write LLaVA JSON.

    Training gives four files: ``train.json`` (conversations of a few turns, and
    a description of every image), ``pretrain.json`` (the descriptions, for
    stage 1), ``text.json`` (no images: the same conversations behind a caption,
    but for boxes, for the language model) and ``phrases.json`` (for the vision
    tower).
    Testing gives ``test.json``: one question per record, with ``task``, ``form``,
    ``size``, for pointing ``box`` (in pixels) and, where the style has groups of
    tasks, ``group`` beside it.

    Args:
        folder (str): root of the dataset, made when missing.
        image_format (str): ``png`` or ``jpg``.
        prompted_share (float): share of the short conversations that ask as benchmarks
            do, see :func:`mmvlm.datasets.tiny_scenes.prompted.prompted`.

    Raises:
        ValueError: for a share outside 0-1.
    """

    def __init__(
        self, folder: str, image_format: str = "png", *, prompted_share: float = 0.0
    ) -> None:
        super().__init__(folder, image_format)
        if not 0 <= prompted_share <= 1:
            raise ValueError(f"prompted_share={prompted_share}: expected 0 to 1.")
        self.prompted_share = prompted_share

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write the annotation files of a split."""
        if split == "test":
            return [self._dump("test.json", [self._test(s) for s in samples])]
        return [
            self._dump("train.json", self._conversations(samples)),
            self._dump(
                "pretrain.json",
                [self._record(*talk) for talk in _descriptions(samples)],
            ),
            self._dump("text.json", self._texts(samples)),
            self._dump("phrases.json", [self._phrases(s) for s in samples]),
        ]

    def readers(self, split: str) -> list[dict]:
        """Return the datasets of conversations; phrases have a reader of their own."""
        names = ("test",) if split == "test" else ("train", "pretrain", "text")
        return [
            dict(type="LLaVADataset", data_root=self.folder, ann_file=f"{name}.json")
            for name in names
        ]

    def _dump(self, name: str, records: list[dict]) -> str:
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            file.write("[\n")
            file.write(",\n".join(json.dumps(record) for record in records))
            file.write("\n]\n")
        return name

    def _record(
        self, name: str, sample: SceneSample, turns: Sequence[Question]
    ) -> dict:
        first = turns[0].text
        return dict(
            id=name,
            image=self.image_path(sample),
            conversations=_talk(f"<image>\n{first}", turns),
        )

    def _conversations(self, samples: Sequence[SceneSample]) -> list[dict]:
        share = self.prompted_share
        talks = chain(_talks(samples, share), _descriptions(samples))
        return [self._record(*talk) for talk in talks]

    def _texts(self, samples: Sequence[SceneSample]) -> list[dict]:
        records = []
        for name, sample, turns in chain(_talks(samples), _descriptions(samples)):
            turns = [q for q in turns if q.task != "pointing"]
            if turns:
                first = f"{sample.caption}\n{turns[0].text}"
                records.append(dict(id=name, conversations=_talk(first, turns)))
        return records

    def _phrases(self, sample: SceneSample) -> dict:
        return dict(
            id=sample.id,
            image=self.image_path(sample),
            phrases=[dict(kind=k, text=t) for k, t in phrases(sample.scene)],
        )

    def _test(self, sample: SceneSample) -> dict:
        (question,) = sample.turns
        record = self._record(sample.id, sample, [question])
        record |= dict(
            task=question.task, form=question.form, size=[sample.scene.size] * 2
        )
        if question.box is not None:
            record["box"] = list(question.box)
        group = sample.scene.style.group_of(question.task)
        if group is not None:
            record["group"] = group
        return record


_Talk = tuple[str, SceneSample, Sequence[Question]]


def _talks(samples: Sequence[SceneSample], share: float = 0.0) -> Iterator[_Talk]:
    """Yield (id, sample, turns) of short conversations, a share with prompts."""
    for sample in samples:
        for part, start in enumerate(range(0, len(sample.turns), _TURNS_PER_RECORD)):
            turns = sample.turns[start : start + _TURNS_PER_RECORD]
            yield f"{sample.id}-{part}", sample, prompted(sample, part, turns, share)


def _descriptions(samples: Sequence[SceneSample]) -> Iterator[_Talk]:
    """Yield (id, sample, turns) of what names all objects of an image."""
    for sample in samples:
        yield f"{sample.id}-{sample.description[0].task}", sample, sample.description


def _talk(first: str, turns: Sequence[Question]) -> list[dict[str, Any]]:
    """Write turns; ``first`` is what the first question reads with its context."""
    out = []
    for number, turn in enumerate(turns):
        question = turn.text if number else first
        out.append({"from": "human", "value": question})
        out.append({"from": "gpt", "value": turn.answer})
    return out
