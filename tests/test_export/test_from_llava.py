"""Checkpoints with the official LLaVA names become ours."""

import json

import pytest
import torch
from export_helpers import build, hf_logits, make_question

from mmvlm.export.from_hf import import_hf
from mmvlm.export.from_llava import import_llava

PAIRS = (
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.", "model.vision_tower.vision_tower."),
    ("multi_modal_projector.linear_1.", "model.mm_projector.0."),
    ("multi_modal_projector.linear_2.", "model.mm_projector.2."),
)
TARGETS = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")


def official(folder):
    """Weights of a transformers LLaVA under the official names."""
    from safetensors.torch import load_file

    state = {}
    for key, tensor in load_file(folder / "model.safetensors").items():
        old, new = next(pair for pair in PAIRS if key.startswith(pair[0]))
        state[new + key[len(old) :]] = tensor
    return state


def write(folder, state, name="pytorch_model.bin"):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(model_type="llava_llama")))
    torch.save(state, folder / name)
    return folder


@pytest.fixture
def model_cfg(hf_folder):
    return import_hf(hf_folder).model_cfg


@torch.no_grad()
def test_full_checkpoint_gives_the_same_logits(
    hf_llava, hf_folder, model_cfg, tmp_path
):
    state = official(hf_folder)
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)
    folder = write(tmp_path / "x", state)
    batch = make_question()

    imported = import_llava(folder, model_cfg)

    logits = build(imported)(batch, None, mode="tensor")
    torch.testing.assert_close(logits, hf_logits(hf_llava, batch), atol=1e-5, rtol=0)
    assert imported.parts == ("vision_encoder", "connector", "language_model")


def test_checkpoint_without_tower_covers_the_other_parts(
    hf_folder, model_cfg, tmp_path
):
    state = {k: v for k, v in official(hf_folder).items() if "vision_tower" not in k}

    imported = import_llava(write(tmp_path / "x", state), model_cfg)

    assert imported.parts == ("connector", "language_model")
    assert not any(key.startswith("vision_encoder") for key in imported.state_dict)


def split_off_the_tower(state, folder):
    """Write the tower apart, as DenseFusion does; return the rest."""
    prefix = "model.vision_tower.vision_tower."
    tower = {k.removeprefix(prefix): v for k, v in state.items() if prefix in k}
    # transformers 5 has dropped the name that all published files have.
    tower = {f"vision_model.{k.removeprefix('vision_model.')}": tower[k] for k in tower}
    assert tower
    folder.mkdir(parents=True)
    torch.save(tower, folder / "pytorch_model.bin")
    return {k: v for k, v in state.items() if prefix not in k}


@pytest.mark.parametrize("inside", [True, False])
def test_a_tower_saved_apart_joins_its_model(inside, hf_folder, model_cfg, tmp_path):
    whole = official(hf_folder)
    expected = import_llava(write(tmp_path / "whole", whole), model_cfg)
    tower = tmp_path / "x" / "vision_tower" if inside else tmp_path / "tower"
    folder = write(tmp_path / "x", split_off_the_tower(whole, tower))

    options = {} if inside else dict(vision_tower=tower)
    imported = import_llava(folder, model_cfg, **options)

    assert imported.parts == expected.parts
    assert imported.state_dict.keys() == expected.state_dict.keys()
    for key, tensor in expected.state_dict.items():
        assert torch.equal(imported.state_dict[key], tensor), key
    with pytest.raises(ValueError, match="would be a second one"):
        import_llava(tmp_path / "whole", model_cfg, vision_tower=tower)
    with pytest.raises(ValueError, match="belongs to a whole model"):
        import_llava(tower / "pytorch_model.bin", model_cfg, vision_tower=tower)


def test_a_tower_goes_into_s2(hf_folder, model_cfg, tmp_path):
    expected = import_llava(write(tmp_path / "x", official(hf_folder)), model_cfg)
    inner = model_cfg["vision_encoder"]
    side = inner["config"]["image_size"]
    cfg = dict(model_cfg)
    cfg["vision_encoder"] = dict(
        type="S2VisionEncoder", encoder=inner, scales=(side, 2 * side)
    )
    state = official(hf_folder)
    key = "model.mm_projector.0.weight"
    state[key] = torch.cat([state[key]] * 2, 1)  # S2 is twice as wide

    imported = import_llava(write(tmp_path / "s2", state), cfg)

    for name, tensor in expected.state_dict.items():
        if name.startswith("vision_encoder."):
            wrapped = name.replace("vision_encoder.", "vision_encoder.encoder.", 1)
            assert torch.equal(imported.state_dict[wrapped], tensor)


