"""A minuscule VLM-shaped model and data set for tests of the engine."""

from __future__ import annotations

import json
import os
import random

import mmvlm  # noqa: F401  isort: skip

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.nn import functional as F

from mmvlm.datasets.mixture import MixtureDataset
from mmvlm.datasets.samplers.simple import RandomBatchSampler
from mmvlm.registry import DATA_SAMPLERS, DATASETS, FUNCTIONS, HOOKS, MODELS
from mmvlm.structures import (
    IGNORE_INDEX,
    EncodedSample,
    Inputs,
    TokenStream,
    VLMBatch,
)


@MODELS.register_module(force=True)
class ToyVLM(BaseModel):
    """Vision encoder, connector and language model of one layer each."""

    vision_spec = None
    token_count = None

    def __init__(self, width=8, vocab=17, train_parts=None, dropout=0.0, poison=None):
        super().__init__()
        self.vision_encoder = nn.Linear(3, width)
        self.connector = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.language_model = nn.ModuleDict(
            dict(
                embed=nn.Embedding(vocab, width),
                body=nn.Linear(width, width),
                head=nn.Linear(width, vocab),
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.poison = poison
        self.touch_all_parts = False
        chosen = dict(vision_encoder=False, connector=True, language_model=True)
        chosen.update(train_parts or {})
        for name, trained in chosen.items():
            getattr(self, name).requires_grad_(trained)

    @property
    def parts(self):
        names = ("vision_encoder", "connector", "language_model")
        return {name: getattr(self, name) for name in names}

    def loss_counts(self, batch):
        return dict(text=batch.text.num_targets)

    def forward(self, inputs, data_samples=None, bad_records=None, mode="loss"):
        x = self.language_model["embed"](inputs.text.input_ids)
        if "image" in inputs.inputs:
            images = inputs.inputs["image"]
            views = images.values.float().mean((2, 3)) / 255
            x = x.index_add(
                0, images.slot_index, self.connector(self.vision_encoder(views))
            )
        elif self.touch_all_parts:
            x = x + 0 * self.connector(self.vision_encoder(x.new_zeros(1, 3))).sum()
        x = x + self.dropout(torch.tanh(self.language_model["body"](x)))
        if mode == "predict":
            for sample in data_samples:
                sample.pred_text = "toy"
            return data_samples
        logits = self.language_model["head"](x[inputs.text.target_rows])
        total = F.cross_entropy(logits.float(), inputs.text.targets, reduction="sum")
        if self.poison is not None and self.poison in inputs.sample_ids:
            total = total * float("nan")
        denominator = inputs.denominators.get("text", max(1, inputs.text.num_targets))
        return dict(loss=total / denominator)


@DATASETS.register_module(force=True)
class ToyDataset(torch.utils.data.Dataset):
    """Samples of very different answer lengths, every third without an image."""

    metainfo = {"name": "toy"}

    def __init__(self, size=40, seed=0, text_only=None):
        self.size, self.seed, self.epoch = size, seed, torch.zeros(1).share_memory_()
        self.text_only = text_only

    def __len__(self):
        return self.size

    def set_epoch(self, epoch):
        self.epoch.fill_(epoch)

    @property
    def lengths(self):
        return [3] * self.size

    def __getitem__(self, index):
        rng = np.random.default_rng((self.seed, int(self.epoch), index))
        length = 3 + int(rng.choice([1, 2, 30]))
        ids = rng.integers(0, 17, length)
        is_text = index % 3 == 0
        if self.text_only is not None:
            is_text = index in self.text_only
        pixels = None if is_text else rng.integers(0, 256, (1, 3, 4, 4)).astype("u1")
        return dict(ids=ids, pixels=pixels, id=f"toy-{index}")


@FUNCTIONS.register_module(force=True)
def toy_collate(items):
    samples = []
    for item in items:
        labels = item["ids"].copy()
        labels[:2] = IGNORE_INDEX
        samples.append(EncodedSample(item["ids"], labels))
    stream, inputs = TokenStream.join(samples), {}
    owner = tuple(n for n, item in enumerate(items) if item["pixels"] is not None)
    if owner:
        pixels = np.concatenate([items[number]["pixels"] for number in owner])
        # The image is added to the first token of its sample.
        slots = stream.cu_seqlens[list(owner)].long()
        inputs["image"] = Inputs(
            torch.from_numpy(pixels), owner, (), slots, (1,) * len(owner)
        )
    names = tuple(item["id"] for item in items)
    batch = VLMBatch(dict(text=stream), inputs, sample_ids=names)
    return dict(inputs=batch, data_samples=[])


@DATA_SAMPLERS.register_module(force=True)
class ToyBatchSampler:
    """Shuffled batches, dealt to ranks; stands for the real ones."""

    def __init__(self, dataset, batch_size, seed=0, shuffle=True):
        from mmengine.dist import get_dist_info

        self.rank, self.world = get_dist_info()
        self.size, self.batch_size = len(dataset), batch_size
        self.seed, self.shuffle, self.epoch, self.position = seed, shuffle, 0, 0

    def plan(self, epoch):
        order = list(range(self.size))
        if self.shuffle:
            random.Random(f"{self.seed}-{epoch}").shuffle(order)
        step = self.batch_size * self.world
        return [
            order[i + self.rank * self.batch_size :][: self.batch_size]
            for i in range(0, self.size - step + 1, step)
        ]

    def set_epoch(self, epoch):
        self.epoch = epoch

    def set_position(self, position):
        self.position = position

    def __len__(self):
        return self.size // (self.batch_size * self.world)

    def __iter__(self):
        start, self.position = self.position, 0
        yield from self.plan(self.epoch)[start:]


def toy_config(work_dir, **changes):
    """Return the config of a short run; keyword arguments replace top-level keys."""
    from mmengine.config import Config

    cfg = dict(
        model=dict(type="ToyVLM"),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type="ToyBatchSampler"),
            collate_fn=dict(type="toy_collate"),
            dataset=dict(type="ToyDataset"),
        ),
        train_cfg=dict(type="VLMTrainLoop", max_iters=6),
        optim_wrapper=dict(
            type="VLMOptimWrapper",
            constructor="PartOptimWrapperConstructor",
            optimizer=dict(type="AdamW", lr=1e-2, weight_decay=0.01),
        ),
        default_hooks=dict(
            logger=dict(type="ProgressHook", interval=1),
            checkpoint=dict(type="VLMCheckpointHook", interval=2),
        ),
        default_scope="mmvlm",
        work_dir=str(work_dir),
        randomness=dict(seed=0),
    )
    cfg.update(changes)
    return Config(cfg)


