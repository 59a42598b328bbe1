"""LLaVA's 595 thousand images of CC3M: conversations and captions."""

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

from mmvlm.datasets.tiny_scenes.writers.coco_captions import captions_of


def row(**change):
    names = dict(id="GCC_train_002582585", image="GCC_train_002582585.jpg")
    return {
        **names,
        "caption": "olive oil",
        "blip_caption": "a bottle",
        "url": "u",
        **change,
    }


@pytest.fixture
def config(tmp_path):
    def write(*rows):
        dump(tmp_path / "metadata.json", rows)
        file = dict(data_root=str(tmp_path), ann_file="metadata.json")
        return dict(type="CC3MDataset", **file)

    return write


def test_scenes_come_back(tmp_path):
    samples, (chat, metadata) = written("cc3m", tmp_path)

    wanted = [captions_of(sample) for sample in samples]

    assert [said(t)[1] for t in talks(chat)] == [short for short, _ in wanted]
    assert [said(t) for t in talks(metadata)] == [["", short] for short, _ in wanted]
    blip = talks(metadata, field="blip_caption")
    assert [said(t)[1] for t in blip] == [long for _, long in wanted]
    assert [p.images for p in talks(chat)] == [p.images for p in talks(metadata)]
    assert len(make_images(chat)) == len(make_images(metadata)) == len(samples)


def test_both_captions(config):
    (talk,) = talks(config(row()), field="both")

    captions = ["olive oil", "a bottle"]
    assert talk.meta == dict(question_id=row()["id"], captions=captions, url="u")
    assert len(talks(config(row()), field="both", group="caption")) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(caption=""), "'caption' is an empty text"),
        (dict(image=None), "'image' must be a str"),
        (dict(id=[]), "'id' must be"),
    ],
)
def test_a_damaged_row_is_counted(config, change, reason):
    found = talks(config(row(), row(**change)), **SKIP)

    assert len(found) == 2 and reason in reasons(found)[0]


def test_wrong_files_and_options_are_named(config, tmp_path):
    cfg = config(row())

    with pytest.raises(ValueError, match="field='text': expected one of"):
        talks(cfg, field="text")
    (tmp_path / "metadata.json").write_text("[")
    with pytest.raises(ValueError, match=r"metadata\.json' is not valid JSON"):
        talks(cfg)
