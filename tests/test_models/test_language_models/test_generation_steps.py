"""States are caught, tokens forced and embeddings fed step by step, batched or not."""

import pytest
import torch

from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.language_models.prefix_sharing import group_prompts, run_prefixes

COUNT, STEPS, BATCH = 200, 6, 25
CAUGHT = tuple(range(3, 128, 3))
END = 2


@pytest.fixture(scope="module", params=["segment", "eager"])
def model(request):
    torch.manual_seed(0)
    return HFCausalLM.tiny(initializer_range=0.1, attention=request.param).eval()


@pytest.fixture(scope="module")
def prompts(model):
    """Questions behind one system text; up to five in turn ask about one image."""
    generator = torch.Generator().manual_seed(1)

    def draw(low, high):
        count = int(torch.randint(low, high, (1,), generator=generator))
        return model.embed(torch.randint(3, 128, (count,), generator=generator))

    system, pieces = draw(3, 4), []
    while len(pieces) < COUNT:
        image = draw(1, 12)
        for _ in range(int(torch.randint(1, 6, (1,), generator=generator))):
            pieces.append(torch.cat([system, image, draw(1, 9)]))
    return pieces[:COUNT]


class Hand:
    """What samples ``first`` and up do: one of three things, by their number."""

    def __init__(self, first):
        self.first = first
        self.fed = {}

    def __call__(self, step):
        place = step.ids.shape[1]
        for row in range(len(step.ids)):
            number = self.first + row
            if number % 3 == 0:  # a tree of words: (5 | 7) 9 (11 | 13), then free
                allowed = {0: [5, 7], 1: [9], 2: [11, 13]}.get(place)
                if allowed:
                    step.allow(row, allowed)
            elif number % 3 == 1 and 1 <= place <= 3:  # states are read back
                step.allow(row, [100])
                step.feed(row, step.states[row])
                self.fed.setdefault(number, {})[place] = step.states[row]
            else:
                step.forbid(row, [END])


def run(model, pieces, first, **options):
    embeds = torch.cat(list(pieces))
    hand = Hand(first)
    replies = model.generate(
        embeds,
        tuple(map(len, pieces)),
        max_new_tokens=STEPS,
        stop_ids=[END],
        catch=CAUGHT,
        on_step=hand,
        **options,
    )
    return replies, hand.fed


@pytest.fixture(scope="module", params=[False, True], ids=["whole", "shared"])
def batched(request, model, prompts):
    replies, fed = [], {}
    options = dict(share_prefix=request.param)
    for first in range(0, COUNT, BATCH):
        some, read = run(model, prompts[first : first + BATCH], first, **options)
        replies += some
        fed |= read
    return replies, fed


def check_states(found, expected):
    """Compare to 1e-5 of the largest: states that were read back add up errors."""
    scale = expected.abs().max() if len(expected) else 1.0
    torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def single(model, prompts):
    return [run(model, prompts[n : n + 1], n)[0][0] for n in range(COUNT)]


def test_batches_give_what_samples_give_alone(single, batched):
    for number, (reply, alone) in enumerate(zip(batched[0], single, strict=True)):
        assert reply.tolist() == alone.tolist(), number
        assert reply.finish == alone.finish
        assert torch.equal(reply.positions, alone.positions)
        check_states(reply.states, alone.states)


def test_states_are_those_of_one_forward_pass(model, prompts, batched):
    replies, fed = batched
    caught = 0
    for number, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        said = model.embed(reply.ids)
        for place, embedding in fed.get(number, {}).items():
            if place < len(said):
                said[place] = embedding
        whole = torch.cat([prompt, said])
        length = len(whole)
        offsets = torch.tensor([0, length], dtype=torch.int32)
        with torch.no_grad():
            hidden = model(whole, torch.arange(length), offsets, (length,))
        expected = hidden[len(prompt) - 1 + reply.positions]
        check_states(reply.states, expected)
        caught += len(expected)
    assert caught > COUNT


def test_tokens_are_forced_and_forbidden(batched):
    for number, reply in enumerate(batched[0]):
        ids = reply.tolist()
        if number % 3 == 0:
            assert ids[0] in (5, 7) and ids[1] == 9 and ids[2] in (11, 13)
        elif number % 3 == 1 and len(ids) > 3:
            assert ids[1:4] == [100] * 3
    assert {tuple(r.tolist()[:3]) for r in batched[0][::3]} > {(5, 9, 11)}


def test_a_token_fed_by_hand_is_that_token(model, prompts):
    other = 77

    def swap(step):
        if step.ids.shape[1] == 1:
            step.allow(0, [50])
            step.feed(0, model.embed(torch.tensor([other]))[0])

    def say(step):
        if step.ids.shape[1] == 1:
            step.allow(0, [other])

    options = dict(max_new_tokens=STEPS, stop_ids=[END])
    (fed,), (said,) = (
        model.generate(prompts[0], (len(prompts[0]),), on_step=hand, **options)
        for hand in (swap, say)
    )
    assert fed.tolist()[1] == 50 and said.tolist()[1] == other
    assert fed.tolist()[2:] == said.tolist()[2:]


def test_why_a_reply_ended(model, prompts):
    embeds = torch.cat(list(prompts[:3]))
    lens = tuple(map(len, prompts[:3]))

    def end(step):
        if step.ids.shape[1] == 2:
            step.allow(0, [END])
            step.allow(1, [60])

    replies = model.generate(
        embeds,
        lens,
        max_new_tokens=STEPS,
        stop_ids=[END],
        stop_strings=["<60>"],
        decode=lambda row: "".join(f"<{token}>" for token in row),
        on_step=end,
    )
    assert replies[0].finish == "stop_id" and len(replies[0]) == 3
    assert replies[1].finish == "stop_string" and replies[1].tolist()[2:] == [60]
    assert replies[2].finish == "length" and len(replies[2]) == STEPS


def test_a_common_beginning_is_run_once(model, prompts):
    questions, lengths = prompts[:BATCH], []

    def note(module, args, kwargs):
        if kwargs.get("inputs_embeds") is not None:
            lengths.append(kwargs["inputs_embeds"].shape[:2].numel())

    hook = model.decoder.register_forward_pre_hook(note, with_kwargs=True)
    run(model, questions, 0, share_prefix=True)
    hook.remove()
    (heads, rest), groups = lengths, group_prompts(questions)
    assert len(groups) < BATCH and heads == len(groups) * max(n for _, n in groups)
    assert heads + rest < BATCH * max(map(len, questions))


def test_prompts_are_grouped_by_what_saves_most():
    rows = {c: torch.full((1, 2), float(ord(c))) for c in "abcdefgh"}
    prompts = [
        torch.cat([rows[c] for c in text])
        for text in ("abbbc", "abbbd", "acccd", "abbbbe", "accc")
    ]
    assert group_prompts(prompts) == [([0, 1, 3], 4), ([2, 4], 3)]
    assert run_prefixes(None, prompts[:1]) is None
    assert run_prefixes(None, [*prompts, rows["a"]]) is None
    assert run_prefixes(None, [prompts[0], prompts[2]]) is None
    alone = torch.cat([rows["h"]] * 7)
    assert group_prompts([*prompts, alone])[2] == ([5], 5)


def test_what_cannot_be_followed_is_refused(model, prompts):
    one = (prompts[0], (len(prompts[0]),))
    with pytest.raises(ValueError, match="num_beams=1"):
        model.generate(*one, catch=[5], num_beams=2)
    with pytest.raises(ValueError, match="row 0: a step must be left"):
        model.generate(*one, on_step=lambda step: step.allow(0, []))
