"""Tasks about relations, places, classes, existence, points; merged rounds."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from grounding_cases import draw, rich, said

from mmvlm.datasets.tasks.base import NothingToAsk
from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Instance, Region, Relation, VisualQuestion


def build(name, **kwargs):
    return DATA_TASKS.build(dict(type=name, **kwargs))


def rounds(task, annotation, seeds=60):
    drawn = [draw(task, annotation, seed) for seed in range(seeds)]
    return [tuple(said(turn) for turn in turns) for turns in drawn]


def scene_of(*instances, relations=(), **kwargs):
    return AnnotatedImage("a.png", (100, 100), instances, tuple(relations), **kwargs)


CAT, MAT = "[(20, 30, 30, 40)]", "[(15, 36, 50, 47)]"
LEFT, RIGHT = "[(2, 3, 12, 13)]", "[(40, 5, 60, 20)]"


# ---------------------------------------------------------------- relations
def test_relation_has_four_forms():
    task = build(
        "RelationQuestion",
        between="<object1> | <object2>",
        boxes="B <relation> <object>",
        names="N <relation> <object>",
        both="P <relation> <object>",
    )

    assert set(rounds(task, rich(), 200)) == {
        (f"object1: {CAT} | object2: {MAT}", "Object1 is sits on object2"),
        (f"object1: {CAT} | object2: {LEFT}", "Object1 is faces object2"),
        (f"B sits on {CAT}", MAT),
        (f"B faces {CAT}", LEFT),
        (f"N sits on {CAT}", "mat"),
        (f"N faces {CAT}", "dog"),
        (f"P sits on {CAT}", f"{MAT} mat"),
        (f"P faces {CAT}", f"{LEFT} dog"),
    }


def test_relation_answers_all_objects_small_ones_first():
    things = [
        Instance((0, 0, 9, 9), "man"),
        Instance((0, 0, 50, 50), "tree"),
        Instance((5, 5, 9, 9), "dog"),
    ]
    triples = [Relation(0, "near", 1), Relation(0, "near", 2), Relation(0, "near", 2)]
    scene = scene_of(*things, relations=triples)

    options = dict(names="<relation> <object>", forms=[3])
    assert {a for _, a in rounds(build("RelationQuestion", **options), scene)} == {
        "dog tree"
    }
    options["unique"] = False
    assert {a for _, a in rounds(build("RelationQuestion", **options), scene)} == {
        "dog dog tree"
    }


def test_common_predicates_are_mostly_drawn_again():
    things = [Instance((0, 0, 9, 9), "man"), Instance((0, 0, 50, 50), "tree")]
    scene = scene_of(*things, relations=[Relation(0, "on", 1), Relation(0, "near", 1)])
    task = build("RelationQuestion", forms=[1])

    counts = Counter("on" in answer for _, answer in rounds(task, scene, 600))

    # On is kept with 0.2: it stands for 0.1 / (0.1 + 0.5) of the draws.
    assert abs(counts[True] / 600 - 1 / 6) < 0.05
    only = replace(scene, relations=scene.relations[:1])
    assert rounds(task, only, 3)


def test_relations_of_things_without_boxes_or_to_nobody():
    unboxed = scene_of(Instance(None, "a"), Instance((0, 0, 9, 9), "b"))
    with pytest.raises(NothingToAsk, match="no relation"):
        draw(
            build("RelationQuestion"),
            replace(unboxed, relations=(Relation(0, "on", 1),)),
        )
    with pytest.raises(ValueError, match=r"relation 'on' names instances \[5\]"):
        draw(
            build("RelationQuestion"),
            replace(unboxed, relations=(Relation(0, "on", 5),)),
        )
    with pytest.raises(ValueError, match=r"forms=\[5\]"):
        build("RelationQuestion", forms=[5])


# ----------------------------------------------------------- coarse location
def test_coarse_location_answers_by_centres_in_both_axes():
    things = [
        Instance((40, 40, 60, 60), "anchor", ("the middle",)),
        Instance((0, 0, 20, 20), "big"),
        Instance((30, 10, 34, 14), "small"),
        Instance((45, 0, 55, 10), "above"),  # same column: on neither side
        Instance((80, 80, 90, 90), "crowd", is_crowd=True),
    ]
    task = build(
        "CoarseLocation",
        both="P <loc> <object>",
        names="N <loc> <object>",
        boxes="B <loc> <object>",
    )

    found = dict(rounds(task, scene_of(*things), 400))

    assert found["N top left the middle"] == "small big"
    assert found["P top left the middle"] == (
        "[(30, 10, 34, 14)] small [(0, 0, 20, 20)] big"
    )
    assert found["B top left [(40, 40, 60, 60)]"] == (
        "[(30, 10, 34, 14) (0, 0, 20, 20)]"
    )
    assert found["N bottom right the middle"] == "N/A"
    assert found["N top left [(45, 0, 55, 10)]"] == "N/A"


# ------------------------------------------------------ detection, counting
def test_detection_answers_all_of_a_class_and_no_crowd():
    task = build("CategoryDetection", by_name="<category>", by_example="<object>")

    both = "[(2, 3, 12, 13) (40, 5, 60, 20)]"
    assert set(rounds(task, rich(), 200)) == {
        *(("dog", both), (LEFT, both), (RIGHT, both)),
        *(("cat", CAT), ("mat", MAT)),
    }


def test_detection_draws_counts_first():
    names = ["rare", "rare"] + [f"single{n}" for n in range(20)]
    scene = scene_of(*(Instance((n, n, n + 9, n + 9), x) for n, x in enumerate(names)))
    task = build("CategoryDetection", by_name="<category>", by_example="<object>")

    rare = sum(answer.count("(") == 2 for _, answer in rounds(task, scene, 300))

    assert 110 < rare < 190


def test_counting_says_the_number_and_may_show_a_single_thing():
    task = build("CategoryCounting", by_name="<category>", by_example="<object>")

    assert set(rounds(task, rich(), 200)) == {
        *(("dog", "2"), (LEFT, "2"), (RIGHT, "2")),
        *(("cat", "1"), ("mat", "1"), (CAT, "1"), (MAT, "1")),
    }


def test_further_names_count_too():
    scene = scene_of(
        Instance((0, 0, 9, 9), "man", meta=dict(names=["man", "person"])),
        Instance((9, 9, 19, 19), "person"),
    )
    task = build("CategoryCounting", by_name="<category>", by_example="<object>")

    assert {("man", "1"), ("person", "2")} <= set(rounds(task, scene))


def test_class_of_a_crowd_or_an_unboxed_thing_is_not_asked():
    scene = scene_of(
        Instance((0, 0, 9, 9), "man"),
        Instance((0, 0, 99, 9), "man", is_crowd=True),
        Instance((0, 0, 9, 9), "dog"),
        Instance(None, "dog"),
    )
    with pytest.raises(NothingToAsk, match="crowd or a thing unboxed"):
        draw(build("CategoryCounting"), scene)


# ---------------------------------------------------------------- existence
def existence(**kwargs):
    options = dict(templates="<object>?", yes="Yes, <boxes>", no="No <name>")
    return build("Existence", **dict(options, instead="But <boxes>", **kwargs))


def test_existence_is_balanced_and_grounds_what_is_there():
    task = existence(
        vocabulary=["dog", "bus", "owl"], confusables=dict(cat=["lion", "dog"])
    )

    found = rounds(task, rich(), 400)

    answers = Counter(answer.split()[0].strip(",") for _, answer in found)
    assert abs(answers["Yes"] / 400 - 0.5) < 0.08
    assert abs(answers["But"] / 400 - 0.25) < 0.08
    assert set(found) == {
        ("a dog?", "Yes, [a dog: (2, 3, 12, 13) (40, 5, 60, 20)]"),
        ("a cat?", "Yes, [a cat: (20, 30, 30, 40)]"),
        ("a mat?", "Yes, [a mat: (15, 36, 50, 47)]"),
        ("a lion?", "But [a cat: (20, 30, 30, 40)]"),
        ("a bus?", "No bus"),
        ("an owl?", "No owl"),
    }


def test_existence_never_denies_what_a_crowd_shows():
    task = existence(vocabulary=["bird"], confusables={}, negative_share=1.0)
    with pytest.raises(NothingToAsk, match="no class of the vocabulary is absent"):
        draw(task, rich())


def test_existence_keeps_to_names_that_the_file_knows_to_be_absent():
    task = existence(negative_share=1.0)
    scene = replace(rich(), meta=dict(absent_names=["yak", "fox"]))

    assert {question for question, _ in rounds(task, scene)} == {"a yak?", "a fox?"}


def test_existence_shares_can_be_set():
    assert not any("Yes" in a for _, a in rounds(existence(negative_share=1), rich()))
    assert all("Yes" in a for _, a in rounds(existence(negative_share=0), rich()))
    image = existence(negative_share=1, semantic_share=0)
    assert all(a.startswith("No") for _, a in rounds(image, rich()))


def test_existence_reads_vocabularies_from_files(tmp_path):
    (tmp_path / "names.json").write_text(json.dumps(["yak"]))
    (tmp_path / "near.json").write_text(json.dumps(dict(dog=["wolf"])))
    task = existence(
        vocabulary=str(tmp_path / "names.json"),
        confusables=str(tmp_path / "near.json"),
        negative_share=1.0,
    )

    assert {q for q, _ in rounds(task, rich())} == {"a yak?", "a wolf?"}
    with pytest.raises(ValueError, match=r"nowhere.json' cannot be read"):
        existence(vocabulary="nowhere.json")


@pytest.mark.parametrize(
    "options, match",
    [
        (dict(negative_share=2), "negative_share=2"),
        (dict(semantic_share=-1), "semantic_share=-1"),
        (dict(vocabulary=[]), "vocabulary is empty"),
    ],
)
def test_existence_refuses_wrong_options(options, match):
    with pytest.raises(ValueError, match=match):
        existence(**options)


# ----------------------------------------------------------------- point QA
def point_of(turn):
    return next(part for part in turn.parts if isinstance(part, Region))


@pytest.mark.parametrize("where", ["centre", "uniform", "gaussian"])
def test_points_lie_in_the_box_of_what_is_asked(where):
    task = build("PointQA", where=where, templates="<point>: <question>")
    places = []
    for seed in range(1000):
        question, answer = draw(task, rich(), seed)
        assert (
            said(question).endswith(": What colour is it?") and said(answer) == "brown"
        )
        assert point_of(question).kind == "point"
        places.append(point_of(question).boxes.xyxy[0, :2])

    places = np.array(places)
    assert (places >= [2, 3]).all() and (places <= [12, 13]).all()
    np.testing.assert_allclose(places.mean(0), [7, 8], atol=0.3)
    spread = dict(centre=0, uniform=10 / 12**0.5, gaussian=1.5)[where]
    np.testing.assert_allclose(places.std(0), spread, atol=0.25)


def test_names_are_asked_where_no_question_points():
    scene = replace(rich(), questions=(VisualQuestion("Is it day?", ("yes",)),))
    task = build(
        "PointQA", where="centre", names="<point>?", answer="The answer is <answer> ."
    )

    assert set(rounds(task, scene)) == {
        ("[(7, 8, 7, 8)]?", "The answer is dog ."),
        ("[(50, 12.5, 50, 12.5)]?", "The answer is dog ."),
        ("[(25, 35, 25, 35)]?", "The answer is cat ."),
        ("[(32.5, 41.5, 32.5, 41.5)]?", "The answer is mat ."),
    }


def test_a_point_means_the_smallest_box_around_it():
    scene = scene_of(
        Instance((0, 0, 90, 90), "sea"), Instance((40, 40, 50, 50), "boat")
    )
    task = build("PointQA", where="centre", names="<point>")

    assert {answer for _, answer in rounds(task, scene)} == {"boat"}
    boxed = build("PointQA", names="<point>", as_box=True)
    assert {answer for _, answer in rounds(boxed, scene)} == {"boat", "sea"}


def test_point_questions_to_nobody_are_damage():
    broken = replace(rich(), questions=(VisualQuestion("x", ("y",), instances=(9,)),))
    with pytest.raises(ValueError, match=r"question 'x' names instances \[9\]"):
        draw(build("PointQA"), broken)
    with pytest.raises(ValueError, match="where='edge'"):
        build("PointQA", where="edge")


# --------------------------------------------------------------- multi-turn
def test_rounds_of_several_tasks_are_merged_and_no_question_repeats():
    task = build("MultiTurn", max_rounds=4)
    for seed in range(20):
        turns = draw(task, rich(), seed)
        assert [turn.role for turn in turns] == ["user", "assistant"] * 4
        questions = [said(turn) for turn in turns[::2]]
        assert len(set(questions)) == 4


def test_weights_and_rounds_are_kept():
    tasks = [
        dict(type="CategoryCounting", by_name="N", by_example="N"),
        dict(type="CategoryDetection", by_name="D", by_example="D"),
    ]
    for config in tasks:
        config["by_name"] += " <category>"
        config["by_example"] += " <object>"
    task = build("MultiTurn", tasks=tasks, weights=[3, 1], max_rounds=1)

    first = Counter(question[0] for question, _ in rounds(task, rich(), 400))

    assert abs(first["N"] / 400 - 0.75) < 0.07
    varied = build("MultiTurn", max_rounds=3, vary=True)
    lengths = Counter(len(draw(varied, rich(), seed)) // 2 for seed in range(200))
    assert set(lengths) == {1, 2, 3}


def test_tasks_that_an_image_does_not_allow_leave_the_rest():
    task = build(
        "MultiTurn",
        tasks=[dict(type="RelationQuestion"), dict(type="CategoryCounting")],
        max_rounds=2,
    )
    scene = replace(rich(), relations=())

    assert all(answer in ("1", "2") for _, answer, *_ in rounds(task, scene, 20))
    with pytest.raises(NothingToAsk, match=r"RelationQuestion: .*"):
        draw(task, AnnotatedImage("a.png", (4, 4)))


def test_few_questions_end_the_merging():
    scene = scene_of(Instance((0, 0, 9, 9), "dog", ("the dog",)))
    task = build(
        "MultiTurn",
        tasks=[dict(type="ReferringComprehension", templates="Where is <expr>?")],
        max_rounds=5,
    )
    assert len(draw(task, scene)) == 2


@pytest.mark.parametrize(
    "options, match",
    [
        (dict(tasks=[]), "0 tasks"),
        (dict(max_rounds=0), "max_rounds=0"),
        (dict(weights=[1]), r"weights=\[1\] for 3 tasks"),
        (dict(weights=[1, 0, 1]), "one positive number per task"),
    ],
)
def test_multi_turn_refuses_wrong_options(options, match):
    with pytest.raises(ValueError, match=match):
        build("MultiTurn", **options)
