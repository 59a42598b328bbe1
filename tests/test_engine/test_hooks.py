"""Hooks: bad samples, replies, provenance, best weights."""

import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from mmvlm.config import load_config
from mmvlm.config.toy_data import make_toy_llava
from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.processor import VLMProcessor, steps_for, steps_of
from mmvlm.engine.hooks.bad_samples_hook import BadSamplesHook
from mmvlm.engine.hooks.checkpoint_hook import VLMCheckpointHook
from mmvlm.engine.hooks.progress_hook import read_scalars
from mmvlm.engine.hooks.provenance_hook import git_state
from mmvlm.engine.hooks.sample_replies_hook import SampleRepliesHook
from mmvlm.engine.runner import build_runner
from mmvlm.visualization.curves import draw_scalars

CONFIG = "llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k.py"


def tiny(work_dir, **changes):
    cfg = load_config(CONFIG, tiny=True)
    cfg.work_dir = str(work_dir)
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    cfg.randomness = dict(seed=1)
    cfg.merge_from_dict(changes)
    return cfg


class Logger:
    def __init__(self):
        self.lines = []

    def info(self, text):
        self.lines.append(text)

    warning = info


class Policy:
    max_fraction = 0.1


class FakeDataset:
    name, bad_samples = "fake", Policy()

    def __len__(self):
        return 20


def fake_runner():
    loader = SimpleNamespace(dataset=FakeDataset())
    return SimpleNamespace(train_dataloader=loader, logger=Logger())


def batch_of(num_bad, cut=0, untrained=False, turns=0, regions=0):
    bad = [BadRecord("fake", i, f"id{i}", "a.png", "is cut") for i in range(num_bad)]
    facts = dict(dataset="fake", truncated_tokens=cut, dropped_labels=untrained)
    facts["dropped_regions"] = regions
    facts["meta"] = dict(dropped_turns=turns) if turns else {}
    return dict(data_samples=[SimpleNamespace(metainfo=facts)], bad_records=bad)


def test_bad_and_cut_samples_are_reported_at_the_end_and_after_a_resume():
    runner, hook = fake_runner(), BadSamplesHook()
    hook.before_train(runner)

    hook.after_train_iter(
        runner, 0, [batch_of(1, cut=7), batch_of(0, cut=2, regions=3)]
    )
    resumed = BadSamplesHook()
    resumed.load_state_dict(hook.state_dict())
    resumed.before_train(runner)
    resumed.after_train(runner)

    first, second = runner.logger.lines
    assert first.startswith("[before the resume] Bad samples: of 3 seen")
    assert "id 'id0', a.png): is cut" in first
    assert "fake: 2 samples, 9 tokens and 3 regions cut." in first
    assert second == "Bad samples: none of 0."


def test_dropped_labels_and_turns_are_reported():
    runner, hook = fake_runner(), BadSamplesHook()
    hook.before_train(runner)

    hook.after_train_iter(runner, 0, [batch_of(0, untrained=True), batch_of(0)])
    hook.after_train_iter(runner, 1, [batch_of(0, untrained=True, turns=1)])
    hook.after_train(runner)

    assert runner.logger.lines[0].splitlines() == [
        "Bad samples: none of 3.",
        "Untrained: fake: 2 samples (empty answers, answers of weight 0, or LLaVA's "
        "count failed).",
        "Leading answers left out: fake: 1 turns.",
    ]


def test_too_many_bad_samples_stop_the_run():
    runner, hook = fake_runner(), BadSamplesHook()
    hook.before_train(runner)

    with pytest.raises(DataError, match="3 of 4 samples are bad"):
        hook.after_train_iter(runner, 0, [batch_of(3)])


def test_conversations_of_a_record_are_seen_as_one():
    runner, hook = fake_runner(), BadSamplesHook()
    hook.before_train(runner)
    batch = batch_of(2)
    # Record 0 gives three conversations, and is there twice; record 1 gives one.
    names = [(0, "a#0"), (0, "a#1"), (0, "a#2"), (0, "a#0"), (1, "b#0")]
    batch["data_samples"] = [
        SimpleNamespace(metainfo=dict(dataset="fake", index=index, sample_id=name))
        for index, name in names
    ]

    hook.after_train_iter(runner, 0, [batch])

    assert hook.count.counter.num_seen == 2 + 3


