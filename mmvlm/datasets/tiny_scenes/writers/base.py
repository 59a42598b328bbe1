"""The contract of writers: scenes to the files of one public format."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from multiprocessing import get_context

import cv2

from mmvlm.datasets.tiny_scenes.samples import SceneSample

#: Fewer pictures than this are drawn sooner than another process has begun.
_SAMPLES_PER_WORKER = 2000


class SceneWriter(ABC):
    """Write samples in one format; one subclass per file.

    Args:
        folder (str): root of the data set, made when missing.
        image_format (str): ``png`` or ``jpg``.

    """

    def __init__(self, folder: str, image_format: str = "png") -> None:
        if image_format not in ("png", "jpg"):
            raise ValueError(f"image_format='{image_format}': expected 'png' or 'jpg'.")
        self.folder = folder
        self.image_format = image_format
        os.makedirs(folder, exist_ok=True)

    @property
    def has_own_images(self) -> bool:
        """Whether the format keeps pictures elsewhere than where all formats do."""
        own = type(self)
        return (
            own.image_path is not SceneWriter.image_path
            or own.write_images is not SceneWriter.write_images
        )

    def image_path(self, sample: SceneSample) -> str:
        """Return the picture's path below ``folder``: 1000 files per subfolder."""
        split, number = sample.id.split("-")
        return f"images/{split}/{number[:-3]}/{number}.{self.image_format}"

    def write_images(self, samples: Iterable[SceneSample]) -> int:
        """Draw and write all pictures; returns how many."""
        samples = list(samples)
        paths = [os.path.join(self.folder, self.image_path(s)) for s in samples]
        for parent in sorted({os.path.dirname(path) for path in paths}):
            os.makedirs(parent, exist_ok=True)
        workers = min(len(os.sched_getaffinity(0)), len(samples) // _SAMPLES_PER_WORKER)
        if workers < 2:
            list(map(self._write_image, samples, paths))
            return len(samples)
        # Drawing holds the interpreter's lock, so threads would take turns.
        with get_context("fork").Pool(workers, cv2.setNumThreads, (0,)) as pool:
            jobs = zip(samples, paths, strict=True)
            pool.starmap(self._write_image, jobs, chunksize=500)
        return len(samples)

    @staticmethod
    def _write_image(sample: SceneSample, path: str) -> None:
        options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_JPEG_QUALITY, 95]
        if path.endswith(".png"):
            options = options[:2]
        else:
            options = options[2:]
        if not cv2.imwrite(path, sample.image()[..., ::-1], options):
            raise OSError(f"could not write the picture '{path}'.")

    @abstractmethod
    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write the annotation files of a split (``train`` or ``test``).

        Pictures are written by :meth:`write_images`.

        Returns:
            list[str]: paths of the files, relative to ``folder``.

        """

    def readers(self, split: str) -> list[dict]:
        """Return configs of the data sets that read what :meth:`write` wrote.

        They hold ``type``, ``data_root`` and what the format needs, but no pipeline.
        Suites over all formats (round trip, damage, fuzz, doctor, browser) start
        from them, so that a new writer is tested without being listed.
        """
        return []
