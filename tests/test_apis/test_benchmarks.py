"""Benchmarks from question to row: one folder, whatever happens on the way."""

import json
import os
import random
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from letters import BENCHMARK, NUM_ITEMS, read_lines, write_letters

import mmvlm.apis.benchmarks as benchmarks
import mmvlm.engine.benchmarks.answering as answering
from mmvlm.apis.benchmarks import BenchmarkOptions, check_data, run_benchmarks
from mmvlm.apis.rescoring import rescore, write_answers
from mmvlm.config.benchmarks import load_benchmark
from mmvlm.datasets.tiny_scenes.benchmarks import write_benchmarks
from mmvlm.engine.benchmarks.identity import OtherIdentity
from mmvlm.engine.benchmarks.planner import BatchPolicy
from mmvlm.engine.benchmarks.questions import with_data_root
from mmvlm.evaluation.store import IncompleteAnswers
from mmvlm.models.utils.feature_cache import FeatureCache

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_letters(tmp_path_factory.mktemp("data"))


@pytest.fixture
def run(config_file, checkpoint, data, tmp_path):
    def run(out="out", *, weights=checkpoint, data_root=data, **options):
        options = BenchmarkOptions(
            **{"num_workers": 0, "data_root": str(data_root), **options}
        )
        path = str(data / "letters.py")
        return run_benchmarks(config_file, weights, path, tmp_path / out, options)

    return run


def texts(folder):
    return {one["uid"]: one["text"] for one in read_lines(folder / "answers.jsonl")}


def test_a_run_leaves_answers_scores_and_tables(run, tmp_path):
    (row,) = run()

    records = read_lines(tmp_path / "out/letters/answers.jsonl")
    assert [one["index"] for one in records] == list(range(NUM_ITEMS))
    assert len({one["uid"] for one in records}) == NUM_ITEMS
    first = next(one for one in records if one["image"])
    assert first["prompt"].endswith("ASSISTANT:") and "<image>\n" in first["prompt"]
    assert set(first["gen"]) >= {"max_new_tokens", "do_sample"}
    assert {one["finish"] for one in records} <= {"stop", "length"}
    assert first["cluster"] == first["image"]
    scored = read_lines(tmp_path / "out/letters/scored.jsonl")
    mean = 100 * sum(one["score"] for one in scored) / NUM_ITEMS
    assert row["score"] == pytest.approx(mean)
    assert row["interval"][0] <= row["score"] <= row["interval"][1]
    assert (row["expected"], row["answered"], row["failed"]) == (23, 23, 0)
    for name in ("run.json", "results.json", "results.md", "results.csv"):
        assert "letters" in (tmp_path / "out" / name).read_text().lower()
    about = json.loads((tmp_path / "out/run.json").read_text())
    assert torch.__version__.startswith(about["versions"]["torch"])
    assert set(about["identity"]) == {"model", "letters"}
    assert (about["processes"], about["device"]) == (1, "cpu")


def test_answers_do_not_depend_on_budget_order_or_shared_prefixes(
    run, talk, data, tmp_path
):
    rows = json.loads((data / "letters/test.json").read_text())
    alone = []
    for row in rows:
        image = row.get("image") and str(data / "letters/images" / row["image"])
        question = row["conversations"][0]["value"].removeprefix("<image>\n")
        alone.append(talk.chat(image, question, max_new_tokens=6))

    for number, tokens in enumerate((1, 90, 300, 16384)):
        (row,) = run(f"out{number}", policy=BatchPolicy(tokens))
        assert row["answered"] == NUM_ITEMS

    for number in range(4):
        assert list(texts(tmp_path / f"out{number}/letters").values()) == alone


def test_answers_are_equal_with_and_without_kept_images(run, tmp_path, monkeypatch):
    caches = []
    for name, size in (("kept", 2**30), ("not", 0)):
        caches.append(FeatureCache(size))
        monkeypatch.setattr(benchmarks, "FeatureCache", lambda: caches[-1])
        run(name, policy=BatchPolicy(rows=1))
    folders = [tmp_path / name / "letters" for name in ("kept", "not")]
    assert read_lines(folders[0] / "answers.jsonl") == read_lines(
        folders[1] / "answers.jsonl"
    )
    assert caches[0].hits > 0 == caches[1].hits
    assert caches[0].misses + caches[0].hits == caches[1].misses


def test_the_references_reach_the_ceiling_and_nothing_else_does(run):
    (row,) = run(answers="reference")
    assert (row["score"], row["strict"], row["unparsed"]) == (100.0, 100.0, 0)

    (row,) = run("empty", answers="empty")
    assert (row["score"], row["unparsed"], row["failed"]) == (0.0, NUM_ITEMS, 0)


