"""Flickr30k Entities: equal to the goldens, safe XML, damage per image."""

import json
import re

import numpy as np
import PIL.Image
import pytest
from grounding_helpers import annotations, build, scenes, write_scenes

from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.readers.flickr30k_entities import (
    boxes_by_entity,
    parse_sentence,
    read_annotation,
    read_sentences,
)
from mmvlm.datasets.tiny_scenes.ground_truth import grounded_caption, image_number

XML = """<annotation>
  <filename>7.jpg</filename>
  <size><width>60</width><height>40</height><depth>3</depth></size>
  <object><name>1</name>
    <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object>
  <object><name>1</name><name>2</name>
    <bndbox><xmin>30</xmin><ymin>5</ymin><xmax>50</xmax><ymax>38</ymax></bndbox></object>
  <object><name>3</name><scene>1</scene><nobndbox>0</nobndbox></object>
  <object><name>4</name><scene>0</scene><nobndbox>1</nobndbox></object>
</annotation>
"""
TEXT = """[/EN#1/people/other Two men] meet in [/EN#3/scene the yard] .
[/EN#2/people A man] has [/EN#0/notvisual nothing] but [/EN#4/other a plan] .
A [/EN#3/scene nice yard] .
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path):
    """Two images in the true layout."""

    def write(xml=XML, text=TEXT, ids="7\n8\n"):
        for name, own_xml, own_text in (("7", xml, text), ("8", XML, TEXT)):
            for folder, suffix, content in (
                ("Annotations", "xml", own_xml),
                ("Sentences", "txt", own_text),
            ):
                path = tmp_path / folder / f"{name}.{suffix}"
                path.parent.mkdir(exist_ok=True)
                if content is None:
                    path.unlink(missing_ok=True)
                else:
                    data = content if isinstance(content, bytes) else content.encode()
                    path.write_bytes(data)
        (tmp_path / "train.txt").write_text(ids)
        return dict(
            type="Flickr30kEntitiesDataset",
            data_root=str(tmp_path),
            ann_file="train.txt",
            image_prefix="flickr30k-images",
        )

    return write


def test_phrases_point_at_the_boxes_of_their_entity(files):
    first, second, *_ = annotations(build(files()))

    assert (first.id, first.image, first.size) == ("7#0", "7.jpg", (40, 60))
    (caption,) = first.captions
    assert caption.text == "Two men meet in the yard ."
    men, yard = caption.spans
    assert caption.text[men.start : men.end] == "Two men"
    assert men.types == ("people", "other")
    assert [first.instances[i].box for i in men.instances] == [
        (1, 2, 20, 30),
        (30, 5, 50, 38),
    ]
    assert caption.text[yard.start : yard.end] == "the yard"
    assert (yard.instances, yard.types) == ((), ("scene",))
    # One box belongs to two entities.
    assert [i.id for i in first.instances] == ["1", "1,2"]
    words = second.captions[0].text
    assert [words[s.start : s.end] for s in second.captions[0].spans] == [
        "A man",
        "nothing",
        "a plan",
    ]
    assert [s.instances for s in second.captions[0].spans] == [(0,), (), ()]
    assert second.meta == dict(image_id="7", sentence_ids=[1])


def test_options_choose_sentences_boxes_and_their_origin(files):
    config = files()

    assert len(build(config)) == 4  # the third sentence of each has no box
    assert len(build(config, grounded_only=False)) == 6
    bare = annotations(build(config, grounded_only=False))[2]
    assert bare.captions[0].text == "A nice yard ."
    assert bare.instances == ()
    both, _ = annotations(build(config, per="image"))
    assert (both.id, len(both.captions), len(both.instances)) == ("7", 2, 2)
    merged = annotations(build(config, boxes="merged"))[0]
    assert [(i.id, i.box) for i in merged.instances] == [
        ("1", (1, 2, 50, 38)),
        ("2", (30, 5, 50, 38)),
    ]
    shifted = annotations(build(config, minus_one=True))[0]
    assert shifted.instances[0].box == (0, 1, 19, 29)
    assert annotations(build(config, image_suffix=".png"))[0].image == "7.png"
    with pytest.raises(ValueError, match="per='box', boxes='separate': expected one"):
        build(config, per="box")


def test_rows_are_made_again_when_a_file_changes(files):
    config = files()
    assert len(build(config)) == 4

    files(text=TEXT.replace("nice yard", "nice yard]\n[/EN#1/people Men"))

    assert len(build(config)) == 5


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(xml=None), "No such file or directory: .*7.xml"),
        (dict(text=None), "No such file or directory: .*7.txt"),
        (dict(xml=XML[:200]), "7.xml': unclosed token"),
        (dict(xml=b""), "7.xml': no element found"),
        (dict(xml=XML.replace("<ymin>2<", "<ymin>x<")), "'ymin' must be a number"),
        (dict(xml=XML.replace("<width>60</width>", "")), "'width' must be a number"),
        (dict(xml=XML.replace("<name>4</name>", "")), "an 'object' has no 'name'"),
        (dict(text=TEXT.replace("men]", "men")), "7.txt', line 1: .*opens no phrase"),
        (dict(text=TEXT + "[/EN#9 x] ."), "7.txt', line 4: .*opens no phrase"),
        (dict(text=TEXT + "[/EN#9/other x ."), "line 4: a phrase of .* is not closed"),
        (dict(text=b"caf\xe9"), "7.txt' is not UTF-8 text"),
        (
            dict(
                xml='<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;">]>'
                + XML.replace("7.jpg", "&c;")
            ),
            "7.xml': it declares a document type, which is not read",
        ),
        (
            dict(
                xml=(
                    '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a SYSTEM '
                    '"file:///etc/passwd">' + XML
                ).encode("utf-16")
            ),
            "it declares a document type",
        ),
    ],
)
def test_a_damaged_image_is_counted_and_the_others_are_read(files, changes, message):
    config = files(**changes)

    with pytest.raises(DataError, match=message):
        build(config)[0]
    lenient = build(config, bad_samples=dict(policy="skip"))
    items = [lenient[position] for position in range(len(lenient))]

    assert [isinstance(item, BadRecord) for item in items] == [True, False, False]
    assert items[0].id == "7"


@pytest.mark.parametrize(
    "ids, message",
    [
        ("", "it holds 'nothing'"),
        ("7\n../../secret\n", "'../../secret'"),
        ("\x93\x94", "is no list of image ids"),
    ],
)
def test_a_split_file_that_is_none_fails_at_once(files, ids, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(files(ids=ids))


def test_boxes_that_cannot_be_used_are_counted_and_their_phrases_stay(files):
    xml = XML.replace("<xmax>20<", "<xmax>1<").replace("<xmax>50<", "<xmax>99<")

    first = annotations(build(files(xml=xml)))[0]

    assert first.meta["left_out"] == {"no extent": 1}
    (inside,) = first.instances
    assert inside.box == (30, 5, 60, 38)
    assert inside.meta == {"uncut_box": [30, 5, 99, 38]}
    assert first.captions[0].spans[0].instances == (0,)


def test_mutated_files_give_the_documented_outcome(files, tmp_path):
    rng = np.random.default_rng(1)
    outcomes = {True: 0, False: 0}
    for _ in range(150):
        xml, text = (bytearray(t.encode()) for t in (XML, TEXT))
        for data in (xml, text):
            data[rng.integers(len(data))] = rng.integers(256)
        config = files(xml=bytes(xml), text=bytes(text))
        data = build(config, bad_samples=dict(policy="skip"), grounded_only=False)
        for position in range(len(data)):
            outcomes[isinstance(data[position], BadRecord)] += 1
    assert min(outcomes.values()) > 20


@pytest.mark.golden
def test_files_are_parsed_as_the_evaluator_parses_them(goldens, tmp_path):
    facts = json.loads((goldens / "phrase_grounding_eval.json").read_text())
    for name, text in facts["sentences_txt"].items():
        (tmp_path / "s.txt").write_text(text)
        (tmp_path / "a.xml").write_text(facts["annotations_xml"][name])

        found = read_sentences(str(tmp_path / "s.txt"))
        for sentence in found:
            for phrase in sentence["phrases"]:
                start = phrase.pop("start")
                assert sentence["sentence"][start:].startswith(phrase["phrase"])
        assert found == facts["parsed"]["sentences"][name]

        image = read_annotation(str(tmp_path / "a.xml"))
        boxes = boxes_by_entity(image.pop("objects"))
        assert {**image, "boxes": boxes} == facts["parsed"]["annotations"][name]


@pytest.mark.golden
def test_samples_equal_shikras_records(goldens, tmp_path):
    facts = json.loads((goldens / "phrase_grounding_eval.json").read_text())
    for folder, suffix, key in (
        ("Sentences", "txt", "sentences_txt"),
        ("Annotations", "xml", "annotations_xml"),
    ):
        (tmp_path / folder).mkdir()
        for name, text in facts[key].items():
            (tmp_path / folder / f"{name}.{suffix}").write_text(text)
    (tmp_path / "val.txt").write_text("\n".join(facts["split_file"]))
    config = dict(
        type="Flickr30kEntitiesDataset", data_root=str(tmp_path), ann_file="val.txt"
    )
    data = build(config, minus_one=True, grounded_only=False)

    records = [flattened(a) for a in annotations(data)]
    wanted = [
        (
            record["image_id"],
            record["sentence"],
            [
                sorted(record["boxes"][i] for i in sequence)
                for sequence in record["boxes_seq"]
            ],
        )
        for record in facts["shikra_flattened"]
    ]
    assert records == wanted


def flattened(annotation):
    """Shikra's record of a sample: marked phrases and the boxes of each."""
    (caption,) = annotation.captions
    text, place, boxes = "", 0, []
    for span in caption.spans:
        if span.instances:
            phrase = caption.text[span.start : span.end]
            text += f"{caption.text[place : span.start]}<ph_st>{phrase}<ph_ed>"
            place = span.end
            boxes.append(
                sorted(list(annotation.instances[i].box) for i in span.instances)
            )
    return annotation.meta["image_id"], text + caption.text[place:], boxes


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back_from_the_files(tmp_path, split):
    writer = write_scenes("flickr30k_entities", tmp_path / "scenes")
    config, _ = writer.readers(split)

    found = annotations(build(config, per="image"))

    samples = {str(10**9 + image_number(s)): s for s in scenes(split)}
    assert {a.id for a in found} == set(samples)
    for annotation in found:
        sample = samples[annotation.id]
        objects = sample.scene.objects
        path = tmp_path / "scenes/flickr30k_entities/flickr30k-images"
        pixels = np.asarray(PIL.Image.open(path / annotation.image))
        assert np.array_equal(pixels, sample.image())
        assert [i.box for i in annotation.instances] == [item.box for item in objects]
        names, group = annotation.captions
        text, spans = grounded_caption(sample.scene)
        assert names.text == text.replace(",", " ,") + " ."
        assert [names.text[s.start : s.end] for s in names.spans] == [
            text[start:end] for start, end in spans
        ]
        assert [s.instances for s in names.spans] == [(i,) for i in range(len(objects))]
        assert group.spans[0].instances == () and group.spans[0].types == ("scene",)
        if len(objects) > 1:
            assert group.spans[1].instances == tuple(range(len(objects)))
        assert group.spans[-1].instances == (0,)


def test_a_phrase_may_end_in_punctuation():
    found = parse_sentence("[/EN#5/other a dog,] and [/EN#6/other x]")

    assert found["sentence"] == "a dog, and x"
    assert [p["phrase"] for p in found["phrases"]] == ["a dog,", "x"]
