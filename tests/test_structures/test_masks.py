"""Masks: exact to pycocotools and to LISA's drawing, damage named."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmvlm.structures import Instance
from mmvlm.structures.masks import (
    check_polygons,
    check_rle,
    draw_outlined,
    instance_rle,
    label_map_rles,
    mask_to_polygons,
    mask_to_rle,
    merge_rles,
    polygons_to_mask,
    rle_area,
    rle_box,
    rle_to_mask,
    union_rle,
)

SIZE = (23, 31)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def blob(rng, size=SIZE):
    noise = cv2.GaussianBlur(rng.random(size), (5, 5), 0)
    return (noise > np.median(noise)).astype(np.uint8)


def runs_of(mask):
    """COCO's uncompressed runs, by counting."""
    runs, current = [0], 0
    for value in mask.T.ravel().tolist():
        if value != current:
            runs.append(0)
            current = value
        runs[-1] += 1
    return runs


def test_pixels_survive_both_forms_of_run_lengths(rng):
    for size in (SIZE, (1, 1), (1, 9), (64, 2)):
        mask = blob(rng, size)
        rle = mask_to_rle(mask)

        again = check_rle({"size": list(size), "counts": runs_of(mask)}, size)

        assert again == rle == check_rle(rle, size)
        assert check_rle({**rle, "counts": rle["counts"].encode()}, size) == rle
        assert np.array_equal(rle_to_mask(rle), mask)
        assert rle_area(rle) == mask.sum()


def test_the_box_ends_behind_the_last_pixel():
    mask = np.zeros(SIZE, np.uint8)
    mask[3:7, 10] = mask[5, 12:20] = 1

    assert rle_box(mask_to_rle(mask)) == (10, 3, 20, 7)


def test_rings_are_filled_as_pycocotools_fills_them(rng):
    rings = [rng.uniform(-2, 33, 2 * count).tolist() for count in (3, 5, 9)]
    ours = polygons_to_mask(check_polygons(rings, SIZE), SIZE)

    theirs = sum(
        coco_mask.decode(coco_mask.frPyObjects(rings, *SIZE)).transpose(2, 0, 1)
    )

    assert np.array_equal(ours, (theirs > 0).astype(np.uint8))


def test_rectangles_tile_any_mask_exactly(rng):
    ring = np.zeros(SIZE, np.uint8)
    ring[4:12, 5:15] = 1
    ring[6:9, 8:12] = 0
    for mask in (blob(rng), ring, np.ones(SIZE, np.uint8)):
        assert np.array_equal(polygons_to_mask(mask_to_polygons(mask), SIZE), mask)
    assert mask_to_polygons(np.zeros(SIZE)) == ()


def test_all_values_of_a_label_map_at_once(rng):
    labels = rng.integers(0, 4, SIZE).repeat(2, axis=1).astype(np.uint8)
    labels[labels == 3] = 255

    rles = label_map_rles(labels)

    assert list(rles) == [0, 1, 2, 255]
    for value, rle in rles.items():
        assert rle == mask_to_rle(labels == value)
    assert label_map_rles(np.full((2, 3), 7)) == {7: mask_to_rle(np.ones((2, 3)))}


def test_unions(rng):
    a, b = blob(rng), np.zeros(SIZE, np.uint8)
    b[2:9, 3:11] = 1
    square = Instance(polygons=((3.0, 2.0, 11.0, 2.0, 11.0, 9.0, 3.0, 9.0),))

    rle = union_rle([Instance(rle=mask_to_rle(a)), square], SIZE)

    assert np.array_equal(rle_to_mask(rle), a | b)
    assert merge_rles([mask_to_rle(a), mask_to_rle(b)]) == rle


def test_an_outlined_polygon_loses_fractions_and_keeps_its_border():
    mask = np.zeros((8, 9), np.uint8)

    draw_outlined(mask, [[1.9, 1.2], [5.9, 1.0], [5.2, 4.8], [1.0, 4.0]], 255)

    expected = np.zeros((8, 9), np.uint8)
    expected[1:5, 1:6] = 255
    assert np.array_equal(mask, expected)
    filled = polygons_to_mask([(1, 1, 5, 1, 5, 4, 1, 4)], (8, 9))
    assert filled.sum() == 12 < (mask > 0).sum() == 20


