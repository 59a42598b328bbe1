"""Marked text: tokens that inputs fill or heads read, found by their characters."""

from __future__ import annotations

import numpy as np
import pytest
from text_cases import (
    CHATML_JINJA,
    TOKENIZER_KINDS,
    build_tokenizer,
    needed_tokens,
    spell,
    template_names,
)

from mmvlm.registry import CHAT_TEMPLATES, CODECS
from mmvlm.structures import (
    IGNORE_INDEX,
    SLOT_TOKEN_ID,
    Boxes,
    Conversation,
    Image,
    Mark,
    Region,
    Text,
    TextMark,
    Turn,
)
from mmvlm.text.codecs.base import RegionToken
from mmvlm.text.encoding import ConversationEncoder, encode_conversation

CODECS.import_from_location()
SIZE = (48, 64)
DOG, CAT = (6.4, 4.8, 32.0, 24.0), (32.0, 24.0, 60.0, 40.0)
MARKING = [
    name
    for name in sorted(CODECS.module_dict)
    if CODECS.build(dict(type=name)).region_tokens
]
TEMPLATES = ["vicuna_v1", "chatml", "llama_2", "llava_v0", "xtuner/qwen_chat"]


def region(*rows, **kwargs):
    return Region(0, Boxes(np.array(rows, dtype=float), SIZE), **kwargs)


def write(codec, *turns):
    """Return turns of parts, in turn by user and assistant, and their regions."""
    regions = dict(input=[], output=[])
    written = []
    for number, parts in enumerate(turns):
        role = ("user", "assistant")[number % 2]
        written.append(Turn(role, tuple(codec.write(parts, role, regions))))
    shown = any(isinstance(p, Image) for parts in turns for p in parts)
    return Conversation(written, ["a.png"] * shown, id="s"), regions


def dialogue(codec, more=()):
    """Two rounds with two regions asked about, and two or none in the answers."""
    return write(
        codec,
        [Image(0), Text("\nIs "), region(DOG), *more, Text(" red?\n")],
        [Text("No, "), region(CAT, phrase="the cat"), Text(". ")],
        [region(CAT), Text(" and?")],
        [region(DOG)],
    )


def unmarked(conversation):
    turns = [
        Turn(t.role, tuple(Text(p.text) if isinstance(p, Text) else p for p in t.parts))
        for t in conversation.turns
    ]
    return Conversation(turns, conversation.images, id="s")


def build(kind, codec, template, goldens):
    needed = [*needed_tokens(template), *codec.special_tokens]
    tokenizer = build_tokenizer(kind, list(dict.fromkeys(needed)), goldens)
    tokenizer.chat_template = CHATML_JINJA
    return tokenizer, CHAT_TEMPLATES.build(dict(type=template))


def with_slots(sample, number, lengths):
    """Return ids and labels with slots of these lengths for each token of that id."""
    ids, labels, lengths = [], [], list(lengths)
    for one, label in zip(sample.input_ids, sample.labels, strict=True):
        count = lengths.pop(0) if one == number else 0
        ids += [SLOT_TOKEN_ID] * count or [one]
        labels += [IGNORE_INDEX] * count or [label]
    return ids, labels


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", TOKENIZER_KINDS)
@pytest.mark.parametrize("name", MARKING)
def test_slots_and_marks_take_the_place_of_the_codecs_tokens(
    name, kind, template, goldens
):
    codec = CODECS.build(dict(type=name))
    tokenizer, chat = build(kind, codec, template, goldens)
    talk, regions = dialogue(codec)
    asked = tokenizer.convert_tokens_to_ids(codec.region_tokens["user"].token)
    official = encode_conversation(unmarked(talk), chat, tokenizer, [2])

    plain = encode_conversation(talk, chat, tokenizer, [2])
    filled = encode_conversation(
        talk, chat, tokenizer, dict(image=[2], region=[1, 3], unused=[5])
    )

    assert plain.input_ids.tolist() == official.input_ids.tolist()
    assert plain.labels.tolist() == official.labels.tolist()
    assert [slot.modality for slot in plain.slots] == ["image"]
    slots = [slot for slot in filled.slots if slot.modality == "region"]
    assert [(slot.index, slot.length) for slot in slots] == [(0, 1), (1, 3)]
    for slot in filled.slots:
        inside = filled.input_ids[slot.start : slot.start + slot.length]
        assert (inside == SLOT_TOKEN_ID).all()
    read = codec.region_tokens.get("assistant")
    counts = [1, 3] if read is None else [1, 0, 3, 0]  # the same token in answers
    ids, labels = with_slots(official, asked, counts)
    assert filled.input_ids.tolist() == ids
    assert filled.labels.tolist() == labels
    expected = [] if read is None else [(read.kind, 0), (read.kind, 1)]
    for sample in (plain, filled):
        assert [(mark.kind, mark.index) for mark in sample.marks] == expected
        for mark in sample.marks:
            said = sample.input_ids[mark.start : mark.stop]
            assert said.tolist() == [tokenizer.convert_tokens_to_ids(read.token)]
            assert (sample.labels[mark.start : mark.stop] == said).all()
    assert len(regions["input"]) == 2 and len(regions["output"]) == len(expected)


