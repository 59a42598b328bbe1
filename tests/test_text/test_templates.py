"""What must hold of every registered template, with every kind of tokenizer."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
from text_cases import TOKENIZER_KINDS, needed_tokens, spell, template_names

from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import Conversation, Image, Media, Text, Turn
from mmvlm.text.encoding import encode_batch, encode_conversation

ANSWERS = (
    "The 2 dogs.",
    "4",
    "\nA line break first, and last\n",
    "\n\n",
    "  two spaces around  ",
    "\u4e00\u53ea\u732b \U0001f600 caf\u00e9",
    '[0.12, 0.30] "quoted" <b>',
    " ",
    "He said ASSISTANT: hello USER: there",
)
ALPHABET = "abzAZ 019.,:;!?<>[]()'\"\n\t\\/#_-=+*&%$@~^|{}\u00e9\u00df\u732b\U0001f600 "
#: End marks, written down by hand: what the model must learn to say last.
END_MARKS = {
    "chatml": "<|im_end|>",
    "cogvlm_chat": "</s>",
    "cogvlm_vqa": "</s>",
    "ds_visualchat": "</s>",
    "lavin": "</s>",
    "multimodal_gpt": "### End.</s>",
    "openflamingo": "<|endofchunk|>",
    "chatml_direct": "<|im_end|>",
    "deepseek": "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "emu": "</s>",
    "emu_plain": "</s>",
    "gemma": "<end_of_turn>",
    "instructblip": "</s>",
    "internlm2": "<|im_end|>",
    "llama_2": " </s>",
    "llama_3": "<|eot_id|>",
    "llava_llama_2": " </s>",
    "llava_v0": "\n###",
    "llava_v1": "</s>",
    "minigpt4": "###",
    "minigpt_v2": "</s>",
    "mistral": "</s>",
    "mistral_instruct": " </s>",
    "mplug_owl": "</s>",
    "mpt": "<|im_end|>",
    "onellm": "\n###",
    "phi_3": "<|end|>",
    "plain": "\n",
    "qwen": "<|im_end|>",
    "tokenizer": "<|im_end|>",
    "v0_mmtag": "\n###",
    "v1_mmtag": "</s>",
    "vicuna_v1": "</s>",
    "xtuner/cohere_chat": "<|END_OF_TURN_TOKEN|>",
    "xtuner/deepseek_v2": "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "xtuner/gemma": "<end_of_turn></s>",
    "xtuner/internlm2_chat": "<|im_end|>",
    "xtuner/internlm_chat": "<eoa>",
    "xtuner/llama3_chat": "<|eot_id|>",
    "xtuner/minicpm3": "<|im_end|>",
    "xtuner/phi3_chat": "<|end|>",
    "xtuner/qwen_chat": "<|im_end|>",
}
#: Two streams of one conversation are tested in test_seq2seq_encoding.
NAMES = [name for name in template_names() if name != "encoder_decoder"]
KINDS = pytest.mark.parametrize("kind", TOKENIZER_KINDS)
ALL = pytest.mark.parametrize("name", NAMES)


def end_mark(name):
    # xtuner's entries without a suffix of their own end with EOS.
    return (
        END_MARKS[name] if name in END_MARKS else {True: "</s>"}[name[:7] == "xtuner/"]
    )


def random_answers(count, seed):
    rng = random.Random(seed)
    return ["".join(rng.choices(ALPHABET, k=rng.randint(1, 24))) for _ in range(count)]


def talk(name, answers):
    """A conversation with two images, as many rounds as the template takes."""
    if name == "plain":
        question = Turn("user", (Image(0), Image(1), Text("\nDescribe.")))
        turns = [question, Turn("assistant", (Text(answers[0]),))]
        return Conversation(turns, ["a.png", "b.png"], id="s")
    turns = []
    for number, answer in enumerate(answers):
        parts = (Text(f"question {number}\n"),)
        if number == 0:
            parts = (Image(0), Text("\nWhat?"))
        if number == 1:
            parts = (Text("And in "), Image(1), Text("?"))
        turns += [Turn("user", parts), Turn("assistant", (Text(answer),))]
    return Conversation(turns, ["a.png", "b.png"][: len(answers)], id="s")


def trained_spans(sample):
    flags = np.concatenate([[0], sample.labels >= 0, [0]]).astype(int)
    edges = np.flatnonzero(np.diff(flags)).reshape(-1, 2)
    return [sample.labels[start:end] for start, end in edges]


def setup(name, kind, make_tokenizer):
    """Build template and tokenizer; skip what the tokenizer cannot hold."""
    tokenizer = make_tokenizer(kind, needed_tokens(name))
    template = CHAT_TEMPLATES.build(dict(type=name))
    if kind == "slow" and not tokenizer.is_fast:
        if any("\u2581" in token for token in template.special_tokens):
            with pytest.raises(ValueError, match="is not one token"):
                template.check_tokenizer(tokenizer)
            pytest.skip("slow Llama reads the mark inside the token as a space")
    template.check_tokenizer(tokenizer)
    return template, tokenizer


@KINDS
@ALL
def test_trained_spans_spell_the_answers(name, kind, make_tokenizer):
    template, tokenizer = setup(name, kind, make_tokenizer)
    singles = [[answer] for answer in (*ANSWERS, *random_answers(12, name))]
    triples = [list(ANSWERS[i : i + 3]) for i in range(0, 9, 3)]
    for answers in singles if name == "plain" else singles + triples:
        conversation = talk(name, answers)
        lengths = [3, 2][: len(conversation.images)]

        sample = encode_conversation(conversation, template, tokenizer, lengths)

        spelt = [spell(tokenizer, span) for span in trained_spans(sample)]
        assert len(spelt) == len(answers)
        for got, answer in zip(spelt, answers, strict=True):
            # The space that opens an answer, the template's or the tokenizer's.
            assert got in (answer + end_mark(name), f" {answer}{end_mark(name)}")


@KINDS
@ALL
def test_prompt_is_the_start_of_the_training_sample(name, kind, make_tokenizer):
    template, tokenizer = setup(name, kind, make_tokenizer)
    for answer in (*ANSWERS, *random_answers(6, name)):
        whole = talk(name, [answer])
        asked = Conversation(whole.turns[:-1], whole.images, id="s")
        lengths = [3] * len(whole.images)

        sample = encode_conversation(whole, template, tokenizer, lengths)
        prompt = encode_conversation(
            asked, template, tokenizer, lengths, add_generation_prompt=True
        )

        first = int(np.flatnonzero(sample.labels >= 0)[0])
        assert prompt.input_ids.tolist() == sample.input_ids[:first].tolist()
        assert (prompt.labels < 0).all()


@KINDS
@ALL
def test_slots_hold_the_images_and_are_never_trained(name, kind, make_tokenizer):
    template, tokenizer = setup(name, kind, make_tokenizer)
    conversation = talk(name, ["one", "two", "three"])

    sample = encode_conversation(conversation, template, tokenizer, [5, 7])

    assert [(s.index, s.length) for s in sample.slots] == [(0, 5), (1, 7)]
    inside = np.zeros(len(sample), dtype=bool)
    for slot in sample.slots:
        inside[slot.start : slot.start + slot.length] = True
    assert np.array_equal(inside, sample.input_ids == -200)
    assert (sample.labels[inside] == -100).all()
    trained = sample.labels != -100
    assert np.array_equal(sample.labels[trained], sample.input_ids[trained])


@pytest.mark.parametrize("kind", ["bytes", "slow-legacy", "fast"])
@ALL
def test_batch_equals_one_by_one(name, kind, make_tokenizer):
    template, tokenizer = setup(name, kind, make_tokenizer)
    talks = [talk(name, [a, "x", "y"]) for a in (*ANSWERS, *ANSWERS)]
    lengths = [[n + 1, 2] for n in range(len(talks))]

    batch = encode_batch(talks, template, tokenizer, lengths)

    for conversation, counts, got in zip(talks, lengths, batch, strict=True):
        fresh = CHAT_TEMPLATES.build(dict(type=name))
        alone = encode_conversation(conversation, fresh, tokenizer, counts)
        assert got.input_ids.tolist() == alone.input_ids.tolist()
        assert got.labels.tolist() == alone.labels.tolist()
        assert got.slots == alone.slots


@ALL
def test_template_survives_pickling(name, make_tokenizer):
    template, _ = setup(name, "bytes", make_tokenizer)

    copy = pickle.loads(pickle.dumps(template))

    conversation = talk(name, ["one", "two"])
    assert copy.render(conversation) == template.render(conversation)


@ALL
def test_unsupervised_answer_is_not_trained(name, make_tokenizer):
    template, tokenizer = setup(name, "bytes", make_tokenizer)
    conversation = talk(name, ["one", "two"])
    last = conversation.turns[-1]
    conversation.turns[-1] = Turn(last.role, last.parts, supervised=False)

    sample = encode_conversation(conversation, template, tokenizer, [1, 1])

    assert len(trained_spans(sample)) == len(conversation.turns) // 2 - 1


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("plain", "tokenizer")])
def test_system_text_is_rendered_from_config_and_conversation(name):
    table = getattr(CHAT_TEMPLATES.build(dict(type=name)), "table", {})
    plain = Conversation.from_texts("q", "a")
    own = Conversation.from_texts("q", "a", system="Be kind.")
    if isinstance(table, dict) and "SYSTEM" not in table:
        with pytest.raises(ValueError, match=f"'{name}' has no place for a system"):
            CHAT_TEMPLATES.build(dict(type=name, system="Be brief."))
        return
    template = CHAT_TEMPLATES.build(dict(type=name, system="Be brief."))

    from_config = "".join(p.text for p in template.render(plain))
    from_talk = "".join(p.text for p in template.render(own))

    assert from_config.count("Be brief.") == 1
    assert from_talk == from_config.replace("Be brief.", "Be kind.")


@pytest.mark.parametrize(
    "name", [n for n in NAMES if "v0" not in n and n not in ("plain", "tokenizer")]
)
def test_roles_that_do_not_alternate_are_refused(name):
    template = CHAT_TEMPLATES.build(dict(type=name))
    double = Conversation(
        [Turn("user", (Text("a"),)), Turn("user", (Text("b"),))], id="s7"
    )

    with pytest.raises(ValueError, match=r"sample 's7': turn 1 is by 'user'"):
        template.render(double)
    with pytest.raises(ValueError, match=r"'s8': add_generation_prompt needs a user"):
        answered = Conversation.from_texts("q", "a")
        answered.id = "s8"
        template.render(answered, add_generation_prompt=True)


def test_onellm_puts_every_input_behind_bos():
    parts = (Media("audio", 0), Text("\nWhat?"))
    turns = [
        Turn("user", (Image(0), Text("\nHere."))),
        Turn("assistant", (Text("Yes."),)),
        Turn("user", parts),
        Turn("assistant", (Text("A bell."),)),
    ]
    talk = Conversation(turns, ["a.png"], "s", media={"audio": ["a.wav"]})

    pieces = CHAT_TEMPLATES.build(dict(type="onellm")).render(talk)

    assert pieces[0].image == 0 and pieces[1].media == Media("audio", 0)
    text = "".join(piece.text for piece in pieces[2:])
    assert text.startswith("A chat between a curious human")
    said = text.split("\n\n", 1)[1]
    assert said == (
        "### Human: Here.\n### Assistant: Yes.\n"
        "### Human: What?\n### Assistant: A bell.\n### "
    )