def test_rows_behind_the_vocabulary_are_cut(hf_folder, model_cfg, tmp_path):
    model_cfg["language_model"]["config"]["vocab_size"] = 90
    imported = import_llava(write(tmp_path / "x", official(hf_folder)), model_cfg)
    rows = imported.state_dict["language_model.model.model.embed_tokens.weight"]
    assert len(rows) == 90


@pytest.mark.parametrize("prefix", ["model.", "", "base_model.model.model."])
def test_stage_one_projector(prefix, hf_folder, model_cfg, tmp_path):
    state = official(hf_folder)
    state = {k: v for k, v in state.items() if "mm_projector" in k}
    other = {prefix + k.removeprefix("model."): v for k, v in state.items()}
    write(tmp_path / "x", other, "mm_projector.bin")

    for path in (tmp_path / "x", tmp_path / "x" / "mm_projector.bin"):
        imported = import_llava(path, model_cfg)

        assert imported.parts == ("connector",)
        expected = {
            key.replace("model.mm_projector", "connector.proj"): value
            for key, value in state.items()
        }
        assert imported.state_dict.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(imported.state_dict[key], value)


def test_depth_must_agree(hf_folder, model_cfg, tmp_path):
    state = {k: v for k, v in official(hf_folder).items() if "mm_projector" in k}
    state["model.mm_projector.4.weight"] = torch.zeros(24, 24)
    state["model.mm_projector.4.bias"] = torch.zeros(24)
    folder = write(tmp_path / "x", state, "mm_projector.bin")
    with pytest.raises(
        ValueError, match=r"3 linear layers, but model.connector.depth=2"
    ):
        import_llava(folder, model_cfg)


def test_start_and_end_tokens_are_refused(hf_folder, model_cfg, tmp_path):
    state = official(hf_folder)
    kept = {k: v for k, v in state.items() if "mm_projector" in k or "embed_t" in k}
    folder = write(tmp_path / "x", kept, "mm_projector.bin")
    with pytest.raises(ValueError, match="mm_use_im_start_end"):
        import_llava(folder, model_cfg)


def test_unknown_official_keys_are_refused(hf_folder, model_cfg, tmp_path):
    state = {**official(hf_folder), "model.vision_resampler.query": torch.zeros(24)}
    with pytest.raises(ValueError, match=r"official LLaVA.*model\.vision_resampler"):
        import_llava(write(tmp_path / "x", state), model_cfg)


def test_transformers_folder_is_sent_on(hf_folder, model_cfg):
    with pytest.raises(ValueError, match=r"use from_hf\.py"):
        import_llava(hf_folder, model_cfg)


def write_lora(folder, state, settings=None):
    """Adapters as peft writes them, and the projector beside them."""
    generator = torch.Generator().manual_seed(7)
    pairs = {}
    for key, weight in state.items():
        if key.endswith(tuple(f"{t}.weight" for t in TARGETS)) and "layers" in key:
            if "vision_tower" in key:
                continue
            stem = f"base_model.model.{key.removesuffix('.weight')}"
            rows, columns = weight.shape
            pairs[f"{stem}.lora_A.weight"] = torch.randn(
                4, columns, generator=generator
            )
            pairs[f"{stem}.lora_B.weight"] = torch.randn(rows, 4, generator=generator)
    extra = {
        f"base_model.model.{k}": v for k, v in state.items() if "mm_projector" in k
    }
    folder.mkdir(exist_ok=True)
    settings = dict(r=4, lora_alpha=8, target_modules=["q_proj"], **(settings or {}))
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    torch.save(pairs, folder / "adapter_model.bin")
    torch.save(extra, folder / "non_lora_trainables.bin")
    return pairs


def test_lora_merges_into_a_base(hf_folder, model_cfg, tmp_path):
    state = official(hf_folder)
    pairs = write_lora(tmp_path / "lora", state)
    base = {k: v for k, v in state.items() if "vision" not in k and "mm_" not in k}
    write(tmp_path / "base", base)

    imported = import_llava(tmp_path / "lora", model_cfg, base=tmp_path / "base")

    assert imported.parts == ("connector", "language_model")
    for key, weight in base.items():
        stem = f"base_model.model.{key.removesuffix('.weight')}.lora"
        if f"{stem}_A.weight" in pairs:
            weight = weight + 2 * pairs[f"{stem}_B.weight"] @ pairs[f"{stem}_A.weight"]
        got = imported.state_dict[f"language_model.model.{key}"]
        torch.testing.assert_close(got, weight, atol=1e-6, rtol=0)
    assert len(pairs) == 12
    expected = state["model.mm_projector.2.weight"]
    assert torch.equal(imported.state_dict["connector.proj.2.weight"], expected)


