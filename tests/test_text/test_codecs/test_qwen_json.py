"""Boxes of Qwen2.5-VL and Qwen3-VL: pixels of the seen image, thousandths."""

import numpy as np
import pytest

from mmvlm.datasets.transforms.anyres_tiles import AnyResTiles
from mmvlm.datasets.transforms.native_resolution import NativeResolution
from mmvlm.datasets.transforms.resize_square import ResizeSquare
from mmvlm.registry import CODECS, TOKENIZERS
from mmvlm.structures import Boxes, Region
from mmvlm.text.decoding import decode

SIZE = (300, 500)
DOG = Region(0, Boxes(np.array([[50.0, 30, 250, 150]]), SIZE), phrase="a dog")


def codec(**options):
    return CODECS.build(dict(type="QwenJSONCodec", **options))


def test_texts_are_those_of_the_models():
    seen = codec().shown_as([(600, 1000)])
    assert seen.encode(DOG) == '{"bbox_2d": [100, 60, 500, 300], "label": "a dog"}'
    thousandths = codec(geometry="stretch")
    assert thousandths.encode(DOG) == (
        '{"bbox_2d": [100, 100, 500, 500], "label": "a dog"}'
    )
    point = Region(0, Boxes(np.array([[50.0, 30, 50, 30]]), SIZE), "point")
    assert thousandths.encode(point) == '{"point_2d": [100, 100]}'


@pytest.mark.parametrize(
    "view",
    [
        NativeResolution(size=28, resample="bicubic"),
        ResizeSquare(size=48, resample="bicubic"),
        AnyResTiles(size=48, resample="bicubic"),
    ],
    ids=lambda view: type(view).__name__,
)
def test_pixels_of_the_view_come_back_to_the_image(view):
    layout = view.layout(*SIZE)
    seen = codec().shown_as([layout.whole_size])
    tokenizer = TOKENIZERS.build(dict(type="TinyTokenizer"))
    ids = tokenizer(seen.encode(DOG), add_special_tokens=False)["input_ids"]

    found = decode(ids, tokenizer, codec(), [layout])

    (region,) = found.regions
    assert region.phrase == "a dog" and found.problems == ()
    error = np.abs(region.boxes.xyxy - DOG.boxes.xyxy) / np.array([500, 300, 500, 300])
    assert error.max() <= seen.max_error(SIZE) + 1e-9


def test_objects_are_read_in_lists_fences_and_sentences():
    text = """```json
[
\t{"bbox_2d": [100, 100, 500, 500], "label": "a dog", "confidence": 0.9},
\t{"point_2d": [100, 200], "label": "its paw"}
]
``` and {"bbox_2d": [1, 2, 3]} {"other": 1} {"bbox_2d": [1, 2,"""
    found = codec(geometry="stretch").decode(text, SIZE)

    assert [one.phrase for one in found.regions] == ["a dog", "its paw"]
    assert [one.kind for one in found.regions] == ["box", "point"]
    np.testing.assert_allclose(found.regions[1].boxes.xyxy, [[50, 60, 50, 60]])
    assert len(found.problems) == 2
    assert (
        text[slice(*found.spans[1])] == '{"point_2d": [100, 200], "label": "its paw"}'
    )


def test_the_padded_square_is_no_geometry_of_it():
    with pytest.raises(ValueError, match=r"expected one of \['view', 'stretch'\]"):
        codec(geometry="square_pad")
