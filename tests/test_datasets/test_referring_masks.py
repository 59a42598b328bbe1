"""Referring segmentation on RefCOCO's files: every polygon of an object counts."""

import json
import pickle

import numpy as np
import pytest
from grounding_helpers import annotations, build, make_image, scenes, write_scenes
from pycocotools import mask as coco_mask

from mmvlm.datasets.bad_samples import DataError
from mmvlm.datasets.readers.refcoco import RefCOCODataset
from mmvlm.datasets.tiny_scenes.ground_truth import image_number
from mmvlm.datasets.tiny_scenes.scene_masks import object_mask
from mmvlm.structures import Region
from mmvlm.structures.masks import instance_rle, region_rle, rle_to_mask

SIZE = (30, 40)
#: Two parts of one object that overlap.
RINGS = [
    [2.0, 3.0, 12.5, 3.0, 12.5, 9.0, 2.0, 9.0],
    [10.0, 6.0, 30.0, 8.0, 20.0, 25.0],
]
TASK = dict(
    type="ReferringSegmentation", questions="<name>", answers="<mask>", max_questions=1
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


def write(folder, segmentation):
    sentence = dict(tokens=["Left", "one"], raw="Left one", sent_id=5, sent="Left one")
    ref = dict(
        **dict(sent_ids=[5], file_name="x_1.jpg", ann_id=1, ref_id=3, image_id=7),
        **dict(split="train", sentences=[sentence], category_id=1),
    )
    tables = dict(
        images=[dict(id=7, file_name="a.jpg", width=SIZE[1], height=SIZE[0])],
        annotations=[
            dict(
                **dict(id=1, image_id=7, category_id=1, bbox=[2, 3, 28, 22]),
                **dict(segmentation=segmentation, iscrowd=0),
            )
        ],
        categories=[dict(id=1, name="thing")],
    )
    (folder / "refcoco").mkdir(exist_ok=True)
    (folder / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps([ref], protocol=2))
    (folder / "refcoco" / "instances.json").write_text(json.dumps(tables))
    make_image(folder / "images" / "a.jpg", SIZE[::-1])
    return dict(
        **dict(data_root=str(folder), ann_file="refcoco/refs(unc).p"),
        **dict(image_prefix="images", task=TASK),
    )


def mask_of(talk):
    (found,) = [p for p in talk.turns[-1].parts if isinstance(p, Region)]
    assert found.kind == "mask"
    return found, rle_to_mask(region_rle(found))


def test_the_mask_is_the_union_that_the_official_reader_makes(tmp_path):
    talk = RefCOCODataset(**write(tmp_path, RINGS))[0]["conversation"]

    region, mask = mask_of(talk)

    channels = coco_mask.decode(coco_mask.frPyObjects(RINGS, *SIZE))
    assert (channels.sum(axis=2) > 1).any(), "the parts must overlap"
    assert np.array_equal(mask, channels.sum(axis=2) > 0)
    assert region.polygons == (tuple(map(tuple, RINGS)),)
    assert region.phrase == talk.turns[0].text.strip() == "left one"


def test_run_lengths_take_the_place_of_polygons(tmp_path):
    runs = dict(size=list(SIZE), counts=[300, 30, 870])

    _, mask = mask_of(RefCOCODataset(**write(tmp_path, runs))[0]["conversation"])

    assert mask.sum() == 30 and mask[:, 10].all()


@pytest.mark.parametrize(
    "segmentation, message",
    [
        ([[1, 2, 3, 4, 5]], "polygon 0: 5 coordinates"),
        (dict(size=[40, 30], counts=[1200]), r"RLE: size \[40, 30\]"),
        ([[50.0, 35.0, 60.0, 35.0, 60.0, 38.0]], "mask of instance '1': empty"),
    ],
)
def test_damaged_masks_are_named(tmp_path, segmentation, message):
    with pytest.raises(DataError, match=message):
        RefCOCODataset(**write(tmp_path, segmentation))[0]


@pytest.mark.parametrize("split", ["train", "test"])
def test_masks_of_scenes_come_back(tmp_path, split):
    (config,) = write_scenes("refcoco", tmp_path / "scenes").readers(split)

    found = {a.id: a for a in annotations(build(config, per="image"))}

    for sample in scenes(split):
        seen = found[str(image_number(sample))]
        assert len(seen.instances) == len(sample.scene.objects)
        for item, thing in zip(seen.instances, sample.scene.objects, strict=True):
            mask = object_mask(sample.scene, thing)
            own = rle_to_mask(instance_rle(item, mask.shape))
            iou = (own & mask).sum() / (own | mask).sum()
            assert iou >= 0.95 or thing.kind != "shape"
            assert iou >= 0.6
