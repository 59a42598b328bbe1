"""Inputs of several kinds, each for an encoder and a connector of its own."""

import numpy as np
import pytest
import torch

from mmvlm.models.connectors.base import Connector, Filled
from mmvlm.models.connectors.linear import LinearConnector
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.vlms.base import VisionLanguageModel
from mmvlm.structures import (
    SLOT_TOKEN_ID,
    EncodedSample,
    FixedTokenCount,
    InputLayout,
    Inputs,
    TokenStream,
    ViewLayout,
    VLMBatch,
)
from mmvlm.testing import tiny_vlm

HIGH = dict(type="TinyVisionEncoder", width=24, num_layers=2, image_size=48)


class FourTokens(LinearConnector):
    """Four tokens of a view, whatever its size."""

    token_count = FixedTokenCount(4)

    def forward(self, features):
        return super().forward(features)[:, :4]


class SoundProjector(Connector):
    """Sounds as they are, one row each."""

    source = None
    fills = reads = ("audio",)
    token_count = FixedTokenCount(1)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.proj = torch.nn.Linear(6, self.out_width)

    def forward(self, features):
        raise AssertionError("there are no features")

    def fill(self, kind, feed):
        return Filled(self.proj(feed.inputs(kind).values))


def stream_of(ids):
    ids = np.array(ids)
    labels = np.where(ids == SLOT_TOKEN_ID, -100, ids)
    return TokenStream.join([EncodedSample(ids, labels)])


def batch_of(kinds, lengths, sides):
    """Return a sample with one view of each kind, and text behind each."""
    ids, inputs = [1], {}
    for kind in kinds:
        length, side = lengths[kind], sides.get(kind, 32)
        generator = torch.Generator().manual_seed(0)
        inputs[kind] = Inputs(
            torch.randn(1, 3, side, side, generator=generator),
            (0,),
            (ViewLayout((side, side), (side, side)),),
            torch.arange(len(ids), len(ids) + length),
            (length,),
        )
        ids += [*[SLOT_TOKEN_ID] * length, 5]
    stream = stream_of([*ids, 6, 7])
    return VLMBatch(dict(text=stream), inputs, sample_ids=("s",))


@pytest.mark.parametrize("with_images", [True, False])
def test_slots_have_the_length_that_the_connector_of_their_kind_says(with_images):
    parts = dict(
        encoders=dict(high=dict(HIGH, reads=["image_hi"])),
        connectors=dict(
            detail=dict(type=FourTokens, source="high", fills=["image_hi"]),
            sound=dict(type=SoundProjector),
        ),
    )
    if with_images:
        model = tiny_vlm(**parts)
    else:
        model = VisionLanguageModel(HFCausalLM.tiny(), **parts).eval()
    batch = batch_of(["image_hi"], dict(image_hi=4), dict(image_hi=48))

    rows = model.embed(batch)[1:5]

    inputs = batch.inputs["image_hi"]
    expected = model.detail(model.high(inputs.values, (-2,)))[0]
    torch.testing.assert_close(rows, expected)
    inputs.slot_lens = (3,)
    with pytest.raises(ValueError, match="image_hi 0 of the batch gives 4 tokens"):
        model.embed(batch)
    model.touch_all_parts = True
    model.loss(batch_of([], {}, {}))["loss"].backward()
    assert all((w.grad == 0).all() for w in model.detail.parameters())


@pytest.mark.parametrize("tower", [False, True])
def test_a_connector_of_inputs_as_they_are_needs_no_encoder(tower):
    sound = dict(sound=dict(type=SoundProjector))
    if tower:
        model = tiny_vlm(connectors=sound)
    else:
        model = VisionLanguageModel(HFCausalLM.tiny(), connectors=sound).eval()
    values = torch.randn(1, 6)
    layout = InputLayout("audio", (6,))
    audio = Inputs(values, (0,), (layout,), torch.tensor([1]), (1,))
    batch = VLMBatch(dict(text=stream_of([1, SLOT_TOKEN_ID, 5])), dict(audio=audio))

    found = model.embed(batch)[1]

    torch.testing.assert_close(found, model.sound.proj(values)[0])
    model.touch_all_parts = True
    text = VLMBatch(dict(text=stream_of([1, 4, 5])))
    model.train()(text, mode="loss")["loss"].backward()
    assert all(p.grad is not None for p in model.sound.parameters())
