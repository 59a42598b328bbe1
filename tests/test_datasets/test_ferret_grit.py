"""Ferret's GRIT: placeholders become regions; points come from masks; damage."""

import json

import numpy as np
import pytest
from grounding_helpers import scenes, write_scenes

from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.readers.ferret_grit import FerretGRITDataset
from mmvlm.datasets.tiny_scenes.ground_truth import grounded_caption
from mmvlm.datasets.tiny_scenes.writers.ferret_grit import ferret_box
from mmvlm.registry import DATASETS
from mmvlm.structures import Conversation, Image, Region, Text
from mmvlm.structures.masks import mask_to_rle, rle_to_mask

SIZE = (20, 30)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


def ring_mask():
    """A mask whose centre does not belong to it."""
    mask = np.zeros(SIZE, np.uint8)
    mask[4:15, 6:25] = 1
    mask[6:13, 8:23] = 0
    return mask


def record(**changes):
    item = dict(
        id="a",
        image="a.jpg",
        image_w=30,
        image_h=20,
        conversations=[
            {
                "from": "human",
                "value": "<image>\nIs <bbox_location1> left of <bbox_location0>?",
            },
            {"from": "gpt", "value": "Yes, <bbox_location0> is."},
        ],
        box_x1y1x2y2=[[[6, 4, 24, 14], [0, 0, 3, 3]], [[6, 4, 24, 14]]],
        masks=[[mask_to_rle(ring_mask()), mask_to_rle(ring_mask())], [None]],
        extra="kept",
    )
    return {**item, **changes}


@pytest.fixture
def read(tmp_path):
    def function(records, name="vg_object.json", **options):
        (tmp_path / name).write_text(json.dumps(records))
        places = dict(data_root=str(tmp_path), ann_file=name)
        return FerretGRITDataset(**places, **options)

    return function


def regions(talk, turn):
    return [part for part in talk.turns[turn].parts if isinstance(part, Region)]


def test_placeholders_become_regions_in_the_order_of_the_text(read):
    data = read([record()], point_share=0.0)

    talk = data[0]["conversation"]

    question, answer = talk.turns
    first, second = regions(talk, 0)
    assert question.parts == (
        *(Image(0), Text("\nIs "), first, Text(" left of "), second, Text("?")),
    )
    assert first.boxes.xyxy.tolist() == [[0, 0, 3, 3]]
    assert second.boxes.xyxy.tolist() == [[6, 4, 24, 14]]
    assert (second.kind, second.boxes.size) == ("box", SIZE)
    assert np.array_equal(rle_to_mask(second.rles[0]), ring_mask())
    assert answer.text == "Yes,  is." and regions(talk, 1)[0].rles == ()
    assert talk.meta["source"] == "vg_object" and talk.meta["extra"] == "kept"
    assert "masks" not in talk.meta and "box_x1y1x2y2" not in talk.meta


def test_records_without_boxes_are_plain_conversations(read):
    talk = [
        {"from": "human", "value": "Hi <bbox_location0>"},
        record()["conversations"][1],
    ]
    plain = dict(id="b", conversations=talk)

    found = read([plain], "cc3m_595k.json")[0]["conversation"]

    assert found.turns[0].parts == (Text("Hi <bbox_location0>"),)
    assert found.meta["source"] == "cc3m_595k"


def test_boxes_are_brought_inside_as_ferret_does(read):
    boxes = [[[-5, -1, 30, 20], [29, 19, 40, 50]], [[2, 3, 2, 3]]]
    data = read([record(box_x1y1x2y2=boxes, masks=None)], point_share=0.0)

    talk = data[0]["conversation"]

    last, first = (region.boxes.xyxy.tolist() for region in regions(talk, 0))
    assert first == [[0, 0, 29, 19]] and last == [[29, 19, 29, 19]]
    assert regions(talk, 1)[0].boxes.xyxy.tolist() == [[2, 3, 2, 3]]


