import numpy as np
import pytest
import torch
from mmengine.runner import Runner

import mmvlm.datasets  # noqa: F401
from mmvlm.datasets.bad_samples import BadRecord
from mmvlm.datasets.collate import EMPTY_SAMPLE_ID, collate_flat
from mmvlm.structures import IGNORE_INDEX, SLOT_TOKEN_ID, Slot, ViewLayout

P, X = SLOT_TOKEN_ID, IGNORE_INDEX


def views(count, size=4, value=0):
    return torch.full((count, 3, size, size), value, dtype=torch.uint8)


@pytest.fixture
def items(make):
    two = [Slot(1, 0, 2), Slot(0, 3, 3)]  # the second picture stands first
    return [
        make.packed("text", [5, 6, 7], [5, X, 7]),
        make.packed(
            "two",
            [P, P, 8, P, P, P, 9],
            [X, X, X, X, X, X, 9],
            two,
            torch.cat([views(1, value=1), views(2, value=2)]),
            [ViewLayout((4, 4), (4, 4)), ViewLayout((4, 4), (4, 4), num_views=2)],
        ),
        make.packed("one", [1, P, 3, 4], [1, X, 3, 4], [Slot(0, 1, 1)], views(1)),
    ]


def test_flat_batch_by_hand(items):
    bad = BadRecord("d", 1, "x", "p", "r")

    result = collate_flat([items[0], bad, items[1], items[2]])
    batch = result["inputs"]

    assert result["bad_records"] == [bad]
    assert [s.sample_id for s in result["data_samples"]] == ["text", "two", "one"]
    assert batch.text.seq_lens == (3, 7, 4) and batch.text.cu_seqlens.tolist() == [0, 3, 10, 14]
    assert batch.text.cu_seqlens.dtype == torch.int32
    assert batch.text.position_ids.tolist() == [0, 1, 2, *range(7), 0, 1, 2, 3]
    # Pictures in the order of their index, not of their place in the text.
    assert batch.inputs["image"].slot_index.tolist() == [6, 7, 8, 3, 4, 11]
    assert batch.inputs["image"].slot_lens == (3, 2, 1) and batch.inputs["image"].owner == (1, 1, 2)
    assert batch.inputs["image"].values[:, 0, 0, 0].tolist() == [1, 2, 2, 0]
    assert len(batch.inputs["image"].layouts) == 3 and batch.sample_ids == ("text", "two", "one")
    # The first label of a sample is never a target: no row of it comes before.
    assert batch.text.target_rows.tolist() == [1, 8, 11, 12]
    assert batch.text.targets.tolist() == [7, 9, 3, 4]
    assert batch.text.num_targets == 4 and batch.denominators["text"] is None
    for name in ("input_ids", "position_ids", "labels", "slot_index", "target_rows"):
        assert getattr(batch, name).dtype == torch.int64


def test_targets_equal_a_slow_loop(make):
    rng = np.random.default_rng(0)
    samples = []
    for number in range(20):
        ids = rng.integers(0, 50, rng.integers(1, 9))
        labels = np.where(rng.random(len(ids)) < 0.5, ids, X)
        samples.append(make.packed(str(number), ids.tolist(), labels.tolist()))

    batch = collate_flat(samples)["inputs"]

    expected, start = [], 0
    for sample in samples:
        labels = sample["inputs"]["labels"].tolist()
        for place in range(len(labels) - 1):
            if labels[place + 1] != X:
                expected.append((start + place, labels[place + 1]))
        start += len(labels)
    found = zip(batch.text.target_rows.tolist(), batch.text.targets.tolist(), strict=True)
    assert list(found) == expected


@pytest.mark.parametrize("given", [[], [BadRecord("d", 1, "x", "p", "r")]])
def test_batch_without_usable_sample_trains_nothing(given):
    result = collate_flat(given)
    batch = result["inputs"]

    assert result["data_samples"] == [] and result["bad_records"] == given
    assert batch.text.input_ids.shape == (1,) and batch.text.num_targets == 0
    assert batch.text.seq_lens == (1,) and batch.inputs["image"].values is None
    assert batch.sample_ids == (EMPTY_SAMPLE_ID,)
    assert batch.text.cu_seqlens.tolist() == [0, 1] and batch.text.labels.tolist() == [X]


def test_text_only_batch_has_no_pixels(items):
    batch = collate_flat(items[:1])["inputs"]

    assert batch.inputs["image"].values is None and batch.inputs["image"].slot_index.tolist() == []
    assert batch.inputs["image"].slot_index.dtype == torch.int64


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            dict(slots=[Slot(0, 1, 1)], layouts=[]),
            r"'s': 1 slots \(pictures \[0\]\) in the text, but 0 pictures",
        ),
        (
            dict(slots=[], layouts=[ViewLayout((4, 4), (4, 4))], views=views(1)),
            "'s': 0 slots .* but 1 pictures",
        ),
        (
            dict(slots=[Slot(0, 1, 1)], views=views(2)),
            "'s': 2 views, but the layouts of its 1 pictures say 1",
        ),
        (dict(slots=[Slot(0, 1, 1)]), "'s': 0 views"),
        (
            dict(slots=[Slot(0, 0, 1)], views=views(1)),
            r"'s': its slots cover 1 positions, but 1 positions hold .*elsewhere",
        ),
        (
            dict(slots=[Slot(0, 1, 2)], views=views(1)),
            "'s': its slots cover 2 positions, but 1",
        ),
        (
            dict(slots=[Slot(0, 1, 1), Slot(1, 1, 1)], views=views(2)),
            "'s': its slots cover",
        ),
        (dict(slots=[Slot(0, 2, 9)], views=views(1)), "'[sz]': its slots cover"),
    ],
)
def test_count_mismatch_names_the_sample(make, kwargs, message):
    sample = make.packed("s", [5, P, 7], [X, X, 7], **kwargs)

    with pytest.raises(ValueError, match=f"sample {message}"):
        collate_flat([make.packed("a", [1], [X]), sample, make.packed("z", [1], [X])])


def test_trained_placeholder_names_the_sample(make):
    sample = make.packed("s", [5, P, 7], [X, P, 7], [Slot(0, 1, 1)], views(1))

    with pytest.raises(ValueError, match="sample 's': label -200 is to be trained"):
        collate_flat([make.packed("a", [1, 2], [X, 2]), sample])


def test_views_of_other_size_name_both_samples(make):
    one = make.packed("a", [P], [X], [Slot(0, 0, 1)], views(1))
    two = make.packed("b", [P], [X], [Slot(0, 0, 1)], views(1, size=8))

    with pytest.raises(
        ValueError,
        match=r"sample 'b': views of \(3, 8, 8\) .* sample 'a' .*\(3, 4, 4\)",
    ):
        collate_flat([one, two])


def test_mmengine_builds_the_loader_by_name(llava, make, pipeline):
    config = llava.write([make.record(i, images=i % 2) for i in range(4)])

    loader = Runner.build_dataloader(
        dict(
            batch_size=2,
            collate_fn=dict(type="collate_flat"),
            dataset=dict(type="mmvlm.LLaVADataset", **config, pipeline=pipeline),
            sampler=dict(type="DefaultSampler", shuffle=False),
        )
    )
    batches = list(loader)

    assert [b["inputs"].sample_ids for b in batches] == [("id0", "id1"), ("id2", "id3")]
    assert batches[0]["inputs"].inputs["image"].values.shape == (1, 3, 4, 4)
