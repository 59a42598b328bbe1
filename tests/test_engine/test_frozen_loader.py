"""Workers are forked when nothing of the parent is left for their collector."""

import gc

import pytest
from torch.utils.data import Dataset

from mmvlm.engine.runner.dataloader import FrozenLoader


class Frozen(Dataset):
    """Says how many objects the collector of its process leaves alone."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return gc.get_freeze_count()


@pytest.fixture
def thawed():
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_a_worker_does_not_visit_what_its_parent_holds(thawed):
    objects = [[] for _ in range(10_000)]
    counts = list(FrozenLoader(Frozen(), batch_size=None, num_workers=1))
    assert min(counts) > len(objects)


def test_without_workers_nothing_is_frozen(thawed):
    assert list(FrozenLoader(Frozen(), batch_size=None)) == [0, 0]
