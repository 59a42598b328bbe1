"""RefCOCO's files: joined, split, safe to open; damage named or counted."""

import json
import pickle
import subprocess

import numpy as np
import pytest
from grounding_helpers import annotations, build, scenes, write_scenes

from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.readers.refcoco import in_split
from mmvlm.datasets.tiny_scenes.ground_truth import expressions, image_number
from mmvlm.structures.masks import instance_rle, rle_to_mask


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three refs over two images in the true layout; gives a writer."""
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))

    def sentence(sent_id, raw):
        sent = raw.lower().rstrip(".!")
        return dict(tokens=sent.split(), raw=raw, sent_id=sent_id, sent=sent)

    refs = [
        dict(
            sent_ids=[0, 1],
            file_name="COCO_train2014_000000000007_50.jpg",
            ann_id=50,
            ref_id=4,
            image_id=7,
            split="train",
            sentences=[sentence(0, "Left Dog."), sentence(1, "the brown one")],
            category_id=18,
        ),
        dict(
            sent_ids=[2],
            file_name="COCO_train2014_000000000007_51.jpg",
            ann_id=51,
            ref_id=5,
            image_id=7,
            split="train",
            sentences=[sentence(2, "man!")],
            category_id=1,
        ),
        dict(
            sent_ids=[3],
            file_name="COCO_train2014_000000000009_52.jpg",
            ann_id=52,
            ref_id=6,
            image_id=9,
            split="testA",
            sentences=[sentence(3, "sky")],
            category_id=1,
        ),
    ]
    ring = [10.5, 20.25, 30.5, 20.25, 30.5, 40.0]
    tables = dict(
        info={},
        licenses=[],
        images=[
            dict(
                id=7, file_name="COCO_train2014_000000000007.jpg", width=64, height=48
            ),
            dict(
                id=9, file_name="COCO_train2014_000000000009.jpg", width=32, height=32
            ),
        ],
        annotations=[
            dict(
                id=50,
                image_id=7,
                category_id=18,
                bbox=[10.5, 20.25, 20.0, 19.75],
                segmentation=[ring],
                area=197.5,
                iscrowd=0,
            ),
            dict(id=51, image_id=7, category_id=1, bbox=[60, 1, 9, 9], segmentation=[]),
            dict(
                id=52,
                image_id=9,
                category_id=1,
                bbox=[0, 0, 32, 8],
                segmentation=dict(size=[32, 32], counts=[0, 8, 1016]),
                iscrowd=1,
            ),
        ],
        categories=[dict(id=18, name="dog"), dict(id=1, name="person")],
    )

    def write(edit=None, protocol=2):
        folder = tmp_path / "refcoco"
        folder.mkdir(exist_ok=True)
        if edit is not None:
            edit(refs, tables)
        (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol))
        (folder / "instances.json").write_text(json.dumps(tables))
        return dict(
            type="RefCOCODataset",
            data_root=str(tmp_path),
            ann_file="refcoco/refs(unc).p",
            image_prefix="train2014",
        )

    write.folder = tmp_path / "refcoco"
    return write


def test_a_sample_is_a_sentence_with_the_box_of_its_object(files):
    data = build(files())

    first, second, third = annotations(data)

    assert [a.id for a in (first, second, third)] == ["0", "1", "2"]
    assert first.image == "COCO_train2014_000000000007.jpg"
    assert first.size == (48, 64)
    (dog,) = first.instances
    assert dog.phrases == ("left dog",)
    assert (dog.box, dog.name, dog.id) == ((10.5, 20.25, 30.5, 40.0), "dog", "50")
    assert dog.polygons == ((10.5, 20.25, 30.5, 20.25, 30.5, 40.0),)
    assert first.meta == dict(
        image_id=7,
        split="train",
        ref_id=4,
        ann_id=50,
        question_id=0,
        expression="left dog",
    )
    assert second.instances[0].phrases == ("the brown one",)
    # A box that sticks out is cut; the file's numbers stay.
    (man,) = third.instances
    assert man.box == (60, 1, 64, 10)
    assert man.meta["uncut_box"] == [60, 1, 69, 10]


def test_options_choose_split_text_and_what_a_sample_is(files):
    config = files()

    raw = annotations(build(config, text_field="raw"))
    per_ref = annotations(build(config, per="ref"))
    per_image = annotations(build(config, per="image"))
    test = annotations(build(config, split="test"))

    assert raw[0].instances[0].phrases == ("Left Dog.",)
    assert [a.id for a in per_ref] == ["4", "5"]
    assert per_ref[0].instances[0].phrases == ("left dog", "the brown one")
    (both,) = per_image
    assert both.id == "7" and [i.id for i in both.instances] == ["50", "51"]
    assert test[0].instances[0].is_crowd
    assert test[0].instances[0].rle["size"] == [32, 32]
    assert len(build(config, split=["train", "testA"])) == 4
    with pytest.raises(ValueError, match="per='box', text_field='sent': expected one"):
        build(config, per="box")
    with pytest.raises(ValueError, match=r"no record in .*splits.*val"):
        build(config, split="val")


@pytest.mark.parametrize(
    "given, wanted, inside",
    [
        ("testAB", "testA", True),
        ("testAB", "testC", False),
        ("testAB", "testAB", True),
        ("testA", "testAB", False),
        ("testC", "test", True),
        ("train", "test", False),
        ("val", "val", True),
    ],
)
def test_splits_of_refclef_overlap(given, wanted, inside):
    assert in_split(given, wanted) is inside


def test_files_of_python_2_are_read(files):
    config = files()
    # What Python 2's cPickle, protocol 0, writes of a byte text and a long.
    refs = (
        b"(lp1\n(dp2\nS'split'\np3\nS'val'\np4\nsS'ref_id'\np5\nL4L\nsS'ann_id'\np6\n"
        b"I50\nsS'image_id'\np7\nI7\nsS'sentences'\np8\n(lp9\n(dp10\nS'sent'\np11\n"
        b"S'caf\\xe9 dog'\np12\nsS'raw'\np13\nVcaf\\u00e9\np14\nsS'sent_id'\np15\nI8\n"
        b"sasa."
    )
    (files.folder / "refs(unc).p").write_bytes(refs)

    (found,) = annotations(build(config, split="val"))

    assert found.instances[0].phrases == ("caf\xe9 dog",)
    assert found.id == "8"


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_gives_the_same(files, protocol):
    def numpy_ids(refs, tables):
        refs[0]["ann_id"] = np.int64(50)
        refs[1]["ref_id"] = np.int32(5)

    data = build(files(numpy_ids, protocol))

    assert [a.meta["ann_id"] for a in annotations(data)] == [50, 50, 51]


class Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return subprocess.check_call, (["touch", str(self.path)],)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_wants_to_run_something_is_refused(files, tmp_path, protocol):
    victim = tmp_path / "victim"
    config = files(lambda refs, tables: refs.append(Command(victim)), protocol)

    with pytest.raises(
        ValueError,
        match=r"refs\(unc\).p' cannot be read: it asks for "
        r"'(subprocess|commands).check_call', which is no plain data",
    ):
        build(config)

    assert not victim.exists()


@pytest.mark.parametrize(
    "payload, message",
    [
        (b"cos\nsystem\n(S'true'\ntR.", "it asks for 'os.system'"),
        (b"(S'true'\nios\nsystem\n.", r"it holds step b'i'"),
        (b"cbuiltins\neval\n.", "it asks for 'builtins.eval'"),
        (b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.", "'O' is no number"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", r"it holds step b'\\x96'"),
        (b"hello", "cannot be read"),
        (b"", "it ends too early"),
        (b"}.", "holds a dict, expected the list of refs"),
    ],
)
def test_pickles_that_are_something_else_are_refused(files, payload, message):
    config = files()
    (files.folder / "refs(unc).p").write_bytes(payload)

    with pytest.raises(ValueError, match=message):
        build(config)


def test_mutated_pickles_give_the_documented_error_or_rows(files):
    config = files()
    path = files.folder / "refs(unc).p"
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = read = 0

    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(
            data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.2 else data
        )
        try:
            data = build(config, split=["train", "testA"])
        except ValueError as error:
            assert "refs(unc).p" in str(error)
            refused += 1
        else:
            assert len(data) == len(data.lengths)
            read += 1

    assert refused > 20 and read > 20


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda r, t: r[1].update(ann_id=99), "ref 1: 'ann_id' 99 is not among"),
        (lambda r, t: r[1].update(image_id=9), "'image_id' is 9, but 7 in annotation"),
        (lambda r, t: r[1].pop("sentences"), "ref 1: no field 'sentences'"),
        (lambda r, t: r[1].update(sentences=[]), "'sentences' is empty"),
        (lambda r, t: r[1]["sentences"][0].update(sent=" "), "'sent' of a sentence"),
        (lambda r, t: r[1].pop("split"), "ref 1: no field 'split'"),
        (
            lambda r, t: r[1].update(split="trani"),
            "ref 1: 'split' is 'trani', expected",
        ),
        (lambda r, t: r[1].update(sent_ids=0, ref_id=b"x"), "'ref_id' must be a int"),
        (lambda r, t: r.__setitem__(1, "ref"), "ref 1: expected a record"),
        (lambda r, t: t["annotations"][1].update(bbox=[1, 2, 3]), "four numbers"),
        (lambda r, t: t["annotations"][1].update(bbox=[1, 2, 0, 5]), "no extent"),
        (lambda r, t: t["annotations"][1].update(bbox=[70, 2, 5, 5]), "lies outside"),
        (
            lambda r, t: t["annotations"][1].update(bbox=[float("nan"), 2, 5, 5]),
            "'bbox' holds no finite number",
        ),
        (
            lambda r, t: t["annotations"][1].update(segmentation=[[1, 2, 3]]),
            "polygon 0: 3 coordinates, an odd count",
        ),
        (lambda r, t: t["images"].pop(0), "'image_id' 7 is not among the images"),
    ],
)
def test_a_damaged_ref_follows_the_policy_and_is_counted(files, edit, message):
    config = files(edit)

    with pytest.raises(DataError, match=message):
        annotations(build(config, split=["train", "test"]))
    lenient = build(config, split=["train", "test"], bad_samples=dict(policy="skip"))
    items = [lenient[position] for position in range(len(lenient))]

    bad = [item for item in items if isinstance(item, BadRecord)]
    assert len(bad) >= 1 and len(items) - len(bad) >= 1
    assert len(lenient.lengths) == len(items)


def test_a_category_that_is_none_leaves_the_name_empty(files):
    def edit(refs, tables):
        tables["annotations"][0]["category_id"] = {"x": []}
        tables["annotations"][1]["category_id"] = 99

    names = [a.instances[0].name for a in annotations(build(files(edit)))]

    assert names == ["", "", ""]


def test_instances_that_are_cut_or_missing_fail_at_once(files):
    config = files()
    path = files.folder / "instances.json"
    whole = path.read_text()

    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"instances.json' is damaged at byte .*cut"):
        build(config)
    path.write_text('{"images": []}')
    with pytest.raises(
        ValueError, match=r"instances.json' has no table \['annotations'"
    ):
        build(config)
    path.unlink()
    with pytest.raises(ValueError, match=r"instances.json' does not exist; it belongs"):
        build(config)


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back_from_the_files(tmp_path, monkeypatch, split):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))
    writer = write_scenes("refcoco", tmp_path / "scenes")

    (config,) = writer.readers(split)
    data = build(config, per="image")

    samples = {str(image_number(s)): s for s in scenes(split)}
    found = annotations(data)
    assert {a.id for a in found} == set(samples)
    for annotation in found:
        sample = samples[annotation.id]
        assert annotation.image == writer.image_path(sample).removeprefix("images/")
        assert annotation.size == (sample.scene.size,) * 2
        objects = sample.scene.objects
        assert len(annotation.instances) == len(objects)
        for item, instance in zip(objects, annotation.instances, strict=True):
            assert instance.box == pytest.approx(item.box, abs=1e-6)
            assert instance.phrases == expressions(item)
            assert instance.name == item.kind
            mask = rle_to_mask(instance_rle(instance, annotation.size))
            x1, y1, x2, y2 = item.box
            assert mask[y1:y2, x1:x2].sum() == mask.sum() > 0
    sentences = build(config)
    assert len(sentences) == sum(2 * len(s.scene.objects) for s in samples.values())
