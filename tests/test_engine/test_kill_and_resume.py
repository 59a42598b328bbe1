"""Killed at random moments and resumed: the same losses to the last bit."""

import json
import random
import time

import pytest

STEPS = 16
KILLS = 10


def losses(folder):
    lines = (folder / "scalars.jsonl").read_text().splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return {row["step"]: row["loss"] for row in rows}


def steps_logged(folder):
    path = folder / "scalars.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def wait_for_moment(rng, processes, folder, kill):
    """Wait for a random moment: in start-up, between steps, or while saving."""
    if kill % 5 == 2:
        time.sleep(rng.uniform(0.0, 2.0))
        return
    goal = steps_logged(folder) + rng.choice([1, 1, 1, 2])
    while steps_logged(folder) < goal and all(p.is_alive() for p in processes):
        time.sleep(0.002)
    time.sleep(rng.uniform(0.0, 0.1))


def kill_and_resume(jobs, tmp_path, world):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    jobs.check(tmp_path, "train_mixed", str(whole), STEPS, world=world)
    expected = losses(whole)
    assert sorted(expected) == list(range(1, STEPS + 1))
    assert len(set(expected.values())) == STEPS

    rng = random.Random(0)
    reached = []
    for kill in range(KILLS):
        processes = jobs.start(tmp_path, "train_mixed", str(cut), STEPS, world=world)
        wait_for_moment(rng, processes, cut, kill)
        assert all(process.is_alive() for process in processes)
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        reached.append(steps_logged(cut))
        for step, loss in losses(cut).items() if reached[-1] else ():
            assert loss == expected[step], (kill, step)
    jobs.check(tmp_path, "train_mixed", str(cut), STEPS, world=world)

    assert losses(cut) == expected
    assert len(set(reached)) >= 5, reached


@pytest.mark.slow
@pytest.mark.multiproc
def test_ten_kills_of_one_process_change_no_loss(jobs, tmp_path):
    kill_and_resume(jobs, tmp_path, world=1)


@pytest.mark.slow
@pytest.mark.multiproc
def test_ten_kills_of_two_processes_change_no_loss(jobs, tmp_path):
    kill_and_resume(jobs, tmp_path, world=2)
