"""A dialogue with a tiny LISA that reads regions: random weights, said tokens."""

import json
import runpy
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from PIL import Image, ImageColor

from mmvlm.apis import VLMInferencer
from mmvlm.config import load_config
from mmvlm.engine.runner.checkpoint import save_atomic
from mmvlm.models.heads.sam_mask import SAMMaskHead
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.vision_encoders.sam import SAMVisionEncoder
from mmvlm.registry import MODELS
from mmvlm.structures.masks import rle_to_mask
from mmvlm.text.tiny_tokenizer import tiny_tokenizer
from mmvlm.visualization.regions import COLOURS

CODEC = dict(type="RegionTokenCodec", token="[SEG]", question_token="<bbox>")
CONFIG = f"""
_base_ = "@base@"
model = dict(
    language_model=dict(config=dict(vocab_size=262)),
    connectors=dict(region_encoder=dict(
        type="MaskMeanPool", select_layers=[-2], num_points=16)),
    encoders=dict(sam=dict(
        type="SAMVisionEncoder", reads=["image_hi"],
        config={SAMVisionEncoder.tiny_fields})),
    heads=dict(mask=dict(
        type="SAMMaskHead", mask_decoder={SAMMaskHead.tiny_decoder})),
)
processor = dict(
    type="VLMProcessor",
    views=dict(type="PadToSquare"),
    transforms=[dict(type="SAMViews")],
    codec={CODEC},
)
"""
#: What a reply says instead of its own words: token or text, by place.
MASKS = {1: "[SEG]", 4: "[SEG]"}
QUOTED = {**dict(enumerate(["[", "S", "E", "G", "]"])), 6: "[SEG]"}


