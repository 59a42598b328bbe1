"""The contract of writers: scenes to the files of one public format."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from multiprocessing import get_context

import cv2

from mmvlm.datasets.tiny_scenes.samples import SceneSample

#: Fewer images than this are drawn sooner than another process has begun.
_SAMPLES_PER_WORKER = 2000
_SAMPLES_PER_JOB = 500


class SceneWriter(ABC):
    """Write samples in one format; one subclass per file.

    Args:
        folder (str): root of the dataset, made when missing.
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
        """Whether the format keeps images elsewhere than where all formats do."""
        own = type(self)
        return (
            own.image_path is not SceneWriter.image_path
            or own.write_images is not SceneWriter.write_images
        )

    def image_path(self, sample: SceneSample) -> str:
        """Return the image's path below ``folder``: 1000 files per subfolder."""
        split, number = sample.id.split("-")
        return f"images/{split}/{number[:-3]}/{number}.{self.image_format}"

    def write_images(self, samples: Iterable[SceneSample]) -> int:
        """Draw and write all images; returns how many."""
        samples = list(samples)
        with ImageDrawing(self, len(samples)) as drawing:
            return sum(1 for _ in drawing.passing(samples))

    def write_some(self, samples: Sequence[SceneSample]) -> None:
        """Draw and write images in this process."""
        paths = [os.path.join(self.folder, self.image_path(s)) for s in samples]
        for parent in sorted({os.path.dirname(path) for path in paths}):
            os.makedirs(parent, exist_ok=True)
        list(map(self._write_image, samples, paths))

    @staticmethod
    def _write_image(sample: SceneSample, path: str) -> None:
        options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_JPEG_QUALITY, 95]
        if path.endswith(".png"):
            options = options[:2]
        else:
            options = options[2:]
        if not cv2.imwrite(path, sample.image()[..., ::-1], options):
            raise OSError(f"could not write the image '{path}'.")

    @abstractmethod
    def write(self, split: str, samples: Sequence[SceneSample]) -> list[str]:
        """Write the annotation files of a split (``train`` or ``test``).

        Images are written by :meth:`write_images`.

        Returns:
            list[str]: paths of the files, relative to ``folder``.
        """

    def readers(self, split: str) -> list[dict]:
        """Return configs of the datasets that read what :meth:`write` wrote.

        They hold ``type``, ``data_root`` and what the format needs, but no pipeline.
        Suites over all formats (round trip, damage, fuzz, doctor, browser) start
        from them, so that a new writer is tested without being listed.
        """
        return []


class ImageDrawing:
    """Draws images in other processes while samples are made and written.

    A context manager, at whose end all images are there. Drawing holds the
    interpreter's lock, so threads would take turns.

    Args:
        writer (SceneWriter): whose images they are.
        num (int): images to come, about.
    """

    def __init__(self, writer: SceneWriter, num: int) -> None:
        self.writer, self.jobs, self.pool = writer, [], None
        workers = min(len(os.sched_getaffinity(0)), num // _SAMPLES_PER_WORKER)
        if workers > 1:
            fork = get_context("fork")
            self.pool = fork.Pool(workers, cv2.setNumThreads, (0,))

    def passing(self, samples: Iterable[SceneSample]) -> Iterator[SceneSample]:
        """Pass samples on, and have their images drawn."""
        samples = iter(samples)
        while some := list(islice(samples, _SAMPLES_PER_JOB)):
            if self.pool is None:
                self.writer.write_some(some)
            else:
                job = self.pool.apply_async(self.writer.write_some, (some,))
                self.jobs.append(job)
            yield from some

    def __enter__(self) -> ImageDrawing:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.pool is None:
            return
        with self.pool:  # ends the processes, also when something failed
            for job in self.jobs if kind is None else ():
                job.get()