@pytest.mark.parametrize(
    "polygons, message",
    [
        ("abc", "expected a list of rings"),
        ([], "expected a list of rings"),
        ([[1, 2, 3, 4, 5]], "polygon 0: 5 coordinates, an odd count"),
        ([[1, 2, 3, 4]], r"polygon 0: 2 point\(s\), expected three or more"),
        ([[1, 2, 3, 4, 5, 6], [1, 2]], r"polygon 1: 1 point\(s\)"),
        ([[1, 2, 3, 4, 5, float("nan")]], "polygon 0: expected a flat list of finite"),
        ([[1, 2, 3, 4, 5, float("inf")]], "polygon 0: expected a flat list of finite"),
        ([[1, 2, 3, 4, 5, 10**400]], "polygon 0: expected a flat list of finite"),
        ([[1, 2, 3, 4, 5, True]], "polygon 0: expected a flat list of finite"),
        ([[1, 2, 3, 4, 5, "6"]], "polygon 0: expected a flat list of finite"),
        ([[[1, 2], [3, 4], [5, 6]]], "polygon 0: expected a flat list of finite"),
        ([[1, 2, 3, 4, 5, 1e6]], "far outside the image of 31 x 23 pixels"),
    ],
)
def test_damaged_polygons_are_named(polygons, message):
    with pytest.raises(ValueError, match=message):
        check_polygons(polygons, SIZE)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(size=[31, 23]), r"size \[31, 23\] \(height, width\), but .* \[23, 31\]"),
        (dict(size=None), "size None"),
        (dict(counts="zzzz~"), "damaged counts"),
        (dict(counts="P"), "damaged counts"),
        (dict(counts=None), "damaged counts"),
        (dict(counts=[-1, 714]), "damaged counts"),
        (dict(counts=[True, 712]), "damaged counts"),
        (dict(counts=[1, 2]), "the runs cover 3 pixels, but the image has 713"),
        (dict(counts=""), "the runs cover 0 pixels"),
        (dict(counts="oooooooooooooooooo"), "damaged counts"),
    ],
)
def test_damaged_run_lengths_are_named(rng, change, message):
    with pytest.raises(ValueError, match=message):
        check_rle({**mask_to_rle(blob(rng)), **change}, SIZE)
    with pytest.raises(ValueError, match=r"expected \{'size', 'counts'\}"):
        check_rle([1, 2], SIZE)


def test_mutated_run_lengths_never_reach_the_c_code_damaged(rng):
    text = mask_to_rle(blob(rng))["counts"]
    refused = 0
    for _ in range(300):
        at = int(rng.integers(len(text)))
        wrong = text[:at] + chr(int(rng.integers(32, 127))) + text[at + 1 :]
        try:
            rle = check_rle({"size": list(SIZE), "counts": wrong}, SIZE)
        except ValueError:
            refused += 1
            continue
        assert rle_to_mask(rle).shape == SIZE
    assert refused > 250


def test_an_instance_without_pixels_is_damaged_and_one_without_a_mask_has_none():
    assert instance_rle(Instance(box=(0, 0, 1, 1)), SIZE) is None
    with pytest.raises(ValueError, match="mask of instance 'a7': empty"):
        instance_rle(Instance(id="a7", rle=mask_to_rle(np.zeros(SIZE))), SIZE)
    with pytest.raises(ValueError, match="mask of instance 'dog': polygon 0: 5 coor"):
        instance_rle(Instance(name="dog", polygons=((1, 2, 3, 4, 5),)), SIZE)
    with pytest.raises(ValueError, match="instance 'dog' has no mask"):
        union_rle([Instance(name="dog")], SIZE)
    with pytest.raises(ValueError, match=r"expected \(H, W\)"):
        mask_to_rle(np.zeros((1, 2, 3)))
