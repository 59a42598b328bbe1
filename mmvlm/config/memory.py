"""A rough estimate of training memory per GPU, by strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GIB = 2**30
#: Bytes per trained weight: bf16 weight and gradient, float32 copy and two moments.
_WEIGHT, _GRAD, _OPTIMIZER = 2, 2, 12


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
    parts: Sequence[PartSize], activations: int, gpus: int
) -> dict[str, dict[str, float]]:
    """Return GiB per GPU: strategy to ``weights``, ``gradients``, ... ``total``.

    Mixed precision with AdamW is assumed; a float32 run without master copies
    takes the same 16 bytes per trained weight. Fragmentation, communication
    buffers and the CUDA context (one to three GiB) come on top.

    Args:
        parts (Sequence[PartSize]): parts of the model.
        activations (int): bytes kept for backward.
        gpus (int): number of processes that shard.

    """
    trainable = sum(part.trainable for part in parts)
    frozen = sum((p.params - p.trainable) * p.bytes_per_param for p in parts)
    weights = frozen + trainable * _WEIGHT
    grads, states = trainable * _GRAD, trainable * _OPTIMIZER
    rows = {
        "single": (weights, grads, states),
        "ddp": (weights, grads * 2, states),  # gradients once more in its buckets
        "zero2": (weights, grads / gpus, states / gpus),
        "zero3": (weights / gpus, grads / gpus, states / gpus),
        "fsdp": (weights / gpus, grads / gpus, states / gpus),
    }
    table = {}
    for name, row in rows.items():
        values = [value / GIB for value in (*row, activations)]
        keys = ("weights", "gradients", "optimizer", "activations")
        table[name] = dict(zip(keys, values, strict=True), total=sum(values))
    return table
