"""A run resumed with other settings: refused by name, or taken over and said."""

import inspect
import json
import logging
import shutil

import pytest
import torch
from engine_toys import toy_config

from mmvlm.datasets.mixture import MixtureDataset
from mmvlm.engine.hooks.progress_hook import read_scalars
from mmvlm.engine.optimizers import optim_wrapper
from mmvlm.engine.optimizers.schedulers import warmup_cosine
from mmvlm.engine.runner import build_runner
from mmvlm.engine.runner.checkpoint import load_file
from mmvlm.engine.runner.identity import data_facts, run_settings
from mmvlm.engine.runner.resume import identity_changes
from mmvlm.registry import DATASETS


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Skip what mmengine finds out about the machine at every start."""
    from mmengine._strategy import base

    monkeypatch.setattr(base, "collect_env", dict)


def config(folder, **changes):
    cfg = toy_config(folder, **changes)
    cfg.param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.0)]
    return cfg


def train(cfg):
    runner = build_runner(cfg)
    runner.train()
    return runner


@pytest.fixture
def saved(tmp_path):
    """Checkpoint of step 4 of a run of 6 steps."""
    train(config(tmp_path / "whole"))
    return str(tmp_path / "whole" / "iter_4.pth")


CHANGES = {
    "optim_wrapper.optimizer.lr: 0.01 then, 0.001 now": lambda c: (
        c.optim_wrapper.optimizer.update(lr=1e-3)
    ),
    "optim_wrapper.optimizer.weight_decay": lambda c: (
        c.optim_wrapper.optimizer.update(weight_decay=0.3)
    ),
    "optim_wrapper.optimizer.betas": lambda c: (
        c.optim_wrapper.optimizer.update(betas=(0.8, 0.9))
    ),
    "optim_wrapper.clip_grad.max_norm": lambda c: (
        c.optim_wrapper.update(clip_grad=dict(max_norm=0.5))
    ),
    "optim_wrapper.dtype: .* then, 'bfloat16' now": lambda c: (
        c.optim_wrapper.update(dtype="bfloat16")
    ),
    "param_scheduler.0.warmup_ratio: 0.0 then, 0.5 now": lambda c: (
        c.param_scheduler[0].update(warmup_ratio=0.5)
    ),
    "randomness.seed: 0 then, 3 now": lambda c: c.randomness.update(seed=3),
    "model.dropout": lambda c: c.model.update(dropout=0.2),
    "accumulation: 1 then, 2 now": lambda c: (
        c.optim_wrapper.update(accumulative_counts=2)
    ),
    "data.rows: 40 then, 30 now": lambda c: (
        c.train_dataloader.dataset.update(size=30)
    ),
}


@pytest.mark.parametrize("said", CHANGES)
def test_changed_setting_is_refused_by_name(tmp_path, saved, said):
    cfg = config(tmp_path / "again", resume=saved)
    CHANGES[said](cfg)

    with pytest.raises(ValueError, match=f"(?s)cannot resume .*{said}.*--resume-with"):
        train(cfg)


@pytest.mark.parametrize("emulated", [True, False])
def test_auto_is_the_precision_that_it_stands_for(emulated, monkeypatch):
    """A run is not resumed on a machine that would compute it otherwise."""
    monkeypatch.setattr(optim_wrapper, "emulates_bfloat16", lambda: emulated)

    settings = run_settings(dict(optim_wrapper=dict(dtype="auto")))

    assert settings == ({} if emulated else {"optim_wrapper.dtype": "bfloat16"})


@pytest.mark.parametrize("said", [one for one in CHANGES if "dtype" not in one])
def test_changes_are_taken_over_when_asked_for(tmp_path, saved, said):
    cfg = config(tmp_path / "again", resume=saved, resume_with_changes=True)
    CHANGES[said](cfg)
    base = cfg.optim_wrapper.optimizer
    warmup = cfg.param_scheduler[0].warmup_ratio

    runner = train(cfg)

    group = runner.optim_wrapper.param_groups[0]
    assert group["initial_lr"] == base.lr
    assert group["weight_decay"] == base.get("weight_decay", 0.0)
    assert tuple(group["betas"]) == tuple(base.get("betas", (0.9, 0.999)))
    rates = {row["step"]: row["lr"] for row in read_scalars(tmp_path / "again")}
    for step in (5, 6):
        expected = base.lr * warmup_cosine(step - 1, 6, warmup)
        assert rates[step] == pytest.approx(expected, rel=1e-4, abs=1e-9)
    assert sorted(rates) == [5, 6]


@pytest.fixture
def said(monkeypatch):
    """What is logged, whatever stream the logger was made with."""
    texts, handle = [], logging.Logger.handle

    def note(self, record):
        texts.append(record.getMessage())
        handle(self, record)

    monkeypatch.setattr(logging.Logger, "handle", note)
    return texts


@pytest.mark.parametrize("other", [None, dict(type="LinearLR", start_factor=0.1)])
def test_longer_run_reaches_the_new_end_and_says_so(tmp_path, saved, other, said):
    cfg = config(tmp_path / "again", resume=saved)
    cfg.train_cfg.max_iters = 12
    if other is not None:
        cfg.resume_with_changes = True
        cfg.param_scheduler = [dict(other, end=12, by_epoch=False)]

    runner = train(cfg)

    assert "train_cfg.max_iters: 6 then, 12 now" in "\n".join(said)
    rates = {row["step"]: row["lr"] for row in read_scalars(tmp_path / "again")}
    assert sorted(rates) == list(range(5, 13))
    if other is None:
        expected = [0.01 * warmup_cosine(step, 12, 0.0) for step in range(4, 12)]
        assert list(rates.values()) == pytest.approx(expected, rel=1e-4, abs=1e-9)
    else:
        assert rates[12] > rates[8] > rates[5] > 1e-3
    assert runner.train_loop.iter == 12


def test_longer_run_by_epochs_with_other_batches_goes_on_at_its_place(tmp_path, said):
    def by_epochs(name, batch, **changes):
        cfg = config(tmp_path / name, **changes)
        cfg.train_cfg = dict(type="VLMTrainLoop", max_epochs=2)
        cfg.train_dataloader.batch_size = batch
        cfg.default_hooks.checkpoint = dict(
            type="VLMCheckpointHook", interval=2, max_keep=-1
        )
        return cfg

    train(by_epochs("whole", 2))
    path = str(tmp_path / "whole" / "iter_30.pth")  # 1.5 of 2 epochs of 20 steps

    runner = train(by_epochs("again", 4, resume=path, resume_with_changes=True))

    text = "after 15 optimizer steps, counted anew: 30 steps when it was saved."
    assert text in "\n".join(said)
    (kept,) = (hook.kept for hook in runner.hooks if hasattr(hook, "kept"))
    assert kept == [f"iter_{step}.pth" for step in range(2, 21, 2)]
    rows = read_scalars(tmp_path / "again")
    assert [row["step"] for row in rows] == [16, 17, 18, 19, 20]
    assert runner.train_loop.max_iters == runner.train_loop.iter == 20
    expected = 0.01 * warmup_cosine(19, 20, 0.0)
    assert rows[-1]["lr"] == pytest.approx(expected, rel=1e-4)


def test_what_changes_no_step_is_free(tmp_path, saved):
    cfg = config(tmp_path / "again", resume=saved)
    cfg.train_dataloader.num_workers = 1
    cfg.default_hooks.logger.interval = 2
    cfg.default_hooks.checkpoint.interval = 3
    cfg.log_level = "WARNING"

    train(cfg)

    whole, again = (load_file(tmp_path / n / "iter_6.pth") for n in ("whole", "again"))
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, again["state_dict"][key]), key


def make_data(folder, answers=("red", "blue")):
    folder.mkdir(parents=True)
    rows = [
        dict(id=str(n), conversations=[{"from": "human", "value": "q"},
                                       {"from": "gpt", "value": answer}])
        for n, answer in enumerate(answers)
    ]  # fmt: skip
    (folder / "a.json").write_text(json.dumps(rows))
    return DATASETS.build(
        dict(type="LLaVADataset", data_root=str(folder), ann_file="a.json")
    )


def test_data_are_known_by_their_content_wherever_they_lie(tmp_path):
    facts = data_facts(make_data(tmp_path / "x"))
    shutil.copytree(tmp_path / "x", tmp_path / "y")
    moved = DATASETS.build(
        dict(type="LLaVADataset", data_root=str(tmp_path / "y"), ann_file="a.json")
    )
    edited = make_data(tmp_path / "z", answers=("red", "pink"))

    assert facts["data.rows"] == 2 and data_facts(moved) == facts
    assert set(identity_changes(facts, data_facts(edited))) == {"data.content"}


def test_members_of_a_mixture_are_told_apart(tmp_path):
    first, second = make_data(tmp_path / "x"), make_data(tmp_path / "y", ("a", "b"))
    first.name, second.name = "first", "second"
    facts = data_facts(MixtureDataset([first, second]))
    other = make_data(tmp_path / "z", ("a", "c"))
    other.name = "second"

    changed = identity_changes(facts, data_facts(MixtureDataset([first, other])))

    assert set(changed) == {"data.second.content"}


def test_large_files_are_hashed_in_pieces(tmp_path, monkeypatch):
    from mmvlm.datasets.index import fingerprint

    monkeypatch.setattr(fingerprint, "WHOLE", 2**20)
    monkeypatch.setattr(fingerprint, "_PIECE", 2**10)
    monkeypatch.setattr(fingerprint, "_NUM_PIECES", 16)
    file = tmp_path / "large"
    file.write_bytes(bytes(3 * 2**20))
    before = fingerprint.content_digest([str(file)])
    with open(file, "r+b") as opened:
        opened.seek(-1, 2)
        opened.write(b"x")

    assert fingerprint.content_digest([str(file)]) != before


def test_of_many_shards_pieces_are_read_and_all_sizes(tmp_path, monkeypatch):
    from mmvlm.datasets.index import fingerprint

    monkeypatch.setattr(fingerprint, "_PIECE", 2**10)
    read, pieces = [], fingerprint._pieces
    monkeypatch.setattr(
        fingerprint,
        "_pieces",
        lambda *a: (read.append(piece) or piece for piece in pieces(*a)),
    )
    shards = [tmp_path / f"{number:03}.tar" for number in range(600)]
    for shard in shards:
        shard.write_bytes(bytes(2000))
    paths = [str(shard) for shard in shards]
    before = fingerprint.content_digest(paths, 2**20)

    assert len(read) == 256 and sum(map(len, read)) <= 256 * 2**10
    shards[1].write_bytes(bytes(2001))
    assert fingerprint.content_digest(paths, 2**20) != before


def test_small_members_are_read_whole_beside_a_large_one(tmp_path, monkeypatch):
    from mmvlm.engine.runner import identity

    small = make_data(tmp_path / "x")
    large = make_data(tmp_path / "y", ["a"] * 100)
    small.name, large.name = "small", "large"
    seen = {}
    monkeypatch.setattr(identity, "WHOLE", 2000)
    monkeypatch.setattr(
        identity, "content_digest", lambda paths, left: seen.update({paths[0]: left})
    )

    data_facts(MixtureDataset([large, small]))

    size = (tmp_path / "x" / "a.json").stat().st_size
    assert list(seen.values()) == [2000, 2000 - size]


def test_a_run_knows_its_data_before_its_first_step(tmp_path, monkeypatch):
    from mmvlm.engine.runner import VLMRunner

    known = []
    monkeypatch.setattr(
        VLMRunner,
        "call_hook",
        lambda self, name, **k: known.append((name, self.known_identity is not None)),
    )
    train(config(tmp_path / "run"))

    assert ("before_train", True) in known


def test_a_config_that_only_one_side_writes_out_is_no_change():
    then = {"model.tower.type": "T", "model.llm.config.depth": 2}
    now = {"model.tower.type": "T", "model.tower.config.depth": 4}

    assert identity_changes(then, now) == identity_changes(now, then) == {}
    other = {**then, "model.llm.config.depth": 3}
    assert set(identity_changes(then, other)) == {"model.llm.config.depth"}


def test_an_argument_of_another_name_is_no_change():
    steps = "train_dataloader.dataset.pipeline"
    then = {f"{steps}.2.type": "EncodeConversation", f"{steps}.2.count_pictures": False}
    then |= {"dataset.type": "Kosmos2GRITDataset", "dataset.size_from": "picture"}
    now = {f"{steps}.2.type": "EncodeConversation", f"{steps}.2.count_images": False}
    now |= {"dataset.type": "Kosmos2GRITDataset", "dataset.size_from": "image"}

    assert identity_changes(then, now) == {}
    other = {**now, f"{steps}.2.count_images": True}
    assert set(identity_changes(then, other)) == {f"{steps}.2.count_images"}
    foreign = {"model.type": "Other", "model.count_pictures": False}
    assert set(identity_changes(foreign, foreign | {"model.count_pictures": 1}))


def test_where_files_lie_is_free_for_every_component():
    from mmvlm.config.work_dir import PATH_KEYS
    from mmvlm.datasets.bad_samples import BadSamplePolicy
    from mmvlm.registry import MODELS

    components = [BadSamplePolicy, *DATASETS.module_dict.values()]
    components += MODELS.module_dict.values()
    ends = ("file", "_prefix", "_root", "folder", "path", "_map", "_dir", "checkpoint")
    names = {
        name
        for one in components
        if one.__module__.startswith("mmvlm.")
        for name in inspect.signature(one).parameters
        if name.endswith(ends)
    }

    assert {"instances_file", "label_prefix", "folder", "file"} <= names
    assert names - PATH_KEYS == {"with_folder"}  # yes or no


def test_text_of_a_template_is_no_path():
    cfg = dict(
        chat_template=dict(type="vicuna_v1", image_prefix="<Image>"),
        train_dataloader=dict(dataset=dict(image_prefix="a", image_map="b")),
    )

    assert set(run_settings(cfg)) == {
        "chat_template.type", "chat_template.image_prefix",
    }  # fmt: skip


def test_every_setting_of_a_full_config_is_in_its_identity():
    from mmvlm.config import load_config

    cfg = load_config(
        "llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k", check=False
    )
    keys = set(run_settings(cfg))

    assert {
        "optim_wrapper.optimizer.lr",
        "optim_wrapper.accumulative_counts",
        "param_scheduler.0.warmup_ratio",
        "train_cfg.max_epochs",
        "train_dataloader.batch_size",
        "train_dataloader.sampler.type",
        "model.connector.depth",
        "chat_template",
    } <= keys
    free = ("data_root", "num_workers", "name_or_path", "val_interval")
    assert not [key for key in keys if key.rpartition(".")[2] in free]
