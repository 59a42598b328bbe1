"""How much of an image's print a probe can read from the layers of a tower."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import nn
from torch.nn import functional as F

from mmvlm.datasets.tiny_scenes.samples import SceneSample
from mmvlm.datasets.tiny_scenes.scene import NAMES

#: Kind of object and whether it is in small print.
Print = tuple[str, bool]
#: A whole image's quarters, or each as a view of its own; then a layer, or None for
#: all layers that were read, joined.
Source = tuple[str, int | None]
PRINTS: tuple[Print, ...] = (
    ("digit", False),
    ("digit", True),
    ("word", False),
    ("word", True),
)
#: Cells per side of a quarter that a probe reads at most; finer maps are averaged.
_MAX_CELLS = 4
_CHUNK = 128


def probe_layers(
    encoder: Any,
    train: Iterable[SceneSample],
    test: Iterable[SceneSample],
    *,
    layers: Sequence[int] | None = None,
    epochs: int = 25,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[Source, dict[Print, float]]:
    """Train a probe per layer to name digits and words; return the share right.

    A probe is an MLP with one hidden layer of 256 over the tokens of the quarter that
    the object lies in. Sources are every layer; all of them joined; and the last one
    when every quarter is a view of its own, at twice the size.

    Args:
        encoder (VisionEncoder): in eval mode; it is not trained.
        train (Iterable[SceneSample]): to learn from; two rows and two columns each.
        test (Iterable[SceneSample]): to be asked about.
        layers (Sequence[int] | None): hidden states; None takes all of them.
        epochs (int): over the objects of a kind.
        seed (int): of the probes' weights and order.
        progress (Callable): told what is being done.

    Returns:
        dict[Source, dict[Print, float]]: ``("whole", layer)``, ``("whole", None)`` and
        ``("quarters", layer)`` to the share of the test's objects that are named
        rightly, per kind and size of print that both sets hold.

    Raises:
        ValueError: when the tower's map has an odd number of rows or columns.
    """
    spec = encoder.spec
    chosen = range(spec.num_layers + 1) if layers is None else layers
    layers = [spec.layer_index(layer) for layer in chosen]
    progress("reading the training scenes")
    known = _read(encoder, train, layers)
    progress("reading the test scenes")
    tested = _read(encoder, test, layers)
    table: dict[Source, dict[Print, float]] = defaultdict(dict)
    for kind in PRINTS:
        progress(f"probing {'small' if kind[1] else 'large'} {kind[0]}s")
        if not known[kind] or not tested[kind]:
            continue
        names, targets = _names(known[kind]), _names(tested[kind])
        views = _joined(tested[kind])
        for source, tokens in _joined(known[kind]).items():
            table[source][kind] = _score(
                tokens, names, views[source], targets, epochs, seed
            )
    return dict(table)


# Features -------------------------------------------------------------------------


@torch.no_grad()
def _read(encoder: Any, samples: Iterable[SceneSample], layers: list[int]) -> dict:
    """Encode images, keep per object its name and the tokens of its quarter."""
    found: dict[Print, list[dict]] = {kind: [] for kind in PRINTS}
    chunk: list[SceneSample] = []
    for sample in samples:
        chunk.append(sample)
        if len(chunk) == _CHUNK:
            _read_chunk(encoder, chunk, layers, found)
            chunk = []
    if chunk:
        _read_chunk(encoder, chunk, layers, found)
    return found


def _read_chunk(
    encoder: Any, samples: list[SceneSample], layers: list[int], found: dict
) -> None:
    images = [sample.image() for sample in samples]
    whole = _encode(encoder, images, layers)  # (V, L, H, W, D)
    rows, columns = whole.shape[2] // 2, whole.shape[3] // 2
    if whole.shape[2] % 2 or whole.shape[3] % 2:
        raise ValueError(
            f"the tower's map has {whole.shape[2]} x {whole.shape[3]} cells; a probe "
            "needs an even number of both to take a quarter of it."
        )
    objects = [
        (number, *_cell(sample, thing), thing)
        for number, sample in enumerate(samples)
        for thing in sample.scene.objects
        if (thing.kind, thing.small) in found
    ]
    views = [
        _quarter(images[number], row, column) for number, row, column, _ in objects
    ]
    close = _encode(encoder, views, layers[-1:]) if views else None
    for index, (number, row, column, thing) in enumerate(objects):
        part = whole[number][
            :, row * rows : (row + 1) * rows, column * columns : (column + 1) * columns
        ]
        found[thing.kind, thing.small].append(
            dict(
                name=NAMES[thing.kind].index(thing.name),
                layers=dict(zip(layers, map(_flat, part), strict=True)),
                close=(layers[-1], _flat(close[index, 0])),
            )
        )


def _cell(sample: SceneSample, thing: Any) -> tuple[int, int]:
    style = sample.scene.style
    return style.rows.index(thing.row), style.columns.index(thing.column)


def _quarter(image: np.ndarray, row: int, column: int) -> np.ndarray:
    side = len(image) // 2
    return image[row * side : (row + 1) * side, column * side : (column + 1) * side]


def _encode(encoder: Any, images: list[np.ndarray], layers: list[int]) -> torch.Tensor:
    """Return hidden states (V, L, H, W, D) of images at the encoder's size."""
    spec = encoder.spec
    size = (spec.image_size, spec.image_size)
    views = np.stack(
        [
            np.asarray(PIL.Image.fromarray(p).resize(size, PIL.Image.BICUBIC))
            for p in images
        ]
    )
    device = next(encoder.parameters()).device
    pixels = torch.from_numpy(views).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (pixels.new_tensor(x)[:, None, None] for x in (spec.mean, spec.std))
    features = encoder((pixels - mean) / std, layers)
    places = [features.layers.index(layer) for layer in layers]
    maps = torch.stack([features.patches(place) for place in places], 1)
    return maps.float().cpu().unflatten(2, features.grid)


