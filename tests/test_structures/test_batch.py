"""Streams, inputs and targets of a batch."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from mmvlm.structures import (
    EncodedSample,
    InputLayout,
    Inputs,
    SampleInputs,
    Slot,
    Targets,
    TokenStream,
    ViewLayout,
    VLMBatch,
)

X = -100


def layout(views=1):
    return ViewLayout((4, 4), (4, 4), views)


def flat(*entries):
    shapes = tuple(tuple(one.shape) for one in entries)
    return torch.cat([one.flatten() for one in entries]), shapes


def encoded(ids, labels, position_ids=None):
    return EncodedSample(np.array(ids), np.array(labels), position_ids=position_ids)


def test_streams_are_joined_sample_after_sample():
    stream = TokenStream.join(
        [encoded([5, 6, 7], [5, X, 7]), encoded([8], [8]), encoded([1, 9], [X, 9])]
    )

    assert stream.input_ids.tolist() == [5, 6, 7, 8, 1, 9]
    assert stream.position_ids.tolist() == [0, 1, 2, 0, 0, 1]
    assert stream.cu_seqlens.tolist() == [0, 3, 4, 6] and len(stream) == 6
    # The first label of a sample has no row before it in its own sample.
    assert stream.target_rows.tolist() == [1, 4] and stream.targets.tolist() == [7, 9]
    assert stream.num_targets == 2 and stream.seq_lens == (3, 1, 2)


def test_positions_of_samples_are_joined_axis_by_axis():
    first = np.array([[0, 1], [0, 2], [0, 3]])
    second = np.array([[0], [4], [5]])

    stream = TokenStream.join(
        [encoded([1, 2], [X, X], first), encoded([3], [X], second)]
    )

    assert stream.position_ids.tolist() == [[0, 1, 0], [0, 2, 4], [0, 3, 5]]


def test_samples_without_positions_do_not_mix_with_others():
    with pytest.raises(ValueError, match="1 of 2 samples have position_ids"):
        TokenStream.join([encoded([1], [X], np.array([0])), encoded([3], [X])])


@pytest.mark.parametrize("axes", [(), (3,)])
def test_a_cut_takes_every_field_of_the_tokens(axes):
    count = 5
    rows = dict(
        input_ids=np.arange(count),
        labels=np.arange(count),
        position_ids=np.zeros((*axes, count), np.int64),
    )
    others = dict(slots=[], marks=[], answer=None)
    assert {field.name for field in fields(EncodedSample)} == {*rows, *others}
    sample = EncodedSample(**rows, **others)

    short = sample.cut(3)
    assert len(short) == 3
    for name in rows:
        assert getattr(short, name).shape[-1] == 3, name
    assert TokenStream.join([sample.cut(3), sample]).position_ids.shape[-1] == 8

    talk = EncodedSample(np.array([1, 2]), np.array([X, X]), answer=sample)
    assert talk.cut(4).answer.position_ids.shape == (*axes, 2)
    assert encoded([1, 2], [X, X]).cut(1).position_ids is None


@pytest.fixture
def mixed():
    """Images of two views, one view and two views; the second is larger."""
    entries = [torch.full((3, 2, 2), float(n)) for n in range(5)]
    entries[2] = torch.full((3, 4, 2), 2.0)
    values, shapes = flat(*entries)
    index = torch.tensor([4, 5, 0, 1, 2, 9])
    layouts = (layout(2), layout(), layout(2))
    return Inputs(values, (0, 0, 1), layouts, index, (2, 3, 1), shapes=shapes)


def test_inputs_of_two_sizes_are_split_into_groups(mixed):
    (small, first), (large, second) = mixed.same_shapes()

    assert (small, large) == ([0, 2], [1])
    assert first.values[:, 0, 0, 0].tolist() == [0, 1, 3, 4] and not first.shapes
    assert first.slot_index.tolist() == [4, 5, 9] and first.slot_lens == (2, 1)
    assert first.owner == (0, 1) and first.num_views == (2, 2)
    assert second.values.shape == (1, 3, 4, 2) and second.slot_index.tolist() == [
        0,
        1,
        2,
    ]


def test_entries_and_single_inputs_have_their_own_shapes(mixed):
    assert [tuple(one.shape) for one in mixed.entries()] == list(mixed.shapes)
    assert mixed.of(0)[:, 0, 0, 0].tolist() == [0, 1]
    assert mixed.of(1).shape == (1, 3, 4, 2)
    assert mixed.of(2)[:, 0, 0, 0].tolist() == [3, 4]


def test_stacked_inputs_are_one_group_and_selectable():
    values = torch.arange(6.0).view(6, 1)
    inputs = Inputs(
        values, (0, 1, 1), (layout(2), layout(1), layout(3)), parent=(1, 0, 2)
    )

    ((numbers, group),) = inputs.same_shapes()
    some = inputs.select([2, 0])

    assert numbers == [0, 1, 2] and group is inputs
    assert some.values.flatten().tolist() == [3, 4, 5, 0, 1]
    assert some.owner == (1, 0) and some.parent == (2, 1) and some.slot_index is None
    assert inputs.of(1).flatten().tolist() == [2]
    assert len(inputs.select([])) == 0 and inputs.select([]).values.shape == (0, 1)


def test_arrays_of_one_shape_are_stacked_and_others_kept_apart():
    same = SampleInputs.join([np.zeros((2, 3, 4, 4)), np.ones((1, 3, 4, 4))])
    other = SampleInputs.join([np.zeros((2, 3, 4, 4)), np.ones((1, 3, 8, 4))])

    assert same.values.shape == (3, 3, 4, 4)
    assert [len(one[0]) for one in other.values] == [4, 4, 8]


@pytest.mark.parametrize(
    ("inputs", "slots", "message"),
    [
        (
            SampleInputs(torch.zeros(1, 2), (layout(),)), [],
            r"'s': 0 slots for 'image' \(inputs \[\]\) in the text, but 1 inputs",
        ),
        (SampleInputs([]), [Slot(0, 0, 1)], "'s': 1 slots .* but 0 inputs"),
        (
            SampleInputs(torch.zeros(2, 2), (layout(), layout())),
            [Slot(0, 0, 1), Slot(0, 1, 1)],
            r"2 slots for 'image' \(inputs \[0, 0\]\)",
        ),
        (
            SampleInputs(torch.zeros(3, 2), (layout(2),)), [Slot(0, 0, 1)],
            "'s': 3 views, but the layouts of its 1 inputs of 'image' say 2",
        ),
        (
            SampleInputs(torch.zeros(1, 2), (layout(),), fills_slots=False),
            [Slot(0, 0, 1)],
            "1 slots for 'image' .* but 0 inputs",
        ),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit_the_text_are_refused_by_sample(inputs, slots, message):
    with pytest.raises(ValueError, match=message):
        inputs.check("image", "s", slots)


def test_slots_of_other_kinds_do_not_count():
    one = SampleInputs(torch.zeros(1, 2), (InputLayout("audio", (2,)),))

    one.check("audio", "s", [Slot(0, 0, 1), Slot(0, 3, 1, "audio")])


def test_batch_moves_its_tensors_only():
    ids = torch.arange(3)
    stream = TokenStream.join([encoded([0, 1, 2], [X, 1, 2])])
    image = Inputs(torch.zeros(1, 3, 4, 4), (0,), (layout(),), ids[:1], (1,))
    learnt = Targets(ids[:1], (0,), Inputs(torch.ones(1, 4), (0,)))
    batch = VLMBatch(dict(text=stream), dict(image=image), dict(box=learnt), ("a",))

    moved = batch.to("meta")

    for tensor in (
        *(moved.text.input_ids, moved.text.target_rows, moved.inputs["image"].values),
        *(moved.inputs["image"].slot_index, moved.targets["box"].rows),
        moved.targets["box"].values.values,
    ):
        assert tensor.is_meta
    assert (moved.text.seq_lens, moved.sample_ids) == ((3,), ("a",))
    assert moved.text.num_targets == 2 and moved.num_samples == 1
    assert not any(t.is_meta for t in (batch.text.input_ids, image.values))


def test_the_decoder_is_trained_and_the_encoder_filled():
    one, other = (TokenStream.join([encoded([n], [X])]) for n in range(2))

    batch = VLMBatch(dict(encoder=one, decoder=other))

    assert batch.prompt is one and batch.text is other
    assert VLMBatch(dict(text=one)).prompt is VLMBatch(dict(text=one)).text is one


def test_samples_of_inputs_are_named():
    images = Inputs(torch.zeros(2, 1), (1, 1))
    batch = VLMBatch({}, dict(image=images), sample_ids=("a", "b"))

    assert batch.sample_of("image", 1) == "sample 'b'"
    batch.sample_ids = ()
    assert batch.sample_of("image", 0) == "sample 1"
