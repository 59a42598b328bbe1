"""MathVista's file."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.questions import questions_of
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import BenchmarkWriter

_HINT = "Hint: Please answer the question{}.\nQuestion: {}"
_SKILLS = ("arithmetic reasoning", "geometry reasoning", "statistical reasoning")


@SCENE_WRITERS.register_module(name="mathvista")
class MathVistaWriter(BenchmarkWriter):
    """Write ``testmini.json``; every second question has options."""

    home = "MathVista"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write the objects of problems by number."""
        table: dict[str, dict] = {}
        for sample in samples:
            for question in questions_of(sample):
                pid, answer = len(table) + 1, question.answer
                choices, hint = None, ""
                kind = "integer" if answer.isdecimal() else "text"
                if pid % 2:
                    choices, kind = [answer, f"not {answer}"], "text"
                    hint = " and provide the correct option letter at the end"
                query = _HINT.format(hint, question.text)
                if choices:
                    listed = (f"({'AB'[n]}) {one}" for n, one in enumerate(choices))
                    query += "\nChoices:\n" + "\n".join(listed)
                table[str(pid)] = dict(
                    pid=str(pid),
                    question=question.text,
                    image=f"images/{self.image_name(sample)}",
                    choices=choices,
                    unit=None,
                    precision=None,
                    answer=answer,
                    question_type="multi_choice" if choices else "free_form",
                    answer_type=kind,
                    query=query,
                    metadata=dict(
                        split="testmini",
                        language="english",
                        category="general-vqa",
                        task="figure question answering",
                        context="synthetic scene",
                        grade="daily life",
                        source="drawn",
                        skills=list(_SKILLS[pid % 2 : pid % 2 + 1 + pid % 3 // 2]),
                    ),
                )
        return [self.dump(f"{self.home_of(split)}/testmini.json", table)]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        return [
            dict(
                type="MathVistaDataset",
                data_root=f"{self.folder}/{self.home_of(split)}",
                ann_file="testmini.json",
            )
        ]
