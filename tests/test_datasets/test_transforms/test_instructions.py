"""The question's road: transform, collate, model."""

import numpy as np
import pytest
import torch

from mmvlm.datasets.collate import collate_flat
from mmvlm.datasets.transforms.formatting import PackVLMInputs
from mmvlm.datasets.transforms.instructions import TokenizeInstructions
from mmvlm.registry import MODELS, TRANSFORMS
from mmvlm.structures import (
    SLOT_TOKEN_ID,
    Conversation,
    EncodedSample,
    Image,
    Slot,
    Text,
    Turn,
    ViewLayout,
)

TINY = dict(type="TinyTokenizer")
DIALOGUE = Conversation(
    [
        Turn("user", (Image(0), Text("\nWhat colour?"))),
        Turn("assistant", (Text("Red."),)),
        Turn("user", (Text("And here? "), Image(1))),
        Turn("assistant", (Text("Blue."),)),
    ],
    images=["a.png", "b.png"],
    id="s1",
)


def bound(**options):
    step = TRANSFORMS.build(
        dict(type="TokenizeInstructions", **{"tokenizer": TINY, **options})
    )
    step.bind(None)
    return step


def words(step, conversation=DIALOGUE):
    rows = step(dict(conversation=conversation))["instructions"]
    return [step.tokenizer.decode(row, skip_special_tokens=True) for row in rows]


def test_every_image_gets_the_question_that_shows_it():
    assert words(bound()) == ["What colour?", "And here?"]


def test_all_questions_but_no_answer():
    assert words(bound(turns="all")) == ["What colour? And here?"] * 2


@pytest.mark.parametrize("side, kept", [("left", "our?"), ("right", "What")])
def test_a_long_question_is_cut(side, kept):
    step = bound(max_length=5, side=side)

    assert words(step)[0] == kept
    ids = step(dict(conversation=DIALOGUE))["instructions"][0]
    assert ids[0] == step.tokenizer.bos_token_id


def test_an_image_without_words_is_refused_by_name():
    silent = Conversation([Turn("user", (Image(0),))], images=["a.png"], id="mute")

    with pytest.raises(ValueError, match="sample 'mute': an image without a question"):
        bound()(dict(conversation=silent))
    shown = Conversation([Turn("assistant", (Image(0),))], images=["a.png"], id="odd")
    with pytest.raises(ValueError, match=r"sample 'odd': no question shows .*\[0\]"):
        bound()(dict(conversation=shown))


@pytest.mark.parametrize(
    "options, match",
    [
        (dict(turns="first"), "turns='first'"),
        (dict(side="both"), "side='both'"),
        (dict(max_length=0), "max_length=0"),
    ],
)
def test_wrong_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        TokenizeInstructions(TINY, **options)
    with pytest.raises(RuntimeError, match="has no tokenizer yet"):
        TokenizeInstructions(TINY)(dict(conversation=DIALOGUE))


def packed(sample_id, images, asked=True, tokens=4):
    """A packed sample: images of 4 tokens, then 3 words."""
    parts = tuple(Image(i) for i in range(images))
    talk = Conversation(
        [Turn("user", (*parts, Text("Which number?" + "!" * len(sample_id))))],
        images=["x"] * images,
        id=sample_id,
    )
    ids = np.array([SLOT_TOKEN_ID] * (tokens * images) + [5, 6, 7])
    slots = [Slot(i, tokens * i, tokens) for i in range(images)]
    item = dict(
        conversation=talk,
        encoded=EncodedSample(ids, ids.clip(min=-100), slots),
        dataset="d",
        index=0,
        views=[np.zeros((1, 3, 48, 48), np.uint8)] * images,
        layouts=[ViewLayout((48, 48), (48, 48))] * images,
    )
    item["encoded"].labels[: tokens * images] = -100
    return PackVLMInputs()(bound()(item) if asked else item)


def test_questions_of_all_images_are_joined_and_padded(model):
    batch = collate_flat([packed("text", 0), packed("a", 2), packed("long", 1)])[
        "inputs"
    ]

    questions = batch.inputs["question"]
    assert questions.slot_index is None and questions.slot_lens == ()
    assert questions.owner == (1, 1, 2) and questions.parent == (0, 1, 2)
    padded = model.feed(batch).questions([0, 1, 2], "a test")
    assert padded.input_ids.shape == padded.attention_mask.shape == (3, 18)
    assert padded.attention_mask.sum(1).tolist() == [15, 15, 18]
    assert (padded.input_ids[padded.attention_mask == 0] == 0).all()
    one = model.feed(batch).questions([2], "a test").input_ids
    assert torch.equal(one, padded.input_ids[2:])
    plain = collate_flat([packed("a", 1, asked=False)])["inputs"]
    assert set(plain.inputs) == {"image"}


def test_a_sample_whose_pipeline_lacks_the_step_is_named(model):
    batch = preprocessed(model, packed("a", 1), packed("b", 1, asked=False))

    with pytest.raises(ValueError, match=r"\['a', 'b'\]: .* none for every image"):
        model.embed(batch)


@pytest.fixture(scope="module")
def model():
    llama = dict(model_type="llama", hidden_size=16, num_hidden_layers=1)
    llama |= dict(num_attention_heads=2, intermediate_size=16, vocab_size=32)
    tiny = dict(hidden_size=32, num_layers=2, num_heads=4, intermediate_size=48)
    return MODELS.build(
        dict(
            type="VisionLanguageModel",
            vision_encoder=dict(type="TinyVisionEncoder", width=32, num_layers=1),
            connector=dict(
                type="QFormerConnector",
                instruction_aware=True,
                num_queries=4,
                vocab_size=300,
                **tiny,
            ),
            language_model=dict(type="HFCausalLM", config=llama),
        )
    ).eval()


def preprocessed(model, *samples):
    return model.data_preprocessor(collate_flat(samples), False)["inputs"]


def test_the_model_hands_the_question_to_the_connector(model):
    batch = preprocessed(model, packed("a", 2), packed("b", 1))
    with torch.no_grad():
        before = model.embed(batch)
        batch.inputs["question"].entries()[2][3] += 1
        after = model.embed(batch)

    changed = (before - after).abs().amax(-1) > 1e-7
    assert changed.tolist() == [False] * 11 + [True] * 4 + [False] * 3


def test_equal_images_keep_their_own_questions(model):
    # In inference equal views are encoded once; their questions still differ.
    batch = preprocessed(model, packed("a", 1), packed("other", 1))

    with torch.no_grad():
        rows = model.embed(batch)

    assert not torch.allclose(rows[:4], rows[7:11])


def test_a_batch_without_questions_is_refused_by_name(model):
    batch = preprocessed(model, packed("a", 1, asked=False))

    with pytest.raises(ValueError, match=r"\['a'\]: QFormerConnector reads the questi"):
        model.embed(batch)


def test_text_alone_runs_the_connector_where_ranks_need_it(model):
    batch = preprocessed(model, packed("t", 0))
    model.touch_all_parts = True
    try:
        rows = model.embed(batch)
    finally:
        model.touch_all_parts = False

    rows.sum().backward()
    assert model.connector.query_tokens.grad is not None
    assert not model.connector.query_tokens.grad.any()
