"""The fine style: larger images, small print, grouped tasks."""

import copy
import hashlib
import json
import pickle
from collections import Counter

import numpy as np
import pytest

from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
from mmvlm.datasets.tiny_scenes.draw import render
from mmvlm.datasets.tiny_scenes.samples import test_samples as held_out
from mmvlm.datasets.tiny_scenes.samples import training_samples
from mmvlm.datasets.tiny_scenes.scene import sample_scene
from mmvlm.datasets.tiny_scenes.styles import FINE, PLAIN, SINGLE, STYLES
from mmvlm.datasets.tiny_scenes.tasks import STYLE_FORMS, TASKS, phrases, tasks_of
from mmvlm.evaluation.functional.tiny_scenes import parse_caption


def scenes(number):
    return [
        sample_scene(np.random.default_rng(i), "train", FINE) for i in range(number)
    ]


def test_plain_samples_are_those_of_the_published_numbers():
    """A change of the plain world would make published results incomparable."""
    digest = hashlib.sha256()
    for sample in [*training_samples(20, 5), *held_out(18, 5, taken=set())]:
        turns = [(q.task, q.form, q.text, q.answer, q.box) for q in sample.turns]
        digest.update(repr((sample.id, sample.scene.key, turns)).encode())

    assert digest.hexdigest()[:16] == "5b9c4a85efafc330"


def test_fine_scenes_are_large_and_partly_small():
    found = scenes(200)

    assert {len(scene.objects) for scene in found} == {1, 2, 3}
    heights = {True: [], False: []}
    for scene in found:
        places = [item.position for item in scene.objects]
        assert places == sorted(set(places), key=FINE.positions.index)
        assert len({item.colour for item in scene.objects}) == len(places)
        for item in scene.objects:
            x1, y1, x2, y2 = item.box
            assert 0 <= x1 < x2 <= 96 and 0 <= y1 < y2 <= 96
            row, column = int((y1 + y2) / 2 / 48), int((x1 + x2) / 2 / 48)
            assert item.position == f"{FINE.rows[row]} {FINE.columns[column]}"
            if item.kind == "digit":
                heights[item.small].append(y2 - y1)
    assert max(heights[True]) < 24 and min(heights[False]) >= 36
    share = len(heights[True]) / len(heights[True] + heights[False])
    assert 0.4 < share < 0.6
    assert render(found[0]).shape == (96, 96, 3)


def test_phrases_do_not_read_the_small_print():
    for scene in scenes(40):
        texts = [text for _, text in phrases(scene)]
        for item in scene.objects:
            names = [t for t in texts if f"a {item.colour} " in t]
            (name,) = names
            assert (item.name in name) == (not item.small), name
            assert ("small" in name) == item.small


def test_relations_hold_among_places():
    for scene in scenes(30):
        by_name = {item.reference: item.box for item in scene.objects}
        for question in TASKS["relation"](scene, np.random.default_rng(0)):
            text = question.text.removeprefix("Is the ").removesuffix("?")
            if question.form == "left-right":
                a, b = text.split(" left or right of the ")
                axis, first = 0, "left"
            else:
                a, b = text.split(" above or below the ")
                axis, first = 1, "above"
            a, b = (by_name[name][axis] for name in (a, b))
            assert (question.answer == first) == (a < b), question


def test_small_and_large_print_are_tasks_of_their_own():
    scene = next(
        s
        for s in scenes(99)
        if {o.small for o in s.objects if o.kind == "digit"} == {True, False}
    )

    asked = {
        task: {q.answer for q in TASKS[task](scene, None)}
        for task in ("digit", "small-digit")
    }

    for task, small in (("digit", False), ("small-digit", True)):
        names = {
            o.name for o in scene.objects if o.kind == "digit" and o.small == small
        }
        assert asked[task] == names
    assert "small-digit" in tasks_of(FINE) and "small-digit" not in tasks_of(PLAIN)
    assert "caption" not in tasks_of(FINE)


def test_fine_tests_are_balanced_and_every_task_has_a_group():
    samples = list(held_out(300, 1, taken=set(), style=FINE))

    forms = STYLE_FORMS["fine"]
    tasks = Counter(sample.turns[0].task for sample in samples)
    assert tasks == dict.fromkeys(forms, 30)
    assert {FINE.group_of(task) for task in forms} == {"coarse", "fine"}
    assert PLAIN.group_of("digit") is None
    counts = Counter(s.turns[0].answer for s in samples if s.turns[0].form == "objects")
    assert counts == dict.fromkeys("123", 5)


def test_single_scenes_hold_one_shape_as_large_as_their_style_says():
    samples = [
        *training_samples(200, 2, style=SINGLE),
        *held_out(45, 2, taken=set(), style=SINGLE),
    ]

    sides = set()
    for sample in samples:
        (item,) = sample.scene.objects
        assert item.kind == "shape" and item.colour in SINGLE.colours
        sides.add(item.box[2] - item.box[0])
    assert sides == set(range(*SINGLE.shape_sides))
    tasks = Counter(sample.turns[0].task for sample in samples[200:])
    assert tasks == dict.fromkeys(STYLE_FORMS["single"], 15)


def test_captions_of_places_are_read():
    for sample in training_samples(20, 0, style=FINE):
        pairs = parse_caption(sample.caption)
        assert pairs == sorted((o.phrase, o.position) for o in sample.scene.objects)


def test_styles_survive_pickling_and_copies():
    for style in STYLES.values():
        assert pickle.loads(pickle.dumps(style)) is style
        assert copy.deepcopy(style) is style


def test_files_of_the_fine_style(tmp_path):
    make_tiny_scenes(tmp_path, num_train=30, num_test=20, seed=3, style="fine")

    summary = json.loads((tmp_path / "tiny_scenes.json").read_text())
    test = json.loads((tmp_path / "test.json").read_text())
    train = json.loads((tmp_path / "train.json").read_text())
    assert summary["style"] == "fine"
    assert Counter(r["group"] for r in test) == dict(coarse=12, fine=8)
    assert {tuple(r["size"]) for r in test} == {(96, 96)}
    boxes = [
        turn["value"]
        for record in train
        for turn in record["conversations"]
        if turn["value"].startswith("[")
    ]
    numbers = [int(n) for box in boxes for n in box.strip("[]").split(", ")]
    assert {n % 4 for n in numbers} == {0, 2}


def test_unknown_style_is_refused(tmp_path):
    with pytest.raises(KeyError, match=r"style='rough': expected one of \['plain'"):
        make_tiny_scenes(tmp_path, num_train=1, num_test=1, style="rough")
