"""What the tests of data sets share; spawned workers import it by its own name.

A conftest cannot hold classes that are pickled: every test folder has a module
named ``conftest``, and a worker process would import another folder's.
"""

import json

import numpy as np
import PIL.Image
import torch

from mmvlm.structures import (
    IGNORE_INDEX,
    SLOT_TOKEN_ID,
    EncodedSample,
    SampleInputs,
    Slot,
    ViewLayout,
    VLMDataSample,
)


def identity(batch):
    return batch


def turn(speaker, value):
    return {"from": speaker, "value": value}


def record(number, images=1, words=3):
    answer = " ".join(["word"] * words)
    row = dict(
        id=f"id{number}",
        conversations=[
            turn("human", "<image>\n" * images + "what"),
            turn("gpt", answer),
        ],
    )
    if images == 1:
        row["image"] = f"nested/{number}.png"
    elif images:
        row["image"] = [f"nested/{number}_{k}.png" for k in range(images)]
    return row


class Llava:
    """A folder in LLaVA's format."""

    def __init__(self, root):
        self.root = root
        (root / "pics" / "nested").mkdir(parents=True)

    def image(self, path, size=(9, 7), color=None):
        rng = np.random.default_rng(abs(hash(path)) % 2**32)
        color = tuple(rng.integers(0, 255, 3).tolist()) if color is None else color
        PIL.Image.new("RGB", size, color).save(self.root / "pics" / path)

    def write(self, rows, name="ann.json", images=True):
        text = json.dumps(rows)
        if name.endswith("l"):
            text = "\n".join(json.dumps(row) for row in rows) + "\n"
        (self.root / name).write_text(text)
        for row in rows if images else []:
            paths = row.get("image", []) if isinstance(row, dict) else []
            for path in [paths] if isinstance(paths, str) else paths:
                self.image(path)
        return dict(data_root=str(self.root), ann_file=name, image_prefix="pics")


class EncodeStub:
    """Two tokens per image, then one per answer word; stands for the encoder."""

    def __init__(self, tokens=2):
        self.tokens, self.context = tokens, None

    def bind(self, context):
        self.context = context

    def __call__(self, item):
        ids, labels, slots = [1], [IGNORE_INDEX], []
        for index, _ in enumerate(item.get("layouts", ())):
            slots.append(Slot(index, len(ids), self.tokens))
            ids += [SLOT_TOKEN_ID] * self.tokens
            labels += [IGNORE_INDEX] * self.tokens
        for word in item["conversation"].turns[-1].text.split():
            ids.append(2 + len(word))
            labels.append(ids[-1])
        noise = int(item["rng"].integers(10**6))
        encoded = EncodedSample(np.array(ids), np.array(labels), slots)
        return {**item, "encoded": encoded, "noise": noise}


def packed(name, ids, labels, slots=(), views=None, layouts=None, **fields):
    """An item as PackVLMInputs makes it, by hand."""
    if layouts is None:
        layouts = [ViewLayout((4, 4), (4, 4)) for _ in slots]
    encoded = EncodedSample(np.array(ids), np.array(labels), list(slots))
    inputs = {}
    if layouts:
        views = torch.zeros(0, 3, 4, 4) if views is None else views
        inputs["image"] = SampleInputs(views, tuple(layouts))
    given = dict(streams=dict(text=encoded), inputs=inputs, targets={})
    return dict(
        inputs={**given, **fields},
        data_samples=VLMDataSample(metainfo=dict(sample_id=name)),
    )
