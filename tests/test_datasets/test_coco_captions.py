"""COCO captions: two tables, several captions per image."""

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


def coco_image(number, **change):
    row = dict(id=number, file_name=f"{number:012d}.jpg", height=480, width=640)
    return {**row, **change}


def caption(number, image, text="A cat.\n"):
    return dict(id=number, image_id=image, caption=text)


@pytest.fixture
def config(tmp_path):
    def write(images, annotations):
        table = dict(info={}, images=images)
        if annotations is not None:
            table["annotations"] = annotations
        dump(tmp_path / "captions.json", table)
        file = dict(data_root=str(tmp_path), ann_file="captions.json")
        return dict(type="COCOCaptionsDataset", **file)

    return write


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back(tmp_path, split):
    samples, (config,) = written("coco_captions", tmp_path, split)

    single = talks(config, group="caption")
    drawn = {tuple(said(t)) for seed in range(9) for t in talks(config, seed=seed)}

    wanted = [(ONE_SENTENCE, text) for s in samples for text in captions_of(s)]
    assert [tuple(said(talk)) for talk in single] == wanted
    assert drawn == set(wanted)
    first = talks(config)[0]
    assert first.meta["captions"] == captions_of(samples[0])
    assert len(make_images(config)) == len(samples)


def test_epochs_draw_other_captions(config):
    cfg = config([coco_image(1)], [caption(n, 1, f"c{n}") for n in range(6)])
    from mmvlm.registry import DATASETS

    dataset = DATASETS.build(cfg)
    seen = []
    for epoch in range(8):
        dataset.set_epoch(epoch)
        seen.append(said(dataset[0]["conversation"])[1])

    assert len(set(seen)) > 3


def test_line_breaks_are_cut_and_facts_kept(config):
    cfg = config([coco_image(1, coco_url="u")], [caption(1, 1, " A cat. \n")])

    (talk,) = talks(cfg, task=dict(type="ImageCaption"))

    assert said(talk) == ["", "A cat."]
    assert talk.meta["image_id"] == 1 and talk.meta["coco_url"] == "u"


def test_images_without_captions_can_be_asked_about(config):
    cfg = config([coco_image(1), coco_image(2)], None)
    task = dict(type="ImageCaption", prompts=["Describe."], ask_only=True)

    assert [said(talk) for talk in talks(cfg, task=task)] == [["Describe."]] * 2
    left = talks(cfg, **SKIP)
    assert [record.kind for record in left] == ["nothing to ask"] * 2


@pytest.mark.parametrize(
    ("images", "annotations", "reason"),
    [
        ([coco_image(1), coco_image(2)], [caption(1, 1)], "image 2 has no caption"),
        ([coco_image(1), coco_image(1)], [caption(1, 1)], "or is listed twice"),
        ([coco_image(1)], [caption(1, 1), caption(2, 9)], "caption of image 9, which"),
        ([coco_image(1), "x"], [caption(1, 1)], "expected a record"),
        (
            [coco_image(1), coco_image(2)],
            [caption(1, 1), caption(2, 2, "")],
            "empty text",
        ),
        (
            [coco_image(1), coco_image(2, file_name=3)],
            [caption(1, 1), caption(2, 2)],
            "must be",
        ),
        ([coco_image(1)], [caption(1, 1), "x"], "caption of image None"),
    ],
)
def test_a_damaged_record_is_counted(config, images, annotations, reason):
    found = talks(config(images, annotations), **SKIP)

    assert len(found) == 2 and said(found[0])[1] == "A cat."
    assert reason in reasons(found)[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": [', "is not valid JSON"),
        (b"[]", "holds a list"),
        (b'{"annotations": []}', "expected a list 'images', it has"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(config, tmp_path, content, message):
    cfg = config([coco_image(1)], None)
    (tmp_path / "captions.json").write_bytes(content)

    with pytest.raises(ValueError, match=rf"captions\.json'.*{message}"):
        talks(cfg)
