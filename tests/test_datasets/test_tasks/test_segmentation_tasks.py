"""Tasks that answer with masks: what is asked, what the region holds."""

from collections import Counter

import numpy as np
import pytest

from mmvlm.datasets.tasks.base import NothingToAsk
from mmvlm.datasets.tasks.reasoning_segmentation import ReasoningSegmentation
from mmvlm.datasets.tasks.referring_segmentation import ReferringSegmentation
from mmvlm.datasets.tasks.segmentation import mask_region
from mmvlm.datasets.tasks.semantic_segmentation import SemanticSegmentation
from mmvlm.structures import AnnotatedImage, Image, Instance, Region, VisualQuestion
from mmvlm.structures.masks import mask_to_rle, region_rle, rle_to_mask

SIZE = (20, 30)


def square(x, y, side=4):
    return (x, y, x + side, y, x + side, y + side, x, y + side)


def pixels(x, y, side=4):
    mask = np.zeros(SIZE, np.uint8)
    mask[y : y + side, x : x + side] = 1
    return mask


def make_image(*instances, questions=()):
    return AnnotatedImage("a.jpg", SIZE, instances, questions=questions, id="a")


def regions(turn):
    return [part for part in turn.parts if isinstance(part, Region)]


def ask(task, annotation, seed=0):
    return task(annotation, ["a.jpg"], np.random.default_rng(seed)).turns


DOG = Instance((1, 2, 5, 6), "dog", ("Left dog ", "puppy"), polygons=(square(1, 2),))
CAT = Instance((9, 3, 13, 7), "cat", rle=mask_to_rle(pixels(9, 3)))
PACK = Instance((20, 8, 24, 12), "dog", polygons=(square(20, 8),), is_crowd=True)
BOX_ONLY = Instance((1, 2, 5, 6), "bird", ("a bird",))


def test_a_region_is_the_union_of_its_instances():
    drawn = mask_region([DOG, PACK], SIZE, "dogs")
    mixed = mask_region([DOG, CAT], SIZE)

    assert (drawn.kind, drawn.phrase) == ("mask", "dogs")
    assert drawn.boxes.xyxy.tolist() == [[1, 2, 24, 12]]
    assert drawn.boxes.size == SIZE
    assert drawn.polygons == ((square(1, 2), square(20, 8)),) and drawn.rles == (None,)
    both = pixels(1, 2) | pixels(20, 8)
    assert np.array_equal(rle_to_mask(region_rle(drawn)), both)
    assert mixed.polygons == ((),)
    assert np.array_equal(rle_to_mask(region_rle(mixed)), pixels(1, 2) | pixels(9, 3))
    with pytest.raises(ValueError, match="instance 'bird' has no mask"):
        mask_region([BOX_ONLY], SIZE)
    bare = Region(0, drawn.boxes, "box")
    with pytest.raises(ValueError, match="region of kind 'box' has no mask"):
        region_rle(bare)


def test_referring_asks_for_every_phrase_of_what_has_a_mask():
    task = ReferringSegmentation(
        "Mask <name>", "Yes: <mask>.", max_questions=9, lower_case=True
    )

    turns = ask(task, make_image(DOG, CAT, BOX_ONLY))

    assert turns[0].parts[0] == Image(0)
    asked = sorted(turn.text.strip() for turn in turns[::2])
    assert asked == ["Mask left dog", "Mask puppy"]
    for question, answer in zip(turns[::2], turns[1::2], strict=True):
        (found,) = regions(answer)
        assert question.text.strip() == f"Mask {found.phrase}"
        assert found.boxes.xyxy.tolist() == [[1, 2, 5, 6]]
        assert answer.text == "Yes: ."
    with pytest.raises(NothingToAsk, match="no instance with a mask and a phrase"):
        ask(task, make_image(CAT, BOX_ONLY))


def test_one_question_and_letters_as_they_are_for_scoring():
    task = ReferringSegmentation("<name>", "<mask>", max_questions=1, lower_case=False)

    seen = Counter(ask(task, make_image(DOG), seed)[0].text for seed in range(40))

    assert set(seen) == {"\nLeft dog", "\npuppy"}


def test_classes_unite_their_instances_crowds_included():
    task = SemanticSegmentation("<name>", "<mask>", max_classes=2)

    turns = ask(task, make_image(DOG, CAT, PACK, BOX_ONLY))

    found = {regions(turn)[0].phrase: regions(turn)[0] for turn in turns[1::2]}
    assert set(found) == {"dog", "cat"}
    assert len(found["dog"].polygons[0]) == 2
    assert found["cat"].rles == (CAT.rle,)


def test_as_many_classes_as_wanted_are_drawn_and_all_come_up():
    things = [Instance(None, name, rle=CAT.rle) for name in "abcdef"]
    task = SemanticSegmentation("<name>", "<mask>", max_classes=3)

    drawn = [
        tuple(turn.text.strip() for turn in ask(task, make_image(*things), seed)[::2])
        for seed in range(60)
    ]

    assert all(len(set(names)) == 3 for names in drawn)
    assert {name for names in drawn for name in names} == set("abcdef")
    assert drawn[7] == tuple(
        turn.text.strip() for turn in ask(task, make_image(*things), 7)[::2]
    )


