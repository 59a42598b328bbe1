"""Heads predict from the states of their tokens, however a reply was made."""

from types import SimpleNamespace

import pytest
import torch

from mmvlm.datasets.processor import VLMProcessor
from mmvlm.models.heads.base import Head
from mmvlm.testing import make_batch, tiny_batch, tiny_vlm


class SayHead(Head):
    """Keeps the states of its token."""

    tokens = ("seg",)

    def predict(self, states, samples, feed):
        for state, sample in zip(states, samples, strict=True):
            sample.pred_state = state


class Words:
    eos_token_id, unk_token_id, all_special_tokens = None, 0, ()

    def __len__(self):
        return 128

    def convert_tokens_to_ids(self, token):
        return dict(seg=7).get(token, 0)

    def decode(self, ids, skip_special_tokens=False):
        return " ".join(map(str, ids))


def saying(position):
    model = tiny_vlm(
        lm=dict(initializer_range=0.3),
        heads=dict(seg=dict(type=SayHead, position=position)),
    )
    template = SimpleNamespace(stop_strings=())
    model.bind(VLMProcessor(Words(), template, steps={}))
    return model, tiny_batch(text_lens=(5, 9, 7), num_images=(1, 0, 2))


def check_states(model, batch, replies):
    """Hold what a head got against a pass over prompt and reply of one sample."""
    prompts = batch.text.input_ids.split(batch.text.seq_lens)
    pixels = batch.inputs["image"].values.split([1, 0, 2])
    shift = -1 if model.seg.position == "before" else 0
    found = []
    for number, reply in enumerate(replies):
        ids = [*prompts[number].tolist(), *reply.pred_ids]
        views = pixels[number] if len(pixels[number]) else None
        hidden = model.hidden_states(make_batch([(ids, ids)], views))
        places = [n for n, one in enumerate(reply.pred_ids) if one == 7]
        rows = [len(prompts[number]) + place + shift for place in places]
        expected = hidden[rows]
        torch.testing.assert_close(reply.pred_state, expected, atol=1e-5, rtol=1e-5)
        found.append(tuple(places))
    return tuple(found)


@pytest.mark.parametrize("position", ["before", "at"])
def test_heads_predict_from_the_states_of_their_tokens(position):
    model, batch = saying(position)
    said = ((1, 4), (2,), ())  # the fifth token is the last that may be said

    def speak(step):
        for row, places in enumerate(said):
            if step.ids.shape[1] in places:
                step.allow(row, [7])
            else:
                step.forbid(row, [7])

    replies = model.predict(batch, max_new_tokens=5, on_step=speak)

    assert check_states(model, batch, replies) == said


@pytest.mark.parametrize("position", ["before", "at"])
def test_states_of_beams_are_those_of_the_reply_that_is_kept(position):
    model, batch = saying(position)
    with torch.no_grad():  # the token is likely, and beams part around it
        model.language_model.model.lm_head.weight[7] *= 3

    replies = model.predict(batch, max_new_tokens=6, num_beams=3)

    assert any(check_states(model, batch, replies))


def test_other_positions_of_states_are_refused():
    with pytest.raises(
        ValueError, match=r"SayHead: position='after'.*\['before', 'at'\]"
    ):
        SayHead(in_width=4, position="after")
