"""EncodeConversation: policies of length, generation, messages."""

from __future__ import annotations

import pickle

import pytest

from mmvlm.datasets.processor import VLMProcessor
from mmvlm.registry import CHAT_TEMPLATES, TOKENIZERS, TRANSFORMS
from mmvlm.structures import (
    Conversation,
    FixedTokenCount,
    Image,
    PatchTokenCount,
    Text,
    Turn,
    ViewLayout,
)
from mmvlm.text.encoding import SampleDropped

LAYOUT = ViewLayout((10, 20), (8, 8))
PROMPT = len("<s>") + len("USER: ASSISTANT:")


@pytest.fixture(scope="module")
def context():
    return VLMProcessor(
        TOKENIZERS.build(dict(type="TinyTokenizer")),
        CHAT_TEMPLATES.build(dict(type="vicuna_v1", system="")),
        token_count=PatchTokenCount(patch_size=2),
    )


def build(context, **kwargs):
    transform = TRANSFORMS.build(dict(type="EncodeConversation", **kwargs))
    transform.bind(context)
    return transform


def item(*texts, images=0, **kwargs):
    names = [f"{n}.png" for n in range(images)]
    return dict(
        conversation=Conversation.from_texts(*texts, images=names),
        layouts=[LAYOUT] * images,
        dataset="llava-665k",
        index=77,
        **kwargs,
    )


def test_token_count_of_the_layout_makes_the_slots(context):
    out = build(context)(item("q", "a", images=1))

    (slot,) = out["encoded"].slots
    assert slot.length == 16 and out["truncated_tokens"] == 0
    assert out["dropped_labels"] is False and "gt_text" not in out


def test_generate_stops_at_the_last_question(context):
    out = build(context, mode="generate")(item("q", "a", "r", "the answer"))

    text = context.tokenizer.decode(out["encoded"].input_ids)
    assert text == "<s>USER: q ASSISTANT: a</s>USER: r ASSISTANT:"
    assert out["gt_text"] == "the answer"


def test_generate_takes_a_question_without_answer(context):
    out = build(context, mode="generate", drop_on_mismatch=True)(item("q"))

    assert out["gt_text"] is None and out["dropped_labels"] is False
    assert context.tokenizer.decode(out["encoded"].input_ids) == "<s>USER: q ASSISTANT:"


def test_error_names_sample_and_numbers(context):
    length = len(build(context)(item("q", "an answer"))["encoded"])
    exact = build(context, max_length=length)(item("q", "an answer"))
    assert len(exact["encoded"]) == length

    with pytest.raises(
        ValueError,
        match=rf"^sample 77 of llava-665k: {length} tokens \(0 of images\), "
        rf"max_length={length - 1}; raise max_length to >= {length}, or use overflow=",
    ):
        build(context, max_length=length - 1)(item("q", "an answer"))


@pytest.mark.parametrize("overflow", ["error", "truncate_text"])
def test_image_tokens_are_never_cut(context, overflow):
    whole = build(context)(item("q", "a", images=2))["encoded"]
    last = whole.slots[-1]
    limit = last.start + last.length - 5

    with pytest.raises(
        ValueError,
        match=rf"^max_length={limit} would cut 5 of 32 image tokens of sample 77 of "
        rf"llava-665k \({len(whole)} tokens\); raise max_length to >= {len(whole)}",
    ):
        build(context, max_length=limit, overflow=overflow)(item("q", "a", images=2))


def test_truncation_cuts_text_at_the_end_and_counts(context):
    whole = build(context)(item("q", "a long answer", images=1))["encoded"]
    limit = len(whole) - 4

    out = build(context, max_length=limit, overflow="truncate_text")(
        item("q", "a long answer", images=1)
    )

    assert out["truncated_tokens"] == 4
    assert out["encoded"].input_ids.tolist() == whole.input_ids[:limit].tolist()
    assert out["encoded"].labels.tolist() == whole.labels[:limit].tolist()
    assert out["encoded"].slots == whole.slots


def test_images_may_count_as_one_token_each(context):
    """As official codes that cut ids before images come in."""
    whole = build(context)(item("q", "a long answer", images=2))["encoded"]
    images = sum(slot.length for slot in whole.slots)
    options = dict(overflow="truncate_text", count_images=False)

    fits = build(context, max_length=len(whole) - images + 2, **options)
    cuts = build(context, max_length=len(whole) - images + 1, **options)

    out = fits(item("q", "a long answer", images=2))
    assert out["truncated_tokens"] == 0
    assert len(out["encoded"]) == len(whole)
    out = cuts(item("q", "a long answer", images=2))
    assert out["truncated_tokens"] == 1
    assert out["encoded"].input_ids.tolist() == whole.input_ids[:-1].tolist()
    alone = item("q", "a long answer")
    text = len(build(context)(alone)["encoded"])
    assert len(build(context, max_length=text - 1, **options)(alone)["encoded"]) < text


