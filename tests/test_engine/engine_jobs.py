"""What test processes run; imported once by the fork server, see conftest."""

from __future__ import annotations

import mmvlm  # noqa: F401  isort: skip

import copy
import json
import math
import os
import sys
import traceback

import torch
from engine_toys import FirstWeights, GradientRecorder, RecordingMixture, toy_config
from even_gathers_job import gradients_of_shards, refused_under_zero3  # noqa: F401
from mmengine.config import Config

from mmvlm.config import load_config
from mmvlm.config.toy_data import make_toy_llava
from mmvlm.engine.runner import build_runner
from mmvlm.engine.runner.checkpoint import load_file, load_parts
from mmvlm.registry import MODELS
from mmvlm.utils.entry import run_tool

CONFIG = "llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft-lora_llava-665k.py"
FULL = "llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k.py"
#: Words of the toy answers, as special tokens, and one that never comes.
NEW_TOKENS = ["It", "red", "<never>"]
STRATEGIES = os.path.join(
    os.path.dirname(__file__), "../../configs/_base_/strategies/{}.py"
)


def run_job(function, log, env, args):
    """Run ``function(*args)`` with its output in a file; exit code 1 on an error."""
    torch.set_num_threads(1)
    os.environ.update(env)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    try:
        globals()[function](*args)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def read_losses(work_dir):
    path = os.path.join(work_dir, "scalars.jsonl")
    with open(path) as file:
        rows = [json.loads(line) for line in file]
    return {row["step"]: row["loss"] for row in rows}


def set_launcher(cfg):
    cfg.launcher = "pytorch" if "RANK" in os.environ else "none"
    return cfg


# Kill and resume -------------------------------------------------------------


def mixed_config(work_dir, steps):
    """LoRA with dropout, two data sets by weight, a checkpoint at every step."""
    cfg = load_config(CONFIG, tiny=True)
    data = cfg.train_dataloader.dataset.to_dict()
    one = dict(data, name="first", indices=8)
    two = dict(data, name="second", indices=-6)
    cfg.train_dataloader.dataset = dict(
        type="MixtureDataset", datasets=[one, two], weights=[1.0, 2.5]
    )
    cfg.train_cfg = dict(type="VLMTrainLoop", max_iters=steps)
    cfg.optim_wrapper.accumulative_counts = 2
    cfg.optim_wrapper.optimizer.lr = 1e-2
    cfg.default_hooks = dict(
        logger=dict(type="ProgressHook", interval=1),
        checkpoint=dict(type="VLMCheckpointHook", interval=1, max_keep=2),
        loss_plot=dict(type="LossPlotHook"),
    )
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    cfg.randomness = dict(seed=3)
    cfg.work_dir = work_dir
    cfg.resume = "auto"
    return set_launcher(cfg)


def train_mixed(work_dir, steps):
    build_runner(mixed_config(work_dir, steps)).train()


def train_as_tool(work_dir, steps, workers):
    """Train as tools/train.py does, to the exit code; saves at the end only."""
    cfg = set_launcher(mixed_config(work_dir, steps))
    cfg.default_hooks.checkpoint.interval = None
    cfg.train_dataloader.num_workers = workers
    cfg.resume = "auto"

    def main():
        build_runner(cfg).train()

    sys.argv = ["train.py"]
    try:
        run_tool(main)
    except SystemExit as end:
        os._exit(end.code)


