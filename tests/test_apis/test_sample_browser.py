"""Samples taken through their pipelines, to be shown."""

import json
import os
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
from sample_browser import choose_samples, collect_card

from mmvlm.datasets.processor import VLMProcessor
from mmvlm.datasets.readers.llava import LLaVADataset
from mmvlm.registry import CHAT_TEMPLATES
from mmvlm.structures import PatchTokenCount, VisionEncoderSpec
from mmvlm.text.tiny_tokenizer import train_tiny_tokenizer

ROOT = Path(__file__).parents[2]
STEPS = [
    dict(type="LoadImages"),
    dict(type="PadToSquare"),
    dict(type="EncodeConversation", max_length=200),
]


@pytest.fixture
def config(tmp_path):
    rows = []
    for number in range(6):
        PIL.Image.new("RGB", (40, 30), (40 * number, 0, 9)).save(
            tmp_path / f"{number}.png"
        )
        talk = [("human", "<image>\nwhat?"), ("gpt", f"a cup {number}")]
        turns = [{"from": a, "value": b} for a, b in talk]
        rows.append(dict(id=f"id{number}", image=f"{number}.png", conversations=turns))
    (tmp_path / "4.png").write_text("text")
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    return dict(data_root=str(tmp_path), ann_file="rows.json", name="cups")


@pytest.fixture(scope="module")
def context():
    template = CHAT_TEMPLATES.build(dict(type="vicuna_v1"))
    tokenizer = train_tiny_tokenizer(["USER: what? ASSISTANT: a cup"] * 3, 300)
    spec = VisionEncoderSpec(8, 2, 8, 32)
    return VLMProcessor(tokenizer, template, spec, PatchTokenCount(8))


def test_a_card_keeps_what_every_step_made(config, context):
    dataset = LLaVADataset(**config, pipeline=STEPS)
    dataset.bind(context)

    card = collect_card(dataset, 2, context)

    assert card.reason is None and card.record["id"] == "id2"
    assert card.images[0].shape == (30, 40, 3) and card.images[0][0, 0, 0] == 80
    assert card.views[0].shape == (1, 3, 32, 32) and card.layouts[0].kind == "pad"
    trained = [run for run in card.runs if run.kind == "trained"]
    assert "a cup 2" in "".join(trained[0].pieces)
    assert card.counts["image_tokens"] == 16


def test_a_bad_sample_keeps_what_came_before(config, context):
    dataset = LLaVADataset(**config, pipeline=STEPS)
    dataset.bind(context)

    card = collect_card(dataset, 4, context)

    assert card.reason.startswith("LoadImages: image") and "not an image" in card.reason
    assert card.conversation.turns[1].text == "a cup 4" and card.runs == []


def test_without_a_context_images_are_shown(config):
    card = collect_card(LLaVADataset(**config), 1)

    assert len(card.images) == 1 and card.views == [] and card.reason is None


def test_samples_are_chosen(config, tmp_path):
    dataset = LLaVADataset(**config)
    listed = tmp_path / "list.jsonl"
    row = dict(dataset="cups", index=4, id="id4", path="", reason="r")
    listed.write_text(json.dumps(row) + "\n" + json.dumps({**row, "dataset": "x"}))

    def places(**options):
        return [at for _, at in choose_samples([dataset], **options)]

    assert places(num=3) == [0, 2, 5] and places() == [0, 1, 2, 3, 4, 5]
    assert places(num=3, seed=1) == places(num=3, seed=1) != places(num=3, seed=2)
    assert places(ids=["id3", "0"]) == [3, 0]
    assert places(quarantine=listed) == [4]
    with pytest.raises(ValueError, match=r"no sample of \['cups'\] .* \['id9'\]"):
        places(ids=["id9"])
    listed.write_text("")
    with pytest.raises(ValueError, match="lists no sample"):
        places(quarantine=listed)


@pytest.mark.slow
def test_tool_writes_a_page_and_prints(config, tmp_path):
    told = "dict(type='LLaVADataset', data_root={data_root!r}, ann_file='rows.json')"
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "tools/misc/browse_dataset.py"), "--terminal"),
            *("--dataset", told.format(**config), "--html", str(tmp_path / "p.html")),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )

    assert done.returncode == 0, done.stderr
    assert "a cup 3" in done.stdout and "is not an image" in done.stdout
    assert (tmp_path / "p.html").read_text().count("<article") == 6
