"""Mask losses on sampled points, most of them where the mask is doubtful."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, grid_sample

#: Points drawn for one that is kept, and the share that is kept by doubt.
OVERSAMPLE, IMPORTANCE = 3, 0.75


def read_points(maps: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Read maps between their cells, bilinearly.

    Shape:
        - ``maps``: (K, h, w)
        - ``points``: (K, P, 2), x and y, fractions of the sides
        - output: (K, P)
    """
    grid = 2 * points[:, None] - 1
    return grid_sample(maps[:, None], grid, align_corners=False)[:, 0, 0]


@torch.no_grad()
def doubtful_points(
    logits: torch.Tensor, seeds: Sequence[int], count: int
) -> torch.Tensor:
    """Draw points of each mask, three quarters of them where it is doubtful.

    Those are the ones with logits nearest to 0 among thrice as many as are wanted.

    Args:
        logits (torch.Tensor): of masks.
        seeds (Sequence[int]): of the draws, one per mask.
        count (int): of points (P).

    Paper: Kirillov et al., "PointRend: Image Segmentation as Rendering", CVPR 2020,
    arXiv 1912.08193.

    Shape:
        - ``logits``: (K, h, w)
        - output: (K, P, 2), x and y, fractions of the sides
    """
    chosen = int(IMPORTANCE * count)
    drawn = torch.stack(
        [
            torch.rand(
                OVERSAMPLE * count + count - chosen,
                2,
                generator=torch.Generator().manual_seed(seed),
            )
            for seed in seeds
        ]
    ).to(logits.device)
    some, others = drawn[:, : OVERSAMPLE * count], drawn[:, OVERSAMPLE * count :]
    doubt = -read_points(logits, some).abs()
    index = doubt.topk(chosen, dim=1).indices
    kept = some.gather(1, index[..., None].expand(-1, -1, 2))
    return torch.cat([kept, others], dim=1)


def sampled_mask_losses(
    logits: torch.Tensor, masks: torch.Tensor, seeds: Sequence[int], count: int
) -> torch.Tensor:
    """Return the sums over masks of BCE and DICE, means over points of each mask.

    DICE is ``1 - (2 sum(p t) + 1) / (sum p + sum t + 1)``, p = sigmoid.

    Args:
        logits (torch.Tensor): of the decoder.
        masks (torch.Tensor): targets.
        seeds (Sequence[int]): see :func:`doubtful_points`.
        count (int): of points.

    Shape:
        - ``logits``, ``masks``: (K, h, w)
        - output: (2,), float32
    """
    logits, masks = logits.float(), masks.float()
    points = doubtful_points(logits, seeds, count)
    found, goal = read_points(logits, points), read_points(masks, points)
    entropy = binary_cross_entropy_with_logits(found, goal, reduction="none").mean(1)
    share = found.sigmoid()
    both, total = 2 * (share * goal).sum(1), share.sum(1) + goal.sum(1)
    dice = 1 - (both + 1) / (total + 1)
    return torch.stack([entropy.sum(), dice.sum()])
