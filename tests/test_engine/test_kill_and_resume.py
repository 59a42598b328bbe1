"""Killed at random moments and resumed: the same losses to the last bit."""

import json
import random
import signal
import time

import pytest

STEPS = 24
KILLS = 10
PATIENCE = 600  # seconds


def losses(folder):
    lines = (folder / "scalars.jsonl").read_text().splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return {row["step"]: row["loss"] for row in rows}


def steps_logged(folder):
    path = folder / "scalars.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def log_tails(tmp_path):
    logs = sorted(tmp_path.glob("*.log"))
    return "\n".join(f"{log.name}:\n{log.read_text()[-3000:]}" for log in logs)


def wait_while(condition, processes):
    """Wait for something that the processes do, or for the end of one of them."""
    deadline = time.monotonic() + PATIENCE
    while condition() and all(process.is_alive() for process in processes):
        assert time.monotonic() < deadline, "the processes hang"
        time.sleep(0.002)


def train_whole(jobs, tmp_path, world):
    """Train without a kill; returns the seconds of the start-up and of a step."""
    folder, log = tmp_path / "whole", tmp_path / "train_mixed-rank0.log"
    processes = jobs.start(tmp_path, "train_mixed", str(folder), STEPS, world=world)
    # Jobs begin late while the server is still importing; the log is their start.
    wait_while(lambda: not log.exists(), processes)
    began = time.monotonic()
    wait_while(lambda: not steps_logged(folder), processes)
    first = time.monotonic()
    for process in processes:
        process.join(PATIENCE)
    codes = [process.exitcode for process in processes]
    assert codes == [0] * world, log_tails(tmp_path)
    return first - began, (time.monotonic() - first) / (STEPS - 1)


def wait_for_moment(rng, processes, folder, kill, seconds):
    """Wait for a random moment: in start-up, between steps, or while saving."""
    start_up, step = seconds
    if kill % 5 == 2:
        time.sleep(rng.uniform(0.0, start_up))
        return
    goal = steps_logged(folder) + rng.choice([1, 1, 1, 2])
    wait_while(lambda: steps_logged(folder) < goal, processes)
    time.sleep(rng.uniform(0.0, step))


def kill_all(processes, tmp_path):
    """Kill at once; False when the run had come to its end before."""
    codes = [process.exitcode for process in processes]
    assert set(codes) <= {None, 0}, log_tails(tmp_path)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
    # The others may see the first one die before their own signal comes.
    return processes[0].exitcode == -signal.SIGKILL


def kill_and_resume(jobs, tmp_path, world):
    """Kill a run ten times; one that ends before is checked and begun anew.

    Returns the losses of the run that was killed last and resumed to its end, those
    of the run that nobody touched, and how far it had come at every kill.

    How far a run gets between two kills depends on the machine, so no fixed number
    of steps is sure to be long enough for ten of them.
    """
    seconds = train_whole(jobs, tmp_path, world)
    expected = losses(tmp_path / "whole")
    assert sorted(expected) == list(range(1, STEPS + 1))
    assert len(set(expected.values())) == STEPS

    rng = random.Random(0)
    reached, runs, kill = [], 1, 0
    while kill < KILLS:
        cut = tmp_path / f"cut{runs}"
        processes = jobs.start(tmp_path, "train_mixed", str(cut), STEPS, world=world)
        wait_for_moment(rng, processes, cut, kill, seconds)
        if kill_all(processes, tmp_path):
            kill += 1
            reached.append((runs, steps_logged(cut)))
            for step, loss in losses(cut).items() if reached[-1][1] else ():
                assert loss == expected[step], (kill, step)
        else:
            assert losses(cut) == expected
            runs += 1
            assert runs <= KILLS, reached
    cut = tmp_path / f"cut{runs}"
    jobs.check(tmp_path, "train_mixed", str(cut), STEPS, world=world)

    return losses(cut), expected, reached


@pytest.mark.slow
@pytest.mark.multiproc
def test_ten_kills_of_one_process_change_no_loss(jobs, tmp_path):
    resumed, expected, reached = kill_and_resume(jobs, tmp_path, world=1)

    assert resumed == expected
    assert len(set(reached)) >= 5, reached


@pytest.mark.slow
@pytest.mark.multiproc
def test_ten_kills_of_two_processes_change_no_loss(jobs, tmp_path):
    resumed, expected, reached = kill_and_resume(jobs, tmp_path, world=2)

    assert resumed == expected
    assert len(set(reached)) >= 5, reached
