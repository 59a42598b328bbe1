"""Released differences to a base model: Shikra, Ferret, GPT4RoI, LLaVA v0."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from .keys import DERIVED

#: Tables that may have more rows in the difference than in the base.
_TABLES = ("embed_tokens.weight", "lm_head.weight")


def add_delta(
    delta: Mapping[str, torch.Tensor],
    base: Mapping[str, torch.Tensor],
    source: str = "delta",
) -> dict[str, torch.Tensor]:
    """Return the weights that a released difference stands for.

    What the base has too is added to it. Of tables that grew, the old rows are added
    and the new ones taken as they are, and so is all that the base does not have
    (projectors, samplers).

    Args:
        delta (Mapping[str, torch.Tensor]): by official name.
        base (Mapping[str, torch.Tensor]): of the language model.
        source (str): for messages.

    Returns:
        dict[str, torch.Tensor]: float32 sums in the difference's dtype.

    Raises:
        ValueError: naming a weight that only the base has, or one of another shape.
    """
    base = {name: old for name, old in base.items() if not name.endswith(DERIVED)}
    missing = sorted(set(base) - set(delta))
    if missing:
        raise ValueError(
            f"{source}: lacks {len(missing)} weights of the base: {missing[:8]}; it "
            "was made from another model, or is no difference (leave the base out)."
        )
    summed = dict(delta)
    for name, old in base.items():
        value = delta[name]
        grows = name.endswith(_TABLES) and len(value) > len(old)
        if value.shape[1:] != old.shape[1:] or (len(value) != len(old) and not grows):
            raise ValueError(
                f"{source}: '{name}' is {tuple(value.shape)} in the difference and "
                f"{tuple(old.shape)} in the base."
            )
        rows = value[: len(old)].float() + old.float()
        summed[name] = torch.cat([rows.to(value.dtype), value[len(old) :]])
    return summed
