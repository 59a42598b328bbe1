import json
import multiprocessing
import pickle

import pytest
from torch.utils.data import DataLoader

from mmvlm.datasets.bad_samples import BadRecord, BadSampleCounter, DataError
from mmvlm.datasets.collate import collate_flat
from mmvlm.datasets.mixture import MixtureDataset
from mmvlm.datasets.quarantine import QuarantineFile
from mmvlm.datasets.readers.llava import LLaVADataset


@pytest.fixture
def broken(llava, make):
    """Six samples, of which 1 has no image and 4 a text file as image."""
    config = llava.write([make.record(i) for i in range(6)])
    (llava.root / "pics/nested/1.png").unlink()
    (llava.root / "pics/nested/4.png").write_text("text")
    return config


def run(dataset, counter, workers=0):
    loader = DataLoader(
        dataset, batch_size=2, num_workers=workers, collate_fn=collate_flat
    )
    ids = []
    for batch in loader:
        bad = batch["bad_records"]
        counter.add(bad, len(batch["data_samples"]) + len(bad))
        ids += [s.sample_id for s in batch["data_samples"]]
    return ids


@pytest.mark.parametrize("workers", [0, 2])
def test_skip_leaves_out_counts_and_reports(broken, pipeline, workers):
    dataset = LLaVADataset(
        **broken, pipeline=pipeline, bad_samples=dict(policy="skip", max_fraction=0.5)
    )
    counter = BadSampleCounter.from_dataset(dataset)

    ids = run(dataset, counter, workers)
    counter.check()

    assert ids == ["id0", "id2", "id3", "id5"]
    assert counter.num_bad == 2 and counter.num_seen == 6
    report = counter.report()
    assert "ann: 2 bad" in report and "does not exist" in report
    assert "sample 4 (id 'id4'" in report and "is not an image" in report


def test_more_than_max_fraction_stops(broken, pipeline):
    dataset = LLaVADataset(
        **broken, pipeline=pipeline, bad_samples=dict(policy="skip", max_fraction=0.3)
    )
    counter = BadSampleCounter.from_dataset(dataset)
    run(dataset, counter)

    with pytest.raises(
        DataError, match=r"2 of 6 samples are bad, more than .*max_fraction=0\.3"
    ):
        counter.check()


def test_one_early_failure_does_not_stop_a_long_run():
    counter = BadSampleCounter(max_fraction=0.01, total=100_000)
    records = [BadRecord("d", i, "", "p", "r") for i in range(11)]

    counter.add(records[:1], 8)
    counter.check()
    counter.add(records[1:], 8)

    with pytest.raises(DataError, match="11 of 16 samples"):
        counter.check()


def test_limits_of_a_mixture_are_averaged_by_size(llava, make):
    config = llava.write([make.record(i) for i in range(4)])
    one = LLaVADataset(**config, name="a", bad_samples=dict(max_fraction=0.4))
    two = LLaVADataset(
        **config, name="b", indices=1, bad_samples=dict(max_fraction=0.9)
    )

    counter = BadSampleCounter.from_dataset(MixtureDataset([one, two]))

    assert counter.max_fraction == pytest.approx((4 * 0.4 + 0.9) / 5)


def test_report_without_bad_samples():
    counter = BadSampleCounter()
    counter.add([], 4)

    counter.check()
    assert counter.report() == "Bad samples: none of 4."


class TooLong(ValueError):
    counted_as = "dropped"


def test_dropped_samples_are_counted_apart_under_every_policy(llava, make):
    def drop(item):
        raise TooLong("sample is 12 tokens too long")

    config = llava.write([make.record(0)])
    dataset = LLaVADataset(**config, pipeline=[drop])
    counter = BadSampleCounter(max_fraction=0.0)

    counter.add([dataset[0]], 1)
    counter.check()

    assert dataset[0].kind == "dropped" and counter.num_bad == 0
    assert "ann: 1 dropped" in counter.report()


def test_quarantine_lists_once_and_is_not_tried_again(broken, pipeline, llava):
    file = llava.root / "lists" / "bad.jsonl"
    policy = dict(policy="quarantine", file=str(file), max_fraction=0.5)
    dataset = LLaVADataset(**broken, pipeline=pipeline, bad_samples=policy)

    for _ in range(2):
        run(dataset, BadSampleCounter(1.0), workers=2)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    llava.image("nested/1.png")  # repaired, but listed: stays out until unlisted
    again = LLaVADataset(**broken, pipeline=pipeline, bad_samples=policy)
    counter = BadSampleCounter.from_dataset(again)
    ids = run(again, counter)

    assert sorted(row["index"] for row in rows) == [1, 4]
    assert set(rows[0]) == {"dataset", "index", "id", "path", "reason"}
    assert ids == ["id0", "id2", "id3", "id5"]
    assert counter.counts == {("ann", "quarantined"): 2}
    with pytest.raises(DataError, match="2 of 6"):
        counter.max_fraction = 0.1
        counter.check()


def test_quarantine_survives_a_torn_line(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"dataset": "d", "ind')
    file = QuarantineFile(str(path))

    file.append(BadRecord("d", 3, "x", "p", "why"))
    file.append(BadRecord("d", 3, "x", "p", "why"))

    assert QuarantineFile(str(path)).reason("d", 3, "x") == "why"
    assert len(path.read_text().splitlines()) == 2
    assert file.reason("d", 3, "y") is None


def _append(path, worker):
    file = QuarantineFile(path)
    for number in range(20):
        file.append(BadRecord("d", number, "x", "p", f"by {worker} " + "z" * 5000))


def test_many_writers_leave_whole_lines(tmp_path):
    path = str(tmp_path / "bad.jsonl")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append, args=(path, n)) for n in range(3)]

    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    with open(path) as file:
        rows = [json.loads(line) for line in file]
    assert sorted(row["index"] for row in rows) == list(range(20))


def test_bad_record_is_picklable():
    record = BadRecord("d", 1, "x", "p", "r")

    assert pickle.loads(pickle.dumps(record)) == record


def test_damaged_record_under_skip_is_a_bad_record(llava, make):
    config = llava.write(["oops", make.record(1, images=0)])

    dataset = LLaVADataset(**config, bad_samples=dict(policy="skip"))

    assert dataset[0] == BadRecord(
        "ann", 0, "", dataset.ann_file, dataset[0].reason, "bad"
    )
    assert "expected a record" in dataset[0].reason
