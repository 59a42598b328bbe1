"""The processor: one object for training, validation, chat and replies."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmvlm.config import check_config
from mmvlm.datasets.collate import collate_flat
from mmvlm.datasets.processor import VLMProcessor, pipelines, steps_of, with_pipeline
from mmvlm.models.language_models.new_tokens import NewTokens
from mmvlm.registry import DATASETS
from mmvlm.structures import (
    IGNORE_INDEX,
    Boxes,
    Conversation,
    Image,
    PatchTokenCount,
    Region,
    Text,
    Turn,
    VisionEncoderSpec,
    VLMDataSample,
)
from mmvlm.text.encoding import ConversationEncoder
from mmvlm.text.tiny_tokenizer import tiny_tokenizer

SPEC = VisionEncoderSpec(width=8, num_layers=2, patch_size=8, image_size=32)
CODEC = dict(type="Kosmos2Codec")
PROCESSOR = dict(
    type="VLMProcessor",
    tokenizer=dict(type="TinyTokenizer"),
    chat_template="vicuna_v1",
    views=dict(type="ResizeSquare", size=32, resample="bicubic"),
    transforms=[dict(type="JitterRegions", scale=0.3)],
    codec=CODEC,
    max_length=240,
    overflow="drop",
)
STEPS = [
    dict(type="LoadImages"),
    PROCESSOR["views"],
    *PROCESSOR["transforms"],
    dict(type="WriteRegions", codec=CODEC),
    dict(type="EncodeConversation", max_length=240, overflow="drop"),
    dict(type="PackVLMInputs"),
]


class Model:
    """What a processor must know of a model."""

    vision_spec, token_count, requested_views = SPEC, PatchTokenCount(8), None
    modalities = ("image",)


def old_form():
    tokenizer = dict(PROCESSOR["tokenizer"], codec=CODEC)
    loader = dict(dataset=dict(type="LLaVADataset", ann_file="x", pipeline=STEPS))
    return dict(tokenizer=tokenizer, chat_template="vicuna_v1", train_dataloader=loader)


def new_form(**changes):
    return dict(processor={**PROCESSOR, **changes})


def built(cfg):
    return VLMProcessor.from_config(Config(copy.deepcopy(cfg)), Model)


def talk(*answer):
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    region = Region(0, Boxes(np.array([[10.0, 12, 40, 44]]), (48, 64)))
    question = (Image(0), Text("\nWhat is at "), region, Text("?"))
    turns = [Turn("user", question), *([Turn("assistant", answer)] if answer else [])]
    return Conversation(turns, [image], "one")


def inputs(item):
    batch = collate_flat([item])["inputs"]
    return [batch.text.input_ids, batch.text.labels, batch.inputs["image"].values]


@pytest.mark.parametrize("mode", ["train", "generate"])
def test_both_forms_of_a_config_are_one_processor(mode):
    one, other = built(old_form()), built(new_form())

    for first, second in zip(
        inputs(one(talk(Text("A dog.")), mode)),
        inputs(other(talk(Text("A dog.")), mode)),
        strict=True,
    ):
        assert torch.equal(first, second)
    assert type(one.codec) is type(other.codec) and one.codec is not None
    assert one.view == other.view


def test_a_mode_leaves_out_what_only_training_needs():
    processor = built(new_form())

    names = {
        m: [type(t).__name__ for t in processor.pipeline(m).transforms]
        for m in ("train", "generate")
    }

    assert "JitterRegions" in names["train"]
    assert names["generate"] == [n for n in names["train"] if n != "JitterRegions"]
    long = Conversation.from_texts("w" * 300, "a")
    assert len(processor(long, "generate")["inputs"]["streams"]["text"]) > 240
    with pytest.raises(Exception, match="max_length=240"):
        processor(long, "train")


def test_readers_without_a_pipeline_take_the_steps(tmp_path):
    file = tmp_path / "x.json"
    file.write_text(
        '[{"id": "1", "conversations": [{"from": "human", "value": "q"},'
        '{"from": "gpt", "value": "a"}]}]'
    )
    reader = dict(type="LLaVADataset", ann_file=str(file))
    own = dict(reader, name="y", pipeline=[dict(type="EncodeConversation")])
    mixture = dict(type="MixtureDataset", datasets=[reader, own])
    processor = built(new_form())

    filled = with_pipeline(mixture, processor, "generate")

    assert [len(d["pipeline"]) for d in filled["datasets"]] == [6, 1]
    assert "pipeline" not in filled and "pipeline" not in reader
    data = DATASETS.build(filled)
    data.bind(processor)
    assert data.datasets[0][0]["data_samples"].gt_text == "a"
    assert with_pipeline(mixture, built(old_form()), "train") is mixture


def test_a_processor_travels_to_workers_without_its_pipelines():
    processor = built(new_form())
    expected = inputs(processor(talk()))

    again = pickle.loads(pickle.dumps(processor))

    assert again._pipelines == {}
    assert all(map(torch.equal, inputs(again(talk())), expected))


def test_replies_are_read_into_samples():
    processor = built(new_form())
    sample = processor(talk())["data_samples"]
    box = Region(0, Boxes(np.array([[10.0, 12, 40, 44]]), (48, 64)), phrase="a dog")
    text = processor.codec.encode(box)
    sample.pred_ids = processor.tokenizer(f"It is {text}</s> and")["input_ids"]

    processor.read_reply(sample)

    assert sample.pred_text == f"It is {text}" and sample.problems == ()
    (region,) = sample.pred_regions
    assert region.phrase == "a dog" and region.boxes.size == (48, 64)
    assert np.abs(region.boxes.xyxy - box.boxes.xyxy).max() <= 1.0  # half a cell
    bare = VLMDataSample(pred_ids=[0, -1, 10**9])
    processor.read_reply(bare)
    assert bare.pred_regions == () and len(bare.problems) == 1


def test_the_models_new_tokens_keep_their_order_before_a_codec():
    codec = dict(type="QwenVLCodec")

    class Brings(Model):
        class language_model:
            new_tokens = NewTokens(tokens=["<first>"], codec=codec)
            first_new_id, vocab_size = 260, 265

    cfg = Config(new_form(codec=codec, transforms=[]))

    tokenizer = VLMProcessor.from_config(cfg, Brings).tokenizer

    names = ["<first>", "<ref>", "</ref>", "<box>", "</box>"]
    assert tokenizer.convert_tokens_to_ids(names) == list(range(260, 265))


@pytest.mark.parametrize("view", ["ResizeSquare", "GridWindows"])
def test_padded_numbers_behind_images_without_padding_are_refused(view):
    codec = dict(type="ShikraCodec")
    cfg = new_form(codec=codec, views=dict(type=view))
    message = (
        r"ShikraCodec: geometry='square_pad' writes fractions of the padded square, "
        rf"but {view} .* Set codec.geometry='stretch', or take PadToSquare"
    )

    with pytest.raises(ValueError, match=message):
        built(cfg).pipeline("train")
    doctor = check_config(Config(cfg))
    assert any("geometry='square_pad'" in problem for problem in doctor.problems)
    built(new_form(codec=dict(codec, geometry="stretch"))).pipeline("train")


@pytest.mark.parametrize("geometry", ["stretch", "square_pad"])
@pytest.mark.parametrize(
    "view, frame",
    [
        ("PadToSquare", "square_pad"),
        ("ResizeSquare", "stretch"),
        ("AnyResTiles", "stretch"),
        ("SliceViews", "stretch"),
        ("NativeResolution", "stretch"),
        ("CenterCropSquare", None),
        ("RandomResizedCropSquare", None),
        ("DualPerspectiveViews", None),
    ],
)
def test_numbers_are_fractions_of_what_the_view_shows(view, frame, geometry):
    codec = dict(type="ShikraCodec", geometry=geometry)
    cfg = Config(new_form(codec=codec, views=dict(type=view)))

    said = [p for p in check_config(cfg).problems if "writes fractions of" in p]

    assert bool(said) == (geometry != frame)
    for problem in said:
        assert f"ShikraCodec: geometry='{geometry}'" in problem and view in problem
        assert ("Set codec.geometry=" in problem) == (frame is not None)


def test_the_doctor_knows_the_processor():
    def problems(**changes):
        return "\n".join(check_config(Config(new_form(**changes))).problems)

    assert problems() == ""
    assert "unexpected keyword 'max_lenght'" in problems(max_lenght=3)
    assert "no such transform" in problems(views=dict(type="PadToSqare"))
    assert "unexpected keyword 'outsid'" in problems(write_regions=dict(outsid="keep"))
    assert "unexpected keyword 'label'" in problems(
        encode_conversation=dict(label="llava")
    )
    assert "no chat template is named" in problems(chat_template="vicuna_v9")
    both = dict(new_form(), tokenizer=dict(type="TinyTokenizer", words=["a"]))
    assert "they differ" in "\n".join(check_config(Config(both)).problems)


def test_what_is_missing_is_named():
    cfg = new_form()
    del cfg["processor"]["chat_template"]
    with pytest.raises(ValueError, match=r"\['chat_template'\] missing"):
        built(cfg)
    assert VLMProcessor.from_config(dict(model={}), None) is None
    bare = dict(tokenizer=dict(type="TinyTokenizer"), chat_template="vicuna_v1")
    with pytest.raises(ValueError, match="no pipeline in any of"):
        built(bare)(talk())
    with pytest.raises(ValueError, match="0 view transforms, expected exactly one"):
        assert built(new_form(views=None)).view


def test_pipelines_of_a_config_stand_in_order():
    old = old_form()
    assert [path for path, _ in pipelines(old)] == ["train_dataloader.dataset.pipeline"]
    ((path, steps),) = pipelines(new_form())
    assert path == "processor" and steps[-2]["max_length"] == 240
    assert steps_of(old) == dict(generate=STEPS, train=STEPS)
    batch = collate_flat([built(old)(talk())])
    assert len(batch["data_samples"]) == 1


@pytest.mark.parametrize("template", ["vicuna_v1", "llava_llama_2", "xtuner/default"])
def test_replies_are_written_as_training_has_them_said(template):
    processor = VLMProcessor(tiny_tokenizer(), template)
    encode = ConversationEncoder(processor.template, processor.tokenizer)
    replies = ["A", "a red cat", "</s> is no end", "x " * 40 + "y"]

    found = processor.reply_ids(replies)

    for text, ids in zip(replies, found, strict=True):
        asked = Conversation.from_texts("Which one?")
        (prompt,) = encode([asked], [{}], add_generation_prompt=True)
        (whole,) = encode([Conversation.from_texts("Which one?", text)], [{}])
        end = len(prompt) + len(ids)
        assert whole.input_ids[:end].tolist() == [*prompt.input_ids, *ids]
        assert (whole.labels[end:] != IGNORE_INDEX).any()
        assert processor.tokenizer.decode(ids).strip() == text.strip()
    with pytest.raises(ValueError, match="the reply '' has no token"):
        processor.reply_ids([""])


def test_replies_of_a_decoder_begin_as_it_learns():
    processor = VLMProcessor(tiny_tokenizer(), "encoder_decoder")

    ((first, *ids),) = processor.reply_ids(["cat"])

    assert first == processor.tokenizer.bos_token_id
    assert processor.tokenizer.decode(ids) == "cat"
