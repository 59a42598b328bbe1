"""MDETR's files: expressions with one box, captions with phrases; damage."""

import json

import pytest
from grounding_helpers import annotations, build, scenes, write_scenes

from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.tiny_scenes.ground_truth import expressions, grounded_caption
from mmvlm.structures.masks import instance_rle


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path):
    """One expression and one caption, as the released files have them."""
    image = dict(file_name="COCO_train2014_000000000009.jpg", height=48, width=64, id=0)
    refs = dict(
        info="",
        licenses="",
        categories=[],
        images=[{**image, "caption": "the bowl ", "dataset_name": "refcoco"}],
        annotations=[
            dict(
                id=7,
                image_id=0,
                bbox=[1.5, 2.25, 30, 20],
                tokens_positive=[[0, 8]],
                segmentation=[[2, 3, 20, 3, 20, 20]],
                area=600,
                iscrowd=0,
                category_id=51,
            )
        ],
    )
    caption = "Two men meet in the yard ."
    flickr = dict(
        images=[
            dict(
                file_name="1007.jpg",
                height=40,
                width=60,
                id=0,
                caption=caption,
                dataset_name="flickr",
                original_img_id=1007,
                sentence_id=3,
                tokens_positive_eval=[[[16, 24]], [[0, 7]]],
            )
        ],
        annotations=[
            dict(id=0, image_id=0, bbox=[1, 2, 10, 20], tokens_positive=[[0, 7]]),
            dict(id=1, image_id=0, bbox=[20, 2, 10, 20], tokens_positive=[[0, 7]]),
            dict(
                id=2,
                image_id=0,
                bbox=[0, 20, 60, 20],
                tokens_positive=[[8, 12], [16, 24]],
            ),
        ],
    )

    def write(name="finetune_refcoco_val.json", edit=None):
        table = flickr if "flickr" in name else refs
        if edit is not None:
            edit(table)
        (tmp_path / name).write_text(json.dumps(table))
        return dict(type="MDETRDataset", data_root=str(tmp_path), ann_file=name)

    return write


def test_an_expression_means_its_one_annotation(files):
    (found,) = annotations(build(files()))

    (bowl,) = found.instances
    assert found.image == "COCO_train2014_000000000009.jpg"
    assert found.size == (48, 64)
    assert (bowl.phrases, bowl.id) == (("the bowl",), "7")
    assert bowl.box == (1.5, 2.25, 31.5, 22.25)
    assert bowl.polygons == ((2, 3, 20, 3, 20, 20),)
    assert found.captions == ()
    assert found.meta == {"dataset_name": "refcoco"}


def test_a_captions_phrases_have_the_boxes_of_their_characters(files):
    (found,) = annotations(build(files("final_flickr_separateGT_val.json")))

    (caption,) = found.captions
    spans = [(caption.text[s.start : s.end], s.instances) for s in caption.spans]
    # What is evaluated comes first, in its order.
    assert spans == [("the yard", (2,)), ("Two men", (0, 1)), ("meet", (2,))]
    assert found.instances[2].box == (0, 20, 60, 40)
    assert found.meta["original_img_id"] == 1007
    assert found.meta["sentence_id"] == 3
    assert found.meta["phrases_to_evaluate"] == [[[16, 24]], [[0, 7]]]


def test_the_kind_can_be_said(files):
    config = files()

    (found,) = annotations(build(config, kind="caption"))

    assert found.captions[0].text == "the bowl "
    assert found.captions[0].spans[0].instances == (0,)
    with pytest.raises(ValueError, match="kind='box': expected one of"):
        build(config, kind="box")
    flickr = files("final_flickr_separateGT_val.json")
    with pytest.raises(DataError, match="has 3 annotations, expected one"):
        build(flickr, kind="expression")[0]


def test_boxes_of_captions_that_cannot_be_used_are_counted(files):
    def edit(table):
        table["annotations"][0]["bbox"] = [1, 2, 0, 20]
        del table["annotations"][1]["bbox"]

    (found,) = annotations(build(files("final_flickr_mergedGT_val.json", edit)))

    assert found.meta["left_out"] == {"no extent": 1, "no box": 1}
    assert [s.instances for s in found.captions[0].spans] == [(0,), (), (0,)]


