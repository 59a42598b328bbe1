"""Benchmark of batching: what a step costs per real token, scheme by scheme.

Lengths are drawn like those of an instruction mixture: most samples have one image
of 576 tokens and a short or middling text, one in seventeen is a long text alone.
Nothing is trained: the ranks of a step wait for the slowest, so a step costs its
tokens times the number of ranks, and the schemes differ in nothing else. Padded
schemes pay for the longest sample times the number of samples, flat ones for tokens.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

#: Scheme -> (sampler, its options, does a batch pay for padding?)
SCHEMES: dict[str, tuple[str, dict, bool]] = {
    "shuffled, padded": ("RandomBatchSampler", {}, True),
    "LLaVA's groups, padded": ("ModalityLengthSampler", {}, True),
    "window-sorted, padded": ("LengthWindowSampler", {}, True),
    "shuffled, flat": ("RandomBatchSampler", {}, False),
    "balanced, flat": ("BalancedBatchSampler", {}, False),
    "packed to 4096": ("PackedBatchSampler", dict(pack_length=4096), False),
    "packed to 8192": ("PackedBatchSampler", dict(pack_length=8192), False),
}
#: Scheme -> largest cost per real token.
MUSTS = {"balanced, flat": 1.03, "packed to 4096": 1.06, "packed to 8192": 1.06}
#: Scheme -> most seconds to plan 665K samples.
PLAN_MUSTS = {"balanced, flat": 3.0}


class SyntheticMixture:
    """Lengths in tokens and in words; no samples.

    Args:
        size (int): samples.
        mean (int): wanted mean of tokens, image tokens included.
        image (int): tokens of an image.
        cap (int): most tokens of a sample.
        seed (int): of the draw.
    """

    def __init__(
        self, size: int, mean: int, *, image: int, cap: int, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.with_image = rng.random(size) < 16 / 17
        noise = rng.standard_normal(size)
        text = np.where(self.with_image, np.exp(0.8 * noise), 6 * np.exp(0.6 * noise))
        # The scale that gives the wanted mean behind the cap, by bisection.
        low, high = 1.0, 4.0 * cap
        for _ in range(40):
            scale = (low + high) / 2
            self.tokens = self._capped(20 + scale * text, image, cap)
            low, high = (scale, high) if self.tokens.mean() < mean else (low, scale)
        # Words are what LLaVA's sampler groups by; tokens per word vary.
        words = np.maximum(1, (scale * text / rng.uniform(1.1, 1.8, size)).astype(int))
        self.words = np.where(self.with_image, words, -words)

    def _capped(self, text: np.ndarray, image: int, cap: int) -> np.ndarray:
        merged = text.astype(np.int64) + image * self.with_image
        return np.minimum(merged, cap)

    def __len__(self) -> int:
        return len(self.tokens)

    def token_lengths_at(self, epoch: int) -> np.ndarray:
        """Return the exact token lengths."""
        return self.tokens

    def lengths_at(self, epoch: int) -> np.ndarray:
        """Return LLaVA's signed word counts."""
        return self.words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark.py batching``."""
    parser.add_argument("--records", type=int, default=40_960)
    parser.add_argument("--means", type=int, nargs="+", default=[714, 944])
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--batch", type=int, default=16, help="samples per rank")
    parser.add_argument("--cap", type=int, default=2048, help="tokens of a sample")
    parser.add_argument("--image", type=int, default=576, help="tokens of an image")
    parser.add_argument("--buffer", type=int, default=512, help="samples, packing")
    parser.add_argument(
        "--plan-records", type=int, default=665_000, help="timed; 0 leaves it out"
    )


def make_sampler(
    scheme: str, data: SyntheticMixture, args: argparse.Namespace, rank: int, ranks: int
) -> Any:
    """Build the sampler of one rank; packs come one per micro-batch."""
    from mmvlm.registry import DATA_SAMPLERS

    name, options, _ = SCHEMES[scheme]
    packed = name == "PackedBatchSampler"
    if packed:
        options = dict(options, buffer_size=args.buffer)
    config = dict(type=name, batch_size=1 if packed else args.batch, **options)
    return DATA_SAMPLERS.build(
        dict(config, dataset=data, seed=0, rank=rank, world_size=ranks)
    )


def measure(
    scheme: str, data: SyntheticMixture, args: argparse.Namespace, ranks: int
) -> dict[str, Any]:
    """Return cost per real token and the fullest micro-batch of one epoch."""
    padded, tokens = SCHEMES[scheme][2], data.tokens
    costs = []
    for rank in range(ranks):
        plan = make_sampler(scheme, data, args, rank, ranks).plan(0)
        if padded:
            costs.append([int(tokens[b].max()) * len(b) for b in plan])
        else:
            costs.append([int(tokens[b].sum()) for b in plan])
    steps = np.array(costs)
    real = int(tokens.sum())
    row = dict(
        cost=float(round(ranks * steps.max(0).sum() / real, 4)),
        peak=int(steps.max()),
        steps=steps.shape[1],
        samples_per_step=round(len(data) / steps.shape[1], 1),
    )
    length = SCHEMES[scheme][1].get("pack_length")
    if length:
        row["waste"] = float(round(1 - real / (steps.size * length), 4))
    return row


def plan_seconds(
    scheme: str, data: SyntheticMixture, args: argparse.Namespace, ranks: int
) -> float:
    """Return the CPU seconds of one rank's plan of one epoch, best of two."""
    times = []
    for _ in range(2):
        start = time.process_time()
        make_sampler(scheme, data, args, 0, ranks).plan(0)
        times.append(time.process_time() - start)
    return round(min(times), 2)


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure every scheme; yield one row each."""
    seconds = {}
    if args.plan_records:
        large = SyntheticMixture(
            args.plan_records, args.means[0], image=args.image, cap=args.cap
        )
        for scheme in SCHEMES:
            seconds[scheme] = plan_seconds(scheme, large, args, args.ranks[0])
        del large
    for mean in args.means:
        data = SyntheticMixture(args.records, mean, image=args.image, cap=args.cap)
        for ranks in args.ranks:
            for scheme in SCHEMES:
                yield dict(
                    benchmark="batching",
                    scheme=scheme,
                    mean=round(float(data.tokens.mean())),
                    ranks=ranks,
                    batch=args.batch,
                    **measure(scheme, data, args, ranks),
                    must=MUSTS.get(scheme),
                    plan_seconds=seconds.get(scheme),
                    plan_must=PLAN_MUSTS.get(scheme),
                )


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Format rows for reading, costs and planning times beside the musts."""
    lines = [
        "cost: slowest rank's tokens times ranks, over real tokens; peak: tokens of "
        "the fullest micro-batch",
        "mean  ranks  scheme                    cost    must     peak  waste  "
        "plan of 665K",
    ]
    for row in rows:
        must = f"<={row['must']}" if row["must"] else "-"
        waste = f"{row['waste']:.1%}" if "waste" in row else "-"
        plan = "-" if row["plan_seconds"] is None else f"{row['plan_seconds']:.2f} s"
        plan += f" (<={row['plan_must']:g})" if row["plan_must"] else ""
        lines.append(
            f"{row['mean']:4}  {row['ranks']:5}  {row['scheme']:24} "
            f"{row['cost']:6.3f}  {must:7} {row['peak']:6}  {waste:>5}  {plan}"
        )
    return lines