def packed_config(work_dir, steps):
    """As above, but packs from a mixture of five files and two workers."""
    cfg = mixed_config(work_dir, steps)
    one = cfg.train_dataloader.dataset.datasets[0].to_dict()
    del one["indices"]
    sets = []
    for number in range(5):
        folder = os.path.join(os.path.dirname(work_dir), f"set-{number}")
        path = make_toy_llava(folder, 6 + number)
        sets.append(dict(one, type="LLaVADataset", name=f"set-{number}"))
        sets[-1].update(data_root=folder, ann_file=os.path.basename(path))
    cfg.train_dataloader.update(
        batch_size=1,
        num_workers=2,
        persistent_workers=True,
        sampler=dict(type="PackedBatchSampler", pack_length=700, buffer_size=16),
        dataset=dict(
            type="RecordingMixture",
            datasets=sets,
            # Each takes 1 / n of its samples: none comes twice in an epoch.
            weights=[1.0, 1.0, 0.5, 1.0, 0.5],
            limits=[None, None, None, 3, None],
            folder=work_dir,
        ),
    )
    cfg.custom_hooks = [dict(type="SampleRecorder")]
    return cfg


def train_packed(work_dir, steps):
    build_runner(packed_config(work_dir, steps)).train()


# One big batch against its pieces ----------------------------------------------


def gradients_of(work_dir, batch_size, accumulation, strategy=None):
    """One step over the same eight samples; gradients go to a file."""
    cfg = load_config(FULL, tiny=True)
    cfg.train_dataloader.dataset.indices = 8
    cfg.train_dataloader.batch_size = batch_size
    cfg.train_dataloader.sampler = dict(type="RandomBatchSampler")
    cfg.model.train_parts = dict(
        vision_encoder=False, connector=True, language_model=True
    )
    cfg.train_cfg = dict(type="VLMTrainLoop", max_iters=2)
    cfg.param_scheduler = None
    cfg.optim_wrapper.accumulative_counts = accumulation
    cfg.optim_wrapper.optimizer = dict(type="SGD", lr=0.1)
    cfg.default_hooks = dict(
        logger=dict(type="ProgressHook", interval=1),
        gradients=dict(type="GradientRecorder"),
    )
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    cfg.randomness = dict(seed=3)
    cfg.work_dir = work_dir
    if strategy is not None:
        cfg.strategy = Config.fromfile(STRATEGIES.format(strategy)).strategy
    assert GradientRecorder is not None and RecordingMixture is not None
    build_runner(set_launcher(cfg)).train()


def many_gradients(root, cases):
    for name, *arguments in cases:
        gradients_of(os.path.join(root, name), *arguments)


def device_norm_gradients(work_dir):
    """One step of two micro-batches per rank, each with a mean of its own."""
    cfg = toy_config(
        work_dir,
        train_cfg=dict(type="VLMTrainLoop", max_iters=1, loss_norm="device"),
        default_hooks=dict(gradients=dict(type="GradientRecorder")),
        visualizer=dict(type="Visualizer", vis_backends=[]),
    )
    cfg.optim_wrapper.accumulative_counts = 2
    build_runner(set_launcher(cfg)).train()


# Ranks without masks or regions --------------------------------------------------

TINY = {
    "mask": "lisa-clip-sam-tiny_mlp2x_llama-tiny_1xb24-1k-ft_tiny-scenes",
    "region": "ferret-clip-tiny-g8_sampler_llama-tiny_1xb48-600i-ft_tiny-scenes"
    "-tangled",
}


def one_sided_config(kind, work_dir, batch_size=4, accumulation=1, resume=False):
    """Tiny LISA or Ferret; every second run of four samples are mere questions."""
    cfg = load_config(f"tiny/{TINY[kind]}.py", check=False)
    data = cfg.train_dataloader.dataset.to_dict()
    if kind == "mask":
        _, asked, plain, _ = data["datasets"]
    else:
        asked = data
        plain = {key: data[key] for key in ("data_root", "pipeline")}
        plain.update(type="LLaVADataset", name="questions", ann_file="train.json")
    cfg.train_dataloader = dict(
        batch_size=batch_size,
        num_workers=0,
        sampler=dict(type="TwoMembersSampler"),
        collate_fn=dict(type="collate_flat"),
        dataset=dict(
            type="MixtureDataset",
            datasets=[dict(one, indices=8) for one in (asked, plain)],
        ),
    )
    for key in ("test_dataloader", "test_cfg", "test_evaluator"):
        cfg.pop(key)
    cfg.optim_wrapper.accumulative_counts = accumulation
    cfg.train_cfg = dict(type="VLMTrainLoop", max_iters=4)
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    cfg.load_from, cfg.work_dir, cfg.resume = None, work_dir, resume
    cfg.base_batch_size = None
    return set_launcher(cfg)