@pytest.fixture(scope="module")
def files(config_file, tmp_path_factory):
    """Config and checkpoint of a model that says letters."""
    folder = tmp_path_factory.mktemp("masks")
    config, checkpoint = folder / "tiny_lisa.py", folder / "last.pth"
    config.write_text(CONFIG.replace("@base@", str(config_file)))
    model_cfg = load_config(config).model.to_dict()
    for part in ("vision_encoder", "language_model"):
        model_cfg[part]["name_or_path"] = None
    tokenizer = tiny_tokenizer(codec=CODEC)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS.build(model_cfg)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight) * 0.1)
            head = model.language_model.model.lm_head
            for row in range(len(head.weight)):
                if not tokenizer.decode([row]).isalpha():
                    head.weight[row] = 0
    save_atomic(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    return config, checkpoint


@pytest.fixture(scope="module")
def lisa(files):
    return VLMInferencer(*files, device="cpu")


@pytest.fixture
def saying(monkeypatch):
    """Let every reply of the process say some tokens, see :func:`says`."""
    generate = HFCausalLM.generate

    def begin(said):
        def forced(self, *args, **options):
            return generate(self, *args, **{"on_step": says(said), **options})

        monkeypatch.setattr(HFCausalLM, "generate", forced)

    return begin


def says(said, wait=None):
    """Return what makes a reply say tokens at some places, and masks nowhere else.

    Args:
        said (dict[int, str]): by place.
        wait (Callable | None): is told each place.
    """
    tokenizer = tiny_tokenizer(codec=CODEC)
    own = {place: tokenizer.convert_tokens_to_ids(one) for place, one in said.items()}
    others = tokenizer.convert_tokens_to_ids(["[SEG]", "<bbox>", "</s>"])

    def on_step(step):
        place = step.ids.shape[1]
        if wait is not None:
            wait(place)
        step.forbid(0, others)
        if place in own:
            step.allow(0, [own[place]])

    return on_step


def masks_of(sample):
    found = [rle_to_mask(region.rles[0]) for region in sample.pred_regions]
    return np.stack(found) if found else np.zeros((0, 1, 1), bool)


def collected(stream):
    """Return the pieces of a stream and the sample at its end."""
    pieces = []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return pieces, end.value


def same(one, other):
    assert one.pred_text == other.pred_text and not one.problems
    assert np.array_equal(masks_of(one), masks_of(other))
    scores = [region.score for region in one.pred_regions]
    assert scores == [region.score for region in other.pred_regions]
    assert None not in scores


def test_a_reply_streams_and_its_masks_come_at_the_end(lisa, images):
    made, heard = [], threading.Event()
    hook = lisa.model.mask.register_forward_hook(lambda *_: made.append(1))

    def wait(place):
        assert place < 8 or heard.wait(30)  # the reply goes on once it was heard

    stream = lisa.stream(images[0], "Where?", on_step=says(MASKS, wait))
    first = next(stream)
    assert first and not made
    heard.set()
    rest, sample = collected(stream)
    hook.remove()

    assert "".join([first, *rest]) == sample.pred_text and len(rest) > 2
    assert [sample.pred_text[slice(*s)] for s in sample.pred_spans] == ["[SEG]"] * 2
    assert masks_of(sample).shape == (2, *images[0].shape[:2])
    assert len(made) == 1  # both masks in one call
    same(sample, lisa.answer(images[0], "Where?", on_step=says(MASKS)))


def test_threads_and_a_reply_that_is_stopped_leave_no_masks_to_others(lisa, images):
    places = ({0: "[SEG]"}, {}, MASKS, {2: "[SEG]", 3: "[SEG]", 9: "[SEG]"})
    cases = [(image, own) for image in images[:2] for own in places]

    def ask(case):
        return lisa.answer(case[0], "Where?", on_step=says(case[1]))

    alone = [ask(case) for case in cases]
    whole = masks_of(alone[0]), masks_of(alone[4])
    assert not np.array_equal(*(one[:, :20, :30] for one in whole))
    # Others get their turn between a state and the token that is chosen from it.
    tables = lisa.model.language_model.model.lm_head
    hook = tables.register_forward_hook(lambda *_: time.sleep(0.005))
    options = dict(on_step=says(dict.fromkeys(range(3), "[SEG]")), max_new_tokens=200)
    stream = lisa.stream(images[2], "Go on.", **options)
    assert "[SEG]" in next(stream)
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(ask, cases)
        stream.close()
        together = list(together)
    hook.remove()

    for one, other, (_, own) in zip(together, alone, cases, strict=True):
        assert len(one.pred_regions) == len(own)
        same(one, other)


# A second turn ---------------------------------------------------------------------


def test_what_a_turn_quotes_stays_text_in_the_next(lisa, images):
    tokenizer = lisa.processor.tokenizer
    seg = tokenizer.convert_tokens_to_ids("[SEG]")
    question = "What does [SEG] mean?"
    sample = lisa.answer(images[0], question, on_step=says(QUOTED))
    assert sample.pred_text.startswith("[SEG]") and sample.pred_quoted == ((0, 5),)
    assert len(sample.pred_regions) == 1

    talk = lisa.conversation(images[0], "And <bbox>?", [(question, sample)])
    ids = lisa.encode([talk]).prompt.input_ids

    text = tokenizer.decode(ids[ids >= 0])
    assert question in text and sample.pred_text in text and "And <bbox>?" in text
    assert (ids == seg).sum() == 1  # the one that the model said
    assert tokenizer.convert_tokens_to_ids("<bbox>") not in ids
    (at,) = (ids == seg).nonzero().flatten().tolist()
    reply = tokenizer.decode(ids[at - 6 : at + 1])
    assert reply == f"[SEG]{sample.pred_text[5]}[SEG]"
    # Of a text nothing is known but its words.
    talk = lisa.conversation(images[0], "And?", [(question, sample.pred_text)])
    assert (lisa.encode([talk]).prompt.input_ids == seg).sum() == 2


def test_something_else_than_a_reply_is_named(lisa):
    with pytest.raises(TypeError, match="a reply of the history is a list, expected"):
        lisa.chat(None, "And?", [("What?", ["a"])])


# The tool ---------------------------------------------------------------------------


def chat(*args):
    tool = Path(__file__).parents[2] / "tools" / "chat.py"
    return runpy.run_path(str(tool))["main"](list(map(str, args)))


@pytest.fixture
def chat_files(files, images, tmp_path):
    """Config, checkpoint, and files of an image and a mask of it."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    Image.fromarray(images[0]).save(image)
    painted = np.zeros(images[0].shape[:2], np.uint8)
    painted[4:16, 3:30] = 255
    Image.fromarray(painted).save(mask)
    yield *files, image, mask
    logger.setLevel(level)  # chat.py quietens the logger of its process


@pytest.fixture
def prompts(monkeypatch):
    """Ids of every prompt that is asked."""
    seen, collate = [], VLMInferencer._collate

    def recorded(self, conversations):
        data = collate(self, conversations)
        seen.append(data["inputs"].prompt.input_ids.tolist())
        return data

    monkeypatch.setattr(VLMInferencer, "_collate", recorded)
    return seen


def test_a_dialogue_points_and_gets_masks(
    chat_files, tmp_path, saying, prompts, monkeypatch, capsys
):
    config, checkpoint, image, mask = chat_files
    drawn, reply = tmp_path / "reply.html", tmp_path / "reply.json"
    saying({**QUOTED, 8: "[SEG]"})
    lines = [f"/mask {mask}", "/box 3,4,30,16", "/point 9,9", "What is <region1>?"]
    lines += ["Is <region2> or [SEG] like <region3>?", ""]
    monkeypatch.setattr("builtins.input", lambda _: lines.pop(0))

    status = chat(
        *(config, checkpoint, "--device", "cpu", "--image", image),
        *("--json", reply, "--draw", drawn),
    )

    said = capsys.readouterr().out
    assert status == 0 and said.count("stands for it in questions") == 3
    assert said.count("mask: ") == 4 and said.count("(score ") == 4
    content = json.loads(reply.read_text())
    assert content["prompt"].startswith("Is <region2>") and not content["problems"]
    ((question, before),) = content["history"]
    assert question == "What is <region1>?" and before.count("[SEG]") == 3
    assert len(content["regions"]) == 2
    for entry in content["regions"]:
        assert content["text"][slice(*entry["span"])] == "[SEG]"
        assert entry["span"][0] > 0  # the first one is quoted
        assert rle_to_mask(entry["mask"]).shape == (20, 33)
        assert len(entry["box"]) == 4 and entry["point"] is entry["phrase"] is None
        assert isinstance(entry["score"], float)
    first, second = prompts
    seg = tiny_tokenizer(codec=CODEC).convert_tokens_to_ids("[SEG]")
    assert first.count(seg) == 0 and second.count(seg) == 2
    slots = [sum(one < 0 for one in ids) for ids in prompts]
    assert slots == [16 + 1, 16 + 3]
    page = drawn.read_text()
    assert page.count("<article>") == 2 and page.count("<mark ") == 4
    assert f'title="mask 1 {content["regions"][0]["score"]:.2f}"' in page


def test_turns_of_the_command_line_are_drawn(chat_files, tmp_path, saying, capsys):
    config, checkpoint, image, mask = chat_files
    drawn, reply = tmp_path / "reply.png", tmp_path / "reply.json"
    saying(MASKS)

    status = chat(
        *(config, checkpoint, "--device", "cpu", "--image", image, "--no-stream"),
        *("--mask", mask, "--box", "3,4,30,16", "--point", "9,9"),
        *("--prompt", "<region1>?", "Is <region2> like <region3>?"),
        *("--json", reply, "--draw", drawn),
    )

    assert status == 0, capsys.readouterr()
    assert len(json.loads(reply.read_text())["regions"]) == len(MASKS)
    with Image.open(drawn) as opened:
        seen = {colour for _, colour in opened.getcolors(opened.width * opened.height)}
    # The box and the point of the last question, the masks of its reply.
    names = [ImageColor.getrgb(colour) for colour in COLOURS[:5]]
    assert seen.issuperset(names[:4]) and names[4] not in seen
