"""A handful of images with captions in LLaVA's format, written in a moment."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from mmvlm.utils.files import write_atomic

_COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 220)}
_SIZES = ((48, 64), (64, 48), (56, 56))
_ANNOTATION = "toy.json"


def make_toy_llava(folder: str | os.PathLike, num_samples: int = 12) -> str:
    """Write a toy dataset and return its annotation file.

    Every sixth sample is text only, so that samplers see both modalities. A
    folder that already holds the set is left alone; several processes may call
    this at once.

    Args:
        folder (str | os.PathLike): is made if it is not there.
        num_samples (int): number of records.

    Returns:
        str: path of the annotation file; images lie below ``images`` beside it.
    """
    folder = Path(folder)
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    names = list(_COLOURS)
    records = []
    for number in range(num_samples):
        colour = names[number % len(names)]
        record = {"id": f"toy-{number}"}
        question, answer = "What colour is it?", f"It is {colour}."
        if number % 6 == 5:
            question = f"Say the word {colour} {number} times."
            answer = " ".join([colour] * number)
        else:
            record["image"] = f"{number:02d}.png"
            question = f"<image>\n{question}"
            _write_image(images / record["image"], number, _COLOURS[colour])
        record["conversations"] = [
            {"from": "human", "value": question},
            {"from": "gpt", "value": answer},
        ]
        records.append(record)
    path = folder / _ANNOTATION
    _write(path, json.dumps(records, indent=1).encode())
    return str(path)


def _write_image(path: Path, number: int, colour: tuple[int, int, int]) -> None:
    import io

    from PIL import Image

    height, width = _SIZES[number % len(_SIZES)]
    pixels = np.full((height, width, 3), 235, dtype=np.uint8)
    top, left = 8 + number, 6 + number
    pixels[top : top + 24, left : left + 24] = colour
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    _write(path, buffer.getvalue())


def _write(path: Path, data: bytes) -> None:
    """Write at once, so that another process never sees half a file."""
    if path.exists() and path.read_bytes() == data:
        return
    write_atomic(path, data)
