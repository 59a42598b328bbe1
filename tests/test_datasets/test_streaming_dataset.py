"""Streams: dealt in batches, the same for any workers, resumed exactly."""

import pytest
from dataset_helpers import identity
from qa_helpers import own_cache, said, written  # noqa: F401
from torch.utils.data import DataLoader

from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.readers.streaming import StreamingDataset
from mmvlm.datasets.tiny_scenes.questions import questions_of
from mmvlm.registry import DATASETS

COLUMNS = dict(question="q", answer="a", id="n")


def rows(count):
    return [dict(q=f"Question {n}?", a=["x", "y"], n=n) for n in range(count)]


def stream(count=50, source=None, **options):
    options = dict(columns=COLUMNS, batch_size=2, block_size=9, seed=1) | options
    return StreamingDataset(source or rows(count), **options)


def ids(dataset, workers=0):
    loader = DataLoader(
        dataset, dataset.batch_size, num_workers=workers, collate_fn=identity
    )
    return [[item["conversation"].id for item in batch] for batch in loader]


def test_all_rows_come_once_in_another_order():
    dataset = stream()

    seen = [name for batch in ids(dataset) for name in batch]

    assert sorted(seen, key=int) == [str(n) for n in range(50)]
    assert seen != sorted(seen, key=int) and dataset.num_left_out == 0
    # Blocks of ten (nine, rounded up to whole batches) are shuffled each for itself.
    assert [sorted(map(int, seen[i : i + 10])) for i in range(0, 50, 10)] == [
        list(range(i, i + 10)) for i in range(0, 50, 10)
    ]
    assert ids(stream(shuffle=False))[0] == ["0", "1"]


def test_epochs_and_seeds_have_orders_of_their_own():
    dataset = stream()
    first = ids(dataset)
    dataset.set_epoch(1)

    second = ids(dataset)

    assert second != first and ids(stream(seed=2)) != first
    dataset.set_epoch(0)
    assert ids(dataset) == first


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_do_not_depend_on_workers(workers):
    assert ids(stream(), workers) == ids(stream())


def test_ranks_share_the_same_batches():
    whole = ids(stream(54, block_size=12))

    ranks = [ids(stream(54, block_size=12, rank=r, world_size=3)) for r in range(3)]

    dealt = [batch for group in zip(*ranks, strict=True) for batch in group]
    assert dealt == whole


def test_rows_that_fill_no_round_are_left_out_and_counted():
    two = [stream(23, rank=r, world_size=2) for r in range(2)]

    seen = [ids(dataset) for dataset in two]

    assert [len(batches) for batches in seen] == [5, 5]
    assert [dataset.num_left_out for dataset in two] == [3, 3]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 5, 7])
def test_a_run_goes_on_where_it_stood(done, workers):
    dataset = stream()
    dataset.set_epoch(3)
    whole = ids(dataset)
    state = dataset.state_dict(done)

    other = stream()
    other.load_state_dict(state)
    rest = ids(other, workers)

    assert rest == whole[done:] and other.epoch == 3
    assert other.state_dict(2)["rows"] == (done + 2) * 2
    with pytest.raises(ValueError, match="does not fit seed=5"):
        stream(seed=5).load_state_dict(state)
    with pytest.raises(ValueError, match="rounds of 4 rows"):
        stream(batch_size=4).load_state_dict(dict(state, rows=6))


def test_no_more_than_a_block_is_held():
    taken = []

    def source():
        for number, row in enumerate(rows(1000)):
            taken.append(number)
            yield row

    next(iter(stream(source=source, block_size=20)))

    assert len(taken) == 20


def test_a_hub_stream_of_local_files(tmp_path):
    samples, _ = written("hf_folder", tmp_path, num=6)
    source = dict(
        path="parquet",
        data_files=str(tmp_path / "hf_parquet/data/train-*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "hub"),
    )
    config = dict(
        type="StreamingDataset",
        source=source,
        columns=dict(image="images", caption="caption", id="id"),
        batch_size=1,
        pipeline=[dict(type="LoadImages")],
    )

    items = list(DATASETS.build(config))

    by_id = {s.id: s for s in samples if questions_of(s)}
    assert {item["conversation"].id for item in items} == set(by_id)
    for item in items:
        sample = by_id[item["conversation"].id]
        assert said(item["conversation"])[1] == sample.caption
        assert (item["images"][0] == sample.image()).all()


def test_bad_rows_follow_the_policy():
    source = [*rows(3), dict(q="Who?"), 7, dict(q="", a=["x"], n=5)]

    found = list(stream(source=source, bad_samples=dict(policy="skip"), shuffle=False))

    bad = [item for item in found if isinstance(item, BadRecord)]
    assert [record.index for record in bad] == [3, 4, 5]
    assert "no columns ['a']" in bad[0].reason and "expected a row" in bad[1].reason
    with pytest.raises(DataError, match=r"row 3 of stream 'stream' \(id '3'\)"):
        list(stream(source=source, shuffle=False))


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="batch_size=0"):
        stream(batch_size=0)
    with pytest.raises(ValueError, match="exactly one of"):
        stream(columns=dict(image="i"))
