"""Runs of benchmarks with a judge, and with a served model that answers."""

import base64
import io
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from chat_stub import ChatStub, openai_module
from letters import NUM_ITEMS, write_letters
from PIL import Image

from mmvlm.apis.benchmarks import BenchmarkOptions, check_data, run_benchmarks
from mmvlm.apis.rescoring import rescore
from mmvlm.datasets.tiny_scenes.benchmarks import write_benchmarks
from mmvlm.engine.benchmarks.identity import OtherIdentity
from mmvlm.engine.benchmarks.serving import chat_settings
from mmvlm.evaluation.chat_client import Endpoint, EndpointError
from mmvlm.evaluation.judging import JudgeFailed, judge_replies
from mmvlm.evaluation.store import IncompleteAnswers

ROOT = Path(__file__).parents[2]
SAME = ("score", "interval", "strict", "lenient", "unparsed", "metrics", "answered")


def read_lines(path):
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def grade(body):
    """Return a grade that hangs on what is asked, 0.0 to 1.0."""
    return f"{sum(json.dumps(body['messages']).encode()) % 11 / 10}"


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", openai_module())
    stub = ChatStub(grade)
    yield stub
    stub.close()


def endpoint(stub, model="judge-1", **options):
    options = {"retries": 2, "pause": 0.01, "timeout": 5, **options}
    return Endpoint(stub.url, model, **options)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    formats = ["mm_vet", "llava_bench"]
    write_benchmarks(folder, num=14, seed=1, formats=formats)
    return folder


@pytest.fixture
def judged(config_file, scenes, tmp_path):
    def judged(out="out", name="mm_vet", **options):
        options = {"answers": "reference", "num_workers": 0, **options}
        options = BenchmarkOptions(data_root=str(scenes), **options)
        (row,) = run_benchmarks(config_file, None, name, tmp_path / out, options)
        return row

    return judged


def test_a_judge_online_gives_the_score_of_its_replies_taken_later(
    judged, stub, tmp_path
):
    online = judged("online", judge=endpoint(stub, price=(1.0, 2.0)))
    offline = judged("offline")

    assert offline["score"] is None and "not judged" in offline["note"]
    requests = read_lines(tmp_path / "offline/mm_vet/judge_requests.jsonl")
    assert len(requests) == online["answered"]
    # Equal questions with equal answers are paid for once.
    assert len(stub.bodies) == len({json.dumps(one["body"]) for one in requests})
    for one in requests:
        assert dict(one["body"], model="judge-1") in stub.bodies
    rows = [dict(uid=one["custom_id"], reply=grade(one["body"])) for one in requests]
    path = tmp_path / "replies.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    for run, replies in (("offline", judge_replies(path)), ("online", None)):
        (again,) = rescore([tmp_path / run], replies=replies)
        assert {key: again.row[key] for key in SAME} == {k: online[k] for k in SAME}
    assert online["judge"] == again.row["judge"] == "judge-1"
    usage, count = online["judge_usage"], len(requests)
    assert (usage["requests"], usage["failed"]) == (count, 0)
    assert usage["cost"] == pytest.approx(count * 14 / 1e6)


def test_replies_survive_and_fresh_answers_do_not_pay_again(judged, stub):
    first = judged(judge=endpoint(stub))
    paid = len(stub.bodies)

    for options in (dict(), dict(fresh=True), dict(judge=Endpoint(), fresh=True)):
        row = judged(**{"judge": endpoint(stub), **options})
        assert {key: row[key] for key in SAME} == {key: first[key] for key in SAME}

    assert len(stub.bodies) == paid
    with pytest.raises(JudgeFailed, match=r"no reply about (\d+) of \1 answers .*URL"):
        judged(answers="empty", fresh=True, judge=Endpoint())


def test_what_a_judge_does_not_say_is_counted_and_never_a_score(judged, stub):
    stub.reply = lambda body: "1.0"
    stub.plan = [500] * 6

    row = judged(judge=endpoint(stub, concurrency=1))

    assert row["score"] == 100.0
    assert row["metrics"]["judge_failed"] == row["judge_usage"]["failed"] == 2
    row = judged(judge=endpoint(stub))
    assert (row["metrics"]["judge_failed"], max(stub.paid.values())) == (0, 1)

    stub.plan = ["nonsense"] * 999
    with pytest.raises(JudgeFailed, match="is no chat completion"):
        judged("other", judge=endpoint(stub))


