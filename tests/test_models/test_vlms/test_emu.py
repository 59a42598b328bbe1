"""Emu's two losses: pairs by hand, gradients, generation of embeddings."""

from types import SimpleNamespace

import pytest
import torch

from mmvlm.datasets.processor import VLMProcessor
from mmvlm.models.heads.visual_regression import VisualRegressionHead, regression_rows
from mmvlm.models.utils.feed import Feed
from mmvlm.models.utils.token_context import current_tokens
from mmvlm.models.vlms.base import VisionLanguageModel
from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import SLOT_TOKEN_ID as X
from mmvlm.structures import Conversation, Image, Text, Turn
from mmvlm.testing.builders import make_batch

IMG, END = 30, 31


def model(head=None, **options):
    torch.manual_seed(0)
    llama = dict(model_type="llama", hidden_size=16, num_hidden_layers=2)
    llama |= dict(num_attention_heads=2, intermediate_size=16, vocab_size=32)
    small = dict(width=16, num_layers=1, num_heads=2, head_width=8)
    built = VisionLanguageModel(
        language_model=dict(type="HFCausalLM", config=llama),
        vision_encoder=dict(
            type="TinyVisionEncoder", width=16, num_layers=1, image_size=32
        ),
        connector=dict(
            type="CausalFormerConnector",
            num_queries=3,
            intermediate_size=16,
            select_layers=[-1],
            **small,
        ),
        heads=dict(head=dict(type="VisualRegressionHead", **(head or {}))),
        **options,
    )
    return built.eval()


def batch(samples, images):
    labels = [[-100, *sample[1:]] for sample in samples]
    labels = [[t if t >= 0 and t < IMG else -100 for t in row] for row in labels]
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(images, 3, 32, 32, generator=generator)
    pairs = list(zip(samples, labels, strict=True))
    return make_batch(pairs, pixels if images else None)


TWO = [[1, IMG, X, X, X, END, 5, 6, 2], [1, 4, IMG, X, X, X, END, IMG, X, X, X, END]]


def test_pairs_are_the_marks_and_tokens_of_every_image():
    rows = regression_rows(batch(TWO, 3))

    # Sample 1 starts at flat position 9; 4 pairs per image of 3 tokens.
    expected = [1, 2, 3, 4, 11, 12, 13, 14, 16, 17, 18, 19]
    assert sorted(rows.tolist()) == expected


@pytest.mark.parametrize(
    "samples", [[[X, X, X, END, 5]], [[1, IMG, X, X, X]], [[1, 5], [X, X, X, END]]]
)
def test_an_image_without_marks_is_refused(samples):
    with pytest.raises(ValueError, match="needs a mark before and behind"):
        regression_rows(batch(samples, 1))


def test_loss_is_the_squared_error_of_hand_made_pairs():
    emu = model(dict(weight=0.5))
    inputs = batch(TWO, 3)

    losses = emu.loss(inputs)

    embeds, hidden = emu.embed(inputs), emu.hidden_states(inputs)
    weight = emu.head.stu_regress_head.weight
    errors = [
        (hidden[row] @ weight.T - embeds[row + 1]).pow(2).mean()
        for row in (1, 2, 3, 4, 11, 12, 13, 14, 16, 17, 18, 19)
    ]
    expected = 0.5 * sum(errors) / 12
    torch.testing.assert_close(losses["loss_regression"], expected)
    logits = emu(inputs, mode="tensor")[inputs.text.target_rows]
    text = torch.nn.functional.cross_entropy(logits, inputs.text.targets)
    torch.testing.assert_close(losses["loss"], text)
    # A micro-batch of a step: each loss counts by its own share, without the other's.
    counts = emu.loss_counts(inputs)
    assert counts == dict(text=inputs.text.num_targets, regression=12 * 16)
    inputs.denominators = dict(text=2 * counts["text"], regression=4 * 12 * 16)
    shared = emu.loss(inputs)
    torch.testing.assert_close(shared["loss_regression"], expected / 4)
    torch.testing.assert_close(shared["loss"], text / 2)


def test_images_without_trained_text_keep_their_regression():
    emu, inputs = model(), batch(TWO, 3)
    expected = emu.loss(inputs)["loss_regression"]
    stream = inputs.text
    stream.target_rows, stream.targets = stream.target_rows[:0], stream.targets[:0]
    inputs.denominators = dict(text=7, regression=12 * 16)

    losses = emu.loss(inputs)

    assert losses["loss"] == 0
    torch.testing.assert_close(losses["loss_regression"], expected)


def test_33_pairs_for_an_image_of_32_tokens():
    sample = [1, IMG, *[X] * 32, END, 2]

    assert len(regression_rows(batch([sample], 1))) == 33


def test_targets_get_no_gradient():
    head = VisualRegressionHead(in_width=4)
    inputs = batch([[1, IMG, X, X, END, 2]], 1)
    hidden = torch.randn(3, 4, requires_grad=True)
    feed = Feed(inputs, None, None)
    feed.embeds = torch.randn(6, 4, requires_grad=True)

    term = head.loss(hidden, None, feed)["regression"]
    term.sum.backward()

    assert term.count == head.counts(inputs)["regression"] == 12
    assert feed.embeds.grad is None
    assert hidden.grad.any()
    assert head.stu_regress_head.weight.grad.any()


def test_text_alone_has_no_regression_but_a_graph():
    emu = model().train()

    losses = emu.loss(batch([[1, 5, 6, 2]], 0))
    sum(losses.values()).backward()

    assert set(losses) == {"loss", "loss_regression"}
    assert losses["loss_regression"] == 0
    assert emu.head.stu_regress_head.weight.grad is not None
    assert not emu.head.stu_regress_head.weight.grad.any()


