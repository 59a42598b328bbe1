"""Hugging Face ``datasets`` on disk: an Arrow folder and Parquet files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.questions import questions_of
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.tasks import STYLE_FORMS
from mmvlm.registry import SCENE_WRITERS

from .base import SceneWriter
from .web_shards import encoded_image, talk_of

_PARTS = 2


@SCENE_WRITERS.register_module(name="hf_folder")
class HFFolderWriter(SceneWriter):
    """Write ``hf/<split>`` (``save_to_disk``) and ``hf_parquet/data/*.parquet``.

    The Arrow folder has a row per question, its task as a class; the Parquet files
    have a row per scene with messages. Images are in the files.
    """

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write both layouts of a split with the package that defines them."""
        import datasets

        datasets.disable_progress_bars()
        return [
            *self._arrow(datasets, split, samples),
            *self._parquet(datasets, split, samples),
        ]

    def _image(self, sample: SceneSample) -> dict:
        return dict(bytes=encoded_image(sample, self.image_format), path=None)

    def _arrow(
        self, datasets: object, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        tasks = sorted(
            {*(task for forms in STYLE_FORMS.values() for task in forms), "finding"}
        )
        rows = [
            dict(
                id=f"{sample.id}-{number}",
                image=self._image(sample),
                question=question.text,
                answer=question.answer,
                task=tasks.index(question.task),
            )
            for sample in samples
            for number, question in enumerate(questions_of(sample))
        ]
        text = datasets.Value("string")
        features = datasets.Features(
            id=text,
            image=datasets.Image(),
            question=text,
            answer=text,
            task=datasets.ClassLabel(names=tasks),
        )
        folder = f"hf/{split}"
        path = os.path.join(self.folder, folder)
        shutil.rmtree(path, ignore_errors=True)
        table = datasets.Dataset.from_list(rows, features=features)
        table.save_to_disk(path, num_shards=min(_PARTS, len(rows)))
        return [f"{folder}/{name}" for name in sorted(os.listdir(path))]

    def _parquet(
        self, datasets: object, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        roles = {"human": "user", "gpt": "assistant"}
        rows = [
            dict(
                id=sample.id,
                images=[self._image(sample)],
                messages=[
                    dict(role=roles[turn["from"]], content=turn["value"])
                    for turn in talk_of(sample)
                ],
                caption=sample.caption,
            )
            for sample in samples
            if questions_of(sample)
        ]
        text = datasets.Value("string")
        features = datasets.Features(
            id=text,
            images=[datasets.Image()],
            messages=[dict(role=text, content=text)],
            caption=text,
        )
        os.makedirs(os.path.join(self.folder, "hf_parquet/data"), exist_ok=True)
        files = []
        for part in range(_PARTS):
            size = -(-len(rows) // _PARTS)
            name = f"hf_parquet/data/{split}-{part:05d}-of-{_PARTS:05d}.parquet"
            chosen = rows[part * size : (part + 1) * size]
            table = datasets.Dataset.from_list(chosen, features=features)
            table.to_parquet(os.path.join(self.folder, name), batch_size=8)
            files.append(name)
        return files

    def readers(self, split: str) -> list[dict]:
        """Return the datasets of questions, of messages and of captions."""
        common = dict(type="HFFolderDataset", data_root=self.folder)
        questions = dict(image="image", question="question", answer="answer", id="id")
        talks = dict(image="images", conversations="messages", id="id")
        captions = dict(image="images", caption="caption", id="id")
        parquet = dict(**common, ann_file="hf_parquet", split=split)
        return [
            dict(
                **common,
                ann_file=f"hf/{split}",
                name=f"{split}-questions",
                columns={**questions, "meta": "task"},
            ),
            dict(**parquet, name=f"{split}-messages", columns=talks),
            dict(**parquet, name=f"{split}-captions", columns=captions),
        ]