def train_one_sided(root, kind, strategy=None):
    """Train; two ranks see one half each. Then resume from the middle."""
    os.chdir(root)
    folder = f"{root}/{kind}-{strategy}"
    for name, resume in (("whole", False), ("again", f"{folder}/whole/iter_2.pth")):
        cfg = one_sided_config(kind, f"{folder}/{name}", resume=resume)
        if strategy is not None:
            cfg.strategy = Config.fromfile(STRATEGIES.format(strategy)).strategy
        cfg.default_hooks = dict(
            logger=dict(type="ProgressHook", interval=1),
            checkpoint=dict(type="VLMCheckpointHook", interval=2, max_keep=-1),
            samples=dict(type="SampleRecorder"),
        )
        build_runner(cfg).train()


def one_sided_gradients(root, kind, cases):
    """One step over the same eight samples, dealt in several ways, in float32."""
    os.chdir(root)
    for name, batch_size, accumulation in cases:
        cfg = one_sided_config(kind, f"{root}/{kind}/{name}", batch_size, accumulation)
        cfg.train_cfg.max_iters = 1
        cfg.param_scheduler, cfg.optim_wrapper.dtype = None, None
        cfg.default_hooks = dict(gradients=dict(type="GradientRecorder"))
        build_runner(cfg).train()


# Strategies --------------------------------------------------------------------


def strategy_config(work_dir, name, steps=4, resume=False, **changes):
    """The tiny LLaVA on samples that leave one rank without an image."""
    cfg = load_config(FULL, tiny=True)
    cfg.train_dataloader.dataset.indices = uneven_samples(cfg)
    cfg.train_dataloader.sampler = dict(type="SequentialBatchSampler", shuffle=False)
    cfg.train_dataloader.sampler.pop("shuffle")
    cfg.train_dataloader.batch_size = 1
    cfg.model.train_parts = dict(
        vision_encoder=dict(last_blocks=1), connector=True, language_model=True
    )
    cfg.train_cfg = dict(type="VLMTrainLoop", max_iters=steps)
    cfg.param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.0)]
    cfg.optim_wrapper.accumulative_counts = 2
    cfg.optim_wrapper.optimizer.lr = 3e-3
    cfg.optim_wrapper.clip_grad = dict(max_norm=1.0)
    cfg.default_hooks = dict(
        logger=dict(type="ProgressHook", interval=1),
        checkpoint=dict(type="VLMCheckpointHook", interval=2, max_keep=-1),
    )
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    cfg.randomness = dict(seed=3)
    cfg.work_dir, cfg.resume = work_dir, resume
    if name != "none":
        cfg.strategy = Config.fromfile(STRATEGIES.format(name)).strategy
    cfg.merge_from_dict(changes)
    return set_launcher(cfg)


def uneven_samples(cfg):
    """Order the toy records so that of two ranks only one has images."""
    from mmvlm.registry import DATASETS

    lengths = DATASETS.build(cfg.train_dataloader.dataset.to_dict()).lengths
    images = [i for i, length in enumerate(lengths) if length > 0]
    texts = [i for i, length in enumerate(lengths) if length < 0]
    return [i for pair in zip(images, texts, strict=False) for i in pair]


def train_strategies(root, names):
    """Train, then resume from the middle, under each strategy."""
    for name in names:
        work_dir = os.path.join(root, name)
        runner = build_runner(strategy_config(work_dir, name))
        runner.train()
        resumed = os.path.join(root, f"{name}-resumed")
        middle = os.path.join(work_dir, "iter_2.pth")
        build_runner(strategy_config(resumed, name, resume=middle)).train()


