"""Messages of templates and their tokenizer check."""

from __future__ import annotations

import pytest
from text_cases import CHATML_JINJA, build_tokenizer

from mmvlm.datasets.processor import VLMProcessor
from mmvlm.registry import CHAT_TEMPLATES, TOKENIZERS
from mmvlm.structures import Boxes, Conversation, Region, Text, Turn
from mmvlm.text.encoding import ConversationEncoder, encode_conversation
from mmvlm.text.templates import xtuner


def build(name, **kwargs):
    return CHAT_TEMPLATES.build(dict(type=name, **kwargs))


def tiny(*special_tokens, **kwargs):
    return TOKENIZERS.build(
        dict(type="TinyTokenizer", special_tokens=special_tokens, **kwargs)
    )


def test_unknown_name_lists_the_nearest():
    with pytest.raises(KeyError, match=r"'vicuna_v2'\. Did you mean 'vicuna_v1'"):
        build("vicuna_v2")
    with pytest.raises(KeyError, match="Did you mean 'xtuner/llama3_chat'"):
        build("xtuner/lama3_chat")


def test_missing_xtuner_is_named(monkeypatch):
    monkeypatch.setattr(xtuner, "_table", lambda: None)
    monkeypatch.setattr(CHAT_TEMPLATES, "hints", {})
    monkeypatch.setattr(
        CHAT_TEMPLATES,
        "_module_dict",
        {k: v for k, v in CHAT_TEMPLATES.module_dict.items() if "xtuner" not in k},
    )
    xtuner._register()

    with pytest.raises(KeyError, match=r"need the package xtuner.*pip install xtuner"):
        build("xtuner/vicuna")


def test_xtuner_entries_all_have_a_name():
    from xtuner.utils import PROMPT_TEMPLATE

    CHAT_TEMPLATES.import_from_location()
    assert {f"xtuner/{n}" for n in PROMPT_TEMPLATE} <= set(CHAT_TEMPLATES.module_dict)


def test_context_refuses_a_tokenizer_without_the_end_mark():
    cfg = dict(tokenizer=dict(type="TinyTokenizer"), chat_template="llama_3")

    with pytest.raises(
        ValueError,
        match=r"chat template 'llama_3': special token '<\|start_header_id\|>' is not "
        r"one token of the tokenizer .*\.new_tokens=dict\(tokens=\[",
    ):
        VLMProcessor.from_config(cfg, model=None)


@pytest.mark.parametrize("kind", ["slow", "fast", "bytes"])
def test_end_mark_that_is_several_tokens_is_refused(kind, goldens):
    tokenizer = build_tokenizer(kind, ["<|im_start|>"], goldens)

    with pytest.raises(ValueError, match=r"'chatml': special token '<\|im_end\|>' is"):
        build("chatml").check_tokenizer(tokenizer)


@pytest.mark.parametrize("name", ["vicuna_v1", "chatml", "llava_v0", "llama_2"])
def test_template_without_end_is_refused(name):
    template = build(name, end_mark="")

    with pytest.raises(ValueError, match=f"'{name}': an answer ends with no .*EOS"):
        template.check_tokenizer(tiny("<|im_start|>", "<|im_end|>"))


def test_template_that_ends_with_eos_needs_one():
    tokenizer = tiny()
    tokenizer.eos_token = None

    with pytest.raises(ValueError, match=r"'xtuner/vicuna'.*defines no eos_token"):
        build("xtuner/vicuna").check_tokenizer(tokenizer)


def test_plain_takes_any_tokenizer():
    tokenizer = tiny()
    tokenizer.eos_token = None

    build("plain").check_tokenizer(tokenizer)


def test_end_mark_can_be_that_of_another_language_model():
    tokenizer = tiny("<|endoftext|>")
    template = build("vicuna_v1", end_mark="<|endoftext|>")
    template.check_tokenizer(tokenizer)

    sample = encode_conversation(
        Conversation.from_texts("q", "a"), template, tokenizer, []
    )

    assert sample.labels[-1] == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert template.stop_strings == ("<|endoftext|>",)


