"""What every registered codec promises; none is listed by hand."""

import pickle

import numpy as np
import pytest

from mmvlm.registry import CODECS
from mmvlm.structures import Boxes, Image, Region, Text
from mmvlm.text.codecs.base import Decoding, GroundingCodec

CODECS.import_from_location()
NAMES = sorted(CODECS.module_dict)
SIZES = [(48, 64), (480, 640), (640, 480), (333, 333), (100, 1000), (1007, 549)]


def build(name, **kwargs):
    return CODECS.build(dict(type=name, **kwargs))


def variants(name):
    """A codec in all its geometries, where it has coordinates."""
    if not build(name).writes_coordinates:
        return [build(name)]
    geometries = CODECS.get(name).geometries
    return [build(name, geometry=geometry) for geometry in geometries]


def random_boxes(rng, size, count=40):
    """Boxes inside the image, of at least one pixel."""
    height, width = size
    low = rng.uniform(0, [width - 1, height - 1], (count, 2))
    extent = rng.uniform(1, np.maximum([width, height] - low, 1.001))
    return np.concatenate([low, np.minimum(low + extent, [width, height])], axis=1)


def frame_side(codec, size):
    """Longer side of the frame that fractions are taken of, per axis."""
    height, width = size
    if codec.geometry == "square_pad":
        return np.full(4, max(size))
    return np.array([width, height] * 2)


def test_the_registry_holds_the_families():
    assert {"ShikraCodec", "FerretCodec", "Kosmos2Codec", "QwenVLCodec"} <= set(NAMES)
    assert {"PinkCodec", "LLaVACodec", "VisionLLMCodec", "OFACodec"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_boxes_come_back_within_the_stated_error(name):
    for codec in variants(name):
        if not codec.writes_coordinates:
            continue
        for number, size in enumerate(SIZES):
            rows = random_boxes(np.random.default_rng(number), size)
            bound = codec.max_error(size) + 1e-9
            assert bound < 0.1

            for row in rows:
                boxes = Boxes(row[None], size)
                for role in ("user", "assistant"):
                    text = codec.encode(Region(0, boxes), role)
                    found = codec.decode(text, size)
                    assert found.verdict == "ok", (text, found)
                    moved = found.boxes(size).xyxy - boxes.xyxy
                    error = np.abs(moved) / frame_side(codec, size)
                    assert error.max() <= bound, (text, row, moved)


@pytest.mark.parametrize("name", NAMES)
def test_many_boxes_with_a_phrase_in_a_sentence_come_back(name):
    for codec in variants(name):
        size = (48, 64)
        rows = random_boxes(np.random.default_rng(5), size, 3)
        boxes = Boxes(rows, size)
        region = Region(0, boxes, phrase="two dogs")
        (part,) = codec.write((Text("I see "), region, Text(".")), "assistant")

        found = codec.decode(part.text, size)

        assert found.verdict == "ok"
        assert part.text.startswith("I see") and part.text.endswith(".")
        if not codec.writes_coordinates:
            assert len(found.regions) == 3
            continue
        assert "two dogs" in part.text
        error = np.abs(found.boxes(size).xyxy - rows) / frame_side(codec, size)
        assert error.max() <= codec.max_error(size) + 1e-9
        for (start, end), item in zip(found.spans, found.regions, strict=True):
            alone = codec.decode(part.text[start:end], size)
            np.testing.assert_array_equal(
                alone.boxes(size).xyxy, item.boxes.xyxy, err_msg=part.text
            )
            # Ferret has no mark where a phrase begins.
            assert item.phrase is None or item.phrase.endswith("two dogs")


@pytest.mark.parametrize("name", NAMES)
def test_points_come_back_or_are_refused(name):
    for codec in variants(name):
        region = Region(0, Boxes(np.array([[10.0, 20, 10, 20]]), (48, 64)), "point")
        if "point" not in codec.kinds:
            with pytest.raises(ValueError, match=f"{name} has no syntax .* 'point'"):
                codec.encode(region)
            continue
        found = codec.decode(codec.encode(region), (48, 64))
        assert found.verdict == "ok"
        if codec.writes_coordinates:
            (point,) = found.regions
            assert point.kind == "point"
            error = np.abs(point.boxes.xyxy - [10, 20, 10, 20])
            assert (error <= codec.max_error((48, 64)) * 64 + 1e-9).all()


@pytest.mark.parametrize("name", NAMES)
def test_words_without_boxes_are_words_and_nothing_at_all_is_an_error(name):
    codec = build(name)
    empty = Boxes(np.zeros((0, 4)), (48, 64))

    assert "a dog" in codec.encode(Region(0, empty, phrase="a dog"))
    with pytest.raises(ValueError, match="without boxes and without a phrase"):
        codec.encode(Region(0, empty))


@pytest.mark.parametrize("name", NAMES)
def test_writing_leaves_text_and_other_parts_alone(name):
    codec = build(name)
    parts = (Image(0), Text("\nWhat "), Text("is [1] <this>?"))

    assert codec.write(parts, "user") == [Image(0), Text("\nWhat is [1] <this>?")]


@pytest.mark.parametrize("name", NAMES)
def test_decoding_never_raises_and_reports(name):
    codec = build(name)
    region = Region(0, Boxes(np.array([[3.0, 4, 30, 40]]), (48, 64)), phrase="a dog")
    whole = codec.encode(region)
    assert codec.decode("nothing here", (48, 64)) == Decoding()
    rng = np.random.default_rng(0)

    seen = set()
    for _ in range(400):
        text = list(whole * int(rng.integers(1, 3)))
        for _ in range(int(rng.integers(1, 6))):
            at = int(rng.integers(len(text)))
            text[at] = "[]()<>,.; 05a\n"[int(rng.integers(14))]
        found = codec.decode("".join(text), (48, 64))
        assert len(found.regions) == len(found.spans)
        assert all(np.isfinite(r.boxes.xyxy).all() for r in found.regions)
        seen.add(found.verdict)

    assert "malformed" in seen or not codec.writes_coordinates


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("odd", ["\0", "\x1f", "\x85", "\u2007", "\u2028", "\u0663"])
def test_no_character_at_any_place_makes_reading_raise(name, odd):
    """Python's patterns take spaces and digits that its numbers do not, and others."""
    region = Region(0, Boxes([[3, 4, 30, 40]], (48, 64)), phrase="a dog")
    for codec in variants(name):
        text = codec.encode(region, "assistant")
        for at in range(len(text) + 1):
            found = codec._decode(text[:at] + odd + text[at:], (48, 64))
            assert len(found.regions) == len(found.spans)
            assert all(np.isfinite(one.boxes.xyxy).all() for one in found.regions)


@pytest.mark.parametrize("name", NAMES)
def test_codecs_are_picklable_and_documented(name):
    codec = build(name)
    assert isinstance(codec, GroundingCodec)
    twin = pickle.loads(pickle.dumps(codec))
    region = Region(0, Boxes(np.array([[3.0, 4, 30, 40]]), (48, 64)))

    assert twin.encode(region) == codec.encode(region)
    assert type(codec).__name__ == name and name.endswith("Codec")
    assert "Args:" in type(codec).__doc__
    assert len(set(codec.special_tokens)) == len(codec.special_tokens)


@pytest.mark.parametrize("name", [n for n in NAMES if build(n).writes_coordinates])
def test_unknown_geometry_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}: geometry='crop', expected one of"):
        build(name, geometry="crop")
