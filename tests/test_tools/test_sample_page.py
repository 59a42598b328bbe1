"""The browser's page and its terminal twin."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from sample_card import (
    SampleCard,
    mask_outlines,
    token_runs,
    visible,
)
from sample_page import as_json, write_sample_page
from sample_terminal import render_card

from mmvlm.structures import (
    AnnotatedImage,
    Boxes,
    Conversation,
    EncodedSample,
    Image,
    Instance,
    Region,
    Slot,
    Text,
    Turn,
    ViewLayout,
)
from mmvlm.text.tiny_tokenizer import train_tiny_tokenizer

HOSTILE = (
    "</span><script>alert(1)</script><img src=x onerror=alert(2)>\"' &amp; "
    "</pre></details></body> \ud800 \x00 \x1b[31m \u202e javascript:alert(3)"
)


class Page(HTMLParser):
    """Tags, attributes and shown text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.shown, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.shown.append(data)


def boxed(phrase="it", kind="box", boxes=((2, 3, 8, 9),), **masks):
    array = np.array(boxes, float)
    return Region(0, Boxes(array, (20, 30)), kind, phrase, **masks)


def card(*regions, text="Where?", **fields):
    turns = [
        Turn("user", (Image(0), Text(text))),
        Turn("assistant", (Text("At "), *regions)),
    ]
    talk = Conversation(turns, ["a.png"], "7", {"note": text})
    image = np.zeros((20, 30, 3), np.uint8)
    return SampleCard(
        "set", 3, "7", "root/a.png", {"x": text}, talk, images=[image], **fields
    )


def page_of(tmp_path, *cards, **options):
    path = write_sample_page(cards, tmp_path / "page.html", **options)
    text = open(path, encoding="utf-8").read()
    page = Page(text)
    assert page.open == [], "every tag is closed"
    return page, text


def test_hostile_records_are_shown_and_not_run(tmp_path):
    hostile = card(boxed(HOSTILE), text=HOSTILE, reason=HOSTILE)
    hostile.dataset = hostile.id = hostile.path = HOSTILE
    hostile.record = {HOSTILE: [HOSTILE, b"\xff", float("nan"), object()]}
    hostile.conversation.meta[HOSTILE] = HOSTILE
    hostile.conversation.images[0] = HOSTILE
    thing = Instance((0, 0, 5, 5), name=HOSTILE, phrases=(HOSTILE,), id=HOSTILE)
    hostile.annotation = AnnotatedImage("a", (20, 30), (thing,))

    page, text = page_of(tmp_path, hostile, title=HOSTILE, notes=[HOSTILE])

    assert "script" not in page.tags and page.tags.count("img") == 1
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in " ".join(page.shown)
    assert "\x1b" not in text and "\x00" not in text and "\u202e" not in text
    assert page.tags.count("article") == 1


def test_page_loads_nothing(tmp_path):
    page, text = page_of(tmp_path, card(boxed()))

    links = [v for k, v in page.attributes if k in ("src", "href")]
    assert links and all(link.startswith("data:image/") for link in links)
    assert "http" not in re.sub(r"data:[^\"]+", "", text)


def test_regions_are_drawn_in_their_pixels(tmp_path):
    ring = (1.0, 1.0, 9.0, 1.0, 9.0, 7.0)
    mask = boxed("shape", "mask", polygons=((ring,),))
    two = boxed("both", boxes=((0, 0, 4, 4), (10, 10, 30, 20)))
    point = boxed(None, "point", boxes=((5, 6, 5, 6),))

    page, text = page_of(tmp_path, card(mask, two, point))

    assert '<rect x="10.00" y="10.00" width="20.00" height="10.00"' in text
    assert '<polygon points="1.00,1.00 9.00,1.00 9.00,7.00"' in text
    assert '<circle cx="5.00" cy="6.00"' in text
    assert 'viewBox="0 0 30 20"' in text
    colours = set(re.findall(r'stroke="(#\w+)"', text))
    assert len(colours) == 3
    chips = re.findall(r'class="chip" style="border-color:(#\w+)"', text)
    assert set(chips) == colours
    assert "1 shape [mask 2, 3, 8, 9]" in "".join(page.shown)


