"""COCO's JSON and its dialects: true layouts, oddities of the real files, damage."""

import json
import pickle

import numpy as np
import pytest
from grounding_helpers import annotations, build, make_image, scenes, write_scenes

from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.readers.coco_detection import CocoDetectionDataset
from mmvlm.datasets.readers.lvis import LVISDataset
from mmvlm.datasets.readers.objects365 import Objects365Dataset
from mmvlm.datasets.readers.paco_lvis import PACOLVISDataset, PascalPartDataset
from mmvlm.datasets.tiny_scenes.scene_masks import object_mask
from mmvlm.datasets.tiny_scenes.writers.paco_lvis import PARTS, part_mask
from mmvlm.registry import DATASETS
from mmvlm.structures import Region
from mmvlm.structures.masks import instance_rle, rle_to_mask


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


def tables(**changes):
    """Two images of 40 x 30; the second one comes first among the annotations."""
    ring = [10.0, 5.0, 20.0, 5.0, 20.0, 15.0, 10.0, 15.0]
    crowd = {"counts": [0, 30, 1170], "size": [30, 40]}
    value = dict(
        info=dict(year=2017),
        licenses=[],
        images=[
            dict(id=9, file_name="000000000009.jpg", width=40, height=30, license=3),
            dict(id=4, file_name="000000000004.jpg", width=40, height=30),
        ],
        annotations=[
            dict(id=1, image_id=4, category_id=90, bbox=[0, 0, 8.5, 6], iscrowd=0),
            dict(
                **dict(id=7, image_id=9, category_id=18, bbox=[10, 5, 10, 10]),
                **dict(segmentation=[ring], area=100.0, iscrowd=0),
            ),
            dict(
                **dict(id=8, image_id=9, category_id=90, bbox=[0, 0, 1, 30]),
                **dict(segmentation=crowd, area=30, iscrowd=1),
            ),
        ],
        categories=[
            dict(id=18, name="dog", supercategory="animal"),
            dict(id=90, name="toothbrush", supercategory="indoor"),
        ],
    )
    return {**value, **changes}


@pytest.fixture
def write(tmp_path):
    """Write tables and images; gives the reader's arguments."""

    def function(value, name="instances.json"):
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        (tmp_path / name).write_bytes(text)
        for number in (4, 9):
            make_image(tmp_path / "train2017" / f"{number:012d}.jpg")
        root = str(tmp_path)
        return dict(data_root=root, ann_file=name, image_prefix="train2017")

    return function


def read(arguments, kind=CocoDetectionDataset, **options):
    return build(dict(type=kind.__name__, **arguments), **options)


def test_images_are_joined_with_what_lies_on_them(write):
    first, second = annotations(read(write(tables())))

    assert (first.id, first.image, first.size) == ("9", "000000000009.jpg", (30, 40))
    assert first.meta == dict(license=3)
    dog, crowd = first.instances
    assert (dog.box, dog.name, dog.id) == ((10, 5, 20, 15), "dog", "7")
    assert dog.polygons == ((10, 5, 20, 5, 20, 15, 10, 15),) and dog.rle is None
    assert rle_to_mask(instance_rle(dog, (30, 40))).sum() == 100
    assert dog.meta["area"] == 100 and dog.meta["category_id"] == 18
    assert dog.meta["category"] == dict(id=18, name="dog", supercategory="animal")
    assert (crowd.is_crowd, crowd.name, dog.is_crowd) == (True, "toothbrush", False)
    assert rle_to_mask(crowd.rle)[:, 0].all() and not crowd.polygons
    assert [i.box for i in second.instances] == [(0, 0, 8.5, 6)]
    assert second.instances[0].rle is None and second.instances[0].polygons == ()


def test_images_without_annotations_are_kept_and_counted_by_the_task(write):
    value = tables(annotations=[])

    data = CocoDetectionDataset(**write(value))

    assert len(data) == 2
    assert isinstance(data[0], BadRecord) and data[0].kind == "nothing to ask"


def test_a_second_opening_does_not_read_the_file_and_a_change_does(
    write, monkeypatch, tmp_path
):
    arguments = write(tables())
    before = annotations(read(arguments))

    with monkeypatch.context() as patch:
        patch.setattr("mmvlm.datasets.readers.coco_detection.scan_sections", None)
        assert annotations(read(arguments)) == before
    value = tables()
    value["categories"][0]["name"] = "hound"
    write(value)

    assert annotations(read(arguments))[0].instances[0].name == "hound"


