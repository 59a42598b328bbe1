"""Images from disk or memory to RGB arrays."""

from __future__ import annotations

import io
import logging
import os
from typing import Any
from urllib.parse import unquote

import numpy as np
import PIL.Image
import PIL.ImageOps
from mmengine.logging import print_log

from mmvlm.registry import TRANSFORMS

from .decoders import is_whole_jpeg, jpeg_decoder

#: What PIL raises for files that are no image, cut or damaged.
_DECODE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError)
#: EXIF tag, and its values that swap height and width.
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
#: Endings that downloaders give to the same image.
_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")
#: Of a file of more bytes PIL reads what it needs, any other is read at once.
_AT_ONCE = 1 << 26


def resolve_image_path(path: str, image_root: str, data_root: str) -> str:
    """Return the full path of an image that an annotation names.

    Symbolic links are followed: only what the annotation says is checked.

    Args:
        path (str): relative to ``image_root``; an absolute path or a ``file://`` URI
            that lies in the folder is taken too.
        image_root (str): folder of the images.
        data_root (str): folder that the path may not leave. When ``image_root``
            itself lies elsewhere, that folder takes its place.

    Raises:
        ValueError: for a path that leaves the folder.
    """
    images = os.path.normpath(image_root or os.curdir)
    if not path.startswith((os.sep, "file:")) and ".." not in path and "\0" not in path:
        return os.path.normpath(os.path.join(images, path))  # it cannot leave
    root = os.path.normpath(data_root or os.curdir)
    if not _inside(images, root):
        root = images
    named = path
    if path.startswith("file://"):
        named = unquote(path.removeprefix("file://").removeprefix("localhost"))
    full = os.path.normpath(os.path.join(images, named))
    stays = "\0" not in named and _inside(full, root)
    if not stays and os.path.isabs(named) and "\0" not in named:
        # The folder may have another name there: data_root may be a link.
        stays = _inside(os.path.realpath(full), os.path.realpath(root))
    if not stays:
        raise ValueError(
            f"image path {path!r} leaves the folder '{root}'; paths must be relative "
            f"to '{image_root}' and stay inside."
        )
    return full


def _inside(path: str, root: str) -> bool:
    """Whether a normalised path lies in a normalised folder (by name)."""
    folder = os.path.join(os.path.abspath(root), "")
    return os.path.join(os.path.abspath(path), "").startswith(folder)


#: Kinds of messages that this process has logged.
_logged: set[str] = set()


