"""Images of feature maps, sampling points and routing weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

from mmvlm.visualization.page import new_figure, render, write_page

#: Colours of levels, in their order.
LEVEL_COLOURS = ("#ef4444", "#f59e0b", "#22c55e", "#3b82f6", "#d946ef", "#14b8a6")
#: Most numbers of sampling points that the page holds for clicking.
MAX_NUMBERS = 1_500_000
_SIDE = 2.1


def pca_colours(maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Turn maps into RGB by their first three principal components.

    Every map is centred: layers lie far apart, and what differs from place to place
    would drown in that. Components and the range of colours are shared.

    Args:
        maps (Sequence[np.ndarray]): of one width.

    Shape:
        - ``maps[i]``: (H, W, D); output: (H, W, 3), 0-1
    """
    flat = [m.reshape(-1, m.shape[-1]).astype(np.float64) for m in maps]
    rows = np.concatenate([values - values.mean(0) for values in flat])
    _, _, basis = np.linalg.svd(rows, full_matrices=False)
    basis = basis[:3]
    # A component's sign is arbitrary: let its largest entry be positive.
    signs = np.sign(basis[np.arange(len(basis)), np.abs(basis).argmax(1)])
    scores = rows @ (basis * signs[:, None]).T
    scores = np.pad(scores, ((0, 0), (0, 3 - scores.shape[1])))
    low, high = np.percentile(scores, (2, 98), axis=0)
    unit = np.clip((scores - low) / np.maximum(high - low, 1e-9), 0, 1)
    sizes = np.cumsum([m.shape[0] * m.shape[1] for m in maps])[:-1]
    parts = np.split(unit, sizes)
    return [p.reshape(*m.shape[:2], 3) for p, m in zip(parts, maps, strict=True)]


def mean_range(maps: Sequence[np.ndarray]) -> float:
    """Return the largest channel mean, by size, over maps: their common scale."""
    return max(float(np.abs(m.mean(-1)).max()) for m in maps) or 1.0


def draw_maps(maps: Sequence[tuple[str, np.ndarray]], image: np.ndarray) -> Any:
    """Draw components above and channel means below, one column per map.

    Components are shared by maps of one width, the scale of means by all.

    Args:
        maps (Sequence[tuple[str, np.ndarray]]): title and (H, W, D).
        image (np.ndarray): (H, W, 3) uint8.

    Returns:
        matplotlib.figure.Figure: to be saved.
    """
    figure = new_figure(_SIDE * (len(maps) + 1) + 0.6, 2 * _SIDE + 0.9)
    grid = figure.add_gridspec(2, len(maps) + 1)
    axes = figure.add_subplot(grid[0, 0])
    axes.imshow(image)
    axes.set_title("image", fontsize=8)
    _bare(axes)
    colours: dict[int, np.ndarray] = {}
    for width in {m.shape[-1] for _, m in maps}:
        same = [n for n, (_, m) in enumerate(maps) if m.shape[-1] == width]
        shown = pca_colours([maps[n][1] for n in same])
        colours.update(zip(same, shown, strict=True))
    top, means = mean_range([m for _, m in maps]), []
    for number, (title, values) in enumerate(maps):
        axes = figure.add_subplot(grid[0, number + 1])
        axes.imshow(colours[number], interpolation="nearest")
        axes.set_title(title, fontsize=8)
        _bare(axes)
        axes = figure.add_subplot(grid[1, number + 1])
        drawn = axes.imshow(values.mean(-1), cmap="RdBu_r", vmin=-top, vmax=top)
        _bare(axes)
        means.append(axes)
    figure.colorbar(drawn, ax=means, shrink=0.8).ax.tick_params(labelsize=7)
    figure.text(0.01, 0.3, "channel mean\n(below), first 3\ncomponents (above)", size=8)
    return figure


def draw_sampling(
    image: np.ndarray,
    grid: tuple[int, int],
    query: tuple[int, int],
    sampling: tuple[np.ndarray, np.ndarray],
    title: str,
) -> Any:
    """Draw where one query looked, a panel per level; dots grow with their weight.

    Args:
        image (np.ndarray): (H, W, 3) uint8.
        grid (tuple[int, int]): rows and columns of queries.
        query (tuple[int, int]): row and column.
        sampling (tuple[np.ndarray, np.ndarray]): locations (Q, M, L, K, 2) in 0-1
            and weights (Q, M, L, K).
        title (str): of the figure.

    Raises:
        ValueError: for a query outside of the grid.
    """
    check_query(query, grid)
    places, weights = (x[query[0] * grid[1] + query[1]] for x in sampling)
    height, width = image.shape[:2]
    levels = places.shape[1]
    figure = new_figure(levels * 2.4 + 0.2, 2.9)
    gap = ", " if levels > 1 else "\n"  # one panel is too narrow for one line
    place = f"query row {query[0]}, column {query[1]}"
    figure.suptitle(f"{title}{gap}{place}", fontsize=9)
    cell = (width / grid[1], height / grid[0])
    for level in range(levels):
        axes = figure.add_subplot(1, levels, level + 1)
        axes.imshow(image, extent=(0, width, height, 0))
        left, top = query[1] * cell[0], query[0] * cell[1]
        box = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) * cell + (left, top)
        axes.plot(*box.T, color="white", lw=1.5)
        points = places[:, level].reshape(-1, 2) * (width, height)
        size = 12 + 400 * weights[:, level].ravel()
        colour = LEVEL_COLOURS[level % len(LEVEL_COLOURS)]
        axes.scatter(*points.T, s=size, color=colour, alpha=0.7, lw=0.5, ec="black")
        share = weights[:, level].sum() / max(weights.sum(), 1e-9)
        axes.set_title(f"level {level}: {share:.0%} of the weight", fontsize=8)
        axes.set(xlim=(0, width), ylim=(height, 0))
        _bare(axes)
    return figure