def test_half_of_the_questions_show_points_and_answers_boxes(read):
    data = read([record()] * 200)
    talks = [data[index]["conversation"] for index in range(200)]

    kinds = [{region.kind for region in regions(talk, 0)} for talk in talks]

    assert all(len(kind) == 1 for kind in kinds)  # drawn per turn
    assert 70 < sum(kind == {"point"} for kind in kinds) < 130
    assert all(regions(talk, 1)[0].kind == "box" for talk in talks)
    again = read([record()] * 200)
    for index in (0, 7, 199):
        one, other = (d[index]["conversation"].turns[0].parts for d in (data, again))
        assert repr(one) == repr(other)


@pytest.mark.parametrize("choice", ["uniform", "center", "gaussian"])
def test_points_lie_in_the_mask_where_there_is_one(read, choice):
    data = read([record()] * 60, point_share=1.0, point=choice)
    mask = ring_mask()
    seen = set()

    for index in range(60):
        region = regions(data[index]["conversation"], 0)[1]
        x1, y1, x2, y2 = region.boxes.xyxy[0]
        assert (x1, y1) == (x2, y2) and mask[int(y1), int(x1)]
        assert np.array_equal(rle_to_mask(region.rles[0]), mask)
        seen.add((x1, y1))

    if choice == "center":
        # The centre is (15, 9): the nearest pixels of the ring are above and below.
        assert seen <= {(15, 5), (15, 13)}
    else:
        assert len(seen) > 5


def test_masks_are_kept_for_a_share_of_the_questions(read):
    def kept(data):
        found = [regions(data[i]["conversation"], 0)[1] for i in range(100)]
        assert all(len(region.boxes) == 1 for region in found)
        return sum(bool(region.rles) for region in found)

    assert 50 < kept(read([record()] * 100, mask_share=0.7)) < 90
    bare = read([record()] * 100, point_share=1.0, mask_share=0.0)
    assert kept(bare) == 0
    region = regions(bare[0]["conversation"], 0)[1]
    x, y = region.boxes.xyxy[0, :2].astype(int)
    assert ring_mask()[y, x] and region.polygons == ()  # placed by the mask
    with pytest.raises(ValueError, match="mask_share=2"):
        read([record()], mask_share=2)


def test_points_without_masks_lie_in_the_box(read):
    bare = record(masks=None)
    drawn = read([bare] * 80, point_share=1.0)
    centred = read([bare], "refexp.json", point_share=1.0, use_masks=False)

    points = np.array(
        [regions(drawn[i]["conversation"], 0)[1].boxes.xyxy[0, :2] for i in range(80)]
    )

    assert (points >= (6, 4)).all() and (points <= (24, 14)).all()
    assert np.abs(points.mean(0) - (15, 9)).max() < 1.2
    assert np.abs(points.std(0) - (0.15 * 18, 0.15 * 10)).max() < 0.8
    region = regions(centred[0]["conversation"], 0)[1]
    assert region.boxes.xyxy.tolist() == [[15, 9, 15, 9]]
    assert region.polygons == (((6, 4, 24, 4, 24, 14, 6, 14),),)


