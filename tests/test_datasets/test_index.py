"""The index on disk: made once, shared, never trusted when it does not fit."""

import importlib
import json
import os
import pickle
import types

import numpy as np
import pytest

from mmvlm.datasets.base import ConversationDataset
from mmvlm.datasets.index import arrays, records
from mmvlm.datasets.index.records import (
    DAMAGED,
    IMAGE,
    IMAGES,
    MEDIA,
    TURNS,
    JSONRecords,
)
from mmvlm.datasets.io.flattened import flatten_once
from mmvlm.datasets.readers.densefusion import DenseFusionDataset
from mmvlm.datasets.readers.llava import LLaVADataset


@pytest.fixture(autouse=True)
def small_files_count(monkeypatch):
    monkeypatch.setattr(records, "SMALL_FILE", 0)


@pytest.fixture
def logged(monkeypatch):
    lines = []
    monkeypatch.setattr(arrays, "print_log", lambda message, **_: lines.append(message))
    return lines


@pytest.fixture
def data(llava, make):
    """A set of 50 records; gives the reader's arguments."""
    rows = [make.record(i, images=i % 3, words=i + 1) for i in range(50)]
    return llava.write(rows, images=False)


def table_of(cache):
    (table,) = cache.glob("index/*/table.json")
    return table


def test_a_second_opening_reads_no_record(data, builds, cache):
    first = LLaVADataset(**data)
    second = LLaVADataset(**data)

    assert len(builds) == 1
    for dataset in (first, second):
        assert isinstance(dataset._facts.words.base, np.memmap)
        assert dataset[7]["conversation"].id == "id7"
        assert dataset[7]["conversation"].turns[1].text.split() == ["word"] * 8
    assert np.array_equal(first.lengths, second.lengths)
    assert table_of(cache).stat().st_size < 4096


def test_filters_and_lengths_need_no_record(data, monkeypatch):
    expected = LLaVADataset(**data)
    LLaVADataset(**data)
    monkeypatch.setattr(records, "read_value", None)

    dataset = LLaVADataset(**data, filter_cfg=dict(modality="image", max_words=20))

    words, kinds = np.abs(expected.lengths), expected.modalities
    wanted = np.flatnonzero((kinds == "image") & (words <= 20))
    assert dataset._rows.tolist() == wanted.tolist() and 0 < len(wanted) < 50
    assert dataset.lengths.tolist() == expected.lengths[wanted].tolist()
    assert set(dataset.modalities) == {"image"}


def test_flags_tell_what_a_record_holds(llava, make):
    rows = [make.record(i, images=i) for i in range(3)]
    rows.append({**make.record(3, images=0), "audio": "a.wav"})
    rows[2]["conversations"] = rows[2]["conversations"] * 2
    config = llava.write(rows, "ann.jsonl", images=False)
    with open(llava.root / "ann.jsonl", "a") as file:
        file.write('{"broken\n')

    facts = LLaVADataset(**config, bad_samples=dict(policy="skip"))._facts

    assert facts.flags.tolist() == [
        0,
        IMAGE,
        IMAGE | IMAGES | TURNS,
        MEDIA,
        DAMAGED,
    ]
    assert [facts.names[k] for k in facts.kinds] == [
        "text",
        "image",
        "image",
        "audio",
        "text",
    ]


def touch(path):
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))


