"""Samples beyond a language model's positions are said, counted, or refused."""

import logging
from types import SimpleNamespace

import pytest
import torch

from mmvlm.models.language_models.context_length import PositionGuard, num_positions
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (None, 4096),
        (dict(type="linear", factor=4.0), 16384),
        (dict(rope_type="dynamic", factor=2.0), 8192),
        (
            dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=2048),
            8192,
        ),
        (dict(rope_type="llama3", factor=8.0), 4096),
        (dict(rope_type="longrope", long_factor=[1.0]), 4096),
        (dict(rope_type="default", rope_theta=1e4), 4096),
    ],
)
def test_positions_count_rope_scaling(scaling, expected):
    config = SimpleNamespace(max_position_embeddings=4096, rope_scaling=scaling)

    assert num_positions(config) == expected
    assert num_positions(SimpleNamespace()) is None


def run(model, length):
    embeds = model.embed(torch.zeros(length, dtype=torch.int64))
    offsets = torch.tensor([0, length], dtype=torch.int32)
    with torch.no_grad():
        return model(embeds, torch.arange(length), offsets, (length,))


def test_training_and_generation_warn_once_and_count(monkeypatch):
    said = []
    monkeypatch.setattr(
        "mmvlm.models.language_models.context_length.print_log",
        lambda text, logger, level: said.append((text, level)),
    )
    model = HFCausalLM.tiny(max_position_embeddings=16).eval()

    run(model, 16)
    assert not said
    for _ in range(3):
        run(model, 20)
    model.generate(model.embed(torch.ones(14, dtype=torch.int64)), (14,))

    ((text, level),) = said
    assert "20 tokens exceed max_position_embeddings=16" in text
    assert level == logging.WARNING and model.position_guard.count == 4


def test_learned_positions_are_refused_instead_of_an_index_error():
    model = HFCausalLM(
        config=dict(
            model_type="gpt2", n_embd=48, n_layer=2, n_head=4, n_positions=16,
            vocab_size=128, bos_token_id=1, eos_token_id=None,
        ),
        attention="padded",
    ).eval()  # fmt: skip

    with pytest.raises(ValueError, match=r"20 tokens exceed max_pos.*=16.*learned"):
        run(model, 20)
    (reply,) = model.generate(
        model.embed(torch.ones(12, dtype=torch.int64)), (12,), max_new_tokens=50
    )
    assert len(reply) <= 4
    with pytest.raises(ValueError, match="17 tokens of prompt and reply"):
        model.generate(model.embed(torch.ones(16, dtype=torch.int64)), (16,))


@pytest.mark.parametrize("share_prefix", [True, False])
def test_replies_end_where_their_own_positions_end(monkeypatch, share_prefix):
    said = []
    monkeypatch.setattr(
        "mmvlm.models.language_models.hf_causal_lm.print_log",
        lambda text, *_: said.append(text),
    )
    torch.manual_seed(0)
    model = HFCausalLM.tiny(
        model_type="gpt2", n_embd=48, n_layer=2, n_head=4, max_position_embeddings=24,
        initializer_range=0.2,
    ).eval()  # fmt: skip
    lengths = (20, 3, 16, 20, 5)
    prompts = model.embed(torch.arange(sum(lengths))).detach()
    options = dict(max_new_tokens=9, stop_ids=[], share_prefix=share_prefix)

    together = model.generate(prompts, lengths, **options)

    alone = [
        model.generate(one, (len(one),), **options)[0]
        for one in prompts.split(list(lengths))
    ]
    assert [len(reply) for reply in together] == [4, 9, 8, 4, 9]
    assert [one.tolist() for one in together] == [one.tolist() for one in alone]
    assert "3 of 5 replies end before max_new_tokens=9, the first after 4" in said[0]


def test_steps_count_the_rows_of_the_whole_batch():
    model = HFCausalLM.tiny(
        model_type="gpt2", n_embd=48, n_layer=2, n_head=4, max_position_embeddings=24
    ).eval()
    rows = []

    replies = model.generate(
        *(model.embed(torch.arange(23)), (20, 3)),
        max_new_tokens=9,
        stop_ids=[],
        on_step=lambda step: rows.append(len(step.logits)),
    )

    assert rows == [2] * 4 and [len(reply) for reply in replies] == [4, 4]


def test_learned_positions_have_one_axis():
    model = HFCausalLM.tiny(model_type="gpt2", n_embd=48, n_layer=2, n_head=4).eval()
    prompt, places = model.embed(torch.arange(5)), torch.arange(5)

    model.generate(prompt, (5,), max_new_tokens=1, position_ids=places)
    with pytest.raises(ValueError, match="those of the prompts have 3 axes"):
        model.generate(prompt, (5,), position_ids=places.expand(3, -1))


def test_guard_tells_of_every_tenfold(monkeypatch):
    said = []
    monkeypatch.setattr(
        "mmvlm.models.language_models.context_length.print_log",
        lambda text, *_: said.append(text),
    )
    guard = PositionGuard(4, learned=False)

    for _ in range(120):
        guard.check([5, 2])

    assert len(said) == 3 and "(100 samples so far)" in said[-1]
