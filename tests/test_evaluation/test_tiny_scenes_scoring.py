import pytest

from mmvlm.evaluation.functional.text import contains, exact_match, names_only
from mmvlm.evaluation.functional.tiny_scenes import (
    Score,
    aggregate,
    best_constant,
    iou,
    parse_box,
    score_answer,
    score_rows,
    to_pixels,
)

RIGHT, LENIENT = Score(True, True, True), Score(False, True, False)
WRONG, UNREADABLE = Score(False, False, True), Score(False, False, False)
CAPTION = "a red circle at the top left, a blue word cat at the bottom right"
EXTRA = ", a white cross at the top right"


@pytest.mark.parametrize(
    ("pred", "expected"),
    [
        ("Red.", RIGHT),
        (" red ", RIGHT),
        ("it is red", LENIENT),
        ("it is red or blue", UNREADABLE),
        ("blue", WRONG),
        ("redder", UNREADABLE),
        ("", UNREADABLE),
    ],
)
def test_words_are_judged_by_the_one_choice_they_name(pred, expected):
    choices = ("red", "blue")

    assert score_answer(pred, "red", form="colour", choices=choices) == expected


def test_a_wrong_yes_or_no_is_parsed_though_no_question_has_it():
    assert score_answer("no", "yes", form="yes-no") == WRONG


@pytest.mark.parametrize(
    ("pred", "expected"),
    [
        (CAPTION, RIGHT),
        (", ".join(reversed(CAPTION.split(", "))) + ".", RIGHT),
        (CAPTION + EXTRA, Score(False, True, True)),
        (CAPTION + ", and more", LENIENT),
        (CAPTION.split(", ")[0], WRONG),
        (CAPTION.replace("red", "blue"), WRONG),
        ("two things", UNREADABLE),
    ],
)
def test_captions_must_name_every_object_with_its_place(pred, expected):
    assert score_answer(pred, CAPTION, form="caption") == expected


@pytest.mark.parametrize(
    ("pred", "expected"),
    [
        ("[0, 0, 50, 50]", RIGHT),
        ("[0, 0, 48, 52].", RIGHT),
        ("[50, 50, 100, 100]", WRONG),
        ("[50, 0, 0, 50]", WRONG),
        ("it is at 0, 0, 50, 50", LENIENT),
        ("top left", UNREADABLE),
        ("[0, 0, 50]", UNREADABLE),
    ],
)
def test_boxes_are_held_against_pixels(pred, expected):
    score = score_answer(
        pred, "[0, 0, 50, 50]", form="box", box=(0, 0, 24, 24), size=(48, 48)
    )

    assert score == expected


def test_box_percent_takes_width_for_x_and_height_for_y():
    assert to_pixels((50, 50, 100, 100), (10, 200)) == (100, 5, 200, 10)


def test_iou_of_half_overlapping_boxes_is_a_third():
    assert iou((0, 0, 2, 1), (1, 0, 3, 1)) == pytest.approx(1 / 3)
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0.0
    assert parse_box("[0, 0, 50, 50] or so") is None


def test_box_without_size_is_refused():
    with pytest.raises(ValueError, match="needs 'box' and 'size'"):
        score_answer("[0, 0, 1, 1]", "[0, 0, 1, 1]", form="box")


def test_unreadable_true_caption_is_refused():
    with pytest.raises(ValueError, match="has an unknown form"):
        score_answer("x", "some things", form="caption")


def question(gt, form="colour", **more):
    return dict(task=form, form=form, gt=gt, pred="red", **more)


def test_best_constant_is_the_most_frequent_answer():
    rows = [question(gt) for gt in ("red", "blue", "Blue", "green")]

    answer, share = best_constant(rows)

    assert (answer.lower(), share) == ("blue", 0.5)
    with pytest.raises(ValueError, match="no questions"):
        best_constant([])


def test_best_constant_caption_ignores_the_order_of_objects():
    turned = ", ".join(reversed(CAPTION.split(", ")))
    rows = [question(gt, "caption") for gt in (CAPTION, turned, EXTRA[2:])]

    assert best_constant(rows)[1] == pytest.approx(2 / 3)


def test_best_constant_box_hits_what_it_overlaps():
    boxes = [(0, 0, 24, 24), (0, 0, 26, 24), (0, 0, 20, 24), (40, 40, 48, 48)]
    texts = ["[0, 0, 50, 50]", "[0, 0, 54, 50]", "[0, 0, 42, 50]", "[83, 83, 99, 99]"]
    rows = [
        question(text, "box", box=box, size=(48, 48))
        for text, box in zip(texts, boxes, strict=True)
    ]

    assert best_constant(rows)[1] == 0.75


def test_aggregate_adds_up_tasks_and_majority_per_form():
    rows = [
        dict(task="count", form="kind", gt="0", pred="0"),
        dict(task="count", form="kind", gt="0", pred="many"),
        dict(task="count", form="objects", gt="3", pred="it is 3"),
        dict(task="word", form="word", gt="cat", pred="dog"),
        dict(task="word", form="word", gt="dog", pred="dog"),
    ]

    table = aggregate(score_rows(rows))

    assert list(table) == ["count", "word", "overall"]
    assert table["count"] == dict(
        num=3,
        strict=pytest.approx(1 / 3),
        lenient=pytest.approx(2 / 3),
        parse_failures=2,
        majority=1.0,
    )
    assert table["word"]["majority"] == 0.5
    assert table["overall"]["num"] == 5
    assert table["overall"]["strict"] == pytest.approx(2 / 5)
    assert table["overall"]["majority"] == pytest.approx(4 / 5)
    assert "strict" not in rows[0]


def test_aggregate_of_nothing_is_zero():
    assert aggregate([]) == dict(
        overall=dict(num=0, strict=0, lenient=0, parse_failures=0, majority=0)
    )


def test_text_is_compared_in_whole_words():
    assert exact_match(" Two  Cats. ", "two cats")
    assert contains("here, two cats!", "two cats")
    assert not contains("two catsuits", "two cats")
    assert names_only("at the top left", "top left", ("left", "top left"))
    assert not names_only("top left and right", "top left", ("right",))


@pytest.mark.parametrize(
    ("pred", "strict", "lenient"),
    [
        ("A red circle.", True, True),
        ("a red word map", False, True),
        ("A blue circle.", False, False),
        ("red", False, False),
        ("", False, False),
    ],
)
def test_a_name_is_leniently_right_by_its_colour(pred, strict, lenient):
    score = score_answer(pred, "A red circle.", form="name")

    assert (score.strict, score.lenient) == (strict, lenient)
