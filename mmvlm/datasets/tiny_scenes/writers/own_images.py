"""The contract of writers whose format names its images itself."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample

from .base import SceneWriter


class OwnImagesWriter(SceneWriter):
    """Write annotations beside images that are named as in the public set.

    Args:
        folder (str): root of the dataset.
        image_format (str): ``jpg``, as the public sets have it, or ``png``.
    """

    def __init__(self, folder: str, image_format: str = "jpg") -> None:
        super().__init__(folder, image_format)

    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write images and annotation files of a split."""
        self.write_images(samples)
        return self.write_annotations(split, samples)

    @abstractmethod
    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write the annotation files; returns their paths below ``folder``."""

    def dump(self, name: str, value: Any) -> str:
        """Write a JSON file; returns its name."""
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False)
        return name

    def dump_lines(self, name: str, rows: Iterable[Any]) -> str:
        """Write a file with a JSON object per line; returns its name."""
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
        return name

    def load(self, name: str, default: Any) -> Any:
        """Return a JSON file that both splits share, or ``default``."""
        path = os.path.join(self.folder, name)
        if not os.path.isfile(path):
            return default
        with open(path, encoding="utf-8") as file:
            return json.load(file)


class BenchmarkWriter(OwnImagesWriter):
    """Write a set that has a test split only; of ours, training lies beside it.

    Subclasses define ``home``, the folder of the set, and write below
    :meth:`home_of` a split.
    """

    home: ClassVar[str]
    #: Folder of the images, below the set's.
    images: ClassVar[str] = "images"

    def home_of(self, split: str) -> str:
        """Return the folder of a split, below ``folder``."""
        return self.home if split == "test" else f"{self.home}/train"

    def image_name(self, sample: SceneSample) -> str:
        """Return the name of an image in its folder."""
        return f"{image_number(sample):06d}.{self.image_format}"

    def image_path(self, sample: SceneSample) -> str:
        """Return the path of an image below ``folder``."""
        home = self.home_of(sample.id.split("-")[0])
        return "/".join(filter(None, (home, self.images, self.image_name(sample))))
