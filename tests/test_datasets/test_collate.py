import numpy as np
import pytest
import torch
from mmengine.runner import Runner

import mmvlm.datasets  # noqa: F401
from mmvlm.datasets.bad_samples import BadRecord
from mmvlm.datasets.collate import EMPTY_SAMPLE_ID, collate_flat
from mmvlm.structures import (
    IGNORE_INDEX,
    SLOT_TOKEN_ID,
    EncodedSample,
    InputLayout,
    Mark,
    SampleInputs,
    Slot,
    ViewLayout,
)

P, X = SLOT_TOKEN_ID, IGNORE_INDEX


def views(count, size=4, value=0):
    return torch.full((count, 3, size, size), value, dtype=torch.uint8)


@pytest.fixture
def items(make):
    two = [Slot(1, 0, 2), Slot(0, 3, 3)]  # the second image stands first
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
    stream, images = batch.text, batch.inputs["image"]
    assert stream.seq_lens == (3, 7, 4) and stream.cu_seqlens.tolist() == [0, 3, 10, 14]
    assert stream.cu_seqlens.dtype == torch.int32
    assert stream.position_ids.tolist() == [0, 1, 2, *range(7), 0, 1, 2, 3]
    # Images in the order of their index, not of their place in the text.
    assert images.slot_index.tolist() == [6, 7, 8, 3, 4, 11]
    assert images.slot_lens == (3, 2, 1) and images.owner == (1, 1, 2)
    assert images.values[:, 0, 0, 0].tolist() == [1, 2, 2, 0]
    assert len(images.layouts) == 3 and batch.sample_ids == ("text", "two", "one")
    # The first label of a sample is never a target: no row of it comes before.
    assert stream.target_rows.tolist() == [1, 8, 11, 12]
    assert stream.targets.tolist() == [7, 9, 3, 4]
    assert stream.num_targets == 4 and batch.denominators == {} == batch.targets
    for name in ("input_ids", "position_ids", "labels", "target_rows"):
        assert getattr(stream, name).dtype == torch.int64
    assert images.slot_index.dtype == torch.int64


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
        labels = sample["inputs"]["streams"]["text"].labels.tolist()
        for place in range(len(labels) - 1):
            if labels[place + 1] != X:
                expected.append((start + place, labels[place + 1]))
        start += len(labels)
    stream = batch.text
    found = zip(stream.target_rows.tolist(), stream.targets.tolist(), strict=True)
    assert list(found) == expected


@pytest.mark.parametrize("given", [[], [BadRecord("d", 1, "x", "p", "r")]])
def test_batch_without_usable_sample_trains_nothing(given):
    result = collate_flat(given)
    batch = result["inputs"]

    assert result["data_samples"] == [] and result["bad_records"] == given
    stream = batch.text
    assert stream.input_ids.shape == (1,) and stream.num_targets == 0
    assert stream.seq_lens == (1,) and batch.inputs == {} == batch.targets
    assert batch.sample_ids == (EMPTY_SAMPLE_ID,)
    assert stream.cu_seqlens.tolist() == [0, 1] and stream.labels.tolist() == [X]


