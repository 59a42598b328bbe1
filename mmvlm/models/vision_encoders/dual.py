"""Two encoders on one image: a transformer and a ConvNeXt at higher resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, gelu, interpolate

from mmvlm.registry import MODELS
from mmvlm.structures import MapSpec, VisionFeatures

from .base import VisionEncoder
from .blockwise import BlockwiseVisionEncoder
from .convnext import TimmConvNeXt
from .hf_vision import HFVisionEncoder


def _build(part: dict | nn.Module) -> nn.Module:
    return MODELS.build(part) if isinstance(part, dict) else part


class _TwoTowerVisionEncoder(VisionEncoder):
    """Base: views of ``image_size`` for the second encoder, smaller for the first."""

    low: BlockwiseVisionEncoder
    high: TimmConvNeXt

    def __init__(
        self,
        low: dict | BlockwiseVisionEncoder,
        high: dict | TimmConvNeXt,
        image_size: int,
        low_size: int,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.low, self.high = _build(low), _build(high)
        spec = self.low.spec
        side = low_size // spec.patch_size
        if low_size % spec.patch_size or image_size % side:
            raise ValueError(
                f"{type(self).__name__}: image_size={image_size} does not divide into "
                f"the {side} patches per side of {low_size} pixels in "
                f"{type(self.low).__name__}."
            )
        # A patch of the grid is that many pixels of the large view.
        self.spec = replace(spec, image_size=image_size, patch_size=image_size // side)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Blocks of the transformer in order."""
        return self.low.blocks

    def init_weights(self) -> None:
        """Do nothing: weights are loaded or drawn in the constructors."""
        self.is_init = True

    def shrink(
        self, views: torch.Tensor, align_corners: bool, times: int = 1
    ) -> torch.Tensor:
        """Resize views to ``times`` the transformer's size: (V, 3, h, w)."""
        patch = self.low.spec.patch_size * times
        size = tuple(side // self.spec.patch_size * patch for side in views.shape[-2:])
        if not len(views):
            return views.new_zeros(0, 3, *size)
        return interpolate(views, size, mode="bilinear", align_corners=align_corners)


@MODELS.register_module()
class DualVisionEncoder(_TwoTowerVisionEncoder):
    """Hidden states of a transformer, and a ConvNeXt's map of the same image.

    Views come at the high resolution; the transformer sees them smaller. The maps
    of all ConvNeXt stages, resized to the first, stand side by side in
    ``VisionFeatures.maps["fine"]`` for ``PatchInfoMiningFuser``.

    With ``grid`` above 1 (the HD models) the transformer sees the image as a whole
    and as grid * grid crops of its own size. Patch grids and maps of the whole and of
    the crops, row by row, then lie on top of each other in one view.

    Paper: Li et al., "Mini-Gemini: Mining the Potential of Multi-modality Vision
    Language Models", 2024, arXiv 2403.18814. Deviations: none known.

    Args:
        low (dict | BlockwiseVisionEncoder): the transformer.
        high (dict | TimmConvNeXt): the ConvNeXt.
        image_size (int): side of a view in pixels, a multiple of the patches per
            side of ``low``.
        grid (int): crops per side for the transformer, beside the whole; 1: the
            whole alone. The released HD models have 2.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: when the sizes do not divide.
    """

    #: What ``--tiny`` makes of it.
    tiny_fields = dict(image_size=64)  # noqa: RUF012
    official_keys: ClassVar = {
        f"model.vision_tower_aux.vision_{part}.": f"vision_encoder.high.{part}."
        for part in ("stem", "stages")
    }

    def __init__(
        self,
        low: dict | BlockwiseVisionEncoder,
        high: dict | TimmConvNeXt,
        image_size: int = 768,
        grid: int = 1,
        init_cfg: dict | list | None = None,
    ) -> None:
        low = _build(low)
        super().__init__(low, high, image_size, low.spec.image_size, init_cfg)
        stride, self.crops = self.high.strides[0], grid
        if grid < 1 or self.spec.patch_size % (stride * grid):
            raise ValueError(
                f"DualVisionEncoder: a patch of {self.spec.patch_size} pixels does not "
                f"divide into cells of {stride} under each of grid={grid} crops; "
                f"change image_size={image_size}."
            )
        self.spec = replace(
            self.spec,
            maps=(
                MapSpec(
                    "fine",
                    sum(self.high.widths),
                    self.spec.patch_size // (stride * grid),
                ),
            ),
        )
        if grid > 1:
            self.spec = replace(self.spec, stacked=grid * grid + 1, num_prefix_tokens=0)

    def forward(
        self, pixel_values: torch.Tensor, select_layers: Sequence[int] = (-2,)
    ) -> VisionFeatures:
        """Encode views twice.

        Shape:
            - ``pixel_values``: (V, 3, H, W), V may be 0
            - every hidden state: (V, P + N, Dv); (V, S * N, Dv) for S stacked grids
            - ``maps["fine"]``: (V, C, H / 4, W / 4), C = channels of all stages; (V,
              C, S * H / (4 * grid), W / (4 * grid)) for S stacked grids
        """
        if self.crops == 1:
            features = self.low(self.shrink(pixel_values, False), select_layers)
        else:
            features = self._encode_crops(pixel_values, select_layers)
        if not len(pixel_values):
            rows, cols = (
                side * self.spec.maps[0].cells
                for side in self.spec.grid(*pixel_values.shape[-2:])
            )
            dtype = features.hidden_states[0].dtype
            shape = (0, self.spec.maps[0].width, rows, cols)
            features.maps["fine"] = pixel_values.new_zeros(shape, dtype=dtype)
            return features
        first, *others = self.high(pixel_values)
        resized = [
            interpolate(one, first.shape[-2:], mode="bilinear", align_corners=False)
            for one in others
        ]
        fine = torch.cat([first, *resized], 1)
        if self.crops > 1:
            fine = self._with_whole(fine).transpose(1, 2).flatten(2, 3)
        features.maps["fine"] = fine
        return features

    def _encode_crops(
        self, views: torch.Tensor, select_layers: Sequence[int]
    ) -> VisionFeatures:
        """Encode whole and crops: states (V, S * N, Dv), prefix tokens off."""
        small = self._with_whole(self.shrink(views, False, self.crops))
        features = self.low(small.flatten(0, 1), select_layers)
        rows, cols = self.spec.grid(*views.shape[-2:])
        states = tuple(
            state[:, features.num_prefix_tokens :].reshape(
                len(views), rows * cols, state.shape[-1]
            )
            for state in features.hidden_states
        )
        return VisionFeatures(states, features.layers, (rows, cols))

    def _with_whole(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the whole, as small as a crop, and the crops row by row.

        Shape:
            - ``maps``: (V, C, g * h, g * w)
            - output: (V, g * g + 1, C, h, w)
        """
        size = [side // self.crops for side in maps.shape[-2:]]
        crops = maps.unflatten(3, (self.crops, -1)).unflatten(2, (self.crops, -1))
        crops = crops.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        if not len(maps):
            return maps.new_zeros(0, self.spec.stacked, maps.shape[1], *size)
        whole = interpolate(maps.float(), size, mode="bilinear", align_corners=False)
        return torch.cat([whole[:, None].to(maps.dtype), crops], 1)

    @classmethod
    def tiny(cls) -> DualVisionEncoder:
        """Build a miniature: 4 x 4 patches, 4 x 4 cells under each."""
        return cls(HFVisionEncoder.tiny(), TimmConvNeXt.tiny(), **cls.tiny_fields)


def fit_map(slow: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bring a map to a grid: bilinear if it is smaller, else the mean of its cells.

    Shape:
        - ``slow``: (V, C, H, W); output: (V, C, ``size``)

    Raises:
        ValueError: when a larger map does not divide into the grid.
    """
    have = tuple(slow.shape[-2:])
    if have == tuple(size):
        return slow
    if have[0] < size[0] and have[1] < size[1]:
        return interpolate(slow, size, mode="bilinear", align_corners=True)
    if have[0] % size[0] or have[1] % size[1]:
        raise ValueError(
            f"a slow map of {have} cells does not divide into a fast grid of {size}; "
            "choose another image_size."
        )
    return adaptive_avg_pool2d(slow, size)


class ResolutionAdapter(nn.Module):
    """Mix the slow map into the fast tokens, by a gate per image (MR-adapter).

    Args:
        fast_width (int): channels of the fast tokens.
        slow_width (int): channels of the slow map.
    """

    def __init__(self, fast_width: int, slow_width: int) -> None:
        super().__init__()
        self.slow_conv = nn.Conv2d(slow_width, slow_width, 1)
        self.slow_proj = nn.Conv2d(slow_width, fast_width, 1)
        self.fast_conv = nn.Conv2d(
            fast_width, fast_width, 7, padding=3, groups=fast_width
        )
        self.fast_proj = nn.Conv2d(fast_width, fast_width, 1)
        self.gate = nn.Sequential(
            nn.Linear(2 * fast_width, fast_width // 2),
            nn.GELU(),
            nn.Linear(fast_width // 2, 1),
        )
        for layer in (self.slow_proj, self.fast_proj):  # identity at first
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, fast: torch.Tensor, slow: torch.Tensor, grid: tuple[int, int]
    ) -> torch.Tensor:
        """Mix.

        Shape:
            - ``fast``: (V, H*W, C) on ``grid`` (H, W)
            - ``slow``: (V, Cs, Hs, Ws)
            - output: (V, H*W, C)
        """
        slow = fit_map(self.slow_proj(gelu(self.slow_conv(slow))), grid)
        fast = fast.transpose(1, 2).unflatten(-1, grid)
        fast = fast + self.fast_proj(gelu(self.fast_conv(fast)))
        both = torch.cat([fast, slow], 1).mean((2, 3))
        gate = self.gate(both).tanh()[..., None, None]
        return (fast + slow * gate).flatten(2).transpose(1, 2)


class FinalAlignment(nn.Module):
    """Sum of the two encoders' tokens, each through a linear layer.

    Args:
        fast_width (int): channels of the fast tokens and the output.
        slow_width (int): channels of the slow map.
    """

    def __init__(self, fast_width: int, slow_width: int) -> None:
        super().__init__()
        self.fast_proj = nn.Linear(fast_width, fast_width)
        self.slow_proj = nn.Linear(slow_width, fast_width)

    def forward(
        self, fast: torch.Tensor, slow: torch.Tensor, grid: tuple[int, int]
    ) -> torch.Tensor:
        """Align and add.

        Shape:
            - ``fast``: (V, H*W, C) on ``grid`` (H, W)
            - ``slow``: (V, Cs, Hs, Ws)
            - output: (V, H*W, C)
        """
        tokens = fit_map(slow, grid).flatten(2).transpose(1, 2)
        return self.fast_proj(fast) + self.slow_proj(tokens)


@MODELS.register_module()
class MixtureOfResolutionVisionEncoder(_TwoTowerVisionEncoder):
    """A transformer that is told by a ConvNeXt what it is too coarse to see.

    After some of its blocks adapters mix the last ConvNeXt map into the tokens;
    after the last block both are aligned and added. The class token is left out
    from the beginning. Adapters start as the identity.

    Paper: Luo et al., "Feast Your Eyes: Mixture-of-Resolution Adaptation for
    Multimodal Large Language Models", ICLR 2025, arXiv 2403.03003. Deviations: none
    known.

    Args:
        low (dict | BlockwiseVisionEncoder): the transformer (fast path).
        high (dict | TimmConvNeXt): the ConvNeXt (slow path).
        image_size (int): side of a view in pixels; the transformer sees
            ``max(image_size / 32 * patch, its own size)``.
        stages (Sequence[int]): blocks after which an adapter stands; empty for
            none (stage 1).
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: when the sizes do not divide, or a stage is no block.
    """

    #: What ``--tiny`` makes of it.
    tiny_fields = dict(image_size=128, stages=(1,))  # noqa: RUF012
    #: Both towers and what joins them lie in one; the adapters stand behind the first
    #: three quarters of CLIP's 24 blocks.
    official_keys: ClassVar = {
        f"model.vision_tower.{theirs}": f"vision_encoder.{ours}"
        for theirs, ours in (
            ("slow_vision_tower.vision_tower.", "high."),
            *(
                (f"align_stages_latent.{i}.", f"adapters.{6 * i + 6}.")
                for i in range(3)
            ),
            ("align_stages.0.", "align."),
            ("fast_vision_tower.vision_tower.vision_model.", ""),
        )
    }
    official_marks = ("model.vision_tower.fast_vision_tower.",)
    #: What it holds at least: the layers that join both towers.
    official_weights = tuple(
        f"vision_encoder.align.{name}_proj.weight" for name in ("fast", "slow")
    )

    def __init__(
        self,
        low: dict | BlockwiseVisionEncoder,
        high: dict | TimmConvNeXt,
        image_size: int = 1024,
        stages: Sequence[int] = (6, 12, 18),
        init_cfg: dict | list | None = None,
    ) -> None:
        low, high = _build(low), _build(high)
        side = image_size // high.strides[-1] * low.spec.patch_size
        low_size = max(side, low.spec.image_size)
        super().__init__(low, high, image_size, low_size, init_cfg)
        self.spec = replace(self.spec, num_prefix_tokens=0)
        count = low.spec.num_layers
        if not set(stages) <= set(range(1, count + 1)):
            raise ValueError(
                f"MixtureOfResolutionVisionEncoder: stages={list(stages)}, expected "
                f"blocks 1..{count}."
            )
        widths = (low.spec.width, high.widths[-1])
        self.adapters = nn.ModuleDict(
            {str(stage): ResolutionAdapter(*widths) for stage in stages}
        )
        self.align = FinalAlignment(*widths)

    def forward(
        self, pixel_values: torch.Tensor, select_layers: Sequence[int] = (-1,)
    ) -> VisionFeatures:
        """Encode views; the last hidden state is the aligned one.

        Shape:
            - ``pixel_values``: (V, 3, H, W), V may be 0
            - every hidden state: (V, N, Dv)
        """
        layers = tuple(self.spec.layer_index(layer) for layer in select_layers)
        grid, last = self.spec.grid(*pixel_values.shape[-2:]), self.spec.num_layers
        dtype = self.low.weight_dtype
        if not len(pixel_values):
            shape = (0, grid[0] * grid[1], self.spec.width)
            empty = pixel_values.new_zeros(shape, dtype=dtype)
            return VisionFeatures((empty,) * len(layers), layers, grid)
        small = self.shrink(pixel_values, True).to(dtype)
        hidden = self.low.embed_patches(small)[:, self.low.spec.num_prefix_tokens :]
        kept = {0: hidden}
        # A tower in half precision may meet adapters in full precision.
        own = self.align.fast_proj.weight.dtype
        slow = self.high(pixel_values)[-1].to(own) if max(layers) else None
        for number, block in enumerate(self.blocks[: max(layers)], 1):
            hidden = self.low.run_block(block, hidden)
            if str(number) in self.adapters:
                hidden = self.adapters[str(number)](hidden.to(own), slow, grid)
                hidden = hidden.to(dtype)
            if number == last:
                hidden = self.align(hidden.to(own), slow, grid).to(dtype)
            if number in layers:
                kept[number] = hidden
        return VisionFeatures(tuple(kept[k] for k in layers), layers, grid)

    @classmethod
    def tiny(cls) -> MixtureOfResolutionVisionEncoder:
        """Build a miniature of 3 blocks with one adapter."""
        low, high = HFVisionEncoder.tiny(), TimmConvNeXt.tiny()
        return cls(low, high, **cls.tiny_fields)