def draw_routing(weights: np.ndarray, title: str) -> Any:
    """Draw the weights of experts: a row per expert, a column per token.

    Shape:
        - ``weights``: (N, K), 0-1
    """
    figure = new_figure(7.0, 0.9 + 0.35 * weights.shape[1])
    axes = figure.add_subplot(1, 1, 1)
    image = axes.imshow(
        weights.T,
        aspect="auto",
        cmap="viridis",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    means = weights.mean(0)
    names = [f"expert {n}: {mean:.2f}" for n, mean in enumerate(means)]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("token", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.set_title(f"{title} (mean weight beside its expert)", fontsize=9)
    figure.colorbar(image, ax=axes).ax.tick_params(labelsize=7)
    return figure


def check_query(query: tuple[int, int], grid: tuple[int, int]) -> None:
    """Check that a query lies in the grid.

    Raises:
        ValueError: with the grid.
    """
    if not (0 <= query[0] < grid[0] and 0 <= query[1] < grid[1]):
        raise ValueError(
            f"query row {query[0]}, column {query[1]} lies outside of the grid of "
            f"{grid[0]} rows and {grid[1]} columns."
        )


def _bare(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])


# The page --------------------------------------------------------------------

_STYLE = """
img { max-width: 100%; border: 1px solid var(--rule); border-radius: 8px; }
.click { position: relative; width: 480px; cursor: crosshair; }
.click img { width: 100%; display: block; image-rendering: pixelated; }
.click svg { position: absolute; inset: 0; width: 100%; height: 100%; }
"""
_SCRIPT = """
function show(box, row, column) {
  const d = box.data, q = row * d.columns + column, svg = box.querySelector("svg");
  let out = "";
  const n = d.heads * d.levels * d.points;
  for (let i = 0; i < n; i++) {
    const k = q * n + i, level = Math.floor(i / d.points) % d.levels;
    const r = 4 + 26 * Math.sqrt(d.w[k] / 255);
    out += `<circle cx="${d.xy[2 * k]}" cy="${d.xy[2 * k + 1]}" r="${r}"` +
      ` fill="${d.colours[level % d.colours.length]}" fill-opacity="0.65"/>`;
  }
  const w = 1000 / d.columns, h = 1000 / d.rows;
  svg.innerHTML = out + `<rect x="${column * w}" y="${row * h}" width="${w}"` +
    ` height="${h}" fill="none" stroke="white" stroke-width="5"/>`;
}
for (const box of document.querySelectorAll(".click")) {
  box.data = JSON.parse(box.querySelector("script").textContent);
  box.addEventListener("click", event => {
    const area = box.getBoundingClientRect();
    const cell = (at, start, side, n) =>
      Math.min(n - 1, Math.max(0, Math.floor((at - start) / side * n)));
    show(box, cell(event.clientY, area.top, area.height, box.data.rows),
      cell(event.clientX, area.left, area.width, box.data.columns));
  });
  show(box, ...box.data.query);
}
"""
_BODY = """
{% for heading, file in figures %}
<h2>{{ heading }}</h2><img src="{{ data_uri(file) }}">
{% endfor %}
{% for name, data in clickable.items() %}
<h2>{{ name }}: click a place</h2>
{% if data is number %}
<p>{{ "{:,}".format(data) }} numbers are too many for a page.</p>
{% else %}
<div class="click"><img src="{{ data_uri(image) }}"><svg viewBox="0 0 1000 1000"
  preserveAspectRatio="none"></svg><script type="application/json">
{{- data | tojson }}</script></div>
{% endif %}
{% endfor %}
<script>{{ code | safe }}</script>
"""


def write_feature_page(
    path: str | os.PathLike,
    *,
    title: str,
    figures: Sequence[tuple[str, str]],
    image: np.ndarray,
    grid: tuple[int, int],
    sampling: dict[str, tuple[np.ndarray, np.ndarray]],
    query: tuple[int, int],
) -> None:
    """Write a page that holds its images and loads nothing.

    A click on an image shows the sampling points of the cell, as long as all of
    them fit (``MAX_NUMBERS``); else the page says so.

    Args:
        path (str | PathLike): of the HTML.
        title (str): of the page.
        figures (Sequence[tuple[str, str]]): heading and path of a PNG.
        image (np.ndarray): (H, W, 3) uint8.
        grid (tuple[int, int]): rows and columns of queries.
        sampling (dict): module to locations (Q, M, L, K, 2) and weights.
        query (tuple[int, int]): row and column that is shown first.
    """
    clickable = {
        name: _click_data(places, weights, grid, query)
        if (numbers := places.size + weights.size) <= MAX_NUMBERS
        else numbers
        for name, (places, weights) in sampling.items()
    }
    body = render(
        _BODY, figures=figures, clickable=clickable, image=_png(image), code=_SCRIPT
    )
    write_page(path, title=title, body=body, style=_STYLE)


def _click_data(places: Any, weights: Any, grid: Any, query: Any) -> dict:
    _, heads, levels, points = weights.shape
    share = weights / max(float(weights.max()), 1e-9)
    return dict(
        rows=grid[0],
        columns=grid[1],
        query=list(query),
        heads=heads,
        levels=levels,
        points=points,
        colours=LEVEL_COLOURS,
        xy=np.rint(places * 1000).astype(int).ravel().tolist(),
        w=np.rint(share * 255).astype(int).ravel().tolist(),
    )


def _png(image: np.ndarray) -> bytes:
    import PIL.Image

    stream = BytesIO()
    PIL.Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()
