"""What every registered task promises; none is listed by hand."""

import pickle

import numpy as np
import pytest
from grounding_cases import draw, rich, without

from mmvlm.datasets.tasks.base import DataTask, NothingToAsk
from mmvlm.registry import CODECS, DATA_TASKS
from mmvlm.structures import AnnotatedImage, Region, Text

DATA_TASKS.import_from_location()
NAMES = sorted(DATA_TASKS.module_dict)
SEEDS = range(12)


def build(name):
    return DATA_TASKS.build(dict(type=name))


def regions(turns):
    return [part for turn in turns for part in turn.parts if isinstance(part, Region)]


def allowed(name):
    """Turns of a task, or None when even the rich image does not allow it."""
    found = []
    for seed in SEEDS:
        try:
            found.append(draw(build(name), rich(), seed))
        except NothingToAsk:
            continue
    return found or None


ASKING = [name for name in NAMES if allowed(name)]


def test_the_rich_image_allows_the_tasks_of_this_house():
    assert {"ReferringComprehension", "GroundedCaption", "Existence"} <= set(ASKING)
    assert {"RelationQuestion", "CategoryDetection", "PointQA"} <= set(ASKING)
    assert {"MultiTurn", "CategoryCounting", "CoarseLocation"} <= set(ASKING)


@pytest.mark.parametrize("name", ASKING)
def test_users_ask_and_assistants_answer(name):
    for turns in allowed(name):
        roles = [turn.role for turn in turns]
        assert roles == ["user", "assistant"] * (len(turns) // 2)
        for turn in turns[1::2]:
            assert turn.text.strip() or regions([turn])


@pytest.mark.parametrize("name", ASKING)
def test_regions_lie_in_the_image_and_are_no_text(name):
    image = rich()
    for turns in allowed(name):
        for region in regions(turns):
            assert region.image == 0 and region.boxes.size == image.size
            assert region.boxes.frame == "pixel" and len(region.boxes)
            np.testing.assert_array_equal(region.boxes.clip().xyxy, region.boxes.xyxy)
        for turn in turns:
            assert not any(mark in turn.text for mark in ("<box", "<loc", "[0.", "<p"))


@pytest.mark.parametrize("name", ASKING)
def test_same_seed_same_conversation_and_the_generator_is_used_alone(name):
    def run(seed):
        np.random.seed(seed)
        try:
            return repr(draw(build(name), rich(), 7))
        except NothingToAsk as error:
            return str(error)

    assert run(0) == run(1)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_annotated_is_nothing_to_ask_or_a_conversation(name):
    for image in (AnnotatedImage("a.png", (48, 64)), AnnotatedImage(None)):
        try:
            assert draw(build(name), image)
        except NothingToAsk as error:
            assert str(error)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_need_is_counted_as_nothing_to_ask(name):
    task = build(name)
    assert isinstance(task, DataTask)
    for field in task.needs:
        for seed in SEEDS:
            with pytest.raises(NothingToAsk):
                draw(task, without(rich(), field), seed)


@pytest.mark.parametrize("name", [n for n in NAMES if build(n).needs])
def test_needs_are_said_in_the_docstring(name):
    assert "Needs:" in type(build(name)).__doc__


@pytest.mark.parametrize("name", ASKING)
def test_tasks_are_picklable(name):
    task = build(name)
    twin = pickle.loads(pickle.dumps(task))
    turns = allowed(name)[0]
    assert turns

    def run(one):
        try:
            return repr(draw(one, rich(), 3))
        except NothingToAsk as error:
            return str(error)

    assert run(task) == run(twin)


@pytest.mark.parametrize("codec", ["ShikraCodec", "Kosmos2Codec", "FerretCodec"])
@pytest.mark.parametrize("name", ASKING)
def test_codecs_write_what_tasks_ask(name, codec):
    written = CODECS.build(dict(type=codec))
    for turns in allowed(name):
        for turn in turns:
            kinds = {part.kind for part in turn.parts if isinstance(part, Region)}
            if not kinds <= set(written.kinds):
                continue
            parts = written.write(turn.parts, turn.role)
            assert not any(isinstance(part, Region) for part in parts)
            assert all(part.kind == "" for part in parts if isinstance(part, Text))
