"""The cost model behind MFU."""

import pytest
from torch import nn

from mmvlm.engine.hooks.flops import StepCost, matmul_parameters, peak_tflops
from mmvlm.structures import VisionEncoderSpec


def make(train_llm):
    model = nn.Module()
    model.vision_encoder = nn.Linear(10, 10).requires_grad_(False)
    model.connector = nn.Linear(10, 20)
    model.language_model = nn.ModuleDict(
        dict(embed=nn.Embedding(50, 20), head=nn.Linear(20, 50, bias=False))
    ).requires_grad_(train_llm)
    model.vision_spec = VisionEncoderSpec(10, 2, 7, 28, num_prefix_tokens=1)
    return model


def test_cost_is_six_trained_four_frozen_two_without_graph():
    per_image = (2 * 100 + 6 * 200) * 17

    full = StepCost(make(True)).flops(num_tokens=30, num_images=2, num_samples=3)
    frozen = StepCost(make(False)).flops(30, 2, 3)

    assert full == 6 * 1000 * 30 + per_image * 2
    assert frozen == 4 * 1000 * 30 + per_image * 2


def test_seven_billion_decoder_costs_what_is_published():
    class Config:
        num_hidden_layers, hidden_size = 32, 4096

    model = nn.Module()
    model.language_model = nn.Linear(1, 1)
    model.language_model.config = Config
    cost = StepCost(model)
    cost.per_token = 6 * 6.607e9

    assert cost.per_token == pytest.approx(39.6e9, rel=2e-3)
    assert 0.5e9 < cost.attention * 700 < cost.attention * 1000 < 0.82e9


def test_tied_embedding_counts_as_a_head():
    model = make(True).language_model
    model["head"].weight = model["embed"].weight

    assert matmul_parameters(model) == (1000, 0)


def test_peaks_are_found_by_name():
    assert peak_tflops("NVIDIA H100 80GB HBM3") == 989.0
    assert peak_tflops("unknown") is None