def _flat(part: torch.Tensor) -> torch.Tensor:
    """Flatten a map (H, W, D), averaged to a few cells where it is finer."""
    height, width = (min(side, _MAX_CELLS) for side in part.shape[:2])
    return F.adaptive_avg_pool2d(part.permute(2, 0, 1), (height, width)).flatten()


def _names(objects: list[dict]) -> torch.Tensor:
    return torch.tensor([thing["name"] for thing in objects])


def _joined(objects: list[dict]) -> dict[Source, torch.Tensor]:
    """Stack what was read of the objects of one kind, per source."""
    out: dict[Source, torch.Tensor] = {
        ("whole", layer): torch.stack([thing["layers"][layer] for thing in objects])
        for layer in objects[0]["layers"]
    }
    out["whole", None] = torch.cat(list(out.values()), 1)
    layer = objects[0]["close"][0]
    out["quarters", layer] = torch.stack([o["close"][1] for o in objects])
    return out


# The probe ------------------------------------------------------------------------


def _score(
    known: torch.Tensor,
    names: torch.Tensor,
    tested: torch.Tensor,
    targets: torch.Tensor,
    epochs: int,
    seed: int,
    batch: int = 128,
) -> float:
    """Train a probe on ``known`` (N, D) and return the share right of ``asked``."""
    mean, scale = known.mean(0), known.std(0, correction=0) + 1e-4
    known, tested = (known - mean) / scale, (tested - mean) / scale
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = nn.Sequential(
            nn.Dropout(0.2),
            nn.Linear(known.shape[1], 256),
            nn.GELU(),
            nn.Dropout(0.3),
            nn.Linear(256, 10),
        )
        optimizer = torch.optim.AdamW(probe.parameters(), lr=1e-3, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 2e-3, total_steps=epochs * -(-len(known) // batch)
        )
        for _ in range(epochs):
            for rows in torch.randperm(len(known)).split(batch):
                loss = F.cross_entropy(probe(known[rows]), names[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    with torch.no_grad():
        predicted = probe.eval()(tested).argmax(1)
    return (predicted == targets).float().mean().item()
