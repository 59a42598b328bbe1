"""Benchmark of deformable attention sampling: every backend against a plain loop.

Sizes are MMFuser's: 576 queries, 16 heads of 64 channels, 4 points; cross attention
over four maps of 24 x 24 and self attention over one. Time is CPU time of one
thread, medians over repeats that are interleaved between the variants; memory is
what autograd keeps for the backward pass. Results and gradients are compared
first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional as F

#: Levels of 24 x 24 values that MMFuser's two attentions look into.
KINDS = {"cross": 4, "self": 1}
BACKENDS = ("cpp", "bag", "grid")
#: (backend, pass) -> least ratio of the plain loop's time, cross attention, batch 1.
MUSTS = {
    ("bag", "forward"): 3.0,
    ("bag", "forward+backward"): 2.0,
    ("cpp", "forward"): 8.0,
    ("cpp", "forward+backward"): 8.0,
}
#: Forward: absolute; gradients: relative to the largest.
TOLERANCES = (5e-6, 1e-5)

Sample = Callable[..., torch.Tensor]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark.py deform``."""
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 4])
    parser.add_argument(
        "--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS)
    )
    parser.add_argument("--repeats", type=int, default=7, help="timed, after warm-up")
    parser.add_argument("--side", type=int, default=24, help="of every map, patches")
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--channels", type=int, default=64, help="per head")
    parser.add_argument("--points", type=int, default=4)
    parser.add_argument(
        "--spread",
        type=float,
        default=3.0,
        help="standard deviation of a point around its query, patches; MMFuser "
        "starts with points 1 to 4 patches away",
    )


