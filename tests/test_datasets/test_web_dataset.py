"""WebDataset's shards: random access, patterns, damage."""

import io
import json
import pickle
import re
import tarfile

import numpy as np
import pytest
from qa_helpers import (
    SKIP,
    make_images,
    own_cache,  # noqa: F401
    reasons,
    said,
    scenes,
    talks,
    written,
)

from mmvlm.datasets.readers.web_dataset import WebShardDataset
from mmvlm.datasets.tiny_scenes.writers.web_shards import encoded_image, talk_of
from mmvlm.registry import DATASETS

IMAGE = encoded_image(scenes(num=1)[0], "png")


def shard(path, members):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            if data is None:
                entry.type = tarfile.DIRTYPE
                file.addfile(entry)
                continue
            data = data if isinstance(data, bytes) else data.encode()
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))


def config(root, pattern="s/*.tar", **options):
    file = dict(data_root=str(root), ann_file=pattern)
    return dict(type="WebShardDataset", **file, **options)


def two(*keys):
    return [m for k in keys for m in ((f"{k}.png", IMAGE), (f"{k}.txt", f"c {k}\n"))]


def test_scenes_come_back(tmp_path):
    samples, (captions, conversations) = written("web_shards", tmp_path, num=25)

    found, turns = talks(captions), talks(conversations)

    assert [said(t) for t in found] == [["", sample.caption] for sample in samples]
    for talk, sample in zip(turns, samples, strict=True):
        wanted = [t["value"].removeprefix("<image>\n") for t in talk_of(sample)]
        assert said(talk) == wanted and talk.meta == {"json.sample": sample.id}
        assert talk.turns[0].parts[0].index == 0
    shown = [image for (image,) in make_images(captions)]
    assert all(
        np.array_equal(a, s.image()) for a, s in zip(shown, samples, strict=True)
    )
    assert len(list((tmp_path / "shards").iterdir())) == 2


def test_keys_end_at_the_first_dot_and_folders_are_passed_over(tmp_path):
    members = [
        ("a", None),
        ("a/1.PNG", IMAGE),
        ("a/1.seg.png", b""),
        ("a/1.txt", "x"),
    ]
    shard(tmp_path / "s/0.tar", [*members, ("b/1.png", IMAGE), ("b/1.txt", "y")])

    found = talks(config(tmp_path))

    assert [t.id for t in found] == ["a/1", "b/1"]
    assert [said(t)[1] for t in found] == ["x", "y"]


def test_patterns_name_shards_in_their_order(tmp_path):
    for number in (0, 2, 10):
        shard(tmp_path / f"s/p-{number:04d}.tar", two(f"k{number}"))

    everything = [t.id for t in talks(config(tmp_path, "s"))]
    some = [t.id for t in talks(config(tmp_path, "s/p-{0000,0010}.tar"))]

    assert everything == ["k0", "k2", "k10"] and some == ["k0", "k10"]
    with pytest.raises(FileNotFoundError, match=r"1 of 3 files .* 's/p-0001\.tar'"):
        talks(config(tmp_path, "s/p-{0000..0002}.tar"))
    with pytest.raises(ValueError, match="runs backwards"):
        talks(config(tmp_path, "s/p-{3..1}.tar"))


def test_reading_in_any_order_and_after_pickling(tmp_path):
    samples, (captions, _) = written("web_shards", tmp_path, num=25)
    dataset = DATASETS.build(captions)
    order = np.random.default_rng(0).permutation(25).tolist()

    copy = pickle.loads(pickle.dumps(dataset))

    for place in order:
        talk = copy[place]["conversation"]
        assert said(talk)[1] == samples[place].caption
        assert talk.images == [encoded_image(samples[place], "png")]


def test_columns_of_json_members(tmp_path):
    facts = dict(q=dict(text="Colour?", answers=["red", "red", "blue"]), n=3)
    members = [("1.jpg", IMAGE), ("1.json", json.dumps(facts))]
    shard(tmp_path / "s/0.tar", members)
    columns = dict(image="png;jpg", question="json.q.text", answer="json.q.answers")

    (talk,) = talks(config(tmp_path, columns={**columns, "meta": ["json.n"]}))

    assert said(talk) == ["Colour?", "red"] and talk.meta == {"json.n": 3}


