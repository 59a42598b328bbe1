"""Benchmark of the image path: a JPEG file to a padded, normalised square.

Baseline is LLaVA's way: PIL opens the file, pads it to a square of the mean colour,
and transformers' CLIPImageProcessor resizes, rescales and normalises. Ours are the
very transforms of a dataset's pipeline, and the data preprocessor's normalisation.
Time is CPU time of one thread, medians over repeats that are interleaved between the
variants, and their least, which a busy machine disturbs less; pixels are compared
first, in 1/255 levels.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from mmvlm.structures import Conversation

#: CLIP's normalisation, of RGB in 0-1.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
SIDE = 336
#: Variant -> least ratio of LLaVA's time, most error as (mean, max) in levels.
MUSTS = {
    "exact": (1.6, (0.0, 0.0)),
    "exact, uint8 to device": (1.6, (0.0, 0.0)),
    "exact, opencv decodes": (1.6, (0.0, 0.0)),
    "fast": (4.0, (0.1, None)),
    "fast, uint8 to device": (4.0, (0.1, None)),
}

Variant = Callable[[str], "torch.Tensor | np.ndarray"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark.py image``."""
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, nargs=2, default=[640, 480], metavar="PX")
    parser.add_argument("--quality", type=int, default=90, help="of the JPEG files")
    parser.add_argument("--repeats", type=int, default=7, help="timed, after warm-up")
    parser.add_argument(
        "--decoder", default="auto", help="LoadImages.decoder of the fast variants"
    )


def write_images(args: argparse.Namespace, folder: str) -> list[str]:
    """Write JPEG files of soft colours, edges, texture and noise; return names."""
    rng = np.random.default_rng(0)
    width, height = args.size
    y, x = np.mgrid[:height, :width]
    names = []
    for number in range(args.images):
        base = PIL.Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
        soft = np.asarray(base.resize((width, height), PIL.Image.BICUBIC)).astype(float)
        a, b = rng.uniform(2, 9, 2)
        soft += (25 * np.sin(x / a + y / b))[..., None]
        for _ in range(6):
            top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
            soft[top : top + height // 4, left : left + width // 5] = rng.integers(
                0, 256, 3
            )
        soft += rng.normal(0, 5, soft.shape)
        pixels = np.clip(soft, 0, 255).astype(np.uint8)
        name = f"{number:04d}.jpg"
        PIL.Image.fromarray(pixels).save(Path(folder) / name, quality=args.quality)
        names.append(name)
    return names


