"""Talking to a tiny LISA: masks at the end of a stream, in files and in drawings."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from PIL import Image

from mmvlm.apis import VLMInferencer
from mmvlm.config import load_config
from mmvlm.structures.masks import rle_area

ROOT = Path(__file__).parents[2]
LISA = "configs/tiny/lisa-clip-sam-tiny_mlp2x_llama-tiny_1xb24-1k-ft_tiny-scenes.py"
SIZE = (40, 56)
REPLY = "It is [SEG] and [SEG]."


@pytest.fixture(scope="module")
def lisa():
    """Return a random tiny LISA that always says the same two masks."""
    cfg = load_config(ROOT / LISA, check_sources=False)
    cfg.load_from = None
    torch.manual_seed(0)
    talk = VLMInferencer(cfg, device="cpu")
    tokenizer = talk.processor.tokenizer
    ids = tokenizer(REPLY, add_special_tokens=False)["input_ids"]
    ids.append(tokenizer.eos_token_id)
    talk.generation = dict(
        max_new_tokens=len(ids),
        on_step=lambda step: step.allow(0, [ids[step.ids.shape[1]]]),
    )
    return talk


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def chat(lisa, monkeypatch):
    """Return the tool with the model in place; it quietens its process's logger."""
    main = runpy.run_path(str(ROOT / "tools/chat.py"))["main"]
    monkeypatch.setitem(main.__globals__, "load", lambda args: lisa)
    logger = MMLogger.get_current_instance()
    level = logger.level
    yield lambda *args: main([str(arg) for arg in args])
    logger.setLevel(level)


def test_a_reply_streams_and_its_masks_come_at_the_end(lisa, picture):
    stream, pieces = lisa.stream(picture, "Where?"), []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            streamed = end.value
            break
    answered = lisa.answer(picture, "Where?")

    assert "".join(pieces) == REPLY == streamed.pred_text and len(pieces) > 2
    assert [one.boxes.size for one in streamed.pred_regions] == [SIZE] * 2
    assert all(tuple(one.rles[0]["size"]) == SIZE for one in streamed.pred_regions)
    for one, other in zip(streamed.pred_regions, answered.pred_regions, strict=True):
        assert one.rles == other.rles


@pytest.mark.parametrize("stream", [True, False])
def test_the_tool_writes_masks_and_draws_them(
    chat, lisa, picture, tmp_path, capsys, stream
):
    json_file, drawing = tmp_path / "reply.json", tmp_path / "x.png"

    status = chat(
        *("config.py", "--image", picture, "--prompt", "Where?"),
        *("--json", json_file, "--draw", drawing),
        *([] if stream else ["--no-stream"]),
    )

    said = capsys.readouterr().out
    assert status == 0 and REPLY in said
    content = json.loads(json_file.read_text())
    assert content["text"] == REPLY and content["problems"] == []
    first, second = content["regions"]
    assert REPLY[slice(*first["span"])] == REPLY[slice(*second["span"])] == "[SEG]"
    assert first["span"] != second["span"]
    regions = lisa.answer(picture, "Where?").pred_regions
    for entry, region in zip(content["regions"], regions, strict=True):
        assert entry["mask"] == region.rles[0]
        assert entry["point"] is entry["score"] is None
    assert any(rle_area(entry["mask"]) for entry in content["regions"])
    with Image.open(drawing) as drawn, Image.open(picture) as plain:
        assert drawn.width >= plain.width
        small = drawn.convert("RGB").resize(plain.size)
        assert not np.array_equal(np.asarray(small), np.asarray(plain))


def test_a_mask_that_the_model_cannot_read_is_told_in_the_dialogue(
    chat, picture, tmp_path, monkeypatch, capsys
):
    mask = np.zeros(SIZE, np.uint8)
    mask[4:20, 8:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    lines = [f"/mask {tmp_path / 'gone.png'}", f"/mask {tmp_path / 'mask.png'}"]
    lines += ["What is <region1>?", "/new", "Where?", ""]
    monkeypatch.setattr("builtins.input", lambda _: lines.pop(0))

    status = chat("config.py", "--image", picture)

    said = capsys.readouterr().out
    assert status == 0 and "gone.png' cannot be read" in said
    assert said.count("<region1> stands for it in questions") == 1
    assert "cannot see them. Add a region encoder" in said
    assert REPLY in said
