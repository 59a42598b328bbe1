"""Given replies are as likely as the training forward over prompt and reply says."""

import random

import pytest
import torch

from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.language_models.reply_scores import reply_log_probs
from mmvlm.models.language_models.seq2seq import Seq2SeqLM
from mmvlm.structures import IGNORE_INDEX, TokenStream


def build(kind):
    torch.manual_seed(0)
    names = dict(n_embd=48, n_layer=2, n_head=4) if kind == "gpt2" else {}
    if kind == "mistral":  # with a window, replies are led
        names["sliding_window"] = 8
    config = dict(model_type=kind, initializer_range=0.2, pad_token_id=0, **names)
    return HFCausalLM.tiny(**config, attention="eager").eval()


def questions(model, count, longest):
    """Prompts that share beginnings, each with one to five replies."""
    draw, generator = random.Random(count), torch.Generator().manual_seed(count)

    def ids(least, most):
        size = (draw.randint(least, most),)
        return torch.randint(10, 128, size, generator=generator)

    images, prompts, replies = [ids(20, 30) for _ in range(3)], [], []
    for _ in range(count):
        prompts.append(torch.cat([draw.choice(images), ids(1, 9)]))
        amount = draw.randint(1, 5)
        replies.append([ids(1, longest).tolist() for _ in range(amount)])
    return prompts, replies


def scores(model, prompts, replies, **options):
    embeds = model.embed(torch.cat(prompts)).detach()
    return reply_log_probs(model, embeds, list(map(len, prompts)), replies, **options)


def of_training(model, prompt, reply):
    """Log probabilities of a reply by one forward pass over all tokens."""
    ids = torch.cat([prompt, prompt.new_tensor(reply)])
    offsets = torch.tensor([0, len(ids)], dtype=torch.int32)
    with torch.no_grad():
        hidden = model(model.embed(ids), torch.arange(len(ids)), offsets, (len(ids),))
        logs = model.logits(hidden).log_softmax(-1)
    places = range(len(prompt) - 1, len(ids) - 1)
    return [float(logs[n, token]) for n, token in zip(places, reply, strict=True)]


def flat(found):
    return torch.tensor([x for own in found for reply in own for x in reply])


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral"])
@pytest.mark.parametrize("longest", [1, 6])
@pytest.mark.parametrize("share_prefix", [True, False])
def test_scores_are_those_of_the_training_forward(kind, longest, share_prefix):
    model = build(kind)
    prompts, replies = questions(model, 12, longest)

    together = scores(model, prompts, replies, share_prefix=share_prefix)

    expected = [
        [of_training(model, prompt, reply) for reply in own]
        for prompt, own in zip(prompts, replies, strict=True)
    ]
    assert [list(map(len, own)) for own in together] == [
        list(map(len, own)) for own in replies
    ]
    torch.testing.assert_close(flat(together), flat(expected), atol=2e-5, rtol=1e-5)
    alone = [
        scores(model, [prompt], [own], share_prefix=share_prefix)[0]
        for prompt, own in zip(prompts, replies, strict=True)
    ]
    torch.testing.assert_close(flat(together), flat(alone), atol=2e-5, rtol=1e-5)


def test_prompts_are_read_once_whatever_the_number_of_options():
    model, shapes = build("llama"), []
    prompt = torch.arange(10, 60)
    prompts = [torch.cat([prompt, prompt[n : n + 3]]) for n in range(4)]
    hook = model.decoder.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["inputs_embeds"].shape[:2])),
        with_kwargs=True,
    )

    scores(model, prompts, [[[5], [6], [7], [8]]] * 4)
    letters, shapes[:] = list(shapes), []
    scores(model, prompts, [[[5, 9], [6, 9, 4]]] * 4)
    hook.remove()

    assert letters == [(1, 50), (4, 3)]
    assert shapes == [(1, 50), (4, 3), (4, 1), (4, 2)]


def test_learned_positions_must_hold_the_replies():
    model = build("gpt2")
    model.position_guard.limit = 16
    prompts = [torch.arange(20, 34), torch.arange(20, 25)]

    scores(model, prompts, [[[3, 4]], [[3] * 11]])
    with pytest.raises(ValueError, match="17 tokens of prompt and reply"):
        scores(model, prompts, [[[3, 4, 5]], [[3]]])


def test_a_long_prompt_cuts_no_reply_to_another():
    model = build("gpt2")
    model.position_guard.limit = 16
    prompts, replies = [torch.arange(20, 34), torch.arange(20, 25)], [[[3]], [[3] * 11]]

    found = scores(model, prompts, replies, share_prefix=False)

    expected = scores(model, prompts, replies)
    torch.testing.assert_close(flat(found), flat(expected), atol=2e-5, rtol=1e-5)


def test_a_reply_that_is_not_scored_to_its_end_is_an_error(monkeypatch):
    model = build("mistral")
    generate = model.generate
    monkeypatch.setattr(
        model, "generate", lambda *a, **k: generate(*a, **{**k, "max_new_tokens": 2})
    )

    with pytest.raises(ValueError, match="ended after 2 of the 3 tokens"):
        scores(model, [torch.arange(20, 34)], [[[3, 4, 5]]])


def test_an_encoder_decoder_is_led_along_its_replies():
    torch.manual_seed(0)
    model = Seq2SeqLM.tiny().eval()
    prompts, replies = questions(model, 5, 4)

    found = scores(model, prompts, replies)

    for prompt, own, logs in zip(prompts, replies, found, strict=True):
        for reply, one in zip(own, logs, strict=True):
            expected = of_decoder(model, prompt, reply)
            torch.testing.assert_close(torch.tensor(one), expected, atol=1e-5, rtol=0)


def of_decoder(model, prompt, reply):
    def stream(ids):
        nothing = ids[:0]
        offsets = torch.tensor([0, len(ids)], dtype=torch.int32)
        labels = torch.full_like(ids, IGNORE_INDEX)
        positions = torch.arange(len(ids))
        return TokenStream(
            *(ids, positions, labels, offsets, nothing, nothing), seq_lens=(len(ids),)
        )

    said = torch.tensor([0, *reply])
    with torch.no_grad():
        embeds = model.embed(prompt)
        hidden = model.hidden_states(embeds, stream(prompt), stream(said))
        logs = model.logits(hidden).log_softmax(-1)
    return logs[torch.arange(len(reply)), torch.tensor(reply)]
