"""INF-LLaVA's dual-perspective enhancement: blocks and samplings see each other."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from mmvlm.registry import MODELS
from mmvlm.structures import (
    LayoutError,
    ViewLayout,
    VisionEncoderSpec,
    VisionFeatures,
)
from mmvlm.structures.dual_perspective import (
    DualPerspective,
    reassemble_views,
    recrop_views,
)

from .base import Fuser

PAIRINGS = ("code", "paper")
FUSIONS = (
    *("linear_concat", "paper_concat", "add", "mul", "max", "weighted", "conv3x3"),
)
BRANCHES = ("both", "global", "local")
POOLINGS = ("bilinear", "average")
#: Rows and columns in (..., rows, columns, channels).
_DIMS = (-3, -2)


@dataclass(frozen=True)
class OneViewLayout:
    """The layout of an image once its views are one.

    Args:
        views (DualPerspective): the views that an image must have.
        view_size (tuple[int, int] | None): pixels that the fused view stands for;
            None keeps those of one view.
    """

    views: DualPerspective
    view_size: tuple[int, int] | None = None

    def __call__(self, layout: ViewLayout) -> ViewLayout:
        """Return the fused layout.

        Raises:
            LayoutError: when the image has other views.
        """
        if DualPerspective.of(layout) != self.views:
            raise LayoutError(
                f"an image has {layout.num_views} views of the layout "
                f"'{layout.kind}' {layout.extra or ''}, but DualPerspectiveFuser takes "
                f"{self.views.num_views} (grid={self.views.grid}, "
                f"kinds={list(self.views.kinds)}). Put "
                "dict(type='DualPerspectiveViews') into the pipeline, without grid "
                "and kinds."
            )
        size = self.view_size or layout.view_size
        return replace(layout, view_size=size, num_views=1, kind="fused", extra=())


class PostNormAttention(nn.Module):
    """Multi-head attention, then a norm over its sum with the query.

    The four linear layers (query, key, value, output) start as copies of one.

    Args:
        width (int): C.
        heads (int): heads; C must be a multiple.

    Parameters: 4 * (C*C + C) + 2*C.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        linear = nn.Linear(width, width)
        self.linears = nn.ModuleList(copy.deepcopy(linear) for _ in range(4))
        self.ln = nn.LayerNorm(width)
        self.heads = heads

    def forward(self, query: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Return ``LN(attention(query, context) + query)``.

        Shape:
            - ``query``: (M, N, C); ``context``: (M, K, C)
            - output: (M, N, C)
        """
        sources = (query, context, context)
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in zip(self.linears[:3], sources, strict=True)
        )
        out = functional.scaled_dot_product_attention(q, k, v)
        out = self.linears[3](out.transpose(1, 2).flatten(2))
        return self.ln(out + query)


@MODELS.register_module()
class DualPerspectiveFuser(Fuser):
    """Join the views of ``DualPerspectiveViews`` into as many tokens as one has.

    Features of blocks (local) and of samplings (global) are each put back into one
    map of N * N views, where both describe the same places. Each map asks the other
    by attention inside N * N pieces, the answers are joined at full resolution and
    pooled to the size of one view. Choose it where an image holds more pixels than
    the encoder takes and the language model shall read no more tokens.

    Names: ``V_G`` is the map whose query is global, ``V_L`` the one whose query is
    local; A the attention, shared by both.

    - ``pairing='code'``: V_G attends within blocks, V_L within samplings, as the
      released code does; ``'paper'`` swaps the two.
    - ``fusion`` with both branches: ``linear_concat`` (released code),
      ``LN([ffn_crop(V_L), ffn_stride(V_G)] + V_L + V_G)``; ``paper_concat``, the text's
      ``[linear(V_L), linear(V_G)]``; and the baselines, whose exact form is
      unpublished and ours: ``LN`` of ``add`` V_L + V_G, ``mul`` V_L * V_G, ``max``,
      ``weighted`` (two learned weights, a softmax, equal at first), ``conv3x3`` over
      the concatenation.
    - ``branches='global'`` is ``LN(V_G)``, ``'local'`` ``LN(V_L)``, with no fusion.
    - ``enhance=False`` leaves attention and norm out: V_G and V_L are the two maps
      themselves, and of a branch that is not used not even the views are made.

    Paper: Ma et al., "INF-LLaVA: Dual-perspective Perception for High-Resolution
    Multimodal Large Language Model", 2024, arXiv 2407.16198. Deviations: by default
    the released code, which differs from the text in pairing, fusion (bottleneck,
    residuals, norm) and pooling (at odd N its bilinear filter takes the middle of N x
    N cells, averaging nothing); each has a switch. All views go through the encoder in
    one call.

    Args:
        grid (int): N; 3 in the released model.
        heads (int): of the attention.
        out_size (int | None): side of the result in patches; None takes that of a
            view (the released code has 24, which is the same).
        pairing (str): ``code`` or ``paper``.
        fusion (str | None): see above; None is ``linear_concat`` for two branches.
        branches (str): ``both``, ``global`` or ``local``.
        enhance (bool): attend at all.
        average_with_resized (bool): average the result with the resized view.
        pooling (str): ``bilinear`` (code) or ``average`` (paper).
        **kwargs: see :class:`Fuser`.

    Raises:
        ValueError: unknown options, a width that ``heads`` (or 16, for the
            bottleneck) does not divide, options that have no effect together, or
            not exactly one layer.

    Trainable parameters (C = width): attention 4*(C*C + C) + 2*C; norm 2*C;
    ``linear_concat`` 2*(C*C/16 + C/16 + C*C/32 + C/2): in all 4,400,256 at C = 1024.
    ``paper_concat`` C*C + C; ``weighted`` 2; ``conv3x3`` 18*C*C + C; others 0.

    Example:
        >>> fuser = DualPerspectiveFuser.tiny()
        >>> layout = fuser.views_of((32, 32))
        >>> views = torch.zeros(layout.num_views, 17, 32)
        >>> features = VisionFeatures((views,), (2,), (4, 4), 1, (layout,))
        >>> fuser(features).hidden_states[0].shape
        torch.Size([1, 16, 32])
    """

    official_keys: ClassVar = {
        f"model.spatial_embed.{part}.": f"connector.fuser.{part}."
        for part in ("attention", "ffn_crop", "ffn_stride", "ln_fuse")
    }

    def __init__(
        self,
        *,
        grid: int = 3,
        heads: int = 8,
        out_size: int | None = None,
        pairing: str = "code",
        fusion: str | None = None,
        branches: str = "both",
        enhance: bool = True,
        average_with_resized: bool = True,
        pooling: str = "bilinear",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_choice("branches", branches, BRANCHES)
        _check_choice("pairing", pairing, PAIRINGS)
        _check_choice("pooling", pooling, POOLINGS)
        if fusion is None and branches == "both":
            fusion = "linear_concat"
        if fusion is not None:
            _check_choice("fusion", fusion, FUSIONS)
        self.grid, self.out_size = grid, out_size
        self.pairing, self.fusion, self.branches = pairing, fusion, branches
        self.pooling = pooling
        self._check(enhance, heads)
        needs_both = enhance or branches == "both"
        kinds = ("local", "global") if needs_both else (branches,)
        if average_with_resized:
            kinds += ("resized",)
        self.views = DualPerspective(grid, kinds)
        width = self.vision_spec.width
        self.attention = PostNormAttention(width, heads) if enhance else None
        normed = enhance and fusion != "paper_concat"
        self.ln_fuse = nn.LayerNorm(width) if normed else None
        self._add_fusion(width)

    def _check(self, enhance: bool, heads: int) -> None:
        width, problem = self.vision_spec.width, None
        if len(self.select_layers) != 1:
            problem = f"select_layers={list(self.select_layers)}, expected one layer"
        elif self.fusion is not None and self.branches != "both":
            problem = (
                f"fusion={self.fusion!r} joins two branches, but "
                f"branches={self.branches!r}"
            )
        elif self.pairing == "paper" and not enhance:
            problem = "pairing='paper' has no effect with enhance=False"
        elif enhance and (heads < 1 or width % heads):
            problem = f"heads={heads} do not divide the width {width}"
        elif self.fusion == "linear_concat" and width % 16:
            problem = f"linear_concat needs a multiple of 16 channels, not {width}"
        elif self.fusion == "paper_concat" and width % 2:
            problem = f"paper_concat needs an even number of channels, not {width}"
        elif self.out_size is not None and self.out_size < 1:
            problem = f"out_size={self.out_size}, expected above 0"
        if problem:
            raise ValueError(f"DualPerspectiveFuser: {problem}.")

    def _add_fusion(self, width: int) -> None:
        """Make what joins the branches; names as in the official checkpoints."""
        if self.fusion == "linear_concat":
            for name in ("ffn_crop", "ffn_stride"):
                bottleneck = nn.Sequential(
                    nn.Linear(width, width // 16),
                    nn.GELU(),
                    nn.Linear(width // 16, width // 2),
                )
                self.add_module(name, bottleneck)
        elif self.fusion == "paper_concat":
            self.ffn_crop = nn.Linear(width, width // 2)
            self.ffn_stride = nn.Linear(width, width // 2)
        elif self.fusion == "weighted":
            self.scores = nn.Parameter(torch.zeros(2))
        elif self.fusion == "conv3x3":
            self.conv = nn.Conv2d(2 * width, width, 3, padding=1)

    @property
    def out_spec(self) -> VisionEncoderSpec:
        """The encoder's width, one hidden state, no prefix tokens."""
        spec = super().out_spec
        if self.out_size is None:
            return spec
        return replace(spec, image_size=self.out_size * spec.patch_size)

    @property
    def out_layout(self) -> OneViewLayout:
        """All views become one."""
        side = self.out_size and self.out_size * self.vision_spec.patch_size
        return OneViewLayout(self.views, (side, side) if side else None)

    def views_of(self, size: tuple[int, int]) -> ViewLayout:
        """Return the layout of an image of N times that size."""
        height, width = (side * self.grid for side in size)
        return self.views.layout((height, width), tuple(size))

    def forward(self, features: VisionFeatures) -> VisionFeatures:
        """Fuse all views of each image.

        Shape:
            - ``features.hidden_states[0]``: (V, P + h * w, C), V a multiple of the
              views per image, may be 0
            - output ``hidden_states[0]``: (V', h' * w', C), V' images, (h', w') as
              ``out_size`` says, or (h, w)

        Raises:
            LayoutError: when the images have other views.
        """
        layouts = tuple(self.out_layout(layout) for layout in features.layouts)
        patches = features.patches(0)
        count = self.views.num_views
        if len(patches) % count:
            raise LayoutError(
                f"DualPerspectiveFuser: {len(patches)} views are no multiple of "
                f"{count}, the views of an image."
            )
        shape = (len(patches) // count, count, *features.grid, patches.shape[-1])
        views = patches.reshape(shape).transpose(0, 1)
        maps = self.branch_maps(views)
        size = (self.out_size,) * 2 if self.out_size else features.grid
        out = self.pool(self.join(maps), size)
        if "resized" in self.views.kinds:
            whole = self.pool(views[self.views.span("resized")][0], size)
            out = torch.stack([whole, out]).mean(0)
        tokens = out.flatten(1, 2)
        return VisionFeatures((tokens,), (0,), size, 0, layouts)

    def branch_maps(self, views: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``V_L`` (``local``) and ``V_G`` (``global``), those that are used.

        Shape:
            - ``views``: (views per image, B, h, w, C)
            - each map: (B, N * h, N * w, C)
        """
        crops = {
            kind: views[self.views.span(kind)]
            for kind in self.views.kinds
            if kind != "resized"
        }
        used = ("local", "global") if self.branches == "both" else (self.branches,)
        maps = {}
        for kind in used:
            if self.attention is None:
                maps[kind] = reassemble_views(crops[kind], self.grid, kind, _DIMS)
            else:
                maps[kind] = self._attend(crops, kind)
        return maps

    def _attend(self, crops: dict[str, torch.Tensor], kind: str) -> torch.Tensor:
        """Let the map of one kind ask the other, piece by piece, all at once."""
        other = "global" if kind == "local" else "local"
        pieces = other if self.pairing == "code" else kind
        query, context = (
            recrop_views(crops[source], self.grid, (source, pieces), _DIMS)
            for source in (kind, other)
        )
        tokens = (x.flatten(2, 3).flatten(0, 1) for x in (query, context))
        answer = self.attention(*tokens).reshape(query.shape)
        return reassemble_views(answer, self.grid, pieces, _DIMS)

    def join(self, maps: dict[str, torch.Tensor]) -> torch.Tensor:
        """Join the branches at full resolution.

        Shape:
            - each map: (B, N * h, N * w, C); output: the same
        """
        if len(maps) == 1:
            (joined,) = maps.values()
        else:
            joined = self._fuse(maps["local"], maps["global"])
        return joined if self.ln_fuse is None else self.ln_fuse(joined)

    def _fuse(self, local: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """Apply ``fusion`` to V_L and V_G."""
        if self.fusion in ("linear_concat", "paper_concat"):
            halves = (self.ffn_crop(local), self.ffn_stride(whole))
            joined = torch.cat(halves, -1)
            residual = self.fusion == "linear_concat"
            return joined + whole + local if residual else joined
        if self.fusion == "add":
            return local + whole
        if self.fusion == "mul":
            return local * whole
        if self.fusion == "max":
            return torch.maximum(local, whole)
        if self.fusion == "weighted":
            first, second = self.scores.float().softmax(0).to(local.dtype)
            return first * local + second * whole
        stacked = torch.cat([local, whole], -1).permute(0, 3, 1, 2)
        return self.conv(stacked).permute(0, 2, 3, 1)

    def pool(self, maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Shrink maps, computed in float32; one that has the size stays as it is.

        Shape:
            - ``maps``: (B, H, W, C); output: (B, h, w, C) of ``size``, same dtype
        """
        if tuple(maps.shape[1:3]) == tuple(size):
            return maps
        if len(maps) == 0:
            return maps.new_zeros(0, *size, maps.shape[-1])
        channels_first = maps.permute(0, 3, 1, 2).float()
        if self.pooling == "average":
            pooled = functional.adaptive_avg_pool2d(channels_first, size)
        else:
            pooled = functional.interpolate(
                channels_first, size, mode="bilinear", align_corners=False
            )
        return pooled.permute(0, 2, 3, 1).to(maps.dtype)

    @classmethod
    def tiny(cls, vision_spec: VisionEncoderSpec | None = None) -> DualPerspectiveFuser:
        """Build one over a grid of 2 x 2."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(vision_spec=spec, grid=2)


def _check_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(
            f"DualPerspectiveFuser: {option}={value!r}, expected one of "
            f"{list(allowed)}."
        )
