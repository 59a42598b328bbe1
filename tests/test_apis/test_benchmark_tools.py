"""The tools around benchmarks, as they are called."""

import json
import runpy
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from letters import write_letters

from mmvlm.datasets.tiny_scenes.benchmarks import write_benchmarks
from mmvlm.evaluation.comparison import compare_runs
from mmvlm.visualization import radar
from mmvlm.visualization.radar import draw_radar

ROOT = Path(__file__).parents[2]


def tool(name, *arguments):
    result = runpy.run_path(str(ROOT / "tools" / name))["main"](
        list(map(str, arguments))
    )
    assert not isinstance(result, str), result
    return result


@pytest.fixture(scope="module")
def runs(config_file, checkpoint, tmp_path_factory):
    """Runs of two models over the same questions, and the data."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_letters(folder / "data")
    content = torch.load(checkpoint)
    for name, value in content["state_dict"].items():
        if name.endswith("lm_head.weight"):
            content["state_dict"][name] = value.roll(1, 1)
    torch.save(content, folder / "other.pth")
    for out, weights in (("a", checkpoint), ("b", folder / "other.pth")):
        options = ["--benchmarks", data / "letters.py", "--data-root", data]
        options += ["--out", folder / out, "--num-workers", 0]
        assert tool("test.py", config_file, weights, *options) == 0
    return folder


def test_test_py_prints_its_table_and_says_where_answers_are(
    runs, config_file, checkpoint, capsys
):
    data = runs / "data"
    arguments = ["--benchmarks", data / "letters.py", "--data-root", data]

    tool("test.py", config_file, checkpoint, *arguments, "--out", runs / "a")

    printed = capsys.readouterr().out
    assert "Letters" in printed and "23/23" in printed and str(runs / "a") in printed

    tool("test.py", config_file, *arguments, "--dry-run")
    assert "23 questions" in capsys.readouterr().out

    with pytest.raises(SystemExit, match="name a checkpoint"):
        tool("test.py", config_file, *arguments)
    with pytest.raises(FileNotFoundError, match="no benchmark or suite 'leters'"):
        tool("test.py", config_file, checkpoint, "--benchmarks", "leters")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model m", "--model says nothing without --server: add it, or leave out"),
        ("--server-key-env K", "--server-key-env says nothing without --server"),
        ("--judge-model m", "--judge-model says nothing without --judge"),
        ("--judge-runs 3", "--judge-runs says nothing without --judge"),
        ("--judge-price 1 2", "--judge-price says nothing without --judge"),
        ("--retries 2", "--retries says nothing without --judge or --server"),
        ("--draw 3", "--draw is of a test_dataloader: leave it out"),
        ("--out o --work-dir w", "leave out --work-dir, or --out"),
        ("--answers empty --batch-tokens 9", "says nothing beside --answers: leave"),
        ("SERVER --batch-tokens 9", "--batch-tokens says nothing beside --server"),
        ("--deterministic --batch-tokens 9", "nothing beside --deterministic"),
        ("SERVER --answers empty", "a server answers by itself. Leave out --answers"),
        ("SERVER --deterministic", "Leave out --deterministic, or --server"),
        ("--answers empty --deterministic", "Leave out --deterministic, or --answers"),
        ("--limit 3 --only letters/3/q1", "Leave out --limit, or --only"),
        ("--limit 0", "limit=0: expected 1 or more"),
        ("--limit -5", "limit=-5: expected 1 or more"),
        ("--judge URL --judge-model m --judge-runs 0", "judge_runs=0: expected 1"),
        ("--server URL", "name the model that is asked"),
        ("--judge URL", "name the model that is asked"),
        ("--judge nobody", "endpoint 'nobody': expected a URL"),
        ("--batch-tokens 0", "expected at least 1 token"),
        ("--answers nowhere.jsonl", "'nowhere.jsonl': expected one of"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry"])
def test_options_that_speak_against_each_other_are_refused(
    runs, config_file, tmp_path, monkeypatch, options, message, dry
):
    """In one line, also by a dry run, before a weight is read or a server asked."""
    monkeypatch.chdir(tmp_path)
    url = "http://localhost:9/v1"
    words = options.replace("SERVER", "--server URL --model m").replace("URL", url)
    asked = ["--benchmarks", runs / "data/letters.py", "--data-root", runs / "data"]

    with pytest.raises((SystemExit, ValueError, OSError), match=message) as found:
        tool("test.py", config_file, "gone.pth", *asked, *words.split(), *dry)

    assert "\n" not in str(found.value) and not list(tmp_path.glob("o*"))


def test_a_dry_run_asks_no_server_and_shows_what_it_would_be_asked(
    config_file, tmp_path, capsys
):
    write_benchmarks(tmp_path, num=14, formats=["pope", "option_tsv"])
    server = ["--server", "http://localhost:9/v1", "--model", "m", "--dry-run"]

    def dry(*options):
        tool("test.py", config_file, "--data-root", tmp_path, *server, *options)

    dry("--benchmarks", "pope")
    assert "    | <image>" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"mmstar: .* a server gives texts alone"):
        dry("--benchmarks", "mmstar", "--rule", "ppl")


def test_rescore_writes_and_reads_files_of_others(runs, capsys):
    tool("analysis/rescore.py", runs / "a", "--out", runs / "rows.json")
    (row,) = json.loads((runs / "rows.json").read_text())
    own = json.loads((runs / "a/letters/results.json").read_text())
    assert row["score"] == own["score"]

    tool("analysis/rescore.py", runs / "a", "--write", "llava", runs / "files")
    path = capsys.readouterr().out.split()[-1]
    with pytest.raises(ValueError, match="is the folder of a run, whose answers are"):
        tool("analysis/rescore.py", runs / "a", "--format", "llava")
    benchmark = ["--benchmark", runs / "data/letters.py", "--format", "llava"]
    tool("analysis/rescore.py", path, *benchmark, "--data-root", runs / "data")
    assert f"{own['score']:.2f}" in capsys.readouterr().out


def test_writing_answers_refuses_every_option_of_scores(runs, tmp_path):
    module = runpy.run_path(str(ROOT / "tools/analysis/rescore.py"))
    values = dict(rule="x", format="llava", draws="7")
    for name in vars(module["parse_args"](["RUN"])):
        if name in ("answers", "write"):
            continue
        option = f"--{name.replace('_', '-')}"
        words = [] if name == "allow_partial" else [values.get(name, "letters")]
        asked = [option, *words, "--write", "llava", str(tmp_path / name)]

        if name in ("benchmark", "allow_partial"):
            assert module["main"]([str(runs / "a"), *asked]) == 0
            assert (tmp_path / name).is_dir()
        else:
            with pytest.raises(SystemExit, match=f"scores nothing: leave out {option}"):
                module["main"]([str(runs / "a"), *asked])
            assert not (tmp_path / name).exists()


def test_two_runs_are_compared_on_a_page_with_their_images(runs, capsys):
    tool("analysis/compare.py", runs / "a", runs / "b", "--out", runs / "page.html")

    assert "letters" in capsys.readouterr().out
    (one,) = compare_runs(runs / "a", runs / "b")
    rows = [json.loads((runs / n / "letters/results.json").read_text()) for n in "ab"]
    assert [one.before, one.after] == [row["score"] for row in rows]
    assert one.difference == pytest.approx(one.after - one.before)
    assert one.low <= one.difference <= one.high and one.flips
    assert one.mcnemar is None  # letters score in between
    page = (runs / "page.html").read_text()
    assert page.count('class="card"') == len(one.flips)
    assert "data:image/png;base64," in page
    assert f"<td>{one.items}</td>" in page


def test_a_page_shows_images_that_lie_inside_tables(config_file, tmp_path):
    write_benchmarks(tmp_path / "data", num=14, formats=["option_tsv"])
    for answers in ("empty", "reference"):
        options = ["--benchmarks", "blink", "--data-root", tmp_path / "data"]
        options += ["--out", tmp_path / answers, "--answers", answers]
        tool("test.py", config_file, *options, "--num-workers", 0)
    page = tmp_path / "page.html"
    runs = [tmp_path / "empty", tmp_path / "reference"]

    def text():
        tool("analysis/compare.py", *runs, "--out", page)
        return page.read_text()

    found = text()
    assert found.count('class="card"') and "acc (exact_matching)" in found
    assert found.count("<img") >= found.count('class="card"')
    (table,) = (tmp_path / "data").rglob("BLINK*.tsv")
    header, _, rows = table.read_bytes().partition(b"\n")
    for damaged in (b"one\ttwo\n1\t2\n", header + b"\nx\n" + rows, b"\xff\x00"):
        table.write_bytes(damaged)
        assert text().count("<img") < found.count("<img")
    (tmp_path / "data").rename(tmp_path / "gone")
    assert "<img" not in text()


def test_kills_that_always_come_too_late_have_an_end(monkeypatch, tmp_path, capsys):
    main = runpy.run_path(str(ROOT / "tools/misc/benchmark_kills.py"))["main"]
    clock = SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic)
    ended = SimpleNamespace(
        poll=lambda: 0, kill=lambda: None, communicate=lambda: ("", ""), returncode=0
    )
    for name, stub in (
        ("time", clock),
        ("start", lambda _, out, size: [ended] * size),
        ("num_answers", lambda out: 9),
    ):
        monkeypatch.setitem(main.__globals__, name, stub)
    options = ["--benchmarks", "pope", "--out", str(tmp_path), "--kills", "2"]

    with pytest.raises(SystemExit, match="0 of 2 kills in 20 starts"):
        main(["config.py", "weights.pth", *options])

    assert capsys.readouterr().out.count("kill 0:") == 20


def test_a_run_against_itself_differs_nowhere(runs):
    (one,) = compare_runs(runs / "a", runs / "a")

    assert (one.difference, one.low, one.high, one.flips) == (0.0, 0.0, 0.0, [])
    assert one.p_value == one.adjusted == 1.0


def test_runs_over_other_questions_are_not_compared(runs, tmp_path):
    folder = tmp_path / "short" / "letters"
    folder.mkdir(parents=True)
    for path in (runs / "a/letters").glob("*.json*"):
        lines = path.read_text().splitlines(keepends=True)
        kept = lines[:-1] if path.suffix == ".jsonl" else lines
        (folder / path.name).write_text("".join(kept))

    with pytest.raises(ValueError, match="23 and 22 questions that are not the same"):
        compare_runs(runs / "a", tmp_path / "short")


def test_benchmarks_are_listed_by_kind(capsys):
    tool("misc/list_components.py", "--kind", "benchmark")

    printed = capsys.readouterr().out
    assert "pope" in printed and "configs/_base_/benchmarks/pope.py" in printed


def test_three_scores_and_more_make_a_figure(tmp_path):
    rows = [
        dict(title=name, score=score, ceiling=100.0, chance=chance, interval=interval)
        for name, score, chance, interval in [
            ("POPE", 80.0, 50.0, [78.0, 82.0]),
            ("GQA", 60.0, None, [59.0, 61.0]),
            ("MME", 1500.0, None, None),
            ("hidden", None, None, None),
        ]
    ]
    rows[2]["ceiling"] = 2000.0

    assert draw_radar(tmp_path / "radar.png", rows)
    assert (tmp_path / "radar.png").read_bytes()[:4] == b"\x89PNG"

    names = radar._names([dict(one, split="val") for one in [*rows, rows[1]]])
    assert names == ["POPE", "GQA val", "MME", "hidden", "GQA val"]
    many = [dict(rows[0], title=f"POPE {number}") for number in range(40)]
    assert draw_radar(tmp_path / "many.png", many)
    assert not draw_radar(tmp_path / "radar.png", rows[1:])
    assert not (tmp_path / "radar.png").exists()
