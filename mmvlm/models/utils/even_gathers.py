"""The same gathers on every rank, whatever its batch holds."""

from __future__ import annotations

from typing import Any

import torch

from .feed import Feed


def run_encoders(model: Any, feed: Feed) -> torch.Tensor | int:
    """Run every encoder once and return 0, attached to all that it gives.

    Where a run gathers weights (FSDP, ZeRO-3), ranks must run the same encoders in one
    order, forward and backward, or they wait for each other. So an encoder runs before
    any part reads it, on a black image if the batch has nothing for it.

    Args:
        model (PartRouting): has the encoders, and makes images for them.
        feed (Feed): of the batch; gets the features, and one image of each in ``lent``.

    Raises:
        ValueError: naming the samples, for several kinds of inputs of one encoder.
    """
    total: torch.Tensor | int = 0
    for name, encoder in model.encoders.items():
        kinds = [kind for kind in encoder.reads if len(feed.batch.inputs.get(kind, ()))]
        if len(kinds) > 1:
            raise ValueError(
                f"samples {list(feed.batch.sample_ids)}: {kinds} in one batch, each a "
                f"run of model.{name}; where weights are sharded (FSDP, ZeRO-3) there "
                "must be one. Take the sampler SingleModalitySampler, or train under "
                "DDP."
            )
        kind = (*kinds, *encoder.reads)[0]
        own = feed if kinds else model.feed(model.example([f"{name}:*"]))
        for _, features in own.groups(name if kind == encoder.reads[0] else kind):
            feed.lent[name, kind] = [([0], features.of_image(0))]
            states = (*features.hidden_states, *features.maps.values())
            total = total + sum(state.flatten()[:1].sum() * 0 for state in states)
    return total
