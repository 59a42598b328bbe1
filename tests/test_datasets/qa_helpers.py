"""What the tests of question and caption readers share."""

import json

import pytest

from mmvlm.datasets.bad_samples import BadRecord
from mmvlm.datasets.tiny_scenes.samples import test_samples as held_out
from mmvlm.datasets.tiny_scenes.samples import training_samples
from mmvlm.registry import DATASETS, SCENE_WRITERS

SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


def scenes(split="train", num=5):
    if split == "train":
        return list(training_samples(num, 5))
    return list(held_out(num, 5, taken=set()))


def written(name, folder, split="train", num=5, **options):
    """Write scenes in a format; returns them and configs of their data sets."""
    samples = scenes(split, num)
    writer = SCENE_WRITERS.build(dict(type=name, folder=str(folder), **options))
    assert writer.write(split, samples)
    return samples, writer.readers(split)


def talks(config, **options):
    """All conversations of a data set, bad records as they are."""
    dataset = DATASETS.build({**config, **options})
    items = [dataset[i] for i in range(len(dataset))]
    return [x if isinstance(x, BadRecord) else x["conversation"] for x in items]


def said(talk):
    return [turn.text.strip() for turn in talk.turns]


def make_images(config):
    """All images of a data set, decoded by the pipeline."""
    dataset = DATASETS.build({**config, "pipeline": [dict(type="LoadImages")]})
    return [dataset[i]["images"] for i in range(len(dataset))]


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def reasons(items):
    return [item.reason for item in items if isinstance(item, BadRecord)]


SKIP = dict(bad_samples=dict(policy="skip", max_fraction=1))
