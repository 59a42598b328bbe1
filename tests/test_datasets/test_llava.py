import json
from types import SimpleNamespace

import numpy as np
import pytest
from dataset_helpers import identity
from torch.utils.data import DataLoader

from mmvlm.datasets.bad_samples import DataError
from mmvlm.datasets.readers.llava import LLaVADataset
from mmvlm.registry import DATASETS


def facts(items):
    return [
        (int(s.index), s.noise, item["inputs"]["inputs"]["image"].values.sum().item())
        for item in items
        for s in [item["data_samples"]]
    ]


@pytest.mark.parametrize("name", ["ann.json", "ann.jsonl"])
def test_reads_list_and_lines(llava, make, name):
    rows = [make.record(0), make.record(1, images=0), make.record(2, images=2)]
    rows[1]["id"] = 17

    dataset = LLaVADataset(**llava.write(rows, name))

    assert len(dataset) == 3 and dataset.name == "ann"
    talks = [dataset[i]["conversation"] for i in range(3)]
    assert [t.id for t in talks] == ["id0", "17", "id2"]
    assert [t.images for t in talks] == [
        ["nested/0.png"],
        [],
        ["nested/2_0.png", "nested/2_1.png"],
    ]
    assert [t.turns[1].text for t in talks] == ["word word word"] * 3
    item = dataset[2]
    assert item["index"] == 2 and item["dataset"] == "ann"
    assert item["image_root"].endswith("pics")


def test_builds_from_the_registry_with_its_pipeline(llava, make, pipeline):
    rows = [make.record(i) for i in range(2)]

    dataset = DATASETS.build(
        dict(type="LLaVADataset", **llava.write(rows), pipeline=pipeline)
    )
    item = dataset[1]

    assert item["inputs"]["inputs"]["image"].values.shape == (1, 3, 4, 4)
    assert item["data_samples"].image_paths[0].endswith("nested/1.png")
    context = SimpleNamespace(spec=None)
    dataset.bind(context)
    assert dataset.pipeline.transforms[2].context is context


def test_lengths_are_signed_word_counts(llava, make):
    rows = [make.record(0, words=5), make.record(1, images=0, words=2)]

    dataset = LLaVADataset(**llava.write(rows))

    # "<image>\nwhat" counts as two words, as in LLaVA.
    assert dataset.lengths.tolist() == [7, -3]


def test_missing_annotation_file_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"dataset 'gone': annotation file '.*gone\.json' does"
    ):
        LLaVADataset("gone.json", data_root=str(tmp_path))


def test_json_cut_in_the_middle_names_file_and_line(llava, make):
    config = llava.write([make.record(i) for i in range(3)])
    path = llava.root / "ann.json"
    text = json.dumps([make.record(i) for i in range(3)], indent=1)
    path.write_text(text[: len(text) // 2])

    with pytest.raises(
        ValueError, match=r"ann\.json' is not valid JSON at line \d+ column .* was cut"
    ):
        LLaVADataset(**config)


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_jsonl_cut_in_its_last_line_names_the_line(llava, make, policy):
    config = llava.write([make.record(i) for i in range(3)], "ann.jsonl")
    path = llava.root / "ann.jsonl"
    path.write_text(path.read_text()[:-20])

    with pytest.raises(ValueError, match=r"line 3 of '.*ann\.jsonl' is not .* cut"):
        LLaVADataset(**config, bad_samples=dict(policy=policy))


def test_damaged_line_in_the_middle_follows_the_policy(llava, make):
    config = llava.write([make.record(i) for i in range(3)], "ann.jsonl")
    path = llava.root / "ann.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:30], lines[2]]) + "\n")

    with pytest.raises(ValueError, match=r"line 2 of '.*ann\.jsonl' is not valid JSON"):
        LLaVADataset(**config)
    dataset = LLaVADataset(**config, bad_samples=dict(policy="skip"))

    assert "line 2" in dataset[1].reason and dataset[1].index == 1
    assert dataset[2]["conversation"].id == "id2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected a JSON list"),
        (b"hello", "starts with 'hello'; expected a JSON list"),
        (b"[\xff\xfe]", "is not UTF-8 text"),
        (b"[]", "no record of .* is left .0 in the file"),
    ],
)
def test_wrong_file_content_is_named(llava, content, message):
    (llava.root / "ann.json").write_bytes(content)

    with pytest.raises(ValueError, match=message):
        LLaVADataset("ann.json", data_root=str(llava.root))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(image="nested/none.png"), r"image '.*nested/none\.png' does not exist"),
        (dict(image="nested"), r"image '.*nested' is a folder"),
        (dict(image="../../etc/passwd"), r"image path '../../etc/passwd' leaves"),
        (dict(image="/etc/passwd"), "image path '/etc/passwd' leaves the folder"),
        (dict(image=7), "'image' must be a path or a list of paths, got 7"),
        (dict(image=""), "'image' must be a path or a list of paths, got ''"),
        (dict(conversations=[{"from": "bot", "value": "a"}]), "bot"),
        (dict(image=["nested/0.png", "nested/1.png"]), "2 images|1 .*<?image>?.* 2"),
    ],
)
def test_damaged_record_names_file_and_sample(llava, make, pipeline, change, message):
    config = llava.write([make.record(0), make.record(1)])
    rows = [make.record(0), {**make.record(1), **change}]
    (llava.root / "ann.json").write_text(json.dumps(rows))
    dataset = LLaVADataset(**config, pipeline=pipeline)

    assert dataset[0]["data_samples"].sample_id == "id0"
    with pytest.raises(
        DataError,
        match=rf"(?s)^sample 1 of 'ann' \(.*ann\.json, id 'id1'\): .*{message}",
    ):
        dataset[1]