def test_answers_of_a_file_are_scored_by_uid(run, tmp_path):
    run()
    path = tmp_path / "out/letters/answers.jsonl"

    (row,) = run("again", answers=str(path))

    assert (
        row["score"]
        == json.loads((tmp_path / "out/results.json").read_text())[0]["score"]
    )


def test_limits_and_chosen_questions_are_said_in_the_row(run):
    (row,) = run(limit=5, answers="empty")
    assert (row["expected"], row["limit"]) == (5, 5)
    assert "5 items, the published set has 23" in row["note"]

    (row,) = run("one", only=["letters/3/q1"], answers="empty")
    assert row["expected"] == 1

    with pytest.raises(ValueError, match="no question has the uid 'letters/99/q1'"):
        run("none", only=["letters/99/q1"], answers="empty")
    with pytest.raises(ValueError, match=r"only='pope/3/q1': .* here letters"):
        run("none", only=["pope/3/q1"], answers="empty")


def test_chosen_questions_leave_other_benchmarks_out(config_file, tmp_path):
    write_benchmarks(tmp_path / "data", num=14, seed=1, formats=["pope", "ocrbench"])
    options = dict(data_root=str(tmp_path / "data"), answers="empty", num_workers=0)
    asked = (config_file, None, "pope,ocrbench")
    run_benchmarks(*asked, tmp_path / "whole", BenchmarkOptions(**options))
    uids = [one["uid"] for one in read_lines(tmp_path / "whole/pope/answers.jsonl")]

    chosen = BenchmarkOptions(**options, only=uids[2:0:-1])
    (row,) = run_benchmarks(*asked, tmp_path / "some", chosen)

    assert (row["benchmark"], row["expected"]) == ("pope", 2)
    found = read_lines(tmp_path / "some/pope/answers.jsonl")
    assert [one["uid"] for one in found] == uids[2:0:-1]


def test_a_blind_run_stands_beside_the_run_it_belongs_to(run, tmp_path):
    run()
    for blind in ("shuffle", "text"):
        (row,) = run(blind=blind)
        assert row["blind"] == blind

    seen = read_lines(tmp_path / "out/letters/answers.jsonl")
    other = read_lines(tmp_path / "out/letters/blind_shuffle/answers.jsonl")
    for one, two in zip(seen, other, strict=True):
        assert (one["image"] is None) == (two["image"] is None)
        assert one["image"] is None or one["image"] != two["image"]
    none = read_lines(tmp_path / "out/letters/blind_text/answers.jsonl")
    assert not any(one["image"] or "<image>" in one["prompt"] for one in none)

    (row,) = run()
    assert row["blind_shuffle"] is not None and row["blind_text"] is not None
    # Of other questions, or answered by another, a blind run says nothing of it.
    run(blind="text", limit=5, fresh=True)
    run(blind="shuffle", answers="reference", fresh=True)
    (row,) = run()
    assert "blind_shuffle" not in row and "blind_text" not in row


def test_an_image_that_cannot_be_read_is_a_wrong_answer(run, data, tmp_path):
    broken = tmp_path / "data"
    (broken / "letters/images").mkdir(parents=True)
    for path in (data / "letters").rglob("*.*"):
        target = broken / path.relative_to(data)
        target.write_bytes(path.read_bytes())
    (broken / "letters/images/3.png").write_bytes(b"no image")
    rows = json.loads((data / "letters/test.json").read_text())
    lost = [n for n, row in enumerate(rows) if row.get("image") == "3.png"]

    (row,) = run(data_root=broken)

    assert (row["failed"], row["answered"]) == (len(lost), NUM_ITEMS)
    scored = read_lines(tmp_path / "out/letters/scored.jsonl")
    assert [n for n, one in enumerate(scored) if one["failed"]] == lost
    records = read_lines(tmp_path / "out/letters/answers.jsonl")
    assert "3.png" in records[lost[0]]["meta"]["error"]
    assert records[lost[0]]["image"] == "3.png"

    with pytest.raises(
        ValueError, match=r"question 'letters/\d+/q\d+' cannot be asked"
    ):
        run("strict", data_root=broken, stop_on_error=True)


