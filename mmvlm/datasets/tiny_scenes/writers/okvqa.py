"""OK-VQA's two files per split: VQAv2's format."""

from __future__ import annotations

from mmvlm.registry import SCENE_WRITERS

from .vqav2 import VQAv2Writer


@SCENE_WRITERS.register_module(name="okvqa")
class OKVQAWriter(VQAv2Writer):
    """Write ``OpenEnded_mscoco_*_questions.json``, ``mscoco_*_annotations.json``."""

    reader = "OKVQADataset"
    questions_name = "okvqa/OpenEnded_mscoco_{}_questions.json"
    answers_name = "okvqa/mscoco_{}_annotations.json"

    def _answer(self, answer: str, number: int) -> dict:
        entry = super()._answer(answer, number)
        return {**entry, "raw_answer": entry["answer"].capitalize()}
