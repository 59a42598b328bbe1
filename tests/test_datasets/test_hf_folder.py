"""Data sets as Hugging Face's package saves them."""

import json
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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

from mmvlm.datasets.tiny_scenes.questions import questions_of
from mmvlm.datasets.tiny_scenes.writers.web_shards import encoded_image, talk_of
from mmvlm.registry import DATASETS

IMAGE = encoded_image(scenes(num=1)[0], "png")
MESSAGES = [
    dict(role="user", content="<image>\nWho?"),
    dict(role="assistant", content="A man."),
]


def parquet(root, rows, name="p.parquet", **options):
    root.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), root / name, **options)
    return dict(type="HFFolderDataset", data_root=str(root), ann_file=name)


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_come_back(tmp_path, split):
    samples, configs = written("hf_folder", tmp_path, split, num=12)
    questions, messages, captions = configs
    wanted = [(s, q) for s in samples for q in questions_of(s)]

    found = talks(questions)

    assert [said(t) for t in found] == [[q.text, q.answer] for _, q in wanted]
    assert [t.meta["task"] for t in found] == [q.task for _, q in wanted]
    for (image,), (sample, _) in zip(make_images(questions), wanted, strict=True):
        assert np.array_equal(image, sample.image())
    told = [s for s in samples if questions_of(s)]
    assert [said(t)[1] for t in talks(captions)] == [s.caption for s in told]
    for talk, sample in zip(talks(messages), told, strict=True):
        assert said(talk) == [
            t["value"].removeprefix("<image>\n") for t in talk_of(sample)
        ]
        assert talk.images == [encoded_image(sample, "png")]


def test_what_another_process_gets(tmp_path):
    _, (questions, messages, _) = written("hf_folder", tmp_path)

    for config in (questions, messages):
        dataset = DATASETS.build(config)
        first = dataset[1]["conversation"]
        copy = pickle.loads(pickle.dumps(dataset))
        assert copy[1]["conversation"] == first
        assert (np.asarray(dataset.lengths) > 0).all()


def test_a_dictionary_of_splits(tmp_path):
    written("hf_folder", tmp_path, "train")
    (tmp_path / "hf/dataset_dict.json").write_text('{"splits": ["train", "val"]}')
    shutil.copytree(tmp_path / "hf/train", tmp_path / "hf/val")
    columns = dict(question="question", answer="answer")
    config = dict(type="HFFolderDataset", data_root=str(tmp_path), ann_file="hf")

    found = talks({**config, "columns": columns}, split="val")

    assert len(found) == len(talks({**config, "columns": columns}, split="train"))
    assert found[0].images == []  # no image column was named
    with pytest.raises(
        ValueError, match=r"split='dev', expected one of \['train', 'val"
    ):
        talks({**config, "columns": columns}, split="dev")


def test_splits_of_parquet_files(tmp_path):
    _, (_, messages, _) = written("hf_folder", tmp_path, "train")
    written("hf_folder", tmp_path, "test")

    with pytest.raises(
        ValueError, match=r"split=None, expected one of \['test', 'train"
    ):
        talks(messages, split=None)
    assert talks(messages)[0].id.startswith("train")
    one = {**messages, "ann_file": "hf_parquet/data/train-00000-of-00002.parquet"}
    both = {
        **messages,
        "ann_file": "hf_parquet/data/train-{00000,00001}-of-00002.parquet",
    }
    assert len(talks(one)) < len(talks(both)) == len(talks(messages))


def test_messages_keep_images_where_they_stand(tmp_path):
    content = [
        dict(type="text", text="First:"),
        dict(type="image", text=None),
        dict(type="text", text="second:"),
        dict(type="image", text=None),
    ]
    answer = [dict(type="text", text="Two cats.")]
    rows = [
        dict(
            messages=[
                dict(role="system", content=[dict(type="text", text="Be brief.")]),
                dict(role="user", content=content),
                dict(role="assistant", content=answer),
            ],
            images=["a.png", "b.png"],
        )
    ]
    config = parquet(tmp_path, rows)

    (talk,) = talks(config, columns=dict(conversations="messages", image="images"))

    assert [type(p).__name__ for p in talk.turns[1].parts] == ["Text", "Image"] * 2
    assert talk.images == ["a.png", "b.png"] and said(talk)[2] == "Two cats."
    assert talk.turns[0].role == "system"


def test_llava_turns_as_lists_and_as_json(tmp_path):
    turns = [
        {"from": "human", "value": "<image>\nWho?"},
        {"from": "gpt", "value": "A man."},
    ]
    columns = dict(conversations="talk", image="image", id="name", meta=["source"])
    for number, talk in enumerate((turns, json.dumps(turns), json.dumps(MESSAGES))):
        image = dict(bytes=IMAGE, path="x.png")
        rows = [dict(talk=talk, image=image, name=7, source="vg")]
        config = parquet(tmp_path / str(number), rows)

        (found,) = talks(config, columns=columns)

        assert said(found) == ["Who?", "A man."] and found.images == [IMAGE]
        assert found.id == "7" and found.meta == {"source": "vg"}


