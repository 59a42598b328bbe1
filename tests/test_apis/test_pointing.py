"""Questions that point at regions, as users write them."""

import io
import json
import re
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from mmvlm.apis import VLMInferencer
from mmvlm.config import load_config
from mmvlm.structures import Boxes, Region
from mmvlm.structures.masks import rle_to_mask

SIZE = (20, 33)
MASK = np.zeros(SIZE, bool)
MASK[4:16, 3:30] = True


@pytest.fixture(scope="module")
def pointing(config_file, checkpoint):
    """Return an inferencer of the tiny LLaVA with a codec."""
    cfg = load_config(config_file)
    cfg.processor = dict(
        type="VLMProcessor",
        tokenizer=cfg.pop("tokenizer"),
        chat_template=cfg.pop("chat_template"),
        views=dict(type="ResizeSquare"),
        codec=dict(type="ShikraCodec", geometry="stretch"),
    )
    cfg.pop("test_dataloader")
    return VLMInferencer(cfg, checkpoint, device="cpu")


def shown(talk, image, question, *history, **given):
    """The prompt as the model reads it."""
    conversation = talk.conversation(image, question, history, **given)
    ids = talk.encode([conversation]).prompt.input_ids
    return talk.processor.tokenizer.decode(ids[ids >= 0])


def save(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_every_kind_of_region_stands_where_the_question_says(
    pointing, images, tmp_path
):
    file = save(tmp_path / "mask.png", MASK.astype(np.uint8) * 255)
    box = "[0.091,0.200,0.909,0.800]"
    sources = [
        {"box": (3, 4, 30, 16)},
        (3, 4, 30, 16),
        Region(0, Boxes(np.array([3.0, 4, 30, 16]), SIZE)),
        {"mask": file},
        {"mask": str(file)},
        MASK,
    ]
    for source in sources:
        text = shown(pointing, images[0], "What is <region1>?", regions=[source])
        assert f"\nWhat is {box}?" in text, source
    two = [{"point": (33, 10)}, sources[0]]
    text = shown(pointing, images[0], "Is <region2> near <region1>?", regions=two)
    assert f"Is {box} near [1.000,0.500]?" in text
    by_number = shown(pointing, images[0], "At <region7>?", regions={7: sources[1]})
    assert f"At {box}?" in by_number
    reply = pointing.chat(images[0], "What is <region1>?", regions=[sources[0]])
    assert reply == "".join(
        pointing.stream(images[0], "What is <region1>?", regions=[sources[0]])
    )


def test_a_mask_keeps_its_pixels(pointing, images):
    talk = pointing.conversation(images[0], "<region1>?", regions=[MASK])
    region = next(p for p in talk.turns[-1].parts if isinstance(p, Region))

    assert region.kind == "mask" and region.boxes.xyxy.tolist() == [[3, 4, 30, 16]]
    assert (rle_to_mask(region.rles[0]) == MASK).all()
    whole = pointing.conversation(images[0], "<region1>?", regions=[~MASK | MASK])
    region = next(p for p in whole.turns[-1].parts if isinstance(p, Region))
    assert region.boxes.xyxy.tolist() == [[0, 0, 33, 20]]


def test_earlier_questions_keep_their_regions(pointing, images):
    history = ("What is <region1>?", "a dog [0.000,0.000,1.000,1.000]")
    text = shown(
        pointing,
        images[0],
        "And <region2>?",
        history,
        regions=[(3, 4, 30, 16), (0, 0, 33, 20)],
    )
    assert "What is [0.091,0.200,0.909,0.800]?" in text
    assert "And [0.000,0.000,1.000,1.000]?" in text


def test_boxes_are_pixels_of_the_file_as_it_is_stored(pointing, tmp_path):
    tags = Image.Exif()
    tags[0x0112] = 6  # viewers turn it: 20 x 33 pixels of the file are shown as 33 x 20
    path = tmp_path / "phone.png"
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path, exif=tags)
    mask = save(tmp_path / "mask.png", MASK.astype(np.uint8) * 255)

    for source in ({"box": (3, 4, 30, 16)}, {"mask": mask}):
        text = shown(pointing, path, "What is <region1>?", regions=[source])
        assert "What is [0.091,0.200,0.909,0.800]?" in text


def test_without_regions_the_words_stay_text(pointing, images):
    assert "is <region1>?" in shown(pointing, images[0], "What is <region1>?")


