"""Label maps: numbers in PNGs become classes, each set by its own rule."""

import json

import numpy as np
import PIL.Image
import pytest
from grounding_helpers import annotations, build, make_image, scenes, write_scenes

from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.readers.ade20k import ADE20KDataset
from mmvlm.datasets.readers.coco_stuff import COCOStuffDataset
from mmvlm.datasets.tiny_scenes.scene_masks import edge_mask, object_mask
from mmvlm.structures.masks import rle_to_mask

SIZE = (30, 40)
LISTS = dict(
    ADE20KDataset=json.dumps(["wall", "sky", "tree"]),
    COCOStuffDataset="0: unlabeled\n1: person\n2: wall-brick\n3: sky\n",
    MapillaryVistasDataset=json.dumps(
        dict(
            labels=[
                dict(readable="Bird", evaluate=True),
                dict(readable="Ground Animal", evaluate=True),
                dict(readable="Unlabeled", evaluate=False),
            ]
        )
    ),
)
KINDS = list(LISTS)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


def numbers(*values):
    """A label map in vertical stripes."""
    stripes = np.array(values, np.uint8)[np.arange(SIZE[1]) * len(values) // SIZE[1]]
    return np.broadcast_to(stripes, SIZE)


@pytest.fixture
def write(tmp_path):
    """Write a set with some label maps; gives the reader's config."""

    def function(kind, *maps, class_list=None):
        text = LISTS[kind] if class_list is None else class_list
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "classes").write_bytes(data)
        (tmp_path / "labels").mkdir(exist_ok=True)
        for number, values in enumerate(maps):
            make_image(tmp_path / "pics" / f"p{number}.jpg", SIZE[::-1])
            path = tmp_path / "labels" / f"p{number}.png"
            if isinstance(values, bytes):
                path.write_bytes(values)
            else:
                PIL.Image.fromarray(np.ascontiguousarray(values)).save(path)
        places = dict(data_root=str(tmp_path), ann_file="classes")
        return dict(places, type=kind, image_prefix="pics", label_prefix="labels")

    return function


def classes(seen):
    return {i.name: i.meta["class_id"] for i in seen.instances}


def masks(seen):
    return {item.name: rle_to_mask(item.rle) for item in seen.instances}


def test_ade20k_counts_from_one_and_ignores_nothing_and_the_last_number(write):
    labels = numbers(0, 1, 3, 255, 1)

    (seen,) = annotations(build(write("ADE20KDataset", labels)))

    assert classes(seen) == dict(wall=0, tree=2)
    assert np.array_equal(masks(seen)["wall"], labels == 1)
    assert np.array_equal(masks(seen)["tree"], labels == 3)
    assert np.array_equal(
        rle_to_mask(seen.meta["ignore"]), (labels == 0) | (labels == 255)
    )
    assert seen.instances[0].box == (8, 0, 40, 30)
    assert (seen.id, seen.image, seen.size) == ("p0", "p0.jpg", SIZE)


def test_ade20k_reads_the_table_of_the_release(write):
    table = (
        "Idx\tRatio\tTrain\tVal\tStuff\tName\r\n"
        "1\t0.1576\t11664\t1172\t1\twall\r\n"
        "2\t0.1072\t6046\t612\t1\tbuilding, edifice\r\n"
    )

    data = build(write("ADE20KDataset", numbers(2), class_list=table))

    assert data.metainfo["classes"] == ("wall", "building")
    assert classes(annotations(data)[0]) == dict(building=1)


def test_coco_stuff_drops_the_first_line_and_ignores_hyphens(write):
    labels = numbers(0, 1, 2, 255)
    config = write("COCOStuffDataset", labels)

    (seen,) = annotations(build(config))
    (kept,) = annotations(build(config, keep_hyphenated=True))

    assert classes(seen) == dict(person=0, sky=2)
    assert np.array_equal(
        rle_to_mask(seen.meta["ignore"]), (labels == 1) | (labels == 255)
    )
    assert classes(kept) == {"person": 0, "wall-brick": 1, "sky": 2}


def test_mapillary_names_are_lower_case_and_what_is_not_evaluated_is_a_choice(
    write, tmp_path
):
    labels = numbers(1, 2)
    config = write("MapillaryVistasDataset", labels)
    paletted = PIL.Image.fromarray(np.ascontiguousarray(labels))
    paletted.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    paletted.save(tmp_path / "labels" / "p0.png")

    (seen,) = annotations(build(config))
    (fewer,) = annotations(build(config, ignore_unevaluated=True))

    assert classes(seen) == {"ground animal": 1, "unlabeled": 2}
    assert seen.meta["ignore"] is None
    assert classes(fewer) == {"ground animal": 1}
    assert np.array_equal(rle_to_mask(fewer.meta["ignore"]), labels == 2)


