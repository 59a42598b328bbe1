"""JPEG decoders to choose from; every other kind of file is PIL's.

All of them are libjpeg(-turbo) behind another door: where versions agree they give
the same pixels (the slow, accurate DCT and smooth chroma). PIL spends a third of
its time on moving them.
"""

from __future__ import annotations

import functools
import importlib
import io
import logging
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
from mmengine.logging import print_log

#: Decode whole JPEG data at 1 / ``reduce`` of its size; None where it fails.
JpegDecoder = Callable[[bytes, int], "np.ndarray | None"]

#: Names that ``LoadImages.decoder`` takes.
DECODERS = ("pil", "opencv", "turbo", "auto")
#: Bindings of libjpeg-turbo, the first that can be imported is taken.
_TURBO = ("simplejpeg", "turbojpeg", "torchvision.io")
#: A marker of JPEG data; stuffed zeros, restarts and fill bytes are none.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END = 0xD9
#: Tables, scans, comments and application data.
_BETWEEN_SCANS = frozenset((0xC4, 0xDA, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)))


@functools.cache
def jpeg_decoder(name: str) -> JpegDecoder | None:
    """Return a decoder by name; None stands for PIL.

    Args:
        name (str): ``pil``; ``opencv``; ``turbo``: simplejpeg, PyTurboJPEG or
            torchvision, the first there is; ``auto``: turbo, else opencv, else PIL,
            which is logged once per process.

    Raises:
        ValueError: for an unknown name.
        RuntimeError: when what is asked for by name cannot be imported.
    """
    if name not in DECODERS:
        raise ValueError(f"decoder={name!r}: expected one of {list(DECODERS)}.")
    if name == "pil":
        return None
    expected = {"opencv": ("cv2",), "turbo": _TURBO, "auto": (*_TURBO, "cv2")}[name]
    reasons = []
    for module in expected:
        try:
            found = _MAKERS[module](importlib.import_module(module))
            _probe(found)
        # torchvision raises RuntimeError when it does not fit torch, PyTurboJPEG
        # when there is no libturbojpeg.
        except (ImportError, RuntimeError, OSError, AttributeError) as error:
            reasons.append(f"{module}: {str(error).splitlines()[0]}")
            continue
        if name == "auto":
            _log(f"decoder='auto': JPEG files are decoded by {module}.")
        return found
    if name == "auto":
        _log("decoder='auto': JPEG files are decoded by PIL, no other can be imported.")
        return None
    raise RuntimeError(
        f"decoder='{name}' cannot be used here ({'; '.join(reasons)}). Install one "
        f"of {[m.split('.')[0] for m in expected]}, or use decoder='pil' or 'auto'."
    )


def is_whole_jpeg(data: bytes, scan: int) -> bool:
    """Whether nothing but scans lies between the first one and the end mark.

    Decoders but PIL fill what is missing with grey, or stop at the last line that
    they need; what this refuses is left to PIL.

    Args:
        data (bytes): the whole file.
        scan (int): where its first scan begins, behind any thumbnail.
    """
    for match in _MARKER.finditer(data, scan):
        marker = match[0][1]
        if marker == _END:
            return True
        if marker not in _BETWEEN_SCANS:
            return False
    return False


def _probe(decode: JpegDecoder) -> None:
    """Raise RuntimeError when a decoder that was found does not decode."""
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (9, 7), (200, 100, 50)).save(buffer, "JPEG")
    expected = np.asarray(PIL.Image.open(buffer)).astype(int)
    found = decode(buffer.getvalue(), 1)
    # Builds of libjpeg may round differently, by a level or two.
    if (
        found is None
        or found.shape != expected.shape
        or abs(found - expected).max() > 8
    ):
        raise RuntimeError("it can be imported, but does not decode JPEG")


def _log(text: str) -> None:
    print_log(text, logger="current", level=logging.INFO)


def _opencv(cv2: Any) -> JpegDecoder:
    # EXIF must not turn the image: annotations refer to pixels as stored.
    plain = cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_COLOR
    flags = {
        1: plain,
        2: plain | cv2.IMREAD_REDUCED_COLOR_2,
        4: plain | cv2.IMREAD_REDUCED_COLOR_4,
        8: plain | cv2.IMREAD_REDUCED_COLOR_8,
    }
    rgb = getattr(cv2, "IMREAD_COLOR_RGB", None)  # since OpenCV 4.11

    def decode(data: bytes, reduce: int = 1) -> np.ndarray | None:
        stored = np.frombuffer(data, np.uint8)
        if rgb is not None and reduce == 1:
            return cv2.imdecode(stored, cv2.IMREAD_IGNORE_ORIENTATION | rgb)
        image = cv2.imdecode(stored, flags[reduce])
        return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    return decode


def _simplejpeg(simplejpeg: Any) -> JpegDecoder:
    def decode(data: bytes, reduce: int = 1) -> np.ndarray | None:
        try:
            height, width = simplejpeg.decode_jpeg_header(data)[:2]
            return simplejpeg.decode_jpeg(
                data,
                "RGB",
                min_height=-(-height // reduce) if reduce > 1 else 0,
                min_width=-(-width // reduce) if reduce > 1 else 0,
                min_factor=reduce,
            )
        except ValueError:
            return None

    return decode


def _turbojpeg(turbojpeg: Any) -> JpegDecoder:
    turbo = turbojpeg.TurboJPEG()

    def decode(data: bytes, reduce: int = 1) -> np.ndarray | None:
        scale = None if reduce == 1 else (1, reduce)
        try:
            return turbo.decode(data, turbojpeg.TJPF_RGB, scaling_factor=scale)
        except OSError:
            return None

    return decode


def _torchvision(vision: Any) -> JpegDecoder:
    import torch

    def decode(data: bytes, reduce: int = 1) -> np.ndarray | None:
        if reduce > 1:  # not offered: PIL does it
            return None
        stored = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        try:
            image = vision.decode_jpeg(stored, mode=vision.ImageReadMode.RGB)
        except RuntimeError:
            return None
        return image.permute(1, 2, 0).contiguous().numpy()

    return decode


_MAKERS: dict[str, Callable[[Any], JpegDecoder]] = {
    "cv2": _opencv,
    "simplejpeg": _simplejpeg,
    "turbojpeg": _turbojpeg,
    "torchvision.io": _torchvision,
}
