"""RefCOCO in the flat files of four projects; images inside a table; damage."""

import base64
import io
import json

import numpy as np
import PIL.Image
import pytest
from grounding_helpers import annotations, build, make_image, scenes, write_scenes

from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.tiny_scenes.ground_truth import expressions

BOX = [1.5, 2, 30, 20.25]
RECORDS = dict(
    shikra=dict(img_path="a/1.png", expression="the dog ", bbox=BOX),
    pink=dict(image_id="a/1.png", sentence="the dog", bbox=BOX, exp_id=17, ref_id=4),
    qwen_vl=dict(image="a/1.png", sent="the dog", bbox=BOX, width=40, height=30),
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))
    make_image(tmp_path / "images/a/1.png", (40, 30))


@pytest.fixture
def files(tmp_path):
    def write(content, dialect, name="refs.json"):
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        return dict(
            type="FlatReferringDataset",
            data_root=str(tmp_path),
            ann_file=name,
            image_prefix="images",
            dialect=dialect,
        )

    return write


def png(size=(40, 30), encode=base64.urlsafe_b64encode):
    data = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    PIL.Image.fromarray(pixels).save(data, "PNG")
    return encode(data.getvalue()), pixels


def table(*changes):
    """Three lines of OFA's table, with changed columns of the second."""
    lines = []
    for number in range(3):
        cells = [b"%d" % number, b"581857", b"the dog", b"1.5,2.0,30.0,20.25", png()[0]]
        for column, value in changes if number == 1 else ():
            cells[column] = value
        lines.append(b"\t".join(cells) + b"\n")
    return b"".join(lines)


@pytest.mark.parametrize("dialect", RECORDS)
@pytest.mark.parametrize("layout", ["list", "lines"])
def test_every_dialect_says_the_same(files, dialect, layout):
    record = RECORDS[dialect]
    text = json.dumps([record]) if layout == "list" else json.dumps(record) + "\n"

    (found,) = annotations(build(files(text, dialect)))

    assert (found.image, found.size) == ("a/1.png", (30, 40))
    (dog,) = found.instances
    assert (dog.box, dog.phrases) == (tuple(BOX), ("the dog",))
    assert found.id == ("17" if dialect == "pink" else "0")
    assert (
        found.meta
        == {
            "pink": {"ref_id": 4},
            "qwen_vl": {"width": 40, "height": 30},
            "shikra": {},
        }[dialect]
    )


@pytest.mark.parametrize(
    "encode", [base64.urlsafe_b64encode, base64.b64encode], ids=["ofa", "plain"]
)
def test_images_of_a_table_are_read_from_it(files, encode):
    text, pixels = png((33, 21), encode)
    assert b"-" in text or b"_" in text or b"+" in text or b"/" in text
    lines = b"5\t581857\tthe dog\t1.5,2.0,30.0,20.25\t" + text + b"\n"

    data = build(files(b"\n" + (lines * 2)[:-1], "ofa", "refs.tsv"))

    assert len(data) == 2
    for position in range(2):
        talk = data[position]["conversation"]
        (stored,) = talk.images
        assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(stored))), pixels)
        annotation = talk.meta["annotation"]
        assert (annotation.id, annotation.size) == ("5", (21, 33))
        assert annotation.instances[0].box == tuple(BOX)
        assert annotation.meta == {"image_id": "581857"}


