"""INF-LLaVA's official keys become ours and go back."""

import copy
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from converting import to_hf
from export_helpers import build

from mmvlm.export.from_hf import import_hf
from mmvlm.export.from_llava import import_llava
from mmvlm.export.hf import check_exportable
from mmvlm.export.to_llava import export_stage_1, to_official
from mmvlm.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
FUSED = dict(
    type="FusedConnector",
    fuser=dict(type="DualPerspectiveFuser", grid=2),
    projector=dict(type="MLPConnector", depth=2),
)


@pytest.fixture
def model_cfg(hf_folder, stage_1):
    """A tiny LLaVA of the widths that the official connector has."""
    cfg = copy.deepcopy(import_hf(hf_folder).model_cfg)
    cfg["connector"] = copy.deepcopy(FUSED)
    narrow = len(stage_1["model.spatial_embed.ln_fuse.bias"])
    wide = len(stage_1["model.mm_projector.2.bias"])
    cfg["vision_encoder"]["config"].update(hidden_size=narrow)
    cfg["language_model"]["config"].update(hidden_size=wide)
    for part in ("vision_encoder", "language_model"):
        cfg[part]["config"].update(num_attention_heads=2)
        cfg[part]["config"].pop("head_dim", None)
    cfg["language_model"]["config"].update(num_key_value_heads=2)
    return cfg


@pytest.fixture
def stage_1(goldens):
    """The official weights of a connector, under the adapter's names."""
    with np.load(goldens / "inf_llava_spatial_embed.npz") as data:
        state = {
            key.replace("encode/sd/", "model."): torch.tensor(data[key])
            for key in data
            if key.startswith("encode/sd/") and "tower" not in key
        }
    assert {key.split(".")[1] for key in state} == {"spatial_embed", "mm_projector"}
    return state


@pytest.mark.golden
@pytest.mark.parametrize("prefix", ["model.", "", "base_model.model.model."])
def test_stage_one_file_is_read_and_written(prefix, stage_1, model_cfg, tmp_path):
    renamed = {prefix + k.removeprefix("model."): v for k, v in stage_1.items()}
    torch.save(renamed, tmp_path / "mm_projector.bin")

    imported = import_llava(tmp_path, model_cfg)
    written = export_stage_1(imported.state_dict, tmp_path / "back")

    assert imported.parts == ("connector",)
    assert all(key.startswith("connector.") for key in imported.state_dict)
    back = torch.load(written, weights_only=True)
    assert back.keys() == stage_1.keys()
    assert all(torch.equal(back[key], value) for key, value in stage_1.items())
    missing = copy.deepcopy(renamed)
    missing.pop(prefix + "spatial_embed.ln_fuse.bias")
    torch.save(missing, tmp_path / "mm_projector.bin")
    with pytest.raises(ValueError, match=r"1 missing: \['connector\.fuser\.ln_fuse"):
        import_llava(tmp_path, model_cfg)


def test_whole_model_is_read_and_written(model_cfg, stage_1, tmp_path):
    ours = MODELS.build(copy.deepcopy(model_cfg)).state_dict()
    ours = {k: v for k, v in ours.items() if not k.startswith("connector.")}
    official = {**to_official(ours), **stage_1}
    folder = tmp_path / "whole"
    folder.mkdir()
    torch.save(official, folder / "pytorch_model.bin")

    imported = import_llava(folder, model_cfg)
    model = build(imported)

    assert imported.parts == ("vision_encoder", "connector", "language_model")
    back = to_official(model.state_dict())
    assert back.keys() == official.keys()
    assert all(torch.equal(back[key], value) for key, value in official.items())


def test_a_single_linear_layer_has_no_number():
    state = {"connector.proj.weight": torch.zeros(2, 2)}

    assert list(to_official(state)) == ["model.mm_projector.weight"]


@pytest.mark.parametrize("fusion", ["conv3x3", "weighted"])
def test_parts_without_an_official_name_are_refused(fusion, hf_folder, model_cfg):
    model_cfg["connector"]["fuser"]["fusion"] = fusion
    model = MODELS.build(model_cfg)

    with pytest.raises(ValueError, match=r"has no place for \['connector.fuser"):
        to_official(model.state_dict())
    with pytest.raises(ValueError, match="holds no connector"):
        export_stage_1({"language_model.x": torch.zeros(1)}, ".")


def test_transformers_has_no_counterpart(model_cfg, tmp_path):
    message = (
        r"model\.connector\.type='FusedConnector' \(DualPerspectiveFuser, "
        r"MLPConnector\), expected 'MLPConnector'"
    )
    with pytest.raises(ValueError, match=message):
        check_exportable(MODELS.build(model_cfg))
    name = "inf-llava-clip-l14-336_dual-n3_llama3-8b_8xb8-1e-ft_llava-665k.py"
    with pytest.raises(ValueError, match=message):
        to_hf(f"configs/inf_llava/{name}", None, tmp_path / "out", tiny=True)
    assert not (tmp_path / "out").exists()


def test_tool_writes_both_kinds_and_refuses_adapters(tmp_path, capsys):
    main = runpy.run_path(str(ROOT / "tools/model_converters/to_llava.py"))["main"]
    ours = {"connector.proj.weight": torch.ones(2, 2)}
    torch.save(dict(state_dict=ours, meta={}), tmp_path / "last.pth")

    assert main([str(tmp_path / "last.pth"), str(tmp_path / "x.bin")]) == 0
    assert main([str(tmp_path / "last.pth"), str(tmp_path), "--stage-1"]) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "x.bin"),
        str(tmp_path / "mm_projector.bin"),
    ]
    for name in ("x.bin", "mm_projector.bin"):
        state = torch.load(tmp_path / name, weights_only=True)
        assert list(state) == ["model.mm_projector.weight"]
    ours = {"language_model.model.x.lora_A.default.weight": torch.ones(2, 2)}
    torch.save(dict(state_dict=ours, meta={}), tmp_path / "last.pth")
    error = main([str(tmp_path / "last.pth"), str(tmp_path / "y.bin")])
    assert "merge adapters with" in error and not (tmp_path / "y.bin").exists()