def test_a_file_that_changes_while_it_is_open_is_named(write, tmp_path):
    data = read(write(tables()))
    data[0]

    text = (tmp_path / "instances.json").read_text()
    with open(tmp_path / "instances.json", "r+") as file:
        file.write(" " * (len(text) // 2))

    with pytest.raises(ValueError, match="was changed while it was open"):
        data[0]


def test_copies_in_other_processes_read_on(write):
    data = read(write(tables()))
    before = annotations(data)

    assert annotations(pickle.loads(pickle.dumps(data))) == before


def test_ids_may_be_texts_and_texts_any_language(write):
    value = tables()
    for item in value["images"]:
        item["id"] = f"b\u00e4r-{item['id']}"
    for item in value["annotations"]:
        item["image_id"] = f"b\u00e4r-{item['image_id']}"
    value["categories"][0]["name"] = " B\u00e4r "
    text = json.dumps(value, ensure_ascii=False).encode()

    first, second = annotations(read(write(text)))

    assert first.id == "b\u00e4r-9" and first.instances[0].name == "B\u00e4r"
    assert len(second.instances) == 1


def test_what_belongs_to_no_image_is_a_damaged_record_of_its_own(write):
    value = tables()
    value["images"].append(dict(value["images"][0]))
    value["images"].append(dict(id=5))
    value["images"].append("000000000001.jpg")
    value["annotations"][1]["image_id"] = 77
    value["annotations"].append([1, 2])

    data = read(write(value), bad_samples=dict(policy="skip"))
    reasons = [item.reason for item in data if isinstance(item, BadRecord)]

    assert len(data) == 2 + 3 + 2
    for reason, message in zip(
        reasons,
        (
            "entry 2 of 'images': id 9 comes twice",
            "entry 3 of 'images': no field 'file_name'",
            "entry 4 of 'images': expected a record",
            "annotation 7: 'image_id' 77 is not among the images",
            "annotation : 'image_id' None is not among the images",
        ),
        strict=True,
    ):
        assert message in reason


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(bbox=[10, 5, 0, 10]), "'bbox' has no extent"),
        (dict(bbox=[10, 5, -3, 10]), "'bbox' has no extent"),
        (dict(bbox=[10, 5, float("nan"), 10]), "'bbox' holds no finite number"),
        (dict(bbox=[50, 5, 10, 10]), "'bbox' .* lies outside of its image"),
        (dict(bbox="10 5 10 10"), "'bbox' must be a list"),
        (dict(category_id=3), "'category_id' 3 is not among the categories"),
        (dict(segmentation=[[1, 2, 3]]), "'segmentation': polygon 0: 3 coordinates"),
        (dict(segmentation=[[1, 2, 3, 4]]), r"'segmentation': polygon 0: 2 point\(s\)"),
        (
            dict(segmentation=dict(size=[40, 30], counts=[1200])),
            r"'segmentation': RLE: size \[40, 30\]",
        ),
        (dict(segmentation="abc"), "'segmentation': polygons: expected a list"),
    ],
)
def test_damaged_annotations_name_themselves_or_are_left_out_and_listed(
    write, change, message
):
    value = tables()
    value["annotations"][1].update(change)
    arguments = write(value)

    strict = read(arguments)
    with pytest.raises(DataError, match=f"id '9'.*annotation 7: {message}"):
        strict[0]
    lenient = annotations(read(arguments, bad_instances="leave_out"))[0]

    assert [item.id for item in lenient.instances] == ["8"]
    ((name, reason),) = lenient.meta["left_out"]
    assert name == 7 and reason
    assert strict[1]["conversation"].id == "4"


def test_boxes_that_stick_out_are_cut_and_the_numbers_kept(write):
    value = tables()
    value["annotations"][0]["bbox"] = [30, -2, 11.5, 10]

    item = annotations(read(write(value)))[1].instances[0]

    assert item.box == (30, 0, 40, 8)
    assert item.meta["uncut_box"] == [30, -2, 41.5, 8]