def test_null_images_are_text_alone(tmp_path):
    rows = [
        dict(q="Who?", a=["x", "y", "y"], image=dict(bytes=IMAGE, path=None)),
        dict(q="Why?", a=["z"], image=None),
    ]
    config = {**parquet(tmp_path, rows), "columns": dict(question="q", answer="a")}
    config["columns"]["image"] = "image"

    found = talks(config)

    assert [len(t.images) for t in found] == [1, 0]
    assert [said(t)[1] for t in found] == ["y", "z"]
    dataset = DATASETS.build(config)
    assert [length > 0 for length in dataset.lengths] == [True, False]


def test_multiple_choice_columns(tmp_path):
    rows = [dict(q="Who?", o=["a", "b", "c"], c="C"), dict(q="Why?", o=["a"], c="C")]
    config = parquet(tmp_path, rows)
    columns = dict(question="q", choices="o", choice="c")

    first, second = talks(
        config, columns=columns, task=dict(type="MultipleChoice"), **SKIP
    )

    assert said(first) == ["Who?\nA. a\nB. b\nC. c", "C"]
    assert "'choice' must be an index or letter of 1 choices" in second.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(messages=[]), "must be a list of turns, got []"),
        (dict(messages=[dict(role="tool", content="x")]), "must have a role of"),
        (dict(image=None), "1 images in the messages|expected|<image>"),
        (dict(image=dict(bytes=None, path=None)), "holds None, expected bytes"),
    ],
)
def test_a_damaged_row_is_counted(tmp_path, change, reason):
    row = dict(messages=MESSAGES, image=dict(bytes=IMAGE, path=None))
    config = parquet(tmp_path, [row, {**row, **change}, row])
    columns = dict(conversations="messages", image="image")

    found = talks(config, columns=columns, **SKIP)

    if change == dict(image=None):  # the tag is plain text then, as in LLaVA's files
        assert found[1].images == [] and "<image>" in said(found[1])[0]
    else:
        assert len(reasons(found)) == 1 and reason in found[1].reason


def test_cut_files_are_named_whatever_the_policy(tmp_path):
    _, (questions, messages, _) = written("hf_folder", tmp_path)
    arrow = sorted((tmp_path / "hf/train").glob("*.arrow"))[0]
    whole = arrow.read_bytes()
    for size in (len(whole) // 2, len(whole) - 8, 4):
        arrow.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"dataset .*\.arrow' cannot be read"):
            talks(questions, **SKIP)
    part = sorted((tmp_path / "hf_parquet/data").glob("train*"))[0]
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"\.parquet' cannot be read.*fetch or write"):
        talks(messages, **SKIP)
    arrow.unlink()
    with pytest.raises(FileNotFoundError, match=r"state\.json' lists .*arrow"):
        talks(questions)


def test_a_damaged_page_is_counted(tmp_path):
    rows = [dict(q=f"Question {n}?", a="x" * 50) for n in range(20)]
    config = parquet(tmp_path, rows, row_group_size=5, compression="snappy")
    path = tmp_path / "p.parquet"
    data = bytearray(path.read_bytes())
    meta = pq.ParquetFile(path).metadata.row_group(2).column(0)
    start = meta.dictionary_page_offset or meta.data_page_offset
    data[start : start + meta.total_compressed_size] = bytes(meta.total_compressed_size)
    path.write_bytes(data)

    found = talks(config, columns=dict(question="q", answer="a"), **SKIP)

    assert len(found) == 20 and len(reasons(found)) == 5
    assert all("cannot be read" in text for text in reasons(found))


def test_columns_that_are_missing_are_named(tmp_path):
    config = parquet(tmp_path, [dict(q="a")])

    with pytest.raises(ValueError, match=r"no columns \['question'\] .*has \['q'\]"):
        talks(config, columns=dict(question="question"))
    pq.write_table(pa.Table.from_pylist([dict(z=1)]), tmp_path / "p2.parquet")
    with pytest.raises(ValueError, match=r"has the columns \['q'\], .* has \['z'\]"):
        talks({**config, "ann_file": "p*.parquet"}, columns=dict(question="q"))
    with pytest.raises(FileNotFoundError, match="do not exist"):
        talks({**config, "ann_file": "gone"}, columns=dict(question="q"))


def test_the_blind_run_never_gives_an_image_back(tmp_path):
    samples, (questions, *_) = written("hf_folder", tmp_path)

    plain, blind = talks(questions), talks(questions, shuffle_images=True)

    # Every image stands in the file once per question.
    assert len(plain) > len(samples) == len({t.images[0] for t in plain})
    assert all(a.images != b.images for a, b in zip(plain, blind, strict=True))
    assert {t.images[0] for t in blind} == {t.images[0] for t in plain}
