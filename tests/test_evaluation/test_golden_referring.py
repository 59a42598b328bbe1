"""Boxes of answers against the verdicts of the systems' own evaluations."""

import json

import numpy as np
import pytest

from mmvlm.evaluation.functional.boxes import box_iou
from mmvlm.evaluation.functional.phrase_grounding import same_phrase
from mmvlm.evaluation.functional.referring import (
    PROTOCOLS,
    first_group,
    judge_box,
    protocol_of,
)
from mmvlm.registry import CODECS
from mmvlm.structures import Boxes, Region
from mmvlm.text.codecs import ferret, qwen_vl, shikra

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def rec(goldens):
    return json.loads((goldens / "rec_eval.json").read_text())


@pytest.fixture(scope="module")
def parsers(goldens):
    return json.loads((goldens / "eval_rec.json").read_text())


def xyxy(box):
    x, y, width, height = box
    return [x, y, x + width, y + height]


def judged(rec, protocol, rows):
    """Yield each official row of an answer in words with our verdict."""
    for sample, row in zip(rec["samples"], rows, strict=True):
        yield (
            row,
            judge_box(
                protocol,
                row["pred_text"],
                xyxy(sample["gt_xywh"]),
                (sample["h"], sample["w"]),
                expression=sample["caption"],
            ),
        )


def share(verdicts, name="strict"):
    return np.mean([getattr(verdict, name) for verdict in verdicts])


@pytest.mark.parametrize(
    "protocol, total", [("kosmos2", "precision_at_1"), ("qwen_vl", "precision_at_1")]
)
def test_first_boxes_of_kosmos2_and_qwen_vl(rec, protocol, total):
    golden = rec["results"][protocol]
    verdicts = []
    for row, verdict in judged(rec, protocol, golden["rows"]):
        np.testing.assert_allclose(verdict.box, row["box"], rtol=1e-5, atol=1e-3)
        assert verdict.iou == pytest.approx(row["iou"], abs=1e-4)
        assert verdict.strict == row["correct"], row
        verdicts.append(verdict)
    assert share(verdicts) == pytest.approx(golden[total], abs=1e-6)


def test_shikra_compares_rounded_boxes_of_the_square(rec):
    golden = rec["results"]["shikra"]
    codec = CODECS.build(dict(type="ShikraCodec"))
    verdicts = []
    for sample, (row, verdict) in zip(
        rec["samples"], judged(rec, "shikra", golden["rows"]), strict=True
    ):
        size = (sample["h"], sample["w"])
        truth = Region(0, Boxes(np.array([xyxy(sample["gt_xywh"])]), size))
        assert codec.encode(truth) in row["target_text"]
        (written,) = shikra.read_numbers(row["target_text"], "box")
        np.testing.assert_allclose(verdict.truth, np.array(written.values[0]) * 1000)
        assert verdict.iou == pytest.approx(row["iou"], abs=1e-4)
        assert verdict.strict == row["correct"], row
        verdicts.append(verdict)
    assert share(verdicts) == pytest.approx(golden["accuracy"], abs=1e-6)
    assert sum(not v.parsed for v in verdicts) == golden["failed"]
    assert np.mean([v.iou for v in verdicts]) == pytest.approx(
        golden["mean_iou"], abs=1e-4
    )


def test_ferret_reports_first_mean_and_best_boxes(rec):
    golden = rec["results"]["ferret"]
    verdicts = []
    for row, verdict in judged(rec, "ferret", golden["rows"]):
        assert [list(b) for b in verdict.boxes or [verdict.box]] == row["boxes"]
        assert verdict.iou == pytest.approx(row["iou_first"], abs=1e-4)
        found = dict(first=verdict.strict, mean=verdict.mean, all=verdict.best)
        assert found == {key: row[key] for key in found}, row
        verdicts.append(verdict)
    totals = dict(precision_at_1="strict", mean_box="mean", upper_bound="best")
    for key, name in totals.items():
        assert share(verdicts, name) == pytest.approx(golden[key], abs=1e-6)


def test_pink_counts_errors_of_form_and_place(rec):
    golden = rec["results"]["pink"]
    verdicts = []
    for row, verdict in judged(rec, "pink", golden["rows"]):
        assert verdict.parsed != row["format_error"]
        if "box" in row:
            np.testing.assert_allclose(verdict.box, row["box"], rtol=0, atol=1e-3)
        assert verdict.iou == pytest.approx(row["iou"], abs=1e-4)
        assert verdict.strict == row["correct"], row
        verdicts.append(verdict)
    assert share(verdicts) == pytest.approx(golden["acc1"], abs=1e-6)
    assert sum(not v.parsed for v in verdicts) == golden["format_error"]
    placed = sum(v.parsed and not v.strict for v in verdicts)
    assert placed == golden["location_error"]