def test_files_beside_the_data_lie_below_the_data_root(
    config_file, tmp_path, monkeypatch
):
    data = write_letters(tmp_path / "data")
    path = data / "letters.py"
    line = 'submission=dict(type="vqav2", ids_file="data/letters/ids.jsonl"),'
    path.write_text(BENCHMARK.replace("    num_items=23,", f"    {line}"))
    options = BenchmarkOptions(data_root=str(data), num_workers=0, answers="empty")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(FileNotFoundError, match=r"ids.jsonl' \(submission.ids_file\)"):
        run_benchmarks(config_file, None, str(path), "out", options)
    ids = [f"q{number}" for number in range(12)] + ["of another phase"]
    rows = [json.dumps(dict(question_id=one)) + "\n" for one in ids]
    (data / "letters/ids.jsonl").write_text("".join(rows))
    run_benchmarks(config_file, None, str(path), "out", options)

    sent = json.loads(Path("out/letters/submission/vqav2.json").read_text())
    assert [one["question_id"] for one in sent] == ids
    monkeypatch.chdir(ROOT)
    rescore([tmp_path / "out"])
    judged = dict(type="ReviewScorer", instructions="data/letters/ids.jsonl")
    moved = with_data_root(replace(load_benchmark(path), scorer=judged), str(data))
    assert moved.scorer["instructions"] == str(data / "letters/ids.jsonl")


def test_instructions_of_a_judge_lie_below_the_data_root(config_file, tmp_path):
    data = write_letters(tmp_path / "data")
    path = data / "letters.py"
    scorer = 'type="ReviewScorer", instructions="data/letters/rule.json"'
    path.write_text(
        BENCHMARK.replace('type="LettersScorer"', scorer).replace('"acc"', '"all"')
    )
    rules = {"": dict(prompt="Rate them.")}
    (data / "letters/rule.json").write_text(json.dumps(rules))
    options = BenchmarkOptions(
        data_root=str(data), num_workers=0, answers="empty", rule="tolerant"
    )

    (row,) = run_benchmarks(config_file, None, str(path), tmp_path / "out", options)

    assert row["rule"] == "tolerant" and "not judged" in row["note"]
    assert "letters: Letters" in check_data(config_file, str(path), options)
    (file,) = write_answers(tmp_path / "out", "llava", tmp_path / "files", "m")
    options = dict(form="llava", rule="tolerant", data_root=str(data))
    (scored,) = rescore([file], benchmark=str(path), **options)
    assert scored.files.keys() == {"judge_requests.jsonl"}


# Restarts ---------------------------------------------------------------------------


def test_a_restart_answers_only_what_is_missing(run, tmp_path, monkeypatch):
    run()
    before = texts(tmp_path / "out/letters")
    path = tmp_path / "out/letters/answers.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:9] + lines[12:20]) + lines[20][:40])
    asked = []
    real = answering.ModelAnswers._batch
    monkeypatch.setattr(
        answering.ModelAnswers,
        "_batch",
        lambda self, batch: (
            asked.extend(one.record["index"] for one in batch) or real(self, batch)
        ),
    )

    (row,) = run()

    assert sorted(asked) == [9, 10, 11, 20, 21, 22]
    assert texts(tmp_path / "out/letters") == before
    assert row["counts"]["torn"] == 1
    assert [p.name for p in (tmp_path / "out/letters").glob("answers*")] == [path.name]


def test_other_weights_at_the_same_path_are_refused(run, checkpoint, tmp_path):
    path = tmp_path / "last.pth"
    path.write_bytes(checkpoint.read_bytes())
    run(weights=path)
    content = torch.load(path)
    name = next(key for key in content["state_dict"] if key.startswith("connector"))
    content["state_dict"][name].flatten()[0] += 1e-3
    torch.save(content, path)

    with pytest.raises(OtherIdentity, match=r"weights: '\w+' then, '\w+' now.*--fresh"):
        run(weights=path)

    (row,) = run(weights=path, fresh=True)
    assert row["answered"] == NUM_ITEMS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(limit=3), "limit: 'not set' then, 3 now"),
        (dict(answers="reference"), "answers: 'not set' then, 'reference' now"),
    ],
)
def test_other_questions_are_refused(run, change, message):
    run()

    with pytest.raises(OtherIdentity, match=message):
        run(**change)


def test_other_data_and_decoding_are_refused(run, data, tmp_path, monkeypatch):
    run(answers="empty")
    moved = tmp_path / "moved"
    os.rename(data / "letters", moved)
    os.symlink(moved, data / "letters")
    try:
        run(answers="empty")  # where the files lie is free
        text = (moved / "test.json").read_text()
        (moved / "test.json").write_text(text.replace("red", "blue"))
        with pytest.raises(OtherIdentity, match=r"data\.content"):
            run(answers="empty")
        (moved / "test.json").write_text(text)
        (data / "letters.py").write_text(BENCHMARK.replace("=6", "=7"))
        with pytest.raises(OtherIdentity, match=r"max_new_tokens: 6 then, 7"):
            run(answers="empty")
    finally:
        (data / "letters.py").write_text(BENCHMARK)
        os.remove(data / "letters")
        os.rename(moved, data / "letters")


