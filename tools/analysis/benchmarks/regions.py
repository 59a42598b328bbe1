"""Benchmark of regions in questions and masks in answers.

The sampler runs at its released size (C = 1024, 512 points, 128 and 32 left, 24
neighbours) against the plain algorithm of :mod:`.plain_ferret`, farthest points and
neighbours included. The layers of its stages are measured once more by themselves:
C = 512, four regions, anchors and neighbours given, without the last projection, which
is one and the same. Time is CPU time of one thread, medians over
interleaved repeats; results and gradients are compared first. Bytes are those of a
region of an image of 640 x 480 pixels: its box, points and draws against the mask that
the official worker sends (float64). Rows about masks are made in :mod:`.masks`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from . import masks

#: Least ratio to the plain way, by what is measured; None: shown for comparison.
MUSTS = {
    "sampler forward": 4.0,
    "sampler forward+backward": 5.0,
    "paired layers forward": 10.0,
    "paired layers forward+backward": None,
    "bytes per region": 100.0,
    "mask decoding, 8 images x 3": 1.3,
    "memory of the mask loss": 3.0,
    "reply with a mask": 5.0,
    "states caught": 1.2,
    "scoring masks": 5.0,
}
#: Name of a row to what measures it, what it is called, its unit and what of it is one.
MASK_ROWS = {
    "decoder": (masks.decoder_row, "mask decoding, 8 images x 3", "ms", 1e-3),
    "loss": (masks.loss_row, "memory of the mask loss", "MiB", 2**20),
    "reply": (masks.reply_row, "reply with a mask", "ms", 1e-3),
    "states": (masks.states_row, "states caught", "ms", 1e-3),
    "scoring": (masks.scoring_row, "scoring masks", "ms", 1e-3),
}
ROWS = ("sampler", "layers", "bytes", *MASK_ROWS)
#: Output: largest difference from the plain algorithm, of the largest value. Gradients:
#: norm of the difference; of two million maxima a few lie so close that rounding
#: decides which neighbour gets the gradient.
TOLERANCES = (1e-4, 1e-2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark.py regions``."""
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=5, help="timed, after warm-up")
    parser.add_argument("--regions", type=int, default=16)
    parser.add_argument("--width", type=int, default=1024, help="of the features")
    parser.add_argument("--layer-regions", type=int, default=4, help="of row `layers`")
    parser.add_argument("--layer-width", type=int, default=512, help="of row `layers`")
    parser.add_argument("--points", type=int, default=512)
    parser.add_argument("--stages", nargs="+", type=int, default=[128, 32])
    parser.add_argument("--neighbours", nargs="+", type=int, default=[24, 24])
    sizes = parser.add_argument_group("sizes of the rows about masks")
    sizes.add_argument("--decoder-width", type=int, default=64)
    sizes.add_argument("--decoder-grid", type=int, default=12, help="of the embedding")
    sizes.add_argument("--loss-size", nargs=2, type=int, default=[1080, 1920])
    sizes.add_argument("--llm-width", type=int, default=192)
    sizes.add_argument("--layers", type=int, default=4, help="of the decoder")
    sizes.add_argument("--vocab", type=int, default=512)
    sizes.add_argument("--prompts", type=int, default=8)
    sizes.add_argument("--reply-tokens", type=int, default=32)
    sizes.add_argument("--state-tokens", type=int, default=8)
    sizes.add_argument("--masks", type=int, default=5000, help="that are scored")


def make_case(args: argparse.Namespace, count: int, width: int) -> tuple:
    """Return a sampler of a width, features of an image, and some regions of it."""
    from mmvlm.models.region_encoders.ferret_sampler import FerretSampler
    from mmvlm.structures import VisionEncoderSpec, VisionFeatures
    from mmvlm.structures.regions import RegionInputs

    torch.manual_seed(0)
    side = 24
    sampler = FerretSampler(
        vision_spec=VisionEncoderSpec(width, 1, 14, 14 * side),
        out_width=64,
        select_layers=[0],
        num_points=args.points,
        num_sub_points=args.stages,
        num_neighbours=args.neighbours,
    )
    state = torch.randn(1, side * side, width, requires_grad=True)
    features = VisionFeatures((state,), (0,), (side, side))
    regions = RegionInputs(
        boxes=torch.zeros(count, 4),
        views=torch.zeros(count, dtype=torch.long),
        points=torch.rand(count, args.points, 2),
        draws=torch.rand(count, len(args.stages)),
    )
    return sampler, features, regions


def variants(
    sampler: Any, features: Any, regions: Any, given: bool = False
) -> dict[str, Callable]:
    """Return the plain algorithm and ours, on the same case.

    Where anchors and neighbours are ``given``, both take the same, and stop before the
    last projection.
    """
    from .plain_ferret import plain_sampler

    points, views = regions.points, regions.views
    sizes = torch.tensor([points.shape[1], *sampler.num_sub_points[:-1]])
    starts = (regions.draws * sizes).long()
    chosen = sampler.choose(points, regions.draws) if given else None

    def plain() -> torch.Tensor:
        return plain_sampler(sampler, features.patch_map(), points, starts, chosen)

    def ours() -> torch.Tensor:
        if given:
            return sampler.pool(features, points, views, chosen)
        return sampler(features, regions)

    return {"plain": plain, "ours": ours}


