"""INF-LLaVA through every door: training, chat, merging, test, same features."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from converting import merge_checkpoint

from mmvlm.apis import VLMInferencer
from mmvlm.config import load_config
from mmvlm.datasets.transforms.image import PadToSquare
from mmvlm.structures.dual_perspective import DualPerspective

ROOT = Path(__file__).resolve().parents[2]
NAME = "inf-llava-clip-l14-336_dual-n3_llama3-8b_8xb8-1e-ft_llava-665k.py"
CHILD = f"""
_base_ = {str(ROOT / "configs" / "inf_llava" / NAME)!r}

model = dict(
    language_model=dict(lora=dict(r=4, alpha=8, target_modules="all-linear")),
    train_parts=dict(language_model="lora"),
)
optim_wrapper = dict(optimizer=dict(lr=1e-2))
param_scheduler = None
"""
STEPS = 25


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inf-llava")
    (folder / "child.py").write_text(CHILD)
    return folder


@pytest.fixture(scope="module")
def run(folder):
    """A short training of the tiny twin: runner, weights before, losses."""
    from mmengine.hooks import Hook

    from mmvlm.engine.runner import build_runner

    class Losses(Hook):
        def __init__(self):
            self.values = []

        def after_train_iter(self, runner, *_, **__):
            scalar = runner.message_hub.get_scalar("train/loss")
            self.values.append(float(scalar.current()))

    cfg = load_config(folder / "child.py", tiny=True)
    cfg.train_cfg.max_iters = STEPS
    cfg.work_dir, cfg.launcher = str(folder / "work"), "none"
    cfg.default_hooks.provenance = None
    runner = build_runner(cfg)
    losses = Losses()
    runner.register_hook(losses)
    before = {k: v.detach().clone() for k, v in runner.model.state_dict().items()}
    runner.train()
    return runner, before, losses.values


@pytest.fixture(scope="module")
def talk(folder, run):
    weights = folder / "work" / f"iter_{STEPS}.pth"
    config = load_config(folder / "child.py", tiny=True)
    return VLMInferencer(config, weights, device="cpu")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(5).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def test_it_learns_and_frozen_weights_stay(run):
    runner, before, losses = run

    assert np.mean(losses[-5:]) < np.mean(losses[:3]) - 0.1
    trained = {k for k, p in runner.model.named_parameters() if p.requires_grad}
    after = runner.model.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == trained
    assert {k for k in before if k.startswith("connector.")} <= trained
    assert not any(k.startswith("vision_encoder.") for k in trained)


@torch.no_grad()
def test_training_and_inference_see_the_same_features(run, talk, image):
    dataset = run[0].train_dataloader.dataset
    conversation = talk.conversation(image, "What is this?")
    item = dict(
        conversation=conversation, dataset="x", index=0, image_root="", data_root=""
    )
    steps = [s for s in dataset.pipeline.transforms if "Encode" not in str(type(s))]
    views = steps[1](steps[0](dict(item, rng=np.random.default_rng(0))))

    batch = talk.encode([conversation])
    model = talk.model
    trained_on = model.data_preprocessor.normalize(torch.from_numpy(views["views"][0]))

    images = batch.inputs["image"]
    assert images.layouts == tuple(views["layouts"])
    assert DualPerspective.of(images.layouts[0]) == DualPerspective(3)
    assert torch.equal(images.values, trained_on)
    at_inference = model.encode_images(images.values, images.layouts)
    with torch.enable_grad():  # as in training: no view is shared
        in_training = model.encode_images(trained_on, images.layouts)
    torch.testing.assert_close(at_inference, in_training, atol=1e-5, rtol=1e-4)
    assert len(at_inference) == images.slot_lens[0] == 16


def test_the_released_loader_gives_other_images(folder, talk, image):
    cfg = load_config(folder / "child.py", tiny=True)
    cfg.train_dataloader.dataset.pipeline[1]["legacy_infer"] = True
    legacy = VLMInferencer(cfg, device="cpu")

    def views(who):
        return who.encode([who.conversation(image, "What?")]).inputs["image"].values

    assert views(legacy).shape == views(talk).shape
    assert not torch.equal(views(legacy), views(talk))
    small = PadToSquare(28, talk.processor.spec.mean, "bicubic").view(image)[0]
    normalize = talk.model.data_preprocessor.normalize
    assert torch.equal(views(legacy)[-1:], normalize(torch.from_numpy(small)))


def test_float_views_go_through_and_lose_nothing_at_three(folder, talk, image):
    cfg = load_config(folder / "child.py", tiny=True)
    cfg.train_dataloader.dataset.pipeline[1]["pixels"] = "float"
    exact = VLMInferencer(cfg, device="cpu")

    found = exact.encode([exact.conversation(image, "What?")]).inputs["image"].values

    expected = talk.encode([talk.conversation(image, "What?")]).inputs["image"].values
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


def test_text_reaches_every_connector_weight_where_ranks_must_agree(talk):
    model = copy.deepcopy(talk.model)
    model.touch_all_parts = True

    batch = talk.encode([talk.conversation(None, "Why?")])
    model.embed(batch).sum().backward()

    assert batch.inputs == {}
    assert all(p.grad is not None for p in model.connector.parameters())
    assert not any(p.grad.any() for p in model.connector.parameters())


def test_chat_answers_and_looks(talk, image):
    other = 255 - image
    replies = talk([image, other, None], "What is this?", batch_size=3)

    assert replies == [
        talk.chat(shown, "What is this?") for shown in (image, other, None)
    ]
    assert talk.chat([image, other], "<image> and <image>?") is not None
    images = talk.encode([talk.conversation([image, other], "Both?")]).inputs["image"]
    assert len(images.values) == 2 * 19 and images.slot_lens == (16, 16)


def test_merged_adapters_answer_the_same(folder, talk, image):
    out = folder / "merged.pth"
    config = str(folder / "child.py")

    merge_checkpoint(config, folder / "work" / f"iter_{STEPS}.pth", out, tiny=True)

    plain = load_config(ROOT / "configs" / "inf_llava" / NAME, tiny=True)
    merged = VLMInferencer(plain, out, device="cpu")
    batch = talk.encode([talk.conversation(image, "What is this?")])
    with torch.no_grad():
        expected = talk.model(batch, mode="tensor")
        torch.testing.assert_close(
            merged.model(batch, mode="tensor"), expected, atol=1e-4, rtol=1e-3
        )


def test_pretrain_and_finetune_prepare_as_their_recipes(image):
    """Stage 1 cuts the middle out, stage 2 pads; on the same encoder."""
    layouts = []
    for path in (NAME.replace("8xb8-1e-ft_llava-665k", "8xb16-1e-pt_llava-558k"), NAME):
        cfg = load_config(ROOT / "configs" / "inf_llava" / path, tiny=True)
        who = VLMInferencer(cfg, device="cpu")
        batch = who.encode([who.conversation(image, "What?")])
        layouts += batch.inputs["image"].layouts

    cut, padded = layouts
    assert cut.offset[0] < 0 == cut.offset[1]
    assert padded.offset[0] == 0 < padded.offset[1]


def test_test_tool_scores_a_tiny_config(folder, run):
    """tools/test.py's way: the checkpoint over a test set of single questions."""
    from mmvlm.engine.runner import build_runner

    runner, _, _ = run
    dataset = runner.train_dataloader.dataset
    records = json.loads(Path(dataset.ann_file).read_text())
    asked = [r for r in records if "image" in r][:3]
    for number, record in enumerate(asked):
        record["id"] = f"q{number}"
        record["conversations"] = record["conversations"][:2]
    (folder / "test.json").write_text(json.dumps(asked))
    cfg = load_config(folder / "child.py", tiny=True)
    pipeline = [dict(step) for step in cfg.train_dataloader.dataset.pipeline]
    pipeline[2] = dict(type="EncodeConversation", mode="generate")
    cfg.test_dataloader = dict(
        batch_size=2,
        num_workers=0,
        dataset=dict(
            type="LLaVADataset",
            data_root=str(folder),
            ann_file="test.json",
            image_prefix=str(Path(dataset.data_root) / "images"),
            pipeline=pipeline,
        ),
    )
    cfg.test_cfg, cfg.test_evaluator = dict(), dict(type="ExactMatchMetric")
    cfg.work_dir, cfg.launcher = str(folder / "test"), "none"
    cfg.load_from = str(folder / "work" / f"iter_{STEPS}.pth")
    cfg.default_hooks.provenance = None

    metrics = build_runner(cfg).test()

    assert metrics and all(np.isfinite(v) for v in metrics.values())
