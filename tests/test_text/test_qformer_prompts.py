"""Prompts of MiniGPT-4, MiniGPT-v2 and InstructBLIP, to the character."""

import pytest

from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import Conversation, Image, Text, Turn


def shown(name, *texts, prompt=False, **options):
    template = CHAT_TEMPLATES.build(dict(type=name, **options))
    turns = [Turn("user", (Image(0), Text(texts[0])))]
    for number, text in enumerate(texts[1:], 1):
        turns.append(Turn(("user", "assistant")[number % 2], (Text(text),)))
    talk = Conversation(turns, images=["a.png"])
    pieces = template.render(talk, add_generation_prompt=prompt)
    text = "".join("@" if p.image is not None else p.text for p in pieces)
    return text, [p.text for p in pieces if p.supervised]


def test_minigpt4_is_the_alignment_prompt():
    text, said = shown("minigpt4", " Describe this image in detail.", "A dog.")

    assert text == (
        "###Human: <Img>@</Img> Describe this image in detail. ###Assistant: A dog.###"
    )
    assert said == [" A dog.###"]


def test_minigpt4_dialogues_and_systems_share_their_marks():
    text, _ = shown("minigpt4", " A?", "B.", "C?", prompt=True, system="Look.")

    assert text == (
        "Look.###Human: <Img>@</Img> A? ###Assistant: B.###Human: C? ###Assistant:"
    )


def test_minigpt_v2_wraps_image_and_task():
    text, said = shown("minigpt_v2", " [vqa] What is it?", "dog", "And?", "cat")

    assert text == (
        "[INST] <Img>@</Img> [vqa] What is it? [/INST] dog</s>[INST] And? [/INST] "
        "cat</s>"
    )
    assert said == [" dog</s>", " cat</s>"]


@pytest.mark.parametrize("question", ["\nWhat is it?", "What is it?\n"])
def test_instructblip_is_the_bare_instruction(question):
    text, said = shown("instructblip", question, "dog")

    assert text == "@</s>What is it? dog</s>"
    assert said == [" dog", "</s>"]
    prompt, _ = shown("instructblip", question, prompt=True)
    assert prompt == "@</s>What is it?"