def test_text_file_as_image_names_file_and_sample(llava, make, pipeline):
    config = llava.write([make.record(0)])
    (llava.root / "pics/nested/0.png").write_text("hello, I am text")

    with pytest.raises(
        DataError,
        match=r"^sample 0 of 'ann' .*0\.png' is not an image: it starts with b'hello",
    ):
        LLaVADataset(**config, pipeline=pipeline)[0]


def test_record_that_is_no_object_is_named(llava):
    config = llava.write(["oops"])

    with pytest.raises(DataError, match=r"sample 0 of .* expected a record .* 'oops'"):
        LLaVADataset(**config)[0]


def test_position_outside_is_an_index_error(llava, make):
    dataset = LLaVADataset(**llava.write([make.record(0)]))

    with pytest.raises(IndexError, match=r"position 1 outside 0\.\.0"):
        dataset[1]


def test_fault_of_the_code_is_never_skipped(llava, make):
    def broken(item):
        raise AttributeError("no such thing")

    config = llava.write([make.record(0)])
    dataset = LLaVADataset(
        **config, pipeline=[broken], bad_samples=dict(policy="skip", max_fraction=1)
    )

    with pytest.raises(RuntimeError, match=r"sample 0 of 'ann'.*no such thing"):
        dataset[0]


def test_filter_and_indices(llava, make):
    rows = [make.record(i, images=i % 2, words=i + 1) for i in range(6)]
    config = llava.write(rows)

    by_filter = LLaVADataset(
        **config, filter_cfg=dict(modality="image", max_words=7), name="f"
    )
    first = LLaVADataset(**config, indices=2)
    last = LLaVADataset(**config, indices=-2)
    chosen = LLaVADataset(**config, indices=[4, 1])

    assert [by_filter[i]["index"] for i in range(len(by_filter))] == [1, 3]
    assert [first[i]["index"] for i in range(2)] == [0, 1]
    assert [last[i]["index"] for i in range(2)] == [4, 5]
    assert [chosen[i]["index"] for i in range(2)] == [4, 1]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (dict(filter_cfg=dict(modalty="image")), "expected the keys modality"),
        (dict(filter_cfg=dict(modality="smell")), "expected the keys modality"),
        (dict(filter_cfg=dict(max_words=0)), "no record of .* is left"),
        (dict(indices=[0, 9]), r"distinct and lie in 0\.\.1; outside: \[9\]"),
        (dict(indices=[1, 1]), "must be distinct"),
        (dict(bad_samples=dict(policy="ignore")), "policy='ignore': expected one of"),
        (dict(bad_samples=dict(max_fraction=2)), "max_fraction=2: expected 0 to 1"),
        (dict(bad_samples=dict(policy="quarantine")), "'quarantine' needs a file"),
    ],
)
def test_wrong_options_are_named(llava, make, extra, message):
    config = llava.write([make.record(0), make.record(1)])

    with pytest.raises(ValueError, match=message):
        LLaVADataset(**config, **extra)


def test_randomness_depends_on_seed_epoch_and_index_only(llava, make, pipeline):
    config = llava.write([make.record(i) for i in range(4)])
    dataset = LLaVADataset(**config, pipeline=pipeline, seed=3)

    first = facts(dataset[i] for i in range(4))
    again = facts(dataset[i] for i in reversed(range(4)))[::-1]
    part = LLaVADataset(**config, pipeline=pipeline, seed=3, indices=[2])
    dataset.set_epoch(1)
    later = facts(dataset[i] for i in range(4))

    assert first == again and facts([part[0]]) == [first[2]]
    assert len({noise for _, noise, _ in first + later}) == 8
    other = LLaVADataset(**config, pipeline=pipeline, seed=4)
    assert facts([other[0]]) != [first[0]]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_items_do_not_depend_on_workers_and_epoch_reaches_them(
    llava, make, pipeline, context
):
    config = llava.write([make.record(i) for i in range(5)])
    dataset = LLaVADataset(**config, pipeline=pipeline)
    expected = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        expected.append(facts(dataset[i] for i in range(5)))
    dataset.set_epoch(0)
    loader = DataLoader(
        dataset,
        batch_size=2,
        num_workers=2 if context == "fork" else 1,
        persistent_workers=True,
        collate_fn=identity,
        multiprocessing_context=context,
    )

    seen = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        seen.append(facts(item for batch in loader for item in batch))

    assert seen == expected and expected[0] != expected[1]