def test_truncation_that_leaves_nothing_to_train_drops_the_sample(context):
    transform = build(context, max_length=6, overflow="truncate_text")

    with pytest.raises(SampleDropped, match="max_length=6 leaves no trained token"):
        transform(item("a question", "a"))


def test_drop_raises_what_datasets_count(context):
    with pytest.raises(SampleDropped, match=r"sample 77 of llava-665k: .*th=9"):
        build(context, max_length=9, overflow="drop")(item("q", "an answer"))


def test_prompt_is_never_truncated(context):
    transform = build(context, max_length=8, overflow="truncate_text", mode="generate")

    with pytest.raises(ValueError, match="it would lose the question's end"):
        transform(item("q", "a"))


def test_llavas_rule_marks_the_dropped_labels(context):
    strange = item("q", "It is </s> here.")
    kept = build(context)(dict(strange))
    dropped = build(context, drop_on_mismatch=True)(dict(strange))
    fine = build(context, drop_on_mismatch=True)(item("q", "a."))

    assert (kept["encoded"].labels >= 0).any() and not kept["dropped_labels"]
    assert (dropped["encoded"].labels < 0).all() and dropped["dropped_labels"]
    assert dropped["encoded"].input_ids.tolist() == kept["encoded"].input_ids.tolist()
    assert not fine["dropped_labels"] or (fine["encoded"].labels < 0).all()


def test_sample_without_trained_turn_is_an_error(context):
    with pytest.raises(ValueError, match="sample 77 of llava-665k: no token would be"):
        build(context)(item("only a question"))


def test_errors_of_the_template_name_dataset_and_row(context):
    broken = item("q", "a")
    broken["conversation"].turns.reverse()

    with pytest.raises(ValueError, match=r"^sample 77 of llava-665k: .*turn 0 is by"):
        build(context)(broken)


def test_missing_layouts_and_text_only_models_are_named(context):
    blind = VLMProcessor(context.tokenizer, context.template)

    with pytest.raises(ValueError, match="1 images but 0 layouts; the pipeline needs"):
        build(context)(dict(item("q", "a", images=1), layouts=[]))
    with pytest.raises(ValueError, match="it has 1 images, but the model takes none"):
        build(blind)(item("q", "a", images=1))


def test_answer_with_an_image_cannot_be_generated(context):
    broken = item("q", "a", images=1)
    broken["conversation"].turns = [
        Turn("user", (Text("q"),)),
        Turn("assistant", (Image(0), Text("a"))),
    ]

    with pytest.raises(ValueError, match="the answer to generate holds an <image>"):
        build(context, mode="generate")(broken)


def test_unbound_and_wrong_options_are_refused():
    make = lambda **kwargs: TRANSFORMS.build(  # noqa: E731
        dict(type="EncodeConversation", **kwargs)
    )

    with pytest.raises(RuntimeError, match=r"no context yet; call dataset\.bind"):
        make()(item("q", "a"))
    with pytest.raises(ValueError, match=r"overflow='skip', expected one of \['error'"):
        make(overflow="skip")
    with pytest.raises(ValueError, match=r"mode='test', expected one of \['train'"):
        make(mode="test")
    with pytest.raises(ValueError, match="max_length=0, expected at least 1"):
        make(max_length=0)


def test_bind_refuses_a_tokenizer_without_the_end_mark(context):
    wrong = VLMProcessor(context.tokenizer, CHAT_TEMPLATES.build(dict(type="qwen")))

    with pytest.raises(ValueError, match="chat template 'qwen': special token"):
        build(wrong)


def test_bound_transform_survives_pickling(context):
    transform = build(context)
    expected = transform(item("q", "a", images=1))["encoded"]

    got = pickle.loads(pickle.dumps(transform))(item("q", "a", images=1))["encoded"]

    assert got.input_ids.tolist() == expected.input_ids.tolist()


def test_fixed_token_count_works_too(context):
    fixed = VLMProcessor(
        context.tokenizer, context.template, token_count=FixedTokenCount(3)
    )

    out = build(fixed)(item("q", "a", images=2))

    assert [slot.length for slot in out["encoded"].slots] == [3, 3]
