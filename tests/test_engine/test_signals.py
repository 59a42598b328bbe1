"""Stopped by signals and resumed: the same weights, true exit codes, nobody left."""

import os
import signal

import pytest
import torch
from engine_toys import toy_config
from mmengine.runner import BaseLoop
from test_kill_and_resume import log_tails, losses, steps_logged, wait_while

from mmvlm.engine.runner import build_runner
from mmvlm.engine.runner.checkpoint import load_file
from mmvlm.utils import signals

STEPS = 12


class Validation(BaseLoop):
    """Notes after which epoch it runs; the first is stopped by a signal."""

    epochs: list = []

    def run(self):
        self.epochs.append(self.runner.epoch)
        if len(self.epochs) == 1:
            raise signals.Stopped(signal.SIGTERM)


@pytest.mark.parametrize("interval", [1, None])
def test_a_validation_that_a_signal_stops_is_run_after_the_resume(
    tmp_path, monkeypatch, interval
):
    monkeypatch.setattr(signals._State, "stopped", 0)
    monkeypatch.setattr(Validation, "epochs", [])
    saves = dict(type="VLMCheckpointHook", interval=interval, by_epoch=True)
    for resume in (False, True):
        cfg = toy_config(tmp_path, resume=resume)
        cfg.train_cfg = dict(type="VLMTrainLoop", max_epochs=3, val_interval=1)
        cfg.train_dataloader.dataset.size = 8
        cfg.default_hooks.checkpoint = saves
        runner = build_runner(cfg)
        runner._val_loop = Validation(runner, None)
        runner.train()

        assert (runner.epoch, runner.iter) == ((3, 12) if resume else (1, 4))
    assert Validation.epochs == [1, 1, 2, 3]


def weights(folder):
    return load_file(folder / f"iter_{STEPS}.pth")["state_dict"]


def start(jobs, tmp_path, name, world, workers=0):
    arguments = (tmp_path, "train_as_tool", str(tmp_path / name), STEPS, workers)
    return jobs.start(*arguments, world=world, daemon=False)


def codes_of(processes):
    for process in processes:
        process.join(300)
    return [process.exitcode for process in processes]


def stop_after(jobs, tmp_path, world, goal, number, workers=0):
    """Signal one rank when so many steps are done; returns the log."""
    cut = tmp_path / "cut"
    log = tmp_path / "train_as_tool-rank0.log"
    processes = start(jobs, tmp_path, "cut", world, workers)
    wait_while(lambda: steps_logged(cut) < goal, processes)
    os.kill(processes[-1].pid, number)

    assert codes_of(processes) == [128 + number] * world, log_tails(tmp_path)
    text = log.read_text()
    log.unlink()
    assert "Traceback" not in text, text
    done = int((cut / "last_checkpoint").read_text()[len("iter_") : -len(".pth")])
    assert f"after step {done}, saved in" in text and "add --resume" in text
    assert losses(cut).keys() == set(range(1, done + 1))
    return done


@pytest.mark.slow
@pytest.mark.multiproc
@pytest.mark.parametrize("world", [1, 2])
def test_a_stopped_run_goes_on_to_the_same_weights(jobs, tmp_path, world):
    whole = start(jobs, tmp_path, "whole", world)
    assert codes_of(whole) == [0] * world, log_tails(tmp_path)
    (tmp_path / "train_as_tool-rank0.log").unlink()

    first = stop_after(jobs, tmp_path, world, 2, signal.SIGTERM)
    second = stop_after(jobs, tmp_path, world, first + 2, signal.SIGUSR1, workers=1)
    last = start(jobs, tmp_path, "cut", world)

    assert codes_of(last) == [0] * world, log_tails(tmp_path)
    assert 2 <= first < second < STEPS
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    ours, theirs = weights(tmp_path / "cut"), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