def swap_head(path):
    """Change content, but neither size nor time."""
    before = path.stat()
    path.write_text(path.read_text().replace("id0", "ID0", 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [touch, swap_head])
def test_an_index_of_another_state_is_made_anew(llava, data, builds, logged, change):
    LLaVADataset(**data)
    change(llava.root / "ann.json")

    LLaVADataset(**data)
    LLaVADataset(**data)

    assert len(builds) == 2
    assert "made of another state" in "\n".join(logged)


def damage_array(table):
    (path,) = table.parent.glob("spans-*.npy")
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def cut_array(table):
    (path,) = table.parent.glob("words-*.npy")
    path.write_bytes(path.read_bytes()[:-8])


def lose_array(table):
    next(table.parent.glob("flags-*.npy")).unlink()


def empty_table(table):
    table.write_text("")


def foreign_table(table):
    known = json.loads(table.read_text())
    known["stamp"][1][0] = "/some/other/file.json"
    table.write_text(json.dumps(known))


def listed_table(table):
    table.write_text("[1, 2]")


def old_table(table):
    table.write_text(table.read_text().replace('"format": 1', '"format": 0'))


@pytest.mark.parametrize(
    "damage",
    [
        damage_array,
        cut_array,
        lose_array,
        empty_table,
        foreign_table,
        listed_table,
        old_table,
    ],
)
def test_a_damaged_or_foreign_index_is_never_trusted(
    data, builds, logged, cache, damage
):
    lengths = LLaVADataset(**data).lengths
    damage(table_of(cache))

    again = LLaVADataset(**data)

    assert len(builds) == 2 and "it is made anew" in "\n".join(logged)
    assert np.array_equal(again.lengths, lengths)
    assert again[49]["conversation"].id == "id49"
    assert len(list(table_of(cache).parent.glob("*.npy"))) == 4


def test_other_code_makes_another_index(data, builds, monkeypatch):
    LLaVADataset(**data)
    monkeypatch.setattr(records, "INDEX_VERSION", 99)

    LLaVADataset(**data)

    assert len(builds) == 2


def test_options_that_change_flags_have_indices_of_their_own(llava, builds):
    row = dict(image_id="a", image_path="a.png", caption="A wall.")
    (llava.root / "rows.jsonl").write_text(json.dumps(row) + "\n")
    places = dict(data_root=str(llava.root), ann_file="rows.jsonl")

    found = [
        DenseFusionDataset(**places, image_field=field).modalities.tolist()
        for field in ("auto", "image", "auto", "image_path")
    ]

    assert found == [["image"], ["text"], ["image"], ["image"]]
    assert len(builds) == 3


def test_a_cache_that_cannot_be_written_gives_way(
    data, builds, logged, tmp_path, monkeypatch
):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("MMVLM_CACHE", str(blocked / "cache"))
    monkeypatch.setattr(arrays.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))

    first, second = LLaVADataset(**data), LLaVADataset(**data)

    assert len(builds) == 1 and "cannot be kept in" in "\n".join(logged)
    assert str(tmp_path / "tmp") in second._records._arrays.folder
    monkeypatch.setattr(arrays.tempfile, "gettempdir", lambda: str(blocked / "tmp"))
    nowhere = LLaVADataset(**data)
    assert len(builds) == 2 and nowhere._records._arrays.folder is None
    assert np.array_equal(first.lengths, nowhere.lengths)
    copy = pickle.loads(pickle.dumps(nowhere))
    assert copy[3]["conversation"].id == "id3"


def test_a_full_disk_leaves_the_index_in_memory(data, logged, monkeypatch):
    def full(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrays, "write_atomic", full)

    dataset = LLaVADataset(**data)

    assert dataset[49]["conversation"].id == "id49"
    assert "No space left" in "\n".join(logged)


def test_a_file_changed_while_it_is_used_is_an_error(llava, data):
    first, second = LLaVADataset(**data), LLaVADataset(**data)
    touch(llava.root / "ann.json")
    assert first[1]["conversation"].id == "id1"
    swap_head(llava.root / "ann.json")

    with pytest.raises(RuntimeError, match="changed after it was opened"):
        second[0]


def test_a_file_changed_while_it_is_indexed_is_an_error(llava, data, monkeypatch):
    build = JSONRecords._build

    def meanwhile(self, *given):
        touch(llava.root / "ann.json")
        return build(self, *given)

    monkeypatch.setattr(JSONRecords, "_build", meanwhile)

    with pytest.raises(RuntimeError, match="changed while it was indexed"):
        LLaVADataset(**data)


def test_a_copy_of_an_index_made_anew_elsewhere_says_so(llava, data, cache):
    dataset = LLaVADataset(**data)
    content = pickle.dumps(dataset)
    touch(llava.root / "ann.json")
    LLaVADataset(**data)

    assert dataset.lengths.sum()  # what is mapped stays mapped
    with pytest.raises(RuntimeError, match="was made anew by another process"):
        pickle.loads(content)


def reachable(thing, seen):
    """Count the Python objects that a data set holds, arrays as one each."""
    if id(thing) in seen or isinstance(thing, type | types.ModuleType):
        return
    seen.add(id(thing))
    if isinstance(thing, dict):
        children = [*thing.keys(), *thing.values()]
    elif isinstance(thing, list | tuple | set):
        children = list(thing)
    else:
        children = list(getattr(thing, "__dict__", {}).values())
    for child in children:
        reachable(child, seen)


@pytest.mark.parametrize("blind", [False, True])
def test_no_object_is_kept_per_record(llava, make, blind):
    counts = []
    for size in (20, 400):
        rows = [make.record(i, images=1 + i % 2) for i in range(size)]
        config = llava.write(rows, f"of_{size}.json", images=False)
        dataset = LLaVADataset(**config, shuffle_images=blind)
        assert len(dataset.lengths) == len(dataset.modalities) == size
        for position in range(size):
            dataset[position]
        seen = set()
        reachable(dataset, seen)
        counts.append(len(seen))
        assert len(pickle.dumps(dataset)) < 8000 + (12 * size if blind else 4 * size)

    assert counts[0] == counts[1]


