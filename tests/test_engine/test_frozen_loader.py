"""Workers are forked when nothing of the parent is left for their collector."""

import gc
import os
import signal
import weakref

import pytest
from torch.utils.data import Dataset

from mmvlm.engine.runner.dataloader import FrozenLoader, build_dataloader
from mmvlm.utils import signals


class Frozen(Dataset):
    """Says how many objects the collector of its process leaves alone."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return gc.get_freeze_count()


def test_a_worker_does_not_visit_what_its_parent_holds():
    objects = [[] for _ in range(10_000)]
    counts = list(FrozenLoader(Frozen(), batch_size=None, num_workers=1))
    assert min(counts) > len(objects)


def test_the_parent_collects_what_lived_when_workers_were_forked():
    loop = Heeds()
    loop.itself, dropped = loop, weakref.ref(loop)

    loader = iter(FrozenLoader(Frozen(), batch_size=None, num_workers=1))
    del loop
    gc.collect()

    assert dropped() is None and gc.get_freeze_count() == 0
    assert len(list(loader)) == 2


class Heeds(Dataset):
    """Says whether SIGTERM ends its process."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("is_tool", [True, False])
def test_workers_ignore_sigterm_only_where_a_tool_kills_them(monkeypatch, is_tool):
    if is_tool:
        monkeypatch.setattr(signals._State, "owner", os.getpid())
    cfg = dict(dataset=Heeds(), num_workers=1, sampler=dict(type="DefaultSampler"))

    (heeds,) = build_dataloader(dict(cfg, collate_fn=all))

    assert heeds is not is_tool


def test_without_workers_nothing_is_frozen():
    assert list(FrozenLoader(Frozen(), batch_size=None)) == [0, 0]
