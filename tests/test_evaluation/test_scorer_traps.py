"""Traps of other tools' rules, judges and submissions: a test each."""

import importlib.util
import io
import json
import random

import pytest
from scorer_records import record

from mmvlm.evaluation.functional import (
    gqa,
    judges,
    ptb,
    reading,
    submissions,
    vqa,
)
from mmvlm.registry import SCORERS

LETTERS = dict(options={"A": "teddy bear", "B": "cat", "C": "a dog", "D": "Paris"})


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
    foreign = [*records, record(9, "yes", "yes")]
    totals = scorer.totals(foreign, [scorer.verdict(one) for one in foreign])
    assert totals.notes["subsets"] == "1 items of no subset count in pooled_f1 only"
    records.append(record(9, "", "", finish="error"))
    totals = scorer.totals(records, [scorer.verdict(one) for one in records])
    assert totals.metrics["a/recall"] == totals.metrics["b/recall"] == 50
    assert "1 items that could not be read" in totals.notes["unread"]


def test_mme_refuses_tasks_it_does_not_have():
    scorer = SCORERS.build(dict(type="MMEScorer"))
    lost = record(0, "yes", "yes")
    with pytest.raises(KeyError, match="record 'u0' names no task of MME"):
        scorer.totals([lost], [scorer.verdict(lost)])
    damaged = record(1, "", "", finish="error", image=None)
    records = [record(0, "yes", "yes", dict(category="count")), damaged]
    totals = scorer.totals(records, [scorer.verdict(one) for one in records])
    assert totals.metrics["count"] == totals.metrics["perception"] == 100
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
    # What names no task is a task of its own, so that it is not forgotten, ...
    metrics = total_of(
        dict(type="ChoiceScorer", average="categories"), [*rows, ("B", {})]
    ).metrics
    assert metrics["acc"] == pytest.approx(100 / 3)
    # ... but one damaged row is no task: it may be of any.
    scorer = SCORERS.build(dict(type="ChoiceScorer", average="categories"))
    records = [record(i, "A", "A", LETTERS | dict(category=c)) for i, c in ((0, "a"),
               (1, "a"), (2, "a"), (3, "b"))]  # fmt: skip
    records.append(record(4, "", "", finish="error"))
    totals = scorer.totals(records, [scorer.verdict(one) for one in records])
    assert totals.metrics["acc"] == pytest.approx((75 + 50) / 2)
    assert "1 items that could not be read" in totals.notes["unread"]


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
    scorer = SCORERS.build(dict(type="JudgedChoiceScorer"))
    open_answer = record(0, "an animal", "B", LETTERS, judge_replies=["B"])
    assert scorer.verdict(open_answer)["score"] == 1
    assert scorer.needs_judge(open_answer) and scorer.is_readable("B")
    assert not scorer.is_readable("the second")
    asked = scorer.messages(open_answer)[0]["content"]
    assert asked.endswith("D. Paris\nAnswer: an animal\nLetter:")
    decided = record(0, "C", "B", LETTERS, judge_replies=["B"])
    assert scorer.verdict(decided)["score"] == 0 and not scorer.needs_judge(decided)
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


# ---------------------------------------------------------------- text in images
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


# ---------------------------------------------------------------------------- judges
def test_a_judge_that_failed_gives_no_score():
    scorer = SCORERS.build(dict(type="ReviewScorer"))
    meta = dict(category="llava_bench_conv", context=["a", "b"])
    replies = (["8 4\nfine"], [None], ["8, 7"], ["-1 -1"], ["nan 8"])
    records = [
        record(i, "x", "ref", meta, judge_replies=reply)
        for i, reply in enumerate(replies)
    ]
    totals = scorer.totals(records, [scorer.verdict(one) for one in records])
    assert totals.metrics["all"] == totals.metrics["conv"] == 50
    assert totals.metrics["judge_failed"] == 4
    lost = [*records, record(9, "", "ref", meta, finish="error")]
    metrics = scorer.totals(lost, [scorer.verdict(one) for one in lost]).metrics
    assert metrics["all"] == pytest.approx(100 * (4 + 0) / (8 + 10), abs=0.01)
    assert metrics["judge_failed"] == 4
    assert scorer.is_readable("8 4") and not scorer.is_readable("8, 7")

    tolerant = SCORERS.build(dict(type="ReviewScorer", rule="tolerant"))
    totals = tolerant.totals(records, [tolerant.verdict(one) for one in records])
    assert totals.metrics["judge_failed"] == 3 and totals.metrics["tolerant"] == 1


def test_an_answer_that_failed_gets_the_lowest_grade():
    scorer = SCORERS.build(dict(type="MMVetScorer"))
    meta = dict(capability=["ocr"])
    records = [
        record(0, "x", "y", meta, judge_replies=["1.0", "0.5"]),
        record(1, "", "y", meta, finish="error"),
        record(2, "x", "y", meta, judge_replies=[None, None]),
    ]
    metrics = scorer.totals(records, [scorer.verdict(one) for one in records]).metrics
    assert metrics["total"] == metrics["ocr"] == 37.5
    assert metrics["std"] == 12.5 and metrics["judge_failed"] == 1


def test_judges_are_asked_in_the_official_layout(tmp_path):
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

    rules = tmp_path / "rule.json"
    rules.write_text('{"ground_conv": {"role": "Assistant", "prompt": "Rate."}}')
    for official in ({"ground_conv": "Rate."}, str(rules)):
        own = SCORERS.build(dict(type="ReviewScorer", instructions=official))
        asked = own.messages(record(0, "A cat.", "ref", meta))
        assert asked[1]["content"].endswith("[System]\nRate.")


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


# ------------------------------------------------------------------------ odd inputs
def test_functions_on_odd_inputs():
    with pytest.raises(KeyError, match=r"1 questions have no prediction: \['7'\]"):
        gqa.gqa_scores({"7": {}}, {})
    assert gqa.gqa_scores({}, {}, consistency=True)["consistency"] == 0
    assert vqa.unanswerability([1, 1], [0, 1]) == (0, 0)
    text = "at [1, 2, 3] and [left]"
    assert judges.ferret_answer(text, "ground_conv") == "at  and [left]"
    assert ptb.tokenize('"We\u2019ve" gonna') == "we 've gon na"


def test_gqa_without_types_or_entailed_questions_says_so():
    scorer = SCORERS.build(dict(type="GQAScorer"))
    types = dict(types=dict(structural="query", semantic="obj"), semantic=[])
    meta = dict(types, groups={"global": None}, entailed=["9"])
    for given, note in (({}, "breakdown"), (meta, "consistency")):
        records = [record(0, "Cat.", "cat", given)]
        totals = scorer.totals(records, [scorer.verdict(one) for one in records])
        assert totals.metrics["acc"] == 100
        assert totals.notes[note].startswith("not computed: ")
