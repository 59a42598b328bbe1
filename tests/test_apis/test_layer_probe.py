"""Probes read what a layer holds, and nothing where it holds nothing."""

import runpy
from pathlib import Path

import pytest
import torch
from layer_probe import PRINTS, probe_layers

from mmvlm.datasets.tiny_scenes.samples import test_samples as held_out
from mmvlm.datasets.tiny_scenes.samples import training_samples
from mmvlm.datasets.tiny_scenes.styles import FINE
from mmvlm.models.vision_encoders.base import VisionEncoder
from mmvlm.structures import VisionEncoderSpec, VisionFeatures

ROOT = Path(__file__).parents[2]
PARENT = "llava-clip-tiny-l6_mlp2x_llama-tiny_1xb96-800i-ft_tiny-scenes-fine"


class TwoLayers(VisionEncoder):
    """Layer 0 holds the pixels of its patches, layer 1 nothing."""

    blocks = ()

    def __init__(self, size=48, patch=12):
        super().__init__()
        self.spec = VisionEncoderSpec(3 * patch**2, 1, patch, size)
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, pixel_values, select_layers=(-2,)):
        patch, side = self.spec.patch_size, self.spec.image_size
        tokens = torch.nn.functional.unfold(pixel_values, patch, stride=patch).mT
        layers = tuple(self.spec.layer_index(layer) for layer in select_layers)
        states = tuple(tokens * (layer == 0) for layer in layers)
        return VisionFeatures(states, layers, self.spec.grid(side, side), 0, ())

    @classmethod
    def tiny(cls):
        return cls()


def scenes(train, test):
    return (
        training_samples(train, 0, style=FINE),
        held_out(test, 0, taken=set(), style=FINE),
    )


def test_a_layer_is_read_as_far_as_it_holds_something():
    table = probe_layers(TwoLayers(), *scenes(900, 200), epochs=12)

    assert list(table) == [
        ("whole", 0),
        ("whole", 1),
        ("whole", None),
        ("quarters", 1),
    ]
    assert all(list(shares) == list(PRINTS) for shares in table.values())
    assert table["whole", 0]["word", False] > 0.45
    assert table["whole", None]["word", False] > 0.45
    assert table["whole", 1]["word", False] < 0.3
    assert table["quarters", 1]["word", False] < 0.3


def test_probes_repeat_and_layers_can_be_chosen():
    first = probe_layers(TwoLayers(), *scenes(80, 40), layers=[-2], epochs=1)
    again = probe_layers(TwoLayers(), *scenes(80, 40), layers=[0], epochs=1)

    assert first == again
    assert list(first) == [("whole", 0), ("whole", None), ("quarters", 0)]


def test_kinds_that_do_not_occur_are_left_out_and_odd_maps_are_refused():
    plain = training_samples(40, 0), held_out(40, 0, taken=set())
    table = probe_layers(TwoLayers(), *plain, layers=[0], epochs=1)
    assert set(table["whole", 0]) == {("digit", False), ("word", False)}

    with pytest.raises(ValueError, match="3 x 3 cells"):
        probe_layers(TwoLayers(36), *scenes(4, 4))


def test_tool_prints_a_table(capsys):
    main = runpy.run_path(str(ROOT / "tools/analysis/probe_layers.py"))["main"]
    options = "--num 40 --num-test 20 --epochs 1 --tiny --layers 0".split()

    assert main([PARENT, *options, "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    lines = [line for line in printed if line.startswith("| ")]
    assert lines[0].startswith("| tokens of | large digits | small digits |")
    assert [line.split("|")[1].strip() for line in lines[1:]] == [
        "layer 0",
        "layer 1",
        "all layers joined",
        "layer 1, quarter at twice the size",
    ]
    assert main([PARENT, *options, "99"]) == 1
    assert "hidden states 0.." in capsys.readouterr().err
