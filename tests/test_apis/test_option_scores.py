"""Options that a model scores, in place of a reply: rules of their own."""

import json
import math
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmvlm.apis.benchmarks import BenchmarkOptions, run_benchmarks
from mmvlm.apis.rescoring import rescore
from mmvlm.config.benchmarks import find_benchmarks
from mmvlm.datasets.collate import collate_flat
from mmvlm.datasets.processor import VLMProcessor
from mmvlm.datasets.tiny_scenes.benchmarks import write_benchmarks
from mmvlm.engine.benchmarks.identity import OtherIdentity
from mmvlm.engine.benchmarks.planner import BatchPolicy
from mmvlm.engine.benchmarks.questions import Questions
from mmvlm.evaluation.chat_client import Endpoint
from mmvlm.models.vlms.base import VisionLanguageModel
from mmvlm.registry import SCORERS
from mmvlm.structures import IGNORE_INDEX, Text, Turn

RULES = ["option_logits", "ppl"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_benchmarks(folder, num=14, seed=1, formats=["seed_bench", "mmmu", "pope"])
    return folder


@pytest.fixture
def run(config_file, checkpoint, data, tmp_path):
    def run(rule, out="out", names="seed", **options):
        options = BenchmarkOptions(
            data_root=str(data), num_workers=0, rule=rule, **options
        )
        return run_benchmarks(config_file, checkpoint, names, tmp_path / out, options)

    return run


def records(folder):
    return [json.loads(line) for line in (folder / "answers.jsonl").open()]


@pytest.mark.parametrize("rule", RULES)
def test_answers_are_the_likeliest_options_however_they_are_batched(
    run, tmp_path, rule
):
    (row,) = run(rule)
    run(rule, "alone", policy=BatchPolicy(rows=1))

    together, alone = (records(tmp_path / name / "seed") for name in ("out", "alone"))
    assert (row["rule"], row["answered"]) == (rule, row["expected"])
    for one, other in zip(together, alone, strict=True):
        scores = one["meta"]["option_scores"][rule]
        assert set(scores) == set("ABCD"[: len(one["meta"]["options"])])
        assert one["text"] == max(scores, key=scores.get) == other["text"]
        assert other["meta"]["option_scores"][rule] == pytest.approx(scores, abs=2e-4)
        assert (one["finish"], one["gen"]["rule"]) == ("stop", rule)
    kept = [one["meta"]["option_scores"][rule] for one in together]
    assert len({one["A"] for one in kept}) > 1
    right = sum(one["text"] == one["reference"] for one in together)
    assert row["score"] == pytest.approx(100 * right / len(together))


@pytest.mark.parametrize("rule", RULES)
def test_scores_that_are_no_numbers_choose_nothing(run, tmp_path, monkeypatch, rule):
    real = VisionLanguageModel.score_replies

    def scored(self, *args, **options):
        logs = real(self, *args, **options)
        logs[0][-1] = [math.nan] * len(logs[0][-1])
        return logs

    monkeypatch.setattr(VisionLanguageModel, "score_replies", scored)
    (row,) = run(rule, limit=3, policy=BatchPolicy(rows=1))

    found = records(tmp_path / "out/seed")
    assert [(one["text"], one["finish"]) for one in found] == [("", "stop")] * 3
    for one in found:
        assert one["meta"]["problems"] == ["scores of options are not numbers"]
    assert row["score"] == 0 and row["unparsed"] == 3
    scorer = SCORERS.build(dict(type="ChoiceScorer", rule=rule))
    scores = {rule: dict(A=-1.0, B=math.nan)}  # of a file
    meta = {**found[0]["meta"], "option_scores": scores}
    verdict = scorer.verdict({**found[0], "text": "A", "meta": meta})
    assert verdict["prediction"] is None and not verdict["parsed"]


def test_scores_are_those_of_whole_conversations(run, talk, tmp_path, data):
    """One forward pass over prompt and option, as training makes it."""
    run("ppl", limit=3)
    (benchmark,) = find_benchmarks("seed")
    questions = Questions(benchmark, data_root=str(data), limit=3)
    steps = [dict(step) for step in talk.processor.steps["train"]]
    for step in steps:
        step.pop("max_length", None)
    processor = VLMProcessor(
        talk.processor.tokenizer, talk.processor.template, steps=dict(train=steps)
    ).bind(talk.model)
    for number, record in enumerate(records(tmp_path / "out/seed")):
        scores = record["meta"]["option_scores"]["ppl"].values()
        asked = questions.dataset.item_at(number)["conversation"]
        for score, text in zip(scores, record["meta"]["options"], strict=True):
            whole = replace(
                asked, turns=[asked.turns[0], Turn("assistant", (Text(text),))]
            )
            root = questions.dataset.image_root
            item = processor(whole, "train", image_root=root)
            batch = talk.model.data_preprocessor(collate_flat([item]), False)["inputs"]
            with torch.no_grad():
                states = talk.model.hidden_states(batch)
                logs = talk.model.language_model.logits(states).log_softmax(-1)
            *said, _ = (batch.text.labels != IGNORE_INDEX).nonzero()[:, 0].tolist()
            values = [float(logs[n - 1, batch.text.input_ids[n]]) for n in said]
            assert score == pytest.approx(sum(values) / len(values), abs=2e-4)


def test_answers_are_scored_again_by_what_they_keep(run, tmp_path):
    (row,) = run("option_logits")

    for rule in (None, "option_logits", "exact_letter"):
        (scored,) = rescore([tmp_path / "out"], rule=rule)
        assert scored.row["score"] == row["score"]
        assert scored.row["rule"] == (rule or "option_logits")
    with pytest.raises(ValueError, match="no scores of its options for rule 'ppl'"):
        rescore([tmp_path / "out"], rule="ppl")


def test_they_never_stand_in_place_of_generated_answers(run, tmp_path, config_file):
    run(None, limit=2)

    with pytest.raises(OtherIdentity, match=r"generation.rule: 'not set' then, 'ppl'"):
        run("ppl", limit=2)
    with pytest.raises(ValueError, match="no scores of its options for rule 'ppl'"):
        rescore([tmp_path / "out"], rule="ppl")
    with pytest.raises(ValueError, match="pope: YesNoScorer: no rule is named 'ppl'"):
        run("ppl", "other", names="seed,pope")
    with pytest.raises(ValueError, match=r"seed: rule .ppl. scores options.*--server"):
        run("ppl", "served", server=Endpoint("http://localhost:1/v1", "model"))


def test_open_questions_beside_them_are_answered_in_words(run, tmp_path):
    (row,) = run("option_logits", names="mmmu_val")

    found = records(tmp_path / "out/mmmu_val")
    closed = [bool(one["meta"].get("options")) for one in found]
    assert 0 < sum(closed) < len(closed)
    assert closed == ["option_scores" in one["meta"] for one in found]
    assert closed == [one["num_tokens"] == 0 for one in found]
    assert (row["answered"], row["rule"]) == (len(found), "option_logits")


def test_a_blind_run_under_another_rule_is_no_column(run):
    run("first_character", blind="text", limit=3)

    (row,) = run("exact_matching", limit=3)
    assert "blind_text" not in row
    (row,) = run("first_character", limit=3)
    assert "blind_text" in row


def test_the_tool_takes_a_rule(config_file, data, tmp_path, capsys):
    tool = runpy.run_path(str(Path(__file__).parents[2] / "tools/test.py"))["main"]
    options = ["--benchmarks", "seed,mmmu_val", "--data-root", str(data)]
    for number, answers in enumerate(("reference", "empty")):
        out = ["--out", str(tmp_path / f"{number}"), "--answers", answers]
        assert tool([str(config_file), *options, *out, "--rule", "ppl"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("acc (ppl)") == 4
    assert "100.00" in printed and "0.00" in printed
