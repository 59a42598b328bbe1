"""Pictures from disk or memory to RGB arrays."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from mmvlm.registry import TRANSFORMS

#: What PIL raises for files that are no picture, cut or damaged.
_DECODE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError)
#: EXIF tag, and its values that swap height and width.
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def resolve_image_path(path: str, image_root: str, data_root: str) -> str:
    """Return the full path of a picture that an annotation names.

    Symbolic links are followed: only what the annotation says is checked.

    Args:
        path (str): relative to ``image_root``.
        image_root (str): folder of the pictures.
        data_root (str): folder that the path may not leave. When ``image_root``
            itself lies elsewhere, that folder takes its place.

    Raises:
        ValueError: for an absolute path or one that leaves the folder.

    """
    root = os.path.normpath(data_root or os.curdir)
    images = os.path.normpath(image_root or os.curdir)
    if not _inside(images, root):
        root = images
    full = os.path.normpath(os.path.join(images, path))
    if os.path.isabs(path) or "\0" in path or not _inside(full, root):
        raise ValueError(
            f"image path {path!r} leaves the folder '{root}'; paths must be relative "
            f"to '{image_root}' and stay inside."
        )
    return full


def _inside(path: str, root: str) -> bool:
    """Whether a normalised path lies in a normalised folder (by name)."""
    relative = os.path.relpath(os.path.abspath(path), os.path.abspath(root))
    return relative != os.pardir and not relative.startswith(os.pardir + os.sep)


@TRANSFORMS.register_module()
class LoadImages:
    """Decode the pictures of a conversation.

    Required key: ``conversation``; for paths also ``image_root`` and ``data_root``.
    Added keys: ``images``, a list of (H, W, 3) uint8 RGB arrays, and ``image_paths``,
    full paths (None for a picture that was in memory).

    Grey, palette and CMYK pictures become RGB, alpha is dropped, as LLaVA does;
    16-bit pictures are scaled to 8 bit (LLaVA's decoder clips them to white).
    Of an animation the first frame is taken.

    Args:
        exif (str): ``ignore`` leaves the pixels as stored, as LLaVA does;
            ``apply`` turns the picture as its EXIF orientation says. Boxes of
            public data sets refer to either: keep what their files mean.
        max_pixels (int): larger pictures are refused before they are decoded.
        background (tuple[int, int, int] | None): RGB colour that transparent
            pictures are laid on; None drops alpha.

    Raises:
        ValueError: for an unknown ``exif``.

    """

    def __init__(
        self,
        exif: str = "ignore",
        max_pixels: int = 89_478_485,
        background: tuple[int, int, int] | None = None,
    ) -> None:
        if exif not in ("ignore", "apply"):
            raise ValueError(f"exif={exif!r}: expected 'ignore' or 'apply'.")
        self.exif = exif
        self.max_pixels = max_pixels
        self.background = None if background is None else tuple(background)

    def __call__(self, item: dict) -> dict:
        """Return the item with ``images`` and ``image_paths``.

        Raises:
            ValueError: naming the picture, when it is missing, outside the data
                folder, no picture, cut, too large or of an unknown kind.

        """
        named = self._named(item)
        images = [self._load(source, *names) for source, *names in named]
        return {**item, "images": images, "image_paths": [path for _, path, _ in named]}

    def plan(self, item: dict) -> dict:
        """Return the item with ``sizes``, heights and widths; heads are read only.

        Raises:
            ValueError: as :meth:`__call__`, as far as a file's head tells.

        """
        sizes = [self._size(source, *names) for source, *names in self._named(item)]
        return {**item, "sizes": sizes}

    @staticmethod
    def _named(item: dict) -> list[tuple]:
        """Return pictures with their full paths (None in memory) and labels."""
        named = []
        for number, source in enumerate(item["conversation"].images):
            path = None
            if isinstance(source, str | os.PathLike):
                path = resolve_image_path(
                    os.fspath(source),
                    item.get("image_root", ""),
                    item.get("data_root", ""),
                )
            named.append((source, path, path or f"picture {number}"))
        return named

    def _load(self, source: Any, path: str | None, label: str) -> np.ndarray:
        picture = self._found(source, path, label)
        if isinstance(picture, np.ndarray):
            return picture
        if picture is source:
            return self._decode(picture, label)
        with picture:
            return self._decode(picture, label)

    def _size(self, source: Any, path: str | None, label: str) -> tuple[int, int]:
        """Return the height and width that the decoded picture will have."""
        picture = self._found(source, path, label)
        if isinstance(picture, np.ndarray):
            return picture.shape[:2]
        try:
            width, height = self._checked_size(picture, label)
            turned = self.exif == "apply" and (
                picture.getexif().get(_ORIENTATION) in _TURNED
            )
        finally:
            if picture is not source:
                picture.close()
        return (width, height) if turned else (height, width)

    def _found(
        self, source: Any, path: str | None, label: str
    ) -> np.ndarray | PIL.Image.Image:
        """Return an array as it is, all else as a picture that is not decoded."""
        if isinstance(source, np.ndarray):
            if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
                raise ValueError(
                    f"image '{label}': expected an (H, W, 3) uint8 RGB array, got "
                    f"{source.shape} {source.dtype}."
                )
            return source
        if isinstance(source, PIL.Image.Image):
            return source
        if path is not None and not os.path.isfile(path):
            what = "is a folder" if os.path.isdir(path) else "does not exist"
            raise ValueError(f"image '{label}' {what}.")
        if path is None and not isinstance(source, bytes):
            raise ValueError(
                f"image '{label}': expected a path, bytes, a PIL image or an array, "
                f"got {type(source).__name__}."
            )
        return self._open(source, path, label)

    @staticmethod
    def _open(source: Any, path: str | None, label: str) -> PIL.Image.Image:
        try:
            return PIL.Image.open(path or io.BytesIO(source))
        except PIL.UnidentifiedImageError as error:
            head = source[:16] if path is None else _head(path)
            found = f"starts with {head!r}" if head else "is empty"
            raise ValueError(
                f"image '{label}' is not a picture: it {found}."
            ) from error
        except PIL.Image.DecompressionBombError as error:
            raise ValueError(f"image '{label}' is too large: {error}") from error
        except _DECODE_ERRORS as error:
            raise ValueError(f"image '{label}' cannot be opened: {error}") from error

    def _checked_size(self, picture: PIL.Image.Image, label: str) -> tuple[int, int]:
        width, height = picture.size
        if width * height > self.max_pixels:
            raise ValueError(
                f"image '{label}' is too large: {width} x {height} pixels, more than "
                f"max_pixels={self.max_pixels}."
            )
        return width, height

    def _decode(self, picture: PIL.Image.Image, label: str) -> np.ndarray:
        width, height = self._checked_size(picture, label)
        try:
            picture.load()
            if self.exif == "apply":
                picture = PIL.ImageOps.exif_transpose(picture)
            return self._to_rgb(picture)
        except _DECODE_ERRORS as error:
            raise ValueError(
                f"image '{label}' ({picture.format}, {width} x {height}, mode "
                f"{picture.mode}) cannot be decoded: {error}"
            ) from error

    def _to_rgb(self, picture: PIL.Image.Image) -> np.ndarray:
        if picture.mode in _SIXTEEN_BIT:
            wide = np.asarray(picture)
            if wide.min() < 0 or wide.max() > 65535:
                raise ValueError("values lie outside 0..65535")
            grey = (wide.astype(np.uint32) // 257).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        if picture.mode == "F":
            raise ValueError("a float picture has no defined range")
        if "A" in picture.mode.upper() or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            if self.background is not None:
                base = PIL.Image.new("RGBA", picture.size, (*self.background, 255))
                picture = PIL.Image.alpha_composite(base, picture)
        if picture.mode != "RGB":
            picture = picture.convert("RGB")
        return np.asarray(picture)


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(16)
