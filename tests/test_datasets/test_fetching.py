"""Items of a batch are those that come one by one, whatever fails among them."""

import json

import numpy as np
import pytest

from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.mixture import MixtureDataset
from mmvlm.datasets.readers.llava import LLaVADataset


def facts(item):
    if isinstance(item, BadRecord):
        return item
    sample, image = item["data_samples"], item["inputs"]["inputs"]["image"]
    return sample.sample_id, sample.noise, image.values.numpy().tobytes()


@pytest.fixture
def broken(llava, make):
    """Twenty samples, of which 3 has no image and 12 a text file as image."""
    config = llava.write([make.record(i) for i in range(20)])
    (llava.root / "pics/nested/3.png").unlink()
    (llava.root / "pics/nested/12.png").write_text("text")
    return config


def test_a_batch_is_its_items(broken, pipeline):
    dataset = LLaVADataset(**broken, pipeline=pipeline, bad_samples=dict(policy="skip"))
    positions = [*range(19, -1, -1), 4, 4]

    batch = dataset.__getitems__(positions)

    assert [facts(i) for i in batch] == [facts(dataset[p]) for p in positions]
    assert [n for n, i in enumerate(batch) if isinstance(i, BadRecord)] == [7, 16]


def test_members_of_a_mixture_keep_their_places_and_visits(broken, pipeline):
    skip = dict(pipeline=pipeline, bad_samples=dict(policy="skip"))
    members = [LLaVADataset(**broken, **skip, name=name) for name in "ab"]
    mixture = MixtureDataset(members, weights=[2.0, 0.5])
    positions = np.random.default_rng(0).permutation(len(mixture)).tolist()

    batch = mixture.__getitems__(positions)

    assert [facts(i) for i in batch] == [facts(mixture[p]) for p in positions]


def test_the_first_bad_sample_is_named_though_a_later_one_fails_sooner(llava, make):
    def fail(item):
        raise ValueError("late")

    config = llava.write([make.record(i) for i in range(3)])
    (llava.root / "pics/nested/2.png").unlink()
    dataset = LLaVADataset(**config, pipeline=[dict(type="mmvlm.LoadImages"), fail])

    with pytest.raises(DataError, match=r"sample 0 of 'ann'.*late"):
        dataset.__getitems__([0, 1, 2])


def test_a_fault_of_the_code_is_told_under_every_policy(llava, make):
    skip = dict(policy="skip", max_fraction=1.0)
    config = llava.write([make.record(0), make.record(1)])
    dataset = LLaVADataset(**config, pipeline=[lambda item: None], bad_samples=skip)
    (record, _) = dataset.__getitems__([0, 1])
    assert "returned NoneType, expected a dict" in record.reason

    dataset.pipeline.transforms[:] = [lambda item: item.absent]
    with pytest.raises(RuntimeError, match="no attribute 'absent'"):
        dataset.__getitems__([0, 1])


def test_a_sample_twice_in_a_batch_is_listed_once(broken, pipeline, llava):
    policy = dict(policy="quarantine", file=str(llava.root / "bad.jsonl"))
    dataset = LLaVADataset(**broken, pipeline=pipeline, bad_samples=policy)

    records = dataset.__getitems__([3, 3])

    assert [one.kind for one in records] == ["bad", "quarantined"]
    rows = (llava.root / "bad.jsonl").read_text().splitlines()
    assert [json.loads(row)["index"] for row in rows] == [3]


@pytest.mark.parametrize("name", ["fetch", "__getitem__"])
def test_what_a_subclass_overrides_holds_in_a_batch_too(llava, make, pipeline, name):
    def override(self, position, *visit):
        return "own", position

    own = type("Own", (LLaVADataset,), {name: override})
    dataset = own(**llava.write([make.record(i) for i in range(3)]), pipeline=pipeline)

    assert dataset.__getitems__([2, 0]) == [("own", 2), ("own", 0)]


def test_a_position_outside_is_refused(broken, pipeline):
    dataset = LLaVADataset(**broken, pipeline=pipeline)

    with pytest.raises(IndexError, match=r"position 20 outside 0\.\.19"):
        dataset.__getitems__([0, 20])


def test_a_file_too_long_to_be_read_at_once_gives_the_same(
    broken, pipeline, monkeypatch
):
    dataset = LLaVADataset(**broken, pipeline=pipeline, bad_samples=dict(policy="skip"))
    at_once = [facts(item) for item in dataset.__getitems__(range(20))]

    monkeypatch.setattr("mmvlm.datasets.transforms.loading._AT_ONCE", 0)

    assert [facts(item) for item in dataset.__getitems__(range(20))] == at_once