@pytest.mark.parametrize(
    "name, edit, message",
    [
        ("a", lambda t: t["annotations"].clear(), "has 0 annotations, expected one"),
        ("a", lambda t: t["annotations"][0].update(bbox=[1, 2, 0, 3]), "no extent"),
        ("a", lambda t: t["annotations"][0].update(bbox=[99, 2, 3, 3]), "lies outside"),
        ("a", lambda t: t["annotations"][0].update(segmentation=[[1, 2]]), "point"),
        (
            "a",
            lambda t: t["images"][0].pop("file_name"),
            "image 0: no field 'file_name'",
        ),
        (
            "a",
            lambda t: t["images"][0].update(caption=""),
            "'caption' is an empty text",
        ),
        ("a", lambda t: t["images"][0].update(id="0"), "'id' must be a int"),
        (
            "flickr",
            lambda t: t["annotations"][0].update(tokens_positive=[[20, 99]]),
            "names characters 20 to 99 of a caption of 26",
        ),
        (
            "flickr",
            lambda t: t["images"][0].update(tokens_positive_eval=[[[1]]]),
            "'tokens_positive_eval' holds no \\[start, end\\]",
        ),
        ("flickr", lambda t: t["annotations"][0].pop("tokens_positive"), "no field"),
    ],
)
def test_a_damaged_entry_follows_the_policy(files, name, edit, message):
    config = files(f"{name}.json", edit)

    with pytest.raises(DataError, match=message):
        build(config)[0]
    lenient = build(config, bad_samples=dict(policy="skip"))
    assert isinstance(lenient[0], BadRecord)


def test_annotations_of_no_entry_are_counted(files):
    def edit(table):
        table["annotations"] += [dict(id=8, image_id=5, bbox=[1, 1, 2, 2]), "box"]

    data = build(files(edit=edit), bad_samples=dict(policy="skip"))
    items = [data[position] for position in range(len(data))]

    reasons = sorted(item.reason for item in items if isinstance(item, BadRecord))
    assert len(items) == 3
    assert reasons[0].startswith("1 annotations are of image 5, which is not listed")
    assert reasons[1].startswith("annotation 2: expected a record")


def test_files_that_cannot_be_read_fail_at_once(files, tmp_path):
    config = files()
    path = tmp_path / config["ann_file"]
    whole = path.read_text()
    for text, message in (
        (whole[:-40], "is not valid JSON: .*it was cut"),
        ("[]", "holds a list, expected a dict"),
        ("{}", "no list 'images'; expected COCO's layout"),
        ("", "is not valid JSON"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            build(config)


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back_from_the_files(tmp_path, split):
    writer = write_scenes("mdetr", tmp_path / "scenes")
    refs, separate, merged = (
        annotations(build(config)) for config in writer.readers(split)
    )
    wanted = [
        (writer.image_path(sample).removeprefix("images/"), phrase, item.box)
        for sample in scenes(split)
        for item in sample.scene.objects
        for phrase in expressions(item)
    ]

    assert [
        (a.image, *a.instances[0].phrases, a.instances[0].box) for a in refs
    ] == wanted
    assert all(instance_rle(a.instances[0], a.size) for a in refs)
    for number, sample in enumerate(scenes(split)):
        text, spans = grounded_caption(sample.scene)
        boxes = [item.box for item in sample.scene.objects]
        for found in (separate, merged):
            names, group = found[2 * number : 2 * number + 2]
            (caption,) = names.captions
            assert caption.text == text
            assert [(s.start, s.end) for s in caption.spans] == spans
            assert [i.box for i in names.instances] == boxes
            assert len(group.captions[0].spans) == 1
        assert [i.box for i in separate[2 * number + 1].instances] == boxes
        (around,) = merged[2 * number + 1].instances
        low = [min(box[side] for box in boxes) for side in (0, 1)]
        high = [max(box[side] for box in boxes) for side in (2, 3)]
        assert around.box == (*low, *high)
