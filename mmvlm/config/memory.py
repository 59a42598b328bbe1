"""A rough estimate of training memory per GPU, by strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GIB = 2**30
#: Bytes per trained weight in float32 of a gradient, and of AdamW's two moments.
_FLOAT, _MOMENTS = 4, 8


@dataclass(frozen=True)
class PartSize:
    """What the estimate needs to know of a part.

    Args:
        params (int): all weights.
        trainable (int): trained weights.
        bytes_per_param (float): of a weight at rest that is not trained.
    """

    params: int
    trainable: int
    bytes_per_param: float = 2.0


@dataclass(frozen=True)
class ActivationSize:
    """What a training step keeps for backward.

    Args:
        tokens (int): tokens of a micro-batch.
        width (int): channels of the language model.
        layers (int): decoder blocks.
        intermediate (int): channels inside a block's MLP.
        vocab (int): rows of the head.
        checkpointing (bool): whether blocks are recomputed.
        logit_rows (int): most rows of logits held at once.
    """

    tokens: int
    width: int
    layers: int
    intermediate: int
    vocab: int
    checkpointing: bool
    logit_rows: int

    def total(self) -> int:
        """Return bytes in bf16: block inputs, what one block needs, and logits."""
        block = self.tokens * (16 * self.width + 4 * self.intermediate) * 2
        blocks = self.layers * self.tokens * self.width * 2 + block
        if not self.checkpointing:
            blocks = self.layers * block
        logits = min(self.tokens, self.logit_rows) * self.vocab * 4 * 2
        return blocks + logits


def estimate(
    parts: Sequence[PartSize], activations: int, gpus: int, half: bool = True
) -> dict[str, dict[str, float]]:
    """Return GiB per GPU: strategy to ``weights``, ``gradients``, ... ``total``.

    AdamW is assumed. Outside DeepSpeed trained weights and their gradients are
    float32, and autocast keeps a half-precision copy of the weights for backward
    (FSDP of what is gathered, which is not counted but for ``fsdp_grad_op``).
    DeepSpeed computes on half-precision weights, all of them, and keeps float32
    copies beside the moments. Fragmentation, communication buffers and the CUDA
    context (one to three GiB) come on top.

    Args:
        parts (Sequence[PartSize]): parts of the model.
        activations (int): bytes kept for backward.
        gpus (int): number of processes that shard.
        half (bool): whether steps are computed in half precision.
    """
    width = 2 if half else 4
    copy = 2 if half else 0
    trained = sum(part.trainable for part in parts)
    frozen = [(p.params - p.trainable, p.bytes_per_param) for p in parts]
    own = sum(count * size for count, size in frozen)
    cast = sum(count * min(size, width) for count, size in frozen)
    shards = own + trained * _FLOAT
    whole = shards + trained * copy
    zero = cast + trained * width
    grads, moments = trained * _FLOAT, trained * _MOMENTS
    states = moments + trained * _FLOAT  # with DeepSpeed's float32 copies
    rows = {
        "single": (whole, grads, moments),
        "ddp": (whole, grads * 2, moments),  # gradients once more in its buckets
        "zero2": (zero, trained * width / gpus, states / gpus),
        "zero3": (zero / gpus, trained * width / gpus, states / gpus),
        "fsdp": (shards / gpus, grads / gpus, moments / gpus),
        "fsdp_grad_op": (shards / gpus + zero, grads / gpus, moments / gpus),
    }
    table = {}
    for name, row in rows.items():
        values = [value / GIB for value in (*row, activations)]
        keys = ("weights", "gradients", "optimizer", "activations")
        table[name] = dict(zip(keys, values, strict=True), total=sum(values))
    return table
