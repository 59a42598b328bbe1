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


def train_whole(jobs, tmp_path, world, job="train_mixed", steps=STEPS, **options):
    """Train without a kill; returns the seconds of the start-up and of a step."""
    folder, log = tmp_path / "whole", tmp_path / f"{job}-rank0.log"
    arguments = (tmp_path, job, str(folder), steps)
    processes = jobs.start(*arguments, world=world, **options)
    # Jobs begin late while the server is still importing; the log is their start.
    wait_while(lambda: not log.exists(), processes)
    began = time.monotonic()
    wait_while(lambda: not steps_logged(folder), processes)
    first = time.monotonic()
    for process in processes:
        process.join(PATIENCE)
    codes = [process.exitcode for process in processes]
    assert codes == [0] * world, log_tails(tmp_path)
    return first - began, (time.monotonic() - first) / (steps - 1)


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


# Which samples, not only which losses ------------------------------------------

PACKED_STEPS = 12


def rows(path):
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def samples_of(folder, rank):
    """Samples of every step; a step made twice must have held the same ones."""
    steps = {}
    for row in rows(folder / f"samples-rank{rank}.jsonl"):
        facts = (row["epoch"], row["samples"])
        assert steps.setdefault(row["step"], facts) == facts, row["step"]
    return steps


def kill_twice(jobs, tmp_path, world):
    """Kill after some steps, twice, and train to the end; returns the folder."""
    options = dict(world=world, daemon=False)
    seconds = train_whole(
        jobs, tmp_path, job="train_packed", steps=PACKED_STEPS, **options
    )
    rng, cut = random.Random(0), tmp_path / "cut"
    cut.mkdir()
    arguments = (tmp_path, "train_packed", str(cut), PACKED_STEPS)
    for goal in (2, 7):
        processes = jobs.start(*arguments, **options)
        wait_while(lambda goal=goal: steps_logged(cut) < goal, processes)
        time.sleep(rng.uniform(0.0, seconds[1]))
        assert kill_all(processes, tmp_path)
    jobs.check(*arguments, **options)
    return cut


@pytest.mark.slow
@pytest.mark.multiproc
def test_packs_of_five_data_sets_go_on_where_they_were_killed(jobs, tmp_path):
    world = 2
    (tmp_path / "whole").mkdir()
    cut, whole = kill_twice(jobs, tmp_path, world), tmp_path / "whole"

    assert losses(cut) == losses(whole)
    steps = [samples_of(whole, rank) for rank in range(world)]
    assert [samples_of(cut, rank) for rank in range(world)] == steps
    assert set(steps[0]) == set(range(PACKED_STEPS)) and len(steps[0][0][1]) == 2
    epochs = {epoch for epoch, _ in steps[0].values()}
    assert len(epochs) >= 3, epochs
    names = {
        s.split("/")[0] for _, packs in steps[0].values() for p in packs for s in p
    }
    assert names == {f"set-{number}" for number in range(5)}
    assert len({len(p) for _, packs in steps[0].values() for p in packs}) > 1
    # Every sample of an epoch comes on one rank, once.
    for epoch in sorted(epochs)[:-1]:
        seen = samples_before(steps, PACKED_STEPS, epoch)
        assert len(seen) == len(set(seen)) == 25

    # A resumed process loads nothing that was trained on before its start.
    starts = [row for row in rows(cut / "starts.jsonl") if row["start"] > 0]
    assert len(starts) == 2 * world
    for start in starts:
        done = set(samples_before(steps, start["start"]))
        mine = [
            row for row in rows(cut / "fetched.jsonl") if row["run"] == start["run"]
        ]
        assert mine
        assert not {(row["epoch"], row["sample"]) for row in mine} & done


def samples_before(steps, end, epoch=None):
    """(epoch, sample) of all ranks' steps before ``end``."""
    return [
        (at, sample)
        for rank in steps
        for step, (at, packs) in rank.items()
        if step < end and epoch in (None, at)
        for pack in packs
        for sample in pack
    ]
