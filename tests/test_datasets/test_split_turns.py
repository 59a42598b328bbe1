"""Questions about an image as conversations of their own that share it."""

import mmvlm  # noqa: F401  isort: skip

import numpy as np
import pytest
import torch

from mmvlm.config import load_config
from mmvlm.datasets.samplers.balanced import BalancedBatchSampler
from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
from mmvlm.engine.runner import build_runner
from mmvlm.registry import DATASETS
from mmvlm.structures import Image

CONFIG = "tiny/lisa-clip-sam-tiny_mlp2x_llama-tiny_1xb24-1k-ft_tiny-scenes.py"


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """A tiny LISA that trains on expressions, several of an image in a sample."""
    folder = tmp_path_factory.mktemp("split")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        formats = ("llava", "refcoco")
        root = folder / "data" / "tiny_scenes"
        make_tiny_scenes(root, num_train=12, num_test=2, formats=formats)
        cfg = load_config(CONFIG, check=False)
        data = cfg.train_dataloader.dataset.datasets[1].to_dict()
        cfg.train_dataloader = dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type="RandomBatchSampler"),
            collate_fn=dict(type="collate_flat"),
            dataset=dict(data, split_turns=True, indices=4),
        )
        cfg.model.share_equal_views = "always"
        cfg.load_from, cfg.work_dir, cfg.launcher = None, str(folder / "run"), "none"
        for key in ("test_dataloader", "test_cfg", "test_evaluator"):
            cfg.pop(key)
        cfg.visualizer = dict(type="Visualizer", vis_backends=[])
        yield build_runner(cfg)


def together_and_apart(runner):
    dataset = runner.train_dataloader.dataset
    data = {**runner.cfg.train_dataloader.dataset.to_dict(), "split_turns": False}
    whole = DATASETS.build(data)
    whole.bind(runner.processor)
    return whole, dataset


def test_conversations_hold_the_turns_of_one(runner):
    whole, apart = together_and_apart(runner)
    several = 0
    for number in range(4):
        one = whole.item_at(number)["conversation"]
        parts = apart.separate(apart.item_at(number))
        talks = [part["conversation"] for part in parts]
        assert [t.id for t in talks] == [f"{one.id}#{n}" for n in range(len(talks))]
        assert [len(t.turns) for t in talks] == [2] * len(talks)
        answers = [repr(turn.parts) for turn in one.turns[1::2]]
        assert [repr(t.turns[1].parts) for t in talks] == answers
        for place, talk in enumerate(talks):
            shown, *asked = talk.turns[0].parts
            assert shown == Image(0) and talk.images == one.images
            expected = one.turns[2 * place].parts
            assert asked[1:] == list(expected[2:] if place == 0 else expected)
        several += len(talks) > 1
    assert several


def test_a_batch_holds_them_all_and_their_lengths_are_known(runner):
    _, apart = together_and_apart(runner)
    lists = [apart[number] for number in range(4)]
    lengths = [
        sum(len(one["inputs"]["streams"]["text"]) for one in own) for own in lists
    ]

    assert np.array_equal(apart.token_lengths_at(0), lengths)
    batch = next(iter(runner.train_dataloader))
    assert len(batch["data_samples"]) == sum(map(len, lists)) > 4


def test_a_limit_of_images_is_refused(runner):
    whole, apart = together_and_apart(runner)

    assert whole.num_images_at(0).tolist() == [1] * 4
    sampler = BalancedBatchSampler(apart, 2, seed=0, max_images=2)
    with pytest.raises(ValueError, match=r"split_turns=True.*use max_tokens"):
        sampler.plan(0)


def test_images_are_encoded_once(runner):
    batch = next(iter(runner.train_dataloader))
    model, seen = runner.model, {}
    for name in ("vision_encoder", "sam"):
        getattr(model, name).register_forward_pre_hook(
            lambda _, args, name=name: seen.setdefault(name, []).append(len(args[0]))
        )
    data = model.data_preprocessor(batch, training=True)
    one = model.train().loss(data["inputs"], data["data_samples"])

    assert seen == dict(vision_encoder=[4], sam=[4])
    model.share_equal_views = True
    other = model.loss(data["inputs"], data["data_samples"])
    assert seen["vision_encoder"] == [4, len(batch["data_samples"])]
    for name, value in one.items():
        assert float(value) == pytest.approx(float(other[name]), rel=1e-4)


def test_what_is_scored_is_one_question(runner):
    data = runner.cfg.train_dataloader.dataset.to_dict()

    with pytest.raises(ValueError, match="split_turns=True is for training"):
        DATASETS.build({**data, "evaluate": True})


def test_other_ways_to_share_are_refused():
    from mmvlm.testing import tiny_vlm

    with pytest.raises(ValueError, match="share_equal_views='once': expected"):
        tiny_vlm(share_equal_views="once")


def test_mask_losses_that_are_not_finite_stop_the_step_and_name_samples(runner):
    with torch.no_grad():
        runner.model.mask.projection[0].bias.fill_(torch.nan)

    with pytest.raises(RuntimeError, match=r"loss is nan in optimizer step 1.*#0"):
        runner.train()
