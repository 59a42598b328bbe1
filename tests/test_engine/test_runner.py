"""Runs in one process: steps, epochs, resume, hooks, files."""

import json
import math

import pytest
import torch
from engine_toys import ToyDataset, toy_config
from mmengine.config import Config

from mmvlm.engine.hooks.progress_hook import read_scalars
from mmvlm.engine.runner import VLMRunner, build_runner
from mmvlm.engine.runner.checkpoint import load_file
from mmvlm.engine.runner.dataloader import build_dataloader
from mmvlm.engine.runner.rng import get_rng_state, preserved_rng, set_rng_state
from mmvlm.engine.runner.setup import check_batch_size, load_initial_weights
from mmvlm.engine.runner.stream import MicroBatchStream
from mmvlm.registry import RUNNERS


def train(cfg):
    runner = build_runner(cfg)
    runner.train()
    return runner


def losses(folder):
    return {row["step"]: row["loss"] for row in read_scalars(folder) if "loss" in row}


@pytest.fixture
def quiet(monkeypatch):
    """Skip what mmengine finds out about the machine at every start."""
    from mmengine._strategy import base

    monkeypatch.setattr(base, "collect_env", dict)


def test_run_writes_weights_curves_and_provenance(tmp_path, quiet):
    runner = train(toy_config(tmp_path))

    rows = read_scalars(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(row["loss"]) for row in rows)
    names = {"tokens_per_second", "trained_tokens_per_second", "samples_per_second"}
    names |= {"memory_gib", "data_wait_fraction", "lr", "padding_fraction"}
    assert names <= set(rows[0])
    found = {path.name for path in tmp_path.iterdir()}
    assert {"config.py", "run.json", "loss.png", "last_checkpoint"} <= found
    assert (tmp_path / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert Config.fromfile(tmp_path / "config.py").train_cfg.max_iters == 6
    start = json.loads((tmp_path / "run.json").read_text())[0]
    # The metadata of a wheel may leave out what the build is for ("+cu130").
    assert torch.__version__.startswith(start["versions"]["torch"])
    assert start["seed"] == 0
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == [
        "iter_2.pth",
        "iter_4.pth",
        "iter_6.pth",
    ]
    assert runner.train_loop.completed_steps == 6


def test_logged_loss_is_the_mean_over_trained_tokens(tmp_path, quiet):
    cfg = toy_config(tmp_path)
    cfg.optim_wrapper.accumulative_counts = 3
    cfg.optim_wrapper.optimizer.lr = 0.0
    cfg.train_cfg.max_iters = 2
    runner = train(cfg)

    loader = runner.train_dataloader
    plan = loader.batch_sampler.plan(0)[:3]
    total = count = 0
    for batch in plan:
        data = loader.collate_fn([loader.dataset[i] for i in batch])
        mean = runner.model(data["inputs"])["loss"].item()
        total += mean * data["inputs"].text.num_targets
        count += data["inputs"].text.num_targets

    assert losses(tmp_path)[1] == pytest.approx(total / count, rel=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_from_every_step_repeats_the_losses(tmp_path, quiet, workers):
    def config(name, **changes):
        cfg = toy_config(tmp_path / name, **changes)
        cfg.model.dropout = 0.3
        cfg.train_dataloader.dataset.size = 12
        cfg.train_dataloader.num_workers = workers
        cfg.train_dataloader.persistent_workers = workers > 0
        cfg.optim_wrapper.accumulative_counts = 4
        cfg.default_hooks.checkpoint = dict(
            type="VLMCheckpointHook", interval=1, max_keep=-1
        )
        cfg.train_cfg = dict(type="VLMTrainLoop", max_epochs=3)
        cfg.param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.2)]
        return cfg

    train(config("whole"))
    expected = losses(tmp_path / "whole")

    assert len(expected) == 5  # 18 micro-batches in steps of four, the last has two
    for step in (1, 2, 3, 4) if workers == 0 else (2,):
        path = str(tmp_path / "whole" / f"iter_{step}.pth")
        train(config(f"from-{step}", resume=path))
        found = losses(tmp_path / f"from-{step}")
        assert found == {k: v for k, v in expected.items() if k > step}


