"""Kosmos-2's GRIT: spans and boxes of both files, filters counted, damage."""

import json

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest
from grounding_helpers import annotations, build, make_image, scenes, write_scenes

from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.tiny_scenes.ground_truth import grounded_caption, image_number

CAPTION = "a wire hanger with a paper cover"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


def row(**changes):
    fields = dict(
        key="000373938",
        clip_similarity_vitb32=0.353271484375,
        clip_similarity_vitl14=0.2958984375,
        id=1795296605919,
        url="https://www.thestrapsaver.invalid/hanger.jpg",
        caption=CAPTION,
        width=1000,
        height=500,
        noun_chunks=[
            [19, 32, 0.02, 0.3, 0.97, 0.6, 0.79],
            [0, 13, 0.02, 0.2, 0.97, 0.8, 0.6],
            [0, 13, 0.5, 0.5, 0.51, 0.52, 0.9],
        ],
        ref_exps=[
            [19, 32, 0.02, 0.3, 0.97, 0.6, 0.79],
            [0, 32, 0.02, 0.2, 0.97, 0.8, 0.6],
        ],
    )
    return {**fields, **changes}


@pytest.fixture
def files(tmp_path):
    def write(rows, kind="jsonl"):
        path = tmp_path / f"coyo_0.{kind}"
        if kind == "parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        else:
            texts = [r if isinstance(r, str) else json.dumps(r) for r in rows]
            path.write_text("\n".join(texts) + "\n")
        return dict(
            type="Kosmos2GRITDataset", data_root=str(tmp_path), ann_file=path.name
        )

    return write


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_expressions_have_spans_and_boxes_in_pixels(files, kind):
    (found,) = annotations(build(files([row()], kind)))

    assert (found.id, found.image) == ("000373938", "00037/000373938.jpg")
    assert found.size == (500, 1000)
    (caption,) = found.captions
    cover, hanger = caption.spans
    assert caption.text[cover.start : cover.end] == "a paper cover"
    assert caption.text[hanger.start : hanger.end] == CAPTION
    assert (cover.instances, hanger.instances) == ((0,), (1,))
    assert found.instances[0].box == pytest.approx((20, 150, 970, 300))
    assert found.instances[0].phrases == ("a paper cover",)
    assert found.instances[1].meta == {"score": 0.6}
    assert found.meta["url"].endswith("hanger.jpg")
    assert found.meta["clip_similarity_vitb32"] == 0.353271484375
    assert "left_out" not in found.meta


def test_noun_chunks_may_have_several_boxes(files):
    (found,) = annotations(build(files([row()]), phrases="noun_chunks"))

    cover, hangers = found.captions[0].spans
    assert (cover.instances, hangers.instances) == ((0,), (1, 2))
    assert [i.phrases for i in found.instances] == [("a paper cover",), (), ()]


def test_filters_and_phrases_that_fit_nothing_are_counted(files):
    odd = row()
    odd["noun_chunks"] += [
        [0, 99, 0.1, 0.1, 0.2, 0.2, 0.9],
        [5, 5, 0.1, 0.1, 0.2, 0.2, 0.9],
        [0.5, 5, 0.1, 0.1, 0.2, 0.2, 0.9],
        [0, 5, 0.1, 0.1, 0.1, 0.2, 0.9],
        [0, 5, 1.1, 0.1, 1.2, 0.2, 0.9],
        [0, 5, float("nan"), 0.1, 0.2, 0.2, 0.9],
        "chunk",
    ]
    config = files([odd])

    (found,) = annotations(
        build(config, phrases="noun_chunks", min_score=0.7, min_side=20)
    )

    assert [i.phrases for i in found.instances] == [("a paper cover",)]
    assert found.meta["left_out"] == {
        "no phrase": 5,
        "low score": 1,
        "too small": 1,
        "no extent": 1,
        "outside": 1,
    }


