"""Shikra's records of Flickr30k: the same samples as the set's own files."""

import json

import pytest
from grounding_helpers import annotations, build, make_image, write_scenes

from mmvlm.datasets.bad_samples import BadRecord, DataError

RECORD = dict(
    id=3,
    image_id="7",
    boxes=[[0, 1, 10, 20], [20, 1, 30, 20], [0, 0, 40, 30]],
    sentence="<ph_st>Two men<ph_ed> meet in <ph_st>a yard<ph_ed> .",
    boxes_seq=[[0, 1], [2]],
    extra="kept",
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path):
    make_image(tmp_path / "7.jpg", (40, 30))

    def write(records):
        texts = [r if isinstance(r, str) else json.dumps(r) for r in records]
        (tmp_path / "CWB.jsonl").write_text("\n".join(texts) + "\n")
        return dict(
            type="ShikraFlickr30kDataset",
            data_root=str(tmp_path),
            ann_file="CWB.jsonl",
        )

    return write


def test_marked_phrases_have_their_boxes(files):
    (found,) = annotations(build(files([RECORD])))

    assert (found.id, found.image, found.size) == ("3", "7.jpg", (30, 40))
    (caption,) = found.captions
    assert caption.text == "Two men meet in a yard ."
    assert [(caption.text[s.start : s.end], s.instances) for s in caption.spans] == [
        ("Two men", (0, 1)),
        ("a yard", (2,)),
    ]
    assert found.instances[1].box == (20, 1, 30, 20)
    assert found.meta == {"image_id": "7", "extra": "kept"}


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(boxes_seq=[[0]]), "2 marked phrases, but 1 lists of boxes"),
        (dict(boxes_seq=[[0], [3]]), r"a phrase has the boxes \[3\], but there are 3"),
        (dict(boxes_seq=[[0], [True]]), r"a phrase has the boxes \[True\]"),
        (dict(sentence="<ph_st>Two men"), "do not come in pairs"),
        (dict(sentence=" "), "'sentence' is an empty text"),
        (dict(boxes=None), "'boxes' must be a list"),
        (dict(image_id="8"), "8.jpg' does not exist"),
    ],
)
def test_a_damaged_line_follows_the_policy(files, change, message):
    config = files([RECORD, {**RECORD, **change}, "{]", RECORD])

    with pytest.raises(DataError, match=message):
        build(config)[1]
    lenient = build(config, bad_samples=dict(policy="skip"))
    bad = [isinstance(lenient[position], BadRecord) for position in range(4)]
    assert bad == [False, True, True, False]


def test_boxes_that_cannot_be_used_are_counted(files):
    boxes = [[0, 1, 10, 20], [20, 1, 20, 20], [1, 2, 3]]

    (found,) = annotations(build(files([{**RECORD, "boxes": boxes}])))

    assert found.meta["left_out"] == {"no extent": 1, "no box": 1}
    assert [s.instances for s in found.captions[0].spans] == [(0,), ()]


def test_a_file_that_is_cut_or_something_else_fails_at_once(files, tmp_path):
    config = files([RECORD])
    path = tmp_path / "CWB.jsonl"
    for text, message in (
        (path.read_text()[:-30], "it was cut"),
        ("", "is empty"),
        ("[1]", "expected one JSON object per line"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            build(config)


@pytest.mark.golden
def test_records_give_the_samples_of_the_sets_own_files(goldens, tmp_path):
    facts = json.loads((goldens / "phrase_grounding_eval.json").read_text())
    for folder, suffix, key in (
        ("Sentences", "txt", "sentences_txt"),
        ("Annotations", "xml", "annotations_xml"),
    ):
        (tmp_path / folder).mkdir()
        for name, text in facts[key].items():
            (tmp_path / folder / f"{name}.{suffix}").write_text(text)
    (tmp_path / "val.txt").write_text("\n".join(facts["split_file"]))
    records = facts["shikra_flattened"]
    (tmp_path / "CWB.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    for name in facts["split_file"]:
        size = facts["parsed"]["annotations"][name]
        make_image(tmp_path / f"{name}.jpg", (size["width"], size["height"]))
    own = dict(
        type="Flickr30kEntitiesDataset", data_root=str(tmp_path), ann_file="val.txt"
    )
    flat = dict(
        type="ShikraFlickr30kDataset", data_root=str(tmp_path), ann_file="CWB.jsonl"
    )

    wanted = annotations(build(own, minus_one=True, grounded_only=False))
    assert list(map(grounded, annotations(build(flat)))) == list(map(grounded, wanted))


def grounded(annotation):
    (caption,) = annotation.captions
    phrases = [
        (s.start, s.end, sorted(annotation.instances[i].box for i in s.instances))
        for s in caption.spans
        if s.instances
    ]
    return annotation.image, caption.text, phrases


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back_from_the_files(tmp_path, split):
    writer = write_scenes("flickr30k_entities", tmp_path / "scenes")
    own, flat = writer.readers(split)

    found = annotations(build(flat))

    wanted = annotations(build(own, minus_one=True))[::2]
    assert len(found) == 14
    assert list(map(grounded, found)) == list(map(grounded, wanted))