def test_resume_auto_starts_anew_without_a_checkpoint_and_continues_with(
    tmp_path, quiet
):
    cfg = toy_config(tmp_path, resume="auto")
    cfg.train_cfg.max_iters = 2
    train(cfg)
    cfg = toy_config(tmp_path, resume="auto")
    cfg.train_cfg.max_iters = 4

    train(cfg)

    assert sorted(losses(tmp_path)) == [1, 2, 3, 4]
    starts = json.loads((tmp_path / "run.json").read_text())
    assert [start["first_step"] for start in starts] == [0, 2]


def test_trainable_only_checkpoint_resumes_with_recreated_parts(tmp_path, quiet):
    def config(name, **changes):
        cfg = toy_config(tmp_path / name, **changes)
        cfg.default_hooks.checkpoint = dict(
            type="VLMCheckpointHook", interval=2, trainable_only=True
        )
        return cfg

    train(config("whole"))
    path = str(tmp_path / "whole" / "iter_2.pth")
    content = load_file(path)
    train(config("resumed", resume=path))
    other = config("other", resume=path)
    other.randomness.seed = 5

    assert not any(k.startswith("vision_encoder") for k in content["state_dict"])
    expected = losses(tmp_path / "whole")
    assert losses(tmp_path / "resumed") == {k: expected[k] for k in (3, 4, 5, 6)}
    with pytest.raises(ValueError, match=r"\['vision_encoder'\] are not those"):
        train(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.train_dataloader.dataset.update(size=30),
            "stream_length: 20 then",
        ),
        (
            lambda c: c.optim_wrapper.update(accumulative_counts=2),
            "accumulation: 1 then",
        ),
        (
            lambda c: c.model.update(train_parts=dict(vision_encoder=True)),
            "parameter groups differ",
        ),
        (lambda c: c.update(resume="nowhere.pth"), r"'nowhere\.pth' does not exist"),
    ],
)
def test_run_that_cannot_be_resumed_exactly_says_why(tmp_path, quiet, change, message):
    cfg = toy_config(tmp_path / "a")
    cfg.train_cfg.max_iters = 2
    train(cfg)
    cfg = toy_config(tmp_path / "b", resume=str(tmp_path / "a" / "iter_2.pth"))
    change(cfg)

    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(cfg)


def test_weights_alone_cannot_be_resumed_but_started_from(tmp_path, quiet):
    cfg = toy_config(tmp_path / "a")
    cfg.train_cfg.max_iters = 2
    cfg.default_hooks.checkpoint = dict(type="VLMCheckpointHook", save_optimizer=False)
    source = train(cfg).model
    path = str(tmp_path / "a" / "iter_2.pth")

    with pytest.raises(ValueError, match="no training state of mmvlm"):
        train(toy_config(tmp_path / "b", resume=path))
    cfg = toy_config(tmp_path / "c", load_from=dict(path=path, parts=["connector"]))
    cfg.optim_wrapper.optimizer.lr = 0.0
    cfg.randomness.seed = 9
    target = train(cfg).model

    assert torch.equal(source.connector[0].weight, target.connector[0].weight)
    assert not torch.equal(source.vision_encoder.weight, target.vision_encoder.weight)


def test_load_from_a_work_dir_takes_its_newest_checkpoint(tmp_path, quiet):
    source = train(toy_config(tmp_path / "a")).model
    target = toy_config(tmp_path / "b", load_from=str(tmp_path / "a"))
    target.optim_wrapper.optimizer.lr = 0.0
    target.randomness.seed = 9

    loaded = train(target).model.state_dict()

    assert all(torch.equal(loaded[k], v) for k, v in source.state_dict().items())


def test_load_from_without_a_checkpoint_names_the_key(tmp_path):
    (tmp_path / "iter_3.pth").touch()
    model = torch.nn.Module()

    with pytest.raises(
        FileNotFoundError, match=r"^load_from: '.*' holds no .*: \['iter_3\.pth'\]"
    ):
        load_initial_weights(model, dict(path=str(tmp_path), parts=["connector"]))
    with pytest.raises(
        FileNotFoundError, match=r"^load_from\.0: checkpoint '.*gone' does not exist"
    ):
        load_initial_weights(model, [str(tmp_path / "gone")])
    (tmp_path / "last_checkpoint").write_text("iter_9.pth")
    with pytest.raises(FileNotFoundError, match=r"names 'iter_9\.pth', which is not"):
        load_initial_weights(model, str(tmp_path))