@pytest.mark.parametrize("kind", KINDS)
def test_images_and_label_maps_without_each_other_are_damaged_records(
    write, kind, tmp_path
):
    config = write(kind, numbers(1), numbers(1), numbers(1))
    (tmp_path / "pics" / "p0.jpg").unlink()
    (tmp_path / "labels" / "p2.png").unlink()
    (tmp_path / "pics" / "notes.txt").write_text("x")

    data = build(config, bad_samples=dict(policy="skip"))

    items = [data[i] for i in range(len(data))]
    assert [isinstance(item, BadRecord) for item in items] == [True, False, True]
    assert "label map 'p0.png' has no image" in items[0].reason
    assert "image 'p2.jpg' has no label map" in items[2].reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "label_map, message",
    [
        (np.zeros((*SIZE, 3), np.uint8), r"is a colour image \(RGB\)"),
        (np.zeros((30, 41), np.uint8), "has 41 x 30 pixels, its image 40 x 30"),
        (np.full(SIZE, 77, np.uint8), r"classes \[7[67]\], but '.*classes' names 3"),
        (b"\x89PNG\r\n\x1a\nbroken", "cannot be decoded"),
        (b"", "cannot be decoded"),
    ],
)
def test_damaged_label_maps_are_named_and_follow_the_policy(
    write, kind, label_map, message
):
    config = write(kind, label_map, numbers(1))

    with pytest.raises(DataError, match=rf"label map '.*p0.png':? {message}"):
        build(config)[0]
    lenient = build(config, bad_samples=dict(policy="skip"))

    assert isinstance(lenient[0], BadRecord)
    assert lenient[1]["conversation"].id == "p1"


def test_a_label_map_that_is_cut_is_named(write, tmp_path):
    noise = np.random.default_rng(1).integers(1, 3, SIZE).astype(np.uint8)
    config = write("ADE20KDataset", noise)
    path = tmp_path / "labels" / "p0.png"
    path.write_bytes(path.read_bytes()[:-60])

    with pytest.raises(DataError, match=r"p0\.png' cannot be decoded"):
        build(config)[0]


@pytest.mark.parametrize(
    "kind, text, message",
    [
        ("ADE20KDataset", "wall\nsky\n", "expected a JSON list of names, or a table"),
        ("ADE20KDataset", "[1, 2]", "expected names"),
        ("ADE20KDataset", '["wall"', "is not valid JSON"),
        ("ADE20KDataset", "[]", "names no class"),
        (
            "COCOStuffDataset",
            "0: unlabeled\nperson\n",
            "line 2: expected 'number: name'",
        ),
        ("COCOStuffDataset", "", "names no class"),
        ("MapillaryVistasDataset", "{}", "expected 'labels', a list of objects"),
        ("MapillaryVistasDataset", '{"labels": [1]}', "expected 'labels'"),
        ("MapillaryVistasDataset", "{", "is not valid JSON"),
        ("MapillaryVistasDataset", b"\xff\xfe", "is not UTF-8"),
        ("COCOStuffDataset", b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_class_lists_that_cannot_be_read_fail_at_once(write, kind, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(write(kind, numbers(1), class_list=text), bad_samples=dict(policy="skip"))
    assert "classes'" in str(caught.value)


def test_missing_and_empty_folders_are_named(write):
    config = write("ADE20KDataset", numbers(1))

    with pytest.raises(ValueError, match=r"folder '.*other' does not exist"):
        build(config, label_prefix="other")
    with pytest.raises(ValueError, match="no record in"):
        build({**config, "image_suffix": ".jpeg", "label_prefix": "pics"})


def test_the_task_asks_for_classes_and_keeps_what_is_not_scored(write):
    config = write("ADE20KDataset", numbers(0, 1, 2, 3))
    del config["type"]
    task = dict(type="SemanticSegmentation", max_classes=2)

    talk = ADE20KDataset(**config, task=task)[0]["conversation"]

    assert len(talk.turns) == 4
    assert talk.meta["ignore"]["size"] == list(SIZE)
    config = write("COCOStuffDataset", numbers(255))
    del config["type"]
    nothing = COCOStuffDataset(**config)
    assert nothing[0].kind == "nothing to ask"


# Round trips ------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["ade20k", "coco_stuff", "mapillary"])
def test_scenes_survive_to_the_pixel(tmp_path, name, split):
    (config,) = write_scenes(name, tmp_path).readers(split)

    read_back = annotations(build(config))

    for sample, seen in zip(scenes(split), read_back, strict=True):
        found, objects = masks(seen), sample.scene.objects
        ground = np.ones(2 * (sample.scene.size,), bool)
        unsure = np.zeros_like(ground)
        for label in {o.label for o in objects}:
            own = [object_mask(sample.scene, o) for o in objects if o.label == label]
            assert np.array_equal(found.pop(label), np.maximum.reduce(own))
        for thing in objects:
            ground &= object_mask(sample.scene, thing) == 0
            unsure |= edge_mask(sample.scene, thing) > 0
        ignore = seen.meta["ignore"]
        if name == "ade20k":
            assert np.array_equal(found.pop("ground"), ground & ~unsure)
            assert np.array_equal(rle_to_mask(ignore), unsure) or not unsure.any()
        elif name == "coco_stuff":
            assert np.array_equal(rle_to_mask(ignore), ground)
        else:
            assert np.array_equal(found.pop("unlabeled"), ground) and ignore is None
        assert not found
