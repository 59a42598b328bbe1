"""The tables of MMBench and VLMEvalKit, images inside."""

from __future__ import annotations

import base64
import csv
import os
from collections.abc import Callable, Iterator, Sequence

import cv2

from mmvlm.datasets.tiny_scenes.questions import (
    choices_of,
    letter_of,
    question_number,
    questions_of,
    with_choices,
    yes_no_pair,
)
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import OwnImagesWriter

#: What one row's index is apart from that of its copy with moved options.
CIRCULAR_STEP = 1_000_000
_ABILITIES = (
    *("attribute_reasoning", "coarse_perception", "logic_reasoning"),
    *("finegrained_perception (instance-level)", "relation_reasoning"),
    "finegrained_perception (cross-instance)",
)
_SOURCES = ("ADE20K", "COCO", "Omni3D")
_Rows = Iterator[dict]


def _questions(
    samples: Sequence[SceneSample], encode: Callable, num_choices: int = 4
) -> _Rows:
    """Yield a row per question with so many choices, every image in each row."""
    for sample in samples:
        for number in with_choices(sample, num_choices):
            question = questions_of(sample)[number]
            choices, place = choices_of(sample, number)
            key = question_number(sample, number)
            yield {
                "index": key,
                "question": question.text,
                **{letter_of(n): choice for n, choice in enumerate(choices)},
                "answer": letter_of(place),
                "category": question.task,
                "l2-category": _ABILITIES[number % len(_ABILITIES)],
                "source": _SOURCES[key % 3],
                "split": "dev",
                "image": encode(sample),
            }


def _circular(samples: Sequence[SceneSample], encode: Callable) -> _Rows:
    """Yield MMBench's rows: copies with moved options, which name the image's row.

    Every third question has a hint.
    """
    for number, row in enumerate(_questions(samples, encode)):
        letters = [letter for letter in "ABCD" if letter in row]
        choices = [row[letter] for letter in letters]
        place, hint = (
            letters.index(row["answer"]),
            "" if number % 3 else "Look closely.",
        )
        for turn in range(len(letters)):
            moved = [*choices[turn:], *choices[:turn]]
            yield {
                **row,
                **dict(zip(letters, moved, strict=True)),
                "index": row["index"] + turn * CIRCULAR_STEP,
                "hint": hint,
                "answer": letters[(place - turn) % len(letters)],
                "image": str(row["index"]) if turn else row["image"],
            }


def _several(samples: Sequence[SceneSample], encode: Callable) -> _Rows:
    """Yield rows with one image or a list of two, as BLINK has them."""
    for number, row in enumerate(_questions(samples, encode)):
        other = encode(samples[number % len(samples)])
        both = repr([row["image"], other])
        yield {**row, "image": both if number % 2 else row["image"]}


def _pairs(samples: Sequence[SceneSample], encode: Callable) -> _Rows:
    """Yield MMVP's rows: numbered from 1, two by two."""
    rows = list(_questions(samples, encode, 2))
    for number, row in enumerate(rows[: len(rows) // 2 * 2], 1):
        yield {**row, "index": number}


def _yes_no(samples: Sequence[SceneSample], encode: Callable) -> _Rows:
    """Yield HallusionBench's rows: set, figure and question end the index.

    Every fifth question is asked without its image.
    """
    for number, sample in enumerate(samples):
        for place, question in enumerate(yes_no_pair(sample)):
            yield {
                "index": f"drawn_VD_figure_{number // 2}_{number % 2}_{place}",
                "question": question.text,
                "answer": question.answer.title(),
                "category": "VD",
                "l2-category": "figure",
                "image": "" if number % 5 == 4 else encode(sample),
            }


#: Files of the public sets and what their rows are like.
TABLES: dict[str, Callable[[Sequence[SceneSample], Callable], _Rows]] = {
    "mmbench_dev_20230712": _circular,
    "mmbench_dev_cn_20231003": _circular,
    "MMBench_DEV_EN_V11": _circular,
    "BLINK": _several,
    "MMVP": _pairs,
    "HallusionBench": _yes_no,
    **dict.fromkeys(
        (
            *("MMStar", "AI2D_TEST", "AI2D_TEST_NO_MASK", "RealWorldQA"),
            *("VStarBench", "CV-Bench-2D", "CV-Bench-3D", "SEEDBench_IMG"),
        ),
        _questions,
    ),
}


@SCENE_WRITERS.register_module(name="option_tsv")
class OptionTSVWriter(OwnImagesWriter):
    """Write one table of each kind of row; ``tables`` asks for others.

    Args:
        folder (str): root of the dataset; tables lie in ``LMUData``.
        image_format (str): of the images inside.
        tables (Sequence[str]): names in :data:`TABLES`.
    """

    def __init__(
        self,
        folder: str,
        image_format: str = "jpg",
        tables: Sequence[str] = ("MMBench_DEV_EN_V11", "BLINK", "HallusionBench"),
    ) -> None:
        super().__init__(folder, image_format)
        self.tables = tuple(tables)

    def write_images(self, samples: Sequence[SceneSample]) -> int:
        """Write nothing: images lie in the tables."""
        return 0

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write the tables of a split."""
        coded: dict[str, str] = {}

        def encode(sample: SceneSample) -> str:
            if sample.id not in coded:
                image = sample.image()[..., ::-1]
                _, content = cv2.imencode(f".{self.image_format}", image)
                coded[sample.id] = base64.b64encode(content.tobytes()).decode()
            return coded[sample.id]

        names = []
        for table in self.tables:
            names.append(self._name(split, table))
            self._dump(names[-1], list(TABLES[table](samples, encode)))
        return names

    def _name(self, split: str, table: str) -> str:
        return f"LMUData/{'train/' if split == 'train' else ''}{table}.tsv"

    def _dump(self, name: str, rows: list[dict]) -> None:
        columns = sorted({column for row in rows for column in row}, key=_order)
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, columns, restval="", delimiter="\t", lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(rows)

    def readers(self, split: str) -> list[dict]:
        """Return a dataset per table."""
        words = dict(type="VisualQuestionAnswering")
        return [
            dict(
                type="OptionTSVDataset",
                data_root=self.folder,
                ann_file=self._name(split, table),
                **(dict(task=words) if table == "HallusionBench" else {}),
            )
            for table in self.tables
        ]


def _order(column: str) -> tuple:
    """Sort columns as in the public tables: index, question, options, ..., image."""
    first = ("index", "question", "hint", *"ABCD", "answer", "category", "l2-category")
    place = first.index(column) if column in first else len(first)
    return place, column == "image", column
