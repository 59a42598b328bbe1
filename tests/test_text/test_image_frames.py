"""Text around images: numbers, and Qwen-VL's two formats."""

from mmvlm.registry import CHAT_TEMPLATES, TOKENIZERS
from mmvlm.structures import SLOT_TOKEN_ID, Conversation, Image, Text, Turn
from mmvlm.text.encoding import encode_conversation

QWEN_VL = dict(
    type="qwen", image_prefix="Picture {number}: <img>", image_suffix="</img>"
)
PLAIN = dict(
    type="plain", end_mark="<|endoftext|>", image_prefix="<img>", image_suffix="</img>"
)


def _talk():
    first = (Image(0), Text("\nAnd "), Image(1), Text("\nWhat differs?"))
    turns = [
        Turn("user", first),
        Turn("assistant", (Text("The sky."),)),
        Turn("user", (Text("Sure?"),)),
        Turn("assistant", (Text("Yes."),)),
    ]
    return Conversation(turns, ["a.png", "b.png"], id="s")


def _encode(config, talk, lengths):
    special = ["<|im_start|>", "<|im_end|>", "<img>", "</img>", "<|endoftext|>"]
    tokenizer = TOKENIZERS.build(dict(type="TinyTokenizer", special_tokens=special))
    template = CHAT_TEMPLATES.build(config)
    return tokenizer, encode_conversation(talk, template, tokenizer, lengths)


def _shown(tokenizer, sample):
    ids, text = sample.input_ids.tolist(), ""
    for number in ids:
        text += "*" if number == SLOT_TOKEN_ID else tokenizer.decode([number])
    return text


def test_qwen_vl_numbers_its_images_and_trains_both_answers():
    tokenizer, sample = _encode(QWEN_VL, _talk(), [2, 3])

    assert _shown(tokenizer, sample).endswith(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nPicture 1: <img>**</img>\nAnd "
        "Picture 2: <img>***</img>\nWhat differs?<|im_end|>\n"
        "<|im_start|>assistant\nThe sky.<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n"
    )
    trained = tokenizer.decode(sample.labels[sample.labels >= 0])
    assert trained == "The sky.<|im_end|>Yes.<|im_end|>"


def test_plain_frames_the_image_only_where_asked():
    talk = Conversation.from_texts("Say it.", "A dog.", images=["a.png"])

    for framed, expected in (
        (True, "<img>**</img>A dog.<|endoftext|>"),
        (False, "**A dog.<|endoftext|>"),
    ):
        config = dict(PLAIN, frame_question=framed)
        tokenizer, sample = _encode(config, talk, [2])
        text = _shown(tokenizer, sample)
        assert text.removeprefix(tokenizer.bos_token) == expected
        trained = tokenizer.decode(sample.labels[sample.labels >= 0])
        assert trained == "A dog.<|endoftext|>"