@pytest.mark.parametrize(
    "value, message",
    [
        (json.dumps(tables())[:400].encode(), "is damaged at byte .* it was cut"),
        (b"[1, 2]", "it is no JSON object"),
        (b"\xff\xfe{", "is not UTF-8 text"),
        (tables(images={}), "'images' is no list"),
        ({"images": [], "annotations": []}, r"has no table \['categories'\]"),
        (tables(images=[], annotations=[]), "no record in"),
        (tables(categories=[dict(id=1)]), "category 0: no field 'name'"),
        (
            tables(categories=[dict(id=1, name="a"), dict(id=1, name="b")]),
            "category 1: id 1 comes twice",
        ),
    ],
)
def test_files_that_cannot_be_read_fail_at_once_under_every_policy(
    write, value, message
):
    arguments = write(value)
    for policy in ("raise", "skip"):
        with pytest.raises(ValueError, match=message) as caught:
            read(arguments, bad_samples=dict(policy=policy))
        assert "instances.json" in str(caught.value)


def test_a_misspelt_option_is_named(write):
    with pytest.raises(ValueError, match="bad_instances='drop': expected one of"):
        CocoDetectionDataset(**write(tables()), bad_instances="drop")
    with pytest.raises(ValueError, match="release='v3': expected one of"):
        Objects365Dataset(**write(tables()), release="v3")


def test_paths_may_not_leave_the_data_folder(write):
    value = tables()
    del value["images"][0]["width"]
    value["images"][0]["file_name"] = "../../secret.jpg"

    with pytest.raises(DataError, match="leaves the folder"):
        read(write(value))[0]


# Dialects ---------------------------------------------------------------


def lvis(**changes):
    value = tables()
    for item in value["images"]:
        name = item.pop("file_name")
        item["coco_url"] = f"http://images.cocodataset.org/train2017/{name}"
        item |= dict(neg_category_ids=[90], not_exhaustive_category_ids=[18]) | changes
    value["categories"][0].update(
        name="crate_(for_fruit)",
        synset="crate.n.01",
        synonyms=["crate_(for_fruit)", "fruit_box"],
    )
    return value


def test_lvis_takes_paths_from_addresses_and_names_what_is_absent(write):
    arguments = {**write(lvis()), "image_prefix": ""}

    first = annotations(read(arguments, LVISDataset))[0]

    assert first.image == "train2017/000000000009.jpg"
    assert first.meta["absent_names"] == ["toothbrush"]
    assert first.meta["not_exhaustive_names"] == ["crate (for fruit)"]
    crate, _ = first.instances
    assert crate.name == "crate (for fruit)"
    assert crate.meta["synonyms"] == ["crate (for fruit)", "fruit box"]
    assert crate.meta["category"]["synset"] == "crate.n.01"


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(neg_category_ids=[1000]), r"'neg_category_ids': \[1000\] are not among"),
        (dict(neg_category_ids=[[90]]), r"'neg_category_ids': \[\[90\]\] are not"),
        (dict(coco_url="image"), "'coco_url' 'image' names no image"),
        (dict(coco_url=None), "'coco_url' must be a str"),
    ],
)
def test_lvis_names_what_is_damaged(write, changes, message):
    arguments = {**write(lvis(**changes)), "image_prefix": ""}

    with pytest.raises(DataError, match=message):
        read(arguments, LVISDataset)[0]


def test_lvis_refuses_categories_whose_synonyms_are_no_texts(write):
    value = lvis()
    value["categories"][0]["synonyms"] = 7

    with pytest.raises(ValueError, match=r"category 'crate_.*: 'synonyms' must be a"):
        read(write(value), LVISDataset)


def test_lvis_of_the_older_version_has_file_names(write):
    assert annotations(read(write(tables()), LVISDataset))[0].image == (
        "000000000009.jpg"
    )


def test_objects365_finds_patches_and_keeps_its_flags(write):
    value = tables()
    for item in value["images"]:
        item["file_name"] = f"images/v1/patch8/{item['file_name']}"
    value["categories"][0]["name"] = "Cabinet/shelf "
    value["annotations"][1].update(isfake=1, isreflected=0)
    arguments = write(value)

    newer = annotations(read(arguments, Objects365Dataset))[0]
    older = annotations(read(arguments, Objects365Dataset, release="v1"))[0]

    assert newer.image == "patch8/000000000009.jpg"
    assert older.image == "000000000009.jpg"
    item = newer.instances[0]
    assert item.name == "Cabinet/shelf" and item.meta["isfake"] == 1
    assert item.meta["synonyms"] == ["Cabinet", "shelf"]


