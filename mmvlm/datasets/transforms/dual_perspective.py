"""INF-LLaVA's dual-perspective cropping: blocks, samplings and the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import ViewLayout
from mmvlm.structures.dual_perspective import DualPerspective, crop_views

from .center_crop import CenterCropSquare
from .image import PadToSquare, ViewTransform


def resample(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """Resize to a square by torch's bicubic filter without antialiasing.

    Computed in float32, without aligned corners; an image that has the size is
    returned as it is. uint8 pixels are rounded and clamped.

    Shape:
        - ``pixels``: (B, C, H, W), float or uint8
        - output: (B, C, side, side), same dtype
    """
    if tuple(pixels.shape[-2:]) == (side, side):
        return pixels
    resized = functional.interpolate(
        pixels.float(), (side, side), mode="bicubic", align_corners=False
    )
    if pixels.dtype == torch.uint8:
        resized = resized.round_().clamp_(0, 255)
    return resized.to(pixels.dtype)


def dual_perspective_views(
    pixels: torch.Tensor, views: DualPerspective, size: int
) -> torch.Tensor:
    """Make all views of a batch of images.

    Crops and samplings are taken from the image at N * ``size``; the resized view
    from the image as it comes.

    Args:
        pixels (torch.Tensor): normalised float pixels for the official arithmetic;
            uint8 pixels are equal to it but for the rounding of resampled ones.
        views (DualPerspective): which views.
        size (int): side of a view in pixels.

    Shape:
        - ``pixels``: (B, C, H, W)
        - output: (B, V, C, size, size), V = ``views.num_views``
    """
    large = resample(pixels, views.grid * size)
    made = [
        resample(pixels, size)[None]
        if kind == "resized"
        else crop_views(large, views.grid, kind)
        for kind in views.kinds
    ]
    return torch.cat(made).transpose(0, 1)


@TRANSFORMS.register_module()
class DualPerspectiveViews(ViewTransform):
    """N * N blocks, N * N samplings and one small whole of a large square image.

    A local view shows a part with all its detail; a global view, every N-th pixel
    of every N-th row, shows all of the image. Their order is local, global,
    resized; views of a kind stand row by row.

    The image is first brought to a square of N * ``size``: the shorter edge is
    resized and the middle cut out, or with ``pad`` the whole is padded with the mean
    colour (PIL's filter, as the CLIP processor at N times its size). Crops and
    samplings move pixels and compute none, so uint8 views lose nothing. Only the
    resized view is resampled (torch bicubic without antialiasing): for odd N that
    picks the middle pixel of N x N and is exact as well; for even N, and with
    ``legacy_infer``, uint8 rounds to the next of 256 values. ``pixels='float'`` is the
    official arithmetic everywhere, for four times the memory.

    Paper: Ma et al., "INF-LLaVA: Dual-perspective Perception for High-Resolution
    Multimodal Large Language Model", 2024, arXiv 2407.16198. Deviations: none with
    ``pixels='float'``; N x N grids only, as in the released code.

    Args:
        grid (int | None): N; None takes what the model's connector asks for.
        kinds (Sequence[str] | None): some of ``local``, ``global``, ``resized`` in
            this order; None takes what the connector asks for, else all.
        pad (bool): pad to a square instead of cutting the middle out.
        legacy_infer (bool): the official loader's inference path: an image of one
            view's size is enlarged N times. Training never saw such images; for
            comparison only.
        pixels (str): ``uint8`` or ``float`` (normalised).
        size (int | None): side of a view in pixels; None takes the encoder's.
        mean, std (Sequence[float] | None): RGB in 0-1; None takes the encoder's.
        resample (str | None): PIL filter of the first step; None takes the encoder's.
        resize (str): ``exact`` or ``fast``, of the first step, see
            :class:`ViewTransform`.

    Raises:
        ValueError: unknown ``pixels``, or an impossible ``grid`` or ``kinds``.
    """

    def __init__(
        self,
        grid: int | None = None,
        kinds: Sequence[str] | None = None,
        *,
        pad: bool = False,
        legacy_infer: bool = False,
        pixels: str = "uint8",
        size: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        resample: str | None = None,
        resize: str = "exact",
    ) -> None:
        super().__init__(size, mean, resample, resize=resize)
        if pixels not in ("uint8", "float"):
            raise ValueError(
                f"DualPerspectiveViews: pixels={pixels!r}, expected 'uint8' or 'float'."
            )
        self.grid = grid
        self.kinds = None if kinds is None else tuple(kinds)
        self.pad, self.legacy_infer, self.pixels = pad, legacy_infer, pixels
        self.frame = "square_pad" if pad else "crop"
        self.std = None if std is None else tuple(std)
        if grid is not None:
            self._views()
        self.needs = ("size", "resample", "grid")
        if pad or pixels == "float":
            self.needs += ("mean",)
        if pixels == "float":
            self.needs += ("std",)

    def bind(self, context: Any) -> None:
        """Take grid, kinds, size and colours from the model if they are open."""
        super().bind(context)
        if context.spec is not None and self.std is None:
            self.std = tuple(context.spec.std)
        expected = DualPerspective.of(context.requested_views)
        if expected is not None:
            self.grid = expected.grid if self.grid is None else self.grid
            self.kinds = expected.kinds if self.kinds is None else self.kinds

    def _views(self) -> DualPerspective:
        return DualPerspective(self.grid, *([self.kinds] if self.kinds else []))

    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return all views; see :meth:`ViewTransform.view`.

        Shape:
            - ``image``: (H, W, 3), uint8
            - views: (V, 3, size, size), uint8 or float32; V = 2 * N * N + 1 with all
              kinds
        """
        views = self._views()
        side = self.size if self.legacy_infer else self.size * views.grid
        whole, _ = self._square(side).view(image)
        pixels = torch.from_numpy(whole)
        if self.pixels == "float":
            pixels = self._normalised(pixels)
        made = dual_perspective_views(pixels, views, self.size)[0]
        return np.ascontiguousarray(made.numpy()), self.layout(*image.shape[:2])

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout; see :meth:`ViewTransform.layout`."""
        views = self._views()
        side = self.size if self.legacy_infer else self.size * views.grid
        place = self._square(side).layout(height, width)
        ratio = self.size / side
        return views.layout(
            place.original_size,
            (self.size, self.size),
            scale=tuple(s * ratio for s in place.scale),
            offset=tuple(o * ratio for o in place.offset),
        )

    def _square(self, side: int) -> ViewTransform:
        square = PadToSquare if self.pad else CenterCropSquare
        return square(side, self.mean, self.resample, resize=self.resize)

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (self.mean, self.std))
        return (pixels.float() / 255 - mean) / std
