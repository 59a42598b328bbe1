"""TextCaps: a row per caption."""

import pytest
from qa_helpers import (
    SKIP,
    dump,
    make_images,
    own_cache,  # noqa: F401
    reasons,
    said,
    talks,
    written,
)

from mmvlm.datasets.readers.captions import ONE_SENTENCE
from mmvlm.datasets.tiny_scenes.writers.coco_captions import captions_of


def row(image="0054c91397f2fe05", text="A sign.", **change):
    facts = dict(image_width=1024, image_height=683, image_name=image)
    return {**facts, "image_id": image, "caption_str": text, "caption_id": 1, **change}


@pytest.fixture
def config(tmp_path):
    def write(*rows):
        dump(tmp_path / "caps.json", dict(dataset_name="textcaps", data=rows))
        file = dict(data_root=str(tmp_path), ann_file="caps.json")
        return dict(type="TextCapsDataset", **file)

    return write


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back(tmp_path, split):
    samples, (config,) = written("textcaps", tmp_path, split)

    found = talks(config, group="caption")

    wanted = [[ONE_SENTENCE, text] for s in samples for text in captions_of(s)]
    assert [said(talk) for talk in found] == wanted
    assert len(make_images(config)) == len(samples)


def test_rows_of_an_image_are_one_sample(config):
    cfg = config(row("a", "one"), row("b", "two"), row("a", "three"))

    first, second = talks(cfg)

    assert first.meta["captions"] == ["one", "three"] and first.images == ["a.jpg"]
    assert said(second)[1] == "two"


def test_references_take_the_place_of_captions_and_may_be_hidden(config):
    references = row("a", None, reference_strs=["x", "y"])
    cfg = config(references, row("b", None))

    first, second = talks(cfg, **SKIP)

    assert first.meta["captions"] == ["x", "y"] and second.kind == "nothing to ask"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row("b", ""), "'caption_str' is an empty text"),
        (row("b", 3), "'caption_str' must be a str"),
        (dict(caption_str="x"), "no field 'image_id'"),
        ("x", "expected a record"),
    ],
)
def test_a_damaged_row_is_counted(config, bad, reason):
    found = talks(config(row("a"), bad), **SKIP)

    assert len(found) == 2 and reason in reasons(found)[0]


def test_wrong_files_and_options_are_named(config, tmp_path):
    cfg = config(row())

    with pytest.raises(ValueError, match="group='row': expected one of"):
        talks(cfg, group="row")
    with pytest.raises(ValueError, match="image_name='a': expected"):
        talks(cfg, image_name="a")
    (tmp_path / "caps.json").write_text('{"data": {}}')
    with pytest.raises(ValueError, match=r"caps\.json': expected a list 'data'"):
        talks(cfg)