def llava(folder: str) -> Variant:
    """Return LLaVA's own way from a file to pixel values."""
    import transformers

    # transformers 5 keeps PIL's pixels, which are LLaVA's, under a name of their own.
    names = ("CLIPImageProcessorPil", "CLIPImageProcessor")
    kind = next(name for name in names if hasattr(transformers, name))
    processor = getattr(transformers, kind)(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    color = tuple(int(255 * channel) for channel in MEAN)

    def run(name: str) -> torch.Tensor:
        image = PIL.Image.open(Path(folder) / name).convert("RGB")
        width, height = image.size
        side = max(width, height)
        if width != height:
            square = PIL.Image.new("RGB", (side, side), color)
            square.paste(image, ((side - width) // 2, (side - height) // 2))
            image = square
        return processor.preprocess(image, return_tensors="pt")["pixel_values"]

    return run


def ours(
    folder: str,
    resize: str,
    decoder: str,
    *,
    normalise: bool = True,
    draft: int | None = None,
) -> Variant:
    """Return the pipeline's transforms, with or without the preprocessor's part."""
    from mmvlm.datasets.transforms.image import PadToSquare
    from mmvlm.datasets.transforms.loading import LoadImages
    from mmvlm.models.data_preprocessors.vlm_data_preprocessor import (
        VLMDataPreprocessor,
    )

    load = LoadImages(decoder=decoder, draft=draft)
    view = PadToSquare(SIDE, MEAN, "bicubic", resize=resize)
    preprocessor = VLMDataPreprocessor(MEAN, STD)

    def run(name: str) -> torch.Tensor:
        talk = Conversation([], images=[name])
        item = view(load(dict(conversation=talk, image_root=folder, data_root=folder)))
        views = torch.from_numpy(item["views"][0])
        return preprocessor.normalize(views) if normalise else views

    return run


def opencv(folder: str, interpolation: str) -> Variant:
    """Return what many loaders do: opencv throughout, a filter of its own."""
    import cv2

    scale = (1 / (255 * np.array(STD))).astype(np.float32)
    shift = (-np.array(MEAN) / np.array(STD)).astype(np.float32)
    color = [int(255 * channel) for channel in MEAN]

    def run(name: str) -> torch.Tensor:
        image = cv2.cvtColor(cv2.imread(str(Path(folder) / name)), cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        side = max(height, width)
        size = (round(width * SIDE / side), round(height * SIDE / side))
        small = cv2.resize(image, size, interpolation=getattr(cv2, interpolation))
        top, left = (SIDE - size[1]) // 2, (SIDE - size[0]) // 2
        square = cv2.copyMakeBorder(
            small,
            *(top, SIDE - size[1] - top, left, SIDE - size[0] - left),
            cv2.BORDER_CONSTANT,
            value=color,
        )
        values = square.astype(np.float32) * scale + shift
        return torch.from_numpy(values.transpose(2, 0, 1)[None])

    return run


def variants(args: argparse.Namespace, folder: str) -> dict[str, Variant]:
    """Return every way from a file to a square, LLaVA's first."""
    fast = dict(resize="fast", decoder=args.decoder)
    return {
        "LLaVA": llava(folder),
        "exact": ours(folder, "exact", "pil"),
        "exact, uint8 to device": ours(folder, "exact", "pil", normalise=False),
        "exact, opencv decodes": ours(folder, "exact", "opencv"),
        "fast": ours(folder, **fast),
        "fast, uint8 to device": ours(folder, **fast, normalise=False),
        "fast, draft": ours(folder, **fast, draft=SIDE),
        "opencv AREA": opencv(folder, "INTER_AREA"),
        "opencv CUBIC": opencv(folder, "INTER_CUBIC"),
    }


def levels(values: torch.Tensor) -> np.ndarray:
    """Return pixels in levels 0-255, whole numbers, of uint8 or normalised ones."""
    array = values.numpy()
    if array.dtype != np.uint8:
        mean, std = (np.array(x).reshape(1, 3, 1, 1) for x in (MEAN, STD))
        array = (array.astype(np.float64) * std + mean) * 255
    return np.rint(array).astype(np.int64)


def errors(
    made: dict[str, Variant], names: list[str]
) -> dict[str, tuple[float, float]]:
    """Return the mean and the largest difference from LLaVA's pixels, in levels.

    Raises:
        RuntimeError: when a variant is farther from them than it may be.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in made}
    for name in names:
        expected = levels(made["LLaVA"](name))
        for variant, run in made.items():
            found[variant].append(np.abs(levels(run(name)) - expected))
    result = {}
    for variant, parts in found.items():
        mean = float(np.mean([part.mean() for part in parts]))
        most = float(max(part.max() for part in parts))
        allowed = MUSTS.get(variant, (None, (None, None)))[1]
        for value, limit in zip((mean, most), allowed, strict=True):
            if limit is not None and value > limit:
                raise RuntimeError(
                    f"'{variant}' is {mean:.3f} levels (at most {most:g}) from LLaVA's "
                    f"pixels; {allowed} are allowed."
                )
        result[variant] = (mean, most)
    return result


def measure(
    made: dict[str, Variant], names: list[str], repeats: int
) -> dict[str, list[float]]:
    """Return CPU seconds per image of every repeat, by variant."""
    seconds: dict[str, list[float]] = {variant: [] for variant in made}
    for repeat in range(repeats + 1):
        for variant, run in made.items():
            start = time.process_time()
            for name in names:
                run(name)
            spent = (time.process_time() - start) / len(names)
            if repeat:  # the first is the warm-up
                seconds[variant].append(spent)
    return seconds


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Compare the pixels, then measure; yield one row per variant.

    Raises:
        RuntimeError: when pixels differ by more than they may.
    """
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        names = write_images(args, folder)
        made = variants(args, folder)
        error = errors(made, names)
        seconds = measure(made, names, args.repeats)
    base, least = statistics.median(seconds["LLaVA"]), min(seconds["LLaVA"])
    for variant in made:
        spent = statistics.median(seconds[variant])
        yield dict(
            benchmark="image",
            size=list(args.size),
            variant=variant,
            ratio=round(base / spent, 2),
            ratio_of_least=round(least / min(seconds[variant]), 2),
            must=MUSTS.get(variant, (None,))[0],
            cpu_ms=round(spent * 1e3, 2),
            per_second=round(1 / spent),
            error_mean=round(error[variant][0], 4),
            error_max=error[variant][1],
        )


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Format rows for reading, ratios beside the musts."""
    lines = [
        f"{'x'.join(map(str, rows[0]['size']))} JPEG to a padded {SIDE} square; "
        "ratios of CPU time to LLaVA's, errors in levels of 255",
        "variant                  ms  images/s  ratio  of least  must   error "
        "mean / max",
    ]
    for row in rows:
        must = f">={row['must']}" if row["must"] else "-"
        lines.append(
            f"{row['variant']:22} {row['cpu_ms']:5.2f}  {row['per_second']:10}  "
            f"{row['ratio']:5.2f}  {row['ratio_of_least']:8.2f}  {must:5}  "
            f"{row['error_mean']:.4f} / "
            f"{row['error_max']:g}"
        )
    return lines
