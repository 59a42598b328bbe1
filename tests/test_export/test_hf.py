"""Our models become folders that plain transformers loads."""

import json

import numpy as np
import pytest
import torch
import transformers
from export_helpers import build, make_question

from mmvlm.export.from_hf import import_hf
from mmvlm.export.hf import check_exportable, export_hf
from mmvlm.export.verify import hf_inputs, verify_export
from mmvlm.models.language_models.table_states import split_modules
from mmvlm.testing.builders import tiny_vlm

VIEW = dict(type="PadToSquare")


def make_model(seed=0, vocab_size=294, tie=False, **kwargs):
    lm = dict(vocab_size=vocab_size, tie_word_embeddings=tie, hidden_size=24)
    model = tiny_vlm(seed, lm=lm, **kwargs)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(std=0.1)
    return model


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def folder(model, context, tmp_path_factory):
    target = tmp_path_factory.mktemp("export") / "llava"
    return export_hf(
        model, context, target, view=VIEW, generation=dict(max_new_tokens=9)
    )


@pytest.mark.parametrize("tie", [False, True])
@torch.no_grad()
def test_export_gives_the_same_logits_in_plain_transformers(tie, context, tmp_path):
    from transformers import LlavaForConditionalGeneration

    model, batch = make_model(seed=3, tie=tie), make_question()
    export_hf(model, context, tmp_path / "out", view=VIEW)

    llava = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    theirs = llava(**hf_inputs(batch, llava.config)).logits[0]

    ours = model(batch, None, mode="tensor")
    assert theirs.shape[1] == 320 > ours.shape[1] == 294
    torch.testing.assert_close(theirs[:, :294], ours, atol=1e-5, rtol=0)
    assert ours.std() > 1e-3


@pytest.mark.parametrize("tie", [False, True])
@torch.no_grad()
def test_new_rows_that_learn_apart_are_exported_in_one_table(tie, context, tmp_path):
    from safetensors.torch import load_file
    from transformers import LlavaForConditionalGeneration

    new, sizes = dict(tokens=["<a>", "<b>"], train="rows"), dict(hidden_size=24)
    lm = dict(sizes, vocab_size=292, tie_word_embeddings=tie, new_tokens=new)
    model, batch, folder = tiny_vlm(3, lm=lm), make_question(), tmp_path / "out"
    tables = dict(split_modules(model.language_model))
    assert len(tables) == 2
    for table in tables.values():
        table.new_weight.normal_()  # no longer the mean of the old rows
    export_hf(model, context, folder, view=VIEW)

    assert not [k for k in load_file(folder / "model.safetensors") if "new_" in k]
    found, state = import_hf(folder, vocab_size=294).state_dict, model.state_dict()
    assert "language_model.model.model.embed_tokens.weight" in found
    assert all(torch.equal(value, state[key]) for key, value in found.items())
    llava = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    theirs = llava(**hf_inputs(batch, llava.config)).logits[0, :, :294]
    ours = model(batch, None, mode="tensor")
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)


def test_new_rows_never_win(folder, model):
    from safetensors.torch import load_file

    state = load_file(folder / "model.safetensors")
    (key,) = [key for key in state if key.endswith("lm_head.weight")]
    head = model.language_model.model.lm_head.weight.detach()
    expected = head.mean(0).expand(26, -1)
    torch.testing.assert_close(state[key][294:], expected, atol=1e-6, rtol=0)


def test_export_and_import_are_inverse_to_the_bit(folder, model):
    imported = import_hf(folder, vocab_size=294)

    state = model.state_dict()
    assert imported.state_dict.keys() == state.keys()
    assert all(torch.equal(imported.state_dict[key], state[key]) for key in state)
    build(imported)


def test_weights_have_the_layout_that_all_versions_read(folder):
    from safetensors.torch import load_file

    file = folder / "model.safetensors"
    tops = {".".join(key.split(".")[:2]) for key in load_file(file)}
    assert tops == {
        "language_model.model",
        "language_model.lm_head",
        "multi_modal_projector.linear_1",
        "multi_modal_projector.linear_2",
        "vision_tower.vision_model",
    }
    assert file.stat().st_mode == (folder / "config.json").stat().st_mode


def test_rows_that_are_there_are_not_grown(context, tmp_path):
    model = make_model(vocab_size=len(context.tokenizer) + 30)
    export_hf(model, context, tmp_path / "out", view=VIEW)

    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["text_config"]["vocab_size"] == len(context.tokenizer) + 30


def test_exported_processor_gives_our_pixels_and_ids(folder, context):
    from PIL import Image
    from transformers import AutoProcessor

    image = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (20, 44, 3), dtype=np.uint8)
    )
    processor = AutoProcessor.from_pretrained(folder)
    talk = [
        dict(
            role="user",
            content=[dict(type="image"), dict(type="text", text="What colour?")],
        )
    ]
    text = processor.apply_chat_template(talk, add_generation_prompt=True)
    inputs = processor(images=image, text=text, return_tensors="pt")

    assert text == "USER: <image>\nWhat colour? ASSISTANT:"
    token = processor.tokenizer.convert_tokens_to_ids("<image>")
    assert (inputs["input_ids"] == token).sum() == 16
    assert inputs["pixel_values"].shape == (1, 3, 32, 32)
    if hasattr(transformers, "LlavaImageProcessor"):
        # The border is the mean colour, which normalises to about nothing.
        assert inputs["pixel_values"][0, :, 0].abs().max() < 0.02
    assert "<image>" not in context.tokenizer.get_vocab()


