"""Scores equal to the official scripts', per item and in total."""

import json
from collections import defaultdict

import pytest

from mmvlm.evaluation.functional import choices, gqa, mmmu, vqa, yes_no
from mmvlm.registry import SCORERS

pytestmark = pytest.mark.golden


@pytest.fixture
def golden(goldens):
    def read(name):
        text = (goldens / f"eval_{name}.json").read_text(encoding="utf-8")
        return json.loads(text)

    return read


def record(index, text, reference, meta=None, **entries):
    """An answer record; a text of None is an answer that failed."""
    return (
        dict(
            uid=str(index),
            index=index,
            question_id=index,
            image=None,
            question="",
            text=text or "",
            finish="error" if text is None else "stop",
            reference=reference,
            meta=meta or {},
            cluster=None,
        )
        | entries
    )


def score(config, records):
    scorer = SCORERS.build(config)
    verdicts = [scorer.verdict(one) for one in records]
    totals = scorer.totals(records, verdicts)
    headline = totals.metrics[scorer.headline]
    assert headline == pytest.approx(float(totals.statistic(totals.units.sum(axis=0))))
    return verdicts, totals.metrics


def percents(verdicts):
    return [100 * verdict["score"] for verdict in verdicts]


# ------------------------------------------------------------------- ten answers
def test_vqa_accuracy(golden):
    data = golden("vqa_soft_accuracy")
    samples, official = data["inputs"]["samples"], data["official_score"]

    def run(key):
        return score(
            dict(type="TenAnswerScorer", rule="vqa"),
            [record(s["question_id"], s[key], s["answers"], s) for s in samples],
        )

    verdicts, metrics = run("prediction")
    expected = [s["official_percent"] for s in samples]
    assert percents(verdicts) == pytest.approx(expected, abs=1e-4)
    assert metrics["acc"] == pytest.approx(official["overall"], abs=1e-4)
    for key, name in (("perQuestionType", "question"), ("perAnswerType", "answer")):
        for value, mean in official[key].items():
            assert metrics[f"{name}_type/{value}"] == pytest.approx(mean, abs=1e-4)

    processed = official["after_llava_processor"]
    verdicts, metrics = run("llava_submission_answer")
    expected = [s["official_percent_after_llava_processor"] for s in samples]
    assert percents(verdicts) == pytest.approx(expected, abs=1e-4)
    assert metrics["acc"] == pytest.approx(processed["overall"], abs=1e-4)
    for value, mean in processed["perAnswerType"].items():
        assert metrics[f"answer_type/{value}"] == pytest.approx(mean, abs=1e-4)


def test_vqa_normalisers(golden):
    data = golden("vqa_soft_accuracy")["inputs"]
    for row in data["normaliser_table"]:
        raw = row["raw"]
        assert (
            vqa.process_punctuation(vqa.clean_blanks(raw))
            == row["vqa_processPunctuation"]
        ), raw
        assert vqa.normalise_vqa(raw) == row["vqa_normalised"], raw
        assert vqa.normalise_evalai(raw) == row["evalai_m4c"], raw
    for sample in data["samples"]:
        expected = sample["llava_submission_answer"]
        assert vqa.normalise_evalai(sample["prediction"]) == expected


def test_textvqa(golden):
    data = golden("textvqa")
    samples = data["inputs"]["samples"]
    records = [record(i, s["text"], s["answers"]) for i, s in enumerate(samples)]
    verdicts, metrics = score(dict(type="TenAnswerScorer", rule="textvqa"), records)

    for sample, verdict in zip(samples, verdicts, strict=True):
        assert verdict["score"] == pytest.approx(sample["score"], abs=1e-9)
        assert verdict["prediction"] == sample["normalised_prediction"]
        question = vqa.question_of_prompt(sample["prompt"])
        assert question == sample["recovered_question_key"]
    expected = data["official_score"]["accuracy_percent"]
    assert metrics["acc"] == pytest.approx(expected, abs=1e-9)


def test_textvqa_prompts(golden):
    for row in golden("textvqa")["inputs"]["prompt_to_question"]:
        if row["question_key"] == "AssertionError":
            with pytest.raises(ValueError, match="no question in the prompt"):
                vqa.question_of_prompt(row["prompt"])
        else:
            assert vqa.question_of_prompt(row["prompt"]) == row["question_key"]