def test_a_dialect_of_ones_own(files):
    dialect = dict(image="file", text="phrase", box="xywh", form="xywh", id="key")
    record = dict(file="a/1.png", phrase="dog", xywh=[1, 2, 3, 4], key="k", split="x")

    (found,) = annotations(build(files(json.dumps([record]), dialect)))

    assert found.instances[0].box == (1, 2, 4, 6)
    assert (found.id, found.meta) == ("k", {"split": "x"})
    with pytest.raises(ValueError, match="dialect='kosmos': expected one of"):
        build(files("[]", "kosmos"))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(bbox=[1, 2, 3]), "'bbox' must be four numbers"),
        (dict(bbox=[5, 5, 5, 9]), "'bbox' has no extent"),
        (dict(bbox=[50, 5, 60, 9]), "lies outside of its image of 40 x 30"),
        (dict(bbox="1,2,3,4"), "'bbox' must be a list"),
        (dict(expression=""), "'expression' is an empty text"),
        (dict(img_path=None), "'img_path' must be a str"),
        (dict(img_path="a/2.png"), "image '.*a/2.png' does not exist"),
        (dict(img_path="../../2.png"), "leaves the folder"),
    ],
)
def test_a_damaged_record_follows_the_policy(files, changes, message):
    records = [RECORDS["shikra"], {**RECORDS["shikra"], **changes}, 3]
    config = files("\n".join(map(json.dumps, records)) + "\n{]\n", "shikra")
    with pytest.raises(ValueError, match="expected"):
        build(files("3\n", "shikra"))  # no object at all

    config = files("\n".join(map(json.dumps, records)) + "\n{]\n", "shikra", "b.jsonl")
    with pytest.raises(DataError, match=message):
        build(config)[1]
    lenient = build(config, bad_samples=dict(policy="skip"))
    bad = [isinstance(lenient[position], BadRecord) for position in range(4)]
    assert bad == [False, True, True, True]


@pytest.mark.parametrize(
    "change, message",
    [
        ((3, b"1,2,x,4"), "line 2 of .*'box' holds no numbers"),
        ((3, b"1,2,3"), "'box' must be four numbers"),
        ((2, b"\xff\xfe"), "line 2 of .* is not UTF-8 text"),
        ((4, b"$$$$"), "is no base64"),
        ((4, base64.b64encode(b"no image")), "cannot identify image"),
        ((4, b"aaaa\tbbbb"), "line 2 of .*: 6 columns, expected 5"),
    ],
)
def test_a_damaged_line_of_a_table_follows_the_policy(files, change, message):
    config = files(table(change), "ofa", "refs.tsv")

    with pytest.raises(DataError, match=message):
        build(config)[1]
    lenient = build(config, bad_samples=dict(policy="skip"))
    bad = [isinstance(lenient[position], BadRecord) for position in range(3)]
    assert bad == [False, True, False]


def test_files_that_cannot_be_read_fail_at_once(files):
    whole = table()
    cut = whole[: whole.rindex(b"\t")]
    for content, dialect, message in (
        (cut, "ofa", "line 3 of '.*': 4 columns, expected 5 .*was cut"),
        (whole[:-6], "ofa", "line 3 of '.*' ends too early: .*It was cut"),
        (whole[:-400], "ofa", "line 3 of '.*' ends too early: .*It was cut"),
        (b"", "ofa", "is empty"),
        (b'{"a": 1}\n', "ofa", "line 1 of '.*': 1 columns"),
        (b'[{"img_path": 1}', "shikra", "The file ends too early"),
        (b'{"img_path": 1', "shikra", "it was cut"),
        (b"", "qwen_vl", "is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            build(files(content, dialect))


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back_from_the_files(tmp_path, split):
    writer = write_scenes("flat_referring", tmp_path / "scenes")
    wanted = [
        (sample, phrase, item.box)
        for sample in scenes(split)
        for item in sample.scene.objects
        for phrase in expressions(item)
    ]

    for config in writer.readers(split):
        data = build(config)
        assert len(data) == len(wanted)
        for position, (sample, phrase, box) in enumerate(wanted):
            talk = data[position]["conversation"]
            (instance,) = talk.meta["annotation"].instances
            assert (instance.phrases, instance.box) == ((phrase,), box)
            if config["dialect"] == "ofa":
                pixels = np.asarray(PIL.Image.open(io.BytesIO(talk.images[0])))
                assert np.array_equal(pixels, sample.image())
            else:
                path = writer.image_path(sample).removeprefix("images/")
                assert talk.images == [path]
