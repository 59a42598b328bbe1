"""Every scorer: any text, any order, answers that failed."""

import json
import os
import random
import re
from pathlib import Path

import pytest
from scorer_records import record

from mmvlm.evaluation import scorers
from mmvlm.evaluation.functional.referring import PROTOCOLS
from mmvlm.registry import SCORERS

ROOT = Path(__file__).parents[2]

LETTERS = dict(options={"A": "teddy bear", "B": "cat", "C": "a dog", "D": "Paris"})
SCORES = dict(
    option_scores={
        rule: dict(A=-3.5, B=-0.25, C=-0.25, D=-9) for rule in ("option_logits", "ppl")
    }
)
SIZE = dict(width=400, height=300, expression="a cat")
PHRASE = dict(phrase="a cat", types=["animals"], boxes=[[40.0, 60.0, 200.0, 240.0]])
MASK, NO_MASK = (dict(size=[2, 3], counts=counts) for counts in ("132", "6"))
#: What judges say of a right answer.
PRAISE = dict(ReviewScorer="8 8", MMVetScorer="1.0")
#: What a scorer needs to judge any text: config, reference, meta.
CASES = [
    *(
        (dict(type="TenAnswerScorer", rule=rule), ["cat"] * 9 + ["a cat"], {})
        for rule in ("vqa", "textvqa", "vizwiz", "both_normalised")
    ),
    (dict(type="ExactScorer"), ["cat", "dog"], {}),
    (dict(type="GQAScorer"), "cat", {}),
    *(
        (dict(type="ChoiceScorer", rule=rule), "B", LETTERS)
        for rule in (
            *("exact_letter", "exact_matching", "scienceqa", "lmms_eval"),
            *("first_character", "xtuner"),
        )
    ),
    *(
        (dict(type=kind, rule=rule), "B", LETTERS | SCORES)
        for kind in ("ChoiceScorer", "MMMUScorer")
        for rule in ("option_logits", "ppl")
    ),
    (dict(type="JudgedChoiceScorer"), "B", LETTERS),
    (
        dict(type="ScienceQAScorer"),
        "B",
        LETTERS
        | dict(
            subject="natural science", hint="", image=None, grade="grade7", topic="x"
        ),
    ),
    (dict(type="SEEDScorer"), "B", LETTERS | dict(data_type="image")),
    (dict(type="MMMUScorer"), "B", LETTERS | dict(category="Art")),
    (dict(type="MMMUScorer", rule="fallback_random"), "B", LETTERS),
    (dict(type="MMMUScorer"), ["1,000", "cat"], {}),
    *(
        (dict(type="YesNoScorer", rule=rule), "yes", dict(category="random"))
        for rule in ("pope", "vlmevalkit", "lmms_eval", "mme")
    ),
    (dict(type="MMEScorer"), "no", dict(category="OCR")),
    (dict(type="HallusionBenchScorer"), "no", {"l2-category": "chart"}),
    (dict(type="OCRBenchScorer"), ["cat"], dict(dataset_name="svt", type="x")),
    (dict(type="OCRBenchScorer"), "x ^ 2", dict(dataset_name="HME100k", type="y")),
    (dict(type="ANLSScorer"), ["forty two", "42"], {}),
    (dict(type="RelaxedAccuracyScorer"), "12.5", {}),
    (dict(type="CaptionScorer", rule="ptb_python"), ["a cat on a mat", "one cat"], {}),
    (dict(type="ReviewScorer"), "a reference", dict(category="llava_bench_conv")),
    (dict(type="ReviewScorer", rule="tolerant", ferret=True), "a reference", {}),
    (dict(type="MMVetScorer"), "x", dict(capability=["ocr", "math"])),
    *(
        (dict(type="MathVistaScorer"), reference, dict(answer_type=kind, **more))
        for kind, reference, more in (
            ("integer", "7", dict(task="figures", skills=["counting", "logic"])),
            ("float", "1.2", dict(precision=1.0)),
            ("text", "a cat", dict(options=["a cat", "a dog"])),
            ("list", "[1, 2]", {}),
        )
    ),
    *(
        (dict(type="ReferringScorer", rule=rule), [40.0, 60.0, 200.0, 240.0], SIZE)
        for rule in PROTOCOLS
    ),
    *(
        (dict(type="PhraseGroundingScorer", rule=rule), [PHRASE], SIZE)
        for rule in ("merged", "any", "ferret")
    ),
    (dict(type="RegionNamingScorer"), dict(name="cat", synonyms=["cat", "tom"]), {}),
    (dict(type="MaskScorer"), MASK, {}),
    (dict(type="MaskScorer", rule="ciou"), dict(masks=[MASK, NO_MASK]), {}),
    (dict(type="MaskScorer"), NO_MASK, {}),
    (dict(type="GeneralizedMaskScorer"), NO_MASK, {}),
    (dict(type="GeneralizedMaskScorer", rule="ciou"), MASK, {}),
    (
        dict(type="GroundedConversationScorer"),
        dict(caption="A cat.", labels=["A cat"], masks=[MASK]),
        {},
    ),
]
IDS = [f"{config['type']}-{config.get('rule', '')}" for config, *_ in CASES]


