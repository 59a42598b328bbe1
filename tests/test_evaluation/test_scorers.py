"""Properties of scorers: traps, errors, order, random texts."""

import importlib.util
import io
import json
import os
import random

import numpy as np
import pytest

from mmvlm.evaluation import java_captions
from mmvlm.evaluation.functional import captions, judges, ptb, reading, submissions, vqa
from mmvlm.registry import SCORERS

LETTERS = dict(options={"A": "teddy bear", "B": "cat", "C": "a dog", "D": "Paris"})
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
            *("first_character", "xtuner", "judge", "option_logits", "ppl"),
        )
    ),
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
]
IDS = [f"{config['type']}-{config.get('rule', '')}" for config, *_ in CASES]


def record(index, text, reference, meta=None, **entries):
    return (
        dict(
            uid=f"u{index}",
            index=index,
            question_id=f"a_b_c_{index % 3}_{index % 2}_{index}",
            image=f"{index // 3}.jpg",
            question="What is it?",
            text=text,
            finish="stop",
            reference=reference,
            meta=dict(meta or {}),
            cluster=f"{index // 3}.jpg",
            judge_replies=[text],
        )
        | entries
    )


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
    if config["type"] != "MMEScorer":
        # A question that could not even be read.
        records.append(record(len(texts) + 1, "", "", {}, finish="error"))

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
    text = reference if isinstance(reference, str) else reference[0]
    verdict = scorer.verdict(record(0, text, reference, meta, finish="error"))
    assert verdict["failed"] and not verdict["parsed"]
    assert verdict["score"] == verdict["strict"] == verdict["lenient"] == 0


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


# ----------------------------------------------------------------------- yes / no
def test_what_is_neither_yes_nor_no_depends_on_the_rule():
    """POPE takes it for yes, VLMEvalKit for a no that is wrong, lmms-eval as wrong."""
    found = {}
    for rule in ("pope", "vlmevalkit", "lmms_eval"):
        scorer = SCORERS.build(dict(type="YesNoScorer", rule=rule))
        records = [
            record(0, "Maybe.", "yes", dict(category="x")),
            record(1, "Maybe.", "no", dict(category="x")),
            record(2, "Yes, it is", "yes", dict(category="x")),
        ]
        verdicts = [scorer.verdict(one) for one in records]
        totals = scorer.totals(records, verdicts)
        found[rule] = (
            [v["score"] for v in verdicts],
            totals.metrics["x/precision"],
            totals.metrics["x/recall"],
        )
    assert found["pope"] == ([1, 0, 1], pytest.approx(200 / 3), 100)
    assert found["vlmevalkit"] == ([0, 0, 1], 100, 50)
    assert found["lmms_eval"] == ([0, 0, 0], 0, 0)


def test_a_failed_answer_is_no_chance_hit_in_pope():
    scorer = SCORERS.build(dict(type="YesNoScorer"))
    records = [
        record(i, "", label, finish="error") for i, label in enumerate(("yes", "no"))
    ]
    metrics = scorer.totals(records, [scorer.verdict(r) for r in records]).metrics
    assert metrics["acc"] == metrics["f1"] == metrics["recall"] == 0


def test_pope_reports_the_mean_of_its_subsets_not_the_pooled_f1():
    scorer = SCORERS.build(dict(type="YesNoScorer"))
    records = [
        record(i, text, label, dict(category=subset))
        for i, (text, label, subset) in enumerate(
            [("yes", "yes", "a"), ("yes", "no", "b"), ("yes", "yes", "b")]
        )
    ]
    metrics = scorer.totals(records, [scorer.verdict(r) for r in records]).metrics
    assert metrics["a/f1"] == 100
    assert metrics["f1"] == pytest.approx((100 + 200 / 3) / 2)
    assert metrics["pooled_f1"] == pytest.approx(80)


def test_mme_refuses_tasks_it_does_not_have():
    scorer = SCORERS.build(dict(type="MMEScorer"))
    records = [record(0, "yes", "yes", dict(category="count")),
               record(1, "yes", "yes", dict(category="counting"))]  # fmt: skip
    with pytest.raises(ValueError, match=r"MME has no tasks \['counting'\]"):
        scorer.totals(records, [scorer.verdict(one) for one in records])


