"""Histograms of a dataset's lengths and of what a mixture holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmvlm.utils.files import writing
from mmvlm.visualization.page import new_figure

_COLOURS = ("#2563eb", "#f97316", "#16a34a", "#9333ea", "#dc2626", "#0891b2", "#ca8a04")
_GREY, _INK = "#64748b", "#0f172a"


def draw_lengths(members: Sequence[Any], path: str | os.PathLike) -> None:
    """Draw how long samples are, a panel per dataset, as a PNG.

    Lengths are tokens where they are known, else words.

    Args:
        members (Sequence): each with ``name``, ``tokens``, ``trained``, ``words``
            (per sample), and ``max_length``, drawn as a line where it is near.
        path (str | PathLike): of the image.
    """
    shown = [m for m in members if m.tokens or m.words][:12]
    figure = new_figure(7.2, 0.5 + 1.9 * max(1, len(shown)))
    for number, member in enumerate(shown, 1):
        axes = figure.add_subplot(len(shown), 1, number)
        values, unit = (
            (member.tokens, "tokens") if member.tokens else (member.words, "words")
        )
        edges = _edges([*values, *member.trained] if member.tokens else values)
        axes.hist(values, edges, color=_COLOURS[0], label=f"{unit} of a sample")
        if member.tokens and member.trained:
            style = dict(histtype="step", color=_COLOURS[1], lw=1.6)
            axes.hist(member.trained, edges, label="of them trained", **style)
        middle, high = np.percentile(values, (50, 99))
        axes.axvline(middle, color=_INK, lw=1, ls=":")
        limit = member.max_length
        if limit is not None and member.tokens and limit < 1.5 * max(values):
            axes.axvline(limit, color=_COLOURS[4], lw=1.2, label="max_length")
        axes.set_title(member.name, fontsize=10, loc="left", weight="bold")
        axes.set_title(
            f"{len(values)} samples, median {middle:.0f}, 99 % below {high:.0f} {unit}",
            fontsize=8.5,
            loc="right",
            color=_GREY,
        )
        axes.legend(fontsize=8, frameon=False)
        _plain(axes)
        axes.set_ylabel("samples", fontsize=8.5)
    with writing(path):
        figure.savefig(path, dpi=120)


def draw_mixture(members: Sequence[Any], path: str | os.PathLike) -> None:
    """Draw each dataset's share of an epoch, in samples and tokens, as a PNG.

    Args:
        members (Sequence): each with ``name``, ``per_epoch`` (samples) and
            ``tokens_per_epoch`` (None without a tokenizer).
        path (str | PathLike): of the image.
    """
    samples = [m.per_epoch for m in members]
    tokens = [m.tokens_per_epoch for m in members]
    panels = [("samples per epoch", samples)]
    if all(count is not None for count in tokens):
        panels.append(("tokens per epoch", tokens))
    figure = new_figure(7.2, 1.0 + 0.34 * len(members))
    for number, (title, counts) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), number)
        whole = sum(counts) or 1
        rows = np.arange(len(counts))
        colours = [_COLOURS[i % len(_COLOURS)] for i in rows]
        axes.barh(rows, counts, color=colours, height=0.7)
        for row, count in enumerate(counts):
            text = f" {count:,.0f} ({count / whole:.1%})"
            axes.text(count, row, text, va="center", fontsize=8)
        axes.set_xlim(0, 1.55 * max(counts))
        names = [member.name for member in members] if number == 1 else []
        axes.set_yticks(rows if names else [], names, fontsize=8.5)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=10, loc="left", weight="bold")
        _plain(axes)
    with writing(path):
        figure.savefig(path, dpi=120)


def _edges(values: Sequence[int]) -> np.ndarray:
    """Return the edges of up to 40 bins of whole numbers."""
    low, high = min(values), max(values)
    step = max(1, -(-(high - low + 1) // 40))
    return np.arange(low, high + step + 1, step) - 0.5


def _plain(axes: Any) -> None:
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, lw=0.6)
    axes.set_axisbelow(True)
