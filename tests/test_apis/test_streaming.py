"""What a stream may show already."""

import pytest

from mmvlm.apis.streaming import settled_text


class Letters:
    """Ids are code points; 0 is a half character."""

    all_special_tokens = ["<pad>"]

    def decode(self, ids):
        return "".join("\ufffd" if i == 0 else chr(i) for i in ids)


@pytest.mark.parametrize(
    ("text", "stops", "shown"),
    [
        ("abc", (), "abc"),
        (" abc ", (), "abc"),
        ("abc<", ("</s>",), "abc"),
        ("abc</", ("</s>", "###"), "abc"),
        ("abc</x", ("</s>",), "abc</x"),
        ("abc</s>de", ("</s>",), "abc"),
        ("ab<pad>c", (), "abc"),
        ("ab##", ("###",), "ab"),
    ],
)
def test_settled_text(text, stops, shown):
    assert settled_text(Letters(), [ord(c) for c in text], stops) == shown


def test_half_characters_wait():
    assert settled_text(Letters(), [97, 0], ()) == "a"