@torch.no_grad()
def test_lora_kept_as_adapters_equals_merged(hf_folder, model_cfg, tmp_path):
    from mmvlm.registry import MODELS

    state = official(hf_folder)
    write_lora(tmp_path / "lora", state)
    write(tmp_path / "base", state)
    merged = import_llava(tmp_path / "lora", model_cfg, base=tmp_path / "base")
    lora = dict(r=4, alpha=8, dropout=0.05)
    targets = [t.rpartition(".")[2] for t in TARGETS]
    model_cfg["language_model"]["lora"] = dict(lora, target_modules=targets)

    kept = import_llava(tmp_path / "lora", model_cfg)

    model = MODELS.build(model_cfg).eval()
    own = model.state_dict()
    full = {k.replace(".base_layer", ""): k for k in own}
    plain = import_hf(hf_folder).state_dict
    model.load_state_dict(
        {**own, **{full[k]: v for k, v in plain.items()}, **kept.state_dict}
    )
    batch = make_question()
    assert kept.parts == ("connector", "language_model")
    twin = import_hf(hf_folder)
    twin.state_dict.update(merged.state_dict)
    expected = build(twin)(batch, None, mode="tensor")
    got = model(batch, None, mode="tensor")
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_lora_settings_must_agree(hf_folder, model_cfg, tmp_path):
    write_lora(tmp_path / "lora", official(hf_folder))
    model_cfg["language_model"]["lora"] = dict(r=4, alpha=16)
    with pytest.raises(ValueError, match=r"'alpha': 8.*give --base to merge"):
        import_llava(tmp_path / "lora", model_cfg)


def test_lora_of_another_kind_is_refused(hf_folder, model_cfg, tmp_path):
    write_lora(tmp_path / "lora", official(hf_folder), dict(use_dora=True))
    with pytest.raises(ValueError, match=r"\['use_dora'\] are not supported"):
        import_llava(tmp_path / "lora", model_cfg)


def test_lora_needs_its_base_weight(hf_folder, model_cfg, tmp_path):
    state = official(hf_folder)
    write_lora(tmp_path / "lora", state)
    del state["model.layers.1.mlp.down_proj.weight"]
    write(tmp_path / "base", state)
    with pytest.raises(
        ValueError, match=r"adapter of 'model\.layers\.1\.mlp\.down_proj'"
    ):
        import_llava(tmp_path / "lora", model_cfg, base=tmp_path / "base")


def test_missing_checkpoint_is_named(model_cfg, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such LLaVA checkpoint"):
        import_llava(tmp_path / "nothing", model_cfg)


def _anyres(model_cfg):
    inner = model_cfg["connector"]
    return {**model_cfg, "connector": dict(type="AnyResConnector", connector=inner)}


def test_newline_of_llava_16_goes_into_the_anyres_connector(
    hf_folder, model_cfg, tmp_path
):
    state = official(hf_folder)
    width = len(state["model.mm_projector.2.bias"])
    state["model.image_newline"] = torch.arange(float(width))

    imported = import_llava(write(tmp_path / "x", state), _anyres(model_cfg))

    found = build(imported).connector
    assert torch.equal(found.image_newline, state["model.image_newline"])
    for number in (0, 2):
        weight = state[f"model.mm_projector.{number}.weight"]
        assert torch.equal(found.connector.proj[number].weight, weight)
    assert imported.omitted == ()


def test_whole_llava_16_without_its_newline_is_refused(hf_folder, model_cfg, tmp_path):
    folder = write(tmp_path / "x", official(hf_folder))

    with pytest.raises(ValueError, match=r"1 missing: \['connector.image_newline'\]"):
        import_llava(folder, _anyres(model_cfg))


def test_newline_without_an_anyres_connector_is_refused(hf_folder, model_cfg, tmp_path):
    state = official(hf_folder)
    state["model.image_newline"] = torch.ones(24)

    with pytest.raises(ValueError, match=r"1 unexpected: .*image_newline"):
        import_llava(write(tmp_path / "x", state), model_cfg)


def test_projector_of_stage_one_fits_the_anyres_connector(
    hf_folder, model_cfg, tmp_path
):
    state = {k: v for k, v in official(hf_folder).items() if "mm_projector" in k}
    torch.save(state, tmp_path / "mm_projector.bin")

    imported = import_llava(tmp_path / "mm_projector.bin", _anyres(model_cfg))

    assert "connector.image_newline" in imported.omitted
    assert set(imported.state_dict) == {
        f"connector.connector.proj.{n}.{w}" for n in (0, 2) for w in ("weight", "bias")
    }
