"""Official keys of Mini-Gemini and LLaVA-HR become ours and go back."""

import copy

import pytest
import torch

from mmvlm.export.from_hf import import_hf
from mmvlm.export.from_llava import import_llava
from mmvlm.export.to_llava import to_official
from mmvlm.models.vision_encoders.convnext import TimmConvNeXt
from mmvlm.registry import MODELS

LANGUAGE_MODEL = (
    ("language_model.model.model.", "model."),
    ("language_model.model.lm_head.", "lm_head."),
)
#: Prefixes of ours and of the official code, spelt out here once more.
MGM = (
    (
        "vision_encoder.low.vision_model.",
        "model.vision_tower.vision_tower.vision_model.",
    ),
    ("vision_encoder.high.stem.", "model.vision_tower_aux.vision_stem."),
    ("vision_encoder.high.stages.", "model.vision_tower_aux.vision_stages."),
    ("connector.fuser.vlm_uni_", "model.vlm_uni_"),
    ("connector.projector.proj.", "model.mm_projector."),
    *LANGUAGE_MODEL,
)
_HR = "model.vision_tower."
HR = (
    (
        "vision_encoder.low.vision_model.",
        f"{_HR}fast_vision_tower.vision_tower.vision_model.",
    ),
    ("vision_encoder.high.", f"{_HR}slow_vision_tower.vision_tower."),
    ("vision_encoder.adapters.6.", f"{_HR}align_stages_latent.0."),
    ("vision_encoder.adapters.12.", f"{_HR}align_stages_latent.1."),
    ("vision_encoder.adapters.18.", f"{_HR}align_stages_latent.2."),
    ("vision_encoder.align.", f"{_HR}align_stages.0."),
    ("connector.proj.", "model.mm_projector."),
    *LANGUAGE_MODEL,
)


def make(hf_folder, system):
    """Return the config of a small model of either system."""
    cfg = copy.deepcopy(import_hf(hf_folder).model_cfg)
    tower = cfg["vision_encoder"]
    # Deep enough that the ConvNeXt's keys outweigh all others of LLaVA-HR.
    slow = dict(TimmConvNeXt.tiny_fields, type="TimmConvNeXt", depths=(3, 3, 9, 3))
    eyes = dict(low=tower, high=slow)
    side = tower["config"]["image_size"] // tower["config"]["patch_size"]
    if system == "mgm":
        cfg["vision_encoder"] = dict(
            type="DualVisionEncoder", image_size=8 * side, **eyes
        )
        cfg["connector"] = dict(
            type="FusedConnector",
            fuser=dict(type="PatchInfoMiningFuser", select_layers=[-2]),
            projector=dict(type="MLPConnector", depth=2),
        )
    else:
        tower["config"]["num_hidden_layers"] = 18
        cfg["vision_encoder"] = dict(
            type="MixtureOfResolutionVisionEncoder", image_size=32 * side, **eyes
        )
        cfg["connector"] = dict(type="MLPConnector", depth=2, select_layers=[-1])
    torch.manual_seed(0)
    return cfg, MODELS.build(copy.deepcopy(cfg)).state_dict()


def official_of(state, pairs):
    named = {}
    for key, value in state.items():
        old, new = next(pair for pair in pairs if key.startswith(pair[0]))
        named[new + key[len(old) :]] = value
    return named


@pytest.mark.parametrize("system, pairs", [("mgm", MGM), ("hr", HR)])
def test_a_whole_model_comes_in_and_goes_back(system, pairs, hf_folder, tmp_path):
    cfg, ours = make(hf_folder, system)
    official = official_of(ours, pairs)
    extra = {}
    if system == "hr":
        extra = {f"{_HR}slow_vision_tower.vision_tower.head.norm.bias": torch.ones(3)}
    torch.save({**official, **extra}, tmp_path / "pytorch_model.bin")

    imported = import_llava(tmp_path, cfg)

    assert imported.parts == ("vision_encoder", "connector", "language_model")
    assert imported.state_dict.keys() == ours.keys()
    assert all(torch.equal(imported.state_dict[k], v) for k, v in ours.items())
    back = to_official(ours)
    assert back.keys() == official.keys()
    assert all(torch.equal(back[key], value) for key, value in official.items())


@pytest.mark.parametrize("prefix", ["model.", ""])
@pytest.mark.parametrize("towers", [True, False])
def test_stage_one_of_mini_gemini_comes_in(prefix, towers, hf_folder, tmp_path):
    """Its trainer saves both towers beside what stage 1 trains."""
    cfg, ours = make(hf_folder, "mgm")
    parts = ("connector.", *(["vision_encoder."] if towers else []))
    ours = {key: value for key, value in ours.items() if key.startswith(parts)}
    official = {
        prefix + key.removeprefix("model."): value
        for key, value in official_of(ours, MGM).items()
    }
    torch.save(official, tmp_path / "mm_projector.bin")

    imported = import_llava(tmp_path, cfg)

    assert imported.state_dict.keys() == ours.keys()
    assert all(torch.equal(imported.state_dict[k], v) for k, v in ours.items())


def test_a_model_without_its_second_eye_is_refused(hf_folder, tmp_path):
    cfg, ours = make(hf_folder, "mgm")
    official = official_of(ours, MGM)
    lost = {k: v for k, v in official.items() if "vision_tower_aux" not in k}
    torch.save(lost, tmp_path / "pytorch_model.bin")

    with pytest.raises(ValueError, match=r"missing: \['vision_encoder\.high\.stem"):
        import_llava(tmp_path, cfg)


def test_a_resampler_of_another_computation_is_refused(hf_folder, tmp_path):
    """LLaVA-UHD's released queries look at regions; the names are a resampler's."""
    cfg, _ = make(hf_folder, "mgm")
    state = {"model.mm_projector.query": torch.zeros(144, 24)}
    torch.save(state, tmp_path / "mm_projector.bin")

    with pytest.raises(ValueError, match=r"does not know: \['model.mm_projector.query"):
        import_llava(tmp_path, cfg)