def test_both_losses_fall_in_training():
    emu = model(train_parts=dict(vision_encoder=False)).train()
    assert emu.part_table()[-1]["part"] == "head"
    optimizer = torch.optim.AdamW(
        [p for p in emu.parameters() if p.requires_grad], lr=1e-2
    )
    inputs, seen = batch(TWO, 3), []
    for _ in range(60):
        losses = emu.loss(inputs)
        seen.append([float(value.detach()) for value in losses.values()])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    first, last = seen[0], seen[-1]
    assert last[0] < 0.5 * first[0]
    assert last[1] < 0.7 * first[1]
    assert not any(p.requires_grad for p in emu.vision_encoder.parameters())


class Words:
    """A tokenizer of one word per id."""

    eos_token_id, unk_token_id = 2, 0
    all_special_tokens = ()
    names = {"[IMG]": IMG, "<image>": 29}

    def __len__(self):
        return 128

    def convert_tokens_to_ids(self, tokens):
        if isinstance(tokens, str):
            return self.names.get(tokens, 0)
        return [self.names.get(token, 0) for token in tokens]

    def decode(self, ids, skip_special_tokens=False):
        return " ".join(map(str, ids))


def bound(emu):
    template = SimpleNamespace(stop_strings=())
    emu.bind(VLMProcessor(Words(), template, steps={}))
    return emu


WRITES = dict(opening="[IMG]", placeholder="<image>", num_tokens=3)


@torch.no_grad()
def written_without_cache(emu, prompt, before):
    """Return the reply's embeddings: ``before`` words, the mark, then embeddings."""
    embeds, out = emu.embed(prompt), []
    mark = emu.language_model.embed(torch.tensor([IMG]))
    for step in range(before + 1 + WRITES["num_tokens"]):
        lengths = (len(embeds),)
        places = torch.arange(len(embeds))
        ends = torch.tensor([0, len(embeds)], dtype=torch.int32)
        last = emu.language_model(embeds, places, ends, lengths)[-1:]
        if step < before:
            word = emu.language_model.logits(last)[0, 3:29].argmax() + 3
            following = emu.language_model.embed(word[None])
        elif step == before:
            following = mark
        else:
            following = emu.head(last)
            out.append(following)
        embeds = torch.cat([embeds, following])
    return torch.cat(out)


def test_embeddings_are_written_one_after_the_other():
    emu = bound(model(WRITES))
    prompts = [[1, 5, 6, 7], [1, IMG, X, X, X, END, 8]]
    before = (0, 2)

    def speak(step):
        for row, number in enumerate(before):
            if step.ids.shape[1] == number:
                step.allow(row, [IMG])
            elif step.ids.shape[1] < number:
                step.allow(row, range(3, 29))

    samples = emu.predict(batch(prompts, 1), max_new_tokens=6, on_step=speak)

    for number, (sample, ids) in enumerate(zip(samples, prompts, strict=True)):
        start = before[number]
        assert sample.pred_ids[start : start + 4] == [IMG, 29, 29, 29]
        expected = written_without_cache(emu, batch([ids], number), start)
        # The state of the mark stands first, then one for every embedding.
        found = emu.head(sample.pred_states[1:4])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_an_image_is_written_behind_a_prompt_that_opens_it():
    emu = bound(model(WRITES))
    prompts = [[1, 5, IMG], [1, 5, 6]]

    def no_mark(step):
        for row in range(2):
            step.forbid(row, [IMG])

    first, second = emu.predict(batch(prompts, 0), max_new_tokens=4, on_step=no_mark)

    assert first.pred_ids[:3] == [29, 29, 29]
    assert second.pred_ids[:3] != [29, 29, 29]


def test_no_embedding_is_written_without_a_mark_or_an_opening():
    emu, plain = bound(model(WRITES)), bound(model())
    prompt = batch([[1, 5, 6]], 0)

    def quiet(step):
        step.forbid(0, [IMG])

    options = dict(max_new_tokens=5, on_step=quiet)
    assert emu.predict(prompt, **options)[0].pred_ids == (
        plain.predict(prompt, **options)[0].pred_ids
    )
    assert not plain.head.takes_steps and plain.head.tokens == ()


def test_an_opening_that_the_tokenizer_lacks_is_refused():
    with pytest.raises(ValueError, match=r"head 'head' reads \['<draw>'\]"):
        bound(model(dict(opening="<draw>")))


def test_the_language_model_is_told_which_tokens_are_images():
    emu, seen = model(), []
    emu.language_model.register_forward_pre_hook(
        lambda _, args: seen.append(current_tokens(args[3], None).types.tolist())
    )

    emu.loss(batch([TWO[0]], 1))

    assert seen == [[1, 1, 2, 2, 2, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    "name, text",
    [
        ("emu", "[USER]: [IMG]@[/IMG]Draw it. [ASSISTANT]: Here: [IMG]@[/IMG]</s>"),
        ("emu_plain", "[IMG]@[/IMG]Draw it.Here: [IMG]@[/IMG]</s>"),
    ],
)
def test_marks_are_never_trained_as_text(name, text):
    template = CHAT_TEMPLATES.build(dict(type=name))
    talk = Conversation(
        [
            Turn("user", (Image(0), Text("Draw it."))),
            Turn("assistant", (Text("Here: "), Image(1))),
        ],
        images=["a", "b"],
    )

    pieces = template.render(talk)

    assert "".join("@" if p.image is not None else p.text for p in pieces) == text
    said = "".join(p.text for p in pieces if p.supervised)
    assert said.strip() == "Here: </s>"
