"""POPE's three files."""

from __future__ import annotations

from collections.abc import Sequence

from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.questions import yes_no_pair
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.registry import SCENE_WRITERS

from .own_images import BenchmarkWriter

_SUBSETS = ("random", "popular", "adversarial")


@SCENE_WRITERS.register_module(name="pope")
class POPEWriter(BenchmarkWriter):
    """Write ``pope/coco_pope_<subset>.json`` beside COCO's images of 2014."""

    home, images = "", "val2014"

    def image_name(self, sample: SceneSample) -> str:
        """Return COCO's name of 2014."""
        return f"COCO_val2014_{image_number(sample):012d}.{self.image_format}"

    def image_path(self, sample: SceneSample) -> str:
        """Return COCO's path of 2014."""
        return f"val2014/{self.image_name(sample)}"

    def write_annotations(
        self, split: str, samples: Sequence[SceneSample]
    ) -> list[str]:
        """Write one yes and one no question about each image into each file."""
        rows = [
            dict(image=self.image_name(s), text=q.text, label=q.answer)
            for s in samples
            for q in yes_no_pair(s)
        ]
        numbered = [dict(question_id=n, **row) for n, row in enumerate(rows, 1)]
        names = [self._name(split, subset) for subset in _SUBSETS]
        return [self.dump_lines(name, numbered) for name in names]

    def _name(self, split: str, subset: str) -> str:
        folder = "pope" if split == "test" else "pope/train"
        return f"{folder}/coco_pope_{subset}.json"

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of all three files."""
        return [
            dict(
                type="POPEDataset",
                data_root=self.folder,
                ann_file=self._name(split, "{" + ",".join(_SUBSETS) + "}"),
                image_prefix="val2014",
            )
        ]
