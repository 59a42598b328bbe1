"""Documents of texts and images: MMC4 and OBELICS."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qa_helpers import (
    SKIP,
    make_images,
    own_cache,  # noqa: F401
    reasons,
    talks,
    written,
)

from mmvlm.datasets.tiny_scenes.writers.mmc4 import documents, sentences
from mmvlm.registry import CHAT_TEMPLATES


def parts(talk):
    """Texts and numbers of images, without the line breaks between them."""
    (turn,) = talk.turns
    found = [getattr(p, "text", None) or p.index for p in turn.parts]
    return [x for x in found if x != "\n"]


def lines(root, rows, kind="MMC4Dataset", name="d.jsonl"):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (root / name).write_text(text)
    return dict(type=kind, data_root=str(root), ann_file=name)


def info(place, score=0.3, name="a.png"):
    return dict(image_name=name, matched_text_index=place, matched_sim=score)


def mmc4(*images, texts=("one", "two"), **change):
    return dict(text_list=list(texts), image_info=list(images), url="u", **change)


def obelics(images, texts, **change):
    return dict(images=images, texts=texts, general_metadata='{"url": "u"}', **change)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["mmc4", "obelics"])
def test_scenes_come_back(tmp_path, name, split):
    samples, configs = written(name, tmp_path, split, num=8)

    for config in configs:
        found = talks(config)
        for talk, scenes in zip(found, documents(samples), strict=True):
            opening, *rest = sentences(scenes)
            wanted = [opening]
            for number, text in enumerate(rest):
                wanted += [number, text]
            assert parts(talk) == wanted and talk.turns[0].role == "assistant"
            assert len(talk.images) == len(scenes) and "left_out" not in talk.meta
            assert talk.id.endswith(scenes[0].id)
        shown = make_images(config)
        assert [len(x) for x in shown] == [len(s) for s in documents(samples)]


def test_the_plain_template_trains_the_texts_only(tmp_path):
    template = CHAT_TEMPLATES.build(dict(type="plain", require_image=False))
    (talk,) = talks(lines(tmp_path, [mmc4(info(1))]))

    pieces = template.render(talk)

    texts = [(p.text, p.supervised) for p in pieces if p.image is None]
    assert "".join(text for text, _ in texts) == "one\n\ntwo\n"
    assert all(supervised for _, supervised in texts)
    assert sum(p.image is not None for p in pieces) == 1


def test_images_stand_before_or_behind_their_text(tmp_path):
    rows = [mmc4(info(1, name="b.png"), info(0, name="a.png"), info(1, name="c.png"))]
    config = lines(tmp_path, rows)

    before, after = talks(config)[0], talks(config, image_place="after")[0]

    assert parts(before) == [0, "one", 1, 2, "two"]
    assert parts(after) == ["one", 0, "two", 1, 2]
    assert before.images == after.images == ["a.png", "b.png", "c.png"]
    glued = talks(config, separator="")[0].turns[0]
    assert [type(p).__name__ for p in glued.parts] == [
        "Image",
        "Text",
        *["Image"] * 2,
        "Text",
    ]


def test_images_that_are_left_out_are_counted(tmp_path):
    images = [info(0, 0.9), info(0, 0.2, "b"), info(1, 0.5, "c"), info(1, 0.8, "d")]
    config = lines(tmp_path, [mmc4(*images), mmc4()])

    first, second = talks(config, min_similarity=0.3, max_images=2)

    assert first.images == ["a.png", "d"] and parts(first) == [0, "one", 1, "two"]
    assert first.meta["left_out"] == dict(similarity=1, max_images=1)
    assert parts(second) == ["one", "two"] and "left_out" not in second.meta
    alone = talks(config, min_images=1, **SKIP)[1]
    assert alone.kind == "too few images" and "0 images, min_images=1" in alone.reason


def test_missing_files_are_damage_or_left_out(tmp_path):
    (tmp_path / "here.png").write_bytes(b"x")
    config = lines(tmp_path, [mmc4(info(0, name="gone.png"), info(1, name="here.png"))])

    (talk,) = talks(config, missing_images="drop")

    assert talk.images == ["here.png"] and talk.meta["left_out"] == {"no file": 1}
    assert talks(config)[0].images == ["gone.png", "here.png"]
    with pytest.raises(ValueError, match=r"gone\.png' does not exist"):
        make_images(config)
    outside = lines(tmp_path, [mmc4(info(0, name="../../x.png"))])
    with pytest.raises(ValueError, match="leaves the folder"):
        talks(outside, missing_images="drop")


def test_urls_are_looked_up_and_never_fetched(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "map.json").write_text('{"http://x/a": "a.png"}')
    row = obelics([None, "http://x/a", "http://x/b"], ["words", None, None])
    config = lines(tmp_path, [row], "OBELICSDataset")

    (talk,) = talks(config, image_map="map.json", missing_images="drop")

    assert parts(talk) == ["words", 0] and talk.images == ["a.png"]
    assert talk.meta == dict(url="u", left_out={"no file": 1})
    with pytest.raises(ValueError, match="image_map has no path of 'http://x/b'"):
        talks(config, image_map="map.json")
    with pytest.raises(FileNotFoundError, match=r"gone\.json' does not exist"):
        talks(config, image_map="gone.json")


@pytest.mark.parametrize(
    ("kind", "row", "reason"),
    [
        ("MMC4Dataset", mmc4(info(2)), "'matched_text_index' must lie in 0..1"),
        ("MMC4Dataset", mmc4(info(0, "x")), "'matched_sim' must be"),
        ("MMC4Dataset", mmc4(info(0, float("nan"))), "no finite number"),
        ("MMC4Dataset", mmc4(info(0, name=None)), "'image_name' must be a str"),
        ("MMC4Dataset", mmc4(texts=(1,)), "'text_list' must be a list of texts"),
        ("MMC4Dataset", mmc4(texts=()), "the document is empty"),
        ("MMC4Dataset", [1], "line 2 of .* expected a record"),
        ("OBELICSDataset", obelics([None], ["a", "b"]), "1 images beside 2 texts"),
        ("OBELICSDataset", obelics(["x"], ["a"]), "place 0 must hold either"),
        ("OBELICSDataset", obelics([None], [None]), "place 0 must hold either"),
        ("OBELICSDataset", obelics([3], [None]), "place 0 must hold either"),
        ("OBELICSDataset", dict(texts=[]), "no field 'images'"),
    ],
)
def test_a_damaged_document_is_counted(tmp_path, kind, row, reason):
    good = mmc4(info(0)) if kind == "MMC4Dataset" else obelics(["a.png"], [None])
    config = lines(tmp_path, [good, row, good], kind)

    found = talks(config, **SKIP)

    assert len(found) == 3 and len(reasons(found)) == 1
    assert re.search(reason, found[1].reason), found[1].reason


def test_files_that_cannot_be_read_are_named(tmp_path):
    config = lines(tmp_path, [mmc4()])
    (tmp_path / "d.jsonl").write_text('{"text_list": ["a"')
    with pytest.raises(ValueError, match=r"dataset 'd': .*d\.jsonl"):
        talks(config, **SKIP)
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    bad = {**config, "type": "OBELICSDataset", "ann_file": "d.parquet"}
    with pytest.raises(ValueError, match=r"dataset 'd': .*d\.parquet' cannot be read"):
        talks(bad)
    pq.write_table(pa.Table.from_pylist([dict(images=[])]), tmp_path / "d.parquet")
    with pytest.raises(
        ValueError, match=r"no columns \['texts'\] in .* has \['images'\]"
    ):
        talks(bad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(image_place="left"), "image_place='left': expected one of"),
        (dict(missing_images="skip"), "missing_images='skip': expected one of"),
        (dict(min_images=3, max_images=2), "expected 0 <= min_images <= max_images"),
    ],
)
def test_wrong_options_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        talks(lines(tmp_path, [mmc4()]), **options)
