"""Recipes of the second set: other answers in the files of benchmark scores.

Verdicts of single items stay official; sums over fewer items are computed here.
"""

import random
from collections import defaultdict

import mmvlm  # noqa: F401  isort: skip

import numpy as np

from mmvlm.evaluation.functional import captions, choices, gqa, reading, vqa, yes_no


def some(records):
    """Return every second record, in another order."""
    kept = records[1::2] or records
    return random.Random(0).sample(kept, len(kept))


def means(rows, key, value):
    """Return the mean of a value for each value of a key."""
    groups = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row[value])
    return {name: float(np.mean(found)) for name, found in groups.items()}


def eval_vqa_soft_accuracy(content):
    """Keep half of the samples and of the table."""
    inputs, scores = content["inputs"], content["official_score"]
    rows = inputs["samples"] = some(inputs["samples"])
    inputs["normaliser_table"] = some(inputs["normaliser_table"])
    for key, value in (("perQuestionType", "question"), ("perAnswerType", "answer")):
        scores[key] = means(rows, f"{value}_type", "official_percent")
    scores["overall"] = float(np.mean([r["official_percent"] for r in rows]))
    after = "official_percent_after_llava_processor"
    scores["after_llava_processor"] = dict(
        overall=float(np.mean([r[after] for r in rows])),
        perAnswerType=means(rows, "answer_type", after),
    )


def eval_textvqa(content):
    """Keep half of the samples."""
    rows = content["inputs"]["samples"] = some(content["inputs"]["samples"])
    accuracy = 100 * float(np.mean([row["score"] for row in rows]))
    content["official_score"].update(accuracy_percent=accuracy, samples=len(rows))


def eval_vizwiz(content):
    """Keep half of the samples."""
    rows = content["inputs"]["samples"] = some(content["inputs"]["samples"])
    answers = [row["llava_submission_answer"] for row in rows]
    precision, f1 = vqa.unanswerability(
        [row["answerable"] for row in rows],
        [vqa.normalise_vizwiz(row["prediction"]) != "unanswerable" for row in rows],
    )
    content["official_score"] = dict(
        overall=float(np.mean([row["official_percent"] for row in rows])),
        unanswerability=dict(average_precision=100 * precision, f1_score=100 * f1),
        submission=[
            dict(image=row["image"], answer=answer)
            for row, answer in zip(rows, answers, strict=True)
        ],
    )


def eval_gqa(content):
    """Leave out the last question that nothing entails."""
    inputs, scores = content["inputs"], content["official_score"]
    lost = list(inputs["questions"])[-1]
    for part in (inputs["questions"], inputs["choices"]):
        del part[lost]
    inputs["answers"] = [a for a in inputs["answers"] if a["question_id"] != lost]
    converted = [r for r in scores["converted_predictions"] if r["questionId"] != lost]
    scores["converted_predictions"] = converted
    predictions = {row["questionId"]: row["prediction"] for row in converted}
    titles = dict(structural="structural type", semantic="semantic type",
                  steps="steps number", words="words number")  # fmt: skip
    for name, known in (
        ("testdev_run_without_choices", None),
        ("run_with_choices_and_consistency", inputs["choices"]),
    ):
        found = gqa.gqa_scores(inputs["questions"], predictions, known, bool(known))
        for key, title in titles.items():
            found[f"Accuracy / {title}"] = found.pop(key)
        scores[name] = found


def eval_scienceqa(content):
    """Leave out every third problem."""
    inputs, scores = content["inputs"], content["official_score"]
    for key in list(inputs["problems"])[::3]:
        for part in (inputs["problems"], scores["parsed"], scores["pred_index"]):
            del part[key]
    problems = inputs["problems"]
    kept = [p for p in inputs["predictions"] if p["question_id"] in problems]
    inputs["predictions"] = kept
    right = {k: scores["pred_index"][k] == p["answer"] for k, p in problems.items()}
    groups = defaultdict(list)
    for key, problem in problems.items():
        for name in ("average", *choices.scienceqa_groups(problem)):
            groups[f"acc_{name}"].append(100 * right[key])
    shown = [right[p["question_id"]] for p in kept if "<image>" in p["prompt"]]
    scores.update(
        acc=100 * float(np.mean(list(right.values()))),
        correct=sum(right.values()),
        count=len(right),
        stdout=f"IMG-Accuracy: {100 * np.mean(shown):.4f}%",
        category_breakdown_percent={k: np.mean(v) for k, v in groups.items()},
    )