def test_an_unreadable_reply_is_asked_about_again(judged, stub):
    seen = []

    def reply(body):
        seen.append(body["temperature"])
        return "0.5" if body["temperature"] else "good"

    stub.reply = reply
    row = judged(judge=endpoint(stub))

    assert row["score"] == 50.0 and row["metrics"]["judge_failed"] == 0
    assert seen.count(0.0) == seen.count(0.5) == len(stub.paid) / 2
    stub.reply = lambda body: "no"
    row = judged("never", judge=endpoint(stub))
    assert row["metrics"]["judge_failed"] == row["answered"]


def test_runs_of_a_judge_and_another_scorer(judged, stub):
    row = judged(judge=endpoint(stub), judge_runs=2)
    assert row["judge_usage"]["requests"] == 2 * row["answered"]

    stub.reply = lambda body: "8 4\nbecause"
    row = judged("wild", "llava_bench_wild", judge=endpoint(stub))
    assert row["score"] == 50.0
    assert stub.bodies[-1]["max_tokens"] == 1024


def test_a_dry_run_says_what_judging_takes(config_file, scenes):
    options = BenchmarkOptions(data_root=str(scenes), num_workers=0)

    assert "requests to a judge, about" in check_data(config_file, "mm_vet", options)


# Served models ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_letters(tmp_path_factory.mktemp("data"))


@pytest.fixture
def served(config_file, data, stub, tmp_path):
    def served(out="out", *, model="model-1", url=None, **options):
        server = endpoint(stub, model, concurrency=2)
        options = {"num_workers": 0, "data_root": str(data), **options}
        options = BenchmarkOptions(server=server, **options)
        path = str(data / "letters.py")
        (row,) = run_benchmarks(config_file, None, path, tmp_path / out, options)
        return row

    return served


def test_a_served_model_is_asked_the_same_questions(served, stub, data, tmp_path):
    stub.reply = lambda body: "abc"

    row = served(num_workers=1)

    assert (row["answered"], row["failed"], row["server"]) == (NUM_ITEMS, 0, "model-1")
    records = read_lines(tmp_path / "out/letters/answers.jsonl")
    assert [one["index"] for one in records] == list(range(NUM_ITEMS))
    first = next(one for one in records if one["image"])
    assert first["prompt"].startswith("<image>\n") and first["text"] == "abc"
    assert (first["finish"], first["num_tokens"]) == ("stop", 2)
    assert stub.bodies[0]["max_tokens"] == 6 and stub.bodies[0]["temperature"] == 0
    asked = {}
    for body in stub.bodies:
        (message,) = body["messages"]
        if isinstance(message["content"], list):
            image, text = message["content"]
            asked[text["text"]] = image["image_url"]["url"]
    shown = asked[first["question"]].removeprefix("data:image/png;base64,")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown))))
    same = [one for one in records if one["question"] == first["question"]]
    files = [data / "letters/images" / one["image"] for one in same if one["image"]]
    assert any(np.array_equal(pixels, np.asarray(Image.open(one))) for one in files)
    (again,) = rescore([tmp_path / "out"])
    assert again.row["score"] == row["score"]


def test_a_server_that_fails_ends_the_run_and_nothing_is_paid_twice(
    served, stub, tmp_path
):
    stub.plan = ["ok"] * 5 + [500] * 6

    with pytest.raises(EndpointError, match=r"left \d+ of 23 questions .*again"):
        served()

    assert not (tmp_path / "out/letters/results.json").exists()
    row = served()
    assert (row["answered"], row["failed"]) == (NUM_ITEMS, 0)
    assert set(stub.paid.values()) == {1}
    before = len(stub.bodies)
    served()
    assert len(stub.bodies) == before
    with pytest.raises(OtherIdentity, match="server: 'model-1' then, 'model-2' now"):
        served(model="model-2")
    served(fresh=True)
    assert len(stub.bodies) > before


def test_a_refused_question_is_a_wrong_answer(served, stub, tmp_path):
    stub.plan = [400]

    row = served()

    assert (row["answered"], row["failed"]) == (NUM_ITEMS, 1)
    errors = [
        one["meta"]["error"]
        for one in read_lines(tmp_path / "out/letters/answers.jsonl")
        if one["finish"] == "error"
    ]
    assert len(errors) == 1 and "stub says no" in errors[0]


