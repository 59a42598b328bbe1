"""A chain of transforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from mmvlm.registry import TRANSFORMS

#: By geometry of codecs: what they write fractions of, and a view that shows it.
_WHOLES = {
    "square_pad": ("the padded square", "PadToSquare"),
    "stretch": ("the image's own sides", "ResizeSquare"),
    "view": ("the image as it is seen whole", "NativeResolution"),
}
#: Geometries that need the frame of another.
_FRAMES = {"view": "stretch"}
#: By frame of views: what they do to images.
_SHOWN = {
    "square_pad": "pads images",
    "stretch": "shows images without padding",
    "crop": "cuts parts of images off",
}


class Compose:
    """Apply transforms in order.

    A transform is a callable ``item -> item`` (dicts). It takes randomness from
    ``item['rng']`` only, so that an item depends on seed, epoch and index and not
    on the worker that makes it.

    Args:
        transforms (Sequence[dict | Callable]): configs or built transforms.
    """

    def __init__(self, transforms: Sequence[dict | Callable]) -> None:
        self.transforms = [
            TRANSFORMS.build(t) if isinstance(t, dict) else t for t in transforms
        ]
        for number, transform in enumerate(self.transforms):
            if not callable(transform):
                raise TypeError(
                    f"pipeline[{number}]: expected a dict or a callable, got "
                    f"{type(transform).__name__}."
                )

    @property
    def writes_regions(self) -> bool:
        """Whether regions become text on the way."""
        return any(getattr(one, "writes_regions", False) for one in self.transforms)

    def bind(self, context: Any) -> None:
        """Hand the context to those transforms that have ``bind``.

        Raises:
            ValueError: as :meth:`check_frames` and :meth:`check_modes` say.
        """
        for transform in self.transforms:
            if hasattr(transform, "bind"):
                transform.bind(context)
        self.check_frames()
        self.check_modes()

    def check_modes(self) -> None:
        """Hold the modes of transforms against each other.

        Raises:
            ValueError: naming them, when one is for training and another for prompts:
                what is drawn for a prompt would not depend on its sample alone.
        """
        taking = [t for t in self.transforms if getattr(t, "takes_mode", False)]
        if len({transform.mode for transform in taking}) > 1:
            said = ", ".join(f"{type(t).__name__}(mode='{t.mode}')" for t in taking)
            raise ValueError(
                f"the pipeline has {said}; give all of them one mode: 'train', or "
                "'generate' for prompts."
            )

    def check_frames(self) -> None:
        """Hold the geometry of codecs against the frames of views.

        Raises:
            ValueError: naming both, when coordinates are fractions of what the view
                does not show.
        """
        framed = [t for t in self.transforms if getattr(t, "frame", None) is not None]
        codecs = [t.codec for t in self.transforms if hasattr(t, "codec")]
        for view, codec in product(framed, codecs):
            frame = _FRAMES.get(codec.geometry, codec.geometry)
            if not codec.writes_coordinates or frame == view.frame:
                continue
            whole, needed = _WHOLES[codec.geometry]
            cure = f"take {needed} as the view transform"
            if view.frame in codec.geometries:
                cure = f"Set codec.geometry='{view.frame}', or {cure}"
            raise ValueError(
                f"{type(codec).__name__}: geometry='{codec.geometry}' writes fractions "
                f"of {whole}, but {type(view).__name__} {_SHOWN[view.frame]}. "
                f"{cure[0].upper()}{cure[1:]}."
            )

    def __call__(self, item: dict) -> dict:
        """Return the item after all transforms.

        Raises:
            TypeError: when a transform returns no dict. A transform that wants
                to leave a sample out raises an error with ``counted_as``.
        """
        for number in range(len(self.transforms)):
            item = self._apply(number, item)
        return item

    def map(self, items: Sequence[Any]) -> list:
        """Apply every transform to all items before the next one.

        A transform's code then stays in the processor's caches, which makes small
        samples a third cheaper than one after the other.

        Args:
            items (Sequence[Any]): what is no dict is left as it is.

        Returns:
            list: per item what :meth:`__call__` returns, or the error that it raises.
        """
        made = list(items)
        for number in range(len(self.transforms)):
            for place, item in enumerate(made):
                if isinstance(item, dict):
                    made[place] = attempt(self._apply, number, item)
        return made

    def _apply(self, number: int, item: dict) -> dict:
        transform = self.transforms[number]
        item = transform(item)
        if not isinstance(item, dict):
            raise TypeError(
                f"pipeline[{number}] ({type(transform).__name__}) returned "
                f"{type(item).__name__}, expected a dict."
            )
        return item

    def without_plan(self) -> str | None:
        """Return the transform that hides lengths from those without images."""
        names = [type(transform).__name__ for transform in self.transforms]
        if not any(hasattr(t, "lengths") for t in self.transforms):
            return f"none of {names} tells lengths"
        for name, transform in zip(names, self.transforms, strict=True):
            if not hasattr(transform, "plan") and not hasattr(transform, "lengths"):
                return f"{name} has no plan(item)"
        return None

    def plan(self, item: dict) -> dict:
        """Return the item as the encoder needs it to tell its length.

        Raises:
            ValueError: as :meth:`__call__` would, as far as it is seen.
        """
        for transform in self.transforms:
            if hasattr(transform, "lengths"):
                break
            item = transform.plan(item)
        return item

    def lengths(self, items: list[dict]) -> list[int | None]:
        """Return the tokens of planned items; None for those that are left out."""
        (encoder,) = (t for t in self.transforms if hasattr(t, "lengths"))
        return encoder.lengths(items)


def attempt(function: Callable, *values: Any) -> Any:
    """Return what a function gives, or the error that it raises."""
    try:
        return function(*values)
    except Exception as error:
        return error
