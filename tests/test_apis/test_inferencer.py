"""The inferencer: same inputs as training, same replies alone and in batches."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mmvlm.apis import VLMInferencer
from mmvlm.config import load_config
from mmvlm.structures import SLOT_TOKEN_ID

QUESTIONS = ["What is this?", "Which colour has the left one?", "Why?"]


def test_batch_equals_one_by_one(talk, images):
    shown = [images[0], None, images[2]]

    alone = talk(shown, QUESTIONS, batch_size=1)
    together = talk(shown, QUESTIONS, batch_size=3)
    uneven = talk(shown, QUESTIONS, batch_size=2)

    assert alone == together == uneven
    assert alone == [talk.chat(i, q) for i, q in zip(shown, QUESTIONS, strict=True)]
    assert len(set(alone)) > 1, "a model that always says the same proves nothing"


def test_reply_depends_on_the_image(talk, images):
    replies = talk([*images, None], "What is this?")
    assert len(set(replies)) > 1


def test_path_pil_and_array_are_the_same(talk, images, image_file):
    sources = [
        image_file,
        str(image_file),
        Image.fromarray(images[0]),
        images[0],
    ]
    replies = [talk.chat(source, "What is this?") for source in sources]
    assert len(set(replies)) == 1


def test_prompt_is_encoded_as_in_training(talk, images):
    from mmvlm.datasets.collate import collate_flat
    from mmvlm.datasets.transforms.compose import Compose
    from mmvlm.text.llava_format import parse_llava_conversation

    turns = [
        ("human", "<image>\nWhat?"),
        ("gpt", "A."),
        ("human", "Sure?"),
        ("gpt", "B."),
    ]
    record = dict(id="1", conversations=[{"from": f, "value": v} for f, v in turns])
    item = dict(
        conversation=parse_llava_conversation(record, images=[images[0]]),
        dataset="x",
        index=0,
        rng=np.random.default_rng(0),
    )
    steps = [
        dict(type="LoadImages"),
        dict(type="PadToSquare"),
        dict(type="EncodeConversation"),
        dict(type="PackVLMInputs"),
    ]
    training = Compose(steps)
    training.bind(talk.processor)
    expected = collate_flat([training(item)])["inputs"]

    batch = talk.encode([talk.conversation(images[0], "Sure?", [("What?", "A.")])])

    length = len(batch.text.input_ids)
    assert torch.equal(batch.text.input_ids, expected.text.input_ids[:length])
    answer = talk.processor.tokenizer.decode(expected.text.input_ids[length:])
    assert answer == " B.</s>"
    normal = talk.model.data_preprocessor.normalize(expected.inputs["image"].values)
    assert torch.equal(batch.inputs["image"].values, normal)


def test_history_takes_the_place_of_turns(talk, images):
    batch = talk.encode([talk.conversation(images[0], "B?", [("A?", "one")])])
    kept = batch.text.input_ids[batch.text.input_ids != SLOT_TOKEN_ID]
    text = talk.processor.tokenizer.decode(kept)
    assert text.endswith("\nA? ASSISTANT: one</s>USER: B? ASSISTANT:")
    assert (batch.text.input_ids == SLOT_TOKEN_ID).sum() == 16


def test_images_stand_where_the_prompt_shows_them(talk, images):
    prompt = "First <image> then <image>, which is larger?"
    encoded = talk.encode([talk.conversation(images[:2], prompt)]).inputs["image"]
    assert encoded.slot_lens == (16, 16) and len(encoded.values) == 2
    assert encoded.slot_index[16] - encoded.slot_index[15] > 1


def test_stream_joins_to_the_reply(talk, images):
    pieces = list(talk.stream(images[1], "Go on.", max_new_tokens=40))
    assert "".join(pieces) == talk.chat(images[1], "Go on.", max_new_tokens=40)
    assert len(pieces) > 3


def test_stream_that_is_left_ends(talk, images):
    import threading

    stream = talk.stream(images[1], "Go on.", max_new_tokens=200)
    next(stream)
    stream.close()
    names = [thread.name for thread in threading.enumerate()]
    assert "mmvlm-generate" not in names


def test_replies_of_two_threads_hold_nothing_of_each_other(talk, images):
    """Each asks for the states of all its tokens, which hooks catch."""
    from concurrent.futures import ThreadPoolExecutor

    options = dict(catch=range(len(talk.processor.tokenizer)), max_new_tokens=12)
    cases = [(image, q) for image in images[:2] for q in QUESTIONS[:2]]

    def ask(case):
        return talk.answer(*case, **options)

    alone = [ask(case) for case in cases]
    stream = talk.stream(images[0], "Go on.", max_new_tokens=200)
    next(stream)
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(ask, cases)
        stream.close()  # a reply that is stopped half way
        together = list(together)

    for one, other in zip(alone, together, strict=True):
        assert one.pred_ids == other.pred_ids and len(one.pred_states)
        torch.testing.assert_close(one.pred_states, other.pred_states)


def test_stream_raises_what_generation_raised(talk, images):
    with pytest.raises(ValueError, match="unknown fields"):
        list(talk.stream(images[0], "x", no_such_option=1))


def test_generation_options(talk, images):
    short = talk.chat(images[0], "What?", max_new_tokens=2)
    long = talk.caption(images[0], "What?", max_new_tokens=30)
    assert long.startswith(short) and len(long) > len(short)


def test_system_text_replaces_the_default(talk):
    other = VLMInferencer.from_loaded(talk.loaded, system="Be brief.")
    batch = other.encode([other.conversation(None, "Q")])
    text = talk.processor.tokenizer.decode(batch.text.input_ids)
    assert text == "<s>Be brief. USER: Q ASSISTANT:"


def test_text_file_as_image_is_named(talk, tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("dear diary")
    with pytest.raises(ValueError, match=r"notes\.png' is not an image.*dear diary"):
        talk.chat(path, "What is this?")


def test_missing_image_is_named(talk, tmp_path):
    with pytest.raises(ValueError, match=r"gone\.png' does not exist"):
        talk.chat(tmp_path / "gone.png", "What is this?")


def test_more_tags_than_images(talk, images):
    with pytest.raises(ValueError, match="2 <image> placeholders but 1 image"):
        talk.chat(images[0], "<image> and <image>?")


def test_lists_of_different_length(talk, images):
    with pytest.raises(ValueError, match="3 images but 2 prompts"):
        talk(images, ["a", "b"])


def test_checkpoint_with_nothing_to_load(config_file, trained, tmp_path):
    from mmvlm.engine.runner.checkpoint import save_atomic

    save_atomic(
        dict(state_dict={"backbone.w": torch.zeros(1)}, meta={}), tmp_path / "x.pth"
    )
    options = {
        "model.vision_encoder.name_or_path": None,
        "model.language_model.name_or_path": None,
    }
    with pytest.raises(ValueError, match="gives nothing for"):
        VLMInferencer(config_file, tmp_path / "x.pth", cfg_options=options)


def test_missing_checkpoint_is_named(config_file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        VLMInferencer(config_file, tmp_path / "gone.pth")


def test_pretrained_weights_are_read_when_the_checkpoint_lacks_them(
    config_file, trained, tmp_path
):
    from mmvlm.engine.runner.checkpoint import save_atomic

    state = {k: v for k, v in trained.state_dict().items() if k.startswith("connector")}
    save_atomic(dict(state_dict=state, meta={}), tmp_path / "x.pth")
    with pytest.raises(FileNotFoundError, match="pretrained/gone/tower"):
        VLMInferencer(config_file, tmp_path / "x.pth")


def test_config_without_pipeline(config_file, checkpoint, tmp_path):
    text = config_file.read_text()
    (tmp_path / "x.py").write_text(text[: text.index("test_dataloader")])
    with pytest.raises(ValueError, match="no pipeline in any of"):
        VLMInferencer(tmp_path / "x.py", checkpoint)


@pytest.mark.parametrize("exif", ["ignore", "apply"])
def test_a_photo_is_turned_where_the_pipeline_turns_it(
    config_file, checkpoint, images, tmp_path, exif
):
    cfg = load_config(config_file)
    cfg.test_dataloader.dataset.pipeline[0].exif = exif
    talk = VLMInferencer(cfg, checkpoint, device="cpu")
    tags = Image.Exif()
    tags[0x0112] = 6
    path = tmp_path / "phone.png"
    Image.fromarray(images[0][:20]).save(path, exif=tags)

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        seen = talk.read_image(path)

    said = [str(one.message) for one in said if "orientation" in str(one.message)]
    assert [str(path) in text for text in said] == [True] * (exif == "ignore")
    with Image.open(path) as stored:
        turned = np.asarray(ImageOps.exif_transpose(stored))
        expected = turned if exif == "apply" else np.asarray(stored)
    assert turned.shape != images[0][:20].shape
    assert np.array_equal(seen, expected)


def test_stop_strings_come_on_top_of_the_templates(talk, images):
    free = talk.chat(images[0], "q")
    stop = free[2:4]

    for given in (stop, [stop]):
        cut = talk.chat(images[0], "q", stop_strings=given)
        assert cut == free[: free.index(stop)].strip()
        assert "".join(talk.stream(images[0], "q", stop_strings=given)) == cut
    with pytest.raises(ValueError, match="expected texts, none empty"):
        talk.chat(images[0], "q", stop_strings=[""])


def test_a_reply_in_the_history_shows_no_image(talk, images):
    # An image read out of the reply would be one too many, which is refused.
    for said in ("write <image> and </s>", "write\n<image>\nalone"):
        assert isinstance(talk.chat(images[0], "and?", [("q", said)]), str)


def test_prompts_do_without_what_only_training_needs(config_file):
    from mmvlm.config import load_config
    from mmvlm.datasets.processor import VLMProcessor

    cfg = load_config(config_file)
    encode = dict(type="EncodeConversation", max_length=9, count_images=False)
    steps = [dict(type="PadToSquare"), encode, dict(type="PackVLMInputs")]
    cfg.test_dataloader = dict(dataset=dict(pipeline=steps))

    _, found, _ = VLMProcessor.from_config(cfg, None).pipeline("generate").transforms

    assert (found.mode, found.max_length, found.count_images) == ("generate", None, 1)


def test_random_parts_are_told_also_inside_others(trained):
    from mmengine.config import Config

    from mmvlm.config.sources import random_parts

    tower = dict(type="HFVisionEncoder", name_or_path="somewhere")
    parts = dict(
        type="VisionLanguageModel",
        vision_encoder=dict(type="S2VisionEncoder", encoder=tower, scales=[16, 32]),
        connector=dict(type="MLPConnector"),
        language_model=dict(type="HFCausalLM", name_or_path="elsewhere"),
    )
    cfg = Config(dict(model=parts))
    assert random_parts(cfg, trained) == ["connector"]
    del cfg.model.vision_encoder.encoder["name_or_path"]
    cfg.load_from = dict(path="stage_1.pth", parts=["connector"])
    assert random_parts(cfg, trained) == ["vision_encoder.encoder"]