def test_parts_have_an_object(write):
    value = tables()
    value["categories"][0]["name"] = "trash_can_(bin):rim_(edge)"
    value["categories"][1]["name"] = "trash_can_(bin)"
    arguments = write(value)
    part, whole = annotations(read(arguments, PACOLVISDataset))[0].instances

    assert part.name == "trash can rim" and whole.name == "trash can"
    assert (part.meta["object"], part.meta["part"]) == ("trash can", "rim")
    assert "part" not in whole.meta
    value["categories"][0]["name"] = "a:b:c"
    with pytest.raises(
        ValueError, match=r"instances.json': category 'a:b:c': expected"
    ):
        read(write(value), PascalPartDataset)


# Round trips ------------------------------------------------------------


def iou(item, mask):
    own = rle_to_mask(instance_rle(item, mask.shape)) > 0
    return (own & (mask > 0)).sum() / (own | (mask > 0)).sum()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["coco_detection", "lvis", "objects365"])
def test_scenes_survive_with_boxes_and_masks(tmp_path, name, split):
    (config,) = write_scenes(name, tmp_path).readers(split)

    read_back = annotations(build(config))

    worst = 1.0
    for sample, seen in zip(scenes(split), read_back, strict=True):
        objects = sample.scene.objects
        assert [item.box for item in seen.instances] == [o.box for o in objects]
        if name == "objects365":
            names = [item.name.split("/")[0].lower() for item in seen.instances]
            assert names == [o.label for o in objects]
            continue
        assert [item.name for item in seen.instances] == [o.label for o in objects]
        for item, thing in zip(seen.instances, objects, strict=True):
            found = iou(item, object_mask(sample.scene, thing))
            assert found >= (0.95 if thing.kind == "shape" else 1.0)
            worst = min(worst, found)
    assert name == "objects365" or worst < 1.0


def test_lvis_scenes_name_absent_classes(tmp_path):
    (config,) = write_scenes("lvis", tmp_path).readers("train")

    for sample, seen in zip(scenes(), annotations(build(config)), strict=True):
        there = {item.label for item in sample.scene.objects}
        assert len(seen.meta["absent_names"]) == 2
        assert not there & set(seen.meta["absent_names"])


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["paco_lvis", "pascal_part"])
def test_parts_survive_exactly(tmp_path, name, split):
    (config,) = write_scenes(name, tmp_path).readers(split)
    parts = PARTS if name == "paco_lvis" else PARTS[1:]

    for sample, seen in zip(scenes(split), annotations(build(config)), strict=True):
        wanted = [(o, part) for o in sample.scene.objects for part in parts]
        for item, (thing, part) in zip(seen.instances, wanted, strict=True):
            assert item.name == f"{thing.label} {part}".strip()
            mask = part_mask(sample.scene, thing, part)
            assert np.array_equal(rle_to_mask(item.rle), mask)


def test_images_of_the_true_layout_load(tmp_path):
    for name in ("coco_detection", "lvis", "objects365", "paco_lvis", "pascal_part"):
        (config,) = write_scenes(name, tmp_path, ["train"]).readers("train")
        item = build(config, pipeline=[dict(type="mmvlm.LoadImages")])[0]
        off = item["images"][0].astype(int) - scenes()[0].image()
        assert np.abs(off).mean() < 6


@pytest.mark.parametrize(
    "name, task, kind",
    [
        ("coco_detection", None, "box"),
        ("objects365", None, "box"),
        ("lvis", dict(type="SemanticSegmentation"), "mask"),
        ("lvis", dict(type="Existence", negative_share=0.0), "box"),
        ("paco_lvis", None, "mask"),
        ("pascal_part", None, "mask"),
    ],
)
def test_annotations_serve_tasks_of_boxes_and_of_masks(tmp_path, name, task, kind):
    (config,) = write_scenes(name, tmp_path, ["train"]).readers("train")

    talks = [item["conversation"] for item in DATASETS.build({**config, "task": task})]

    for talk in talks:
        found = [p for turn in talk.turns for p in turn.parts if isinstance(p, Region)]
        assert found and {part.kind for part in found} == {kind}


def test_absent_names_of_lvis_are_all_that_is_denied(tmp_path):
    (config,) = write_scenes("lvis", tmp_path, ["train"]).readers("train")
    task = dict(
        type="Existence", negative_share=1.0, semantic_share=0.0, templates="<object>?"
    )

    data = DATASETS.build({**config, "task": task})

    seen = annotations(build(config))
    for number, annotation in enumerate(seen):
        asked = data[number]["conversation"].turns[0].text
        assert any(name in asked for name in annotation.meta["absent_names"])
