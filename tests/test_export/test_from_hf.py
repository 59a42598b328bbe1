"""transformers LLaVA folders become our checkpoints."""

import json
import re

import pytest
import torch
from export_helpers import build, hf_logits, make_llava, make_question
from safetensors.torch import load_file, save_file

from mmvlm.export.from_hf import import_hf
from mmvlm.export.state import read_state


def rewrite(folder, change, target):
    """Copy an export with its weights changed by ``change(state)``."""
    target.mkdir(exist_ok=True)
    (target / "config.json").write_text((folder / "config.json").read_text())
    state = change(load_file(folder / "model.safetensors"))
    save_file(state, target / "model.safetensors")
    return target


@pytest.mark.parametrize(
    ("fields", "positions"),
    [
        ({}, 16),
        (dict(vision_feature_select_strategy="full"), 17),
        (dict(vision_feature_layer=-1), 16),
        (dict(tie=True), 16),
    ],
)
@torch.no_grad()
def test_import_gives_the_same_logits(fields, positions, tmp_path):
    llava = make_llava(**fields)
    llava.save_pretrained(tmp_path)
    batch = make_question(positions)

    imported = import_hf(tmp_path)
    logits = build(imported)(batch, None, mode="tensor")

    assert imported.parts == ("vision_encoder", "connector", "language_model")
    torch.testing.assert_close(logits, hf_logits(llava, batch), atol=1e-5, rtol=0)
    assert logits.std() > 1e-3


def to_flat(state):
    """Rename the layout on disk (4.48) to the one of 4.52 and later."""
    pairs = (
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head.", "lm_head."),
        ("vision_tower.", "model.vision_tower."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
    )
    for old, new in pairs:
        state = {
            new + k[len(old) :] if k.startswith(old) else k: v for k, v in state.items()
        }
    return state


def other_tower(state):
    """transformers 4.x towers have ``vision_model.``, those of 5.x have not."""
    long, short = "vision_tower.vision_model.", "vision_tower."
    old, new = (
        (long, short) if any(k.startswith(long) for k in state) else (short, long)
    )
    return {k.replace(old, new): v for k, v in state.items()}


@pytest.mark.parametrize("change", [to_flat, other_tower])
def test_import_reads_every_layout(change, hf_folder, tmp_path):
    other = rewrite(hf_folder, change, tmp_path / "other")
    assert load_file(other / "model.safetensors").keys() != read_state(hf_folder).keys()

    expected, got = import_hf(hf_folder).state_dict, import_hf(other).state_dict

    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[key], got[key]) for key in expected)


@pytest.mark.parametrize("safe", [True, False])
def test_import_reads_shards(safe, hf_llava, hf_folder, tmp_path):
    hf_llava.save_pretrained(tmp_path, max_shard_size="20KB", safe_serialization=safe)
    assert len(list(tmp_path.glob("*-of-*"))) > 2

    expected, got = import_hf(hf_folder).state_dict, import_hf(tmp_path).state_dict

    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[key], got[key]) for key in expected)


def test_import_cuts_rows_of_image_token(hf_folder):
    imported = import_hf(hf_folder, vocab_size=90)

    key = "language_model.model.lm_head.weight"
    assert len(imported.state_dict[key]) == 90
    assert imported.model_cfg["language_model"]["config"]["vocab_size"] == 90
    build(imported)


def test_import_saves_a_plain_checkpoint(hf_folder, tmp_path):
    imported = import_hf(hf_folder)
    imported.save(tmp_path / "llava.pth")

    loaded = torch.load(tmp_path / "llava.pth", weights_only=True)

    assert loaded["state_dict"].keys() == imported.state_dict.keys()
    assert loaded["meta"]["parts"] == list(imported.parts)


def test_import_refuses_unknown_keys(hf_folder, tmp_path):
    other = rewrite(
        hf_folder, lambda s: {**s, "image_newline": torch.zeros(24)}, tmp_path / "x"
    )
    with pytest.raises(
        ValueError, match=r"1 unexpected: \['connector.image_newline'\]"
    ):
        import_hf(other)


def test_import_names_missing_and_near_keys(hf_folder, tmp_path):
    def rename(state):
        (key,) = [k for k in state if k.endswith("encoder.layers.1.mlp.fc1.weight")]
        weight = state.pop(key)
        return {**state, key.replace("fc1", "fc_1"): weight}

    other = rewrite(hf_folder, rename, tmp_path / "x")
    with pytest.raises(ValueError, match=r"1 missing: .*mlp\.fc1\.weight.*looks like"):
        import_hf(other)


def test_import_refuses_other_shapes(hf_folder):
    cfg = import_hf(hf_folder).model_cfg
    cfg["language_model"]["config"]["intermediate_size"] = 44
    with pytest.raises(ValueError, match=r"shapes differ.*gate_proj.*\(40, 24\)"):
        import_hf(hf_folder, cfg)


def test_import_refuses_another_layer(hf_folder):
    cfg = import_hf(hf_folder).model_cfg
    cfg["connector"]["select_layers"] = [-1]
    with pytest.raises(ValueError, match=r"vision_feature_layer=\[-2\].*\[-1\]"):
        import_hf(hf_folder, cfg)


def test_import_refuses_other_model_types(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(dict(model_type="llava_llama")))
    with pytest.raises(ValueError, match=r"expected 'llava'.*from_llava\.py"):
        import_hf(tmp_path)


def test_read_state_errors_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights; expected one of"):
        read_state(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not weights")
    with pytest.raises(ValueError, match=re.escape(f"{path}: cannot be read")):
        read_state(tmp_path)
    torch.save(dict(a=1), tmp_path / "x.bin")
    with pytest.raises(ValueError, match="expected a dict of tensors"):
        read_state(tmp_path / "x.bin")


def test_read_state_holds_shards_to_their_index(tmp_path):
    save_file(dict(a=torch.zeros(1)), tmp_path / "one.safetensors")
    index = dict(weight_map=dict(a="one.safetensors", b="one.safetensors"))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"not in the shards: \['b'\]"):
        read_state(tmp_path)
