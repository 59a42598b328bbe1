"""The page on grounding data: its tables are whole, its examples keep the contracts."""

import re
from pathlib import Path

import numpy as np
import pytest

from mmvlm.registry import CODECS, DATA_TASKS
from mmvlm.structures import AnnotatedImage, Boxes, Instance, Region

PAGE = Path(__file__).parents[2] / "docs/en/user_guides/grounding_data.md"
CODECS.import_from_location()
DATA_TASKS.import_from_location()


@pytest.fixture(scope="module")
def text():
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture
def example(text):
    """Run a block of the page; what it registered is forgotten afterwards."""
    before = dict(CODECS.module_dict), dict(DATA_TASKS.module_dict)

    def run(path):
        (block,) = re.findall(
            rf"<!-- run: python as {re.escape(path)} -->\n```python\n(.*?)```",
            text,
            re.S,
        )
        scope = {}
        exec(compile(block, path, "exec"), scope)
        return scope

    yield run
    for node, known in zip((CODECS, DATA_TASKS), before, strict=True):
        node._module_dict.clear()
        node._module_dict.update(known)


def test_every_codec_has_a_row_and_every_task_with_needs_is_explained(text):
    pages = "".join(page.read_text() for page in PAGE.parent.glob("*.md"))
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.M))

    tasks = {name for name, task in DATA_TASKS.module_dict.items() if task.needs}
    assert set(CODECS.module_dict) - rows == set()
    assert {name for name in tasks if f"`{name}`" not in pages} == set()
    assert rows <= set(CODECS.module_dict) | set(DATA_TASKS.module_dict)


def test_codecs_write_what_the_table_shows(text):
    boxes = Boxes(np.array([[64.0, 48, 320, 240]]), (480, 640))
    shown = dict(re.findall(r"^\| `(\w+Codec)` \| `([^`]+)`", text, re.M))
    assert set(shown) == set(CODECS.module_dict)
    for name, written in shown.items():
        codec = CODECS.build(dict(type=name))
        assert codec.encode(Region(0, boxes, phrase="a dog")) == written


def test_token_counts_of_the_table_hold():
    counts = dict(Kosmos2Codec=1030, QwenVLCodec=4, VisionLLMCodec=1537, OFACodec=1000)
    for name, count in counts.items():
        assert len(CODECS.build(dict(type=name)).special_tokens) == count
    shikra = CODECS.build(dict(type="ShikraCodec", tokens=True))
    pink = CODECS.build(dict(type="PinkCodec", add_marks=True))
    assert (len(shikra.special_tokens), len(pink.special_tokens)) == (1007, 12)


def test_example_codec_reads_what_it_writes(example):
    codec = example("mmvlm/text/codecs/percent.py")["PercentCodec"]()
    boxes = Boxes(np.array([[6.0, 5, 32, 40]]), (48, 64))

    written = codec.encode(Region(0, boxes, phrase="a dog"))
    found = codec.decode(written, (48, 64))

    assert written == "a dog {9 10 50 83}" and found.verdict == "ok"
    moved = np.abs(found.boxes((48, 64)).xyxy - boxes.xyxy) / [64, 48, 64, 48]
    assert moved.max() <= codec.max_error((48, 64))
    assert codec.decode("a {1 2", (48, 64)).verdict == "malformed"


def test_example_task_asks(example):
    task = example("mmvlm/datasets/tasks/largest.py")["LargestThing"]()
    things = (Instance((0, 0, 9, 9), "cup"), Instance((0, 0, 30, 30), "table"))

    _, answer = task.turns(
        AnnotatedImage("a.png", (48, 64), things), np.random.default_rng(0)
    )

    assert answer.parts[0].phrase == "table"
