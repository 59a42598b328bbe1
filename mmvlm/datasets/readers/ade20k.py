"""Reader of ADE20K's scene parsing benchmark (ADEChallengeData2016)."""

from __future__ import annotations

import json

import numpy as np

from mmvlm.registry import DATASETS

from .label_maps import IGNORE, LabelMapDataset


@DATASETS.register_module()
class ADE20KDataset(LabelMapDataset):
    """ADE20K, 150 classes: ``images/<split>/*.jpg``, ``annotations/<split>/*.png``.

    A pixel holds its class plus one and 0 for none: 0 becomes 255 (ignored), other
    numbers go down by one, and 254 becomes 255, as LISA reads them. The full ADE20K
    release, whose masks are colour images, is another format and refused.

    Paper: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017.
    mmpretrain's ADE20K holds class names as attributes of images, without masks.

    Args:
        ann_file (str): ``objectInfo150.txt`` of the release (its column ``Name``, of
            which the first synonym counts), or LISA's ``ade20k_classes.json``, a list
            of names.
        label_prefix (str): for example ``annotations/training``.
        **kwargs: see :class:`LabelMapDataset`.

    Raises:
        ValueError: for another kind of class list.
    """

    label_folder = "annotations/training"

    def _class_names(self) -> list[str]:
        with open(self.ann_file, encoding="utf-8-sig") as file:
            text = file.read()
        if text.lstrip().startswith("["):
            try:
                names = json.loads(text)
            except ValueError as error:
                raise ValueError(
                    f"class list '{self.ann_file}' is not valid JSON: {error}."
                ) from error
            if not all(isinstance(name, str) for name in names):
                raise ValueError(f"class list '{self.ann_file}': expected names.")
            return names
        lines = [line.rstrip("\r").split("\t") for line in text.strip().split("\n")]
        if lines[0][-1].strip() != "Name":
            raise ValueError(
                f"class list '{self.ann_file}': expected a JSON list of names, or a "
                "table with tabs whose last column is 'Name' (objectInfo150.txt); it "
                f"starts with {text[:40]!r}."
            )
        return [cells[-1].split(",")[0].strip() for cells in lines[1:]]

    def _classes(self, label_map: np.ndarray) -> np.ndarray:
        classes = label_map.astype(np.int32) - 1
        classes[(classes == -1) | (classes == IGNORE - 1)] = IGNORE
        return classes