@pytest.mark.parametrize(
    ("question", "regions", "message"),
    [
        ("Where?", [(1, 2, 3, 4)], "no question mentions region 1; write <region1>"),
        ("<region2>?", [(1, 2, 3, 4)], "<region2> stands in a question, but the"),
        (
            "<region1>?",
            [(1, 2, 40, 4)],
            r"region 1: box \[1.0, 2.0, 40.0, 4.0\] leaves",
        ),
        ("<region1>?", [(5, 2, 5, 4)], "region 1: box .* has no area"),
        (
            "<region1>?",
            [(5, -1)],
            r"region 1: point \[5.0, -1.0\] leaves its image of",
        ),
        ("<region1>?", [{"box": (1, 2)}], r"region 1: \(1, 2\): expected 4 numbers"),
        ("<region1>?", [(1, 2, np.nan, 4)], "region 1: .*: expected 4 numbers"),
        ("<region1>?", [MASK[:5]], r"mask has shape \(5, 33\), its image 33 x 20"),
        ("<region1>?", [MASK & False], "region 1: the mask is empty"),
        ("<region1>?", ["a.png"], "region 1 is 'a.png'; expected a Region"),
        ("<region1>?", [Region(0, Boxes([0, 0, 1, 1], (5, 5)))], "image of 5 x 5"),
        ("<region1>?", [Region(1, Boxes([0, 0, 1, 1], (5, 5)))], "no image stands"),
    ],
)
def test_wrong_regions_are_named(pointing, images, question, regions, message):
    with pytest.raises((ValueError, TypeError), match=message):
        pointing.chat(images[0], question, regions=regions)


def with_transparency(mode):
    """Return a PNG whose alpha is one colour that is not to be seen (tRNS)."""
    image = Image.fromarray((MASK * 255).astype(np.uint8)).convert(mode)
    file = io.BytesIO()
    colour = (0, 0, 0) if mode == "RGB" else 0
    image.save(file, "png", transparency=colour)
    return file.getvalue()


def wide_colours():
    """Return a PNG of three equal channels of 16 bits."""
    pixels = np.stack([MASK * 65535] * 3, -1).astype(np.uint16)
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.arange(660, dtype=np.uint8).reshape(SIZE), "is not binary: it has 256"),
        (MASK.astype(np.uint16) * 65535, "has pixels of mode I;16"),
        (np.stack([MASK * 255] * 4, -1).astype(np.uint8), "has an alpha channel"),
        (with_transparency("L"), "has an alpha channel"),
        (with_transparency("P"), "has an alpha channel"),
        (with_transparency("RGB"), "has an alpha channel"),
        (wide_colours(), "has 16 bits per channel"),
        (np.stack([MASK * 255] * 2 + [MASK * 0], -1).astype(np.uint8), "has colours"),
        (None, "cannot be read"),
    ],
)
def test_wrong_mask_files_are_named_with_a_cure(
    pointing, images, tmp_path, pixels, message
):
    path = tmp_path / "mask.png"
    if isinstance(pixels, bytes):
        path.write_bytes(pixels)
    else:
        path.write_text("no image") if pixels is None else save(path, pixels)
    with pytest.raises(ValueError, match=f"mask file '{path}' {message}"):
        pointing.chat(images[0], "<region1>?", regions=[{"mask": path}])


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((4, 5), 255, np.uint8), r"the mask has shape \(4,"),
        (np.zeros(SIZE, np.uint8), "the mask is empty; paint"),
    ],
)
def test_a_mask_that_does_not_fit_names_its_file(
    pointing, images, tmp_path, pixels, message
):
    path = save(tmp_path / "mask.png", pixels)
    with pytest.raises(ValueError, match=rf"\('.*mask.png'\): {message}"):
        pointing.chat(images[0], "<region1>?", regions=[{"mask": path}])


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_of_the_whole_image_is_taken(pointing, images, tmp_path, value):
    path = save(tmp_path / "mask.png", np.full(SIZE, value, np.uint8))
    talk = pointing.conversation(images[0], "<region1>?", regions=[{"mask": path}])

    (region,) = (part for part in talk.turns[0].parts if isinstance(part, Region))
    assert rle_to_mask(region.rles[0]).all()
    assert region.boxes.xyxy.tolist() == [[0, 0, SIZE[1], SIZE[0]]]


def test_a_model_without_regions_says_what_it_takes(talk, images):
    with pytest.raises(ValueError, match="put WriteRegions"):
        talk.chat(images[0], "<region1>?", regions=[(1, 2, 3, 4)])


