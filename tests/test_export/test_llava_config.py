"""What no shape shows: the official config.json against ours, key by key."""

import copy
import json

import pytest
import torch

from mmvlm.config import load_config
from mmvlm.export.from_llava import import_llava
from mmvlm.export.llava_config import (
    check_llava_config,
    config_from_llava,
    config_text,
    official_config,
    parse_layers,
    template_of,
)

CLIP = dict(
    model_type="clip_vision_model",
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=6,
    num_attention_heads=2,
    image_size=16,
    patch_size=8,
)
LLAMA = dict(
    model_type="llama",
    vocab_size=40,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=1,
    num_attention_heads=2,
)
TOWER = dict(type="HFVisionEncoder", name_or_path="parts/clip-tiny", config=CLIP)
MLP = dict(type="MLPConnector", depth=2, select_layers=[-2])
FUSED = dict(
    type="FusedConnector",
    fuser=dict(type="MMFuser", select_layers=[1, 2, 3, 4, 5]),
    projector=dict(type="MLPConnector", depth=2),
)
DUAL = dict(
    type="FusedConnector",
    fuser=dict(type="DualPerspectiveFuser", grid=3, select_layers=[-2]),
    projector=dict(type="MLPConnector", depth=2),
)
SCALED = dict(type="S2VisionEncoder", encoder=TOWER, scales=[16, 32])
PAD, ANYRES = dict(type="PadToSquare"), dict(type="AnyResTiles")


def model(**parts):
    return dict(
        type="VisionLanguageModel",
        vision_encoder=parts.get("tower", TOWER),
        connector=parts.get("connector", MLP),
        language_model=dict(type="HFCausalLM", config=LLAMA),
    )


TILED = dict(type="AnyResConnector", connector=MLP, unpad=True)
SYSTEMS = {
    "llava": (model(), PAD),
    "mmfuser": (model(connector=FUSED), PAD),
    "densefusion": (model(tower=SCALED), PAD),
    "llava-next": (model(connector=TILED), ANYRES),
    "inf-llava": (model(connector=DUAL), dict(type="DualPerspectiveViews", pad=True)),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_we_write_is_what_we_read(name):
    cfg, view = SYSTEMS[name]
    written = json.loads(json.dumps(official_config(cfg, view)))
    check_llava_config(written, cfg, view)
    assert written["model_type"] == "llava_llama"


@pytest.mark.parametrize(
    ("tower", "view", "named"),
    [
        (dict(type="DualVisionEncoder", slow=TOWER), PAD, "DualVisionEncoder"),
        (dict(type="MonkeyVisionEncoder", encoder=TOWER), PAD, "Monkey.* around HF"),
        (
            dict(type="S2VisionEncoder", encoder=dict(type="LaVINVisionEncoder")),
            PAD,
            "S2VisionEncoder around LaVIN",
        ),
        (TOWER, dict(type="ResizeSquare"), "view transform ResizeSquare"),
    ],
)
def test_what_the_official_config_cannot_say_is_refused(tower, view, named):
    with pytest.raises(ValueError, match=rf"{named}.*to_llava\.py CHECKPOINT OUT"):
        official_config(model(tower=tower), view)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("llava", "mm_vision_select_layer", -3),
        ("llava", "mm_vision_select_feature", "cls_patch"),
        ("llava", "mm_projector_type", "mlp3x_gelu"),
        ("llava", "image_aspect_ratio", "square"),
        ("llava", "mm_use_im_start_end", True),
        ("llava", "s2_scales", "16,32"),
        ("llava", "rms_norm_eps", 1e-5),
        ("llava", "hidden_act", "gelu"),
        ("llava", "rope_theta", 5e5),
        ("llava", "rope_scaling", dict(type="linear", factor=2.0)),
        ("inf-llava", "image_aspect_ratio", "square"),
        ("inf-llava", "dual_perspective", dict(grid=2)),
        ("inf-llava", "dual_perspective", dict(pairing="paper")),
        ("mmfuser", "mm_vision_select_layer", "list-6/-5/-3/-3/-2"),
        ("densefusion", "s2_scales", "16,24"),
        ("densefusion", "s2", False),
        ("llava-next", "mm_patch_merge_type", "spatial"),
        ("llava-next", "image_grid_pinpoints", [[16, 32], [32, 16]]),
    ],
)
def test_another_setting_of_the_same_shapes_is_refused_by_key(name, key, value):
    cfg, view = SYSTEMS[name]
    written = dict(official_config(cfg, view), **{key: value})
    named = "s2_scales" if key == "s2" else key
    if isinstance(value, dict) and key == "dual_perspective":
        named = f"{key}.{next(iter(value))}"
    with pytest.raises(ValueError, match=f"{named}=.*ours.*--print-config"):
        check_llava_config(written, cfg, view)


def test_another_tower_is_refused_unless_the_weights_hold_it():
    cfg, view = SYSTEMS["llava"]
    written = dict(official_config(cfg, view), mm_vision_tower="openai/other")
    with pytest.raises(ValueError, match="mm_vision_tower='other'"):
        check_llava_config(written, cfg, view, has_tower=False)
    check_llava_config(written, cfg, view, has_tower=True)


def test_layers_of_both_kinds():
    assert parse_layers("list-22/-17/-2") == [-22, -17, -2]
    assert parse_layers(-2) == parse_layers("-2") == [-2]


