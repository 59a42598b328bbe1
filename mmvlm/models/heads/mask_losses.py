"""LISA's mask losses: BCE and DICE of every mask, at the image's own resolution."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.checkpoint import checkpoint

from mmvlm.models.utils.sam import restore_masks
from mmvlm.structures import ViewLayout

#: DICE's numerator and denominator are divided by the first and raised by the second.
DICE_SCALE, DICE_EPS = 1000.0, 1e-6


def mask_bce(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean binary cross entropy over the pixels of each mask.

    Shape:
        - ``logits``, ``target``: (K, H, W), float
        - output: (K,), float32
    """
    entropy = binary_cross_entropy_with_logits(
        logits.float(), target.float(), reduction="none"
    )
    return entropy.flatten(1).mean(1)


def mask_dice(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the DICE loss of each mask.

    ``1 - (2 sum(p t) / 1000 + 1e-6) / ((sum p + sum t) / 1000 + 1e-6)``, p = sigmoid.

    Shape:
        - ``logits``, ``target``: (K, H, W), float
        - output: (K,), float32
    """
    share, target = logits.float().sigmoid().flatten(1), target.float().flatten(1)
    both = 2 * (share / DICE_SCALE * target).sum(1)
    total = (share / DICE_SCALE).sum(1) + (target / DICE_SCALE).sum(1)
    return 1 - (both + DICE_EPS) / (total + DICE_EPS)


def runs_to_mask(runs: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return the pixels of run lengths, on their device and without a sync.

    Args:
        runs (torch.Tensor): background first, down the columns, as COCO counts.
        size (tuple[int, int]): height and width.

    Shape:
        - ``runs``: (R,), integers whose sum is H * W
        - output: (H, W), float32, 0 and 1
    """
    values = torch.arange(len(runs), device=runs.device) % 2
    flat = values.float().repeat_interleave(runs, output_size=size[0] * size[1])
    return flat.view(size[1], size[0]).T


def summed_mask_losses(
    low_res: torch.Tensor,
    runs: list[torch.Tensor],
    layouts: list[ViewLayout],
    side: int,
) -> torch.Tensor:
    """Return the sums over masks of BCE and DICE at the images' own resolution.

    Masks are enlarged one by one, and again in the backward pass, so that the memory
    is that of one mask however many there are.

    Args:
        low_res (torch.Tensor): logits of the decoder.
        runs (list[torch.Tensor]): K targets; see :func:`runs_to_mask`.
        layouts (list[ViewLayout]): of the images, K.
        side (int): of the square that the decoder's grid covers, in pixels.

    Shape:
        - ``low_res``: (K, h, w)
        - output: (2,), float32
    """

    def both(logits: torch.Tensor, own: torch.Tensor, layout: ViewLayout):
        full = restore_masks(logits[None], layout, side)
        target = runs_to_mask(own, layout.original_size)[None]
        return torch.cat([mask_bce(full, target), mask_dice(full, target)])

    total = low_res.new_zeros(2, dtype=torch.float32)
    for logits, own, layout in zip(low_res, runs, layouts, strict=True):
        total = total + checkpoint(both, logits, own, layout, use_reentrant=False)
    return total
