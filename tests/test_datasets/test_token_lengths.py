"""Lengths known beforehand are those of the samples, for every reason of theirs."""

import json
import pickle

import numpy as np
import PIL.Image
import pytest

from mmvlm.datasets.annotated import AnnotatedImageDataset
from mmvlm.datasets.bad_samples import BadRecord
from mmvlm.datasets.index import arrays, token_lengths
from mmvlm.datasets.index.fingerprint import NoFingerprint, fingerprint
from mmvlm.datasets.index.token_lengths import WatchedRandom
from mmvlm.datasets.processor import VLMProcessor
from mmvlm.datasets.readers.llava import LLaVADataset
from mmvlm.datasets.tasks.base import DataTask, region
from mmvlm.registry import CHAT_TEMPLATES, TOKENIZERS
from mmvlm.structures import (
    AnnotatedImage,
    Caption,
    Instance,
    PatchTokenCount,
    Text,
    Turn,
    VisionEncoderSpec,
)
from mmvlm.structures.slices import SliceTokenCount
from mmvlm.structures.tiles import TileTokenCount

SPEC = VisionEncoderSpec(width=8, num_layers=2, patch_size=2, image_size=8)
PATCHES = PatchTokenCount(patch_size=2)
SKIP = dict(bad_samples=dict(policy="skip", max_fraction=1))


def context(count=PATCHES, words=(), system=""):
    return VLMProcessor(
        TOKENIZERS.build(dict(type="TinyTokenizer", words=words)),
        CHAT_TEMPLATES.build(dict(type="vicuna_v1", system=system)),
        spec=SPEC,
        token_count=count,
        modalities=("image", "audio"),
    )


def pipeline(view="PadToSquare", load=None, **encode):
    return [
        dict(type="LoadImages", **(load or {})),
        dict(type=view),
        dict(type="EncodeConversation", **encode),
        dict(type="PackVLMInputs"),
    ]


@pytest.fixture
def rows(llava, make):
    """Twelve records with none to two images of all shapes."""
    records = [make.record(i, images=i % 3, words=3 + 5 * i) for i in range(12)]
    llava.write(records)
    for number, row in enumerate(records):
        images = row.get("image", [])
        for path in [images] if isinstance(images, str) else images:
            llava.image(path, size=(5 + 9 * number, 40 - 3 * number))
    return records


def opened(llava, bound=None, **options):
    places = dict(data_root=str(llava.root), ann_file="ann.json", image_prefix="pics")
    dataset = LLaVADataset(**places, **options)
    dataset.bind(context() if bound is None else bound)
    return dataset


def real_lengths(dataset):
    items = [dataset[position] for position in range(len(dataset))]
    return [
        1 if isinstance(item, BadRecord) else len(item["inputs"]["streams"]["text"])
        for item in items
    ]


@pytest.mark.parametrize(
    ("view", "count"),
    [
        ("PadToSquare", PATCHES),
        ("RandomResizedCropSquare", PATCHES),
        ("GridWindows", PATCHES),
        ("AnyResTiles", TileTokenCount(PATCHES)),
        ("SliceViews", SliceTokenCount(PATCHES)),
    ],
)
def test_lengths_are_those_of_the_samples(llava, rows, monkeypatch, view, count):
    dataset = opened(llava, bound=context(count), pipeline=pipeline(view))
    expected = real_lengths(dataset)
    monkeypatch.setattr(PIL.Image.Image, "load", None)  # no image is decoded

    lengths = dataset.token_lengths_at(0)

    assert lengths.tolist() == expected and lengths.dtype == np.int32
    assert len(set(expected)) == len(expected)


@pytest.mark.parametrize("batch", [1, 5, 256])
def test_batches_and_selections_change_nothing(llava, rows, monkeypatch, batch):
    whole = real_lengths(opened(llava, pipeline=pipeline()))
    monkeypatch.setattr(token_lengths, "_BATCH", batch)

    part = opened(llava, pipeline=pipeline(), indices=[7, 2, 11])

    assert part.token_lengths_at(0).tolist() == [whole[7], whole[2], whole[11]]


@pytest.mark.parametrize(
    "encode",
    [
        dict(max_length=90, overflow="truncate_text"),
        dict(max_length=90, overflow="drop"),
        dict(max_length=90),
        dict(mode="generate"),
    ],
)
def test_limits_and_modes_count(llava, rows, encode):
    dataset = opened(llava, pipeline=pipeline(**encode), **SKIP)

    expected = real_lengths(dataset)

    assert dataset.token_lengths_at(0).tolist() == expected
    if "max_length" in encode:
        cut = encode.get("overflow") == "truncate_text"
        assert max(expected) <= 90 and (90 if cut else 1) in expected


