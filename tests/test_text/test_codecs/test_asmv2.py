"""All-Seeing v2's syntax: lists of integers of the padded square."""

import numpy as np
import pytest

from mmvlm.registry import CODECS
from mmvlm.structures import Boxes, Region, Text

SIZE = (480, 640)


def region(*rows, **more):
    return Region(0, Boxes(np.array(rows, float), SIZE), **more)


def test_boxes_are_written_as_the_demo_cuts_them():
    codec = CODECS.build(dict(type="ASMv2Codec"))
    dog = region([64, 48, 320, 240], [0, -80, 640, 560], phrase="a dog")

    text = codec.encode(dog)

    assert text == "<ref>a dog</ref><box>[[99, 199, 499, 499], [0, 0, 999, 999]]</box>"
    flat = CODECS.build(dict(type="ASMv2Codec", geometry="stretch"))
    assert flat.encode(region([64, 48, 320, 240])) == "<box>[[99, 99, 499, 499]]</box>"


def test_lists_are_read_with_and_without_tags():
    codec = CODECS.build(dict(type="ASMv2Codec", decode_at="eval"))
    text = (
        "<ref>bus</ref><box>[[290, 260, 835, 781]]</box> is <pred>on</pred>"
        "<box>[[290, 260, 835, 781]]</box><box>[[0,583,984,900],[1,2,3,4]]</box> "
        "[[5, 6, 7, 8]]"
    )

    found = codec.decode(text, SIZE)

    assert [one.phrase for one in found.regions] == ["bus", None, None, None]
    assert [len(one.boxes) for one in found.regions] == [1, 1, 2, 1]
    side = np.array([290, 260, 835, 781]) / 999 * 640 - [0, 80, 0, 80]
    assert np.allclose(found.regions[0].boxes.xyxy[0], side)
    assert not found.problems


@pytest.mark.parametrize(
    "text", ["<box>[[1, 2, 3]]</box>", "[[1, 2, 3, -4]]", "<box>", "[[" * 3000]
)
def test_what_is_no_box_is_a_problem(text):
    found = CODECS.build(dict(type="ASMv2Codec")).decode(text, SIZE)

    assert found.verdict == "malformed" and not found.regions


def test_words_get_the_tags_of_their_kind():
    codec = CODECS.build(dict(type="ASMv2Codec"))

    assert codec.mark(Text("a dog", "expression"), "user") == "<ref>a dog</ref>"
    assert codec.mark(Text("a dog", "expression"), "assistant") == "a dog"
    assert codec.mark(Text("on", "predicate"), "assistant") == "<pred>on</pred>"
    with pytest.raises(ValueError, match="decode_at='x'"):
        CODECS.build(dict(type="ASMv2Codec", decode_at="x"))
