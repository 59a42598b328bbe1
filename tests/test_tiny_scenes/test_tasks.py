"""Questions: right by the scene, unambiguous, balanced."""

from collections import Counter

import numpy as np
import pytest

from mmvlm.datasets.tiny_scenes.samples import test_samples as held_out
from mmvlm.datasets.tiny_scenes.scene import Scene, SceneObject, sample_scene
from mmvlm.datasets.tiny_scenes.tasks import (
    FORMS,
    TASKS,
    ask_about,
    box_text,
    caption,
    facts,
    phrases,
)

SCENE = Scene(
    (
        SceneObject("shape", "circle", "red", "top left", (2, 4, 14, 16)),
        SceneObject("digit", "7", "blue", "top right", (30, 6, 42, 22), source=7),
        SceneObject("shape", "circle", "green", "bottom left", (4, 30, 16, 42)),
    ),
    (10, 10, 10),
    0,
)


def pool(task, scene=SCENE):
    return list(TASKS[task](scene, np.random.default_rng(0)))


def test_caption_names_every_object_with_its_place():
    assert caption(SCENE) == (
        "a red circle at the top left, a blue digit 7 at the top right, "
        "a green circle at the bottom left"
    )
    assert facts(SCENE).count("[") == 3


def test_boxes_are_percent_in_steps_of_four():
    assert box_text((2, 4, 14, 16), 48) == "[4, 8, 28, 32]"
    assert ("across", "from 4 to 28 across") in phrases(SCENE)
    assert ("down", "from 8 to 32 down") in phrases(SCENE)


def test_objects_of_one_name_are_asked_about_by_colour():
    asked = [q.text for q in pool("pointing")]

    assert len(asked) == 8  # two wordings for each circle, four for the digit
    assert not any(text.endswith(" the circle.") for text in asked)
    assert not any(" the shape" in text for text in asked)
    assert any(" the digit" in text and "7" not in text for text in asked)
    assert all(q.box for q in pool("pointing"))


@pytest.mark.parametrize(
    ("task", "text", "answer"),
    [
        ("colour", "What colour is the object at the bottom left?", "green"),
        ("shape", "What shape is at the top left?", "circle"),
        ("digit", "Which digit is at the top right?", "7"),
        ("digit", "Which digit is blue?", "7"),
        ("colour", "Which colour has the digit?", "blue"),
        ("place", "In which quarter is the digit 7?", "top right"),
    ],
)
def test_answers_follow_from_the_scene(task, text, answer):
    assert (text, answer) in {(q.text, q.answer) for q in pool(task)}


def test_relations_follow_from_the_scene():
    for seed in range(30):
        for q in TASKS["relation"](SCENE, np.random.default_rng(seed)):
            first = q.text.split()[2 + (q.text.split()[2] == "the")]
            is_digit = first in ("digit", "blue")
            if q.form == "left-right":
                assert q.answer == ("right" if is_digit else "left"), q
            if q.form == "above-below" and first == "green":
                assert q.answer == "below", q


def test_existence_asks_for_what_is_there_and_what_is_not():
    for seed in range(40):
        scene = sample_scene(np.random.default_rng(seed))
        names = {
            name
            for o in scene.objects
            for name in (o.kind, f"{o.colour} object", o.label, o.phrase)
        }
        questions = pool("existence", scene)
        assert Counter(q.answer for q in questions)["yes"] == len(questions) / 2
        for question in questions:
            what = question.text.rstrip("?").rpartition(" a ")[2]
            assert (what in names) == (question.answer == "yes"), question


def test_counts_are_right():
    answers = {q.text.split("many ")[-1].split(" are")[0]: q for q in pool("count")}
    counts = {
        text.replace("Count the ", "").rstrip("."): q.answer
        for text, q in answers.items()
    }

    assert counts["objects"] == "3"
    assert (counts["shapes"], counts["digits"], counts["words"]) == ("2", "1", "0")
    assert (counts["red objects"], counts["white objects"]) == ("1", "0")


def test_a_conversation_has_as_many_questions_as_asked_without_repeats():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        questions = ask_about(sample_scene(rng), rng, 8)
        assert len(questions) == len(set(questions)) == 8
        assert "caption" not in {q.task for q in questions}


def test_test_answers_are_balanced_within_every_form():
    samples = list(held_out(360, 1, taken=set()))
    counts = {}
    for sample in samples:
        (question,) = sample.turns
        key = (question.task, question.form)
        counts.setdefault(key, Counter())[question.answer] += 1

    assert Counter(q.turns[0].task for q in samples) == dict.fromkeys(FORMS, 40)
    for (task, form), found in counts.items():
        if FORMS[task][form] is not None:
            assert set(found) == set(FORMS[task][form])
            assert max(found.values()) - min(found.values()) <= 1