def test_samples_that_fail_count_one(llava, rows):
    rows[1]["image"] = "nested/none.png"
    rows[3] = "oops"
    rows[4]["conversations"][0]["value"] = "no tag"
    rows[6]["conversations"][1]["value"] = ""  # untrained, not failed
    (llava.root / "ann.json").write_text(json.dumps(rows))
    (llava.root / "pics/nested/7.png").write_text("no image")
    dataset = opened(llava, pipeline=pipeline(), **SKIP)

    lengths = dataset.token_lengths_at(0)

    assert lengths.tolist() == real_lengths(dataset)
    assert np.flatnonzero(lengths == 1).tolist() == [1, 3, 4, 7]


@pytest.mark.parametrize("exif", ["ignore", "apply"])
def test_turned_images_count_as_they_are_shown(llava, make, exif):
    llava.write([make.record(0)], images=False)
    image = PIL.Image.new("RGB", (90, 12))
    tags = image.getexif()
    tags[0x0112] = 6
    path = llava.root / "pics/nested/0.png"
    image.save(path, format="JPEG", exif=tags)
    lines = pipeline("AnyResTiles", dict(exif=exif))

    dataset = opened(llava, bound=context(TileTokenCount(PATCHES)), pipeline=lines)

    assert dataset.token_lengths_at(0).tolist() == real_lengths(dataset)


def test_other_inputs_count(llava, make, rows):
    rows[0]["audio"] = "sound.npy"
    rows[0]["conversations"][0]["value"] = "<audio>\nwhat"
    (llava.root / "ann.json").write_text(json.dumps(rows))
    np.save(llava.root / "pics/sound.npy", np.ones((30, 128), np.float32))
    lines = pipeline()
    lines[1:1] = [dict(type="LoadMedia"), dict(type="AudioFbank", num_frames=32)]

    dataset = opened(llava, bound=context(Counts()), pipeline=lines)

    assert dataset.token_lengths_at(0).tolist() == real_lengths(dataset)


class Counts:
    """Seven tokens for a sound."""

    def __call__(self, layout):
        return 7 if getattr(layout, "modality", "") == "audio" else PATCHES(layout)


class Doubled:
    """Say every question twice; decodes nothing, but does not say so."""

    def __call__(self, item):
        for number, turn in enumerate(item["conversation"].turns):
            if number == 0:
                parts = (*turn.parts, type(turn.parts[-1])("again and again"))
                item["conversation"].turns[0] = type(turn)(turn.role, parts)
        return item


def test_an_unknown_transform_makes_the_whole_pipeline_run(llava, rows, monkeypatch):
    lines = pipeline()
    lines.insert(0, Doubled())
    dataset = opened(llava, pipeline=lines)
    logged = []
    monkeypatch.setattr(
        token_lengths, "say", lambda message, *_: logged.append(message)
    )

    assert dataset.token_lengths_at(0).tolist() == real_lengths(dataset)
    assert "Doubled has no plan(item)" in logged[0]


def test_unbound_and_empty_pipelines_are_refused(llava, rows):
    places = dict(data_root=str(llava.root), ann_file="ann.json", image_prefix="pics")

    with pytest.raises(RuntimeError, match="not known; pass them, or bind"):
        LLaVADataset(**places, pipeline=pipeline()).token_lengths_at(0)
    with pytest.raises(RuntimeError, match="its pipeline encodes nothing"):
        LLaVADataset(**places).token_lengths_at(0)


# Randomness -----------------------------------------------------------------


class Captions(AnnotatedImageDataset):
    """Rows with several captions, of which the task draws one."""

    def _flatten(self):
        for number in range(20):
            texts = ["word " * (k + 1) for k in range(1 + number % 4)]
            yield dict(id=str(number), image=None, texts=texts)

    def _annotation(self, row, size):
        return AnnotatedImage(None, captions=tuple(map(Caption, row["texts"])))


def captions(llava, **options):
    source = llava.root / "any.json"
    if not source.exists():
        source.write_text("[]")
    dataset = Captions(
        "any.json",
        data_root=str(llava.root),
        task=dict(type="ImageCaption", prompts=("Say.",)),
        pipeline=pipeline(),
        **options,
    )
    dataset.bind(context())
    return dataset


