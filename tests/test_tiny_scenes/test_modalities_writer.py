"""Depth maps and sounds of scenes: what is written is what is asked."""

import json

import numpy as np
import PIL.Image
import pytest

from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
from mmvlm.datasets.tiny_scenes.draw import opacity
from mmvlm.datasets.tiny_scenes.samples import training_samples
from mmvlm.datasets.tiny_scenes.writers.modalities import (
    DISTANCES,
    SAMPLE_RATE,
    TONES,
    depth_map,
    depth_questions,
    distances,
    melody,
    sound,
    sound_questions,
)
from mmvlm.datasets.transforms.media import LoadMedia
from mmvlm.registry import DATASETS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("modalities")
    formats = ("llava", "modalities")
    make_tiny_scenes(path, num_train=20, num_test=9, seed=3, formats=formats)
    return path


@pytest.fixture(scope="module")
def samples():
    return list(training_samples(60, 3))


def _loudest(part):
    power = np.abs(np.fft.rfft(part))
    return np.fft.rfftfreq(len(part), 1 / SAMPLE_RATE)[power.argmax()]


def test_tones_say_which_colours_sound_in_which_order(samples):
    for sample in samples:
        heard, colours = sound(sample), melody(sample)
        parts = np.split(heard, len(colours))

        nearest = [min(TONES, key=lambda c: abs(TONES[c] - _loudest(p))) for p in parts]

        assert nearest == colours
        asked = {q.text: q.answer for q in sound_questions(sample)}
        assert asked["How many tones sound?"] == str(len(nearest))
        assert asked["Which colour sounds first?"] == nearest[0]
        assert asked["Which colour sounds last?"] == nearest[-1]


def test_grey_levels_say_how_far_objects_are(samples):
    for sample in samples:
        levels = depth_map(sample).astype(float)
        for item, asked in zip(
            sample.scene.objects, depth_questions(sample), strict=True
        ):
            x1, y1, x2, y2 = item.box
            solid = opacity(item) > 0.9
            if not solid.any():
                continue
            seen = levels[y1:y2, x1:x2][solid].mean()
            nearest = min(DISTANCES, key=lambda name: abs(DISTANCES[name] - seen))
            assert nearest == asked.answer


def test_the_image_says_nothing_of_the_distance(samples):
    """Distances are drawn apart from the scene, all equally often."""
    drawn = [distance for sample in samples for distance in distances(sample)]
    counts = [drawn.count(name) / len(drawn) for name in DISTANCES]

    assert min(counts) > 0.2


@pytest.mark.parametrize("split, scenes", [("train", 20), ("test", 9)])
def test_files_are_read_back_by_the_normal_reader(folder, split, scenes):
    data = DATASETS.build(
        dict(
            type="LLaVADataset",
            data_root=str(folder),
            ann_file=f"{split}_modalities.json",
            pipeline=[dict(type="LoadImages"), dict(type="LoadMedia")],
        )
    )

    kinds = data.modalities.tolist()
    items = [data[number] for number in range(len(data))]

    assert kinds == ["image", "rgbd", "audio"] * scenes
    for kind, item in zip(kinds, items, strict=True):
        if kind == "rgbd":
            ((image, depth),) = item["media"]["rgbd"]
            assert image.shape == depth.shape == (48, 48, 3)
        if kind == "audio":
            (waveform,) = item["media"]["audio"]
            assert waveform.sample_rate == SAMPLE_RATE
        if split == "test":
            assert {"task", "form", "size"} <= set(item["conversation"].meta)


def test_files_hold_the_drawn_depth(folder, samples):
    records = json.loads((folder / "train_modalities.json").read_text())
    depths = [record["rgbd"][0][1] for record in records if "rgbd" in record]

    for sample, path in zip(samples, depths, strict=False):
        assert np.array_equal(PIL.Image.open(folder / path), depth_map(sample))
    assert LoadMedia()  # the reader needs no options