def test_annotations_are_drawn_below_the_regions(tmp_path):
    shown = card(boxed())
    things = (
        Instance((1, 1, 3, 3), name="cup", id="9"),
        Instance((0, 0, 4, 4), rle=dict(size=[20, 30], counts=[45, 5, 550])),
        Instance((0, 0, 4, 4), rle=dict(size=[2, 2], counts=[9])),
        Instance((float("nan"), 0, 1, 1)),
    )
    shown.annotation = AnnotatedImage("a.png", (20, 30), things)

    _, text = page_of(tmp_path, shown)

    assert "<title>cup, 9</title>" in text
    assert text.count('<rect class="known"') == 3  # all but the one that is no box
    assert text.count('<polygon class="known"') == 1  # the damaged mask is not drawn
    assert text.index("known") < text.index('stroke-width="2"')


def test_outline_of_a_mask_follows_its_pixels():
    # Column 2, rows 5 to 9 of an image of 20 rows.
    (ring,) = mask_outlines((), dict(size=[20, 30], counts=[45, 5, 550]), (20, 30))

    low, high = ring.min(0), ring.max(0)
    assert np.allclose(low, (2, 5), atol=0.13) and np.allclose(high, (3, 10), atol=0.13)
    assert mask_outlines((), dict(size=[1, 1], counts="x"), (20, 30)) == []


@pytest.fixture(scope="module")
def tokenizer():
    return train_tiny_tokenizer(["what is it? a red cup\nand more words"] * 3, 300)


def test_tokens_are_cut_into_runs_that_spell_the_text(tokenizer):
    ids = tokenizer("what is it?\n", add_special_tokens=False)["input_ids"]
    answer = tokenizer(" a \u00e9\U0001f600 cup", add_special_tokens=False)["input_ids"]
    slots = [Slot(0, 1, 5), Slot(1, 6, 2)]
    all_ids = [1, *[-200] * 7, *ids, *answer, 2]
    labels = [-100] * (8 + len(ids)) + [*answer, 2]
    encoded = EncodedSample(np.array(all_ids), np.array(labels), slots)

    runs = token_runs(encoded, tokenizer)

    kinds = [(run.kind, run.count) for run in runs]
    trained = len(answer) + 1
    assert kinds == [
        *(("text", 1), ("slot", 5), ("slot", 2)),
        *(("text", len(ids)), ("trained", trained)),
    ]
    assert runs[1].pieces == ("image 1",) and runs[2].pieces == ("image 2",)
    assert "".join(runs[3].pieces) == "what is it?\n"
    assert "".join(runs[4].pieces) == " a \u00e9\U0001f600 cup</s>"
    shown = SampleCard("d", 0, "", "", runs=runs)
    assert shown.counts == dict(
        tokens=len(all_ids), trained=trained, image_tokens=7, images=0, views=0
    )


def test_views_are_shown_as_they_are(tmp_path):
    views = np.zeros((2, 3, 8, 8), np.uint8)
    layout = ViewLayout((20, 30), (8, 8), 2, kind="anyres", extra=(1, 1))

    page, _ = page_of(tmp_path, card(views=[views], layouts=[layout]))

    assert page.tags.count("img") == 3
    assert "2 view(s) of 8 x 8, anyres, (1, 1)" in "".join(page.shown)


def test_bad_samples_show_their_reason(tmp_path):
    bad = SampleCard("set", 1, "", "root/b.png", reason="LoadImages: it is cut.")

    page, text = page_of(tmp_path, card(boxed()), bad)

    shown = "".join(page.shown)
    assert "2 samples (2 of set), 1 of them bad or left out." in shown
    assert "LoadImages: it is cut." in shown and text.count('class="bad"') == 1


def test_terminal_shows_conversation_tokens_and_counts(tokenizer):
    from rich.console import Console

    ids = tokenizer("what is it?", add_special_tokens=False)["input_ids"]
    all_ids = np.array([-200] * 4 + ids)
    labels = np.array([-100] * 4 + ids)
    encoded = EncodedSample(all_ids, labels, [Slot(0, 0, 4)])
    shown = card(boxed("cup"), text=HOSTILE, runs=token_runs(encoded, tokenizer))
    console = Console(record=True, width=100, file=open("/dev/null", "w"))

    console.print(render_card(shown))

    text = console.export_text()
    assert "[1 cup: box 2 3 8 9]" in text and "[image 1 x 4]" in text
    assert f"{4 + len(ids)} ids, {len(ids)} labels, 4 positions of 1 image" in text
    assert "<script>alert(1)" in text and "\x1b[31m" not in text


def test_control_characters_are_written_out():
    assert visible("a\x00\x1b\u202e\ud800b\nc") == "a\\u0000\\u001b\\u202e\\ud800b\nc"
    assert '"<3 bytes>"' in as_json({"x": b"abc", "y": np.zeros(2)})
