"""Killed at random moments and resumed: the same losses to the last bit."""

import json
import random
import time

import pytest

STEPS = 16


def losses(folder):
    rows = [json.loads(line) for line in (folder / "scalars.jsonl").open()]
    return {row["step"]: row["loss"] for row in rows}


def kill_and_resume(jobs, tmp_path, world, kills):
    start = time.monotonic()
    jobs.check(tmp_path, "train_mixed", str(tmp_path / "whole"), STEPS, world=world)
    duration = time.monotonic() - start
    expected = losses(tmp_path / "whole")
    assert sorted(expected) == list(range(1, STEPS + 1))
    assert len(set(expected.values())) == STEPS

    rng = random.Random(0)
    cut = tmp_path / "cut"
    killed, steps_at_kill = 0, []
    while killed < kills:
        processes = jobs.start(tmp_path, "train_mixed", str(cut), STEPS, world=world)
        moment = time.monotonic() + rng.uniform(0.15, 0.6) * duration
        while time.monotonic() < moment and processes[0].is_alive():
            time.sleep(0.01)
        alive = all(process.is_alive() for process in processes)
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        killed += alive
        note = cut / "last_checkpoint"
        done = int(note.read_text()[5:-4]) if note.exists() else 0
        steps_at_kill.append(done)
        if done == STEPS:  # finished before all kills: start over, keep counting
            assert losses(cut) == expected
            cut = tmp_path / f"cut-{killed}"
    jobs.check(tmp_path, "train_mixed", str(cut), STEPS, world=world)

    assert losses(cut) == expected
    assert len(set(steps_at_kill)) > 2, steps_at_kill


@pytest.mark.slow
@pytest.mark.multiproc
def test_ten_kills_of_one_process_change_no_loss(jobs, tmp_path):
    kill_and_resume(jobs, tmp_path, world=1, kills=10)


@pytest.mark.slow
@pytest.mark.multiproc
def test_ten_kills_of_two_processes_change_no_loss(jobs, tmp_path):
    kill_and_resume(jobs, tmp_path, world=2, kills=10)