@TRANSFORMS.register_module()
class LoadImages:
    """Decode the images of a conversation.

    Required key: ``conversation``; for paths also ``image_root`` and ``data_root``.
    Added keys: ``images``, a list of (H, W, 3) uint8 RGB arrays; ``image_sizes``,
    (height, width) of each as stored, which ``draft`` alone makes larger than the
    array; and ``image_paths``, full paths (None for an image that was in memory).

    Grey, palette and CMYK images become RGB, alpha is dropped, as LLaVA does;
    16-bit images are scaled to 8 bit (LLaVA's decoder clips grey ones to white),
    those of 10, 12 or 14 bits from their own range, see ``depth``.
    Of an animation the first frame is taken. What happens to any kind of file does
    not depend on ``decoder``: PIL opens and checks all of them, the others decode
    whole grey or colour JPEG files only, and where they fail PIL decides.

    Args:
        exif (str): ``ignore`` leaves the pixels as stored, as LLaVA does;
            ``apply`` turns the image as its EXIF orientation says. Boxes of
            public datasets refer to either: keep what their files mean.
        max_pixels (int): larger images are refused before they are decoded.
        background (tuple[int, int, int] | None): RGB colour that transparent
            images are laid on; None drops alpha.
        decoder (str): of JPEG files: ``pil`` (LLaVA's pixels), ``opencv``, ``turbo``
            or ``auto``, see :func:`jpeg_decoder`.
        draft (int | None): JPEG files whose shorter side is at least twice as many
            pixels are decoded at 1/2, 1/4 or 1/8 of their size, with the shorter
            side still at least so many; views then differ by about half a level.
            Give the largest side that the view transform resizes to. Not for
            transforms that choose tiles by the image's size.
        depth (int | None): bits per channel that 16-bit files hold, 8 to 16; None
            takes, per image, the fewest of 8, 10, 12, 14 and 16 that hold its
            brightest value, and logs the first that has fewer than 16.
        any_suffix (bool): for an image that is missing take the one of the same stem
            and another ending (``.gif`` for ``.jpg``, as OCR-VQA's downloader names
            them), if there is only one; the first is logged. Not for folders where
            ``a.png`` is the mask of ``a.jpg``.

    Raises:
        ValueError: for an unknown ``exif`` or ``decoder``, or an impossible
            ``draft``.
        RuntimeError: when a decoder that is named cannot be imported.
    """

    def __init__(
        self,
        exif: str = "ignore",
        max_pixels: int = 89_478_485,
        background: tuple[int, int, int] | None = None,
        *,
        decoder: str = "pil",
        draft: int | None = None,
        depth: int | None = None,
        any_suffix: bool = False,
    ) -> None:
        if exif not in ("ignore", "apply"):
            raise ValueError(f"exif={exif!r}: expected 'ignore' or 'apply'.")
        self.exif = exif
        self.max_pixels = max_pixels
        self.background = None if background is None else tuple(background)
        if draft is not None and draft < 1:
            raise ValueError(f"draft={draft}: expected a number of pixels above 0.")
        jpeg_decoder(decoder)
        self.decoder, self.draft = decoder, draft
        if depth is not None and not 8 <= depth <= 16:
            raise ValueError(f"depth={depth}: expected 8 to 16 bits.")
        self.depth, self.any_suffix = depth, any_suffix

    def __call__(self, item: dict) -> dict:
        """Return the item with ``images``, ``image_sizes`` and ``image_paths``.

        Raises:
            ValueError: naming the image, when it is missing, outside the data
                folder, no image, cut, too large or of an unknown kind.
        """
        images, sizes, paths = [], [], []
        for source, path, label in self._named(item):
            image, size = self._load(source, path, label)
            images.append(image)
            sizes.append(size)
            paths.append(path)
        return {**item, "images": images, "image_sizes": sizes, "image_paths": paths}

    def plan(self, item: dict) -> dict:
        """Return the item with ``image_sizes``; only the heads of files are read.

        Raises:
            ValueError: as :meth:`__call__`, as far as a file's head tells.
        """
        named = self._named(item)
        sizes = [self._load(*one, decode=self._measure)[1] for one in named]
        return {**item, "image_sizes": sizes}

    def _named(self, item: dict) -> list[tuple]:
        """Return images with their full paths (None in memory) and labels."""
        named = []
        for number, source in enumerate(item["conversation"].images):
            path = None
            if isinstance(source, str | os.PathLike):
                path = resolve_image_path(
                    os.fspath(source),
                    item.get("image_root", ""),
                    item.get("data_root", ""),
                )
                if self.any_suffix and not os.path.exists(path):
                    path = _other_suffix(path)
            named.append((source, path, path or f"number {number}"))
        return named

    def _load(
        self, source: Any, path: str | None, label: str, decode: Any = None
    ) -> tuple[np.ndarray | None, tuple[int, int]]:
        """Return an image and its (height, width) as stored."""
        whole, decode = decode is None, decode or self._decode
        if isinstance(source, np.ndarray):
            if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
                raise ValueError(
                    f"image '{label}': expected an (H, W, 3) uint8 RGB array, got "
                    f"{source.shape} {source.dtype}."
                )
            return source, source.shape[:2]
        if isinstance(source, PIL.Image.Image):
            return decode(source, label)
        if path is not None and not os.path.isfile(path):
            what = "is a folder" if os.path.isdir(path) else "does not exist"
            raise ValueError(f"image '{label}' {what}{_hint(path)}.")
        if path is None and not isinstance(source, bytes):
            raise ValueError(
                f"image '{label}': expected a path, bytes, a PIL image or an array, "
                f"got {type(source).__name__}."
            )
        with self._open(source, path, label, whole) as image:
            return decode(image, label)

    @staticmethod
    def _open(
        source: Any, path: str | None, label: str, whole: bool
    ) -> PIL.Image.Image:
        """Open an image; ``whole``: its pixels will be read, not only its head."""
        data = source if path is None else None
        try:
            if path is not None and whole:
                data = _contents(path)
            return PIL.Image.open(path if data is None else io.BytesIO(data))
        except PIL.UnidentifiedImageError as error:
            head = _head(path) if data is None else data[:16]
            found = f"starts with {head!r}" if head else "is empty"
            raise ValueError(f"image '{label}' is not an image: it {found}.") from error
        except PIL.Image.DecompressionBombError as error:
            raise ValueError(f"image '{label}' is too large: {error}") from error
        except _DECODE_ERRORS as error:
            raise ValueError(f"image '{label}' cannot be opened: {error}") from error

    def _check_pixels(self, image: PIL.Image.Image, label: str) -> tuple[int, int]:
        width, height = image.size
        if width * height > self.max_pixels:
            raise ValueError(
                f"image '{label}' is too large: {width} x {height} pixels, more than "
                f"max_pixels={self.max_pixels}."
            )
        return width, height

    def _measure(
        self, image: PIL.Image.Image, label: str
    ) -> tuple[None, tuple[int, int]]:
        """Return the (height, width) that :meth:`_decode` tells."""
        width, height = self._check_pixels(image, label)
        turned = self.exif == "apply" and image.getexif().get(_ORIENTATION) in _TURNED
        return None, (width, height) if turned else (height, width)

    def _decode(
        self, opened: PIL.Image.Image, label: str
    ) -> tuple[np.ndarray, tuple[int, int]]:
        width, height = self._check_pixels(opened, label)
        reduce = self._reduction(opened)
        try:
            orientation = 1
            if self.exif == "apply":
                orientation = opened.getexif().get(_ORIENTATION, 1)
            image = self._decode_jpeg(opened, reduce) if orientation == 1 else None
            if image is None:
                image = self._decode_by_pil(opened, reduce, label)
        except _DECODE_ERRORS as error:
            raise ValueError(
                f"image '{label}' ({opened.format}, {width} x {height}, mode "
                f"{opened.mode}) cannot be decoded: {error}"
            ) from error
        if reduce == 1:
            return image, image.shape[:2]
        return image, (width, height) if orientation > 4 else (height, width)

    def _reduction(self, image: PIL.Image.Image) -> int:
        """Return by how much an image may shrink: 1, 2, 4 or 8."""
        if image.format != "JPEG" or self.draft is None:
            return 1
        fits = [n for n in (8, 4, 2) if min(image.size) // n >= self.draft]
        return max(fits, default=1)

    def _decode_by_pil(
        self, image: PIL.Image.Image, reduce: int, label: str
    ) -> np.ndarray:
        if reduce > 1:
            width, height = image.size
            image.draft(None, (width // reduce, height // reduce))
        wide = _sixteen_bit_colour(image)
        image.load()
        if wide is not None:
            exif = image.getexif().tobytes()
            image = self._narrowed(wide, label)
            image.info["exif"] = exif
        if self.exif == "apply":
            image = PIL.ImageOps.exif_transpose(image)
        return self._to_rgb(image, label)

    def _narrowed(self, wide: np.ndarray, label: str) -> PIL.Image.Image:
        """Return a 16-bit image (H, W) or (H, W, C) with 8 bits per channel."""
        from .sixteen_bits import narrow

        image, told = narrow(wide, self.depth, label)
        if told is not None:
            _log_once(*told)
        return image

    def _decode_jpeg(self, image: Any, reduce: int) -> np.ndarray | None:
        """Decode by what ``decoder`` names; None leaves it to PIL."""
        decode = jpeg_decoder(self.decoder)
        file = getattr(image, "fp", None)
        is_plain = image.format == "JPEG" and image.mode in ("RGB", "L")
        if decode is None or file is None or not is_plain:
            return None
        scan = file.tell()  # PIL has read the header, up to here
        file.seek(0)
        data = file.read()
        return decode(data, reduce) if is_whole_jpeg(data, scan) else None

    def _to_rgb(self, image: PIL.Image.Image, label: str) -> np.ndarray:
        if image.mode in _SIXTEEN_BIT:
            image = self._narrowed(np.asarray(image), label)
        if image.mode == "F":
            raise ValueError(
                "a float image has no defined range; write it with 8 or 16 bits"
            )
        if "A" in image.mode.upper() or "transparency" in image.info:
            image = image.convert("RGBA")
            if self.background is not None:
                base = PIL.Image.new("RGBA", image.size, (*self.background, 255))
                image = PIL.Image.alpha_composite(base, image)
        if image.mode != "RGB":
            image = image.convert("RGB")
        return np.asarray(image)


def named_image(item: dict, number: int) -> str:
    """Return the path of an image of an item for messages; nothing if it has none."""
    paths = item.get("image_paths") or ()
    path = paths[number] if -len(paths) <= number < len(paths) else None
    return f" ('{path}')" if path else ""


def _sixteen_bit_colour(image: PIL.Image.Image) -> np.ndarray | None:
    """Return the pixels of a 16-bit colour file that PIL would turn black."""
    raw = [str(tile[3]) for tile in getattr(image, "tile", ()) if tile[3]]
    if image.mode not in ("RGB", "RGBA", "LA") or not any(";16" in r for r in raw):
        return None
    from .sixteen_bits import stored_colours

    return stored_colours(image)


def _hint(path: str) -> str:
    """Return words on an image of the same stem, if there is one."""
    found = [os.path.basename(other) for other in _of_stem(path)]
    if not found:
        return ""
    return (
        f", but {', '.join(map(repr, found))} lies there; "
        "LoadImages(any_suffix=True) takes a single one"
    )


def _of_stem(path: str) -> list[str]:
    """Return the images of the same stem with other endings."""
    stem, _ = os.path.splitext(path)
    found = []
    for suffix in _SUFFIXES:
        names = (stem + suffix, stem + suffix.upper())
        found += [name for name in names if name != path and os.path.isfile(name)]
    return found


def _other_suffix(path: str) -> str:
    found = _of_stem(path)
    if len(found) != 1:
        return path
    own, other = (os.path.splitext(name)[1] for name in (path, found[0]))
    _log_once(
        f"ending {own} for {other}",
        f"image '{path}' is missing, '{os.path.basename(found[0])}' is taken "
        f"(any_suffix=True); further '{other}' for '{own}' are not told.",
    )
    return found[0]


def _log_once(kind: str, text: str) -> None:
    """Log the first of a kind in this process."""
    if kind not in _logged:
        _logged.add(kind)
        print_log(text, logger="current", level=logging.WARNING)


def _contents(path: str) -> bytes | None:
    """Return all of a file, None for one that is too long to be read at once."""
    with open(path, "rb", buffering=0) as file:
        short = os.fstat(file.fileno()).st_size <= _AT_ONCE
        return file.readall() if short else None


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(16)
