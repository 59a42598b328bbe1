"""Scenes: seeded, in their quarters, apart between train and test."""

import numpy as np
import pytest

from mmvlm.datasets.tiny_scenes import handwriting
from mmvlm.datasets.tiny_scenes.draw import render
from mmvlm.datasets.tiny_scenes.samples import test_samples as held_out
from mmvlm.datasets.tiny_scenes.samples import training_samples
from mmvlm.datasets.tiny_scenes.scene import sample_scene
from mmvlm.datasets.tiny_scenes.styles import COLOURS, POSITIONS


def scenes(number, split="train"):
    return [sample_scene(np.random.default_rng(i), split) for i in range(number)]


def test_same_seed_gives_the_same_scene_and_pixels():
    a, b = (sample_scene(np.random.default_rng(5)) for _ in range(2))

    assert a == b
    assert np.array_equal(render(a), render(b))
    assert sample_scene(np.random.default_rng(6)) != a


def test_objects_lie_in_the_quarter_that_they_name():
    for scene in scenes(300):
        places = [item.position for item in scene.objects]
        assert places == sorted(set(places), key=POSITIONS.index)
        for item in scene.objects:
            x1, y1, x2, y2 = item.box
            assert 0 <= x1 < x2 <= scene.size and 0 <= y1 < y2 <= scene.size
            centre = ((x1 + x2) / 2, (y1 + y2) / 2)
            half = scene.size / 2
            assert item.column == ("left" if centre[0] < half else "right")
            assert item.row == ("top" if centre[1] < half else "bottom")


def test_a_drawing_shows_its_colour_inside_the_box_only():
    for scene in scenes(60):
        image = render(scene).astype(float)
        outside = np.ones(image.shape[:2], bool)
        for item in scene.objects:
            x1, y1, x2, y2 = item.box
            outside[y1:y2, x1:x2] = False
            area = image[y1:y2, x1:x2].reshape(-1, 3)
            near = np.abs(area - np.array(COLOURS[item.colour]) * 0.92).max(1) < 60
            assert near.mean() > 0.08, item
        spread = np.abs(image[outside] - np.array(scene.background)).max()
        assert spread < 40


def test_boxes_are_tight():
    for scene in scenes(60):
        image = render(scene).astype(float)
        for item in scene.objects:
            x1, y1, x2, y2 = item.box
            ink = np.abs(image - np.array(scene.background)).max(-1) > 45
            ink = ink[y1:y2, x1:x2]
            assert ink[:, :2].any() and ink[:, -2:].any(), item
            assert ink[:2].any() and ink[-2:].any(), item


def test_train_and_test_digits_come_from_different_forms():
    labels = handwriting.load()[1]
    form = np.tile(np.arange(10), 3)
    fixed = [
        start
        for start in handwriting.FORM_STARTS
        if (labels[start : start + 30] == form).all()
    ]

    assert handwriting.FIRST_TEST_ROW in fixed
    assert len(fixed) >= 12
    for digit in range(10):
        train, test = (set(handwriting.rows(digit, s)) for s in ("train", "test"))
        assert max(train) < handwriting.FIRST_TEST_ROW <= min(test)
        assert {int(labels[row]) for row in train | test} == {digit}
    sources = {o.source for s in scenes(200, "test") for o in s.objects}
    assert min(sources - {-1}) >= handwriting.FIRST_TEST_ROW


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split='val': expected 'train' or 'test'"):
        handwriting.rows(3, "val")


def test_a_longer_set_begins_like_a_shorter_one():
    short, long = list(training_samples(3, 7)), list(training_samples(5, 7))

    assert long[:3] == short
    assert next(iter(training_samples(1, 8))).scene != short[0].scene


def test_no_test_scene_is_a_training_scene():
    first = list(held_out(20, 0, taken=set()))
    taken = {sample.scene.key for sample in first[:10]}

    again = list(held_out(20, 0, taken=taken))

    assert not taken & {sample.scene.key for sample in again}
    assert [s.scene for s in again] != [s.scene for s in first]
    assert len({s.scene.key for s in again}) == 20
