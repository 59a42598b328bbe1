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


def test_boxes_are_percent_in_steps_of_four():
    assert box_text((2, 4, 14, 16), 48) == "[4, 8, 28, 32]"
    assert ("across", "from 4 to 28 across") in phrases(SCENE)
    assert ("down", "from 8 to 32 down") in phrases(SCENE)


def test_references_point_at_one_object():
    asked = {q.text: q.answer for q in pool("pointing")}

    assert asked["Give the box of the red circle."] == "[4, 8, 28, 32]"
    assert asked.keys() == {
        f"Give the box of the {name}."
        for name in ("red circle", "blue digit", "green circle")
    }
    assert all(q.box for q in pool("pointing"))
    for seed in range(100):
        objects = sample_scene(np.random.default_rng(seed)).objects
        assert len({o.colour for o in objects}) == len(objects)


@pytest.mark.parametrize(
    ("task", "text", "answer"),
    [
        ("colour", "What colour is the object at the bottom left?", "green"),
        ("shape", "Which shape is green?", "circle"),
        ("digit", "Which digit is blue?", "7"),
        ("finding", "Where is the blue digit?", "blue digit at the top right"),
        ("finding", "What is at the top left?", "top left: a red circle"),
    ],
)
def test_answers_follow_from_the_scene(task, text, answer):
    assert (text, answer) in {(q.text, q.answer) for q in pool(task)}


def test_relations_follow_from_the_scene():
    answers = {q.text: q.answer for q in pool("relation")}

    assert answers == {
        "Is the red circle left or right of the blue digit?": "left",
        "Is the blue digit left or right of the red circle?": "right",
        "Is the blue digit left or right of the green circle?": "right",
        "Is the green circle left or right of the blue digit?": "left",
        "Is the red circle above or below the green circle?": "above",
        "Is the green circle above or below the red circle?": "below",
        "Is the blue digit above or below the green circle?": "above",
        "Is the green circle above or below the blue digit?": "below",
    }


def test_existence_asks_for_what_is_there_and_what_is_not():
    for seed in range(40):
        scene = sample_scene(np.random.default_rng(seed))
        names = {
            name for o in scene.objects for name in (f"{o.colour} object", o.thing)
        }
        questions = pool("existence", scene)
        assert Counter(q.answer for q in questions) == dict(yes=2, no=2)
        for question in questions:
            what = question.text.removeprefix("Is there a ").removesuffix("?")
            assert (what in names) == (question.answer == "yes"), question


def test_counts_are_right():
    answers = {q.text.split()[2]: q.answer for q in pool("count")}

    assert answers == dict(objects="3", shapes="2", digits="1", words="0")


def test_a_conversation_has_as_many_questions_as_asked_without_repeats():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        questions = ask_about(sample_scene(rng), rng, 6)
        assert len(questions) == len(set(questions)) == 6
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