def check_equal(ways: dict[str, Callable], leaves: list[torch.Tensor]) -> None:
    """Compare outputs and gradients.

    Raises:
        RuntimeError: when they differ.
    """

    def results(way: Callable) -> list[torch.Tensor]:
        out = way()
        weights = torch.linspace(-1, 1, out.numel()).view_as(out)
        return [out.detach(), *torch.autograd.grad(out, leaves, weights)]

    both = zip(*map(results, ways.values()), strict=True)
    for number, (want, got) in enumerate(both):
        order = 2 if number else torch.inf
        norms = [torch.linalg.vector_norm(t, order) for t in (got - want, want)]
        error, most = (norms[0] / norms[1]).item(), TOLERANCES[number > 0]
        if not error <= most:
            what = f"gradient {number - 1}" if number else "output"
            raise RuntimeError(
                f"the sampler's {what} differs from the plain algorithm's by "
                f"{error:.1e}; at most {most:.0e} is allowed."
            )


def sampler_rows(
    args: argparse.Namespace, layers: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the ratios of the sampler's passes, or of its layers' by themselves."""
    size = (args.regions, args.width)
    if layers:
        size = (args.layer_regions, args.layer_width)
    sampler, features, regions = make_case(args, *size)
    ways = variants(sampler, features, regions, given=layers)
    stages = nn.ModuleList((sampler.difference, sampler.pair, sampler.norm))
    trained = stages if layers else sampler
    leaves = [features.hidden_states[0], *trained.parameters()]
    check_equal(ways, leaves)
    seconds: dict[tuple, list[float]] = {}
    for repeat in range(args.repeats + 1):
        for name, way in ways.items():
            start = time.process_time()
            with torch.no_grad():
                way()
            middle = time.process_time()
            torch.autograd.grad(way().sum(), leaves)
            end = time.process_time()
            if repeat:  # the first is the warm-up
                seconds.setdefault((name, "forward"), []).append(middle - start)
                both = seconds.setdefault((name, "forward+backward"), [])
                both.append(end - middle)
    for kind in ("forward", "forward+backward"):
        plain, ours = (statistics.median(seconds[name, kind]) for name in ways)
        name = f"{'paired layers' if layers else 'sampler'} {kind}"
        yield _row(name, plain / ours, plain * 1e3, ours * 1e3, "ms")


def byte_rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the bytes of one region of an image of 640 x 480 pixels."""
    from mmvlm.datasets.transforms.region_inputs import PrepareRegions
    from mmvlm.structures import Boxes, Conversation, Region, ViewLayout

    size, side = (480, 640), 336
    scale = (side / size[1], side / size[0])
    region = Region(0, Boxes(np.array([100.0, 80, 420, 400]), size))
    item = dict(
        conversation=Conversation([], ["a.png"], id="one"),
        layouts=[ViewLayout(size, (side, side), kind="resize", scale=scale)],
        regions=(region,),
    )
    needs = dict(points=args.points, draws=len(args.stages))
    made = PrepareRegions(needs, mode="generate")(item)["inputs"]["region"]
    tensors = [made.values, *made.extra.values()]
    ours = sum(one.numel() * one.element_size() for one in tensors)
    plain = np.zeros(size[::-1]).nbytes
    yield _row("bytes per region", plain / ours, plain, ours, "bytes")


def _row(
    what: str, ratio: float, plain: float, ours: float, unit: str
) -> dict[str, Any]:
    return dict(
        benchmark="regions",
        what=what,
        ratio=round(ratio, 2),
        must=MUSTS[what],
        plain=round(plain, 1),
        ours=round(ours, 1),
        unit=unit,
    )


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure what is asked for; yield one row per number.

    Raises:
        RuntimeError: when results differ from the plain algorithm's.
    """
    torch.set_num_threads(1)
    if "sampler" in args.rows:
        yield from sampler_rows(args)
    if "layers" in args.rows:
        yield from sampler_rows(args, layers=True)
    if "bytes" in args.rows:
        yield from byte_rows(args)
    for name, (measure, what, unit, one) in MASK_ROWS.items():
        if name in args.rows:
            plain, ours = measure(args)
            yield _row(what, plain / ours, plain / one, ours / one, unit)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Format rows for reading, ratios beside the musts."""
    lines = [f"{'what':30} {'ratio':>8}  must      plain       ours"]
    for row in rows:
        must = "-" if row["must"] is None else f">={row['must']:g}"
        lines.append(
            f"{row['what']:30} {row['ratio']:8.2f}  {must:<7} "
            f"{row['plain']:10.1f} {row['ours']:10.1f} {row['unit']}"
        )
    return lines
