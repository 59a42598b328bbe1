"""LLaVA's question files, with the references of LLaVA-Bench."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.questions import (
    question_number,
    questions_of,
    reason_of,
)
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import BenchmarkWriter

_FERRET = ("question.jsonl", "answer.jsonl", "context.jsonl")
#: Folder, files and categories of each set; ``refer_desc`` lies in ``refer_caption``.
_BENCHES = {
    "wild": (
        "llava-bench-in-the-wild",
        ("questions.jsonl", "answers_gpt4.jsonl", "context.jsonl"),
        ("llava_bench_conv", "llava_bench_detail", "llava_bench_complex"),
    ),
    "coco": (
        "llava-bench-coco",
        (
            "qa90_questions.jsonl",
            "qa90_gpt4_answer.jsonl",
            "caps_boxes_coco2014_val_80.jsonl",
        ),
        ("conv", "detail", "complex"),
    ),
    "refer_desc": ("ferret_bench/refer_caption", _FERRET, ("refer_desc",)),
    "refer_reason": ("ferret_bench/refer_reason", _FERRET, ("refer_reason",)),
    "ground_conv": ("ferret_bench/ground_conv", _FERRET, ("ground_conv",)),
}
_SHORT = "Answer the question using a single word or phrase."


@SCENE_WRITERS.register_module(name="llava_bench")
class LLaVABenchWriter(BenchmarkWriter):
    """Write ``questions.jsonl``, ``answers_gpt4.jsonl`` and ``context.jsonl``.

    Args:
        folder (str): root of the dataset.
        image_format (str): ``jpg`` or ``png``.
        set_name (str): ``wild``, ``coco``, or a set of Ferret-Bench.
    """

    home = "llava-bench-in-the-wild"

    def __init__(
        self, folder: str, image_format: str = "jpg", *, set_name: str = "wild"
    ) -> None:
        super().__init__(folder, image_format)
        self.home, names, self.categories = _BENCHES[set_name]
        self.questions, self.answers, self.contexts = names

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write questions, answers and contexts."""
        home = self.home_of(split)
        questions, answers = [], []
        for sample in samples:
            for number, question in enumerate(questions_of(sample)):
                key = question_number(sample, number)
                category = self.categories[len(questions) % len(self.categories)]
                questions.append(
                    dict(
                        question_id=key,
                        image=self.image_name(sample),
                        category=category,
                        text=question.text,
                    )
                )
                answers.append(
                    dict(question_id=key, text=question.answer, category=category)
                )
        contexts = [
            dict(id=number, image=self.image_name(sample), caption=reason_of(sample))
            for number, sample in enumerate(samples)
        ]
        return [
            self.dump_lines(f"{home}/{self.questions}", questions),
            self.dump_lines(f"{home}/{self.answers}", answers),
            self.dump_lines(f"{home}/{self.contexts}", contexts),
        ]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        return [
            dict(
                type="LLaVAQuestionsDataset",
                data_root=f"{self.folder}/{self.home_of(split)}",
                ann_file=self.questions,
                answer_file=self.answers,
                context_file=self.contexts,
                image_prefix="images",
            )
        ]


@SCENE_WRITERS.register_module(name="llava_questions")
class LLaVAQuestionsWriter(BenchmarkWriter):
    """Write a file of ``eval.zip``: the wording, and no answers (VQAv2's test-dev)."""

    home, images = "vqav2", "test2015"
    questions = "llava_vqav2_mscoco_test-dev2015.jsonl"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write questions."""
        rows = [
            dict(
                question_id=question_number(sample, number),
                image=self.image_name(sample),
                text=f"{question.text}\n{_SHORT}",
                category="default",
            )
            for sample in samples
            for number, question in enumerate(questions_of(sample))
        ]
        home = self.home_of(split)
        answers = [
            dict(question_id=question_number(sample, number), text=question.answer)
            for sample in samples
            for number, question in enumerate(questions_of(sample))
        ]
        return [
            self.dump_lines(f"{home}/{self.questions}", rows),
            self.dump_lines(f"{home}/answers.jsonl", answers),
        ]

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of a split."""
        return [
            dict(
                type="LLaVAQuestionsDataset",
                data_root=f"{self.folder}/{self.home_of(split)}",
                ann_file=self.questions,
                answer_file="answers.jsonl" if split == "train" else None,
                image_prefix=self.images,
            )
        ]