def test_unknown_key_of_load_from_is_refused():
    with pytest.raises(ValueError, match=r"unknown: \['part'\]"):
        load_initial_weights(torch.nn.Module(), dict(path="a", part=["b"]))


def test_non_finite_loss_stops_before_the_optimizer(tmp_path, quiet):
    cfg = toy_config(tmp_path)
    cfg.model.poison = "toy-7"
    cfg.train_cfg.max_iters = 20
    runner = build_runner(cfg)

    with pytest.raises(RuntimeError, match=r"loss is nan in optimizer step.*toy-7"):
        runner.train()

    assert all(torch.isfinite(p).all() for p in runner.model.parameters())


def test_old_checkpoints_and_torn_files_are_removed(tmp_path, quiet):
    (tmp_path / ".iter_1.pth.99.tmp").write_bytes(b"torn")
    cfg = toy_config(tmp_path)
    cfg.default_hooks.checkpoint = dict(
        type="VLMCheckpointHook", interval=1, max_keep=2
    )
    train(cfg)

    names = sorted(p.name for p in tmp_path.iterdir() if ".pth" in p.name)
    assert names == ["iter_5.pth", "iter_6.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "iter_6.pth"


@pytest.mark.parametrize(
    ("train_cfg", "message"),
    [
        (dict(), "give one of max_epochs and max_iters"),
        (dict(max_epochs=1, max_iters=1), "give one of max_epochs and max_iters"),
    ],
)
def test_length_of_a_run_is_given_once(tmp_path, quiet, train_cfg, message):
    cfg = toy_config(tmp_path, train_cfg=dict(type="VLMTrainLoop", **train_cfg))

    with pytest.raises(ValueError, match=message):
        build_runner(cfg).train()


@pytest.mark.parametrize(
    ("changes", "strategy"),
    [
        (dict(), "VLMSingleDeviceStrategy"),
        (dict(launcher="none", runner_type="Runner"), "VLMSingleDeviceStrategy"),
        (dict(runner_type="VLMFlexibleRunner"), "VLMSingleDeviceStrategy"),
        (dict(strategy=dict(type="VLMDDPStrategy")), "VLMDDPStrategy"),
    ],
)
def test_one_runner_serves_configs_with_and_without_a_strategy(
    tmp_path, quiet, changes, strategy
):
    runner = train(toy_config(tmp_path / "run", **changes))

    assert type(runner) is VLMRunner
    assert type(runner.strategy).__name__ == strategy
    assert runner.launcher == "none" and not runner.distributed
    train(toy_config(tmp_path / "plain"))
    assert losses(tmp_path / "run") == losses(tmp_path / "plain")


def test_another_runner_and_an_unknown_strategy_are_named(tmp_path, quiet):
    @RUNNERS.register_module(force=True)
    class OwnRunner(VLMRunner):
        pass

    assert (
        type(build_runner(toy_config(tmp_path, runner_type="OwnRunner"))) is OwnRunner
    )
    with pytest.raises(KeyError, match="'OwnRuner'"):
        build_runner(toy_config(tmp_path, runner_type="OwnRuner"))
    # mmengine's own knows neither our checkpoints nor where weights are loaded.
    with pytest.raises(KeyError, match=r"strategy\.type='DDPStrategy': no such"):
        build_runner(toy_config(tmp_path, strategy=dict(type="DDPStrategy")))


def test_a_compiled_step_gives_the_same_losses(tmp_path, quiet, monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "compile", lambda f, **k: seen.append(k) or f)
    train(toy_config(tmp_path / "compiled", compile=dict(dynamic=True)))
    train(toy_config(tmp_path / "plain"))

    assert seen == [dict(dynamic=True)]
    assert losses(tmp_path / "compiled") == losses(tmp_path / "plain")


def test_the_learning_rate_can_be_scaled_with_the_batch(tmp_path, quiet):
    cfg = toy_config(tmp_path)
    base = cfg.train_dataloader.batch_size * 4
    cfg.auto_scale_lr = dict(enable=True, base_batch_size=base)
    rate = cfg.optim_wrapper.optimizer.lr
    runner = train(cfg)

    assert runner.optim_wrapper.param_groups[0]["lr"] == pytest.approx(rate / 4)


def test_a_run_without_a_part_of_its_config_says_which(tmp_path, quiet):
    runner = build_runner(toy_config(tmp_path))

    with pytest.raises(RuntimeError, match=r"val\(\) needs val_cfg"):
        runner.val()
    with pytest.raises(RuntimeError, match=r"test\(\) needs test_cfg"):
        runner.test()


def test_sampler_that_cannot_be_resumed_is_refused():
    loader = torch.utils.data.DataLoader(ToyDataset(), batch_size=2)

    with pytest.raises(TypeError, match="BatchSampler cannot be resumed"):
        MicroBatchStream(loader)


def test_stream_goes_on_into_the_next_epoch_and_seeks_without_replay():
    cfg = toy_config("unused").train_dataloader
    stream = MicroBatchStream(build_dataloader(cfg, seed=0))
    walked = [stream.next()["inputs"].text.input_ids for _ in range(45)]
    other = MicroBatchStream(build_dataloader(cfg, seed=0))
    other.seek(1, 3)

    assert (stream.epoch, stream.position) == (2, 5)
    loaded = []
    fetch = ToyDataset.__getitem__
    ToyDataset.__getitem__ = lambda self, i: loaded.append(i) or fetch(self, i)
    try:
        found = other.next()["inputs"].text.input_ids
    finally:
        ToyDataset.__getitem__ = fetch
    assert torch.equal(found, walked[23]) and len(loaded) == 2


def test_unknown_sampler_and_collate_are_named():
    cfg = toy_config("unused").train_dataloader

    with pytest.raises(KeyError, match=r"sampler\.type='Nope': no such sampler"):
        build_dataloader(dict(cfg, sampler=dict(type="Nope")))
    with pytest.raises(KeyError, match=r"collate_fn\.type='nope': no such function"):
        build_dataloader(dict(cfg, collate_fn=dict(type="nope")))


def test_random_state_survives_a_round_trip_and_a_detour():
    state = get_rng_state()
    first = torch.rand(2).tolist(), torch.randint(9, (2,)).tolist()
    set_rng_state(state)
    with preserved_rng():
        torch.rand(7)

    assert (torch.rand(2).tolist(), torch.randint(9, (2,)).tolist()) == first


def test_global_batch_is_compared_with_the_one_of_the_learning_rate(caplog):
    cfg = Config(dict(base_batch_size=128))
    texts = []
    import mmvlm.engine.runner.setup as setup

    original = setup.print_log
    setup.print_log = lambda text, *rest: texts.append(text)
    try:
        check_batch_size(cfg, dict(batch_size=4), 2, 2)
        check_batch_size(cfg, dict(batch_size=16), 1, 8)
    finally:
        setup.print_log = original

    assert "= 16 samples, but the learning rate was chosen for 128" in texts[0]
    assert "accumulative_counts=16" in texts[0]
    assert texts[1] == "Global batch: 8 ranks x 16 x 1 = 128 samples."


@pytest.mark.parametrize("length", [dict(max_epochs=2), dict(max_iters=40)])
def test_a_validation_that_a_signal_ends_is_run_after_the_resume(
    tmp_path, monkeypatch, length
):
    from mmengine.runner import BaseLoop

    from mmvlm.utils import signals

    class Validation(BaseLoop):
        def __init__(self, stops):
            self.stops, self.steps = stops, []

        def run(self):
            self.steps.append(runner.train_loop.iter)
            if self.stops:
                raise signals.Stopped(15)

    found = []
    monkeypatch.setattr(signals._State, "stopped", 0)
    for stops in (True, False):
        cfg = toy_config(tmp_path, resume="auto" if found else False)
        interval = 1 if "max_epochs" in length else 20
        cfg.train_cfg = dict(type="VLMTrainLoop", val_interval=interval, **length)
        cfg.default_hooks.checkpoint = dict(type="VLMCheckpointHook", interval=100)
        runner = build_runner(cfg)
        runner._val_loop = Validation(stops)
        runner.train()
        found.append(runner.val_loop.steps)

    assert found == [[20], [20, 40]]
