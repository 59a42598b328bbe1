"""The base class of readers of label maps: a class number for every pixel."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import PIL.Image

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.structures import AnnotatedImage, Instance
from mmvlm.structures.masks import label_map_rles, rle_box

#: Class number of pixels that are neither trained nor scored.
IGNORE = 255


class LabelMapDataset(AnnotatedImageDataset):
    """Images in one folder, a label map of the same stem for each in another.

    Every class in an image is one :class:`Instance` that holds its mask (as RLE,
    made when the record is fetched), its tight box and, in ``meta``, ``class_id``.
    Pixels of class 255 are ``meta["ignore"]`` of the annotation: an RLE, or None.
    An image without a label map, and a label map without an image, is a damaged
    record; other files, and subfolders, are not looked at.

    Subclasses define :meth:`_class_names` and, where the numbers in the file are not
    the classes' indices, :meth:`_classes`.

    Args:
        ann_file (str): list of classes, relative to ``data_root``.
        label_prefix (str): folder of the label maps, relative to ``data_root``; None
            takes the class's default.
        image_suffix (str | None): ending of images; None takes the default.
        **kwargs: see :class:`AnnotatedImageDataset`.

    Raises:
        ValueError: naming the file, when the list of classes cannot be read or names
            none, or a folder is missing.
    """

    default_task: ClassVar[dict] = dict(type="SemanticSegmentation")
    label_folder: ClassVar[str] = ""
    image_ending: ClassVar[str] = ".jpg"

    def __init__(
        self,
        ann_file: str,
        *,
        label_prefix: str | None = None,
        image_suffix: str | None = None,
        **kwargs: Any,
    ) -> None:
        folder = self.label_folder if label_prefix is None else label_prefix
        self.label_root = os.path.join(kwargs.get("data_root") or "", folder)
        self.image_suffix = self.image_ending if image_suffix is None else image_suffix
        super().__init__(ann_file, **kwargs)

    # What a format defines ------------------------------------------------

    @abstractmethod
    def _class_names(self) -> list[str]:
        """Return a name for every class index, read from ``ann_file``."""

    def _classes(self, label_map: np.ndarray) -> np.ndarray:
        """Return class indices, and 255 for pixels to ignore."""
        return label_map

    # What the base class needs ---------------------------------------------

    @property
    def metainfo(self) -> dict:
        """Facts that metrics and visualizers may want, with ``classes``."""
        return {**super().metainfo, "classes": tuple(self.classes)}

    def _load_records(self) -> Any:
        try:
            self.classes = self._class_names()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"dataset '{self.name}': class list '{self.ann_file}' is not UTF-8 "
                f"text: {error}."
            ) from error
        if not self.classes:
            raise ValueError(
                f"dataset '{self.name}': class list '{self.ann_file}' names no class."
            )
        for folder in (self.image_root, self.label_root):
            if not os.path.isdir(folder):
                raise ValueError(
                    f"dataset '{self.name}': folder '{folder}' does not exist."
                )
        return super()._load_records()

    def _sources(self) -> list[str]:
        return [self.image_root, self.label_root]

    def _row_options(self) -> dict:
        return dict(image_suffix=self.image_suffix)

    def _flatten(self) -> Iterable[dict]:
        images = _stems(self.image_root, self.image_suffix)
        labels = _stems(self.label_root, ".png")
        for stem in sorted(images | labels):
            image, label = f"{stem}{self.image_suffix}", f"{stem}.png"
            if stem not in labels:
                missing = os.path.join(self.label_root, label)
                yield damaged(stem, f"image '{image}' has no label map '{missing}'.")
            elif stem not in images:
                missing = os.path.join(self.image_root, image)
                yield damaged(stem, f"label map '{label}' has no image '{missing}'.")
            else:
                yield dict(id=stem, image=image, label=label)

    def _num_words(self, record: dict) -> int:
        return 0  # the words are the classes, which only the label map knows

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        path = os.path.join(self.label_root, row["label"])
        label_map = read_label_map(path, size)
        rles = label_map_rles(self._classes(label_map))
        ignore = rles.pop(IGNORE, None)
        unknown = [number for number in rles if number >= len(self.classes)]
        if unknown:
            raise ValueError(
                f"label map '{path}': classes {unknown}, but '{self.ann_file}' names "
                f"{len(self.classes)}."
            )
        instances = tuple(
            Instance(
                box=rle_box(rle),
                name=self.classes[number],
                rle=rle,
                id=f"{row['id']}/{number}",
                meta=dict(class_id=number),
            )
            for number, rle in rles.items()
        )
        meta = dict(ignore=ignore, label_map=row["label"])
        return AnnotatedImage(
            row["image"], size, instances, id=str(row["id"]), meta=meta
        )


def read_label_map(path: str, size: tuple[int, int]) -> np.ndarray:
    """Return the numbers in a PNG: (H, W), of a palette the indices.

    Args:
        path (str): of the file.
        size (tuple[int, int]): height and width that it must have.

    Raises:
        ValueError: naming the file, when it cannot be decoded, is a colour image,
            or has another size.
    """
    try:
        with PIL.Image.open(path) as image:
            if image.mode not in ("L", "P", "I", "I;16"):
                raise ValueError(
                    f"label map '{path}' is a colour image ({image.mode}); "
                    "expected a number per pixel."
                )
            if (image.height, image.width) != tuple(size):
                raise ValueError(
                    f"label map '{path}' has {image.width} x {image.height} "
                    f"pixels, its image {size[1]} x {size[0]}."
                )
            return np.array(image)
    except (
        *(OSError, SyntaxError, EOFError),
        PIL.Image.DecompressionBombError,
    ) as error:
        raise ValueError(f"label map '{path}' cannot be decoded: {error}") from error


def _stems(folder: str, suffix: str) -> set[str]:
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.endswith(suffix)]
    return {name.removesuffix(suffix) for name in names}
