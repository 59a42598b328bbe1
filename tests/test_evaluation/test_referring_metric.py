"""The metric of referring expressions, over samples as a runner gives them."""

import json

import numpy as np
import pytest

from mmvlm.registry import METRICS
from mmvlm.structures import Boxes, Conversation, Region, Text, Turn

SIZE = (300, 400)
TRUTH = [40.0, 60.0, 200.0, 240.0]
TALK = Conversation([Turn("user", (Text("Where is the dog?"),))], [])


def region(*row, **more):
    return Region(0, Boxes(np.array([row], float), SIZE), **more)


def sample(index, text, *regions, truth=(TRUTH,), **meta):
    return dict(
        sample_id=f"s{index}",
        dataset="toy",
        index=index,
        conversation=TALK,
        gt_text="[0.1,...]",
        gt_boxes=Boxes(np.array(truth, float), SIZE),
        pred_text=text,
        pred_regions=regions,
        problems=("character 0: x",),
        image_paths=("a.png",),
        meta=meta,
    )


def test_two_rules_judge_the_same_answers(tmp_path):
    good = region(*TRUTH, phrase="a dog")
    samples = [
        sample(1, "nowhere"),
        sample(0, "[0.100,0.275,0.500,0.725]", good, expression="the dog"),
        sample(2, "[0.1, 0.275, 0.5, 0.725]", good),
    ]
    found = {}
    for rule in ("regions", "shikra"):
        path = tmp_path / f"{rule}.jsonl"
        metric = METRICS.build(
            dict(type="ReferringMetric", rule=rule, out_file=str(path))
        )
        metric.process(None, samples)
        found[rule] = metric.evaluate(len(samples))

    assert found["regions"]["rec/acc"] == pytest.approx(2 / 3)
    assert found["shikra"]["rec/acc"] == pytest.approx(1 / 3)
    assert found["shikra"]["rec/lenient"] == pytest.approx(2 / 3)
    assert found["shikra"]["rec/parse_failures"] == 2
    assert found["regions"]["rec/num"] == 3
    for rule in found:
        assert "rec/tokens" not in found[rule]
        assert found[rule]["rec/acc@0.50"] >= found[rule]["rec/acc@0.95"]
    assert found["regions"]["rec/acc@0.95"] == pytest.approx(2 / 3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert rows[0]["meta"]["expression"] == "the dog"
    assert rows[0]["reference"] == rows[0]["meta"]["pred_regions"][0]["boxes"][0]
    assert rows[1]["problems"] == ["character 0: x"] and not rows[1]["parsed"]


def test_a_sample_that_asks_for_no_or_two_boxes_is_named():
    metric = METRICS.build(dict(type="ReferringMetric"))
    with pytest.raises(KeyError, match=r"sample 's7' of 'toy' asks for 2 boxes"):
        metric.process(None, [sample(7, "", truth=(TRUTH, TRUTH))])


def test_a_curve_and_the_length_of_replies():
    half = [40.0, 60.0, 200.0, 60 + 180 * 0.78]
    samples = [
        dict(sample(0, "a", region(*TRUTH)), pred_ids=[3, 4]),
        dict(sample(1, "b", region(*half)), pred_ids=[3] * 5),
        dict(sample(2, "c"), pred_ids=[]),
    ]
    metric = METRICS.build(dict(type="ReferringMetric"))
    metric.process(None, samples)
    found = metric.evaluate(len(samples))

    curve = [found[f"rec/acc@{0.5 + 0.05 * step:.2f}"] for step in range(10)]
    assert curve == pytest.approx([2 / 3] * 6 + [1 / 3] * 4)
    assert found["rec/tokens"] == pytest.approx(7 / 3)
