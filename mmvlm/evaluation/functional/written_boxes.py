"""A right box as each protocol of referring expressions reads it from a text."""

from __future__ import annotations

from collections.abc import Callable

from .boxes import Box

#: Height and width of an image in pixels.
Size = tuple[int, int]
_CELLS = 32


def written_box(protocol: str, box: Box, size: Size, expression: str = "") -> str:
    """Return an answer in which a protocol finds a box; empty where it reads no text.

    Args:
        protocol (str): name in :data:`mmvlm.evaluation.functional.referring.PROTOCOLS`.
        box (Sequence[float]): x1, y1, x2, y2 in pixels.
        size (tuple[int, int]): height and width of the image.
        expression (str): what was asked for; Kosmos-2 demands it in the answer.

    Example:
        >>> written_box("llava", [0, 10, 40, 30], (20, 40))
        '[0.000, 0.500, 1.000, 1.000]'
    """
    if protocol == "kosmos2":
        return _kosmos2(box, size, expression)
    write = _WRITERS.get(protocol)
    return "" if write is None else write(box, size)


def _shares(box: Box, size: Size) -> list[float]:
    """Return a box in shares of the image's own sides."""
    height, width = size
    return [v / s for v, s in zip(box, (width, height) * 2, strict=True)]


def _square(box: Box, size: Size) -> list[float]:
    """Return a box in shares of the padded square."""
    height, width = size
    side = max(size)
    margins = ((side - width) // 2, (side - height) // 2) * 2
    return [(v + m) / side for v, m in zip(box, margins, strict=True)]


def _fractions(values: list[float], separator: str = ", ") -> str:
    return f"[{separator.join(f'{value:.3f}' for value in values)}]"


def _whole(values: list[float], scale: int) -> list[int]:
    return [round(value * scale) for value in values]


def _bins(values: list[int], separator: str = "") -> str:
    return separator.join(f"<bin_{value}>" for value in values)


def _kosmos2(box: Box, size: Size, expression: str) -> str:
    x1, y1, x2, y2 = (min(_CELLS - 1e-6, v * _CELLS) for v in _shares(box, size))
    first, last = int(y1) * _CELLS + int(x1), int(y2) * _CELLS + int(x2)
    cells = f"<patch_index_{first:04d}><patch_index_{last:04d}>"
    return f"<phrase>{expression}</phrase><object>{cells}</object>"


_WRITERS: dict[str, Callable[[Box, Size], str]] = {
    "llava": lambda box, size: _fractions(_square(box, size)),
    "mmfuser": lambda box, size: f"[{_whole(_shares(box, size), 999)}]",
    "mmfuser_pad": lambda box, size: f"[{_whole(_square(box, size), 999)}]",
    "shikra": lambda box, size: _fractions(_square(box, size), ","),
    "shikra_round": lambda box, size: f"({_fractions(_square(box, size), ',')[1:-1]})",
    "shikra_tokens": lambda box, size: (
        f"<b_st>{_bins(_whole(_square(box, size), 1000))}<b_ed>"
    ),
    "ferret": lambda box, size: f"it {_whole(_shares(box, size), 1000)}",
    "qwen_vl": lambda box, size: "({},{}),({},{})".format(
        *_whole(_shares(box, size), 999)
    ),
    "pink": lambda box, size: _fractions(_shares(box, size), ","),
    "pink_pad": lambda box, size: _fractions(_square(box, size), ","),
    "ofa": lambda box, size: _bins(_whole(_shares(box, size), 999), " "),
    "xtuner": lambda box, size: "{{<{}><{}><{}><{}>}}".format(
        *_whole(_shares(box, size), 100)
    ),
}
