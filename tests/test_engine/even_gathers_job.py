"""Models whose parts read other encoders than that of their kind, on two ranks."""

from __future__ import annotations

import copy
from datetime import timedelta

import mmvlm  # noqa: F401  isort: skip

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from mmvlm.models.connectors.base import Connector, Filled
from mmvlm.models.connectors.linear import LinearConnector
from mmvlm.models.heads.base import Head, LossTerm
from mmvlm.models.vision_encoders.tiny import TinyVisionEncoder
from mmvlm.structures import FixedTokenCount, Inputs, Targets, ViewLayout
from mmvlm.structures.encoded import SLOT_TOKEN_ID
from mmvlm.testing import make_batch, tiny_vlm


class FourTokens(LinearConnector):
    """Four tokens of a view, whatever its size."""

    token_count = FixedTokenCount(4)

    def forward(self, features):
        return super().forward(features)[:, :4]


class SpotPooling(Connector):
    """A spot is a share of its image's patches, of an encoder that it names."""

    fills = ("spot",)
    token_count = FixedTokenCount(1)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.proj = nn.Linear(self.vision_spec.width, self.out_width)

    @property
    def reads(self):
        return (*super().reads, "spot")

    def forward(self, features):
        raise AssertionError("it fills by itself")

    def fill(self, kind, feed):
        spots = feed.inputs(kind)
        images = feed.images(self.source, self.select_layers)
        pooled = [images[0].patches()[0].mean(0) * one.mean() for one in spots.values]
        return Filled(self.proj(torch.stack(pooled)))


class LookingHead(Head):
    """Scores a state against an image that only it sees, and another."""

    terms, reads = ("look",), ("view:-1", "image_hi:-1")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.proj = nn.Linear(self.in_width, 24)
        self.unread = nn.Linear(2, 2)

    def loss(self, hidden, targets, feed):
        (image,) = feed.some_images("view", targets.owner).values()
        seen = image.patches(0).mean((0, 1))
        total = (self.proj(hidden) * seen).sum().float()
        return dict(look=LossTerm(total, len(targets)))


class TwoKinds(TinyVisionEncoder):
    """Images, and videos of one frame."""

    reads = ("image", "video")

    def forward(self, pixel_values, select_layers=(-2,), kind="image"):
        return super().forward(pixel_values, select_layers)


TOWER = dict(type="TinyVisionEncoder", width=24, num_layers=3, image_size=48)
#: Slots and side of the view of every kind of input.
SIZES = dict(image=(16, 32), video=(4, 32), again=(16, 32), image_hi=(4, 48))
SIZES.update(spot=(1, 48), view=(0, 48))


def model_of_many_readers():
    """Return a model of three encoders, five connectors and a head; all learns."""
    again = dict(type=LinearConnector, fills=["again"])  # reads image
    spots = dict(type=SpotPooling, source="image_hi", select_layers=[-1])
    detail = dict(type=FourTokens, source="high", fills=["image_hi"])
    video = dict(source="video", fills=["video"], select_layers=[-1])
    return tiny_vlm(
        vision_encoder=dict(TOWER, type=TwoKinds, image_size=32),
        encoders=dict(
            high=dict(TOWER, reads=["image_hi"]), looked=dict(TOWER, reads=["view"])
        ),
        connector=None,
        connectors=dict(
            spots=spots,
            again=again,
            detail=detail,
            connector=dict(type="MLPConnector"),
            video=dict(video, type=FourTokens),
        ),
        heads=dict(look=dict(type=LookingHead)),
    ).train()


def batch_of(kinds):
    """Return a sample with a view of each kind, and text behind it."""
    ids, inputs, targets = [1], {}, {}
    for seed, kind in enumerate(kinds):
        length, side = SIZES[kind]
        generator = torch.Generator().manual_seed(seed)
        values = torch.randn(1, 3, side, side, generator=generator)
        layout = ViewLayout((side, side), (side, side))
        inputs[kind] = Inputs(values, (0,), (layout,))
        if length:
            slots = torch.arange(len(ids), len(ids) + length)
            inputs[kind].slot_index, inputs[kind].slot_lens = slots, (length,)
        ids += [*[SLOT_TOKEN_ID] * length, 5]
    ids += [6, 7]
    if "view" in kinds:
        rows = torch.tensor([len(ids) - 1])
        targets["look"] = Targets(rows, (0,), inputs["view"])
    labels = [-100 if one == SLOT_TOKEN_ID else one for one in ids]
    return make_batch([(ids, labels)], inputs=inputs, targets=targets)


def gradients(model, kinds):
    """Return the gradient of every weight; 0 where it has none."""
    model.zero_grad()
    sum(model(batch_of(kinds), mode="loss").values()).backward()
    found = {}
    for name, weight in model.named_parameters():
        grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        found[name] = grad.full_tensor() if isinstance(grad, DTensor) else grad
    return {name: grad.clone() for name, grad in found.items()}


def gradients_of_shards(work_dir, cases):
    """Hold what FSDP gives two ranks against what each gives alone."""
    from mmvlm.engine.runner.setup import tell_model_about_ranks
    from mmvlm.engine.strategies.fsdp import VLMFSDPStrategy

    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=100))
    alone = model_of_many_readers()
    env = dict(launcher="pytorch")
    strategy = VLMFSDPStrategy(work_dir=work_dir, env_kwargs=env)
    strategy._dtype = None
    sharded = copy.deepcopy(alone)
    tell_model_about_ranks(sharded, 2, sharded=True)
    sharded = strategy._wrap_model(sharded)
    for kinds in cases:
        found = gradients(sharded, kinds[torch.distributed.get_rank()])
        each = [gradients(alone, one) for one in kinds]
        for name, grad in found.items():
            mean = (each[0][name] + each[1][name]) / 2
            close = torch.allclose(grad, mean, atol=1e-6, rtol=1e-4)
            assert close, (kinds, name, (grad - mean).abs().max())


def refused_under_zero3(work_dir):
    """Neither rank sees a spot; who has none cannot keep step with one who has."""
    from mmvlm.engine.runner.setup import tell_model_about_ranks
    from mmvlm.engine.strategies.deepspeed import VLMDeepSpeedStrategy

    strategy = VLMDeepSpeedStrategy(
        work_dir=work_dir,
        env_kwargs=dict(launcher="pytorch"),
        zero_optimization=dict(stage=3),
    )
    model = model_of_many_readers()
    tell_model_about_ranks(model, 2, sharded=strategy.shards_weights)
    kwargs = dict(train_micro_batch_size_per_gpu=1)
    sharded = strategy.prepare(model, dispatch_kwargs=kwargs)
    try:
        sharded.model(batch_of(("image",)), mode="loss")
    except ValueError as error:
        print(f"refused: {error}")
    else:
        raise AssertionError("a batch without spots was taken under ZeRO-3")