def test_an_answer_can_repeat_the_point_of_its_question(read):
    data = read([record()], point_share=1.0, refer_previous_point=True)

    talk = data[0]["conversation"]

    assert regions(talk, 1)[0] == regions(talk, 0)[1]
    assert regions(talk, 1)[0].kind == "point"


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(box_x1y1x2y2=[[]]), "'box_x1y1x2y2' must have a list for each of the 2"),
        (dict(box_x1y1x2y2="none"), "'box_x1y1x2y2' must have a list for each"),
        (
            dict(box_x1y1x2y2=[[[6, 4, 24, 14]], [[6, 4, 24, 14]]], masks=None),
            "turn 0 says <bbox_location1>, but has 1 boxes",
        ),
        (
            dict(box_x1y1x2y2=[[[1, 1, 2, 2]] * 3, [[1, 1, 2, 2]]], masks=None),
            "turn 0 has 3 boxes, but its text does not say <bbox_location2>",
        ),
        (dict(masks=[[None], [None]]), "'masks' has 1 masks in a turn of 2 boxes"),
        (dict(image_w=31), r"RLE: size \[20, 30\]"),
        (dict(image_w="30"), "'image_w' must be a int"),
        (dict(image_h=-1), "must be positive"),
        (
            dict(box_x1y1x2y2=[[[6, 4, 24, 14], [9, 9, 3, 3]], [[1, 1, 2, 2]]]),
            "ends before it begins",
        ),
        (
            dict(box_x1y1x2y2=[[[6, 4, 24, 14], [30, 0, 33, 3]], [[1, 1, 2, 2]]]),
            "lies outside of its image",
        ),
        (
            dict(box_x1y1x2y2=[[[6, 4, 24], [0, 0, 3, 3]], [[1, 1, 2, 2]]]),
            "no box of four finite numbers",
        ),
        (
            dict(box_x1y1x2y2=[[[6, 4, 24, float("nan")], [0, 0, 3, 3]], [[1] * 4]]),
            "no box of four finite numbers",
        ),
        (
            dict(masks=[[mask_to_rle(np.zeros(SIZE, np.uint8))] * 2, [None]]),
            "an empty mask, which has no point",
        ),
        (dict(conversations=[]), "'conversations' must be a list of turns"),
    ],
)
def test_a_damaged_record_follows_the_policy(read, changes, message):
    records = [record(), record(**changes)]

    with pytest.raises(DataError, match=message):
        read(records, point_share=1.0)[1]
    lenient = read(records, point_share=1.0, bad_samples=dict(policy="skip"))

    assert isinstance(lenient[1], BadRecord)
    assert lenient[0]["conversation"].id == "a"


def test_options_are_checked_and_files_that_are_cut_fail_at_once(read, tmp_path):
    with pytest.raises(ValueError, match="point_share=2: expected 0 to 1"):
        read([record()], point_share=2)
    with pytest.raises(ValueError, match="point='middle', use_masks=True: expected"):
        read([record()], point="middle")
    with pytest.raises(ValueError, match="'uniform' needs masks"):
        read([record()], point="uniform", use_masks=False)
    assert read([record()], "any.json", source="mine").source == "mine"
    (tmp_path / "cut.json").write_text(json.dumps([record()])[:-30])
    with pytest.raises(ValueError, match="cut"):
        FerretGRITDataset("cut.json", data_root=str(tmp_path))


def per_image(dataset):
    """The turns about each image, in order."""
    found = {}
    for index in range(len(dataset)):
        talk = dataset[index]["conversation"]
        found.setdefault(talk.images[0], []).extend(talk.turns)
    return found


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back_from_the_files(tmp_path, split):
    writer = write_scenes("ferret_grit", tmp_path / "scenes")
    datasets = [DATASETS.build(config) for config in writer.readers(split)]
    parts = [per_image(dataset) for dataset in datasets]

    for sample in scenes(split):
        items = sample.scene.objects
        wanted = [ferret_box(item) for item in items]
        path = writer.image_path(sample).removeprefix("images/")
        asked, found, caption, there = (
            Conversation(part[path], [path]) for part in parts
        )
        left = {tuple(box): item for box, item in zip(wanted, items, strict=True)}
        for number in range(len(items)):  # in any order
            (region,) = regions(asked, 2 * number)
            (box,) = region.boxes.xyxy.tolist()
            item = left.pop(tuple(box))
            mask = rle_to_mask(region.rles[0])
            x1, y1, x2, y2 = item.box
            assert mask[y1:y2, x1:x2].sum() == mask.sum() > 0
            assert asked.turns[2 * number + 1].text == f"A {item.phrase}."
        for number, item in enumerate(items):
            (region,) = regions(found, 2 * number + 1)
            assert region.boxes.xyxy.tolist() == [wanted[number]]
            assert item.reference in found.turns[2 * number].text
        text = caption.turns[1].text.replace("  ", " ")
        assert text == grounded_caption(sample.scene)[0] + "."
        boxes = [region.boxes.xyxy[0].tolist() for region in regions(caption, 1)]
        assert boxes == wanted
        assert there.turns[-1].text.startswith("No, but there is a ")
        assert regions(there, len(there.turns) - 1)[0].boxes.xyxy.tolist() == wanted[:1]
    if split == "test":
        assert all(len(d[0]["conversation"].turns) == 2 for d in datasets)
    assert [d.source for d in datasets] == [
        *("vg_object", "refexp", "flickr", "objects365"),
    ]
