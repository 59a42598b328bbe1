"""Greedy replies that share prefixes are those of each prompt alone."""

from __future__ import annotations

import random

import pytest
import torch

from mmvlm.models.language_models.greedy import ReplyCache, run_cached
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.language_models.padding import left_pad

NEW = 10
STOPS = list(range(0, 128, 9))
#: Questions of the fast form and of the slow one.
SIZES = [96, pytest.param(512, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return HFCausalLM.tiny(initializer_range=0.2).eval()  # says many things


def mixed_questions(model: HFCausalLM, count: int) -> list[torch.Tensor]:
    """Embed conversations of one to three turns about none, one or two images."""
    draw, generator = random.Random(count), torch.Generator().manual_seed(count)
    images = [
        torch.randn(length, 48, generator=generator) * 0.5
        for length in (24, 24, 30, 17, 40, 24, 9, 33)
    ]

    def text(least: int, most: int) -> torch.Tensor:
        ids = torch.randint(10, 128, (draw.randint(least, most),), generator=generator)
        return model.embed(ids).detach()

    system, prompts = text(6, 6), []
    for _ in range(count):
        pieces = [system, *draw.choices(images, k=draw.choice((0, 1, 1, 1, 1, 2)))]
        for _ in range(draw.choice((1, 1, 2, 3))):
            pieces.append(text(1, 12))
        prompts.append(torch.cat(pieces))
    return prompts


def reply(model: HFCausalLM, prompts: list[torch.Tensor], **options) -> list[tuple]:
    lengths = tuple(map(len, prompts))
    options = dict(max_new_tokens=NEW, stop_ids=STOPS, **options)
    replies = model.generate(torch.cat(prompts), lengths, **options)
    return [(one.tolist(), one.finish) for one in replies]


def batches(order: list[int], prompts: list[torch.Tensor], budget: int) -> list:
    """Cut an order so that rows times the longest stay within a budget."""
    cut, longest = [[]], 0
    for number in order:
        longest = max(longest, len(prompts[number]) + NEW)
        if cut[-1] and longest * (len(cut[-1]) + 1) > budget:
            cut.append([])
            longest = len(prompts[number]) + NEW
        cut[-1].append(number)
    return cut


@pytest.fixture(scope="module")
def alone():
    return {}


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("budget", [300, 2000])
@pytest.mark.parametrize("ordering", ["file", "shuffled", "length"])
def test_ids_equal_those_of_prompts_alone(
    model, alone, count, share_prefix, budget, ordering
):
    prompts = mixed_questions(model, count)
    if count not in alone:
        alone[count] = [reply(model, [prompt])[0] for prompt in prompts]
    expected = alone[count]
    order = list(range(count))
    if ordering == "shuffled":
        random.Random(0).shuffle(order)
    elif ordering == "length":
        order.sort(key=lambda number: len(prompts[number]))
    found = {}
    for batch in batches(order, prompts, budget):
        some = [prompts[number] for number in batch]
        answers = reply(model, some, share_prefix=share_prefix)
        found.update(zip(batch, answers, strict=True))
    assert [found[number] for number in range(count)] == expected
    assert {end for _, end in expected} == {"stop_id", "length"}
    assert len({len(ids) for ids, _ in expected}) > 4


def test_stop_strings_end_rows_that_share(model):
    prompts = mixed_questions(model, 24)
    options = dict(stop_strings=("7 ", "31"), decode=lambda ids: f"{ids}")
    options["decode"] = lambda ids: " ".join(map(str, ids)) + " "
    single = [reply(model, [one], **options)[0] for one in prompts]
    assert reply(model, prompts, share_prefix=True, **options) == single
    assert {end for _, end in single} >= {"stop_string", "stop_id"}


def test_rows_leave_and_prefixes_run_once(model, monkeypatch):
    prompts = mixed_questions(model, 1)[:1]
    prompts = [torch.cat([prompts[0], model.embed(torch.tensor([n]))]) for n in
               range(20, 44)]  # fmt: skip
    shapes = []
    hook = model.decoder.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(kwargs["inputs_embeds"].shape[:2]),
        with_kwargs=True,
    )
    replies = reply(model, prompts, share_prefix=True)
    hook.remove()
    assert shapes[0] == (1, len(prompts[0]) - 1)
    assert shapes[1] == (24, 1)
    rows = [shape[0] for shape in shapes[1:]]
    assert rows == sorted(rows, reverse=True)
    ended = sum(len(ids) < NEW for ids, _ in replies)
    assert ended > 6 and rows[-1] < 24


@pytest.mark.parametrize("share_prefix", [True, False])
def test_options_that_change_replies_are_heard(model, share_prefix):
    prompts = mixed_questions(model, 4)
    plain = reply(model, prompts, share_prefix=share_prefix)
    changed = reply(model, prompts, share_prefix=share_prefix, suppress_tokens=[
        plain[0][0][0]])  # fmt: skip
    assert changed[0][0][0] != plain[0][0][0]


def test_cache_grows_and_keeps_rows(model):
    prompts = [torch.randn(length, 48) for length in (150, 140)]
    whole, mask = left_pad(torch.cat(prompts), [150, 140])
    with torch.no_grad():
        expected = run_cached(model.decoder, whole, mask, ReplyCache())[:, -1]
        cache = ReplyCache()
        run_cached(model.decoder, whole[:, :3], mask[:, :3], cache)
        run_cached(model.decoder, whole[:, 3:149], mask[:, :149], cache)
        cache.reorder_cache(torch.tensor([1, 0, 1]))
        rows = whole[[1, 0, 1]][:, 149:], mask[[1, 0, 1]]
        found = run_cached(model.decoder, *rows, cache)[:, -1]
    assert cache.get_seq_length() == 150
    torch.testing.assert_close(found, expected[[1, 0, 1]], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["qwen2", "gpt_neox", "gpt2", "gemma2", "mistral"])
def test_other_models_reply_alike(kind):
    """Also those with a sliding window, which take the loop of transformers."""
    torch.manual_seed(0)
    names = dict(n_embd=48, n_layer=2, n_head=4) if kind == "gpt2" else {}
    names.update(dict(head_dim=12) if kind == "gemma2" else {})
    config = dict(model_type=kind, initializer_range=0.2, pad_token_id=0, **names)
    model = HFCausalLM.tiny(**config).eval()
    prompts = mixed_questions(model, 12)
    alone = [reply(model, [one])[0] for one in prompts]
    assert reply(model, prompts, share_prefix=True) == alone