def plain_sample(
    value: torch.Tensor,
    shapes: list[tuple[int, int]],
    locations: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Sample level by level with ``grid_sample``, stack, weigh, sum.

    This is how the usual PyTorch fallback of the CUDA operator goes.

    Shape:
        - ``value``: (B, S, M, D)
        - ``locations``, ``weights``: (B, Q, M, L, K, 2) and without the 2
        - output: (B, Q, M * D)
    """
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    pieces = value.split([height * width for height, width in shapes], 1)
    sampled = []
    for level, (height, width) in enumerate(shapes):
        maps = pieces[level].flatten(2).transpose(1, 2)
        maps = maps.reshape(batch * heads, channels, height, width)
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        sampled.append(
            F.grid_sample(
                maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False
            )
        )
    shares = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    out = (torch.stack(sampled, -2).flatten(-2) * shares).sum(-1)
    return out.view(batch, heads * channels, queries).transpose(1, 2).contiguous()


def make_inputs(
    args: argparse.Namespace, levels: int, batch: int
) -> tuple[list[torch.Tensor], list[tuple[int, int]], torch.Tensor]:
    """Return leaves (value, locations, weights), shapes and an output gradient.

    Points lie around their query's own cell; those of border cells also outside.
    """
    generator = torch.Generator().manual_seed(0)
    side, heads, points = args.side, args.heads, args.points
    shapes, queries = [(side, side)] * levels, side * side
    centre = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    centres = torch.stack([x.flatten(), y.flatten()], -1)[:, None, None, None]
    sizes = (batch, queries, heads, levels, points)
    offsets = torch.randn(*sizes, 2, generator=generator) * args.spread / side
    value = torch.randn(
        batch, levels * queries, heads, args.channels, generator=generator
    )
    scores = torch.randn(*sizes[:3], levels * points, generator=generator)
    leaves = [value, centres + offsets, scores.softmax(-1).view(sizes)]
    grad = torch.randn(batch, queries, heads * args.channels, generator=generator)
    return [leaf.requires_grad_() for leaf in leaves], shapes, grad


def variants(args: argparse.Namespace) -> dict[str, Sample]:
    """Return the plain loop and every backend that can run here."""
    from mmvlm.models.ops.compiled import load_ops
    from mmvlm.models.ops.deform_attn import deform_attn_sample

    def ours(name: str) -> Sample:
        return lambda *inputs: deform_attn_sample(*inputs, backend=name)

    found: dict[str, Sample] = {"plain": plain_sample}
    for name in args.backends:
        if name == "cpp" and load_ops() is not None:
            continue
        found[name] = ours(name)
    return found


def check_equal(
    samples: dict[str, Sample], leaves: list, shapes: list, grad: torch.Tensor
) -> None:
    """Compare outputs and gradients of all variants with the plain loop's.

    Raises:
        RuntimeError: naming the variant and what differs.
    """

    def run(sample: Sample) -> list[torch.Tensor]:
        out = sample(leaves[0], shapes, *leaves[1:])
        return [out.detach(), *torch.autograd.grad(out, leaves, grad)]

    expected = run(samples["plain"])
    names = ("output", "gradient of value", "of locations", "of weights")
    for variant, sample in samples.items():
        for name, got, want in zip(names, run(sample), expected, strict=True):
            most = TOLERANCES[0]
            if name != "output":
                most = TOLERANCES[1] * want.abs().max().item()
            error = (got - want).abs().max().item()
            if not error <= most:
                raise RuntimeError(
                    f"{variant} disagrees with the plain loop: {name} by {error:.1e}, "
                    f"at most {most:.1e} is allowed."
                )


def saved_bytes(sample: Sample, leaves: list, shapes: list) -> int:
    """Return the bytes that autograd keeps between forward and backward."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = sample(leaves[0], shapes, *leaves[1:])
    del out
    return sum(kept.values())


def measure(
    args: argparse.Namespace, samples: dict[str, Sample], inputs: tuple
) -> dict[str, dict[str, float]]:
    """Return median CPU seconds by variant and pass."""
    leaves, shapes, grad = inputs
    seconds = {name: {"forward": [], "forward+backward": []} for name in samples}
    for repeat in range(args.repeats + 1):
        for name, sample in samples.items():
            start = time.process_time()
            with torch.no_grad():
                sample(leaves[0], shapes, *leaves[1:])
            middle = time.process_time()
            out = sample(leaves[0], shapes, *leaves[1:])
            torch.autograd.grad(out, leaves, grad)
            end = time.process_time()
            if repeat:  # the first is the warm-up
                seconds[name]["forward"].append(middle - start)
                seconds[name]["forward+backward"].append(end - middle)
    return {
        name: {kind: statistics.median(times) for kind, times in passes.items()}
        for name, passes in seconds.items()
    }


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure every combination asked for; yield one row per backend.

    Raises:
        RuntimeError: when a variant's results differ from the plain loop's.
    """
    torch.set_num_threads(1)
    samples = variants(args)
    for kind in args.kinds:
        for batch in args.batch:
            inputs = make_inputs(args, KINDS[kind], batch)
            check_equal(samples, *inputs)
            seconds = measure(args, samples, inputs)
            kept = {n: saved_bytes(s, *inputs[:2]) for n, s in samples.items()}
            for name in samples:
                yield _row(args, kind, batch, name, seconds, kept)


def _row(
    args: argparse.Namespace,
    kind: str,
    batch: int,
    name: str,
    seconds: dict,
    kept: dict,
) -> dict[str, Any]:
    ratios = {
        which: round(seconds["plain"][which] / seconds[name][which], 2)
        for which in ("forward", "forward+backward")
    }
    checked = kind == "cross" and batch == 1
    return dict(
        benchmark="deform",
        attention=kind,
        batch=batch,
        backend=name,
        spread=args.spread,
        ratio=ratios,
        must={which: MUSTS.get((name, which)) if checked else None for which in ratios},
        cpu_ms={which: round(s * 1e3, 1) for which, s in seconds[name].items()},
        saved_mib=round(kept[name] / 2**20, 1),
    )


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Format rows for reading, ratios beside the musts."""
    lines = [
        "ratios of CPU time to the plain grid_sample loop",
        "attention batch backend  forward  must  fwd+bwd  must  kept for backward, MiB",
    ]
    for row in rows:
        cells = []
        for which in ("forward", "forward+backward"):
            must = row["must"][which]
            cells += [f"{row['ratio'][which]:7.2f}", f">={must:g}" if must else "-"]
        lines.append(
            f"{row['attention']:9} {row['batch']:5} {row['backend']:8} "
            f"{cells[0]}  {cells[1]:4}  {cells[2]}  {cells[3]:4}  "
            f"{row['saved_mib']:8.1f}"
        )
    return lines
