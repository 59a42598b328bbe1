"""The pyramid baseline: what flows where."""

import dataclasses

import torch

from mmvlm.models.fusers.fpn import FPNFuser
from mmvlm.structures import VisionEncoderSpec, VisionFeatures

SPEC = VisionEncoderSpec(8, 3, 4, 16)


def test_all_layers_flow_into_a_three_by_three_neighbourhood():
    torch.manual_seed(0)
    fuser = FPNFuser(vision_spec=SPEC, select_layers=[1, 2])
    states = [torch.randn(1, 15, 8, requires_grad=True) for _ in range(2)]

    out = fuser(VisionFeatures(tuple(states), (1, 2), (3, 5))).hidden_states[0]
    out.view(3, 5, 8)[1, 3].sum().backward()

    for state in states:
        reached = state.grad.abs().sum(-1).view(3, 5) > 0
        assert reached[:, 2:].all() and not reached[:, :2].any()


def test_number_of_parameters_follows_the_formula():
    spec = dataclasses.replace(SPEC, width=16)
    fuser = FPNFuser(vision_spec=spec, select_layers=[1, 2, 3])
    assert sum(p.numel() for p in fuser.parameters()) == 3 * 272 + 9 * 256 + 16