def test_random_tasks_have_lengths_of_the_epoch_and_visit(llava):
    dataset = captions(llava)

    found = [dataset.token_lengths_at(epoch).tolist() for epoch in (0, 1, 2, 0)]

    assert found[0] == found[3] and len({tuple(one) for one in found}) == 3
    dataset.set_epoch(1)
    assert real_lengths(dataset) == found[1]
    visit = [len(dataset.fetch(i, 3)["inputs"]["streams"]["text"]) for i in range(20)]
    assert dataset.token_lengths_at(1, repeat=3).tolist() == visit != found[1]


def test_a_draw_among_one_is_no_draw(llava):
    dataset = captions(llava, indices=list(range(0, 20, 4)))
    dataset.token_lengths_at(0)

    assert list(dataset._token_lengths._known) == [None]
    watched, plain = WatchedRandom((1, 2)), np.random.default_rng((1, 2))
    assert watched.integers(1) == plain.integers(1) == 0
    assert watched.integers(4, 5) == plain.integers(4, 5) and not watched.is_used
    assert watched.random() == plain.random() and watched.is_used
    assert watched.integers(9) == plain.integers(9)


class Boxed(Captions):
    """One box in every image."""

    default_task = dict(type="ReferringComprehension")

    def _flatten(self):
        for number in range(6):
            yield dict(id=str(number), image=f"nested/{number}.png")

    def _annotation(self, row, size):
        box = (0.0, 1.0, size[1] / 3, size[0] / 2)
        thing = Instance(box=box, phrases=("a cup", "the large cup"))
        return AnnotatedImage(row["image"], size, instances=(thing,))


def test_written_and_moved_regions_count(llava, monkeypatch):
    (llava.root / "any.json").write_text("[]")
    for number in range(6):
        llava.image(f"nested/{number}.png", size=(30 + 90 * number, 400))
    lines = pipeline("ResizeSquare")
    codec = dict(type="QwenVLCodec")
    write = dict(type="WriteRegions", codec=codec, require_tokens=False)
    lines[2:2] = [dict(type="JitterRegions", role="all", scale=0.1), write]
    dataset = Boxed(
        "any.json", data_root=str(llava.root), image_prefix="pics", pipeline=lines
    )
    dataset.bind(context())
    dataset.set_epoch(2)
    expected = real_lengths(dataset)
    monkeypatch.setattr(PIL.Image.Image, "load", None)

    assert dataset.token_lengths_at(2).tolist() == expected
    assert dataset.token_lengths_at(3).tolist() != expected


class AskThrice(DataTask):
    """Ask three times for the box."""

    def turns(self, annotation, rng):
        found = region(annotation.instances, annotation.size)
        return [
            Turn(role, (part,))
            for _ in range(3)
            for role, part in (("user", Text("Where?")), ("assistant", found))
        ]


class Draw:
    """Draw what changes no length, and not when lengths are planned."""

    def __call__(self, item):
        item["rng"].random()
        return item

    def plan(self, item):
        return item


def test_questions_draw_for_themselves(llava):
    (llava.root / "any.json").write_text("[]")
    for number in range(6):
        llava.image(f"nested/{number}.png", size=(30 + 90 * number, 400))
    jitter = dict(type="JitterRegions", role="all", scale=0.1)
    write = dict(type="WriteRegions", codec=dict(type="QwenVLCodec"))
    lines = pipeline("ResizeSquare")
    lines[2:2] = [jitter, dict(jitter), dict(write, require_tokens=False), Draw()]
    dataset = Boxed(
        "any.json",
        data_root=str(llava.root),
        image_prefix="pics",
        pipeline=lines,
        task=AskThrice(),
        split_turns=True,
    )
    dataset.bind(context())
    items = dataset.fetch_many([(number, 0) for number in range(6)])
    lengths = [[len(i["inputs"]["streams"]["text"]) for i in own] for own in items]

    assert dataset.token_lengths_at(0).tolist() == list(map(sum, lengths))
    assert any(len(set(own)) > 1 for own in lengths)
    assert dataset.token_lengths_at(1).tolist() != list(map(sum, lengths))


# On disk --------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """Keep lengths of small sets too, and count the counting."""
    monkeypatch.setattr(token_lengths, "SMALL_SET", 0)
    calls = []
    count = token_lengths.TokenLengths._count
    monkeypatch.setattr(
        token_lengths.TokenLengths,
        "_count",
        lambda self, *when: (calls.append(when), count(self, *when))[1],
    )
    return calls


