"""Scorers of boxes, phrases and names over answer records."""

import json

import pytest

from mmvlm.registry import SCORERS

BOX = [40.0, 60.0, 200.0, 240.0]
ELSEWHERE = [300.0, 0.0, 400.0, 50.0]
META = dict(width=400, height=300)


def build(name, **options):
    return SCORERS.build(dict(type=name, **options))


def record(uid, text, reference, cluster=None, finish="stop", **meta):
    return dict(
        uid=uid,
        text=text,
        reference=reference,
        finish=finish,
        cluster=cluster,
        meta=dict(META, **meta),
    )


def regions(*rows, phrase=None):
    return [dict(kind="box", phrase=phrase, boxes=[list(row)]) for row in rows]


def scored(scorer, records):
    verdicts = [scorer.verdict(one) for one in records]
    totals = scorer.totals(records, json.loads(json.dumps(verdicts)))
    headline = totals.statistic(totals.units.sum(0))
    assert headline == pytest.approx(totals.metrics[scorer.headline])
    return verdicts, totals


def test_boxes_under_two_rules():
    answers = ["[0.100,0.275,0.500,0.725]", "[0.1, 0.275, 0.5, 0.725]", "nowhere", ""]
    records = [
        record(str(n), text, BOX, cluster="a", pred_regions=regions(BOX, ELSEWHERE))
        for n, text in enumerate(answers)
    ]
    records[3]["finish"] = "error"

    verdicts, totals = scored(build("ReferringScorer", rule="shikra"), records)
    assert [v["strict"] for v in verdicts] == [1, 0, 0, 0]
    assert [v["lenient"] for v in verdicts] == [1, 1, 0, 0]
    assert totals.metrics["acc"] == 25 and totals.metrics["lenient"] == 50
    assert totals.metrics["parse_failures"] == 3 and verdicts[3]["failed"]
    assert set(totals.clusters) == {0}

    verdicts, totals = scored(build("ReferringScorer"), records)
    assert [v["strict"] for v in verdicts] == [1, 1, 1, 0]
    assert verdicts[0]["prediction"] == BOX and totals.metrics["miou"] == 75
    scorer = build("ReferringScorer", rule="mmpretrain")
    assert scored(scorer, records)[0] == verdicts and scorer.needs_regions
    with pytest.raises(ValueError, match="'7': meta lacks expression, which the rule"):
        build("ReferringScorer", rule="kosmos2").verdict(record("7", "", BOX))


@pytest.mark.parametrize("rule, expected", [("any", 2), ("merged", 1), ("ferret", 1)])
def test_phrases_under_all_rules(rule, expected):
    reference = [
        dict(phrase="two dogs", types=["animals"], boxes=[BOX, ELSEWHERE]),
        dict(phrase="a cat", types=["animals", "other"], boxes=[BOX]),
    ]
    text = "two dogs [100, 200, 500, 800], a cat [100, 200, 500, 800]."
    own = [*regions(BOX, phrase="Two dogs"), *regions(BOX, phrase="a cat")]
    records = [
        record("1", text, reference, pred_regions=own),
        record("2", "", reference, finish="error"),
    ]

    verdicts, totals = scored(build("PhraseGroundingScorer", rule=rule), records)

    assert verdicts[0]["score"] == expected / 2
    assert totals.metrics["recall@1"] == pytest.approx(25 * expected)
    assert totals.metrics["recall@1/other"] == 50
    assert totals.metrics["num_phrases"] == 4 and totals.metrics["parse_failures"] == 1


def test_one_phrase_takes_regions_without_words():
    reference = [dict(phrase="a cat", boxes=[BOX])]
    one = record("1", "", reference, pred_regions=regions(ELSEWHERE, BOX))

    (verdict,), totals = scored(build("PhraseGroundingScorer", rule="any"), [one])

    assert (verdict["score"], verdict["lenient"]) == (0, 1)
    assert totals.metrics["recall@5"] == totals.metrics["upper_bound"] == 100


def test_names_of_regions_by_kind():
    bus = dict(name="bus_(vehicle)", synonyms=["bus_(vehicle)", "autobus"])
    records = [
        record("1", "It is a bus.", bus, kind="box"),
        record("2", "It is a Bus.", bus, kind="point"),
        record("3", "It is no bus, a car", bus, kind="point"),
    ]

    verdicts, totals = scored(build("RegionNamingScorer"), records)

    assert [v["strict"] for v in verdicts] == [1, 0, 0]
    assert [v["lenient"] for v in verdicts] == [1, 1, 0]
    assert totals.metrics["kind/box"] == 100 and totals.metrics["kind/point"] == 0