def test_instances_one_by_one_leave_crowds_out():
    task = SemanticSegmentation("<name>", "<mask>", max_classes=9, unit="instance")
    other = Instance((2, 9, 6, 13), "dog", polygons=(square(2, 9),))

    turns = ask(task, make_image(DOG, other, PACK))

    boxes = sorted(regions(turn)[0].boxes.xyxy[0].tolist() for turn in turns[1::2])
    assert boxes == [[1, 2, 5, 6], [2, 9, 6, 13]]
    with pytest.raises(NothingToAsk, match="no instance with a mask and a name"):
        ask(task, make_image(PACK))


def test_a_part_is_called_in_either_way_as_often():
    part = Instance(None, "dog head", rle=CAT.rle, meta=dict(object="Dog", part="head"))
    task = SemanticSegmentation("<name>", "<mask>")

    seen = Counter(ask(task, make_image(part), seed)[0].text for seed in range(200))

    assert set(seen) == {"\ndog head", "\nthe head of the dog"}
    assert 70 < seen["\ndog head"] < 130


def question(is_sentence=True, rationale="", **changes):
    given = dict(question="What barks?", instances=(0,), rationale=rationale)
    meta = dict(is_sentence=is_sentence)
    return VisualQuestion(**{**given, **changes}, meta=meta)


def test_sentences_are_followed_by_a_request_and_names_put_into_a_question():
    task = ReasoningSegmentation("Show <name>.", "<text> Mask it.", answers="<mask>!")

    sentence = ask(task, make_image(DOG, questions=[question()]))
    name = ask(task, make_image(DOG, questions=[question(False)]))

    assert sentence[0].text == "\nWhat barks? Mask it."
    assert regions(sentence[1])[0].phrase is None
    assert name[0].text == "\nShow What barks?."
    assert regions(name[1])[0].phrase == "What barks?"
    assert sentence[1].text == "!"
    with pytest.raises(NothingToAsk, match="no question whose answer is a mask"):
        ask(task, make_image(BOX_ONLY, questions=[question(), question(instances=())]))


def test_rationales_come_alone_with_the_mask_or_not_at_all():
    task = ReasoningSegmentation(
        sentences="<text> Mask it.",
        reasons="Mask it, and why?",
        answers="<mask>.",
        text_only=0.1,
    )
    annotation = make_image(DOG, questions=[question(rationale="Dogs do.")])

    seen = Counter()
    for seed in range(600):
        user, answer = ask(task, annotation, seed)
        seen[user.text, answer.text, len(regions(answer))] += 1

    alone = ("\nWhat barks?", "Dogs do.", 0)
    mask = ("\nWhat barks? Mask it.", ".", 1)
    # The request for a rationale stands in place of the one for a mask.
    both = ("\nWhat barks? Mask it, and why?", ". Dogs do.", 1)
    assert set(seen) == {alone, mask, both}
    assert 35 < seen[alone] < 90
    assert abs(seen[mask] - seen[both]) < 100
    scoring = ReasoningSegmentation(
        sentences="<text>", answers="<mask>.", explain=False
    )
    assert {ask(scoring, annotation, seed)[1].text for seed in range(30)} == {"."}


def test_one_choice_is_made_for_an_image():
    task = ReasoningSegmentation(answers="<mask>.", text_only=0.4)
    asked = [question(question=f"{n}?", rationale="Dogs do.") for n in range(3)]

    for seed in range(40):
        answers = ask(task, make_image(DOG, questions=asked), seed)[1::2]
        assert len({(one.text, len(regions(one))) for one in answers}) == 1


def test_validation_puts_a_space_behind_the_line_break():
    task = ReasoningSegmentation(sentences=" <text> Mask it.", take="first")

    turns = ask(task, make_image(DOG, questions=[question()]))

    assert turns[0].text == "\n What barks? Mask it."


def test_scoring_takes_the_first_question():
    asked = [question(question=f"{number}?") for number in range(4)]
    first = ReasoningSegmentation(sentences="<text>", take="first")
    drawn = ReasoningSegmentation(sentences="<text>", max_questions=2)

    texts = {
        ask(first, make_image(DOG, questions=asked), seed)[0].text for seed in range(9)
    }

    assert texts == {"\n0?"}
    assert len(ask(drawn, make_image(DOG, questions=asked))) == 4


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: ReferringSegmentation(max_questions=0), "max_questions=0, expected 1"),
        (lambda: SemanticSegmentation(unit="thing"), "unit='thing'"),
        (lambda: SemanticSegmentation(max_classes=0), "max_classes=0"),
        (lambda: ReasoningSegmentation(take="last"), "take='last'"),
        (lambda: ReasoningSegmentation(text_only=2), "text_only=2"),
        (lambda: SemanticSegmentation("What?"), "wrong holes"),
    ],
)
def test_wrong_options_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_damaged_and_empty_masks_name_the_instance():
    empty = Instance(None, "fog", rle=mask_to_rle(np.zeros(SIZE)), id="12")
    torn = Instance(None, "rag", polygons=((1, 2, 3),), id="13")

    for item, message in ((empty, "'12': empty"), (torn, "'13': polygon 0: 3 coor")):
        with pytest.raises(ValueError, match=f"mask of instance {message}"):
            ask(SemanticSegmentation(), make_image(item))