def test_ofa_and_mmpretrain_judge_boxes_in_pixels(rec):
    rule, golden = PROTOCOLS["ofa"], rec["results"]
    truths = [xyxy(sample["gt_xywh"]) for sample in rec["samples"]]
    boxes = [sample["pred_xyxy"] for sample in rec["samples"]]
    pairs = list(zip(boxes, truths, strict=True))

    right = [rule.is_right(rule.overlap(box, truth)) for box, truth in pairs]
    verdicts = [
        judge_box("mmpretrain", "", truth, (s["h"], s["w"]), regions=[box])
        for s, (box, truth) in zip(rec["samples"], pairs, strict=True)
    ]

    assert right == golden["ofa"]["rows"]
    assert np.mean(right) == pytest.approx(golden["ofa"]["accuracy"], abs=1e-6)
    ious = [verdict.iou for verdict in verdicts]
    np.testing.assert_allclose(ious, golden["mmpretrain"]["rows"], rtol=0, atol=1e-4)
    assert share(verdicts) == pytest.approx(golden["mmpretrain"]["accuracy"], abs=1e-6)
    assert np.mean(ious) == pytest.approx(golden["mmpretrain"]["miou"], abs=1e-4)


@pytest.mark.parametrize("protocol", ["mmfuser", "mmfuser_pad"])
def test_mmfuser_reads_the_first_nested_list(parsers, protocol):
    key = "mmfuser_plain" if protocol == "mmfuser" else protocol
    summary = parsers["official_score"]["mmfuser_summary"]
    lines = summary["plain" if protocol == "mmfuser" else "square_pad"]
    groups = {}
    for question, official in zip(
        parsers["inputs"]["mmfuser"], parsers["official_score"]["mmfuser"], strict=True
    ):
        size = (question["height"], question["width"])
        verdict = judge_box(protocol, question["text"], question["bbox"], size)
        golden = official[key]
        # What cannot be read is a zero box, which the official code pads as well.
        box = (
            verdict.box
            if verdict.parsed
            else protocol_of(protocol).place([0] * 4, size)
        )
        np.testing.assert_allclose(box, golden["box"], rtol=0, atol=1e-3)
        assert verdict.iou == pytest.approx(golden["iou"], abs=1e-5)
        assert verdict.strict == golden["hit"], question
        groups.setdefault(question["category"], []).append(verdict.strict)
    printed = [
        f"Category: {name}, # samples: {len(hits)}, # Acc@0.5: {np.mean(hits):.2%}"
        for name, hits in groups.items()
    ]
    assert sorted(line.rstrip("%") for line in printed) == sorted(lines)


def test_xtuner_compares_whole_percents(parsers):
    hits = []
    for record in parsers["official_score"]["xtuner"]:
        size = (record["height"], record["width"])
        truth = xyxy(record["bbox_xywh"])
        verdict = judge_box("xtuner", record["ans"], truth, size)
        assert list(verdict.truth) == record["gt_0_100"]
        assert verdict.strict == bool(record["hit"]), record
        hits.append(verdict.strict)
    assert np.mean(hits) == pytest.approx(parsers["official_score"]["xtuner_accuracy"])


def test_parsers_read_one_text_each_in_its_way(parsers):
    for record in parsers["official_score"]["extraction"]:
        text, golden = record["text"], record["ferret_640x480"]
        for brackets in ("square", "round"):
            found = shikra.read_numbers(text, "box", brackets)
            assert [one.values for one in found] == record[f"shikra_{brackets}"]
        (row,) = first_group(text) or [[0, 0, 0, 0]]
        assert row == record["lmms_eval_first"], text
        assert qwen_vl.eval_box(text)[0] == record["qwen_first"], text
        try:
            names, boxes = ferret.eval_entities(text, (480, 640))
        except (ValueError, IndexError) as error:
            assert type(error).__name__ == golden["error"], text
        else:
            assert (names, boxes) == (golden["entities"], golden["boxes"]), text


def test_shikra_tokens_come_back(parsers):
    codecs = [CODECS.build(dict(type="ShikraCodec", tokens=t)) for t in (True, False)]
    for record in parsers["official_score"]["format"]:
        region = Region(0, Boxes(np.array(record["boxes"]), (1, 1)))
        written = [codec.encode(region) for codec in codecs]
        assert written == [record["text"], record["plain"]]
        found = shikra.read_tokens(record["text"], "box")
        assert [one.values for one in found] == record["round_trip"]


def test_equal_phrases_and_aligned_boxes(parsers, goldens):
    text = json.loads((goldens / "grounding_text.json").read_text())
    pairs = parsers["official_score"]["phrases"]
    for pair in [*pairs, *text["ferret"]["phrase_similarity"]]:
        assert same_phrase(pair["a"], pair["b"]) == pair["similar"], pair
    aligned, golden = (
        parsers["inputs"]["aligned"],
        parsers["official_score"]["mmpretrain_aligned"],
    )
    pairs = zip(aligned["pred"], aligned["gt"], strict=True)
    ious = [box_iou(*pair) for pair in pairs]
    np.testing.assert_allclose(ious, golden["iou"], rtol=0, atol=1e-5)
    assert np.mean(np.array(ious) >= 0.5) == pytest.approx(golden["acc_ge_0_5"])
    assert np.mean(ious) == pytest.approx(golden["miou"], abs=1e-5)
