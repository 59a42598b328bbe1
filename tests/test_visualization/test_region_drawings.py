"""Images and pages of replies that name regions."""

import json
import re

import numpy as np
import PIL.Image
import pytest

from mmvlm.structures import Boxes, Region
from mmvlm.structures.masks import mask_to_rle
from mmvlm.visualization.regions import (
    COLOURS,
    RegionGroup,
    colours_of,
    draw_regions,
    place_labels,
)
from mmvlm.visualization.replies import ReplyView, region_entries, write_drawing

SIZE = (60, 80)
GREY = np.full((*SIZE, 3), 128, np.uint8)


def rgb(colour):
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))


def box(*row, phrase=None, kind="box", **more):
    return Region(0, Boxes(np.array([row], float), SIZE), kind, phrase, **more)


def overlaps(spots):
    found = 0
    for number, (x1, y1, x2, y2) in enumerate(spots):
        for a1, b1, a2, b2 in spots[:number]:
            found += x1 < a2 and a1 < x2 and y1 < b2 and b1 < y2
    return found


def test_labels_stay_inside_and_off_each_other():
    rng = np.random.default_rng(0)
    for _ in range(30):
        count = int(rng.integers(1, 25))
        corners = rng.uniform(-50, 700, (count, 4))
        sizes = [(w, 20.0) for w in rng.uniform(30, 120, count)]
        places = place_labels(sizes, [tuple(row) for row in corners], (640, 480))
        assert None not in places
        spots = [
            (x, y, x + w, y + h) for (x, y), (w, h) in zip(places, sizes, strict=True)
        ]
        assert all(0 <= a and 0 <= b and c <= 640 and d <= 480 for a, b, c, d in spots)
        assert overlaps(spots) == 0


def test_a_label_without_room_has_no_place():
    anchors = [(0, 0, 10, 10)] * 3
    assert place_labels([(50, 30)] * 3, anchors, (60, 60))[2] is None
    assert place_labels([(90, 5)], anchors[:1], (60, 60)) == [None]


def test_equal_phrases_have_one_colour_in_all_groups():
    said = RegionGroup((box(1, 1, 9, 9, phrase="A dog"), box(1, 1, 2, 2)))
    true = RegionGroup(
        (box(1, 1, 9, 9, phrase="a cat"), box(5, 5, 9, 9, phrase="a dog"))
    )

    colours = colours_of([said, true])

    assert list(colours) == ["a dog", "box 2", "a cat"]
    assert list(colours.values()) == list(COLOURS[:3])


def test_boxes_points_and_masks_are_seen():
    mask = np.zeros(SIZE, bool)
    mask[30:50, 10:40] = True
    regions = (
        box(5, 5, 25, 20, phrase="left"),
        box(60, 15, 60, 15, phrase="dot", kind="point"),
        box(10, 30, 40, 50, phrase="blob", kind="mask", rles=(mask_to_rle(mask),)),
    )
    drawn = draw_regions(GREY, [RegionGroup(regions)])

    assert drawn.shape == (480, 640, 3) and (GREY == 128).all()
    left, dot, blob = map(rgb, COLOURS[:3])
    assert tuple(drawn[80, 40]) == left and tuple(drawn[100, 100]) == (128,) * 3
    assert tuple(drawn[120, 484]) == dot
    inside = drawn[320, 200].astype(int)
    assert (inside == np.round(128 * 0.65 + np.array(blob) * 0.35)).all()
    assert tuple(drawn[320, 80]) == blob  # the outline
    dashed = draw_regions(GREY, [RegionGroup(regions[:1], dashed=True)])
    line = (dashed[40, 44:190] == left).all(-1)
    assert 0.3 < line.mean() < 0.9


def test_masks_and_points_that_were_asked_look_unlike_those_of_a_reply():
    mask = np.zeros(SIZE, bool)
    mask[30:50, 10:40] = True
    blob = box(10, 30, 40, 50, kind="mask", rles=(mask_to_rle(mask),))
    dot = box(60, 15, 60, 15, kind="point")

    drawn = draw_regions(GREY, [RegionGroup((blob, dot), dashed=True)])

    assert tuple(drawn[320, 200]) == (128,) * 3  # no wash
    line = (drawn[280:380, 80] == rgb(COLOURS[0])).all(-1)
    assert 0.3 < line.mean() < 0.9
    assert tuple(drawn[120, 484]) == (255,) * 3  # hollow
    assert tuple(drawn[120, 487]) == rgb(COLOURS[1])


def test_regions_anywhere_and_images_of_any_size_are_drawn():
    wild = [box(-1e7, 5, 1e8, 9), box(50, 50, 5, 5), box(1e8, 1e8, 1e8, 1e8)]
    many = [box(n % 80, 1, n % 80 + 1, 40, phrase=f"thing {n}") for n in range(300)]
    for shape in ((1, 1), (3, 2000), (60, 80)):
        image = np.zeros((*shape, 3), np.uint8)
        drawn = draw_regions(image, [RegionGroup((*wild, *many))])
        assert drawn.dtype == np.uint8 and max(drawn.shape) <= 1600


def test_entries_of_all_kinds():
    rle = mask_to_rle(np.ones(SIZE, bool))
    two = Region(0, Boxes(np.array([[1, 2, 3, 4], [5, 6, 7, 8.0]]), SIZE), phrase="two")
    regions = (
        two,
        box(3, 4, 3, 4, kind="point"),
        box(0, 0, 80, 60, kind="mask", rles=(rle,), score=0.75),
        Region(0, Boxes(np.zeros((0, 4)), SIZE), "mask"),
    )
    entries = json.loads(json.dumps(region_entries(regions, [(0, 9)])))

    keys = ["phrase", "span", "box", "point", "mask", "score"]
    assert all(list(entry) == keys for entry in entries) and len(entries) == 5
    assert [e["box"] for e in entries[:2]] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert entries[0]["span"] == [0, 9] and entries[2]["span"] is None
    assert entries[2]["point"] == [3, 4] and entries[2]["box"] is None
    assert entries[3]["mask"] == rle and entries[4]["mask"] is None
    assert [entry["score"] for entry in entries] == [None, None, None, 0.75, None]


def test_a_page_shows_words_in_the_colour_of_their_box(tmp_path):
    view = ReplyView(
        "Where is <it>?",
        "a dog [1,2] & more",
        GREY,
        regions=(box(5, 5, 25, 20, phrase="a dog", score=0.875),),
        spans=((6, 11),),
        problems=("character 3: <bad>",),
        truth=(box(6, 6, 25, 20, phrase="a dog"),),
        truth_text="a dog",
    )
    path = tmp_path / "reply.html"

    write_drawing(path, [view, ReplyView("no image", "text")])

    page = path.read_text()
    assert "Where is &lt;it&gt;?" in page and "not read: character 3: &lt;bad" in page
    marked = f'border-color: {COLOURS[0]}" title="a dog 0.88">[1,2]</mark> &amp; more'
    assert marked in page
    assert page.count("<img") == 1 and not re.search(r"(src|href)=.http", page)
    write_drawing(tmp_path / "a.png", [view])
    assert PIL.Image.open(tmp_path / "a.png").size == (640, 480)
    with pytest.raises(ValueError, match="the last reply has no image"):
        write_drawing(tmp_path / "b.png", [ReplyView("no image", "text")])
    with pytest.raises(ValueError, match=r"expected a file .png or .html"):
        write_drawing(tmp_path / "b.gif", [view])