def load_in_one_process(root, names):
    """Load every strategy's file into a bare model; losses go to a file."""
    result = {}
    for name in names:
        cfg = strategy_config(os.path.join(root, "one"), "none")
        path = os.path.join(root, name, "iter_4.pth")
        model = MODELS.build(cfg.model)
        report = load_parts(model, path)
        assert report.is_clean, str(report)
        content = load_file(path)
        result[name] = {k: v.clone() for k, v in content["state_dict"].items()}
    torch.save(result, os.path.join(root, "weights.pth"))


# Failures ----------------------------------------------------------------------


def poisoned(work_dir):
    """A sample whose loss is not a number, on one rank only."""
    cfg = toy_config(work_dir)
    cfg.model.poison = "toy-7"
    cfg.train_dataloader.dataset.size = 8
    cfg.train_cfg.max_iters = 20
    build_runner(set_launcher(cfg)).train()


def train_half_precision(root, names):
    """Train and resume in bfloat16 under each strategy."""
    for name in names:
        changes = {"optim_wrapper.dtype": "bfloat16"}
        work_dir = os.path.join(root, name)
        build_runner(strategy_config(work_dir, name, **changes)).train()
        resumed = os.path.join(root, f"{name}-resumed")
        middle = os.path.join(work_dir, "iter_2.pth")
        cfg = strategy_config(resumed, name, resume=middle, **changes)
        build_runner(cfg).train()


# New tokens --------------------------------------------------------------------


def new_token_config(work_dir, case, resume=False):
    """A language model of which the rows of words in the answers learn, with decay."""
    strategy, tied, lora, dtype = case
    cfg = strategy_config(work_dir, strategy, 50, resume)
    cfg.custom_hooks = [dict(type="FirstWeights")]
    cfg.default_hooks.checkpoint.interval = 40
    cfg.optim_wrapper.accumulative_counts = 1
    cfg.optim_wrapper.optimizer.weight_decay = 0.5
    cfg.optim_wrapper.dtype = dtype
    text = cfg.model.language_model
    text.config.tie_word_embeddings = tied
    text.new_tokens = dict(tokens=NEW_TOKENS)
    if dtype:
        text.torch_dtype = dtype
    if lora:
        text.lora = dict(r=2, alpha=4)
        cfg.model.train_parts.language_model = "lora"
    assert FirstWeights is not None
    return cfg


def train_new_tokens(root, cases):
    """Train 50 steps of each case, then the last ten again."""
    for case in cases:
        work_dir = os.path.join(root, "-".join(map(str, case)))
        build_runner(new_token_config(work_dir, case)).train()
        middle = os.path.join(work_dir, "iter_40.pth")
        build_runner(new_token_config(f"{work_dir}-resumed", case, middle)).train()


# The full configs' dtypes ------------------------------------------------------


def twin_config(path, work_dir, strategy="none"):
    """Return a full config's tiny twin with the full config's dtypes."""
    full, cfg = load_config(path, check=False), load_config(path, tiny=True)
    _copy_dtypes(full.model, cfg.model)
    cfg.optim_wrapper.dtype = full.optim_wrapper.get("dtype")
    # The toy data have two texts, and some samplers fill a step from one modality.
    cfg.train_dataloader.batch_size = 1
    cfg.default_hooks = dict(
        logger=dict(type="ProgressHook", interval=1),
        checkpoint=None,
        provenance=None,
        loss_plot=None,
    )
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    cfg.randomness = dict(seed=3)
    cfg.work_dir = work_dir
    if strategy != "none":
        cfg.strategy = Config.fromfile(STRATEGIES.format(strategy)).strategy
    return set_launcher(cfg)


def _copy_dtypes(full, tiny):
    for key, value in full.items():
        if isinstance(value, dict) and isinstance(tiny.get(key), dict):
            _copy_dtypes(value, tiny[key])
    if full.get("torch_dtype"):
        tiny["torch_dtype"] = full["torch_dtype"]


