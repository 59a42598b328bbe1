"""A tiny VLM trains on rows that come one after the other, and resumes exactly."""

import json

import pytest

from mmvlm.config import ConfigError, load_config
from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
from mmvlm.engine.hooks.progress_hook import read_scalars
from mmvlm.engine.runner import build_runner

CONFIG = "configs/tiny/llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"
ROWS, BATCH = 26, 6  # four batches; the two rows left fill none


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    make_tiny_scenes(folder, num_train=20, num_test=9, seed=2)
    records = json.loads((folder / "train.json").read_text())[:ROWS]
    lines = [json.dumps(record) for record in records]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def config(data, work_dir, *, workers=0, **changes):
    cfg = load_config(CONFIG, check=False)
    pipeline = cfg.train_dataloader.dataset.to_dict()["pipeline"]
    dataset = dict(
        type="StreamingDataset",
        source=dict(path="json", data_files=str(data / "rows.jsonl"), split="train"),
        columns=dict(conversations="conversations", image="image", id="id"),
        batch_size=BATCH,
        block_size=12,
        data_root=str(data),
        pipeline=pipeline,
    )
    cfg.train_dataloader = dict(batch_size=BATCH, num_workers=workers, dataset=dataset)
    cfg.train_dataloader.update(changes)
    cfg.tokenizer.name_or_path = str(data / "tokenizer")
    cfg.load_from, cfg.work_dir = None, str(work_dir)
    cfg.train_cfg.max_iters = 6
    cfg.default_hooks.checkpoint = dict(
        type="VLMCheckpointHook", interval=1, max_keep=9
    )
    for name in ("test_dataloader", "test_cfg", "test_evaluator"):
        cfg.pop(name)
    return cfg


def train(cfg):
    """Return what every step read and its loss."""
    runner = build_runner(cfg)
    seen = []
    fetch = runner.train_loop._fetch

    def watched():
        step = fetch()
        seen.append([name for b in step.batches for name in b["inputs"].sample_ids])
        return step

    runner.train_loop._fetch = watched
    runner.train()
    losses = [row["loss"] for row in read_scalars(cfg.work_dir) if "loss" in row]
    return seen, losses, runner


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    work = tmp_path_factory.mktemp("whole")
    return *train(config(data, work)), work


def test_epochs_follow_each_other_in_orders_of_their_own(whole):
    seen, losses, runner, _ = whole

    first = [name for batch in seen[:4] for name in batch]
    assert len(set(first)) == 4 * BATCH and len(losses) >= 1
    assert seen[4] != seen[0]
    assert (runner.train_loop.stream.epoch, runner.train_loop.stream.position) == (1, 2)
    assert runner.train_dataloader.dataset.num_left_out == ROWS - 4 * BATCH


@pytest.mark.parametrize(("step", "workers"), [(2, 0), (3, 2), (5, 1)])
def test_a_resumed_run_goes_on_with_the_next_row(whole, data, tmp_path, step, workers):
    seen, _, runner, work = whole
    cfg = config(data, tmp_path, workers=workers)
    cfg.resume = str(work / f"iter_{step}.pth")

    again, _, resumed = train(cfg)

    assert again == seen[step:]
    for (name, one), (_, other) in zip(
        runner.model.state_dict().items(),
        resumed.model.state_dict().items(),
        strict=True,
    ):
        assert one.equal(other), name


def test_another_order_of_rows_is_not_resumed(whole, data, tmp_path):
    *_, work = whole
    cfg = config(data, tmp_path)
    cfg.train_dataloader.dataset.block_size = 24
    cfg.resume = str(work / "iter_2.pth")

    with pytest.raises(ValueError, match=r"dataset\.block_size: 12 then, 24 now"):
        train(cfg)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(sampler=dict(type="RandomBatchSampler")), "leave sampler out"),
        (dict(batch_size=4), "deals batches of 6; give both one value"),
    ],
)
def test_what_a_stream_cannot_be_told_is_refused(data, tmp_path, changes, message):
    with pytest.raises((ValueError, ConfigError), match=message):
        train(config(data, tmp_path, **changes))


def test_a_stream_counts_steps_and_not_epochs(data, tmp_path):
    cfg = config(data, tmp_path)
    cfg.train_cfg = dict(type="VLMTrainLoop", max_epochs=1)

    with pytest.raises(ValueError, match=r"give train_cfg\.max_iters"):
        train(cfg)


def test_schedules_that_need_an_epochs_length_are_refused(data, tmp_path):
    cfg = config(data, tmp_path)
    cfg.param_scheduler = [dict(type="CosineAnnealingLR", convert_to_iter_based=True)]

    with pytest.raises(ValueError, match="give begin and end in steps"):
        train(cfg)


def test_too_few_rows_for_a_batch_are_an_error(data, tmp_path):
    lines = (data / "rows.jsonl").read_text().splitlines()[:4]
    (tmp_path / "few.jsonl").write_text("\n".join(lines) + "\n")
    cfg = config(data, tmp_path)
    cfg.train_dataloader.dataset.source.data_files = str(tmp_path / "few.jsonl")

    with pytest.raises(ValueError, match="fewer rows than batch_size"):
        train(cfg)
