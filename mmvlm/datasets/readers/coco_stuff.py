"""Reader of COCO-Stuff's label maps."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from mmvlm.registry import DATASETS

from .label_maps import IGNORE, LabelMapDataset


@DATASETS.register_module()
class COCOStuffDataset(LabelMapDataset):
    """COCO-Stuff: ``train2017/*.jpg``, ``stuffthingmaps/train2017/*.png``.

    A pixel holds a class index, 255 where nothing is labelled. Line 0 of the class
    list, ``0: unlabeled``, is no class; line 1 names index 0. Classes whose name has a
    hyphen (``wall-brick``, ``furniture-other``) are ignored, as LISA does: their
    names are no words that one would ask with.

    Paper: Caesar et al., "COCO-Stuff: Thing and Stuff Classes in Context", CVPR 2018.

    Args:
        ann_file (str): ``labels.txt`` of the release, lines ``number: name``.
        keep_hyphenated (bool): keep classes whose name has a hyphen.
        **kwargs: see :class:`LabelMapDataset`. LISA's folder has the maps beside the
            images: ``label_prefix="train2017"``.

    Raises:
        ValueError: when a line of the class list has no ``": "``.
    """

    label_folder = "stuffthingmaps/train2017"

    def __init__(
        self, ann_file: str, *, keep_hyphenated: bool = False, **kwargs
    ) -> None:
        self.keep_hyphenated = keep_hyphenated
        super().__init__(ann_file, **kwargs)

    def _class_names(self) -> list[str]:
        with open(self.ann_file, encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file if line.strip()]
        for number, line in enumerate(lines, 1):
            if ": " not in line:
                raise ValueError(
                    f"class list '{self.ann_file}', line {number}: expected "
                    f"'number: name', got {line!r:.60}."
                )
        return [line.split(": ")[-1] for line in lines[1:]]

    @cached_property
    def _hyphenated(self) -> np.ndarray:
        names = enumerate(self.classes)
        return np.array([number for number, name in names if "-" in name], dtype=int)

    def _classes(self, label_map: np.ndarray) -> np.ndarray:
        if self.keep_hyphenated:
            return label_map
        hidden = np.isin(label_map, self._hyphenated)
        return np.where(hidden, np.array(IGNORE, label_map.dtype), label_map)
