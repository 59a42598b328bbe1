"""Pictures to square uint8 views, with the layout that maps points into them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import ViewLayout
from mmvlm.structures.tiles import fitted_size, select_best_resolution

from .resizing import FAST_FILTERS, FILTERS, PADDERS, RESIZERS


class ViewTransform(ABC):
    """Make views of every picture of an item.

    Required key: ``images``. Added keys: ``views``, a list of (V, 3, h, w) uint8
    arrays, and ``layouts``, a list of :class:`ViewLayout`, one per picture. Pixels
    stay uint8; the data preprocessor normalises them on the device. Layouts refer to
    ``image_sizes`` where the item has them: pixels of the stored picture, though it
    was decoded smaller.

    Args:
        size (int | None): side of a view in pixels; None takes the encoder's.
        mean (Sequence[float] | None): RGB in 0-1, the colour of borders; None takes
            the encoder's.
        resample (str | None): ``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``
            (PIL's antialiased filters); None takes the encoder's.
        resize (str): ``exact``: PIL's own arithmetic, LLaVA's pixels to the bit;
            ``fast``: torch's on 8-bit pixels, several times faster, at most one
            level apart (``bilinear`` and ``bicubic`` only). Same views and layouts.

    Raises:
        ValueError: for an impossible size, filter or way to resize.
    """

    #: What must be known before a picture comes.
    needs: tuple[str, ...] = ("size", "resample")
    #: What the view of a whole picture shows: ``square_pad``, the padded picture;
    #: ``stretch``, all between its own sides; ``crop``, a part of it; None: not said.
    #: Codecs write fractions of one of the first two.
    frame: str | None = None
    #: Whether the picture's own size decides how many views there are; such a
    #: picture cannot be decoded at a reduced size.
    counts_by_size: bool = False

    def __init__(
        self,
        size: int | None = None,
        mean: Sequence[float] | None = None,
        resample: str | None = None,
        *,
        resize: str = "exact",
    ) -> None:
        if size is not None and size < 1:
            raise ValueError(f"{type(self).__name__}: size={size}, expected above 0.")
        if resample is not None and resample not in FILTERS:
            raise ValueError(
                f"{type(self).__name__}: resample={resample!r}, expected one of "
                f"{list(FILTERS)}."
            )
        if resize not in RESIZERS:
            raise ValueError(
                f"{type(self).__name__}: resize={resize!r}, expected one of "
                f"{list(RESIZERS)}."
            )
        self.size, self.resample, self.resize = size, resample, resize
        self.mean = None if mean is None else tuple(mean)
        self._check_filter()

    def bind(self, context: Any) -> None:
        """Take from ``context.spec`` what the config left open."""
        spec = context.spec
        if spec is None:
            return
        self.size = spec.image_size if self.size is None else self.size
        self.mean = tuple(spec.mean) if self.mean is None else self.mean
        self.resample = spec.resample if self.resample is None else self.resample
        self._check_filter()

    def __call__(self, item: dict) -> dict:
        """Return the item with ``views`` and ``layouts``.

        Raises:
            RuntimeError: when neither the config nor an encoder gave the size,
                the filter or the colour of borders.
            ValueError: for a picture decoded at a reduced size, when its own size
                decides on the views.
        """
        views, layouts = [], []
        images = item["images"]
        stored = item.get("image_sizes") or [image.shape[:2] for image in images]
        for image, size in zip(images, stored, strict=True):
            self._check_bound()
            view, layout = self.view(image, item.get("rng"))
            views.append(view)
            if tuple(size) != image.shape[:2]:
                layout = self._of_stored(layout, tuple(size))
            layouts.append(layout)
        return {**item, "views": views, "layouts": layouts}

    def plan(self, item: dict) -> dict:
        """Return the item with ``layouts`` of pictures whose sizes are known."""
        sizes, rng = item["image_sizes"], item.get("rng")
        if sizes:
            self._check_bound()
        return {**item, "layouts": [self.layout(*size, rng) for size in sizes]}

    def _of_stored(self, layout: ViewLayout, size: tuple[int, int]) -> ViewLayout:
        """Let a layout refer to the stored picture, which was decoded smaller."""
        height, width = layout.original_size
        if self.counts_by_size:
            raise ValueError(
                f"{type(self).__name__} chooses views by the picture's size, but a "
                f"picture of {size} (height, width) was decoded at {height, width}; "
                "leave LoadImages.draft out."
            )
        # Decoders shrink by whole factors; the last block may be cut.
        scale = (
            layout.scale[0] / round(size[1] / width),
            layout.scale[1] / round(size[0] / height),
        )
        return replace(layout, original_size=size, scale=scale)

    def _check_filter(self) -> None:
        allowed = (None, *FAST_FILTERS)
        if self.resize == "fast" and self.resample not in allowed:
            raise ValueError(
                f"{type(self).__name__}: resize='fast' has no {self.resample!r} "
                f"filter, only {list(FAST_FILTERS)}; use resize='exact'."
            )

    @abstractmethod
    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return the views of one picture.

        Args:
            image (np.ndarray): RGB picture.
            rng (np.random.Generator | None): the item's, for random transforms.

        Shape:
            - ``image``: (H, W, 3), uint8
            - views: (V, 3, h, w), uint8
        """

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout that :meth:`view` gives a picture of this size.

        Nothing is decoded, so that token counts are known from a file's header.
        The default makes the views of an empty picture; transforms that know
        better override it.

        Args:
            height (int): of the picture, in pixels.
            width (int): likewise.
            rng (np.random.Generator | None): as for :meth:`view`; the same numbers
                are drawn.
        """
        return self.view(np.zeros((height, width, 3), dtype=np.uint8), rng)[1]

    def _check_bound(self) -> None:
        missing = [key for key in self.needs if getattr(self, key) is None]
        if missing:
            raise RuntimeError(
                f"{type(self).__name__}: {missing} not known; pass them, or bind the "
                "dataset to a model with a vision encoder."
            )

    def _resize(self, image: np.ndarray, width: int, height: int) -> np.ndarray:
        """Resize in the chosen way; a picture that has the size stays as it is."""
        if image.shape[:2] == (height, width):
            return image
        return RESIZERS[self.resize](image, height, width, self.resample)


def as_view(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) to (1, 3, H, W), contiguous."""
    planes = image.transpose(2, 0, 1)
    if not planes.flags.c_contiguous:
        planes = np.empty(planes.shape, image.dtype)
        # Four times as fast as numpy's copy.
        cv2.split(np.ascontiguousarray(image), list(planes))
    return planes[None]


@TRANSFORMS.register_module()
class PadToSquare(ViewTransform):
    """Pad to a square with the mean colour, then resize; nothing is cut off.

    LLaVA-1.5's stage 2 and evaluation (``image_aspect_ratio='pad'``). The colour is
    ``int(255 * mean)`` per channel.
    """

    frame = "square_pad"
    needs = ("size", "resample", "mean")

    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return one view; see :meth:`ViewTransform.view`.

        Shape:
            - ``image``: (H, W, 3), uint8
            - views: (1, 3, size, size), uint8
        """
        color = [int(255 * channel) for channel in self.mean]
        view = PADDERS[self.resize](image, self.size, color, self.resample)
        return as_view(view), self.layout(*image.shape[:2])

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout; see :meth:`ViewTransform.layout`."""
        side = max(height, width)
        scale = self.size / side
        return ViewLayout(
            original_size=(height, width),
            view_size=(self.size, self.size),
            kind="pad",
            scale=(scale, scale),
            offset=((side - width) // 2 * scale, (side - height) // 2 * scale),
        )


@TRANSFORMS.register_module()
class CenterCropSquare(ViewTransform):
    """Resize the shorter edge to the size, then cut the middle square out.

    CLIP's own preprocessing, and so LLaVA-1.5's stage 1.
    """

    frame = "crop"

    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return one view; see :meth:`ViewTransform.view`.

        Shape:
            - ``image``: (H, W, 3), uint8
            - views: (1, 3, size, size), uint8
        """
        new_height, new_width, top, left = self._fit(*image.shape[:2])
        resized = self._resize(image, new_width, new_height)
        view = resized[top : top + self.size, left : left + self.size]
        return as_view(view), self.layout(*image.shape[:2])

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout; see :meth:`ViewTransform.layout`."""
        new_height, new_width, top, left = self._fit(height, width)
        return ViewLayout(
            original_size=(height, width),
            view_size=(self.size, self.size),
            kind="crop",
            scale=(new_width / width, new_height / height),
            offset=(float(-left), float(-top)),
        )

    def _fit(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the resized picture's size, and top and left of its middle."""
        short = min(height, width)
        new_height, new_width = (
            self.size if edge == short else int(self.size * edge / short)
            for edge in (height, width)
        )
        top, left = (new_height - self.size) // 2, (new_width - self.size) // 2
        return new_height, new_width, top, left


@TRANSFORMS.register_module()
class ResizeSquare(ViewTransform):
    """Resize both edges to the size; the aspect ratio is not kept."""

    frame = "stretch"

    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return one view; see :meth:`ViewTransform.view`.

        Shape:
            - ``image``: (H, W, 3), uint8
            - views: (1, 3, size, size), uint8
        """
        view = as_view(self._resize(image, self.size, self.size))
        return view, self.layout(*image.shape[:2])

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout; see :meth:`ViewTransform.layout`."""
        return ViewLayout(
            original_size=(height, width),
            view_size=(self.size, self.size),
            kind="resize",
            scale=(self.size / width, self.size / height),
        )


@TRANSFORMS.register_module()
class AnyResTiles(ViewTransform):
    """The whole picture, then tiles of it at a larger resolution (LLaVA-1.6).

    The picture is fitted into the grid of tiles that keeps most of its pixels and
    wastes least, centred on black, and cut row by row. The first view is the whole
    picture resized to one square, its aspect ratio not kept. The layout's ``scale``
    maps points into that first view; ``extra`` holds rows and columns of tiles.

    Args:
        tilings (Sequence[tuple[int, int]]): rows and columns of the grids to choose
            from, the first wins a tie. Default: LLaVA-NeXT's pinpoints (336, 672),
            (672, 336), (672, 672), (1008, 336), (336, 1008) (width, height) in
            multiples of a view.
        size (int | None): side of a view in pixels; None takes the encoder's.
        resample (str | None): PIL's filter; None takes the encoder's.
        resize (str): ``exact`` or ``fast``, see :class:`ViewTransform`.
    """

    frame = "stretch"
    counts_by_size = True

    def __init__(
        self,
        tilings: Sequence[tuple[int, int]] = ((2, 1), (1, 2), (2, 2), (1, 3), (3, 1)),
        size: int | None = None,
        resample: str | None = None,
        *,
        resize: str = "exact",
    ) -> None:
        super().__init__(size=size, resample=resample, resize=resize)
        self.tilings = [tuple(tiling) for tiling in tilings]
        if not self.tilings or any(len(t) != 2 or min(t) < 1 for t in self.tilings):
            raise ValueError(
                f"AnyResTiles: tilings={list(tilings)}, expected pairs (rows, columns) "
                "of at least 1."
            )

    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return the whole picture and its tiles.

        Shape:
            - ``image``: (H, W, 3), uint8
            - views: (1 + rows * columns, 3, size, size), uint8
        """
        size, layout = self.size, self.layout(*image.shape[:2])
        rows, cols = layout.extra
        canvas = self.fit(image, rows * size, cols * size)
        tiles = canvas.reshape(rows, size, cols, size, 3).transpose(0, 2, 4, 1, 3)
        whole = as_view(self._resize(image, size, size))
        return np.concatenate([whole, tiles.reshape(-1, 3, size, size)]), layout

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout; see :meth:`ViewTransform.layout`."""
        size = self.size
        canvases = [(rows * size, cols * size) for rows, cols in self.tilings]
        best = select_best_resolution((height, width), canvases)
        rows, cols = best[0] // size, best[1] // size
        return ViewLayout(
            original_size=(height, width),
            view_size=(size, size),
            num_views=1 + rows * cols,
            kind="anyres",
            scale=(size / width, size / height),
            extra=(rows, cols),
        )

    def fit(self, image: np.ndarray, height: int, width: int) -> np.ndarray:
        """Fit a picture into a black canvas, in the middle.

        Shape:
            - ``image``: (H, W, 3), uint8
            - output: (height, width, 3), uint8
        """
        new_height, new_width = fitted_size(image.shape[:2], (height, width))
        canvas = np.zeros((height, width, 3), dtype=np.uint8)
        top, left = (height - new_height) // 2, (width - new_width) // 2
        canvas[top : top + new_height, left : left + new_width] = self._resize(
            image, new_width, new_height
        )
        return canvas


@TRANSFORMS.register_module()
class GridWindows(ViewTransform):
    """Windows of the enlarged picture row by row, then the whole one (Monkey).

    The picture is resized to ``grid`` x ``grid`` windows, its aspect ratio not
    kept. The layout's ``scale`` maps points into the last view.

    Args:
        grid (int): windows per side. Default: 2.
        size (int | None): side of a view in pixels; None takes the encoder's.
        resample (str | None): PIL's filter; None takes the encoder's.
        resize (str): ``exact`` or ``fast``, see :class:`ViewTransform`.
    """

    frame = "stretch"

    def __init__(
        self,
        grid: int = 2,
        size: int | None = None,
        resample: str | None = None,
        *,
        resize: str = "exact",
    ) -> None:
        super().__init__(size=size, resample=resample, resize=resize)
        if grid < 1:
            raise ValueError(f"GridWindows: grid={grid}, expected at least 1.")
        self.grid = grid

    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return the windows and the whole picture.

        Shape:
            - ``image``: (H, W, 3), uint8
            - views: (grid * grid + 1, 3, size, size), uint8
        """
        size, grid = self.size, self.grid
        large = self._resize(image, grid * size, grid * size)
        windows = large.reshape(grid, size, grid, size, 3).transpose(0, 2, 4, 1, 3)
        whole = as_view(self._resize(image, size, size))
        views = np.concatenate([windows.reshape(-1, 3, size, size), whole])
        return views, self.layout(*image.shape[:2])

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout; see :meth:`ViewTransform.layout`."""
        size, grid = self.size, self.grid
        return ViewLayout(
            original_size=(height, width),
            view_size=(size, size),
            num_views=grid * grid + 1,
            kind="windows",
            scale=(size / width, size / height),
            extra=(grid, grid),
        )
