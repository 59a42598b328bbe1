"""Prompts of an exported folder are the token ids that our model was trained on."""

import pytest
from export_helpers import hf_ids

from mmvlm.datasets.processor import VLMProcessor
from mmvlm.export import chat_jinja
from mmvlm.export.hf_files import add_image_token, save_processor
from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import PatchTokenCount, VisionEncoderSpec
from mmvlm.text.llava_format import IMAGE_TAG
from mmvlm.text.tiny_tokenizer import tiny_tokenizer

SPEC = VisionEncoderSpec(
    width=32,
    num_layers=3,
    patch_size=8,
    image_size=32,
    num_prefix_tokens=1,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
#: What they write differs from round to round, so no Jinja text is exported.
IRREGULAR = {
    *("cogvlm_chat", "cogvlm_vqa", "ds_visualchat", "encoder_decoder"),
    *("instructblip", "lavin", "multimodal_gpt", "onellm", "openflamingo"),
    *("plain", "v0_plain"),
    "xtuner/chatglm2",
}
#: A tokenizer's own template, with a system text of its own, as SmolLM2 has.
OWN = """{%- if messages[0]['role'] != 'system' -%}<|im_start|>system
Be good.<|im_end|>
{% endif -%}
{%- for message in messages -%}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""
TALKS = {
    "an image": ([f"{IMAGE_TAG}\nWhat colour?"], True),
    "text only": (["How  many?"], False),
    "three turns": ([f"{IMAGE_TAG}\nA?", "b.", "C?", "d e.", "F?"], True),
}


def templates():
    aliases = ("TokenizerChatTemplate",)
    names = {name for name in CHAT_TEMPLATES.module_dict if name not in aliases}
    return sorted(names)


@pytest.mark.parametrize("add_bos", [True, False])
@pytest.mark.parametrize("name", templates())
def test_processor_and_template_give_our_ids(name, add_bos, tmp_path):
    template = CHAT_TEMPLATES.build(dict(type=name))
    marks = ("<|im_start|>", "<|im_end|>")
    tokenizer = tiny_tokenizer(
        special_tokens=template.special_tokens or marks,
        add_bos=add_bos and name != "tokenizer",
        chat_template=OWN if name == "tokenizer" else None,
    )
    template.check_tokenizer(tokenizer)
    context = VLMProcessor(tokenizer, template, SPEC, PatchTokenCount(8))
    exported, _ = add_image_token(tokenizer)
    save_processor(tmp_path, context, exported, dict(type="PadToSquare"), "default")
    assert any(tmp_path.glob("chat_template*")) == (name not in IRREGULAR)
    if name in IRREGULAR:
        return
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(tmp_path)
    for texts, image in TALKS.values():
        ours = hf_ids(context, texts, processor)
        assert ours == told(processor, texts, image, tokenize=False)
        assert ours == told(processor, texts, image, tokenize=True)


@pytest.mark.parametrize("add_bos", [True, False])
def test_a_literal_bos_stays(add_bos, tmp_path, monkeypatch):
    from transformers import AutoProcessor

    said = []
    monkeypatch.setattr(chat_jinja, "print_log", lambda text, **k: said.append(text))
    tokenizer = tiny_tokenizer(add_bos=add_bos)
    template = CHAT_TEMPLATES.build(dict(type="vicuna_v1", literal_bos="<s>"))
    context = VLMProcessor(tokenizer, template, SPEC, PatchTokenCount(8))
    exported, _ = add_image_token(tokenizer)
    save_processor(tmp_path, context, exported, dict(type="PadToSquare"), "default")
    processor = AutoProcessor.from_pretrained(tmp_path)

    for texts, image in TALKS.values():
        ours = hf_ids(context, texts, processor)
        assert ours.count(tokenizer.bos_token_id) == 1 + add_bos
        assert ours == told(processor, texts, image, tokenize=False)
        by_ids = told(processor, texts, image, tokenize=True)
        assert by_ids == ours or (said and by_ids == ours[1:])
    assert ["render the text" in text for text in said] == [True] * add_bos


def told(processor, texts, shown, tokenize):
    """Ids of the exported processor, one way or the other."""
    import numpy as np

    image = np.zeros((20, 30, 3), "uint8")
    messages = []
    for number, text in enumerate(texts):
        content = [dict(type="text", text=text.removeprefix(f"{IMAGE_TAG}\n"))]
        if text.startswith(IMAGE_TAG):
            content.insert(0, dict(type="image", image=image))
        messages.append(dict(role=("user", "assistant")[number % 2], content=content))
    if tokenize:
        return processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"][0]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    images = image if shown else None
    return processor(images=images, text=text)["input_ids"][0]
