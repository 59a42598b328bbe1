"""However samples are dealt or packed, a step's loss and gradients are the same."""

import math

import numpy as np
import pytest
import torch

from mmvlm.datasets.samplers.balanced import BalancedBatchSampler
from mmvlm.datasets.samplers.packing import PackedBatchSampler
from mmvlm.structures import IGNORE_INDEX, SLOT_TOKEN_ID
from mmvlm.testing import make_batch, tiny_vlm

RANKS, ACCUMULATION, PER_BATCH = 2, 2, 3
IMAGE = 16
KINDS = ("segment", "sdpa", "eager", "batched", "flex")
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="FlexAttention has no backward on CPUs"
)


class Samples:
    """One global batch: text of many lengths, none to two images each."""

    name = "samples"

    def __init__(self, device="cpu"):
        rng = np.random.default_rng(0)
        self.device, self.samples, self.pixels = device, [], []
        for number in range(RANKS * ACCUMULATION * PER_BATCH):
            text = rng.integers(
                3, 128, int(rng.choice([4, 6, 9, 40, 90, 150]))
            ).tolist()
            ids = text[:2]
            for _ in range(number % 3):
                ids += [SLOT_TOKEN_ID] * IMAGE + text[2:3]
            ids += text[2:]
            trained = 1 + len(text) // 2
            labels = [IGNORE_INDEX] * (len(ids) - trained) + ids[-trained:]
            self.samples.append((ids, labels))
            self.pixels.append(rng.standard_normal((number % 3, 3, 32, 32)))

    def __len__(self):
        return len(self.samples)

    def token_lengths_at(self, epoch):
        return np.array([len(ids) for ids, _ in self.samples])

    @property
    def num_targets(self):
        return sum(label != IGNORE_INDEX for _, row in self.samples for label in row)

    def batch(self, rows):
        """Collate some samples; the denominator is that of the whole step."""
        pixels = np.concatenate([self.pixels[row] for row in rows])
        pixels = torch.from_numpy(pixels).float() if len(pixels) else None
        batch = make_batch([self.samples[row] for row in rows], pixels)
        batch.denominators["text"] = self.num_targets
        return batch.to(self.device)


def deal(kind, data, **options):
    """Return the micro-batches of all ranks, which must make one step."""
    samplers = [
        kind(
            data,
            seed=0,
            rank=rank,
            world_size=RANKS,
            accumulation=ACCUMULATION,
            **options,
        )
        for rank in range(RANKS)
    ]
    batches = [batch for sampler in samplers for batch in sampler.plan(0)]
    assert len(batches) == RANKS * ACCUMULATION and all(batches)
    assert sorted(row for batch in batches for row in batch) == list(range(len(data)))
    return batches


def schemes(data):
    """Return the same samples, laid out in different ways."""
    balanced = deal(BalancedBatchSampler, data, batch_size=PER_BATCH)
    packed = deal(PackedBatchSampler, data, batch_size=2, pack_length=200)
    assert len({len(batch) for batch in balanced}) > 1
    assert max(map(len, packed)) > 1
    return dict(dealt=balanced, packed=packed, whole=[list(range(len(data)))])


def step(attention, data, batches, grad=True):
    """Return loss and gradients summed over the micro-batches."""
    model = tiny_vlm(lm=dict(attention=attention)).to(data.device)
    model.requires_grad_(grad)
    losses = []
    for rows in batches:
        with torch.set_grad_enabled(grad):
            loss = model(data.batch(rows), mode="loss")["loss"]
        if grad:
            loss.backward()
        losses.append(loss.item())
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return math.fsum(losses), grads


def alone(data):
    """Return the plain layout: every sample by itself."""
    return [[row] for row in range(len(data))]


def check_gradients(attention, data):
    expected, plain = step("eager", data, alone(data))
    assert any(name.startswith("vision_encoder") for name in plain)
    for name, batches in schemes(data).items():
        loss, grads = step(attention, data, batches)

        assert loss == pytest.approx(expected, abs=1e-5), name
        assert grads.keys() == plain.keys()
        for key, value in plain.items():
            torch.testing.assert_close(
                grads[key], value, rtol=1e-5, atol=1e-5, msg=f"{name} {key}"
            )


@pytest.mark.parametrize("attention", KINDS[:-1])
def test_loss_and_gradients_are_those_of_single_samples(attention):
    check_gradients(attention, Samples())


@needs_gpu
@pytest.mark.cuda
def test_flex_attention_trains_as_single_samples_do():
    check_gradients("flex", Samples("cuda"))


def test_loss_of_flex_attention_is_that_of_single_samples():
    data = Samples()
    expected, _ = step("eager", data, alone(data), grad=False)

    for name, batches in schemes(data).items():
        loss, _ = step("flex", data, batches, grad=False)
        assert loss == pytest.approx(expected, abs=1e-5), name


def test_flex_attention_refuses_to_train_on_a_cpu():
    data = Samples()

    with pytest.raises(RuntimeError, match=r"no backward on CPUs; set .*'segment'"):
        step("flex", data, [[0]])


def test_other_samples_of_a_pack_do_not_change_a_sample():
    data = Samples()
    one = step("segment", data, [[4]], grad=False)[0]
    others = step("segment", data, [[1, 7]], grad=False)[0]

    together = step("segment", data, [[1, 4, 7]], grad=False)[0]

    assert together == pytest.approx(one + others, abs=1e-6)