def test_optional_members(tmp_path):
    shard(tmp_path / "s/0.tar", [*two("a"), ("b.txt", "alone")])

    found = talks(config(tmp_path, optional=("image",)))

    assert [len(t.images) for t in found] == [1, 0] and said(found[1])[1] == "alone"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("b.png", IMAGE)], "sample 'b' of .* no member 'txt'; it has .'png'."),
        ([("b.txt", "x")], "no member 'jpg;jpeg;png"),
        ([("b.png", IMAGE), ("b.txt", b"\xff\xfe")], "'txt' cannot be read: 'utf-8'"),
        ([("b.png", IMAGE), ("b.txt", "x"), ("b.txt", "y")], "b.txt' .* comes twice"),
        ([("b", "x")], "member 'b' of .* has no extension"),
        ([*two("b")[:1], ("b.txt", "  ")], "'caption' must be a text"),
    ],
)
def test_a_damaged_sample_is_counted(tmp_path, members, reason):
    shard(tmp_path / "s/0.tar", [*two("a"), *members, *two("z")])

    found = talks(config(tmp_path), **SKIP)

    assert len(found) == 3 and re.search(reason, reasons(found)[0]), reasons(found)
    assert [x.id for x in (found[0], found[2])] == ["a", "z"]


def test_a_key_that_comes_again_is_counted(tmp_path):
    shard(tmp_path / "s/0.tar", two("a", "b"))
    shard(tmp_path / "s/1.tar", two("a"))

    found = talks(config(tmp_path), **SKIP)

    assert [talk.id for talk in found] == ["a", "b", "a"]
    assert "key 'a' comes again" in reasons(found)[0]


def test_an_image_that_is_cut_names_itself(tmp_path):
    shard(tmp_path / "s/0.tar", [("a.png", IMAGE[:40]), ("a.txt", "x")])

    with pytest.raises(
        ValueError, match=r"sample 0 of '\*' .*id 'a'\): image 'number 0"
    ):
        make_images(config(tmp_path))


@pytest.mark.parametrize("cut", [-600, -1024, 700, 100])
def test_a_cut_shard_is_named_whatever_the_policy(tmp_path, cut):
    path = tmp_path / "s/0.tar"
    shard(path, two("a", "b"))
    data = path.read_bytes()
    with tarfile.open(path) as file:
        end = max(m.offset_data + -(-m.size // 512) * 512 for m in file)
    path.write_bytes(data[: end if cut == -1024 else cut if cut > 0 else end + 0 - 600])

    with pytest.raises(
        ValueError, match=r"dataset '\*': shard '.*0\.tar' (cannot|has no)"
    ):
        talks(config(tmp_path), **SKIP)


def test_other_files_are_named(tmp_path):
    import gzip

    (tmp_path / "s").mkdir()
    for content in (b"hello", gzip.compress(b"x" * 2000)):
        (tmp_path / "s/0.tar").write_bytes(content)
        with pytest.raises(ValueError, match=r"0\.tar' cannot be read: .* compressed"):
            talks(config(tmp_path))


def test_a_shard_that_shrinks_later_is_noticed(tmp_path):
    shard(tmp_path / "s/0.tar", two("a", "b"))
    dataset = WebShardDataset("s/0.tar", data_root=str(tmp_path))
    with open(tmp_path / "s/0.tar", "r+b") as file:
        file.truncate(700)

    with pytest.raises(ValueError, match=r"0\.tar' ends inside of bytes"):
        dataset[1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (dict(image="jpg"), "exactly one of"),
        (dict(caption="txt", question="q"), "exactly one of"),
        (dict(caption="txt", photo="jpg"), "expected keys of"),
    ],
)
def test_wrong_columns_are_named(tmp_path, columns, message):
    shard(tmp_path / "s/0.tar", two("a"))

    with pytest.raises(ValueError, match=message):
        talks(config(tmp_path, columns=columns))


def test_the_index_is_made_once(tmp_path, monkeypatch):
    shard(tmp_path / "s/0.tar", two("a"))
    talks(config(tmp_path))
    monkeypatch.setattr("mmvlm.datasets.readers.web_dataset.scan_shard", None)

    assert len(talks(config(tmp_path))) == 1
