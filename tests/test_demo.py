"""The demo's whole road in the small: data, four trainings, tests, chat, report."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def demo(work_dir, *arguments):
    command = [sys.executable, "tools/demo.py", "--work-dir", str(work_dir)]
    size = ("--iters", "2", "--num", "200", "--num-test", "18")
    return subprocess.run(
        [*command, *size, *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    work = tmp_path_factory.mktemp("demo")
    result = demo(work)
    assert result.returncode == 0, result.stdout + result.stderr
    return work, result.stdout


def test_every_stage_runs_and_the_report_is_written(finished):
    work, output = finished

    assert "[9/9] Report" in output
    summary = json.loads((work / "data" / "tiny_scenes.json").read_text())
    assert summary["prompted_share"] > 0
    for task in ("caption", "existence", "pointing", "overall"):
        assert f"\n{task}" in output
    for name in ("test", "blind"):
        rows = (work / f"{name}.jsonl").read_text().splitlines()
        assert len(rows) == 18
    metrics = json.loads((work / "test.json").read_text())["metrics"]
    assert metrics["tiny_scenes/num"] == 18
    assert (work / "report.html").stat().st_size > 10_000
    assert len(list(work.glob("*.png"))) >= 2
    assert (work / "llava-hf" / "config.json").is_file()


def test_a_finished_stage_is_skipped_and_a_missing_one_done_again(finished):
    work, _ = finished
    (work / "finished" / "chat.json").unlink()

    result = demo(work)

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("done before") == 7
    assert "[7/9] Chat\n" in result.stdout.replace("\r", "")


def test_a_failing_stage_shows_its_output_and_how_to_go_on(tmp_path):
    (tmp_path / "finished").mkdir()
    (tmp_path / "finished" / "data.json").write_text('{"seconds": 1}')

    result = demo(tmp_path)

    assert result.returncode != 0
    assert "go on from the last finished stage" in result.stderr
    assert "phrases.json" in result.stdout


# Without running a stage ---------------------------------------------------------


def load_demo():
    return runpy.run_path(str(ROOT / "tools" / "demo.py"))


def test_the_words_of_the_process_that_failed_first_are_shown(tmp_path):
    log = tmp_path / "log"
    log.write_text("first try\n")
    begin = log.stat().st_size
    with log.open("a") as file:
        file.write(
            "[default0]:all is well\n[default1]:disk full\n"
            "E1 api.py:1] failed (exitcode: -6) local_rank: 1 (pid: 2) of binary\n"
            "ChildFailedError\nrank : 1 (local_rank: 1)\n"
        )

    lines = load_demo()["last_words"](log, begin)

    assert lines == ["disk full", "failed (exitcode: -6) local_rank: 1"]


def test_a_stage_with_its_last_checkpoint_is_done_whatever_the_exit_code(
    tmp_path, monkeypatch, capsys
):
    module = load_demo()
    demo = module["Demo"](module["parse_args"](["--work-dir", str(tmp_path)]))
    demo.args.iters = 3
    folder = demo.folder("text")
    folder.mkdir()
    log = folder.with_suffix(".log")
    log.write_text("an earlier try\n")

    def train(*arguments, **options):
        (folder / "iter_3.pth").touch()
        (folder / "last_checkpoint").write_text("iter_3.pth")
        (folder / "scalars.jsonl").write_text('{"step": 3, "loss": 0.5}\n')
        return subprocess.CompletedProcess(arguments, -6)

    monkeypatch.setattr(subprocess, "run", train)
    assert not demo.is_trained("text")
    demo.train("text", 1)
    monkeypatch.setattr(subprocess, "run", None)  # trained: not run again
    demo.train("text", 1)

    assert "complete, though it ended with -6" in capsys.readouterr().out
    assert log.read_text().startswith("an earlier try\n")
    demo.args.iters = 4
    assert not demo.is_trained("text")
