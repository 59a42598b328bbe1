"""Questions with regions and sounds, replies with regions, through the inferencer."""

import wave

import numpy as np
import pytest
import torch

from mmvlm.apis import VLMInferencer
from mmvlm.config import load_config
from mmvlm.structures import Boxes, Conversation, Image, Media, Region, Text, Turn

CODEC = dict(type="PinkCodec")
ONELLM = "tiny/onellm-clip-tiny_upm-e2_llama-tiny_1xb96-2k-ft_tiny-scenes.py"


@pytest.fixture(scope="module")
def finder(config_file, checkpoint):
    """The tiny LLaVA in the newer form of configs, with a codec."""
    cfg = load_config(config_file)
    cfg.processor = dict(
        type="VLMProcessor",
        tokenizer=cfg.pop("tokenizer"),
        chat_template=cfg.pop("chat_template"),
        views=dict(type="PadToSquare"),
        codec=dict(CODEC, geometry="square_pad"),
    )
    cfg.pop("test_dataloader")
    return VLMInferencer(cfg, checkpoint, device="cpu")


def says(talk, text, monkeypatch):
    """Let the language model say a text."""
    ids = talk.processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def generate(embeds, seq_lens, **options):
        from mmvlm.models.language_models.generation import Generation

        for token in ids if "streamer" in options else ():
            options["streamer"].put(torch.tensor([token]))
        none = torch.empty(0, dtype=torch.int64), torch.empty(0, 24)
        return [Generation(torch.tensor(ids), "length", *none) for _ in seq_lens]

    monkeypatch.setattr(talk.model.language_model, "generate", generate)


def shown(talk, conversation):
    ids = talk.encode([conversation]).prompt.input_ids
    return talk.processor.tokenizer.decode(ids[ids >= 0])


def test_both_forms_of_a_config_reply_alike(finder, talk, images):
    for question in ("What is this?", "Why?"):
        assert finder.chat(images[0], question) == talk.chat(images[0], question)


@pytest.mark.parametrize(
    "part",
    [{"box": (3, 4, 30, 16)}, Region(0, Boxes(np.array([3.0, 4, 30, 16]), (20, 33)))],
)
def test_a_region_may_stand_in_a_question(finder, images, part):
    question = ["What is at ", part, "?"]

    text = shown(finder, finder.conversation(images[0], question))

    assert "\nWhat is at [0.091,0.303,0.909,0.667]?" in text
    alone = shown(finder, finder.conversation(None, [images[0], *question]))
    assert "What is at [0.091,0.303,0.909,0.667]?" in alone
    assert isinstance(finder.chat(images[0], question), str)


def test_regions_of_a_reply_lie_in_the_image(finder, images, monkeypatch):
    says(finder, "a dog [0.091,0.303,0.909,0.667] and [0.1,", monkeypatch)

    sample = finder.answer(images[0], "Where?")

    (region,) = sample.pred_regions
    assert np.abs(region.boxes.xyxy - [3, 4, 30, 16]).max() < 0.5
    assert len(sample.problems) == 1 and sample.finish == "length"
    stream = finder.stream(images[0], "Where?")
    pieces = []
    with pytest.raises(StopIteration) as end:
        while True:
            pieces.append(next(stream))
    assert "".join(pieces) == end.value.value.pred_text == sample.pred_text
    assert len(end.value.value.pred_regions) == 1


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([{"box": (1, 2, 3, 4)}], "no image stands before it"),
        ([{"audio": "gone.wav"}], r"gone\.wav' does not exist"),
        ([{"audio": 1, "x": 2}], "a part of a question is"),
        ([7], "a part of a question is 7"),
    ],
)
def test_wrong_parts_are_named(finder, prompt, message):
    with pytest.raises((ValueError, TypeError), match=message):
        finder.chat(None, prompt)


@pytest.fixture(scope="module")
def listener():
    torch.manual_seed(0)
    return VLMInferencer(ONELLM, tiny=True, device="cpu")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sounds") / "bark.wav"
    samples = np.random.default_rng(0).normal(size=16000) * 3000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def test_a_sound_and_an_image_in_one_conversation(listener, sound, images):
    image, question = images[0], "What do you hear?"
    turn = Turn(
        "user", (Image(0), Text("\n"), Media("audio", 0), Text(f"\n{question}"))
    )
    whole = Conversation([turn], [image], "x", media={"audio": [str(sound)]})
    ways = [
        listener.conversation(image, question, media={"audio": [sound]}),
        listener.conversation(None, whole),
        listener.conversation(image, [Text(""), {"audio": sound}, f"\n{question}"]),
    ]

    batches = [listener.encode([way]) for way in ways]

    for batch in batches:
        assert set(batch.inputs) == {"image", "audio"}
        assert torch.equal(batch.prompt.input_ids, batches[0].prompt.input_ids)
        values = [made.inputs["audio"].values for made in (batch, batches[0])]
        assert torch.equal(*values)
    reply = listener.chat(None, whole, max_new_tokens=4)
    assert reply == listener.chat(
        image, question, media={"audio": [sound]}, max_new_tokens=4
    )
    deaf = listener.chat(image, question, max_new_tokens=4)
    assert isinstance(deaf, str)


def test_a_model_without_ears_says_so(talk, sound):
    with pytest.raises(ValueError, match="it has 'audio', but the model takes"):
        talk.chat(None, "What?", media={"audio": [sound]})