def start_twins(root, cases):
    """Train two steps of every (config, strategy); failures go to a file."""
    failures = {}
    for number, (path, strategy) in enumerate(cases):
        work_dir = os.path.join(root, f"{number:03d}-{strategy}")
        try:
            build_runner(twin_config(path, work_dir, strategy)).train()
            losses = read_losses(work_dir)
            if len(losses) != 2 or not all(map(math.isfinite, losses.values())):
                raise RuntimeError(f"losses {losses}")
        except Exception as error:
            traceback.print_exc()
            text = f"{type(error).__name__}: {error!s:.500}"
            failures[f"{os.path.basename(path)} {strategy}"] = text
        print("DONE", number, path, strategy, flush=True)
    with open(os.path.join(root, f"failures-{os.environ['RANK']}.json"), "w") as file:
        json.dump(failures, file, indent=2)


# Weights that move -------------------------------------------------------------


def moving_config(work_dir, recipe, strategy, resume=False):
    """A fine-tuning at 2e-5 of random towers in the full config's dtypes."""
    cfg = twin_config(dict(full=FULL, lora=CONFIG)[recipe], work_dir, strategy)
    cfg.train_dataloader.sampler = dict(type="RandomBatchSampler")
    # The same samples in every step, however many processes there are.
    cfg.train_dataloader.batch_size = 2 if cfg.launcher == "none" else 1
    cfg.train_cfg = dict(type="VLMTrainLoop", max_iters=12)
    cfg.param_scheduler = None
    cfg.optim_wrapper.paramwise_cfg = None
    cfg.optim_wrapper.optimizer = dict(type="AdamW", lr=2e-5, weight_decay=0.0)
    if cfg.model.language_model.get("lora"):
        cfg.model.language_model.lora.dropout = 0.0  # drawn per process
    cfg.default_hooks.checkpoint = dict(
        type="VLMCheckpointHook", interval=10, max_keep=-1
    )
    cfg.custom_hooks = [dict(type="FirstWeights")]
    cfg.resume = resume
    return cfg


def train_moving(root, cases):
    for recipe, strategy in cases:
        work_dir = os.path.join(root, f"{recipe}-{strategy}")
        build_runner(moving_config(work_dir, recipe, strategy)).train()
        middle = os.path.join(work_dir, "iter_10.pth")
        work_dir = f"{work_dir}-resumed"
        build_runner(moving_config(work_dir, recipe, strategy, resume=middle)).train()


# Validation of a sharded model ---------------------------------------------------


def add_validation(cfg):
    """Validate with short replies to the training samples, every second step."""
    loader = copy.deepcopy(cfg.train_dataloader)
    loader.pop("sampler")
    for step in loader.dataset.pipeline:
        if step.type == "EncodeConversation":
            step.pop("max_length", None)
            step.mode = "generate"
    cfg.model.generation = dict(max_new_tokens=3)
    cfg.val_dataloader, cfg.val_cfg = loader, dict(type="VLMValLoop")
    cfg.train_cfg.val_interval = 2
    cfg.val_evaluator = dict(type="ExactMatchMetric", out_file=None)
    return cfg


def validate_sharded(root):
    """Weights are kept gathered, so that a validation leaves them so."""
    for name in ("whole", "again"):
        cfg = twin_config(FULL, os.path.join(root, name), "fsdp_grad_op")
        cfg.train_cfg.max_iters = 4
        cfg.default_hooks.checkpoint = dict(
            type="VLMCheckpointHook", interval=2, max_keep=-1
        )
        if name == "again":
            cfg.resume = os.path.join(root, "whole", "iter_2.pth")
        runner = build_runner(add_validation(cfg))
        runner.train()
        runner.state_io.reshard()
        block = runner.model.vision_encoder.blocks[0]
        assert all(hasattr(p, "full_tensor") for p in block.parameters())
        assert not any(p.requires_grad for p in block.parameters())
