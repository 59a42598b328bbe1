"""Visual Genome: aligned files, old and new names, damage counted where it is."""

import json

import numpy as np
import PIL.Image
import pytest
from grounding_helpers import annotations, build, make_image, scenes, write_scenes

from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.io.annotation_files import stream_json_array
from mmvlm.datasets.tiny_scenes.ground_truth import (
    expressions,
    image_number,
    relations,
)
from mmvlm.structures import Relation

MAN = dict(object_id=11, x=5, y=6, w=20, h=20, names=["man", "guy"], synsets=[])
DOG = dict(object_id=12, x=30, y=10, w=5, h=5, names=["dog"], synsets=[])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path):
    """Two images; ``edit`` changes the tables before they are written."""
    region = dict(region_id=7, image_id=1, x=0, y=1, width=40, height=9)
    tables = dict(
        region_descriptions=[
            dict(
                id=1,
                regions=[
                    {**region, "phrase": "a man and his dog "},
                    {**region, "region_id": 8, "x": 35, "phrase": "grass"},
                ],
            ),
            dict(id=2, regions=[]),
        ],
        objects=[
            dict(image_id=1, objects=[MAN, DOG], image_url="https://x.invalid/1.jpg"),
            dict(image_id=2, objects=[]),
        ],
        relationships=[
            dict(
                image_id=1,
                relationships=[
                    dict(predicate="walks", subject=MAN, object=DOG, relationship_id=3),
                    dict(
                        predicate="on",
                        subject=DOG,
                        object=dict(object_id=13, x=0, y=20, w=40, h=10, name="grass"),
                    ),
                ],
            ),
            dict(image_id=2, relationships=[]),
        ],
        attributes=[
            dict(image_id=1, attributes=[{**DOG, "attributes": ["brown", "small"]}]),
            dict(image_id=2, attributes=[]),
        ],
        image_data=[
            dict(
                image_id=number,
                width=40,
                height=30,
                url=f"https://cs.stanford.edu/people/rak248/VG_100K_2/{number}.jpg",
                coco_id=None,
                flickr_id=None,
            )
            for number in (1, 2)
        ],
    )

    def write(edit=None, **options):
        if edit is not None:
            edit(tables)
        for name, items in tables.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(items))
        return dict(
            type="VisualGenomeDataset",
            data_root=str(tmp_path),
            ann_file="region_descriptions.json",
            also=["objects.json", "relationships.json", "attributes.json"],
            image_data="image_data.json",
            image_prefix="images",
            **options,
        )

    return write


def test_an_image_has_objects_regions_and_relations(files):
    first, second = annotations(build(files()))

    assert (first.id, first.image, first.size) == ("1", "1.jpg", (30, 40))
    man, dog, grass, both, strip = first.instances
    assert (man.name, man.box, man.id) == ("man", (5, 6, 25, 26), "11")
    assert man.meta == {"names": ["man", "guy"]}
    assert (dog.name, dog.attributes) == ("dog", ("brown", "small"))
    assert (grass.name, grass.box) == ("grass", (0, 20, 40, 30))
    assert (both.phrases, both.name) == (("a man and his dog",), "")
    assert both.box == (0, 1, 40, 10)
    assert (strip.box, strip.meta) == ((35, 1, 40, 10), {"uncut_box": [35, 1, 75, 10]})
    assert first.relations == (Relation(0, "walks", 1), Relation(1, "on", 2))
    assert first.meta == {"image_id": 1}
    assert second.instances == () and second.id == "2"


def test_old_releases_name_fields_otherwise(files):
    def edit(tables):
        tables["image_data"] = [
            dict(id=item["image_id"], width=40, height=30)
            for item in tables["image_data"]
        ]
        del tables["region_descriptions"][0]["id"]  # its regions have image_id
        for item in tables["objects"]:
            item["id"] = item.pop("image_id")
        tables["objects"][0]["objects"] = [
            dict(id=11, x=5, y=6, width=20, height=20, name="man", attributes=["tall"]),
            dict(id=12, x=30, y=10, width=5, height=5, name="dog"),
        ]
        tables["relationships"][0]["relationships"] = [
            dict(predicate="walks", subject_id=11, object_id=12)
        ]

    first, _ = annotations(build(files(edit)))

    assert [i.name for i in first.instances] == ["man", "dog", "", ""]
    assert first.instances[0].box == (5, 6, 25, 26)
    assert first.instances[0].attributes == ("tall",)
    assert first.relations == (Relation(0, "walks", 1),)


def test_options_choose_samples_folders_and_files(files, tmp_path):
    config = files()

    regions = annotations(build(config, per="region"))
    assert [a.id for a in regions] == ["7", "8"]
    assert [a.instances[0].phrases for a in regions] == [
        ("a man and his dog",),
        ("grass",),
    ]
    (first, _) = annotations(build(config, with_folder=True))
    assert first.image == "VG_100K_2/1.jpg"
    objects = {**config, "ann_file": "objects.json", "also": (), "image_data": None}
    make_image(tmp_path / "images/1.jpg", (40, 30))
    make_image(tmp_path / "images/2.jpg", (8, 9))
    found = annotations(build(objects))
    assert [a.size for a in found] == [(30, 40), (9, 8)]
    assert [i.name for i in found[0].instances] == ["man", "dog"]
    with pytest.raises(ValueError, match="per='box': expected one of"):
        build(config, per="box")
    with pytest.raises(ValueError, match="with_folder=True needs image_data"):
        build(objects, with_folder=True)


