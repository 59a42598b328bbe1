"""Tensors that are kept serve every kind of call that follows."""

import pytest
import torch
from torch._subclasses import FakeTensorMode

from mmvlm.models.language_models.attention import _window_mask
from mmvlm.models.language_models.flex_attention import _block_mask
from mmvlm.models.ops.deform_attn import _level_tensors
from mmvlm.models.ops.small_attention import _causal_bias
from mmvlm.models.utils.tensor_cache import cache_tensors

CPU = torch.device("cpu")
CALLS = [
    (_causal_bias, (29, torch.float32), lambda made: [made]),
    (_window_mask, (29, 5, CPU), lambda made: [made]),
    (_level_tensors, (((29, 31),), CPU), list),
    (_block_mask, ((29, 100), None, "cpu"), lambda made: [made.kv_num_blocks]),
]
MODES = dict(
    fake=lambda: FakeTensorMode(allow_non_fake_inputs=True),
    inference=torch.inference_mode,
    meta=lambda: torch.device("meta"),
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("call", "arguments", "tensors"), CALLS)
def test_a_training_gets_plain_tensors_after_any_mode(call, arguments, tensors, mode):
    # create_block_mask needs values: flex attention is never counted.
    with MODES["inference" if call is _block_mask else mode]():
        call(*arguments)

    for tensor in tensors(call(*arguments)):
        assert type(tensor) is torch.Tensor
        assert not tensor.is_meta and not tensor.is_inference()


def test_equal_arguments_share_one_tensor():
    made = []

    @cache_tensors(2)
    def ones(length):
        made.append(length)
        return torch.ones(length)

    assert ones(3) is ones(3)
    assert [len(ones(n)) for n in (1, 2, 3)] == [1, 2, 3]
    assert made == [3, 1, 2, 3]
