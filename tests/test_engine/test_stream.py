"""The stream of micro-batches: epochs of different lengths, places that hold."""

import numpy as np
import pytest
from engine_toys import toy_config
from torch.utils.data import DataLoader

from mmvlm.datasets.samplers.packing import PackedBatchSampler
from mmvlm.engine.runner import build_runner
from mmvlm.engine.runner.stream import MicroBatchStream


class Data:
    """Sixty samples of one to nine tokens."""

    name = "data"

    def __init__(self):
        self.tokens = np.random.default_rng(0).integers(1, 10, 60)

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, position):
        return position

    def token_lengths_at(self, epoch):
        return self.tokens


def stream(workers=0):
    data = Data()
    sampler = PackedBatchSampler(
        data, 1, seed=0, rank=0, world_size=1, pack_length=10, buffer_size=12
    )
    loader = DataLoader(
        data, batch_sampler=sampler, collate_fn=list, num_workers=workers
    )
    return MicroBatchStream(loader)


def test_lengths_of_epochs_add_up():
    one = stream()
    lengths = [one.length_at(epoch) for epoch in range(6)]

    assert len(set(lengths)) > 1
    assert one.length_of(6) == sum(lengths)
    assert one.epochs_of(sum(lengths)) == 6 and one.epochs_of(sum(lengths) + 1) == 7
    for epoch, length in enumerate(lengths):
        assert (one.epoch, one.position, len(one)) == (epoch, 0, length)
        seen = sorted(i for _ in range(length) for i in one.next())
        assert seen == list(range(60))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_new_stream_goes_on_at_any_place(workers):
    one = stream()
    places, batches = [], []
    for _ in range(one.length_of(3)):
        places.append((one.epoch, one.position))
        batches.append(one.next())

    for number in (3, one.length_at(0), len(batches) - 2):
        two = stream(workers)
        two.seek(*places[number])
        assert [two.next() for _ in batches[number : number + 4]] == batches[
            number : number + 4
        ]


def packed_toy(work_dir, **sampler):
    cfg = toy_config(work_dir)
    cfg.train_dataloader.sampler = dict(type="RandomBatchSampler", **sampler)
    return build_runner(cfg)


def test_resuming_a_changed_plan_names_the_change(tmp_path):
    runner = packed_toy(tmp_path / "one")
    runner.train()
    state = runner.train_loop.state_dict()

    same = packed_toy(tmp_path / "two")
    same.train_loop.load_state_dict(state)
    assert same.train_loop.state_dict() == state

    other = packed_toy(tmp_path / "three", seed=5)
    message = r"dealt differently: sampler\.seed: 0 then, 5 now"
    with pytest.raises(ValueError, match=message):
        other.train_loop.load_state_dict(state)
