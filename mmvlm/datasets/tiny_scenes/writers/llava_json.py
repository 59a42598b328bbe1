"""LLaVA's JSON, and what the towers' pretraining reads beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.tasks import facts, phrases
from mmvlm.registry import SCENE_WRITERS

from .base import SceneWriter

#: Turns of a conversation. Questions and answers before a turn help to answer it,
#: and the test asks every question alone: with few turns many are first ones.
_TURNS_PER_RECORD = 3
#: Every so many pictures get a record of their own that asks for the caption.
_CAPTION_EVERY = 3


@SCENE_WRITERS.register_module(name="llava")
class LLaVAJSONWriter(SceneWriter):
    """Write LLaVA JSON.

    Training gives four files: ``train.json`` (conversations of a few turns, and
    a caption for every third picture), ``pretrain.json`` (captions, for stage
    1), ``text.json`` (no pictures: the same conversations behind a description in
    words, for the language model) and ``phrases.json`` (for the vision tower).
    Testing gives ``test.json``: one question per record, with ``task``, ``form``,
    ``size`` and, for pointing, ``box`` (in pixels) beside it.
    """

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write the annotation files of a split."""
        if split == "test":
            return [self._dump("test.json", [self._test(s) for s in samples])]
        return [
            self._dump("train.json", self._conversations(samples)),
            self._dump("pretrain.json", [self._caption(s) for s in samples]),
            self._dump("text.json", self._texts(samples)),
            self._dump("phrases.json", [self._phrases(s) for s in samples]),
        ]

    def _dump(self, name: str, records: list[dict]) -> str:
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            file.write("[\n")
            file.write(",\n".join(json.dumps(record) for record in records))
            file.write("\n]\n")
        return name

    def _record(self, sample: SceneSample, turns: list[tuple[str, str]]) -> dict:
        turns = [(f"<image>\n{turns[0][0]}", turns[0][1]), *turns[1:]]
        return dict(
            id=sample.id,
            image=self.image_path(sample),
            conversations=_talk(turns),
        )

    def _conversations(self, samples: Sequence[SceneSample]) -> list[dict]:
        return [
            self._record(sample, turns) | dict(id=name)
            for name, sample, turns in _talks(samples)
        ]

    def _texts(self, samples: Sequence[SceneSample]) -> list[dict]:
        records = []
        for name, sample, turns in _talks(samples):
            turns = [(f"{facts(sample.scene)}\n{turns[0][0]}", turns[0][1]), *turns[1:]]
            records.append(dict(id=name, conversations=_talk(turns)))
        return records

    def _caption(self, sample: SceneSample) -> dict:
        question = sample.description
        return self._record(sample, [(question.text, question.answer)])

    def _phrases(self, sample: SceneSample) -> dict:
        return dict(
            id=sample.id,
            image=self.image_path(sample),
            phrases=[dict(kind=k, text=t) for k, t in phrases(sample.scene)],
        )

    def _test(self, sample: SceneSample) -> dict:
        (question,) = sample.turns
        record = self._record(sample, [(question.text, question.answer)])
        record |= dict(
            task=question.task, form=question.form, size=[sample.scene.size] * 2
        )
        if question.box is not None:
            record["box"] = list(question.box)
        return record


def _talks(
    samples: Sequence[SceneSample],
) -> Iterator[tuple[str, SceneSample, list[tuple[str, str]]]]:
    """Yield (id, sample, turns): short conversations, and every third caption."""
    for number, sample in enumerate(samples):
        turns = [(q.text, q.answer) for q in sample.turns]
        for part, start in enumerate(range(0, len(turns), _TURNS_PER_RECORD)):
            name = f"{sample.id}-{part}"
            yield name, sample, turns[start : start + _TURNS_PER_RECORD]
        if number % _CAPTION_EVERY == 0:
            question = sample.description
            yield f"{sample.id}-caption", sample, [(question.text, question.answer)]


def _talk(turns: list[tuple[str, str]]) -> list[dict[str, Any]]:
    out = []
    for question, answer in turns:
        out.append({"from": "human", "value": question})
        out.append({"from": "gpt", "value": answer})
    return out
