"""gRefCOCO's expressions for several things or for none, beside COCO's instances."""

from __future__ import annotations

from mmvlm.datasets.tiny_scenes.ground_truth import expressions, image_number
from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene import NAMES
from mmvlm.datasets.tiny_scenes.scene_masks import LABELS
from mmvlm.registry import SCENE_WRITERS

from .refcoco import RefCOCOWriter


@SCENE_WRITERS.register_module(name="grefcoco")
class GRefCOCOWriter(RefCOCOWriter):
    """Write ``grefcoco/grefs(unc).json`` and ``grefcoco/instances.json``.

    Of every scene: each thing alone, the first two together and all of them, as far as
    there are so many, and something that is not there. Test scenes are ``testB`` where
    the first thing is a shape, else ``testA``.

    Args:
        folder (str): root of the dataset.
        image_format (str): ``png`` or ``jpg``.
    """

    def __init__(self, folder: str, image_format: str = "png") -> None:
        super().__init__(folder, image_format, name="grefcoco")
        self.refs = "grefcoco/grefs(unc).json"

    def readers(self, split: str) -> list[dict]:
        """Return the dataset of expressions of a split."""
        (own,) = super().readers(split)
        return [{**own, "type": "GRefCOCODataset"}]

    def _refs(self, sample: SceneSample, split: str) -> list[dict]:
        """Return what is said of the things of a scene, and of what it lacks."""
        image_id, things = image_number(sample), sample.scene.objects
        if split == "test":
            split = "testB" if things[0].kind == "shape" else "testA"
        said = [((number,), expressions(one)) for number, one in enumerate(things)]
        names = [f"the {one.reference}" for one in things]
        if len(things) > 1:
            said.append(((0, 1), (" and ".join(names[:2]), "the first two things")))
        if len(things) > 2:
            said.append((tuple(range(len(things))), ("everything", "all things")))
        shown = {one.label for one in things}
        absent = [label for label in LABELS if label not in shown]
        said.append(((), (f"the {absent[image_id % len(absent)]}",)))
        kinds = list(NAMES)
        refs = []
        for number, (places, texts) in enumerate(said):
            ref_id = image_id * 10 + number
            sent_ids = [ref_id * 10 + place for place in range(len(texts))]
            meant = [things[place] for place in places]
            refs.append(
                dict(
                    sent_ids=sent_ids,
                    file_name=f"COCO_train2014_{image_id:012d}.jpg",
                    ann_id=[image_id * 10 + place for place in places] or [-1],
                    ref_id=ref_id,
                    image_id=image_id,
                    split=split,
                    sentences=[
                        dict(tokens=t.split(), raw=t.capitalize(), sent_id=i, sent=t)
                        for i, t in zip(sent_ids, texts, strict=True)
                    ],
                    category_id=[kinds.index(m.kind) + 1 for m in meant] or [-1],
                )
            )
        return refs
