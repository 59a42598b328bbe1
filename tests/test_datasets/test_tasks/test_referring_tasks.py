"""Tasks that go from words to boxes and back."""

from dataclasses import replace

import pytest
from grounding_cases import draw, rich, said

from mmvlm.datasets.tasks.base import NothingToAsk
from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Caption, Instance, Region, Span


def build(name, **kwargs):
    return DATA_TASKS.build(dict(type=name, **kwargs))


def all_of(task, annotation, seeds=40):
    rounds = [draw(task, annotation, seed) for seed in range(seeds)]
    return {tuple(said(turn) for turn in turns) for turns in rounds}


def test_comprehension_asks_a_phrase_and_answers_its_box():
    task = build("ReferringComprehension", templates="Where is <expr>?")

    assert all_of(task, rich()) == {
        ("Where is the left dog?", "[(2, 3, 12, 13)]"),
        ("Where is a dog that looks away?", "[(2, 3, 12, 13)]"),
        ("Where is the dog on the right?", "[(40, 5, 60, 20)]"),
        ("Where is a red mat?", "[(15, 36, 50, 47)]"),
    }


def test_comprehension_marks_the_expression_for_codecs():
    task = build("ReferringComprehension", templates="Where is <expr>?")

    question = draw(task, rich())[0]

    assert [part.kind for part in question.parts] == ["", "expression", ""]


def test_comprehension_by_name_answers_all_that_bear_it_and_no_crowd():
    task = build(
        "ReferringComprehension",
        templates="<expr>",
        expression="name",
        answer="Answer: <boxes> .",
        repeat_phrase=True,
    )

    assert all_of(task, rich()) == {
        ("dog", "Answer: [dog: (2, 3, 12, 13) (40, 5, 60, 20)] ."),
        ("cat", "Answer: [cat: (20, 30, 30, 40)] ."),
        ("mat", "Answer: [mat: (15, 36, 50, 47)] ."),
    }


def test_name_that_a_crowd_bears_too_is_not_asked():
    crowd = Instance((0, 0, 9, 9), "dog", is_crowd=True)
    image = replace(rich(), instances=(*rich().instances, crowd))
    task = build("ReferringComprehension", templates="<expr>", expression="name")

    assert {question for question, _ in all_of(task, image)} == {"cat", "mat"}


def test_generation_shows_a_box_and_answers_a_phrase():
    task = build("ReferringGeneration", templates="Name <objs>.")

    assert ("Name [(15, 36, 50, 47)].", "a red mat") in all_of(task, rich())
    assert {a for _, a in all_of(task, rich())} == {
        *("the left dog", "a dog that looks away"),
        *("the dog on the right", "a red mat"),
    }


def test_region_can_be_shown_as_point_or_mask():
    points = draw(build("ReferringGeneration", kind="point"), rich())[0].parts
    (point,) = [part for part in points if isinstance(part, Region)]
    x1, y1, x2, y2 = point.boxes.xyxy[0]
    assert point.kind == "point" and (x1, y1) == (x2, y2)
    either = build("RegionCaption", kind=["box", "point"], where="centre")
    kinds = [
        part.kind
        for seed in range(200)
        for part in draw(either, rich(), seed)[0].parts
        if isinstance(part, Region)
    ]
    assert abs(kinds.count("point") / 200 - 0.5) < 0.1

    masks = draw(build("RegionCaption", kind="mask"), rich())[0].parts
    (mask,) = [part for part in masks if isinstance(part, Region)]
    assert mask.kind == "mask" and len(mask.polygons) == 1


def test_region_caption_falls_back_on_attributes_and_name():
    task = build("RegionCaption", templates="<objs>?")
    assert ("[(20, 30, 30, 40)]?", "grey cat") in all_of(task, rich())

    strict = build("RegionCaption", templates="<objs>?", names=False)
    assert not any("cat" in answer for _, answer in all_of(strict, rich()))


