"""The metric and the scorer of masks."""

import mmvlm  # noqa: F401  isort: skip

import json

import numpy as np
import pytest

from mmvlm.evaluation.metrics.mask_iou import MaskIoUMetric
from mmvlm.evaluation.scorers.masks import MaskScorer
from mmvlm.structures import Boxes, Region
from mmvlm.structures.masks import mask_to_rle

SIZE = (6, 8)


def mask(width, height=6):
    pixels = np.zeros(SIZE, np.uint8)
    pixels[:height, :width] = 1
    return mask_to_rle(pixels)


def region(rle=None, **fields):
    rles = () if rle is None else (rle,)
    return Region(0, Boxes([[0, 0, 1, 1]], SIZE), kind="mask", rles=rles, **fields)


def sample(index, wanted, said, dataset="a", **meta):
    return dict(
        sample_id=str(index),
        index=index,
        dataset=dataset,
        gt_text="[SEG].",
        pred_text="[SEG]." * len(said),
        gt_regions=tuple(wanted),
        pred_regions=tuple(said),
        meta=meta,
    )


def measured(metric, *samples):
    metric.process(None, list(samples))
    return {
        k.removeprefix("mask/"): v for k, v in metric.evaluate(len(samples)).items()
    }


def test_the_metric_counts_masks_that_are_missing_and_too_many(tmp_path):
    path = tmp_path / "rows.jsonl"
    found = measured(
        MaskIoUMetric(str(path)),
        sample(0, [region(mask(4))], [region(mask(4)), region(mask(2))]),
        sample(1, [region(mask(4))], []),
        sample(2, [region(mask(4))], [region(None)], dataset="b"),
        sample(3, [region(mask(4))], [region(mask(2))], dataset="b"),
    )

    assert found["giou"] == pytest.approx((1 + 0 + 0 + 0.5) / 4, abs=1e-5)
    assert found["ciou"] == pytest.approx(36 / 96, abs=1e-6)
    assert found["giou_lenient"] == pytest.approx(0.75, abs=1e-5)
    assert (found["said"], found["parse_failures"], found["surplus"]) == (0.5, 2, 1)
    assert found["giou/b"] == pytest.approx(0.25, abs=1e-5) and found["num/a"] == 2
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["overlaps"] for row in rows] == [
        [[24, 24]],
        [[0, 24]],
        [[0, 24]],
        [[12, 24]],
    ]
    assert rows[0]["references"] == [mask(4)]


def test_the_metric_leaves_out_pixels_and_follows_the_official_rule():
    rings = ((0, 0, 4, 0, 4, 6, 0, 6), (2, 0, 6, 0, 6, 6, 2, 6))
    both = Region(0, Boxes([[0, 0, 6, 6]], SIZE), kind="mask", polygons=(rings,))
    reply = [region(mask(6))]

    ours = measured(MaskIoUMetric(), sample(0, [both], reply))
    official = measured(MaskIoUMetric(overlap="official"), sample(0, [both], reply))
    ignoring = measured(MaskIoUMetric(), sample(0, [both], reply, ignore=mask(3)))

    assert ours["ciou"] == pytest.approx(1)
    assert official["ciou"] == pytest.approx(24 / 36)
    assert ignoring["ciou"] == pytest.approx(1)
    with pytest.raises(ValueError, match="overlap='sum'"):
        MaskIoUMetric(overlap="sum")


def test_a_sample_that_asks_for_no_mask_is_named():
    with pytest.raises(KeyError, match="sample '0' of 'a' asks for no mask"):
        MaskIoUMetric().process(None, [sample(0, [], [])])


def record(uid, reference, said, **fields):
    regions = [dict(kind="mask", mask=one) for one in said]
    meta = dict(pred_regions=regions)
    return dict(uid=uid, text="", reference=reference, meta=meta, **fields)


def test_the_scorer_gives_both_numbers_and_a_headline_that_can_be_resampled():
    records = [
        record("0", mask(4), [mask(4)], cluster="x"),
        record("1", [mask(4), mask(2)], [mask(4)], cluster="x"),
        record("2", dict(masks=[mask(4)], ignore=mask(2)), [mask(2)]),
        record("3", mask(4), [], finish="error"),
    ]
    for rule, value in (("giou", 100 * 2 / 5), ("ciou", 100 * 48 / 96)):
        scorer = MaskScorer(rule)
        verdicts = [scorer.verdict(one) for one in records]
        totals = scorer.totals(records, verdicts)

        assert scorer.headline == rule
        assert totals.metrics[rule] == pytest.approx(value, abs=1e-3)
        headline = totals.statistic(totals.units.sum(0))
        assert headline == pytest.approx(totals.metrics[rule], abs=1e-6)
        assert totals.clusters.tolist() == [0, 0, 0, 1, 2]
        json.dumps(verdicts)
    assert [v["parsed"] for v in verdicts] == [True, False, True, False]
    assert verdicts[1]["score"] == pytest.approx(0.5, abs=1e-5)
    assert verdicts[1]["lenient"] == pytest.approx(1, abs=1e-5)
    assert (totals.metrics["parse_failures"], totals.metrics["num"]) == (2, 5)


@pytest.mark.parametrize(
    "said",
    [
        [None],
        [dict(size=[6, 8], counts="\x00broken")],
        [dict(size=[8, 6], counts=[48])],
        ["text"],
        [3],
    ],
)
def test_no_mask_of_a_reply_stops_the_scorer(said):
    verdict = MaskScorer().verdict(record("0", mask(4), said))

    assert (verdict["score"], verdict["parsed"]) == (0, False)


def test_a_question_that_could_not_be_read_is_wrong():
    records = [record("0", mask(4), [mask(4)]), record("1", "", [], finish="error")]
    scorer = MaskScorer()

    totals = scorer.totals(records, [scorer.verdict(one) for one in records])

    assert totals.metrics["giou"] == pytest.approx(50, abs=1e-3)
    assert (totals.metrics["num"], totals.metrics["parse_failures"]) == (2, 1)


def test_an_empty_set_scores_nothing():
    totals = MaskScorer().totals([], [])

    assert totals.metrics["giou"] == 0 and totals.units.shape == (0, 4)