def test_vizwiz(golden):
    data = golden("vizwiz")
    samples, official = data["inputs"]["samples"], data["official_score"]
    records = [
        record(i, s["prediction"], s["answers"], s) for i, s in enumerate(samples)
    ]

    verdicts, metrics = score(dict(type="TenAnswerScorer", rule="vizwiz"), records)
    expected = [s["official_percent"] for s in samples]
    assert percents(verdicts) == pytest.approx(expected, abs=1e-4)
    assert metrics["acc"] == pytest.approx(official["overall"], abs=1e-4)
    unanswerable = official["unanswerability"]
    for name, key in (("ap", "average_precision"), ("f1", "f1_score")):
        found = metrics[f"unanswerable_{name}"]
        assert found == pytest.approx(unanswerable[key], abs=1e-4)

    rule = dict(type="TenAnswerScorer", rule="both_normalised")
    found = [verdict["score"] for verdict in score(rule, records)[0]]
    expected = [s["lmms_eval_style_fraction"] for s in samples]
    assert found == pytest.approx(expected, abs=1e-6)


# --------------------------------------------------------------------------- GQA
_GQA_TABLES = dict(
    structural="Accuracy / structural type",
    semantic="Accuracy / semantic type",
    steps="Accuracy / steps number",
    words="Accuracy / words number",
)


def test_gqa(golden):
    data = golden("gqa")
    inputs, official = data["inputs"], data["official_score"]
    texts = {answer["question_id"]: answer["text"] for answer in inputs["answers"]}
    predictions = {key: gqa.gqa_answer(text) for key, text in texts.items()}
    for row in official["converted_predictions"]:
        assert predictions[row["questionId"]] == row["prediction"]

    runs = [
        ("testdev_run_without_choices", None, False),
        ("run_with_choices_and_consistency", inputs["choices"], True),
    ]
    for name, allowed, consistency in runs:
        found = gqa.gqa_scores(inputs["questions"], predictions, allowed, consistency)
        for key, value in official[name].items():
            if not key.startswith("Accuracy /"):
                assert found[key] == pytest.approx(value, abs=0.0051), (name, key)
        for key, title in _GQA_TABLES.items():
            table = official[name][title]
            assert set(found[key]) == set(table)
            for value, row in table.items():
                assert found[key][value] == pytest.approx(row, abs=0.0051)


def test_gqa_scorer(golden):
    data = golden("gqa")
    inputs, official = data["inputs"], data["official_score"]
    texts = {answer["question_id"]: answer["text"] for answer in inputs["answers"]}
    records = [
        record(
            key,
            texts[key],
            question["answer"],
            question | inputs["choices"][key],
            question=question["question"],
        )
        for key, question in inputs["questions"].items()
    ]
    _, metrics = score(dict(type="GQAScorer"), records)
    expected = official["run_with_choices_and_consistency"]
    for key, value in expected.items():
        if not key.startswith("Accuracy /"):
            found = metrics["acc" if key == "accuracy" else key]
            assert found == pytest.approx(value, abs=0.0051), key
    for name, title in _GQA_TABLES.items():
        for value, (percent, _) in expected[title].items():
            assert metrics[f"{name}/{value}"] == pytest.approx(percent, abs=0.0051)


# --------------------------------------------------------------- multiple choice
def test_scienceqa(golden):
    data = golden("scienceqa")
    problems, official = data["inputs"]["problems"], data["official_score"]
    texts = {p["question_id"]: p["text"] for p in data["inputs"]["predictions"]}
    letters = "ABCDEFGH"
    for key, parsed in official["parsed"].items():
        found = choices.read_scienceqa(texts.get(key, ""), {})
        assert (found or "FAILED") == parsed, texts.get(key)

    records = [
        record(
            key,
            texts.get(key),
            letters[problem["answer"]],
            problem | {"options": problem["choices"]},
        )
        for key, problem in problems.items()
    ]
    verdicts, metrics = score(dict(type="ScienceQAScorer"), records)
    for one, verdict in zip(records, verdicts, strict=True):
        place = official["pred_index"][one["uid"]]
        prediction = verdict["prediction"] if verdict["parsed"] else None
        assert prediction == (letters[place] if place >= 0 else None)
    assert metrics["acc"] == pytest.approx(official["acc"], abs=1e-6)
    assert sum(v["score"] for v in verdicts) == official["correct"]
    assert len(verdicts) == official["count"]
    names = dict(acc_average="acc")
    for key, value in official["category_breakdown_percent"].items():
        name = names.get(key, key.removeprefix("acc_") + "/acc")
        assert metrics[name] == pytest.approx(value, abs=0.0051), key