def test_replies_are_logged_and_change_nothing(tmp_path):
    make_toy_llava(tmp_path / "toy")
    prompts = [
        dict(prompt="What is it?", image=str(tmp_path / "toy/images/00.png")),
        dict(prompt="Say something."),
    ]
    hooks = dict(logger=dict(type="ProgressHook", interval=1), checkpoint=None)
    build_runner(tiny(tmp_path / "a", default_hooks=hooks)).train()
    hooks = dict(
        hooks, replies=dict(type="SampleRepliesHook", interval=1, max_new_tokens=3)
    )
    cfg = tiny(tmp_path / "b", default_hooks=hooks)
    cfg.sample_prompts = prompts
    build_runner(cfg).train()

    rows = [json.loads(line) for line in (tmp_path / "b/replies.jsonl").open()]
    assert [row["step"] for row in rows] == [1, 2]
    assert all(len(row["replies"]) == 2 for row in rows)
    quiet, asking = (
        [row["loss"] for row in read_scalars(tmp_path / name)] for name in "ab"
    )
    assert quiet == asking


def test_wrong_prompt_and_missing_pipeline_are_named():
    processor = VLMProcessor()
    runner = SimpleNamespace(cfg=dict(), processor=processor)

    with pytest.raises(ValueError, match=r"sample_prompts\[0\].*expected prompt"):
        SampleRepliesHook([dict(text="x")]).before_train(runner)
    cfg = dict(tokenizer=dict(type="TinyTokenizer"), chat_template="vicuna_v1")
    cfg["train_dataloader"] = dict(dataset=dict(pipeline=[]))
    runner.processor = VLMProcessor.from_config(cfg, None)
    with pytest.raises(ValueError, match=r"no pipeline in any of .* encodes"):
        SampleRepliesHook([dict(prompt="x")]).before_train(runner)


def test_prompts_use_the_pipeline_without_what_only_training_needs():
    cfg = load_config(CONFIG, tiny=True)

    steps = steps_for(steps_of(cfg)["generate"], "generate")

    encode = next(s for s in steps if s["type"] == "EncodeConversation")
    assert encode == dict(type="EncodeConversation", mode="generate")
    train = cfg.train_dataloader.dataset.pipeline
    assert [s["type"] for s in steps] == [s["type"] for s in train]


def test_git_state_names_commit_and_changes(tmp_path):
    def git(*args):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *args], check=True)

    git("init", "-q")
    (tmp_path / "a.txt").write_text("one\n")
    git("add", "a.txt")
    git("commit", "-q", "-m", "first")
    clean = git_state(tmp_path)
    (tmp_path / "a.txt").write_text("two\n")

    changed = git_state(tmp_path)

    assert len(clean["commit"]) == 40 and clean["changed_files"] == []
    assert changed["changed_files"] == ["a.txt"] and "+two" in changed["diff"]
    assert git_state(tmp_path.parent) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(interval=0), "interval=0"),
        (dict(max_keep=0), "would keep nothing"),
        (dict(rule="more"), "rule='more'"),
    ],
)
def test_wrong_checkpoint_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        VLMCheckpointHook(**arguments)


def test_best_weights_are_kept_by_rule():
    saved = []
    runner = SimpleNamespace(
        train_loop=object(),
        work_dir=".",
        logger=Logger(),
        save_checkpoint=lambda folder, name, **options: saved.append(options["meta"]),
    )
    hook = VLMCheckpointHook(save_best="score", rule="less")

    for value in (3.0, 4.0, 2.0):
        hook.after_val_epoch(runner, dict(score=value))

    assert [meta["best"]["score"] for meta in saved] == [3.0, 2.0]
    with pytest.raises(KeyError, match="save_best='score': the validation has"):
        hook.after_val_epoch(runner, dict(other=1))


def test_plot_has_a_panel_for_validation(tmp_path):
    import cv2

    rows = [dict(step=i, loss=1 / i, lr=0.1) for i in range(1, 40)]
    draw_scalars(rows, str(tmp_path / "a.png"))
    draw_scalars([*rows, {"step": 40, "val/accuracy": 0.5}], str(tmp_path / "b.png"))

    plain, validated = (cv2.imread(str(tmp_path / f"{n}.png")) for n in "ab")
    assert validated.shape[0] > plain.shape[0] and len(np.unique(plain)) > 2


def test_cut_last_line_of_scalars_is_left_out(tmp_path):
    (tmp_path / "scalars.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')

    assert read_scalars(tmp_path) == [dict(step=1), dict(step=2)]