def test_hallusionbench_counts_figures_and_questions():
    scorer = SCORERS.build(dict(type="HallusionBenchScorer"))
    # set, figure, question and whether it is right
    rows = [(0, 0, 0, 1), (0, 0, 1, 1), (0, 1, 0, 0), (0, 1, 1, 1)]
    records = [
        record(
            i,
            "Yes." if right else "yes or no",
            "yes",
            {"l2-category": "map"},
            question_id=f"VD_map_x_{group}_{figure}_{question}",
        )
        for i, (group, figure, question, right) in enumerate(rows)
    ]
    metrics = scorer.totals(records, [scorer.verdict(r) for r in records]).metrics
    assert (metrics["aAcc"], metrics["fAcc"], metrics["qAcc"]) == (75, 50, 50)


# ---------------------------------------------------------------- multiple choice
def total_of(config, rows):
    scorer = SCORERS.build(config)
    records = [
        record(i, text, "A", dict(options=["x", "y"], **meta))
        for i, (text, meta) in enumerate(rows)
    ]
    return scorer.totals(records, [scorer.verdict(one) for one in records])


def test_pairs_of_mmvp_count_when_both_are_right():
    rows = [("A", dict(group=0)), ("A", dict(group=0)),
            ("A", dict(group=1)), ("B", dict(group=1))]  # fmt: skip
    totals = total_of(dict(type="ChoiceScorer", average="groups"), rows)
    assert totals.metrics["acc"] == 50 and totals.metrics["items"] == 75
    assert len(totals.units) == 2


def test_blink_is_the_mean_of_its_tasks():
    rows = [("A", dict(category="a"))] * 3 + [("B", dict(category="b"))]
    metrics = total_of(dict(type="ChoiceScorer", average="categories"), rows).metrics
    assert metrics["acc"] == 50 and metrics["items"] == 75


def test_cv_bench_weighs_its_sources():
    config = dict(
        type="ChoiceScorer",
        average="categories",
        by="source",
        weights=dict(ADE20K=0.25, COCO=0.25, Omni3D=0.5),
    )
    rows = [("A", dict(source="ADE20K")), ("B", dict(source="COCO")),
            ("A", dict(source="Omni3D")), ("B", dict(source="Omni3D"))]  # fmt: skip
    assert total_of(config, rows).metrics["acc"] == pytest.approx(0.5 * 50 + 0.5 * 50)
    rows = [("A", dict(source="COCO"))]
    with pytest.raises(ValueError, match="weights are for"):
        total_of(config, rows)
    with pytest.raises(ValueError, match="use items, groups or categories"):
        SCORERS.build(dict(type="ChoiceScorer", average="pairs"))


def test_a_judge_reads_what_exact_matching_leaves_open():
    scorer = SCORERS.build(dict(type="ChoiceScorer", rule="judge"))
    open_answer = record(0, "an animal", "B", LETTERS, judge_replies=["B"])
    assert scorer.verdict(open_answer)["score"] == 1
    decided = record(0, "C", "B", LETTERS, judge_replies=["B"])
    assert scorer.verdict(decided)["score"] == 0
    unanswered = record(0, "an animal", "B", LETTERS, judge_replies=[])
    verdict = scorer.verdict(unanswered)
    assert verdict["score"] == 0 and verdict["undecided"] and not verdict["parsed"]


def test_mmmu_fallbacks_are_counted_and_do_not_depend_on_the_order():
    scorer = SCORERS.build(dict(type="MMMUScorer", rule="fallback_random"))
    records = [record(i, "no idea", "B", LETTERS) for i in range(40)]
    verdicts = [scorer.verdict(one) for one in records]
    again = [scorer.verdict(one) for one in reversed(records)][::-1]
    assert verdicts == again
    assert len({verdict["prediction"] for verdict in verdicts}) == 4
    assert scorer.totals(records, verdicts).metrics["fallbacks"] == 40


# ---------------------------------------------------------------- text in pictures
@pytest.mark.parametrize(
    ("text", "answer", "value"),
    [
        ("ab", "abcd", 0.5),  # exactly the threshold stays
        ("a", "abcd", 0.0),
        ("Forty  Two", "forty two", 1.0),
        ("a  b", "ax b", 1 - 1 / 4),  # the length before blanks are joined
        ("a   b", "axb", 1 - 1 / 5),
        ("", "", 1.0),
        ("kitten", "sitting", 1 - 3 / 7),
    ],
)
def test_anls(text, answer, value):
    assert reading.anls(text, ["0123456789", answer]) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("5%", "0.05", True),
        ("10.5", "10", True),
        ("10.51", "10", False),
        ("0", "0", True),
        ("0.0", "0", False),  # a target of 0 is compared as text
        ("Yes", "yes", True),
        ("12 cats", "12", False),
        ("-9.5", "-10", True),
    ],
)
def test_relaxed_match(text, answer, right):
    assert reading.relaxed_match(text, answer) is right