def test_out_of_memory_halves_the_budget_and_says_so(
    run, tmp_path, monkeypatch, caplog
):
    run("whole")
    real, sizes = answering.ModelAnswers._batch, []

    def short_of_memory(self, batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.cuda.OutOfMemoryError("no memory")
        return real(self, batch)

    monkeypatch.setattr(answering.ModelAnswers, "_batch", short_of_memory)
    told = []
    monkeypatch.setattr(answering, "print_log", lambda text, **_: told.append(text))
    run()

    assert texts(tmp_path / "out/letters") == texts(tmp_path / "whole/letters")
    assert sizes[0] == NUM_ITEMS and "out of memory with 23 prompts" in told[0]
    assert max(sizes[len(told) :]) <= 3

    def none_at_all(self, batch):
        raise torch.cuda.OutOfMemoryError("no memory")

    monkeypatch.setattr(answering.ModelAnswers, "_batch", none_at_all)
    with pytest.raises(RuntimeError, match=r"one prompt of \d+ tokens"):
        run("none")


@pytest.mark.parametrize("chosen", [1, 4])
def test_one_batch_too_many_costs_no_answer(run, tmp_path, monkeypatch, chosen):
    run("whole")
    real, calls = answering.ModelAnswers._batch, []

    def short_of_memory(self, batch):
        calls.append(len(batch))
        if len(calls) == chosen:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(self, batch)

    monkeypatch.setattr(answering.ModelAnswers, "_batch", short_of_memory)
    told = []
    monkeypatch.setattr(answering, "print_log", lambda text, **_: told.append(text))
    (row,) = run(policy=BatchPolicy(rows=3))

    assert texts(tmp_path / "out/letters") == texts(tmp_path / "whole/letters")
    assert (row["answered"], row["failed"]) == (NUM_ITEMS, 0)
    assert (
        len(told) == 1 and f"out of memory with {calls[chosen - 1]} prompts" in told[0]
    )
    assert max(calls[chosen:]) == 1


def test_a_full_disk_names_the_file_and_loses_no_answer(run, tmp_path):
    run("whole")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large.*answers.rank0.jsonl"):
            run(policy=BatchPolicy(rows=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    path = tmp_path / "out/letters/answers.rank0.jsonl"
    assert path.stat().st_size == 8000 and not path.read_text().endswith("\n")
    assert not (tmp_path / "out/letters/results.json").exists()

    (row,) = run(policy=BatchPolicy(rows=2))

    assert texts(tmp_path / "out/letters") == texts(tmp_path / "whole/letters")
    assert (row["answered"], row["counts"]["torn"]) == (NUM_ITEMS, 1)


def test_answers_that_do_not_fit_the_set_are_no_score(run, tmp_path):
    run()
    folder = tmp_path / "out/letters"
    lines = read_lines(folder / "answers.jsonl")
    foreign = dict(lines[0], uid="letters/99/q0")
    other = dict(lines[0], text="another")
    cases = [
        (lines[1:], "1 of 23 questions have no answer"),
        ([*lines, foreign], "1 answers are to no question of the set"),
        ([*lines, other], "1 questions have several answers that differ"),
    ]
    for found, message in cases:
        text = "".join(json.dumps(one) + "\n" for one in found)
        (folder / "answers.jsonl").write_text(text)
        with pytest.raises(IncompleteAnswers, match=message):
            rescore([tmp_path / "out"])
        (scored,) = rescore([tmp_path / "out"], allow_partial=True)
        assert f"partial: {message}" in scored.row["note"]
    text = "".join(json.dumps(one) + "\n" for one in [*lines, *lines[:3]])
    (folder / "answers.jsonl").write_text(text)
    (scored,) = rescore([tmp_path / "out"])
    assert (scored.row["answered"], scored.row["counts"]["merged"]) == (NUM_ITEMS, 3)


def test_evaluation_leaves_the_random_states_alone(run):
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()

    run(num_workers=1)

    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()
    assert before[2] == random.getstate()


def test_a_dry_run_shows_counts_and_a_prompt(config_file, data):
    options = BenchmarkOptions(data_root=str(data), num_workers=0)

    told = check_data(config_file, str(data / "letters.py"), options)

    assert "letters: Letters, test" in told and "23 questions" in told
    assert "ASSISTANT:" in told and "prompts, decoding" in told


def test_files_that_are_missing_show_before_weights_are_read(config_file, data):
    options = BenchmarkOptions(data_root=str(data / "nowhere"))

    with pytest.raises(FileNotFoundError, match=r"nowhere/letters/test.json"):
        run_benchmarks(
            *(config_file, "no-weights.pth", str(data / "letters.py"), "out", options)
        )