def test_scienceqa_images_as_the_official_script_counts_them(golden):
    """It leaves an item without a prediction out; mmvlm counts it as wrong."""
    data = golden("scienceqa")
    problems = data["inputs"]["problems"]
    texts = {p["question_id"]: p for p in data["inputs"]["predictions"]}
    shown = [key for key, p in texts.items() if "<image>" in p["prompt"]]
    scorer = SCORERS.build(dict(type="ScienceQAScorer"))
    right = [
        scorer.verdict(
            record(
                key,
                texts[key]["text"],
                "ABCDEFGH"[problems[key]["answer"]],
                {"options": problems[key]["choices"]},
            )
        )["score"]
        for key in shown
    ]
    official = data["official_score"]["stdout"].rsplit(": ", 1)[1].rstrip("%")
    assert 100 * sum(right) / len(right) == pytest.approx(float(official), abs=0.0051)


def test_mmbench_readers(golden):
    data = golden("mmbench_extract")
    table = zip(
        data["inputs"]["extraction_table"],
        data["official_score"]["extraction"],
        strict=True,
    )
    for row, official in table:
        options = choices.lettered(row["options"])
        text = row["prediction"]
        for key, reader, nothing in (
            ("vlmevalkit", choices.read_exact_matching, False),
            ("vlmevalkit_letter_stage", choices.read_letter, False),
            ("lmms_eval", choices.read_lmms, False),
            ("xtuner", choices.read_xtuner, ""),
            ("exact_letter", choices.read_exact, ""),
        ):
            assert (reader(text, options) or nothing) == official[key], (key, text)


_ABILITIES = {
    "attribute_reasoning": "AR",
    "coarse_perception": "CP",
    "finegrained_perception (cross-instance)": "FP-C",
    "finegrained_perception (instance-level)": "FP-S",
    "logic_reasoning": "LR",
    "relation_reasoning": "RR",
}


def test_mmbench_circular(golden):
    data = golden("mmbench_extract")
    rows, official = data["inputs"]["circular_rows"], data["official_score"]
    records = [
        record(
            row["index"],
            row["prediction"],
            row["answer"],
            row
            | dict(
                options={k: row[k] for k in "ABCD" if row[k] is not None},
                group=row["index"] % 1_000_000,
            ),
        )
        for row in rows
    ]
    # The order of the rows must not matter.
    records = records[1::2] + records[::2]
    for rule, name in (
        ("exact_matching", "circular_exact_matching"),
        ("exact_letter", "circular_strict_equality"),
        ("xtuner", "circular_xtuner_regex"),
    ):
        config = dict(type="ChoiceScorer", rule=rule, average="groups")
        verdicts, metrics = score(config, records)
        overall = 100 * official[name]["overall"]
        assert metrics["acc"] == pytest.approx(overall, abs=1e-7), rule
        hits = defaultdict(list)
        for one, verdict in zip(records, verdicts, strict=True):
            hits[str(one["meta"]["group"])].append(verdict["score"])
        found = {key: min(scores) for key, scores in hits.items()}
        assert found == official[name]["per_group_hit"], rule

    config = dict(type="ChoiceScorer", rule="exact_matching", average="groups")
    _, metrics = score(config, records)
    first = 100 * official["vanilla_first_rotation_exact_matching"]
    assert metrics["first"] == pytest.approx(first, abs=1e-7)
    for key, value in official["circular_exact_matching"]["report"].items():
        if key in ("split", "Overall"):
            continue
        names = {short: f"l2-category/{name}" for name, short in _ABILITIES.items()}
        found = metrics[names.get(key, f"category/{key}")]
        assert found == pytest.approx(100 * value, abs=1e-7), key


def test_seed(golden):
    data = golden("seed")
    inputs, official = data["inputs"], data["official_score"]
    names = {number: name for name, number in inputs["question_type"].items()}
    texts = {str(a["question_id"]): a["text"] for a in inputs["answers"]}
    records = [
        record(
            q["question_id"],
            texts.get(str(q["question_id"])),
            q["answer"],
            dict(
                options=[q[f"choice_{letter}"] for letter in "abcd"],
                category=names[q["question_type_id"]],
                data_type=q["data_type"],
            ),
        )
        for q in inputs["questions"]
    ]
    _, metrics = score(dict(type="SEEDScorer", rule="exact_letter"), records)
    printed = dict(row.split(": ") for row in official["llava_printed"]["all"])
    for name, value in printed.items():
        key = "acc" if name == "Total accuracy" else f"category/{name}"
        assert metrics[key] == pytest.approx(float(value.rstrip("%")), abs=0.0051), name
    for key, name in (("image", "image"), ("video", "video")):
        expected = official[f"llava_{name}_accuracy"]
        assert metrics[f"data_type/{key}"] == pytest.approx(expected, abs=0.0051)
    assert metrics["acc"] == pytest.approx(official["llava_total_accuracy"], abs=0.0051)

    _, metrics = score(dict(type="SEEDScorer", rule="first_character"), records)
    lmms = official["lmms_eval"]
    for key, name in (
        ("acc", "seed_all"),
        ("data_type/image", "seed_image"),
        ("data_type/video", "seed_video"),
    ):
        assert metrics[key] == pytest.approx(100 * lmms[name], abs=0.0051)