@pytest.fixture
def pointing_files(config_file, tmp_path, images):
    """Return a config on disk that writes boxes, and an image."""
    text = config_file.read_text().replace(
        'dict(type="PadToSquare"),',
        'dict(type="ResizeSquare"), dict(type="WriteRegions", codec=dict('
        'type="ShikraCodec", geometry="stretch")),',
    )
    config = tmp_path / "pointing.py"
    config.write_text(text)
    return config, save(tmp_path / "image.png", images[0])


def chat(*args):
    tool = Path(__file__).parents[2] / "tools" / "chat.py"
    return runpy.run_path(str(tool))["main"](list(map(str, args)))


@pytest.fixture
def keep_log_level():
    """chat.py quietens the logger of its process."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("keep_log_level")
def test_the_tool_points_writes_and_draws(
    pointing_files, checkpoint, tmp_path, monkeypatch, capsys
):
    config, image = pointing_files
    mask = save(tmp_path / "mask.png", MASK.astype(np.uint8) * 255)
    json_file, page = tmp_path / "reply.json", tmp_path / "reply.html"
    from mmvlm.text import decoding

    reply = "a dog[0.091,0.200,0.909,0.800] and [0.1,"
    monkeypatch.setattr(decoding, "reply_text", lambda *a, **k: reply)

    status = chat(
        *(config, checkpoint, "--device", "cpu", "--image", image, "--no-stream"),
        *("--point", "3,4", "--mask", mask, "--box", "3,4,30,16"),
        *("--prompt", "Is <region3> on <region1>?", "And <region2>?"),
        *("--json", json_file, "--draw", page),
    )

    assert status == 0, capsys.readouterr()
    content = json.loads(json_file.read_text())
    assert content["text"] == reply and content["prompt"] == "And <region2>?"
    assert content["history"] == [["Is <region3> on <region1>?", reply]]
    (entry,) = content["regions"]
    np.testing.assert_allclose(entry["box"], [3, 4, 30, 16], atol=0.02)
    assert reply[slice(*entry["span"])] == "[0.091,0.200,0.909,0.800]"
    assert entry["mask"] is entry["point"] is entry["score"] is None
    assert len(content["problems"]) == 1
    assert page.read_text().count("<article>") == 2


@pytest.mark.usefixtures("keep_log_level")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--box", "1,2,3,4", "--prompt", "What?"], "no --prompt mentions <region1>"),
        (
            ["--box", "1,2,99,4", "--prompt", "<region1>?"],
            "region 1: box .* leaves its",
        ),
        (["--mask", "gone.png", "--prompt", "<region1>?"], "'gone.png' cannot be read"),
        (["--draw", "a.gif", "--prompt", "?"], "expected a file .png or .html"),
    ],
)
def test_the_tool_names_what_is_wrong(pointing_files, checkpoint, args, message):
    config, image = pointing_files
    common = (config, checkpoint, "--device", "cpu", "--image", image)
    assert re.search(message, chat(*common, *args))


def test_the_tool_refuses_half_a_box(capsys):
    with pytest.raises(SystemExit):
        chat("config.py", "--box", "1,2,3")
    assert (
        "box '1,2,3': expected 4 numbers, as in 10,20,30,40" in capsys.readouterr().err
    )


@pytest.mark.usefixtures("keep_log_level")
def test_a_dialogue_takes_regions(
    pointing_files, checkpoint, tmp_path, monkeypatch, capsys
):
    config, image = pointing_files
    mask = save(tmp_path / "mask.png", MASK.astype(np.uint8) * 255)
    lines = ["/box 1,2,3", "/box 3,4,30,16", "What is <region1>?", "/point 99,99"]
    lines += [f"/image {image}", "/point 3,4", "/what", "Is <region1> red?"]
    lines += [f"/mask {mask}", f"/mask {image}", "Is <region2> red?", ""]
    monkeypatch.setattr("builtins.input", lambda _: lines.pop(0))

    status = chat(config, checkpoint, "--device", "cpu", "--image", image)

    said = capsys.readouterr().out
    assert status == 0 and said.count("<region1> stands for it in questions") == 2
    assert said.count("<region2> stands for it in questions") == 1
    assert f"error: mask file '{image}' has colours" in said
    assert "error: box '1,2,3': expected 4 numbers" in said
    assert "error: region 2: point [99.0, 99.0] leaves its image" in said
    assert "no command /what; there are /image FILE, /box X1,Y1,X2,Y2" in said