def test_error_can_be_rebuilt_from_its_message(llava, make, pipeline):
    # DataLoader does so to pass a worker's error on to the main process.
    dataset = LLaVADataset(
        **llava.write([make.record(0)], images=False), pipeline=pipeline
    )
    with pytest.raises(DataError, match=r"0\.png' does not exist") as info:
        dataset[0]

    assert str(type(info.value)(str(info.value))) == str(info.value)


def test_blind_run_gives_every_sample_other_images(llava, make):
    rows = [make.record(i) for i in range(7)]
    rows += [make.record(i, images=2) for i in range(7, 10)]
    rows += [make.record(10, images=0)]
    rows.append({**make.record(11), "image": "nested/0.png"})  # shares an image
    config = llava.write(rows)

    def images(**extra):
        dataset = LLaVADataset(**config, **extra)
        return [dataset[i]["conversation"].images for i in range(len(rows))]

    plain = images()
    blind = images(shuffle_images=True)

    assert all(a != b for a, b in zip(plain, blind, strict=True) if a)
    assert [len(b) for b in blind] == [len(a) for a in plain]
    assert sorted({tuple(b) for b in blind}) == sorted({tuple(a) for a in plain})
    assert blind[11] == blind[0]
    assert blind == images(shuffle_images=True)
    assert blind != images(shuffle_images=True, seed=1)


def test_blind_run_needs_two_images(llava, make):
    config = llava.write([make.record(0), make.record(1, images=0)])

    with pytest.raises(ValueError, match="shuffle_images needs two different"):
        LLaVADataset(**config, shuffle_images=True)


def test_signed_lengths_survive_damaged_records(llava, make):
    rows = [make.record(0), "oops", {"id": 1}, {**make.record(3), "image": 5}]

    dataset = LLaVADataset(**llava.write(rows, images=False))

    assert dataset.lengths.tolist() == [5, -1, -1, -5]
    assert np.all(dataset.lengths_at(7) == dataset.lengths)


def test_metainfo_names_the_file(llava, make):
    dataset = LLaVADataset(**llava.write([make.record(0)]), name="mine")

    assert dataset.metainfo["name"] == "mine"
    assert dataset.metainfo["ann_file"].endswith("ann.json")


def test_byte_order_mark_and_blank_lines_are_read(llava, make):
    config = llava.write([make.record(0)], "ann.jsonl")
    path = llava.root / "ann.jsonl"
    path.write_text("\ufeff\n" + path.read_text() + "\n\n", encoding="utf-8")

    assert LLaVADataset(**config)[0]["conversation"].id == "id0"


def test_weights_of_turns_are_honoured_or_refused(llava, make):
    rows = [make.record(n, images=0) for n in range(4)]
    for row, (key, value) in zip(
        rows,
        [("weight", 0), ("train", True), ("loss", False), ("loss_mask", 0.5)],
        strict=True,
    ):
        row["conversations"][1][key] = value
    rows[1]["conversations"][0]["weight"] = 0
    dataset = LLaVADataset(**llava.write(rows))

    trained = [dataset[n]["conversation"].turns[1].is_supervised for n in range(3)]

    assert trained == [False, True, False]
    with pytest.raises(DataError, match=r"turn 1 has loss_mask=0\.5; a turn is"):
        dataset[3]


def test_images_may_stand_in_the_plural(llava, make):
    rows = [make.record(0), make.record(1, images=2), make.record(2)]
    for row in rows[:2]:
        row["images"] = row.pop("image")
    rows[2]["images"] = ["other.png"]
    dataset = LLaVADataset(**llava.write(rows))

    talks = [dataset[n]["conversation"] for n in range(2)]

    assert [len(talk.images) for talk in talks] == [1, 2]
    assert all("images" not in talk.meta for talk in talks)
    with pytest.raises(DataError, match="keep one of them"):
        dataset[2]


def test_one_object_over_several_lines_is_not_called_cut(llava, make):
    options = llava.write([make.record(0)])
    path = llava.root / "whole.json"
    for value in (make.record(0), {"data": [make.record(0)]}):
        path.write_text(json.dumps(value, indent=1))
        with pytest.raises(ValueError, match="is one JSON object over several lines"):
            LLaVADataset(**{**options, "ann_file": "whole.json"})
