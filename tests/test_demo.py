"""The demo's whole road in the small: data, four trainings, tests, chat, report."""

import json
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
