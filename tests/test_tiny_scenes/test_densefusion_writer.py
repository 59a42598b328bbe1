"""TinyScenes in DenseFusion's format, read back by its reader."""

import json
import re

import numpy as np
import pytest

from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
from mmvlm.datasets.tiny_scenes.samples import training_samples
from mmvlm.registry import DATASETS, SCENE_WRITERS, TOKENIZERS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("dense")
    make_tiny_scenes(
        path, num_train=30, num_test=9, seed=3, formats=("llava", "densefusion")
    )
    return path


def test_rows_have_the_official_fields_and_tell_the_scene(folder):
    lines = (folder / "densefusion.jsonl").read_text().splitlines()
    assert len(lines) == 30

    for line, sample in zip(lines, training_samples(30, 3), strict=True):
        row = json.loads(line)
        assert list(row) == ["image_id", "image_path", "caption", "url"]
        assert row["image_id"] == sample.id
        assert (folder / "images" / row["image_path"]).is_file()
        objects = sample.scene.objects
        said = row["caption"]
        assert said.startswith(f"{sample.caption}. There ")
        assert f"{len(objects)} object" in said
        boxes = re.findall(r"from (\d+) to (\d+) across, from (\d+) to (\d+)", said)
        assert len(boxes) == len(objects)
        for found, item in zip(boxes, objects, strict=True):
            left, right, top, bottom = (int(n) / 100 * sample.scene.size for n in found)
            near = np.subtract((left, top, right, bottom), item.box)
            assert np.abs(near).max() <= 1


def test_neighbours_lie_as_told(folder):
    places = 0
    for line, sample in zip(
        (folder / "densefusion.jsonl").read_text().splitlines(),
        training_samples(30, 3),
        strict=True,
    ):
        by_name = {o.reference: o for o in sample.scene.objects}
        pattern = r"The ([^.]*?) is (left of|right of|above|below) the ([^.]*)\."
        for one, where, other in re.findall(pattern, json.loads(line)["caption"]):
            a, b = by_name[one].box, by_name[other].box
            axis = 0 if where.endswith("of") else 1
            before = a[axis] < b[axis]
            assert before == (where in ("left of", "above"))
            places += 1
    assert places > 20


def test_there_is_no_test_set(tmp_path):
    writer = SCENE_WRITERS.build(dict(type="densefusion", folder=str(tmp_path)))

    assert writer.write("test", list(training_samples(2, 3))) == []
    assert list(tmp_path.iterdir()) == []


def test_the_reader_takes_the_rows_and_the_tokenizer_the_words(folder):
    data = DATASETS.build(
        dict(
            type="DenseFusionDataset",
            data_root=str(folder),
            ann_file="densefusion.jsonl",
            image_prefix="images",
            pipeline=[dict(type="LoadImages")],
        )
    )
    tokenizer = TOKENIZERS.build(
        dict(type="HFTokenizer", name_or_path=str(folder / "tokenizer"))
    )

    for number, sample in enumerate(training_samples(30, 3)):
        item = data[number]
        assert np.array_equal(item["images"][0], sample.image())
        text = item["conversation"].turns[1].text
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) < 300
        assert tokenizer.decode(ids).strip() == text