def test_readers_of_other_kinds_collect_their_facts_once(tmp_path):
    class Two(ConversationDataset):
        def _load_records(self):
            return ["one", "one two"]

        def _record_id(self, record):
            return record

        def _image_keys(self, record):
            return (record,) if record == "one" else ()

        def _conversation(self, record, images, rng):
            raise AssertionError

        def _num_words(self, record):
            return len(record.split())

    (tmp_path / "any").write_text("x")

    dataset = Two("any", data_root=str(tmp_path), filter_cfg=dict(max_words=5))

    assert dataset.lengths.tolist() == [1, -2]
    assert dataset.modalities.tolist() == ["image", "text"]
    assert dataset._facts is dataset._facts


def test_records_that_nobody_described_are_read_by_the_reader(llava, data):
    class Plain(LLaVADataset):
        def _load_records(self):
            return JSONRecords(self.ann_file, "list")

    assert np.array_equal(Plain(**data).lengths, LLaVADataset(**data).lengths)


def test_rows_are_flattened_once_and_written_anew_when_damaged(
    tmp_path, cache, builds, logged
):
    source, calls = tmp_path / "source.json", []
    source.write_text("[]")

    def flatten():
        calls.append(1)
        return ({"id": str(n), "text": "\ud83d word"} for n in range(5))

    def open_rows():
        return flatten_once([str(source)], flatten, kind="Toy-1", name="toy")

    assert [open_rows()[4].value for _ in range(2)][1]["text"] == "\ud83d word"
    assert len(calls) == 1 and len(builds) == 1
    (rows,) = cache.glob("rows/*.jsonl")
    rows.write_bytes(rows.read_bytes()[:-30])
    assert len(open_rows()) == 5 and len(calls) == 2
    assert "is damaged; it is written anew" in "\n".join(logged)
    touch(source)
    assert len(open_rows()) == 5 and len(calls) == 3


def test_rows_that_cannot_be_kept_are_refused(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("MMVLM_CACHE", str(blocked / "a"))
    monkeypatch.setattr(arrays.tempfile, "gettempdir", lambda: str(blocked / "b"))

    with pytest.raises(OSError, match="cannot be kept in any of"):
        flatten_once([str(blocked)], lambda: [{}], kind="Toy-1")


def test_long_work_tells_how_far_it_is(logged, monkeypatch):
    monkeypatch.setattr(arrays.Progress, "every", 0.0)
    progress = arrays.Progress("index of 'x'", 200)

    progress.at(50, 7)
    arrays.Progress("rows of 'x'", 0, "rows").at(0, 9)

    assert "index of 'x': 25 % (7 records), about" in logged[0]
    assert logged[1] == "rows of 'x': 9 rows."


def floats(spans):
    return spans.astype(np.float64)


def beyond(spans):
    return spans + 10**12


def backwards(spans):
    return spans[:, ::-1].copy()


def fewer(spans):
    return spans[:-1]


@pytest.mark.parametrize("forge", [floats, beyond, backwards, fewer])
def test_an_index_that_leads_out_of_the_file_is_made_anew(
    data, builds, logged, cache, forge
):
    """Its checksums are right: another program wrote it, or somebody."""
    LLaVADataset(**data)
    table = table_of(cache)
    content = json.loads(table.read_text())
    path = table.parent / content["arrays"]["spans"][0]
    np.save(path, forge(np.load(path)))
    content["arrays"]["spans"][1] = arrays._checksum(path)
    table.write_text(json.dumps(content))

    again = LLaVADataset(**data)

    assert len(builds) == 2 and "'spans'" in "\n".join(logged)
    assert again[49]["conversation"].id == "id49"


def test_an_index_that_cannot_be_read_or_mapped_is_made_anew(data, builds, cache):
    LLaVADataset(**data)
    table = table_of(cache)
    content = json.loads(table.read_text())
    path = table.parent / content["arrays"]["words"][0]
    path.write_bytes(path.read_bytes()[:70])
    content["arrays"]["words"][1] = arrays._checksum(path)
    table.write_text(json.dumps(content))
    assert LLaVADataset(**data)[3]["conversation"].id == "id3" and len(builds) == 2

    table.unlink()
    table.mkdir()
    assert LLaVADataset(**data)[3]["conversation"].id == "id3" and len(builds) == 3


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("index.records", "JSONRecords"),
        ("io.tar_shards", "ShardFiles"),
        ("readers.coco_detection", "_SourceFile"),
    ],
)
def test_files_are_closed_at_the_end_of_the_interpreter(module, name, monkeypatch):
    """Modules have lost their names then; an error there follows the user's own."""
    module = importlib.import_module(f"mmvlm.datasets.{module}")
    one = object.__new__(getattr(module, name))
    one._handle = os.open(os.devnull, os.O_RDONLY)
    one._open = {"shard": one._handle}

    with monkeypatch.context() as patch:
        patch.setattr(module, "os", None)
        one.__del__()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(one._handle)
    one._handle, one._open = None, {}