def test_an_import_looks_at_the_config_beside_the_weights(tmp_path):
    cfg, view = SYSTEMS["llava"]
    state = {
        f"model.mm_projector.{n}.{leaf}": torch.zeros(24, width)[:, 0]
        if leaf == "bias"
        else torch.zeros(24, width)
        for n, width in ((0, 16), (2, 24))
        for leaf in ("weight", "bias")
    }
    torch.save(state, tmp_path / "mm_projector.bin")
    written = official_config(cfg, view)
    (tmp_path / "config.json").write_text(json.dumps(written))
    for path in (tmp_path, tmp_path / "mm_projector.bin"):
        assert import_llava(path, cfg, view=view).parts == ("connector",)

    written["mm_vision_select_layer"] = -1
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(ValueError, match=r"config\.json: .*mm_vision_select_layer"):
        import_llava(tmp_path, cfg, view=view)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_printed_config_is_the_one_that_fits(name, tmp_path):
    from mmengine.config import Config

    cfg, view = SYSTEMS[name]
    if name == "inf-llava":
        state = {"model.spatial_embed.ln_fuse.bias": torch.zeros(16)}
        torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "clip-tiny").mkdir()
    (tmp_path / "clip-tiny" / "config.json").write_text(json.dumps(CLIP))
    written = official_config(cfg, view)
    written["mm_vision_tower"] = str(tmp_path / "clip-tiny")

    printed = config_from_llava(written, tmp_path).pretty_text

    (tmp_path / "printed.py").write_text(printed)
    fitting = Config.fromfile(tmp_path / "printed.py")
    shown = fitting.processor.views.to_dict()
    check_llava_config(written, fitting.model.to_dict(), shown, has_tower=False)


def test_the_printed_config_knows_towers_by_name():
    written = official_config(*SYSTEMS["llava"])
    written["mm_vision_tower"] = "openai/clip-vit-large-patch14-336"
    tower = config_from_llava(written, "x").model.vision_encoder
    assert tower.config.image_size == 336 and tower.config.patch_size == 14
    other = copy.deepcopy(written)
    other["mm_vision_tower"] = "nobody/knows"
    with pytest.raises(ValueError, match="give --config"):
        config_from_llava(other, "x")


def test_what_the_official_code_of_inf_llava_has_fixed_is_held_and_written():
    cfg = copy.deepcopy(SYSTEMS["inf-llava"][0])
    view = dict(type="DualPerspectiveViews")
    official = official_config(cfg, view)
    assert official["image_aspect_ratio"] == "square"
    assert "dual_perspective" not in official
    cfg["connector"]["fuser"].update(grid=2, branches="both", pooling="average")
    with pytest.raises(ValueError, match=r"dual_perspective.grid=3, ours 2"):
        check_llava_config(official, cfg, view)

    written = official_config(cfg, view)

    assert written["dual_perspective"] == dict(grid=2, pooling="average")
    check_llava_config(written, cfg, view)


def test_another_length_of_samples_is_told_not_refused(monkeypatch):
    from mmvlm.export import llava_config

    said = []
    monkeypatch.setattr(llava_config, "print_log", lambda text, **_: said.append(text))
    cfg, view = SYSTEMS["llava"]
    written = official_config(cfg, view, tokenizer_model_max_length=2048)
    check_llava_config(written, cfg, view, max_length=2048)
    assert said == []
    check_llava_config(written, cfg, view, max_length=512)
    assert "tokenizer_model_max_length=2048, the config cuts" in said[0]


@pytest.mark.parametrize(
    ("fields", "marks", "template"),
    [
        (dict(_name_or_path="lmsys/vicuna-7b-v1.5"), "", "vicuna_v1"),
        (dict(_name_or_path="x/llava-v1.5-7b/"), "", "vicuna_v1"),
        (dict(_name_or_path="meta-llama/Llama-2-7b-chat-hf"), "", "llava_llama_2"),
        (dict(model_type="llava_mistral"), "[INST]", "mistral_instruct"),
        (dict(model_type="llava_qwen"), "<|im_start|>", "qwen"),
        ({}, "<|im_start|>", "chatml_direct"),
        ({}, "<|start_header_id|>", "llama_3"),
        ({}, "[INST]", "llava_llama_2"),
        ({}, "", None),
    ],
)
def test_the_printed_template_is_that_of_the_weights(tmp_path, fields, marks, template):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(dict(marks=marks)))
    official = dict(official_config(*SYSTEMS["llava"]), **fields)
    official["mm_vision_tower"] = "openai/clip-vit-large-patch14-336"

    assert template_of(official, tmp_path) == template
    text = config_text(official, tmp_path)
    assert f"chat_template = '{template or 'vicuna_v1'}'" in text
    assert ("# chat_template: neither" in text) == (template is None)
    compile(text, "printed", "exec")


def test_stage_one_and_inf_llava_have_templates_of_their_own(tmp_path):
    official = official_config(*SYSTEMS["llava"])
    state = {"model.spatial_embed.ln_fuse.bias": torch.zeros(16)}
    torch.save(state, tmp_path / "mm_projector.bin")
    (tmp_path / "tokenizer_config.json").write_text('"<|start_header_id|>"')
    assert template_of(official, tmp_path) == "plain"
    state["model.layers.0.x"] = torch.zeros(1)
    torch.save(state, tmp_path / "pytorch_model.bin")

    template = template_of(official, tmp_path)

    name = "inf-llava-clip-l14-336_dual-n3_llama3-8b_8xb8-1e-ft_llava-665k"
    assert template == load_config(name).chat_template.to_dict()