def unread(index):
    """A question that could not even be read."""
    name = f"row {index}"
    entries = dict(image=None, cluster=name, question_id=name, judge_replies=[])
    entries["question"] = None
    return record(index, "", "", {}, finish="error", **entries)


_WORDS = (
    *("yes", "No", "not", "no\n", "A", "(B)", "C.", "d", "Z", "the answer is B", "cat"),
    *("a dog", "12", "5%", "1e999", "-.5", "nan", "1,000", "1/2", "don't", "''", "..."),
    *(
        "\u2028",
        "\x85",
        "\r",
        "\v",
        "\0",
        "\ud83d\ude00",
        "\u0130",
        "\u4e2d",
        "[1,2",
        "]",
    ),
    *(
        "[0, 1, 2, 3]",
        "<b>",
        "8 7",
        "0.5",
        "=",
        "so ",
        "is ",
        "{",
        "|||",
        "\t",
        "",
        " ",
    ),
)


def random_texts(count, seed=0):
    """Draw words of answers, marks and any characters, some texts very long."""
    generator = random.Random(seed)
    for index in range(count):
        parts = [
            generator.choice(_WORDS)
            if generator.random() < 0.8
            else chr(generator.randrange(1, 0xD7FF))
            for _ in range(generator.randrange(8))
        ]
        text = generator.choice(("", " ")).join(parts)
        yield text * 200 if index % 500 == 0 else text


@pytest.mark.parametrize(("config", "reference", "meta"), CASES, ids=IDS)
def test_every_text_gets_a_verdict(config, reference, meta):
    """At length: MMVLM_FUZZ=100000."""
    scorer = SCORERS.build(config)
    for index, text in enumerate(random_texts(int(os.environ.get("MMVLM_FUZZ", 300)))):
        one = record(index, text, reference, meta)
        verdict = scorer.verdict(one)
        assert 0 <= verdict["strict"] <= 1 and 0 <= verdict["lenient"] <= 1
        assert 0 <= verdict["score"] <= 1
        assert isinstance(verdict["parsed"], bool)
        json.dumps(verdict, allow_nan=False)


@pytest.mark.parametrize(("config", "reference", "meta"), CASES, ids=IDS)
def test_totals_hold_in_any_order_and_equal_their_statistic(config, reference, meta):
    scorer = SCORERS.build(config)
    texts = ["yes", "B", "cat", "8 7", "0.5", "12.4", "no", "x", "", "a cat on a mat"]
    records = [record(i, text, reference, meta) for i, text in enumerate(texts)]
    records.append(record(len(texts), "", reference, meta, finish="error"))
    records.append(unread(len(texts) + 1))

    def total(order):
        chosen = [records[i] for i in order]
        return scorer.totals(chosen, [scorer.verdict(one) for one in chosen])

    totals = total(range(len(records)))
    headline = totals.metrics[scorer.headline]
    assert headline == pytest.approx(float(totals.statistic(totals.units.sum(axis=0))))
    assert totals.units.ndim == 2 and len(totals.units) == len(totals.clusters)
    json.dumps(totals.metrics, allow_nan=False)

    shuffled = list(range(len(records)))
    random.Random(1).shuffle(shuffled)
    assert total(shuffled).metrics == pytest.approx(totals.metrics)