def test_options_name_images_and_take_their_size(files, tmp_path):
    config = files([row()])
    make_image(tmp_path / "1795296605919.png", (200, 100))

    (found,) = annotations(build(config, image_pattern="{id}.png", size_from="image"))

    assert (found.image, found.size) == ("1795296605919.png", (100, 200))
    assert found.instances[0].box == pytest.approx((4, 30, 194, 60))
    for pattern in ("{name}.jpg", "image.jpg", "{0}.jpg"):
        with pytest.raises(ValueError, match="expected a path with some of"):
            build(config, image_pattern=pattern)
    with pytest.raises(ValueError, match="phrases='words', size_from='record': expec"):
        build(config, phrases="words")


@pytest.mark.parametrize(
    "bad, message",
    [
        ('{"key": ', r"line 2 of '.*' is not valid JSON"),
        ("[1]", "expected a record"),
        (row(caption=" "), "'caption' is an empty text"),
        (row(caption=None), "'caption' must be a str, got None"),
        (row(ref_exps=None), "'ref_exps' must be a list"),
        ({"caption": "a"}, "no field 'key'"),
    ],
)
def test_a_damaged_line_follows_the_policy(files, bad, message):
    config = files([row(), bad, row(key="5")])

    with pytest.raises(DataError, match=message):
        build(config)[1]
    lenient = build(config, bad_samples=dict(policy="skip"))
    assert [isinstance(lenient[i], BadRecord) for i in range(3)] == [False, True, False]


def test_a_damaged_row_of_a_parquet_file_follows_the_policy(files):
    config = files([row(), row(caption=None)], "parquet")

    with pytest.raises(DataError, match="'caption' must be a str, got None"):
        build(config)[1]
    assert build(config)[0]["conversation"].id == "000373938"


def test_files_that_cannot_be_read_fail_at_once(files, tmp_path):
    config = files([row()] * 50, "parquet")
    path = tmp_path / "coyo_0.parquet"
    whole = path.read_bytes()

    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"parquet file '.*' cannot be read: .*again"):
        build(config)
    pyarrow.parquet.write_table(pyarrow.table({"key": ["a"]}), path)
    with pytest.raises(ValueError, match=r"no columns \['caption', 'noun_chunks'"):
        build(config)
    path.write_bytes(b"PAR")
    with pytest.raises(ValueError, match="expected one JSON object per line"):
        build(config)
    files([row()])
    (tmp_path / "coyo_0.jsonl").write_text(json.dumps(row())[:-9])
    with pytest.raises(ValueError, match="it was cut"):
        build({**config, "ann_file": "coyo_0.jsonl"})


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back_from_the_files(tmp_path, split):
    writer = write_scenes("kosmos2_grit", tmp_path / "scenes")
    samples = {f"{image_number(s):09d}": s for s in scenes(split)}

    for config in writer.readers(split):
        for choice, tail in (("noun_chunks", False), ("ref_exps", True)):
            found = annotations(build(config, phrases=choice))
            assert {a.id for a in found} == set(samples)
            for annotation in found:
                check_scene(annotation, samples[annotation.id], tail)
    root = tmp_path / "scenes/kosmos2_grit/images"
    pixels = np.asarray(PIL.Image.open(root / found[0].image))
    assert np.array_equal(pixels, samples[found[0].id].image())


def check_scene(annotation, sample, tail):
    objects = sample.scene.objects
    boxes = np.array([i.box for i in annotation.instances])
    assert np.abs(boxes - [item.box for item in objects]).max() < 1e-6
    (caption,) = annotation.captions
    assert caption.text == grounded_caption(sample.scene)[0]
    for item, span in zip(objects, caption.spans, strict=True):
        ending = f" at the {item.position}" if tail else ""
        words = caption.text[span.start : span.end]
        assert words == f"a {item.phrase}{ending}"
        assert [annotation.instances[i].phrases for i in span.instances] == [(words,)]