def test_exported_generation_defaults(folder, context):
    from transformers import GenerationConfig

    config = GenerationConfig.from_pretrained(folder)
    assert config.eos_token_id == [context.tokenizer.eos_token_id]
    assert config.max_new_tokens == 9


@torch.no_grad()
def test_exported_model_generates_what_ours_does(folder, model, context):
    from transformers import LlavaForConditionalGeneration

    llava = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    batch = make_question()
    model.bind(context)
    inputs = hf_inputs(batch, llava.config)
    ids = llava.generate(**inputs, max_new_tokens=8, do_sample=False)[0]
    ours = model.predict(batch, max_new_tokens=8)[0].pred_ids
    assert ids[len(batch.text.input_ids) :].tolist() == ours


def test_verify_passes_and_reports(folder, model, context):
    report = verify_export(model, folder, [make_question(), make_question(seed=2)])
    assert report.ok and report.num_prompts == 2
    assert report.max_logit_diff <= 1e-5 < report.max_logit


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("linear_2.weight", "connector.1.weight"),
        # The last block never reaches the logits, so only the weights show it.
        ("encoder.layers.2.mlp.fc1.weight", "vision_encoder.encoder.layers.2"),
    ],
)
def test_verify_detects_a_corrupted_weight(part, named, model, context, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = export_hf(model, context, tmp_path / "bad", view=VIEW)
    state = load_file(folder / "model.safetensors")
    (key,) = [key for key in state if key.endswith(part)]
    state[key][0, 0] += 0.5
    save_file(state, folder / "model.safetensors", metadata=dict(format="pt"))

    report = verify_export(model, folder, [make_question()])

    assert not report.ok
    assert named in str(report) and "FAILED" in str(report)


def test_verify_detects_a_lost_weight(model, context, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = export_hf(model, context, tmp_path / "bad", view=VIEW)
    state = load_file(folder / "model.safetensors")
    (key,) = [key for key in state if key.endswith("linear_1.bias")]
    del state[key]
    save_file(state, folder / "model.safetensors", metadata=dict(format="pt"))

    report = verify_export(model, folder, [make_question()])

    assert not report.ok and "linear_1.bias" in report.loading[0]


@pytest.mark.parametrize(
    ("connector", "message"),
    [
        (dict(type="MLPConnector", depth=3), "Linear GELU Linear GELU Linear"),
        (dict(type="MLPConnector", act="gelu_tanh"), "act='gelu'"),
        (dict(type="LinearConnector"), "type='LinearConnector'.*'MLPConnector'"),
    ],
)
def test_export_refuses_what_transformers_lacks(connector, message):
    model = make_model(connector=connector)
    with pytest.raises(ValueError, match=f"no counterpart.*{message}"):
        check_exportable(model)


def test_export_refuses_registers():
    from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder

    model = make_model(vision_encoder=HFVisionEncoder.tiny("dinov2_with_registers"))
    with pytest.raises(ValueError, match="5 prefix tokens, expected 0 or 1"):
        check_exportable(model)


def test_export_does_not_overwrite(folder, model, context):
    with pytest.raises(FileExistsError, match="pass --overwrite"):
        export_hf(model, context, folder, view=VIEW)


def test_export_refuses_an_unknown_view(model, context, tmp_path):
    with pytest.raises(ValueError, match="view transform 'AnyRes' has no counterpart"):
        export_hf(model, context, tmp_path / "out", view=dict(type="AnyRes"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["siglip_vision_model", "dinov2"])
@torch.no_grad()
def test_other_towers_export_too(kind, tokenizer, tmp_path):
    from export_helpers import PlainTalk

    from mmvlm.datasets.processor import VLMProcessor
    from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder

    torch.manual_seed(0)
    model = make_model(vision_encoder=HFVisionEncoder.tiny(kind))
    context = VLMProcessor(tokenizer, PlainTalk(), model.vision_spec, model.token_count)
    export_hf(model, context, tmp_path / "out", view=VIEW)
    report = verify_export(model, tmp_path / "out", [make_question()])
    assert report.ok, str(report)


def test_the_image_processor_has_a_file_of_its_own(context, tmp_path, monkeypatch):
    """As written by transformers 5.x, whose processor writes one file for all."""
    from transformers import AutoImageProcessor, LlavaProcessor

    from mmvlm.export.hf_files import add_image_token, save_processor

    monkeypatch.setattr(
        LlavaProcessor,
        "save_pretrained",
        lambda self, folder: self.tokenizer.save_pretrained(folder),
    )
    tokenizer, _ = add_image_token(context.tokenizer)

    save_processor(tmp_path, context, tokenizer, dict(type="PadToSquare"), "default")

    read = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(read).__name__.startswith("LlavaImageProcessor")
    assert read.do_pad and read.crop_size["height"] == context.spec.image_size