@pytest.mark.parametrize("kind", TOKENIZER_KINDS)
def test_tokens_that_were_added_as_plain_words_are_found(kind, goldens):
    """Slow Llamas put a space before LISA's, fast legacy ones take one in."""
    codec = CODECS.build(dict(type="RegionTokenCodec"))
    tokenizer = build_tokenizer(kind, ["<|im_start|>", "<|im_end|>"], goldens)
    tokenizer.add_tokens(["[SEG]"])
    number = tokenizer.convert_tokens_to_ids("[SEG]")
    chat = CHAT_TEMPLATES.build(dict(type="xtuner/qwen_chat"))
    shown = [region(DOG), Text(" and "), region(CAT), Text(".")]
    talk, _ = write(codec, [Text("So "), *shown], shown)
    official = encode_conversation(unmarked(talk), chat, tokenizer, [])

    plain = encode_conversation(talk, chat, tokenizer, [])
    filled = encode_conversation(talk, chat, tokenizer, dict(region=[2, 3]))

    assert plain.input_ids.tolist() == official.input_ids.tolist()
    places = np.flatnonzero(official.input_ids == number)
    assert [mark.start for mark in plain.marks] == places[2:].tolist()
    assert all(mark.stop == mark.start + 1 for mark in plain.marks)
    ids, labels = with_slots(official, number, [2, 3, 0, 0])
    assert filled.input_ids.tolist() == ids and filled.labels.tolist() == labels
    # Without a space before it, a fast legacy Llama reads it in pieces.
    talk, _ = write(codec, [Text("q")], [Text("So:"), *shown])
    sample = encode_conversation(talk, chat, tokenizer, [])
    said = [spell(tokenizer, sample.input_ids[m.start : m.stop]) for m in sample.marks]
    assert [one.strip() for one in said] == ["[SEG]", "[SEG]"]


@pytest.mark.parametrize("template", template_names())
def test_every_template_carries_marks(template, goldens):
    codec = CODECS.build(dict(type="RegionTokenCodec", question_token="<bbox>"))
    tokenizer, chat = build("bytes", codec, template, goldens)
    image = [Image(0), Text("\n")]
    talk, _ = write(codec, [*image, region(DOG), Text("?\n")], [region(CAT, DOG)])
    chat.check_tokenizer(tokenizer)

    sample = encode_conversation(talk, chat, tokenizer, dict(image=[2], region=[4]))

    seg, bbox = (tokenizer.convert_tokens_to_ids(t) for t in codec.special_tokens)
    assert [sample.input_ids[mark.start] for mark in sample.marks] == [seg, seg]
    assert (sample.input_ids == seg).sum() == 2
    slots = [slot for slot in sample.slots if slot.modality == "region"]
    # The template of alignment training leaves out what a question says.
    assert [slot.length for slot in slots] == [4] * (
        template not in ("plain", "v0_plain")
    )
    assert bbox not in sample.input_ids
    assert (sample.input_ids == SLOT_TOKEN_ID).sum() == sum(
        slot.length for slot in sample.slots
    )


