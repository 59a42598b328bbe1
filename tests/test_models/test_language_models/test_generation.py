"""Batched generation gives the tokens of batch 1."""

import pytest
import torch

from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.language_models.padding import left_pad


def _model(**options):
    torch.manual_seed(0)
    model = HFCausalLM.tiny(initializer_range=0.4, **options).eval()
    return model


def _prompts(count=64):
    generator = torch.Generator().manual_seed(1)
    lens = torch.randint(2, 12, (count,), generator=generator).tolist()
    return lens, torch.randint(3, 128, (sum(lens),), generator=generator)


@pytest.mark.parametrize("attention", ["segment", "eager", "batched"])
def test_batched_greedy_tokens_equal_batch_one(attention):
    model = _model(attention=attention)
    lens, ids = _prompts()
    embeds = model.embed(ids)

    together = model.generate(embeds, tuple(lens), max_new_tokens=4)

    alone = [
        model.generate(piece, (len(piece),), max_new_tokens=4)[0]
        for piece in embeds.split(lens)
    ]
    assert [t.tolist() for t in together] == [t.tolist() for t in alone]
    assert len({tuple(t.tolist()) for t in together}) > 32


def test_greedy_tokens_equal_argmax_of_the_training_forward():
    model = _model()
    _, ids = _prompts(1)
    tokens = ids.tolist()

    (reply,) = model.generate(model.embed(ids), (len(ids),), max_new_tokens=5)

    for token in reply.tolist():
        now = torch.tensor(tokens)
        offsets = torch.tensor([0, len(now)]).int()
        hidden = model(model.embed(now), torch.arange(len(now)), offsets, (len(now),))
        assert model.logits(hidden)[-1].argmax().item() == token
        tokens.append(token)


def test_stop_ids_and_stop_strings_end_a_reply():
    model = _model()
    lens, ids = _prompts(4)
    embeds = model.embed(ids)
    free = model.generate(embeds, tuple(lens), max_new_tokens=8)
    third = free[0].tolist()[2]

    by_id = model.generate(embeds, tuple(lens), max_new_tokens=8, stop_ids=[third])
    by_text = model.generate(
        embeds,
        tuple(lens),
        max_new_tokens=8,
        stop_strings=[f"<{third}>"],
        decode=lambda row: "".join(f"<{token}>" for token in row),
    )

    assert by_id[0].tolist() == free[0].tolist()[: free[0].tolist().index(third) + 1]
    assert by_text[0].tolist()[: len(by_id[0])] == by_id[0].tolist()
    with pytest.raises(ValueError, match="need 'decode'"):
        model.generate(embeds, tuple(lens), stop_strings=["x"])


def test_streamer_sees_every_token_and_takes_one_sample():
    class Streamer:
        def __init__(self):
            self.seen = []

        def put(self, value):
            self.seen += value.flatten().tolist()

        def end(self):
            self.seen.append("end")

    model, streamer = _model(), Streamer()
    _, ids = _prompts(1)
    embeds = model.embed(ids)

    (reply,) = model.generate(embeds, (len(ids),), max_new_tokens=4, streamer=streamer)

    assert streamer.seen[-5:] == [*reply.tolist(), "end"]
    with pytest.raises(ValueError, match="takes one sample, got 2"):
        model.generate(embeds, (1, len(ids) - 1), streamer=streamer)


def test_unknown_generation_fields_are_refused():
    model = _model()

    with pytest.raises(ValueError, match=r"unknown fields \['max_tokens'\]"):
        model.generate(torch.zeros(2, 48), (2,), max_tokens=3)


def test_sampling_defaults_of_the_model_do_not_reach_greedy_search():
    model = _model()
    _, ids = _prompts(1)
    embeds = model.embed(ids)
    plain = model.generate(embeds, (len(ids),), max_new_tokens=4)[0].tolist()

    model.model.generation_config.repetition_penalty = 50.0

    assert model.generate(embeds, (len(ids),), max_new_tokens=4)[0].tolist() == plain
    assert model.model.generation_config.repetition_penalty == 50.0


def test_left_pad_keeps_order_and_marks_padding():
    embeds = torch.arange(1.0, 6).unsqueeze(1)

    batch, mask = left_pad(embeds, (2, 3))

    assert batch.squeeze(-1).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert mask.tolist() == [[0, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    "options", [dict(num_return_sequences=2), dict(max_length=9), dict(eos_token_id=1)]
)
def test_options_that_change_what_is_returned_are_refused(options):
    model = _model()
    lens, ids = _prompts(2)

    with pytest.raises(ValueError, match=f"{next(iter(options))} is not taken"):
        model.generate(model.embed(ids), tuple(lens), **options)
    model.generate(
        model.embed(ids), tuple(lens), max_new_tokens=1, num_return_sequences=1
    )