def test_plain_wants_an_image_and_one_answer():
    question, answer = Turn("user", (Text("q"),)), Turn("assistant", (Text("a"),))

    with pytest.raises(ValueError, match=r"sample 's': .*'plain' needs an <image>"):
        build("plain").render(Conversation([question, answer], id="s"))
    with pytest.raises(ValueError, match=r"sample 's': .*takes turns \['user', 'ass"):
        build("plain").render(Conversation([question], id="s"))
    pieces = build("plain", require_image=False).render(Conversation([answer]))
    assert [(p.text, p.supervised) for p in pieces] == [("a\n", True)]


def test_region_needs_a_codec():
    part = Region(0, Boxes([[0, 0, 1, 1]], (4, 4)))

    with pytest.raises(ValueError, match=r"sample 's': a Region reached the chat"):
        build("vicuna_v1").render(Conversation([Turn("user", (part,))], id="s"))


def test_tokenizer_without_chat_template_is_refused():
    with pytest.raises(ValueError, match=r"brings no chat template.*vicuna_v1"):
        build("tokenizer").check_tokenizer(tiny())


def test_chat_template_that_ends_no_answer_is_refused():
    jinja = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"

    with pytest.raises(ValueError, match=r"holds no special token \(EOS\)"):
        build("tokenizer").check_tokenizer(tiny(chat_template=jinja))


def test_chat_template_that_rewrites_the_conversation_is_refused():
    jinja = CHATML_JINJA.replace(
        "{{ m['content'] }}", "{{ m['content'] | replace('cat', 'dog') }}"
    )
    template = build("tokenizer")
    template.check_tokenizer(tiny("<|im_start|>", "<|im_end|>", chat_template=jinja))

    template.render(Conversation.from_texts("a dog", "yes"))
    with pytest.raises(ValueError, match=r"sample 's': .*rewrites the conversation"):
        talk = Conversation.from_texts("a cat", "yes")
        talk.id = "s"
        template.render(talk)


def test_chat_template_that_refuses_a_role_names_the_sample():
    jinja = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}" + CHATML_JINJA
    )
    template = build("tokenizer", system="Be brief.")
    template.check_tokenizer(tiny("<|im_start|>", "<|im_end|>", chat_template=jinja))

    with pytest.raises(ValueError, match=r"refuses roles \['system', .*no system"):
        template.render(Conversation.from_texts("q", "a"))


LLAMA_JINJA = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "[INST] {{ m['content'] | trim }} [/INST]{% else %}"
    "{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def test_chat_template_that_trims_and_writes_bos_is_followed():
    tokenizer = tiny(chat_template=LLAMA_JINJA)
    template = build("tokenizer")
    talk = Conversation.from_texts("  q ", " one\n", "and?", "two")

    sample = encode_conversation(talk, template, tokenizer, [])

    messages = [dict(role=turn.role, content=turn.text) for turn in talk.turns]
    expected = tokenizer.apply_chat_template(messages, tokenize=True)
    expected = expected if isinstance(expected, list) else expected["input_ids"]
    assert sample.input_ids.tolist() == expected
    assert tokenizer.decode(sample.labels[sample.labels >= 0]) == " one </s> two </s>"
    assert template.stop_strings == ("</s>",)


def test_llavas_count_is_only_for_llavas_templates():
    tokenizer = tiny("<|im_start|>", "<|im_end|>")

    with pytest.raises(ValueError, match=r"drop_on_mismatch=True is LLaVA's rule, but"):
        ConversationEncoder(build("chatml"), tokenizer, drop_on_mismatch=True)
    with pytest.raises(ValueError, match=r"labels='llava' is LLaVA's rule, but .*qwen"):
        ConversationEncoder(build("qwen"), tokenizer, labels="llava")
    with pytest.raises(ValueError, match=r"labels='right', expected 'exact'"):
        ConversationEncoder(build("vicuna_v1"), tiny(), labels="right")