@pytest.mark.parametrize(("config", "reference", "meta"), CASES, ids=IDS)
def test_an_answer_that_failed_is_wrong_whatever_its_text(config, reference, meta):
    scorer = SCORERS.build(config)
    right = answered(scorer, record(0, "", reference, meta))
    verdict = scorer.verdict(right | dict(finish="error"))
    assert verdict["failed"] and not verdict["parsed"]
    assert verdict["score"] == verdict["strict"] == verdict["lenient"] == 0
    lost = [right | dict(finish="error", uid=str(i), image=f"{i}") for i in range(3)]
    totals = scorer.totals(lost, [scorer.verdict(one) for one in lost])
    assert totals.metrics[scorer.headline] == 0


@pytest.mark.parametrize(("config", "reference", "meta"), CASES, ids=IDS)
def test_a_question_that_could_not_be_read_is_wrong(config, reference, meta):
    """It lowers the number to report, and takes no other number away."""
    scorer = SCORERS.build(config)
    right = [answered(scorer, record(3 * i, "", reference, meta)) for i in range(3)]
    counted = [*right, unread(99)]

    before, after = (
        scorer.totals(some, [scorer.verdict(one) for one in some]).metrics
        for some in (right, counted)
    )

    if config["type"] != "CaptionScorer":  # of which equal images have none
        assert before[scorer.headline] > 0
    if config["type"] == "OCRBenchScorer":  # a count
        assert after[scorer.headline] == before[scorer.headline] == 3
    elif before[scorer.headline]:
        assert after[scorer.headline] < before[scorer.headline]
    assert set(before) <= set(after)
    chance = scorer.chance(counted, [scorer.verdict(one) for one in counted])
    assert chance is None or 0 <= chance <= 2000


def answered(scorer, one):
    """Return a record with its reference as the answer."""
    found = scorer.reference_answer(one)
    text, praise = found.pop("text"), PRAISE.get(type(scorer).__name__)
    meta = one["meta"] | found
    return one | dict(text=text, meta=meta, judge_replies=[praise or text])


def test_the_guide_has_every_scorer_with_its_rules_and_headline():
    page = ROOT / "docs/en/advanced_guides/add_a_scorer.md"
    cells = r"^\| (`\w+Scorer`[^|]*)\|([^|]*)\|([^|]*)\|"
    rows = re.findall(cells, page.read_text(), re.M)
    names = {name: cells for first, *cells in rows for name in words(first)}
    shipped = {
        name: one
        for name, one in SCORERS.module_dict.items()
        if one.__module__.startswith(f"{scorers.__name__}.")
    }

    assert sorted(names) == sorted(shipped)
    for name, (rules, headline) in names.items():
        told = [
            rule
            for word in words(rules)
            for rule in (shipped[word].rules if word in shipped else [word])
        ]
        assert tuple(dict.fromkeys(told)) == shipped[name].rules, name
        kinds = {shipped[name](rule).headline for rule in shipped[name].rules}
        assert set(words(headline)) == kinds, name


def words(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_rules_and_references_are_checked():
    with pytest.raises(ValueError, match="no rule is named 'popE'; known are pope,"):
        SCORERS.build(dict(type="YesNoScorer", rule="popE"))
    scorer = SCORERS.build(dict(type="ChoiceScorer"))
    with pytest.raises(KeyError, match="record 'u3' lacks 'options' in 'meta'"):
        scorer.verdict(record(3, "A", "A"))
    with pytest.raises(
        ValueError, match=r"record 'u3' has no reference: its split hides"
    ):
        scorer.verdict(record(3, "yes", None))