def eval_pope(content):
    """Keep half of the samples."""
    rows = content["inputs"]["samples"] = some(content["inputs"]["samples"])
    cells = [yes_no.confusion(row["label"], row["parsed"]) for row in rows]
    counts = np.sum(cells, axis=0)
    found = {key: float(v) for key, v in yes_no.binary_scores(counts).items()}
    found["accuracy"] = found.pop("acc")
    content["official_score"] = dict(found, TP_FP_TN_FN=counts.tolist())


def eval_mme(content):
    """Keep the first pictures of each task."""
    scores = content["official_score"]
    for name, rows in content["inputs"]["tasks"].items():
        rows = content["inputs"]["tasks"][name] = rows[: len(rows) // 4 * 2]
        read = [yes_no.read_first_letters(text) for *_, text in rows]
        right = [a == row[2].lower() for a, row in zip(read, rows, strict=True)]
        whole = [one and other for one, other in zip(*[iter(right)] * 2, strict=True)]
        scores["per_task"][name] = 100 * float(np.mean(right) + np.mean(whole))
    for key, names in (
        ("perception", yes_no.PERCEPTION),
        ("cognition", yes_no.COGNITION),
    ):
        scores[key] = sum(scores["per_task"][name] for name in names)


def eval_mmbench_extract(content):
    """Keep half of the table; leave out a group."""
    inputs, scores = content["inputs"], content["official_score"]
    pairs = some(
        list(zip(inputs["extraction_table"], scores["extraction"], strict=True))
    )
    inputs["extraction_table"], scores["extraction"] = map(
        list, zip(*pairs, strict=True)
    )
    lost = inputs["circular_rows"][0]["index"] % 1_000_000
    rows = [r for r in inputs["circular_rows"] if r["index"] % 1_000_000 != lost]
    inputs["circular_rows"] = rows
    for key in ("exact_matching", "strict_equality", "xtuner_regex"):
        found = scores[f"circular_{key}"]
        del found["per_group_hit"][str(lost)]
        found["overall"] = float(np.mean(list(found["per_group_hit"].values())))
    main = [row for row in rows if row["index"] < 1_000_000]
    first = []
    for row in main:
        options = choices.lettered({k: row[k] for k in "ABCD" if row[k]})
        read = choices.read_exact_matching(row["prediction"], options)
        first.append(read == row["answer"])
    scores["vanilla_first_rotation_exact_matching"] = float(np.mean(first))
    hits = scores["circular_exact_matching"]["per_group_hit"]
    hit_rows = [dict(row, hit=hits[str(row["index"])]) for row in main]
    report = means(hit_rows, "category", "hit")
    scores["circular_exact_matching"]["report"] = report
    scores["submission_rows"] = len(rows)
    names = scores["submission_columns"]
    scores["submission_first_row"] = {name: rows[0][name] for name in names}


def eval_seed(content):
    """Leave out every fifth question."""
    inputs, scores = content["inputs"], content["official_score"]
    del inputs["questions"][::5]
    texts = {str(a["question_id"]): a["text"] for a in inputs["answers"]}
    names = {number: name for name, number in inputs["question_type"].items()}
    rows = []
    for q in inputs["questions"]:
        text = texts.get(q["question_id"], "")
        right, loose = text == q["answer"], text.strip()[:1].upper() == q["answer"]
        row = dict(type=names[q["question_type_id"]], kind=q["data_type"])
        rows.append(dict(row, right=100 * right, loose=loose))
    printed = {**means(rows, "type", "right"), "Total accuracy": 0.0}
    total = printed["Total accuracy"] = float(np.mean([r["right"] for r in rows]))
    kinds, loose = means(rows, "kind", "right"), means(rows, "kind", "loose")
    scores.update(
        llava_printed={"all": [f"{k}: {v:.2f}%" for k, v in printed.items()]},
        llava_total_accuracy=total,
        llava_image_accuracy=kinds["image"],
        llava_video_accuracy=kinds["video"],
        lmms_eval=dict(
            seed_all=float(np.mean([r["loose"] for r in rows])),
            seed_image=loose["image"],
            seed_video=loose["video"],
        ),
    )


def eval_ocrbench(content):
    """Keep half of the items and answers."""
    inputs, scores = content["inputs"], content["official_score"]
    inputs["items"] = some(inputs["items"])
    scores["items_correct"] = sum(row["result"] for row in inputs["items"])
    counts = defaultdict(int)
    inputs["full_run"] = some(inputs["full_run"])
    for row in inputs["full_run"]:
        answers = row["answers"]
        answers = [answers] if isinstance(answers, str) else answers
        text, name = row.get("text"), row["dataset_name"]
        hit = text is not None and reading.ocrbench_hit(text, answers, name)
        recognition = row["type"] in reading.RECOGNITION
        parts = ["Final Score", *["Text Recognition"] * recognition, row["type"]]
        for part in parts:
            counts[part] += hit
    scores["full_run"] = dict(counts)


def eval_mmmu(content):
    """Keep half of the answers."""
    scores = content["official_score"]
    for key in ("multiple_choice", "open"):
        scores[key] = some(scores[key])
    letters = [row["parsed"] == "B" for row in scores["multiple_choice"]
               if row["parsed"] != "RANDOM"]  # fmt: skip
    right = [*letters, *(row["correct"] for row in scores["open"])]
    scores["accuracy_open_plus_nonrandom_mc_with_gold_B"] = float(np.mean(right))


def eval_caption(content):
    """Leave out the last picture of each set of several."""
    for name, items in content["inputs"].items():
        official = content["official_score"][name]
        if len(items) > 1:
            lost = items.popitem()[0]
            del official["tokenised"][lost]
        pairs = {
            key: (row["hypothesis"][0], row["references"])
            for key, row in official["tokenised"].items()
        }
        frequencies = captions.CiderFrequencies([refs for _, refs in pairs.values()])
        counts = {key: captions.bleu_counts(*pair) for key, pair in pairs.items()}
        for key, pair in pairs.items():
            row = {
                "ROUGE_L": captions.rouge_l(*pair),
                "CIDEr": frequencies.score(*pair),
            }
            for n, bleu in enumerate(captions.bleu_of_counts(counts[key]), 1):
                row[f"Bleu_{n}"] = bleu
            official["per_image"][key].update(row)
        del official["official_score"]["METEOR"]
        corpus = captions.bleu_of_counts(np.sum(list(counts.values()), axis=0))
        total = {f"Bleu_{n}": bleu for n, bleu in enumerate(corpus, 1)}
        rows = [official["per_image"][key] for key in pairs]
        for metric in ("ROUGE_L", "CIDEr"):
            total[metric] = float(np.mean([row[metric] for row in rows]))
        official["official_score"].update(total)


def eval_gpt_judges(content):
    """Keep half of the replies."""
    scores = content["official_score"]
    for key in ("llava_bench_parsed", "mmvet_parsed", "ferret_processed"):
        scores[key] = some(scores[key])


def eval_submissions(content):
    """Ask VQAv2's server for fewer ids; grade fewer MM-Vet answers."""
    inputs, scores = content["inputs"], content["official_score"]
    lost = inputs["vqav2"]["full_test_ids"].pop(0)
    rows = inputs["vqav2"]["answers"]
    inputs["vqav2"]["answers"] = [row for row in rows if row["question_id"] != lost]
    scores["vqav2"] = [row for row in scores["vqav2"] if row["question_id"] != lost]
    del scores["mmvet"][f"v1_{inputs['mmvet'].pop(0)['question_id']}"]


RECIPES = tuple(
    recipe for name, recipe in list(globals().items()) if name.startswith("eval_")
)