@HOOKS.register_module(force=True)
class GradientRecorder(Hook):
    """Writes loss, gradients and weights of every step, as the optimizer sees them."""

    def before_optim_step(self, runner, step):
        from mmvlm.engine.runner.checkpoint import unwrap

        model = unwrap(runner.model)
        named = model.named_parameters()
        grads = {n: p.grad.clone() for n, p in named if p.grad is not None}
        path = f"{runner.work_dir}/grads-{runner.iter}-rank{runner.rank}.pth"
        weights = model.state_dict()
        torch.save(dict(loss=step.loss, grads=grads, weights=weights), path)


def append_line(path, row):
    """Append whole lines, from several processes."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, (json.dumps(row) + "\n").encode())
    os.close(handle)


@DATASETS.register_module(force=True)
class RecordingMixture(MixtureDataset):
    """Writes every fetch: the process whose worker it was, epoch, data set and row."""

    def __init__(self, *args, folder, **kwargs):
        super().__init__(*args, **kwargs)
        self.folder = folder

    def fetch(self, position, repeat=0):
        member, row, _ = self.locate(position)
        name = f"{self.datasets[member].name}/{row}"
        facts = dict(
            run=os.getppid(), worker=os.getpid(), epoch=self.epoch, sample=name
        )
        append_line(os.path.join(self.folder, "fetched.jsonl"), facts)
        return super().fetch(position, repeat)


@HOOKS.register_module(force=True)
class SampleRecorder(Hook):
    """Writes which samples every step trained on, micro-batch by micro-batch."""

    def before_train(self, runner):
        facts = dict(run=os.getpid(), rank=runner.rank, start=runner.iter)
        append_line(os.path.join(runner.work_dir, "starts.jsonl"), facts)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        samples = [
            [f"{one.dataset}/{one.index}" for one in batch["data_samples"]]
            for batch in data_batch
        ]
        facts = dict(step=runner.iter, epoch=runner.epoch, samples=samples)
        path = os.path.join(runner.work_dir, f"samples-rank{runner.rank}.jsonl")
        append_line(path, facts)


@DATA_SAMPLERS.register_module(force=True)
class TwoMembersSampler(RandomBatchSampler):
    """Four samples of a mixture's first half, then four of its second, and so on."""

    def order(self, epoch):
        return np.arange(len(self.dataset)).reshape(2, -1, 4).swapaxes(0, 1).ravel()


@HOOKS.register_module(force=True)
class FirstWeights(Hook):
    """Writes the weights that a run begins with, as its checkpoints would."""

    def before_train(self, runner):
        state = runner.state_io.model_state()
        if runner.rank == 0:
            torch.save(state, os.path.join(runner.work_dir, "first.pth"))
