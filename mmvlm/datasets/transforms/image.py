"""Images to square uint8 views, with the layout that maps points into them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import ViewLayout

from .resizing import FILTERS, pad_exact, resize_exact

_WAYS = ("exact", "fast")
#: Filters that torch has for 8-bit pixels, antialiased.
FAST_FILTERS = ("bilinear", "bicubic")


class ViewTransform(ABC):
    """Make views of every image of an item.

    Required key: ``images``. Added keys: ``views``, a list of (V, 3, h, w) uint8
    arrays, and ``layouts``, a list of :class:`ViewLayout`, one per image. Pixels
    stay uint8; the data preprocessor normalises them on the device. Layouts refer to
    ``image_sizes`` where the item has them: pixels of the stored image, though it
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

    #: What must be known before an image comes.
    needs: tuple[str, ...] = ("size", "resample")
    #: What the view of a whole image shows: ``square_pad``, the padded image;
    #: ``stretch``, all between its own sides; ``crop``, a part of it; None: not said.
    #: Codecs write fractions of one of the first two.
    frame: str | None = None
    #: Whether the image's own size decides how many views there are; such a
    #: image cannot be decoded at a reduced size.
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
        if resize not in _WAYS:
            raise ValueError(
                f"{type(self).__name__}: resize={resize!r}, expected one of "
                f"{list(_WAYS)}."
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
            ValueError: for an image decoded at a reduced size, when its own size
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
        """Return the item with ``layouts`` of images whose sizes are known."""
        sizes, rng = item["image_sizes"], item.get("rng")
        if sizes:
            self._check_bound()
        return {**item, "layouts": [self.layout(*size, rng) for size in sizes]}

    def _of_stored(self, layout: ViewLayout, size: tuple[int, int]) -> ViewLayout:
        """Let a layout refer to the stored image, which was decoded smaller."""
        height, width = layout.original_size
        if self.counts_by_size:
            raise ValueError(
                f"{type(self).__name__} chooses views by the image's size, but a "
                f"image of {size} (height, width) was decoded at {height, width}; "
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
        """Return the views of one image.

        Args:
            image (np.ndarray): RGB image.
            rng (np.random.Generator | None): the item's, for random transforms.

        Shape:
            - ``image``: (H, W, 3), uint8
            - views: (V, 3, h, w), uint8
        """

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout that :meth:`view` gives an image of this size.

        Nothing is decoded, so that token counts are known from a file's header.
        The default makes the views of an empty image; transforms that know
        better override it.

        Args:
            height (int): of the image, in pixels.
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
        """Resize in the chosen way; an image that has the size stays as it is."""
        if image.shape[:2] == (height, width):
            return image
        if self.resize == "exact":
            return resize_exact(image, height, width, self.resample)
        from .fast_resizing import resize_fast

        return resize_fast(image, height, width, self.resample)


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
        """Return one view: (H, W, 3) to (1, 3, size, size), uint8."""
        color = [int(255 * channel) for channel in self.mean]
        pad = pad_exact
        if self.resize == "fast":
            from .fast_resizing import pad_fast

            pad = pad_fast
        view = pad(image, self.size, color, self.resample)
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