def test_what_cannot_be_used_in_an_image_is_counted(files):
    def edit(tables):
        objects = tables["objects"][0]["objects"]
        objects += [
            {**DOG, "object_id": 20, "w": 0},
            {**DOG, "object_id": 21, "x": 41},
            {**DOG, "object_id": 22, "y": float("nan")},
            {**DOG, "object_id": 23, "h": 10**400},
            dict(object_id=24, names=["bird"]),
            "dog",
        ]
        relationships = tables["relationships"][0]["relationships"]
        relationships += [
            dict(predicate="near", subject=MAN, object=objects[2]),
            dict(predicate="", subject=MAN, object=DOG),
            dict(predicate="by", subject_id=99, object_id=11),
            "near",
        ]
        tables["region_descriptions"][0]["regions"] += [dict(x=1), 3]

    first, _ = annotations(build(files(edit)))

    assert len(first.instances) == 5 and len(first.relations) == 2
    assert first.meta["left_out"] == {
        "no extent": 1,
        "outside": 1,
        "not finite": 4,
        "relation": 4,
        "no phrase": 2,
    }


def test_files_of_different_releases_are_refused(files):
    with pytest.raises(
        ValueError,
        match=r"item 0 is about different images: 1 in 'region_descriptions.json', "
        r"2 in 'objects.json'",
    ):
        build(files(lambda t: t["objects"].reverse()))
    with pytest.raises(ValueError, match=r"item 1 .*, nothing in 'objects.json'"):
        build(files(lambda t: (t["objects"].reverse(), t["objects"].pop())))


def test_a_damaged_item_follows_the_policy(files):
    def edit(tables):
        tables["objects"][1]["objects"] = "none"
        for table in ("region_descriptions", "objects", "relationships", "attributes"):
            tables[table].append(dict(regions=[]))

    config = files(edit)

    data = build(config)
    with pytest.raises(
        DataError, match=r"id '2'.*'objects' must be a list, got 'none'"
    ):
        data[1]
    with pytest.raises(DataError, match="item 2 names no image"):
        data[2]
    lenient = build(config, bad_samples=dict(policy="skip"))
    bad = [isinstance(lenient[i], BadRecord) for i in range(3)]
    assert bad == [False, True, True]


@pytest.mark.parametrize("file", ["region_descriptions", "relationships", "image_data"])
@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda text: text[:-20], "it was cut; fetch"),
        (lambda text: b"", "The file ends too early"),
        (lambda text: b'{"a": 1}', "Expecting a list"),
        (lambda text: text[:40] + b"\xff\xfe" + text[40:], "is not UTF-8 text"),
        (lambda text: text + b"]", "Extra data"),
        (lambda text: text.replace(b"},", b"} ", 1), "Expecting"),
        (lambda text: b"[" * 100_000, "nested too deeply"),
    ],
)
def test_files_that_cannot_be_read_fail_at_once(files, tmp_path, file, damage, message):
    config = files()
    path = tmp_path / f"{file}.json"
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(ValueError, match=rf"{file}.json' .*{message}"):
        build(config)


def test_a_stream_gives_what_json_gives(tmp_path):
    items = [1, -2.5, 'a]"[\u00e9', [], {}, None, {"a": [1, {"b": "}"}]}, 10**18, True]
    path = tmp_path / "items.json"
    for text in (json.dumps(items), json.dumps(items, indent=2), " [ ] \n"):
        path.write_text(text)
        found = list(stream_json_array(str(path)))
        assert found == json.loads(text)
        assert [type(value) for value in found] == [type(v) for v in json.loads(text)]


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back_from_the_files(tmp_path, split):
    writer = write_scenes("visual_genome", tmp_path / "scenes")
    (config,) = writer.readers(split)

    found = annotations(build(config))

    samples = {str(image_number(s)): s for s in scenes(split)}
    assert {a.id for a in found} == set(samples)
    for annotation in found:
        sample = samples[annotation.id]
        objects = sample.scene.objects
        folder = tmp_path / f"scenes/visual_genome_{split}"
        pixels = np.asarray(PIL.Image.open(folder / annotation.image))
        assert np.array_equal(pixels, sample.image())
        things = annotation.instances[: len(objects)]
        assert [(i.name, i.box, i.attributes) for i in things] == [
            (item.label, item.box, (item.colour,)) for item in objects
        ]
        regions = annotation.instances[len(objects) :]
        assert [(i.phrases, i.box) for i in regions] == [
            ((phrase,), item.box) for item in objects for phrase in expressions(item)
        ]
        wanted = [Relation(*relation) for relation in relations(sample.scene)]
        assert list(annotation.relations) == wanted
        assert "left_out" not in annotation.meta