def test_text_only_batch_has_no_inputs(items):
    assert collate_flat(items[:1])["inputs"].inputs == {}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            dict(slots=[Slot(0, 1, 1)], layouts=[]),
            r"'s': 1 slots for 'image' \(inputs \[0\]\) in the text, but 0 inputs",
        ),
        (
            dict(slots=[], layouts=[ViewLayout((4, 4), (4, 4))], views=views(1)),
            "'s': 0 slots .* but 1 inputs",
        ),
        (
            dict(slots=[Slot(0, 1, 1)], views=views(2)),
            "'s': 2 views, but the layouts of its 1 inputs of 'image' say 1",
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


def one_view(make, name, pixels):
    return make.packed(name, [P], [X], [Slot(0, 0, 1)], pixels)


def test_views_of_two_sizes_are_laid_out_flat(make):
    pixels = [torch.randint(0, 255, (1, 3, side, side)) for side in (4, 8, 4)]
    packed = [one_view(make, str(n), one.byte()) for n, one in enumerate(pixels)]

    images = collate_flat(packed)["inputs"].inputs["image"]

    assert images.shapes == ((3, 4, 4), (3, 8, 8), (3, 4, 4))
    assert images.values.shape == (3 * (16 + 64 + 16),)
    for number, one in enumerate(pixels):
        assert torch.equal(images.of(number), one.byte())


def test_inputs_of_two_dtypes_name_both_samples(make):
    two = [one_view(make, "a", views(1)), one_view(make, "b", views(1).float())]

    with pytest.raises(
        ValueError, match=r"sample 'b': .*torch.float32, .* sample 'a' .*torch.uint8"
    ):
        collate_flat(two)


def region(count, *parent):
    layouts = (InputLayout("region", (4,)),) * count
    return SampleInputs(torch.rand(count, 4), layouts, parent, fills_slots=False)


def test_parents_are_images_of_the_batch(make):
    def images(name, *given):
        count = len(given)
        slots = [Slot(number, number, 1) for number in range(count)]
        sample = make.packed(name, [P] * count + [1], [X] * (count + 1), slots)
        one = SampleInputs(views(count), (ViewLayout((4, 4), (4, 4)),) * count)
        sample["inputs"]["inputs"] = dict(image=one, region=region(count, *given))
        return sample

    batch = collate_flat(
        [images("a", 1, 0), make.packed("text", [1], [X]), images("b", 2, 2, 0)]
    )["inputs"]

    regions = batch.inputs["region"]
    assert regions.owner == (0, 0, 2, 2, 2)
    assert regions.parent == (1, 0, 4, 4, 2)
    assert regions.slot_index is None and regions.slot_lens == ()


def marked(make, name, ids, marks, **targets):
    sample = make.packed(name, ids, [X] * len(ids), targets=targets)
    given = [Mark(kind, index, start, start + 1) for kind, index, start in marks]
    sample["inputs"]["streams"]["text"].marks = given
    return sample


def test_targets_follow_the_marks_of_their_head(make):
    first = marked(
        make, "a", [1, 2, 3, 4], [("box", 1, 1), ("mask", 0, 2), ("box", 0, 3)],
        box=[np.zeros(4, np.float32), np.ones(4, np.float32)],
        mask=[np.ones((2, 3), bool)],
    )  # fmt: skip
    none = marked(make, "b", [1, 2], [])
    last = marked(make, "c", [1, 2, 3], [("mask", 0, 2)], mask=[np.zeros((1, 5), bool)])

    batch = collate_flat([first, none, last])["inputs"]

    box, mask = batch.targets["box"], batch.targets["mask"]
    assert len(box) == len(mask) == 2
    # By the number of the target, not by place: mark 1 stands first.
    assert box.rows.tolist() == [3, 1] and box.owner == (0, 0)
    assert box.values.values.tolist() == [[0.0] * 4, [1.0] * 4]
    assert mask.rows.tolist() == [2, 8] and mask.owner == (0, 2)
    shapes = [tuple(one.shape) for one in mask.values.entries()]
    assert shapes == [(2, 3), (1, 5)] and mask.values.entries()[0].all()
    assert batch.to("meta").targets["mask"].values.values.is_meta


def test_a_batch_without_a_target_has_no_entry_of_its_head(make):
    batch = collate_flat([marked(make, "s", [1, 2], [], box=[])])["inputs"]

    assert batch.targets == {}


@pytest.mark.parametrize(
    "marks, targets, message",
    [
        ([("box", 0, 1)], dict(box=[]), "'s': 1 marks that head 'box' .*0 targets"),
        ([("box", 0, 0)], dict(box=[np.ones(4)]), "'s': the token .*'box' .*first"),
    ],
)
def test_marks_without_target_or_state_are_refused(make, marks, targets, message):
    with pytest.raises(ValueError, match=f"sample {message}"):
        collate_flat([marked(make, "s", [1, 2], marks, **targets)])


def test_two_streams_are_joined_and_others_refused(make):
    sample = make.packed("a", [P, 1], [X, X], [Slot(0, 0, 1)], views(1))
    answer = EncodedSample(np.array([5, 6, 7]), np.array([X, 6, 7]))
    text = sample["inputs"]["streams"]["text"]
    sample["inputs"]["streams"] = dict(encoder=text, decoder=answer)

    batch = collate_flat([sample])["inputs"]

    assert batch.prompt.input_ids.tolist() == [P, 1]
    assert batch.text.targets.tolist() == [6, 7] and batch.num_samples == 1
    with pytest.raises(ValueError, match=r"'b': streams \['text'\], but sample 'a'"):
        collate_flat([sample, make.packed("b", [1], [X])])


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
