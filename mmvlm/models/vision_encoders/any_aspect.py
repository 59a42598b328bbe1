"""CLIP on views of any aspect ratio, with as many patches as each needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from mmvlm.models.utils.positions import packed_positions
from mmvlm.registry import MODELS
from mmvlm.structures import VisionFeatures

from .hf_vision import HFVisionEncoder
from .wrapped import WrappedVisionEncoder


@MODELS.register_module()
class AnyAspectVisionEncoder(WrappedVisionEncoder):
    """A CLIP tower that takes views with patch grids of their own (LLaVA-UHD).

    A view comes as patches, packed row by row into a square
    (``SliceViews(keep_aspect=True)``), so that views of all grids share one tensor. The
    tower's position embeddings are interpolated to each grid, and no token attends to
    the empty rest of a square: every view is encoded as if it were alone. Without
    ``grids`` the tower is run as it is.

    Paper: Xu et al., "LLaVA-UHD: an LMM Perceiving Any Aspect Ratio and
    High-Resolution Images", ECCV 2024, arXiv 2403.11703. Deviations: none; positions
    are interpolated as the released code does (bicubic).

    Args:
        vision_encoder (dict | HFVisionEncoder): config or module of a CLIP tower.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for another tower, or an attention that takes no mask.

    Trainable parameters: the tower's.
    """

    takes_grids = True

    def __init__(
        self,
        vision_encoder: dict | HFVisionEncoder,
        *,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(vision_encoder, init_cfg)
        config = getattr(self.wrapped, "config", None)
        kind = getattr(config, "model_type", type(self.wrapped).__name__)
        attention = str(getattr(config, "_attn_implementation", None))
        if kind not in ("clip", "clip_vision_model") or "flash" in attention:
            raise ValueError(
                f"AnyAspectVisionEncoder: got a tower '{kind}' with attention "
                f"'{attention}', expected HFVisionEncoder with a CLIP and attention "
                "'sdpa' or 'eager'."
            )

    def forward(
        self,
        pixel_values: torch.Tensor,
        select_layers: Sequence[int] = (-2,),
        grids: Sequence[tuple[int, int]] = (),
    ) -> VisionFeatures:
        """Encode views; compute no block deeper than the deepest layer asked for.

        Args:
            pixel_values (torch.Tensor): normalised views; with ``grids``, of patches
                packed row by row.
            select_layers (Sequence[int]): indices into the hidden states.
            grids (Sequence[tuple[int, int]]): patch rows and columns of every view.

        Shape:
            - ``pixel_values``: (V, 3, H, W), float, V may be 0
            - every hidden state: (V, 1 + N, Dv), N patches of the H x W square; those
              behind a view's own mean nothing

        Raises:
            ValueError: when there is no grid for every view, or one has more patches
                than a square.
        """
        tower = self.wrapped
        if not len(grids):
            return tower(pixel_values, select_layers)
        whole = self.spec.grid(*pixel_values.shape[-2:])
        count = whole[0] * whole[1]
        most = max(rows * cols for rows, cols in grids)
        if len(grids) != len(pixel_values) or most > count:
            raise ValueError(
                f"AnyAspectVisionEncoder: {len(grids)} grids of up to {most} patches "
                f"for {len(pixel_values)} views of {count}."
            )
        layers = tuple(self.spec.layer_index(layer) for layer in select_layers)
        embeddings = tower.vision_model.embeddings
        dtype = tower.weight_dtype
        tokens = embeddings.patch_embedding(pixel_values.to(dtype))
        table, side = embeddings.position_embedding.weight, self.spec.image_size
        place, absent = packed_positions(
            table[1:], self.spec.grid(side, side), grids, count
        )
        first = table[:1].expand(len(grids), 1, -1)
        hidden = tower.embed_tokens(
            tokens.flatten(2).transpose(1, 2), torch.cat([first, place], 1)
        )
        mask = None
        if any(rows * cols < count for rows, cols in grids):
            absent = functional.pad(absent, (1, 0))[:, None, None]
            mask = hidden.new_zeros(absent.shape)
            mask = mask.masked_fill(absent, torch.finfo(mask.dtype).min)
            mask = mask.expand(-1, -1, hidden.shape[1], -1)
        states = tower.run_blocks(hidden, layers, attention_mask=mask)
        return VisionFeatures(
            states, layers, whole, self.spec.num_prefix_tokens, grids=tuple(grids)
        )

    @classmethod
    def tiny(cls) -> AnyAspectVisionEncoder:
        """Build one around a random CLIP of three layers."""
        return cls(HFVisionEncoder.tiny())