def test_edit_distance_against_the_definition():
    def slow(a, b):
        if not a or not b:
            return len(a) + len(b)
        change = a[0] != b[0]
        return min(slow(a[1:], b) + 1, slow(a, b[1:]) + 1, slow(a[1:], b[1:]) + change)

    generator = random.Random(0)
    for _ in range(100):
        a, b = (
            "".join(generator.choices("abc", k=generator.randrange(6)))
            for _ in range(2)
        )
        assert reading.edit_distance(a, b) == slow(a, b)


# ---------------------------------------------------------------------- ten answers
@pytest.mark.parametrize(("matches", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9),
                                                (4, 1), (10, 1)])  # fmt: skip
def test_leave_one_out_steps(matches, score):
    answers = ["cat"] * matches + [f"dog {i}" for i in range(10 - matches)]
    assert vqa.leave_one_out("cat", answers) == pytest.approx(score)


def test_vqa_contractions():
    """120 entries, without four that no lower-case text matches and two no-ops."""
    assert len(vqa.CONTRACTIONS) == 114
    assert vqa.normalise_vqa("dont couldnt've twas") == "don't couldn't've 'twas"
    assert vqa.normalise_vqa("somebody'd") == "somebodyd"
    assert vqa.normalise_vizwiz("cant isnt") == "can't isn\u2019t"


# -------------------------------------------------------------------------- captions
ODD = "A cat\u2028sits\x85on\ra\vmat."


@pytest.mark.parametrize("rule", ["ptb_python", "ptb"])
def test_a_line_end_inside_a_caption_moves_no_other_caption(rule):
    """pycocoevalcap's tokenizer gives all later captions to the wrong picture."""
    texts = [
        ODD,
        *(f"a {animal} runs fast" for animal in "dog cow fox pig hen".split()),
    ]
    records = [record(i, text, [text]) for i, text in enumerate(texts)]
    scorer = SCORERS.build(dict(type="CaptionScorer", rule=rule))
    totals = scorer.totals(records, [scorer.verdict(one) for one in records])
    assert totals.metrics["cider"] == pytest.approx(1000, abs=1e-6)
    assert ptb.tokenize(ODD) == "a cat sits on a mat"


def test_brackets_stay_in_captions_as_in_the_java_program():
    assert ptb.tokenize("Two (2) dogs, it's 5 p.m.") == (
        "two -lrb- 2 -rrb- dogs it 's 5 p.m."
    )


def test_java_is_asked_for_by_name(monkeypatch):
    monkeypatch.setattr(java_captions.importlib.util, "find_spec", lambda name: None)
    assert "pip install pycocoevalcap" in java_captions.find_java()
    scorer = SCORERS.build(dict(type="CaptionScorer", rule="ptb_java"))
    one = record(0, "a cat", ["a cat"])
    with pytest.raises(RuntimeError, match="pycocoevalcap is not installed"):
        scorer.totals([one], [scorer.verdict(one)])
    totals = SCORERS.build(dict(type="CaptionScorer")).totals(
        [one], [scorer.verdict(one)]
    )
    assert (
        totals.notes["meteor"].startswith("not computed")
        and "meteor" not in totals.metrics
    )


@pytest.mark.skipif(
    importlib.util.find_spec("pycocoevalcap") is None,
    reason="needs pycocoevalcap (pip install pycocoevalcap==1.2)",
)
def test_caption_scores_equal_pycocoevalcap():
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    generator = random.Random(0)

    def caption():
        return " ".join(generator.choices("abcdefg", k=generator.randrange(1, 9)))

    refs = {i: [caption() for _ in range(1 + i % 3)] for i in range(40)}
    hyps = {i: [caption()] for i in refs}
    ours = captions.CiderFrequencies(list(refs.values()))
    cider = [ours.score(hyps[i][0], refs[i]) for i in refs]
    assert cider == pytest.approx(list(Cider().compute_score(refs, hyps)[1]), abs=1e-9)
    rouge = [captions.rouge_l(hyps[i][0], refs[i]) for i in refs]
    assert rouge == pytest.approx(list(Rouge().compute_score(refs, hyps)[1]), abs=1e-9)
    counts = np.sum([captions.bleu_counts(hyps[i][0], refs[i]) for i in refs], axis=0)
    bleu, _ = Bleu(4).compute_score(refs, hyps, verbose=0)
    assert captions.bleu_of_counts(counts) == pytest.approx(bleu, abs=1e-9)


