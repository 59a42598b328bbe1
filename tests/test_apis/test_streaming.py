"""What a stream may show already."""

import pytest

from mmvlm.registry import TOKENIZERS
from mmvlm.text.replies import reply_text


class Letters:
    """Ids are code points; 0 is a half character."""

    all_special_tokens = ()
    unk_token_id = None

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return "".join("\ufffd" if i == 0 else chr(i) for i in ids)

    def convert_tokens_to_ids(self, token):
        return None


@pytest.mark.parametrize(
    ("text", "stops", "shown"),
    [
        ("abc", (), "abc"),
        (" abc ", (), "abc"),
        ("abc<", ("</s>",), "abc"),
        ("abc</", ("</s>", "###"), "abc"),
        ("abc</x", ("</s>",), "abc</x"),
        ("abc</s>de", ("</s>",), "abc"),
        ("ab##", ("###",), "ab"),
    ],
)
def test_what_a_stream_may_show(text, stops, shown):
    ids = [ord(c) for c in text]
    assert reply_text(Letters(), ids, stops, ended=False) == shown


def test_half_characters_wait():
    assert reply_text(Letters(), [97, 0], (), ended=False) == "a"


@pytest.mark.parametrize("ended", [True, False])
def test_a_mark_ends_a_reply_and_words_that_look_alike_do_not(ended):
    tokenizer = TOKENIZERS.build(dict(type="TinyTokenizer"))
    spelled = tokenizer.encode("a<", add_special_tokens=False)
    spelled += tokenizer.encode("/s> b", add_special_tokens=False)
    ids = [*spelled, tokenizer.eos_token_id, *spelled]

    shown = reply_text(tokenizer, ids, ["</s>"], ended=ended)

    assert shown == "a</s> b"
    assert reply_text(tokenizer, ids, ["</s>", "/s"], ended=ended) == "a<"