def test_one_phrase_of_a_caption_is_grounded():
    task = build("PhraseGrounding", templates="Where: <phrases>?")

    assert all_of(task, rich()) == {
        ("Where: Two dogs?", "[(2, 3, 12, 13) (40, 5, 60, 20)]"),
        ("Where: a cat?", "[(20, 30, 30, 40)]"),
        ("Where: a mat?", "[(15, 36, 50, 47)]"),
    }


def test_all_phrases_of_a_caption_are_grounded_in_order():
    task = build(
        "PhraseGrounding", templates="In '<caption>', <phrases>?", ask="all", lower=True
    )

    (((question, answer)),) = all_of(task, rich())

    assert question == (
        "In 'Two dogs look at a cat on a mat.', two dogs, a cat, a mat?"
    )
    assert answer == (
        "[two dogs: (2, 3, 12, 13) (40, 5, 60, 20)], [a cat: (20, 30, 30, 40)], "
        "[a mat: (15, 36, 50, 47)]"
    )


def test_phrase_that_stands_twice_is_asked_once_with_all_boxes():
    caption = Caption("a cat and a cat", (Span(0, 5, (2,)), Span(10, 15, (0, 2))))
    image = replace(rich(), captions=(caption,))

    found = all_of(build("PhraseGrounding", templates="<phrases>"), image)

    assert found == {("a cat", "[(20, 30, 30, 40) (2, 3, 12, 13)]")}


def test_grounded_caption_puts_regions_behind_phrases():
    (((_, answer)),) = all_of(build("GroundedCaption", templates="Caption."), rich())

    assert answer == (
        "[Two dogs: (2, 3, 12, 13) (40, 5, 60, 20)] look at "
        "[a cat: (20, 30, 30, 40)] on [a mat: (15, 36, 50, 47)]."
    )


def test_grounded_caption_takes_the_outer_of_nested_phrases():
    text = "a cat on a mat"
    spans = (Span(9, 14, (3,)), Span(0, 14, (2,)), Span(0, 5, ()))
    image = replace(rich(), captions=(Caption(text, spans),))

    (((_, answer)),) = all_of(build("GroundedCaption", templates="Caption."), image)

    assert answer == "[a cat on a mat: (20, 30, 30, 40)]"


@pytest.mark.parametrize(
    "span, match",
    [
        (Span(3, 99, (0,)), "span 3..99 lies outside"),
        (Span(0, 3, (7,)), r"names instances \[7\], but there are 5"),
    ],
)
def test_damaged_spans_are_errors_not_nothing(span, match):
    image = replace(rich(), captions=(Caption("Two dogs.", (span,)),))

    with pytest.raises(ValueError, match=match) as caught:
        draw(build("GroundedCaption"), image)
    assert not isinstance(caught.value, NothingToAsk)


def test_boxes_without_the_image_size_are_an_error():
    with pytest.raises(ValueError, match="size is unknown"):
        draw(build("ReferringComprehension"), replace(rich(), size=None))


@pytest.mark.parametrize(
    "name, options, match",
    [
        ("ReferringComprehension", dict(expression="any"), "expression='any'"),
        ("ReferringComprehension", dict(templates="Where?"), "exactly once: <expr>"),
        ("ReferringGeneration", dict(kind="blob"), "ReferringGeneration: kind='blob'"),
        ("RegionCaption", dict(kind="blob"), "RegionCaption: kind='blob'"),
        ("RegionCaption", dict(kind=[]), r"kind=\[\]"),
        ("RegionCaption", dict(where="rim"), "RegionCaption: where='rim'"),
        ("PhraseGrounding", dict(ask="some"), "ask='some'"),
    ],
)
def test_wrong_options_are_refused(name, options, match):
    with pytest.raises(ValueError, match=match):
        build(name, **options)


@pytest.mark.parametrize("name", ["ReferringComprehension", "GroundedCaption"])
def test_empty_image_has_nothing_to_ask(name):
    with pytest.raises(NothingToAsk):
        draw(build(name), AnnotatedImage("a.png", (4, 4)))
