"""LISA's official prompts of validation, as the model gets them."""

import mmvlm  # noqa: F401  isort: skip

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from mmvlm.registry import CHAT_TEMPLATES, CODECS, DATA_TASKS, TOKENIZERS
from mmvlm.structures import (
    SLOT_TOKEN_ID,
    AnnotatedImage,
    Expression,
    Instance,
    VisualQuestion,
)
from mmvlm.structures.conversation import Turn
from mmvlm.text.encoding import encode_conversation

BASE = Path(__file__).parents[2] / "configs/_base_"
SETS = [*sorted(BASE.glob("benchmarks/*_seg_*.py")), BASE / "datasets/lisa_mix.py"]
LISA = Config.fromfile(BASE / "datasets/lisa_mix.py")


def asked(is_sentence):
    """Return an image of which every kind of set asks for one thing."""
    dog = Instance(
        (1, 2, 5, 6), "dog", ("the dog",), polygons=((1, 2, 5, 2, 5, 6, 1, 6),)
    )
    text = "Which one barks?" if is_sentence else "the dog"
    question = VisualQuestion(text, instances=(0,), meta=dict(is_sentence=is_sentence))
    words = (Expression("the dog", (0,)),)
    return AnnotatedImage(
        "a.jpg", (20, 30), (dog,), questions=(question,), expressions=words, id="a"
    )


@pytest.mark.parametrize("is_sentence", [False, True])
@pytest.mark.parametrize("path", SETS, ids=lambda path: path.stem)
def test_a_space_follows_the_line_break_behind_the_image(path, is_sentence):
    cfg = Config.fromfile(path)
    data = cfg.get("benchmark", {}).get("dataset") or cfg.test_dataloader.dataset
    task = DATA_TASKS.build(data.task)
    talk = task(asked(is_sentence), ["a.jpg"], np.random.default_rng(0))
    codec = CODECS.build(LISA.codec)
    parts = tuple(codec.write(talk.turns[0].parts, "user"))
    talk.turns[:] = [Turn("user", parts)]
    special = ["<im_start>", "<im_end>", *codec.special_tokens]
    tokenizer = TOKENIZERS.build(dict(type="TinyTokenizer", special_tokens=special))
    template = CHAT_TEMPLATES.build(LISA.chat_template)

    sample = encode_conversation(
        talk, template, tokenizer, [2], add_generation_prompt=True
    )

    shown = [number for number in sample.input_ids.tolist() if number != SLOT_TOKEN_ID]
    words = "What is the dog in this image?"
    if is_sentence and data.type == "ReasonSegDataset":
        words = "Which one barks?"
    assert (
        f"<im_start><im_end>\n {words} Please output segmentation mask. ASSISTANT:"
    ) in tokenizer.decode(shown)