def test_settings_that_a_server_does_not_know_are_refused():
    assert chat_settings(dict(max_new_tokens=3, do_sample=False)) == dict(
        max_tokens=3, temperature=0.0, top_p=None
    )
    assert chat_settings(dict(do_sample=True, top_p=0.9)) == dict(top_p=0.9)
    with pytest.raises(ValueError, match="num_beams: a server does not know it"):
        chat_settings(dict(num_beams=5))
    with pytest.raises(ValueError, match="a server answers by itself"):
        BenchmarkOptions(answers="empty", server=Endpoint("http://x/v1", "m"))


# The tools, and answers of files ------------------------------------------------------


def test_test_py_takes_judges_and_servers(config_file, scenes, stub, tmp_path, capsys):
    stub.reply = lambda body: "1.0"
    main = runpy.run_path(str(ROOT / "tools/test.py"))["main"]
    options = [config_file, "--benchmarks", "mm_vet", "--data-root", scenes]
    options += ["--out", tmp_path / "out", "--num-workers", 0, "--retries", 1]
    options += ["--server", stub.url, "--model", "model-1", "--judge", stub.url]
    options += ["--judge-model", "judge-1", "--judge-options", "max_tokens=9"]

    assert main(list(map(str, options))) == 0

    assert "100.00" in capsys.readouterr().out
    limits = {body["model"]: body["max_tokens"] for body in stub.bodies}
    assert limits == {"model-1": 1024, "judge-1": 9}
    with pytest.raises(SystemExit, match="belong to --benchmarks"):
        main([str(config_file), "none.pth", "--judge", "cached"])


def test_regions_and_scores_of_options_need_more_than_texts(config_file, tmp_path):
    data, path = tmp_path / "data", tmp_path / "texts.jsonl"
    write_benchmarks(data, num=14, seed=1, formats=["reason_seg", "seed_bench"])

    def run(out, name, rule=None, **options):
        options = BenchmarkOptions(
            data_root=str(data), num_workers=0, rule=rule, **options
        )
        (row,) = run_benchmarks(config_file, None, name, tmp_path / out, options)
        return row["score"], tmp_path / out / name / "answers.jsonl"

    for name, rule in (("reason_seg_val", None), ("seed", "ppl")):
        expected, own = run("reference", name, rule, answers="reference")
        assert run("file", name, rule, answers=str(own))[0] == expected > 99
    rows = read_lines(tmp_path / "reference/reason_seg_val/answers.jsonl")
    for row in rows:
        del row["meta"]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    with pytest.raises(ValueError, match=r"texts.jsonl.* is a text alone.*pred_reg"):
        run("texts", "reason_seg_val", answers=str(path))
    with pytest.raises(ValueError, match=r"takes boxes or masks .*Leave out --server"):
        run("server", "reason_seg_val", server=Endpoint("http://localhost:1/v1", "m"))


def test_questions_that_a_file_does_not_answer_stay_unanswered(
    config_file, data, tmp_path
):
    def run(out, **options):
        options = BenchmarkOptions(data_root=str(data), num_workers=0, **options)
        path = str(data / "letters.py")
        return run_benchmarks(config_file, None, path, tmp_path / out, options)

    run("whole", answers="reference")
    rows = read_lines(tmp_path / "whole/letters/answers.jsonl")
    rows[0]["finish"] = "length"
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows[:20]))

    with pytest.raises(IncompleteAnswers, match=r"3 of 23 .*'letters/20/q10'"):
        run("part", answers=str(path))
    (row,) = run("part", answers=str(path), allow_partial=True)

    assert (row["answered"], row["score"], row["cut"]) == (20, 100.0, 1)
    assert "partial: 3 of 23" in row["note"]

    (row,) = run("few", answers=str(path), limit=4)
    assert row["answered"] == 4
    other = [dict(rows[0], text="other"), dict(rows[1], uid="letters/99/q1")]
    path.write_text("".join(json.dumps(one) + "\n" for one in [*rows, *other]))
    with pytest.raises(
        IncompleteAnswers, match=r"several answers .*to no question .*'letters/99/q1'"
    ):
        run("wrong", answers=str(path))
