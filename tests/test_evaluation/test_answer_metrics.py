import json

import pytest

from mmvlm.registry import METRICS
from mmvlm.structures import Conversation, VLMDataSample

ANSWERS = [
    ("colour", "red", "red"),
    ("colour", "blue", "it is blue"),
    ("existence", "yes", "no"),
    ("existence", "no", ""),
]


def sample(index, task, gt, pred, **meta):
    talk = Conversation.from_texts("Well?", gt, images=["a.png"])
    out = VLMDataSample(
        metainfo=dict(
            sample_id=f"test-{index}",
            dataset="scenes",
            index=index,
            conversation=talk,
            image_paths=("images/a.png",),
            meta=dict(task=task, form=task, **meta),
        )
    )
    out.gt_text, out.pred_text = gt, pred
    return out.to_dict()


def samples():
    return [sample(i, *answer) for i, answer in enumerate(ANSWERS)]


def evaluate(metric, *batches):
    for batch in batches:
        metric.process({}, batch)
    return metric.evaluate(sum(map(len, batches)))


def test_tiny_scenes_metric_gives_numbers_per_task(tmp_path):
    path = tmp_path / "deep" / "answers.jsonl"
    metric = METRICS.build(dict(type="TinyScenesMetric", out_file=str(path)))
    one, two, three, four = samples()

    numbers = evaluate(metric, [four, two], [], [three, one])

    assert numbers["tiny_scenes/accuracy"] == 0.25
    assert numbers["tiny_scenes/lenient"] == 0.5
    assert numbers["tiny_scenes/accuracy/colour"] == 0.5
    assert numbers["tiny_scenes/lenient/colour"] == 1.0
    assert numbers["tiny_scenes/majority"] == 0.5
    assert numbers["tiny_scenes/parse_failures"] == 2
    assert numbers["tiny_scenes/num"] == 4
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    assert rows[1] == dict(
        sample_id="test-1",
        dataset="scenes",
        index=1,
        image="images/a.png",
        question="Well?",
        gt="blue",
        pred="it is blue",
        task="colour",
        form="colour",
        strict=False,
        lenient=True,
        parsed=False,
    )
    assert [file.name for file in path.parent.iterdir()] == ["answers.jsonl"]


def test_tiny_scenes_metric_keeps_boxes(tmp_path):
    path = tmp_path / "answers.jsonl"
    metric = METRICS.build(dict(type="TinyScenesMetric", out_file=str(path)))
    text = "[0, 0, 50, 50]"
    pointing = sample(0, "box", text, text, box=[0, 0, 24, 24], size=[48, 48])

    numbers = evaluate(metric, [pointing])

    assert numbers["tiny_scenes/accuracy/box"] == 1.0
    row = json.loads(path.read_text())
    assert (row["box"], row["size"]) == ([0, 0, 24, 24], [48, 48])


def test_tiny_scenes_metric_adds_up_groups():
    metric = METRICS.build(dict(type="TinyScenesMetric"))
    answers = [("coarse", "red"), ("coarse", "red"), ("fine", "blue")]
    rows = [
        sample(n, "colour", "red", said, group=group)
        for n, (group, said) in enumerate(answers)
    ]

    numbers = evaluate(metric, rows)

    assert numbers["tiny_scenes/accuracy_coarse"] == 1.0
    assert numbers["tiny_scenes/accuracy_fine"] == 0.0
    assert numbers["tiny_scenes/accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("meta", "lacking"), [({}, "form"), ({"task": "a", "form": "box"}, "box")]
)
def test_tiny_scenes_metric_names_the_sample_without_task(meta, lacking):
    metric = METRICS.build(dict(type="TinyScenesMetric"))
    bad = {**samples()[0], "meta": meta}

    with pytest.raises(KeyError, match=f"'test-0' of 'scenes' lacks.*'{lacking}'"):
        metric.process({}, [bad])


def test_metric_names_the_sample_without_prediction():
    metric = METRICS.build(dict(type="ExactMatchMetric"))
    bad = samples()[0]
    del bad["pred_text"]

    with pytest.raises(KeyError, match=r"'test-0' of 'scenes' lacks.*pred_text"):
        metric.process({}, [bad])


def test_exact_match_groups_by_a_key_of_the_record():
    metric = METRICS.build(dict(type="ExactMatchMetric", group_by="task"))

    numbers = evaluate(metric, samples())

    assert numbers == {
        "exact_match/accuracy": 0.25,
        "exact_match/lenient": 0.5,
        "exact_match/parse_failures": 1,
        "exact_match/num": 4,
        "exact_match/accuracy/colour": 0.5,
        "exact_match/lenient/colour": 1.0,
        "exact_match/accuracy/existence": 0.0,
        "exact_match/lenient/existence": 0.0,
    }


def test_exact_match_without_groups_needs_no_meta():
    metric = METRICS.build(dict(type="ExactMatchMetric"))
    plain = [{**one, "meta": {}} for one in samples()]

    numbers = evaluate(metric, plain)

    assert {name.removeprefix("exact_match/") for name in numbers} == {
        *("accuracy", "lenient", "num", "parse_failures")
    }


def test_exact_match_names_the_missing_group():
    metric = METRICS.build(dict(type="ExactMatchMetric", group_by="topic"))

    with pytest.raises(KeyError, match=r"group_by='topic'.*\['form', 'task'\]"):
        metric.process({}, samples())


def test_questions_without_answers_are_written_and_not_scored(tmp_path):
    bare = sample(1, "colour", "", "green")
    bare["conversation"] = Conversation.from_texts("Well?")
    del bare["gt_text"]
    path = tmp_path / "out.jsonl"
    metric = METRICS.build(dict(type="ExactMatchMetric", out_file=str(path)))

    metrics = evaluate(metric, [sample(0, "colour", "red", "red"), bare])

    assert metrics["exact_match/unanswered"] == 1 and metrics["exact_match/num"] == 1
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["pred"] for row in rows] == ["red", "green"]
    alone = METRICS.build(dict(type="ExactMatchMetric"))
    assert evaluate(alone, [bare]) == {"exact_match/unanswered": 1}


def test_several_data_sets_are_scored_together_and_each():
    metric = METRICS.build(dict(type="TinyScenesMetric"))
    rows = samples()
    for row, name in zip(rows, ("a", "a", "b", "b"), strict=True):
        row["dataset"] = name

    numbers = evaluate(metric, rows)

    assert numbers["tiny_scenes/accuracy"] == 0.25
    assert numbers["tiny_scenes/accuracy/a"] == 0.5
    assert numbers["tiny_scenes/accuracy/colour/a"] == 0.5
    assert numbers["tiny_scenes/accuracy/b"] == 0.0
    assert "tiny_scenes/accuracy/existence/a" not in numbers


def test_a_metric_scores_the_data_sets_that_it_names():
    metric = METRICS.build(dict(type="TinyScenesMetric", datasets=["a"]))
    rows = samples()
    rows[0]["dataset"] = "a"
    del rows[3]["meta"]  # another metric's sample need not be one of this metric

    assert evaluate(metric, rows)["tiny_scenes/num"] == 1
    with pytest.raises(ValueError, match=r"datasets=\['a'\], but answers are of \[\]"):
        evaluate(metric, rows[1:])