# ---------------------------------------------------------------------------- judges
def test_a_judge_that_failed_gives_no_score():
    scorer = SCORERS.build(dict(type="ReviewScorer"))
    meta = dict(category="llava_bench_conv", context=["a", "b"])
    replies = (["8 4\nfine"], [None], ["8, 7"], ["-1 -1"])
    records = [
        record(i, "x", "ref", meta, judge_replies=reply)
        for i, reply in enumerate(replies)
    ]
    totals = scorer.totals(records, [scorer.verdict(one) for one in records])
    assert totals.metrics["all"] == totals.metrics["conv"] == 50
    assert totals.metrics["judge_failed"] == 3
    assert scorer.is_readable("8 4") and not scorer.is_readable("8, 7")

    tolerant = SCORERS.build(dict(type="ReviewScorer", rule="tolerant"))
    totals = tolerant.totals(records, [tolerant.verdict(one) for one in records])
    assert totals.metrics["judge_failed"] == 2 and totals.metrics["tolerant"] == 1


def test_judges_are_asked_in_the_official_layout():
    scorer = SCORERS.build(dict(type="ReviewScorer", ferret=True))
    meta = dict(category="ground_conv", context="a room")
    asked = scorer.messages(record(0, "A cat [100, 200, 300, 400].", "ref", meta))
    heads = [line for line in asked[1]["content"].splitlines() if line.startswith("[")]
    assert heads == ["[Context]", "[Question]", "[Assistant 1]", "[End of Assistant 1]",
                     "[Assistant 2]", "[End of Assistant 2]", "[System]"]  # fmt: skip
    assert "[0.100, 0.200, 0.300, 0.400]" in asked[1]["content"]

    grading = SCORERS.build(dict(type="MMVetScorer"))
    first, again = (grading.messages(record(0, "4", "2<AND>2"), n) for n in (0, 1))
    assert first[0]["content"].endswith("What is it? | 2 <AND> 2 | 4 | ")
    assert again[0]["content"].startswith(first[0]["content"]) and again != first
    matching = judges.matching_messages("Which?", {"A": "x", "B": "y"}, "z")
    assert matching[0]["content"].endswith("A. x\nB. y\nAnswer: z\nLetter:")


# ----------------------------------------------------------------------- submissions
def test_submissions_need_no_reference_and_refuse_foreign_ids(tmp_path):
    records = [record(7, "Two dogs.", None, question_id=7)]
    official = tmp_path / "questions.json"
    official.write_text('{"questions": [{"question_id": 3}, {"question_id": 7}]}')
    lines = tmp_path / "questions.jsonl"
    lines.write_text('{"question_id": 3}\n{"question_id": 7}\n')
    for path in (official, lines):
        files = submissions.WRITERS["vqav2"](records, ids_file=str(path))
        assert json.loads(files["vqav2.json"]) == [
            dict(question_id=3, answer=""),
            dict(question_id=7, answer="2 dogs"),
        ]
    lines.write_text('{"question_id": 3}\n')
    with pytest.raises(ValueError, match=r"answers to 1 unknown ids, e.g. \[7\]"):
        submissions.WRITERS["vqav2"](records, ids_file=str(lines))
    assert submissions.WRITERS["seed"](records) == {
        "seed.jsonl": '{"question_id": 7, "prediction": "Two dogs."}\n'
    }


def test_mme_files_from_records():
    records = [
        record(0, "Yes", "yes", question_id="count/1.jpg",
               question="Are there two? Please answer yes or no."),
        record(1, "no\n", "no", question_id="count/1.jpg", question="Are there three?"),
    ]  # fmt: skip
    assert submissions.WRITERS["mme"](records) == {
        "count.txt": "1.txt\tAre there two? Please answer yes or no.\tYes\tYes\n"
        "1.txt\tAre there three? Please answer yes or no.\tNo\tno \n"
    }


def test_mmbench_workbook():
    records = [record(7, "A", None, dict(options=["x", "y"]), question_id=1_000_007)]
    if importlib.util.find_spec("openpyxl") is None:
        with pytest.raises(ImportError, match="pip install openpyxl"):
            submissions.WRITERS["mmbench"](records)
        return
    from openpyxl import load_workbook

    book = submissions.WRITERS["mmbench"](records)["mmbench.xlsx"]
    sheet = load_workbook(io.BytesIO(book)).active
    assert [list(row) for row in sheet.values] == [
        ["index", "question", "A", "B", "C", "D", "prediction"],
        [1_000_007, "What is it?", "x", "y", None, None, "A"],
    ]
