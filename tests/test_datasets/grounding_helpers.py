"""Scenes in a grounding format on disk, and what the tests of readers share."""

from pathlib import Path

import numpy as np

from mmvlm.datasets.tiny_scenes.samples import test_samples as held_out
from mmvlm.datasets.tiny_scenes.samples import training_samples
from mmvlm.registry import DATASETS, SCENE_WRITERS
from mmvlm.structures import Turn

NUM_SCENES = 14


def scenes(split="train", num=NUM_SCENES):
    train = list(training_samples(num, 5))
    if split == "train":
        return train
    return list(held_out(num, 5, taken={sample.scene.key for sample in train}))


def write_scenes(name, folder, splits=("train", "test")):
    """Write both splits; gives the writer."""
    writer = SCENE_WRITERS.build(dict(type=name, folder=str(folder)))
    for split in splits:
        samples = scenes(split)
        writer.write_images(samples)
        for path in writer.write(split, samples):
            assert (Path(folder) / path).is_file()
    return writer


def build(config, **options):
    return DATASETS.build({**config, "task": ShowAll(), **options})


class ShowAll:
    """A task that hands the annotation on instead of asking about it."""

    def __call__(self, annotation, images, rng):
        from mmvlm.structures import Conversation, Image, Text

        turns = [Turn("user", (Image(0), Text("What?")))]
        return Conversation(turns, images, annotation.id, dict(annotation=annotation))


def annotations(dataset):
    """What a data set says of each of its images."""
    return [
        dataset[position]["conversation"].meta["annotation"]
        for position in range(len(dataset))
    ]


def make_image(path, size=(40, 30)):
    """Write an image of (width, height)."""
    import PIL.Image

    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path)
