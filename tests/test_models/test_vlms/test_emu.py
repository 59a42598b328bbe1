"""Emu's two losses: pairs by hand, gradients, generation of embeddings."""

import pytest
import torch

from mmvlm.models.heads.visual_regression import VisualRegressionHead
from mmvlm.models.utils.token_context import current_tokens
from mmvlm.models.vlms.emu import EmuVLM, regression_rows
from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import SLOT_TOKEN_ID as X
from mmvlm.structures import Conversation, Image, Text, Turn
from mmvlm.testing.builders import make_batch

IMG, END = 30, 31


def model(**options):
    torch.manual_seed(0)
    llama = dict(model_type="llama", hidden_size=16, num_hidden_layers=2)
    llama |= dict(num_attention_heads=2, intermediate_size=16, vocab_size=32)
    small = dict(width=16, num_layers=1, num_heads=2, head_width=8)
    built = EmuVLM(
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
        head=dict(type="VisualRegressionHead"),
        **options,
    )
    return built.eval()


def batch(samples, pictures):
    labels = [[-100, *sample[1:]] for sample in samples]
    labels = [[t if t >= 0 and t < IMG else -100 for t in row] for row in labels]
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(pictures, 3, 32, 32, generator=generator)
    pairs = list(zip(samples, labels, strict=True))
    return make_batch(pairs, pixels if pictures else None)


TWO = [[1, IMG, X, X, X, END, 5, 6, 2], [1, 4, IMG, X, X, X, END, IMG, X, X, X, END]]


def test_pairs_are_the_marks_and_tokens_of_every_picture():
    rows = regression_rows(batch(TWO, 3))

    # Sample 1 starts at flat position 9; 4 pairs per picture of 3 tokens.
    expected = [1, 2, 3, 4, 11, 12, 13, 14, 16, 17, 18, 19]
    assert sorted(rows.tolist()) == expected


@pytest.mark.parametrize(
    "samples", [[[X, X, X, END, 5]], [[1, IMG, X, X, X]], [[1, 5], [X, X, X, END]]]
)
def test_a_picture_without_marks_is_refused(samples):
    with pytest.raises(ValueError, match="needs a mark before and behind"):
        regression_rows(batch(samples, 1))


def test_loss_is_the_squared_error_of_hand_made_pairs():
    emu = model(regression_weight=0.5)
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
    plain = super(EmuVLM, emu).loss(inputs)
    torch.testing.assert_close(losses["loss"], plain["loss"])
    # Two micro-batches of one step: each counts by its share of trained tokens.
    inputs.denominators["text"] = 4 * inputs.text.num_targets
    shared = emu.loss(inputs)["loss_regression"]
    torch.testing.assert_close(shared, expected / 4)


def test_33_pairs_for_a_picture_of_32_tokens():
    sample = [1, IMG, *[X] * 32, END, 2]

    assert len(regression_rows(batch([sample], 1))) == 33


def test_targets_get_no_gradient():
    head = VisualRegressionHead(4)
    hidden = torch.randn(3, 4, requires_grad=True)
    targets = torch.randn(3, 4, requires_grad=True)

    head.loss(hidden, targets).backward()

    assert targets.grad is None
    assert hidden.grad.any()
    assert head.stu_regress_head.weight.grad.any()


def test_text_alone_has_no_regression_but_a_graph():
    emu = model().train()

    losses = emu.loss(batch([[1, 5, 6, 2]], 0))
    sum(losses.values()).backward()

    assert losses["loss_regression"] == 0
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


def test_embeddings_are_written_one_after_the_other():
    emu = model()
    prompt = batch([[1, 5, IMG]], 0)

    out = emu.predict_visual_embeddings(prompt, 3)

    first = emu.head(emu.hidden_states(prompt)[-1:])
    torch.testing.assert_close(out[:1], first)
    assert out.shape == (3, 16)
    with pytest.raises(ValueError, match="expected one prompt, got 2"):
        emu.predict_visual_embeddings(batch([[1, 5], [1, 6]], 0), 1)


def test_the_language_model_is_told_which_tokens_are_pictures():
    emu, seen = model(), []
    emu.language_model.register_forward_pre_hook(
        lambda _, args: seen.append(current_tokens(args[3], None).types.tolist())
    )

    emu.loss(batch([TWO[0]], 1))
    emu.predict_visual_embeddings(batch([[1, 5, IMG]], 0), 3)

    assert seen[0] == [1, 1, 2, 2, 2, 1, 1, 1, 1]
    assert seen[1:] == [[1, 1, 1], [1, 1, 1, 2], [1, 1, 1, 2, 2]]


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
