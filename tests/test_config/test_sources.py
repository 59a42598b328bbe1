"""Where weights come from: named for every part, random ones refused or announced."""

import pytest
from mmengine.config import Config

from mmvlm.config import ConfigError, load_config
from mmvlm.config.sources import weight_problems, weight_sources

CLIP = dict(type="HFVisionEncoder", name_or_path="clip")
LLM = dict(type="HFCausalLM", name_or_path="llm")
MLP = dict(type="MLPConnector")
STAGE_1 = "work_dirs/cogvlm-eva2-e14-224_glu_vicuna-v15-7b_8xb32-1e-pt_llava-558k"


def config(load_from=None, train_parts=None, **parts):
    model = dict(vision_encoder=CLIP, connector=MLP, language_model=LLM)
    model.update(parts, type="VisionLanguageModel", train_parts=train_parts or {})
    return Config(dict(model=model, load_from=load_from, train_cfg=dict(max_iters=1)))


def refused(cfg):
    return {path for path, _ in weight_problems(cfg)[0]}


def test_sources_are_named():
    cfg = config(
        [dict(path="a.pth", parts=["vision_encoder"]), "b.pth"],
        vision_encoder=dict(type="TimmVisionEncoder"),
    )

    said = [str(source) for source in weight_sources(cfg)]

    assert said == [
        "vision_encoder: load_from 'b.pth'",
        "connector: load_from 'b.pth'",
        "language_model: name_or_path 'llm'",
    ]
    new = weight_sources(config())[1]
    assert str(new) == "connector: random (new)" and not refused(config())


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize(
    "tower",
    [
        dict(type="HFVisionEncoder", config=dict(model_type="clip_vision_model")),
        dict(type="TimmVisionEncoder", pretrained=False),
        dict(type="TimmVisionEncoder", checkpoint_path=""),
    ],
)
def test_random_tower_is_refused_trained_or_frozen_unless_announced(tower, trained):
    rules = dict(vision_encoder=trained)

    assert refused(config(None, rules, vision_encoder=tower)) == {
        "model.vision_encoder"
    }
    said = dict(tower, random_init=True)
    assert not refused(config(None, rules, vision_encoder=said))
    assert not refused(config("whole.pth", rules, vision_encoder=tower))


def test_second_tower_inside_a_wrapper_needs_a_source():
    dual = dict(
        type="MixtureOfResolutionVisionEncoder",
        low=CLIP,
        high=dict(type="TimmConvNeXt", model_name="convnext_atto"),
    )

    assert refused(config(vision_encoder=dual)) == {"model.vision_encoder.high"}
    dual["high"] = dict(dual["high"], checkpoint_path="convnext.bin")
    assert not refused(config(vision_encoder=dual))


def test_frozen_connector_and_later_stages_need_one():
    assert refused(config(None, dict(connector=False))) == {"model.connector"}
    head = dict(type="VisualRegressionHead")
    later = config(dict(path="a.pth", parts=["connector"]), heads=dict(head=head))
    assert refused(later) == {"model.heads.head"}
    later.model.heads.head.random_init = True
    assert not refused(later)
    towers = config(dict(path="a.pth", parts=["vision_encoder"]))
    assert not refused(towers)


def test_new_connector_beside_a_trained_language_model_is_warned_of():
    rules = dict(vision_encoder=False)

    ((path, said),) = weight_problems(config(None, rules))[1]

    assert path == "model.connector" and "earlier stage" in said
    assert not weight_problems(config(None, dict(rules, language_model=False)))[1]


def test_renamed_parts_go_where_they_are_put():
    tower = dict(type="HFVisionEncoder", config=dict(model_type="clip_vision_model"))
    wrapper = dict(type="S2VisionEncoder", encoder=tower, scales=[336, 672])
    entry = dict(path="a.pth", parts=["vision_encoder"])
    right = dict(entry, rename=dict(vision_encoder="vision_encoder.encoder"))
    wrong = dict(entry, rename=dict(vision_encoder="vision_encoder.other"))

    assert not refused(config(right, vision_encoder=wrapper))
    assert "model.vision_encoder.encoder" in refused(
        config(wrong, vision_encoder=wrapper)
    )


def test_what_a_trainable_only_stage_leaves_out_comes_from_elsewhere():
    timm = dict(type="TimmVisionEncoder", model_name="x")
    whole = config(dict(path=STAGE_1), vision_encoder=timm)
    asked = config(
        dict(path=STAGE_1, parts=["vision_encoder", "connector"]), vision_encoder=timm
    )

    assert "model.vision_encoder" in refused(whole)
    assert "load_from" in refused(asked)


def test_untrained_new_rows_are_refused_and_the_cure_trains_them():
    llm = dict(LLM, num_new_tokens=3, lora=dict(r=4))
    (problem,) = weight_problems(config(language_model=llm))[0]
    assert problem[0] == "model.language_model.num_new_tokens"
    assert "new_tokens=dict(tokens=[...], train='rows')" in problem[1]
    stage_2 = config(dict(path="a.pth", parts=["language_model"]), language_model=llm)
    assert problem[0] not in refused(stage_2)

    for train in ("rows", "input_rows", "all", None):
        new = dict(tokens=["<a>"], train=train)
        llm = dict(LLM, new_tokens=new, lora=dict(r=4))
        found = refused(config(language_model=llm))
        assert ("model.language_model.new_tokens" in found) == (train is None)


def test_doctor_refuses_and_the_announcement_reaches_no_constructor(chain):
    text = "model = dict(vision_encoder=dict(random_init=False))"

    with pytest.raises(ConfigError, match=r"model\.vision_encoder .*random \(frozen\)"):
        load_config(chain.child(text))
    with pytest.raises(ConfigError, match=r"random_init='yes'.*expected a bool"):
        load_config(chain.base, {"model.vision_encoder.random_init": "yes"})

    from mmvlm.registry import MODELS

    MODELS.build(load_config(chain.base).model)


def test_runs_built_without_the_doctor_warn(monkeypatch):
    from mmvlm.engine.runner import setup

    said = []
    monkeypatch.setattr(setup, "print_log", lambda text, *_: said.append(text))
    tower = dict(type="TimmVisionEncoder", model_name="x")

    setup.warn_random_weights(config(vision_encoder=tower), None)

    assert len(said) == 1 and "model.vision_encoder" in said[0]


def test_cogvlm_stage_two_loads_its_tower():
    cfg = load_config(
        "cogvlm-eva2-e14-490_glu_vicuna-v15-7b_8xb16-1e-ft_llava-665k", check=False
    )

    assert not [str(s) for s in weight_sources(cfg) if s.is_random]
    assert not refused(cfg)


def test_tower_of_another_image_size_gets_resampled_positions(tmp_path):
    import torch

    from mmvlm.engine.runner.checkpoint import load_parts
    from mmvlm.models.vision_encoders.timm_vision import TimmVisionEncoder

    small = torch.nn.ModuleDict(dict(vision_encoder=TimmVisionEncoder.tiny()))
    large = torch.nn.ModuleDict(
        dict(vision_encoder=TimmVisionEncoder.tiny(img_size=64))
    )
    with torch.no_grad():
        small["vision_encoder"].backbone.pos_embed.fill_(0.5)

    report = load_parts(large, dict(state_dict=small.state_dict()), ["vision_encoder"])

    assert report.is_clean
    positions = large["vision_encoder"].backbone.pos_embed
    assert positions.shape[1] == 65 and torch.allclose(
        positions, torch.full_like(positions, 0.5), atol=1e-4
    )