@pytest.mark.parametrize("template", ["vicuna_v1", "chatml", "llama_2"])
@pytest.mark.parametrize("kind", TOKENIZER_KINDS)
@pytest.mark.parametrize("name", MARKING)
def test_what_people_spell_stays_text(name, kind, template, goldens):
    codec = CODECS.build(dict(type=name))
    tokenizer, chat = build(kind, codec, template, goldens)
    token = codec.region_tokens["user"].token
    number = tokenizer.convert_tokens_to_ids(token)
    clean, _ = dialogue(codec)
    half = len(token) // 2
    literal, regions = write(
        codec,
        [Image(0), Text(f"\n{token}Is "), region(DOG, phrase=token), Text(" red?\n")],
        [Text(f"No, {token}"), region(CAT, phrase=f"the {token}"), Text(f" {token} ")],
        [region(CAT), Text(" and " + token[:half]), Text(token[half:], "expression")],
        [region(DOG), Text(token)],
    )
    lengths = dict(image=[2], region=[1, 3])

    expected, got = (
        encode_conversation(talk, chat, tokenizer, lengths) for talk in (clean, literal)
    )

    assert (got.input_ids == number).sum() == (expected.input_ids == number).sum()
    assert [(s.modality, s.index, s.length) for s in got.slots] == [
        (s.modality, s.index, s.length) for s in expected.slots
    ]
    assert [(m.kind, m.index) for m in got.marks] == [
        (m.kind, m.index) for m in expected.marks
    ]
    for mark in got.marks:
        assert got.input_ids[mark.start : mark.stop].tolist() == [number]
    answers = [turn.text for turn in literal.turns if turn.role == "assistant"]
    trained = spell(tokenizer, got.labels[got.labels >= 0])
    assert all(answer.strip() in trained for answer in answers)
    assert len(regions["input"]) == 2


def test_phrase_that_spells_the_token_is_not_taken_for_it():
    for before in (False, True):
        codec = CODECS.build(dict(type="RegionTokenCodec", before_phrase=before))
        regions = dict(input=[], output=[])
        shown = region(DOG, CAT, phrase="x [SEG]")

        (text,) = codec.write([Text("It: "), shown], "assistant", regions)

        uses = [mark.use for mark in text.marks]
        own = ["output", "output"]
        assert uses == ([*own, "literal"] if before else ["literal", *own])
        assert all(text.text[m.start : m.stop] == "[SEG]" for m in text.marks)
        assert [r.boxes.xyxy[0].tolist() for r in regions["output"]] == [[*DOG], [*CAT]]


def test_replies_of_the_model_keep_their_tokens(goldens):
    codec = CODECS.build(dict(type="RegionTokenCodec"))
    tokenizer, chat = build("bytes", codec, "vicuna_v1", goldens)
    seg = tokenizer.convert_tokens_to_ids("[SEG]")
    counts, said = [], "It is [SEG]."
    quoted = (TextMark(6, 11, "literal"),)
    for reply in (Text(said, "markup"), Text(said), Text(said, "markup", quoted)):
        talk, _ = write(codec, [Text("q")], [reply], [Text("r")])
        sample = encode_conversation(
            talk, chat, tokenizer, [], add_generation_prompt=True
        )
        assert sample.marks == []
        counts.append((sample.input_ids == seg).sum())
    assert counts == [1, 0, 0]


def test_codec_may_write_a_token_that_looks_like_a_frame(goldens):
    codec = CODECS.build(dict(type="RegionTokenCodec", token="<|seg|>"))
    tokenizer, chat = build("bytes", codec, "vicuna_v1", goldens)
    tokenizer.mmvlm_markup = ()  # it came with the tokenizer, as Qwen's do
    talk, _ = write(codec, [Text("a <|seg|>?")], [Text("<|seg|>"), region(DOG)])

    sample = encode_conversation(talk, chat, tokenizer, [])

    number = tokenizer.convert_tokens_to_ids("<|seg|>")
    (place,) = np.flatnonzero(sample.input_ids == number)
    assert [mark.start for mark in sample.marks] == [place]