def test_lengths_are_counted_once(llava, rows, counted):
    first = opened(llava, pipeline=pipeline())
    lengths = first.token_lengths_at(0)

    again = opened(llava, pipeline=pipeline(), name="other name")
    copy = pickle.loads(pickle.dumps(again))

    assert np.array_equal(first.token_lengths_at(5), lengths)
    assert np.array_equal(again.token_lengths_at(3), lengths)
    assert np.array_equal(copy.token_lengths_at(3), lengths)
    assert isinstance(lengths.base, np.memmap) and counted == [(0, 0)]


def test_random_lengths_are_kept_by_epoch(llava, counted):
    expected = [captions(llava).token_lengths_at(epoch) for epoch in (0, 1, 2)]

    again = [captions(llava).token_lengths_at(epoch) for epoch in (2, 0, 1)]

    assert len(counted) == 3
    assert all(np.array_equal(again[i], expected[e]) for i, e in enumerate((2, 0, 1)))


def test_all_that_lengths_depend_on_is_in_the_key(llava, rows, counted, make):
    def count(**options):
        before = len(counted)
        dataset = opened(llava, **{"pipeline": pipeline(), **options})
        assert dataset.token_lengths_at(0).tolist() == real_lengths(dataset)
        return len(counted) - before

    assert count() == 1 and count() == 0
    assert count(bound=context(words=("word",))) == 1
    assert count(bound=context(system="Be brief.")) == 1
    assert count(bound=context(PatchTokenCount(4))) == 1
    assert count(pipeline=pipeline(max_length=500)) == 1
    assert count(pipeline=pipeline("ResizeSquare")) == 1
    assert count(indices=5) == 1
    assert count(drop_leading_answer=False) == 1
    assert count(shuffle_images=True) == 1
    rows[0]["conversations"][1]["value"] = "something else"
    (llava.root / "ann.json").write_text(json.dumps(rows))
    assert count() == 1 and count() == 0


def test_damaged_lengths_are_counted_anew(llava, rows, counted, cache):
    expected = opened(llava, pipeline=pipeline()).token_lengths_at(0).copy()
    (path,) = cache.glob("lengths/*/tokens-*.npy")
    path.write_bytes(path.read_bytes()[:-4])

    again = opened(llava, pipeline=pipeline()).token_lengths_at(0)

    assert np.array_equal(again, expected) and len(counted) == 2


def test_what_cannot_be_told_apart_is_not_kept(llava, rows, counted, monkeypatch):
    logged = []
    monkeypatch.setattr(
        token_lengths, "say", lambda message, *_: logged.append(message)
    )
    lines = [lambda item: item, *pipeline()]

    for _ in range(2):
        opened(llava, pipeline=lines).token_lengths_at(0)

    assert len(counted) == 2 and "cannot be told from another one" in logged[0]


def test_fingerprints_tell_contents_apart():
    class Local:
        pass

    values = [
        None,
        1,
        "1",
        b"1",
        [1],
        {"a": 1},
        {"a": 2},
        {1, 2},
        np.arange(3),
        np.arange(3.0),
        PATCHES,
        PatchTokenCount(3),
        PatchTokenCount,
        context().template,
        context(system="x").template,
        context().tokenizer,
        context(words=("x",)).tokenizer,
    ]
    prints = [json.dumps(fingerprint(value)) for value in values]

    assert len(set(prints)) == len(prints)
    assert prints == [json.dumps(fingerprint(value)) for value in values]
    tokenizer = context().tokenizer
    before = fingerprint(tokenizer)
    tokenizer("a b", padding="max_length", max_length=9)
    arrays_of = fingerprint(context().tokenizer)
    assert before == arrays_of == prints_of(prints[15])
    for value in (lambda: 1, Local, Local(), object(), (x for x in ())):
        with pytest.raises(NoFingerprint):
            fingerprint(value)


def prints_of(text):
    return json.loads(text)


def test_progress_is_told(llava, rows, monkeypatch):
    logged = []
    monkeypatch.setattr(arrays, "print_log", lambda line, **_: logged.append(line))
    monkeypatch.setattr(arrays.Progress, "every", 0.0)

    opened(llava, pipeline=pipeline()).token_lengths_at(0)

    assert "token lengths of dataset 'ann': 100 % (12 samples)" in logged[-1]
