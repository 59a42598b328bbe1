"""Reader of PACO-LVIS and of PASCAL-Part in the same layout: objects and parts."""

from __future__ import annotations

from typing import ClassVar

from mmvlm.registry import DATASETS

from .coco_detection import CocoDetectionDataset


@DATASETS.register_module()
class PACOLVISDataset(CocoDetectionDataset):
    """PACO-LVIS: 75 objects and their parts (``paco_lvis_v1_train.json``).

    COCO's JSON whose categories are objects (``trash_can``) and parts
    (``trash_can:rim``); what follows ``_(`` in either name is cut, as LISA does, and
    underscores become spaces. A part's instance has ``meta["object"]`` and
    ``meta["part"]`` and is called ``trash can rim``; the task may say "the rim of the
    trash can". ``obj_ann_id``, ``attribute_ids`` and the other fields of an annotation
    stay in ``meta``. Paths are below COCO's folder: ``train2017/000000391895.jpg``.

    Paper: Ramanathan et al., "PACO: Parts and Attributes of Common Objects", CVPR 2023,
    arXiv 2301.01795.
    """

    default_task: ClassVar[dict] = dict(type="SemanticSegmentation", unit="instance")

    def _name(self, category: dict) -> tuple[str, dict]:
        words = [_short(word) for word in category["name"].strip().split(":")]
        if len(words) == 1:
            return words[0], {}
        if len(words) != 2 or not all(words):
            raise ValueError(
                f"category {category['name']!r:.60}: expected 'object' or "
                "'object:part'."
            )
        return " ".join(words), dict(object=words[0], part=words[1])


@DATASETS.register_module()
class PascalPartDataset(PACOLVISDataset):
    """PASCAL-Part as VLPart gives it (``pascal_part/train.json``): parts only.

    Categories are ``dog:head``; images are VOC 2010's:
    ``image_prefix="VOCdevkit/VOC2010/JPEGImages"``.

    Paper: Chen et al., "Detect What You Can: Detecting and Representing Objects using
    Holistic Models and Body Parts", CVPR 2014.
    """


def _short(name: str) -> str:
    return name.split("_(")[0].replace("_", " ").strip()