def test_token_for_a_whole_region_and_number_that_fits_no_box():
    class One(type(CODECS.build(dict(type="RegionTokenCodec")))):
        count = 1

        def _write(self, region, role):
            return "[SEG]" * self.count

    codec, regions = One(), dict(input=[], output=[])
    shown = region(DOG, CAT)
    (text,) = codec.write([shown], "assistant", regions)
    assert regions["output"] == [shown] and len(text.marks) == 1
    codec.count = 3
    with pytest.raises(ValueError, match=r"3 tokens for 2 boxes of a region"):
        codec.write([shown], "assistant", regions)


@pytest.mark.parametrize("kind", TOKENIZER_KINDS)
def test_token_that_the_tokenizer_spells_in_pieces_is_replaced_whole(kind, goldens):
    tokenizer = build_tokenizer(kind, ["<|im_start|>", "<|im_end|>"], goldens)
    chat = CHAT_TEMPLATES.build(dict(type="chatml"))
    codec = CODECS.build(dict(type="FerretCodec"))
    talk, _ = write(codec, [Text("Is "), region(DOG), Text(" red?")], [Text("No.")])

    sample = encode_conversation(talk, chat, tokenizer, dict(region=[2]))

    (slot,) = sample.slots
    before, after = np.split(sample.input_ids, [slot.start, slot.start + 2])[::2]
    assert spell(tokenizer, before).endswith("Is [100, 99, 500, 500] ")
    assert spell(tokenizer, after).startswith(" red?")
    assert spell(tokenizer, sample.labels[sample.labels >= 0]).strip().startswith("No.")


def test_inputs_inside_answers_are_not_trained(goldens):
    codec = CODECS.build(dict(type="RegionTokenCodec"))
    codec.region_tokens["assistant"] = RegionToken("[SEG]", "input", "voken")
    tokenizer, chat = build("bytes", codec, "vicuna_v1", goldens)
    talk, _ = write(codec, [Text("q")], [Text("It "), region(DOG), Text(".")])

    sample = encode_conversation(talk, chat, tokenizer, dict(voken=[2]))

    trained = tokenizer.decode(sample.labels[sample.labels >= 0])
    assert trained == " It .</s>" and sample.slots[0].modality == "voken"


def test_inputs_without_a_count_are_refused(goldens):
    codec = CODECS.build(dict(type="FerretCodec"))
    tokenizer, chat = build("bytes", codec, "vicuna_v1", goldens)
    talk, _ = dialogue(codec)
    for counts in ([1], [1, 0]):
        lengths = dict(image=[2], region=counts)
        with pytest.raises(ValueError, match=r"sample 's'.*\('region', 1\).*token co"):
            encode_conversation(talk, chat, tokenizer, lengths)


@pytest.mark.parametrize("kind", ["bytes", "fast"])
def test_many_at_once_equal_one_by_one(kind, goldens):
    codec = CODECS.build(dict(type="RegionTokenCodec"))
    tokenizer, chat = build(kind, codec, "vicuna_v1", goldens)
    talks = []
    for n in range(20):
        more = [Text(f" [SEG] {n}")] if n % 3 == 0 else [region(DOG)] * (n % 4)
        talks.append(dialogue(codec, more))
    lengths = [
        dict(image=[2], region=[1 + n % 3] * len(regions["input"]))
        for n, (_, regions) in enumerate(talks)
    ]
    encoder = ConversationEncoder(chat, tokenizer)

    batch = encoder([talk for talk, _ in talks], lengths)

    for sample, (talk, _), counts in zip(batch, talks, lengths, strict=True):
        alone = encode_conversation(talk, chat, tokenizer, counts)
        assert sample.input_ids.tolist() == alone.input_ids.tolist()
        assert sample.slots == alone.slots and sample.marks == alone.marks


def test_text_is_cut_with_its_marks():
    text = Text("\n a [SEG] \n", marks=(TextMark(4, 9, "output", "mask", 1),))

    for cut in (text.strip(), text.lstrip(), text.sliced(2), text.rstrip("\n")):
        (mark,) = cut.marks
        assert cut.text[mark.start : mark.stop] == "[SEG]" and mark.index == 1
    assert text.sliced(5).marks == text.sliced(0, 8).marks == ()
    assert text != Text(text.text) and Mark("mask", 1, 0, 1) == Mark("mask", 1, 0, 1)
