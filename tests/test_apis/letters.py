"""Benchmarks for tests: 23 questions about seven images and about none; 512 more."""

import json
import random

import numpy as np
from PIL import Image

from mmvlm.evaluation.scorers.base import MeanScorer
from mmvlm.registry import SCORERS

BENCHMARK = """
custom_imports = dict(imports=["letters"])
benchmark = dict(
    name="letters",
    title="Letters",
    split="test",
    source="made here",
    dataset=dict(
        type="LLaVADataset",
        data_root="data/letters",
        ann_file="test.json",
        image_prefix="images",
    ),
    generation=dict(max_new_tokens=6),
    scorer=dict(type="LettersScorer"),
    headline="acc",
    num_items=23,
)
"""
NUM_ITEMS = 23


@SCORERS.register_module(force=True)
class LettersScorer(MeanScorer):
    """How many letters of an answer are those of the reference."""

    def judge(self, record):
        text, reference = record["text"], record["reference"]
        return dict(
            score=sum(letter in reference for letter in text) / max(1, len(text)),
            strict=float(text == reference),
            parsed=bool(text),
            prediction=text,
        )


def write_letters(root):
    """Write the questions, their images and the config; returns the folder."""
    images = root / "letters" / "images"
    images.mkdir(parents=True)
    draw, rows = random.Random(0), []
    for number in range(7):
        noise = np.random.default_rng(number).integers(0, 256, (20, 9 + 5 * number, 3))
        Image.fromarray(noise.astype(np.uint8)).save(images / f"{number}.png")
    for number in range(NUM_ITEMS):
        words = " ".join(draw.choices(["what", "is", "there", "red"], k=1 + number % 9))
        image = draw.randrange(8)
        row = dict(id=f"q{number // 2}", image=f"{image}.png")
        mark = "<image>\n" if image < 7 else ""
        if image == 7:
            del row["image"]
        asked = {"from": "human", "value": f"{mark}{words}?"}
        answer = {"from": "gpt", "value": draw.choice(["abc", "xyz", "e", "rst"])}
        rows.append({**row, "conversations": [asked, answer]})
    (root / "letters" / "test.json").write_text(json.dumps(rows))
    (root / "letters.py").write_text(BENCHMARK)
    return root


def write_mixed(root, num):
    """Write questions of one to three turns about none to two images, and a config.

    Returns the config's path.
    """
    images = root / "mixed" / "images"
    images.mkdir(parents=True)
    draw, rows = random.Random(num), []
    for number in range(60):
        noise = np.random.default_rng(number).integers(0, 256, (20, 9 + number, 3))
        Image.fromarray(noise.astype(np.uint8)).save(images / f"{number}.png")

    def words():
        return " ".join(
            draw.choices(["what", "is", "there", "red"], k=draw.randint(1, 9))
        )

    for number in range(num):
        shown = draw.sample(range(60), draw.choice((0, 1, 1, 1, 1, 2)))
        talk = [{"from": "human", "value": "<image>\n" * len(shown) + words()}]
        for _ in range(draw.choice((0, 0, 1, 2))):
            talk.append(
                {"from": "gpt", "value": draw.choice(["abc", "e", "yes it is"])}
            )
            talk.append({"from": "human", "value": words()})
        talk.append({"from": "gpt", "value": "abc"})
        row = dict(id=f"m{number}", conversations=talk)
        if shown:
            row["image"] = [f"{one}.png" for one in shown]
        rows.append(row)
    (root / "mixed" / "test.json").write_text(json.dumps(rows))
    ends = "max_new_tokens=8, stop_strings=list('aeiouAEIOUxyz')"
    text = BENCHMARK.replace("data/letters", "data/mixed").replace("=23", f"={num}")
    text = text.replace("max_new_tokens=6", ends)
    (root / "mixed.py").write_text(text.replace('name="letters"', 'name="mixed"'))
    return root / "mixed.py"


def read_lines(path):
    return [json.loads(line) for line in path.read_text().split("\n") if line]