def test_mmmu(golden):
    data = golden("mmmu")
    inputs, official = data["inputs"], data["official_score"]
    options = inputs["index2ans"]
    for row in official["multiple_choice"]:
        found = mmmu.read_option(row["response"], options)
        assert (found or "RANDOM") == row["parsed"], row["response"]
    for row in official["open"]:
        found = mmmu.read_open(row["response"])
        assert set(found) == set(row["parsed"]), row["response"]
        assert len(found) == len(row["parsed"])
        assert mmmu.open_is_right(found, row["answer"]) is row["correct"], row

    records = [
        record(i, row["response"], row["answer"], {"options": []})
        for i, row in enumerate(official["open"])
    ]
    records += [
        record(f"mc{i}", row["response"], "B", {"options": options})
        for i, row in enumerate(official["multiple_choice"])
        if row["parsed"] != "RANDOM"
    ]
    _, metrics = score(dict(type="MMMUScorer"), records)
    expected = 100 * official["accuracy_open_plus_nonrandom_mc_with_gold_B"]
    assert metrics["acc"] == pytest.approx(expected, abs=1e-7)


# ------------------------------------------------------------------------ yes/no
def test_pope(golden):
    data = golden("pope")
    samples, official = data["inputs"]["samples"], data["official_score"]
    for sample in samples:
        assert yes_no.read_pope(sample["text"]) == sample["parsed"], sample["text"]

    records = [record(s["question_id"], s["text"], s["label"]) for s in samples]
    _, metrics = score(dict(type="YesNoScorer", rule="pope"), records)
    for key, name in (
        ("f1", "f1"),
        ("acc", "accuracy"),
        ("precision", "precision"),
        ("recall", "recall"),
        ("yes_ratio", "yes_ratio"),
    ):
        assert metrics[key] / 100 == pytest.approx(official[name], abs=1e-9), key
    cells = [yes_no.confusion(s["label"], s["parsed"]) for s in samples]
    assert [sum(column) for column in zip(*cells, strict=True)] == official[
        "TP_FP_TN_FN"
    ]


def test_mme(golden):
    data = golden("mme")
    official = data["official_score"]
    for row in data["inputs"]["parse_table"]:
        found = yes_no.read_first_letters(row["text"]) or "other"
        assert found == row["label"], row["text"]

    records = [
        record(f"{task}{i}", text, label.lower(), {"category": task}, image=image)
        for task, rows in data["inputs"]["tasks"].items()
        for i, (image, _, label, text) in enumerate(rows)
    ]
    # Images are paired by name, so that the order does not matter.
    records = records[1::2] + records[::2]
    _, metrics = score(dict(type="MMEScorer"), records)
    for key, value in official["per_task"].items():
        assert metrics[key] == pytest.approx(value, abs=1e-6), key
    for key in ("perception", "cognition"):
        assert metrics[key] == pytest.approx(official[key], abs=1e-6)


# --------------------------------------------------------------- text in images
def test_ocrbench(golden):
    data = golden("ocrbench")
    inputs, official = data["inputs"], data["official_score"]

    def run(rows):
        records = [
            record(i, row.get("text"), row["answers"], row)
            for i, row in enumerate(rows)
        ]
        return score(dict(type="OCRBenchScorer"), records)

    verdicts, metrics = run(inputs["items"])
    for row, verdict in zip(inputs["items"], verdicts, strict=True):
        assert verdict["score"] == row["result"], row
    assert metrics["final"] == official["items_correct"]

    _, metrics = run(inputs["full_run"])
    names = {"Text Recognition": "recog", "Final Score": "final"}
    for key, count in official["full_run"].items():
        assert metrics[names.get(key, key)] == count, key
