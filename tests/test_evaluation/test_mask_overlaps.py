"""gIoU and cIoU: official numbers, run lengths against pixels, ignored pixels."""

import json

import numpy as np
import pytest

from mmvlm.evaluation.functional.masks import (
    MaskOverlap,
    ciou,
    giou,
    mask_ious,
    mask_totals,
    pixel_overlap,
    reply_overlaps,
    rings_rle,
    rle_overlap,
)
from mmvlm.structures.masks import mask_to_rle, rle_to_mask

IGNORED = 255


def by_runs(prediction, truth):
    """Return the overlap of run lengths."""
    ignore = mask_to_rle(truth == IGNORED) if (truth == IGNORED).any() else None
    return rle_overlap(mask_to_rle(prediction), mask_to_rle(truth == 1), ignore)


def overlaps_of(prediction, truth):
    """Return the overlap by pixels and by runs, which must be one."""
    found = by_runs(prediction, truth)
    assert found == pixel_overlap(prediction, truth)
    return found


@pytest.mark.golden
def test_golden_arrays(goldens):
    with np.load(goldens / "seg_eval.npz") as file:
        data = dict(file)
    found = []
    for number in range(int(data["num_samples"])):
        logits, truth = data[f"s{number}/logits"], data[f"s{number}/gt"]
        own = [
            overlaps_of(one > 0, two) for one, two in zip(logits, truth, strict=True)
        ]
        rest = [
            pixel_overlap(one <= 0, np.where(two == IGNORED, two, 1 - two))
            for one, two in zip(logits, truth, strict=True)
        ]
        sums = np.array([rest, own]).sum(1).T

        assert sums[0].tolist() == data[f"s{number}/inter"].tolist()
        assert sums[1].tolist() == data[f"s{number}/union"].tolist()
        means = [mask_ious(rest).mean(), mask_ious(own).mean()]
        np.testing.assert_allclose(means, data[f"s{number}/acc_iou"], atol=1e-6)
        found += [(number, *one, one.iou) for one in own]

    np.testing.assert_allclose(found, data["per_mask"], atol=1e-6)
    pairs = np.array(found)[:, 1:3]

    assert ciou(pairs) == pytest.approx(float(data["ciou"]), abs=1e-6)
    assert giou(pairs) == pytest.approx(float(data["giou_exact_count"]), abs=1e-6)
    assert giou(pairs, exact=False) == pytest.approx(float(data["giou"]), abs=1e-6)


@pytest.mark.golden
def test_golden_scores(goldens):
    data = json.loads((goldens / "eval_segmentation_iou.json").read_text())
    score, found = data["official_score"], []
    for sample, judged in zip(
        data["inputs"]["samples"], score["per_sample"], strict=True
    ):
        pairs = zip(sample["pred_logits"], sample["gt_masks"], judged, strict=True)
        for logits, truth, expected in pairs:
            own = overlaps_of(np.array(logits) > 0, np.array(truth))
            assert list(own) == [expected[key][1] for key in ("intersection", "union")]
            assert own.iou == pytest.approx(expected["iou"][1], abs=1e-5)
            found.append(own)

    assert giou(found) == pytest.approx(score["giou"], abs=1e-5)
    assert ciou(found) == pytest.approx(score["ciou"], abs=1e-5)


def test_random_masks_by_runs_and_by_pixels():
    rng = np.random.default_rng(0)
    for _ in range(300):
        size = tuple(rng.integers(1, 12, 2))
        truth = rng.choice([0, 1, IGNORED], size, p=[0.5, 0.4, 0.1])
        prediction = rng.random(size) > rng.random()
        assert by_runs(prediction, truth) == pixel_overlap(prediction, truth)


def test_ignored_pixels_may_lie_under_the_reference():
    prediction, truth, ignore = np.zeros((3, 4, 4), bool)
    prediction[:2], truth[1:3], ignore[1, :2] = True, True, True

    found = rle_overlap(*map(mask_to_rle, (prediction, truth, ignore)))

    assert found == MaskOverlap(2, 4 + 6 - 2 + 2)


def test_pixels_under_two_rings_follow_the_rule():
    truth = np.array([[0, 1, 2, IGNORED]])
    chosen = np.ones((1, 4))

    assert pixel_overlap(chosen, truth) == (2, 3)
    # The official histogram has no bin for 2: predicted, but no reference.
    assert pixel_overlap(chosen, truth, overlap="official") == (1, 3)
    assert pixel_overlap(1 - chosen, truth, overlap="official") == (0, 1)


def test_rings_that_overlap_are_one_mask_or_follow_the_official_rule():
    rings = [(0, 0, 2, 0, 2, 4, 0, 4), (1, 0, 3, 0, 3, 4, 1, 4)]

    union = rle_to_mask(rings_rle(rings, (4, 4)))
    once = rle_to_mask(rings_rle(rings, (4, 4), overlap="official"))

    assert union.tolist() == [[1, 1, 1, 0]] * 4
    assert once.tolist() == [[1, 0, 1, 0]] * 4


def test_two_empty_masks_are_equal_and_nothing_is_nothing():
    assert MaskOverlap(0, 0).iou == 1 and MaskOverlap(0, 5).iou == 0
    assert giou([]) == ciou([]) == 0
    assert giou([MaskOverlap(0, 0), MaskOverlap(0, 4)]) == 0.5


def test_masks_of_a_reply_are_taken_in_order():
    one, two = np.eye(4), 1 - np.eye(4)
    truth = [mask_to_rle(one), mask_to_rle(two)]

    none = reply_overlaps([], truth)
    both = reply_overlaps([*truth, truth[0]], truth)
    broken = reply_overlaps([None, truth[1]], truth)

    assert none == ([(0, 4), (0, 12)], [False, False], 0)
    assert both == ([(4, 4), (12, 12)], [True, True], 1)
    assert broken == ([(0, 4), (12, 12)], [False, True], 0)


def test_masks_that_were_not_said_count_in_the_strict_numbers_alone():
    found = mask_totals([MaskOverlap(4, 4), MaskOverlap(0, 4)], [True, False])

    assert found["giou"] == pytest.approx(0.5, abs=1e-5) and found["said"] == 0.5
    assert found["giou_lenient"] == pytest.approx(1, abs=1e-5)
    assert (found["parse_failures"], found["num"]) == (1, 2)
    assert mask_totals([], [])["said"] == 0


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r"prediction \(4, 5\), reference \(4, 4\)"):
        rle_overlap(mask_to_rle(np.ones((4, 5))), mask_to_rle(np.eye(4)))
    with pytest.raises(ValueError, match="different sizes"):
        pixel_overlap(np.eye(3), np.eye(4))
    with pytest.raises(ValueError, match="overlap='sum'"):
        pixel_overlap(np.eye(3), np.eye(3), overlap="sum")
