"""Official MMFuser checkpoints become ours, and ours theirs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmvlm.engine.runner.checkpoint import save_atomic
from mmvlm.export.from_hf import import_hf
from mmvlm.export.from_llava import import_llava
from mmvlm.export.keys import LLAVA, layout_of, official_layout
from mmvlm.export.to_llava import export_stage_1, to_official
from mmvlm.models.fusers.mmfuser import MMFuser

ROOT = Path(__file__).parents[2]
MMFUSER = layout_of(MMFuser)
FUSER = dict(type="MMFuser", num_heads=4, num_points=2, select_layers=[1, 2, 3])


@pytest.fixture
def model_cfg(hf_folder):
    """The tiny LLaVA of this folder's tests with an MMFuser in its connector."""
    cfg = import_hf(hf_folder).model_cfg
    cfg["connector"] = dict(
        type="FusedConnector",
        fuser=dict(FUSER),
        projector=dict(type="MLPConnector", depth=2),
    )
    return cfg


@pytest.fixture
def model(model_cfg):
    from mmvlm.registry import MODELS

    torch.manual_seed(3)
    return MODELS.build(model_cfg)


def official_of(model):
    """The model's weights under official names, spelt out here once more."""
    pairs = (
        (
            "vision_encoder.vision_model.",
            "model.vision_tower.vision_tower.vision_model.",
        ),
        ("connector.fuser.", "model.mm_projector.0."),
        ("connector.projector.proj.0.", "model.mm_projector.1."),
        ("connector.projector.proj.2.", "model.mm_projector.3."),
        ("language_model.model.model.", "model."),
        ("language_model.model.lm_head.", "lm_head."),
    )
    state = {}
    for key, value in model.state_dict().items():
        old, new = next(pair for pair in pairs if key.startswith(pair[0]))
        state[new + key[len(old) :]] = value
    return state


@pytest.mark.golden
def test_every_official_key_of_the_golden_has_its_place(goldens):
    with np.load(goldens / "mmfuser.npz") as file:
        keys = [k.removeprefix("proj_sd/") for k in file.files if "proj_sd/" in k]
    keys = [f"model.mm_projector.{key}" for key in keys]

    assert official_layout(keys) is MMFUSER
    names = [MMFUSER.canonical(key) for key in keys]
    assert len(set(names)) == len(keys) and None not in names
    assert [MMFUSER.key(name) for name in names] == keys
    assert MMFUSER.canonical("model.mm_projector.3.bias") == "connector.1.bias"
    assert official_layout(["model.mm_projector.0.weight"]) is LLAVA


@pytest.mark.parametrize("parts", ["all", "connector"])
def test_import_and_export_undo_each_other(parts, model, model_cfg, tmp_path):
    official = official_of(model)
    if parts == "connector":
        official = {k: v for k, v in official.items() if "mm_projector" in k}
    name = "pytorch_model.bin" if parts == "all" else "mm_projector.bin"
    torch.save(official, tmp_path / name)
    (tmp_path / "config.json").write_text("{}")

    imported = import_llava(tmp_path, model_cfg)

    own = model.state_dict()
    assert imported.state_dict.keys() <= own.keys()
    for key, value in imported.state_dict.items():
        assert torch.equal(value, own[key]), key
    assert imported.parts == (
        ("vision_encoder", "connector", "language_model")
        if parts == "all"
        else ("connector",)
    )
    back = to_official(imported.state_dict)
    assert back.keys() == official.keys()
    assert all(torch.equal(back[key], value) for key, value in official.items())


def test_exported_file_is_the_official_stage_one_file(model, model_cfg, tmp_path):
    path = export_stage_1(model.state_dict(), tmp_path / "out", dtype=torch.bfloat16)

    assert path.name == "mm_projector.bin"
    written = torch.load(path, weights_only=True)
    official = {k: v for k, v in official_of(model).items() if "mm_projector" in k}
    assert written.keys() == official.keys()
    for key, value in official.items():
        assert torch.equal(written[key], value.bfloat16()), key
    imported = import_llava(path, model_cfg)
    assert len(imported.state_dict) == len(written)


def test_the_tool_reads_a_checkpoint_of_a_run(model, tmp_path):
    save_atomic(dict(state_dict=model.state_dict(), meta={}), tmp_path / "a.pth")
    tool = ROOT / "tools" / "model_converters" / "to_llava.py"

    done = subprocess.run(
        [sys.executable, tool, tmp_path / "a.pth", tmp_path / "out", "--stage-1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "model.mm_projector.0.gamma1" in torch.load(
        tmp_path / "out" / "mm_projector.bin", weights_only=True
    )


@pytest.mark.parametrize("kind, keys", [("mlp", ("0.", "2.")), ("linear", ("",))])
def test_a_plain_llava_keeps_llavas_keys(kind, keys):
    proj = torch.nn.Linear(4, 6)
    if kind == "mlp":
        proj = torch.nn.Sequential(proj, torch.nn.GELU(), torch.nn.Linear(6, 6))
    state = {f"connector.proj.{k}": v for k, v in proj.state_dict().items()}

    official = to_official(state)

    assert set(official) == {
        f"model.mm_projector.{key}{leaf}" for key in keys for leaf in ("weight", "bias")
    }


def test_depth_of_the_projector_must_agree(model, model_cfg, tmp_path):
    official = {k: v for k, v in official_of(model).items() if "mm_projector" in k}
    width = official["model.mm_projector.3.bias"].numel()
    official["model.mm_projector.5.weight"] = torch.zeros(width, width)
    official["model.mm_projector.5.bias"] = torch.zeros(width)
    torch.save(official, tmp_path / "mm_projector.bin")
    with pytest.raises(ValueError, match="3 linear layers, but model"):
        import_llava(tmp_path, model_cfg)


def test_another_fuser_is_refused(model, tmp_path):
    dense = {k: v for k, v in model.state_dict().items() if "sampling_offs" not in k}
    with pytest.raises(ValueError, match=r"not an official one .*sampling_offs"):
        to_official(dense)
    with pytest.raises(ValueError, match="holds no connector"):
        export_stage_1({"language_model.model.lm_head.weight": torch.ones(1)}, tmp_path)


def test_adapters_must_be_merged_first():
    key = "language_model.model.model.layers.0.q_proj.lora_A.default.weight"
    with pytest.raises(ValueError, match=r"no place for \['language_model.*merge_lora"):
        to_official({key: torch.ones(1)})
