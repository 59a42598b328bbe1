"""Reader of Objects365."""

from __future__ import annotations

from mmvlm.datasets.io.annotation_files import need
from mmvlm.registry import DATASETS

from .coco_detection import CocoDetectionDataset

_RELEASES = ("v1", "v2")


@DATASETS.register_module()
class Objects365Dataset(CocoDetectionDataset):
    """Objects365: boxes of 365 classes (``zhiyuan_objv2_train.json``).

    In v2, ``file_name`` is ``images/v1/patch8/objects365_v1_00420917.jpg`` while the
    image lies at ``train/patch8/objects365_v1_00420917.jpg``: its last two parts
    count, below ``image_prefix="train"``. In v1, images lie in one folder. A class
    name may have several words for one thing, ``Cabinet/shelf``: they are
    ``meta["synonyms"]`` of the instance. ``isfake`` (a drawing, a toy) and
    ``isreflected`` stay in its ``meta``. There are no masks.

    Boxes that stick out of the image are common and cut. Three images that the
    training file lists are not in the release (``patch16/objects365_v2_00908726.jpg``
    and ``patch6/objects365_v1_0032053`` with ``2`` or ``4`` behind): they follow
    ``bad_samples``.

    Paper: Shao et al., "Objects365: A Large-Scale, High-Quality Dataset for Object
    Detection", ICCV 2019.

    Args:
        ann_file (str): annotation file.
        release (str): ``v1`` or ``v2``, which differ in ``file_name``.
        **kwargs: see :class:`CocoDetectionDataset`.

    Raises:
        ValueError: for another ``release``.
    """

    def __init__(self, ann_file: str, *, release: str = "v2", **kwargs) -> None:
        if release not in _RELEASES:
            raise ValueError(f"release='{release}': expected one of {_RELEASES}.")
        self.release = release
        super().__init__(ann_file, **kwargs)

    def _row_options(self) -> dict:
        return dict(super()._row_options(), release=self.release)

    def _image_path(self, image: dict) -> str:
        parts = need(image, "file_name", str).split("/")
        return "/".join(parts[-2:] if self.release == "v2" else parts[-1:])

    def _name(self, category: dict) -> tuple[str, dict]:
        name = category["name"].strip()
        return name, dict(synonyms=[word.strip() for word in name.split("/")])
