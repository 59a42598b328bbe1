"""Official grounding models under our names, deltas included."""

from types import SimpleNamespace

import pytest
import torch

from mmvlm.config import load_config
from mmvlm.export.from_grounding import add_base, import_grounding
from mmvlm.export.importing import meta_state
from mmvlm.export.region_keys import REGION_MODULES
from mmvlm.models.region_encoders.mask_extractor import MaskExtractor
from mmvlm.registry import MODELS
from mmvlm.structures import MapSpec, VisionEncoderSpec

FERRET = "ferret-clip-l14-336_sampler_vicuna-v13-7b_8xb16-3e-ft_grit.py"
GPT4ROI = "gpt4roi-clip-l14-224_multi-level-roi_llama-7b_8xb2-2e-ft_region-instruct.py"
CONFIGS = {"FerretSampler": f"ferret/{FERRET}", "MultiLevelRoI": f"gpt4roi/{GPT4ROI}"}


def official_keys(kind):
    """The key lists of the released modules."""
    leaves = ("weight", "bias")
    if kind == "FerretSampler":
        stages = [f"{name}.{s}{rest}" for s in (0, 1) for name, rest in (
            ("diff_projector_list", ""), ("agg_projector_list", ".net.0"),
            ("agg_projector_list", ".norm"))]  # fmt: skip
        modules = [*stages, "flatten_projector", "dim_projector"]
        return {f"{m}.{leaf}" for m in modules for leaf in leaves}
    keys = {f"mlvl_fuse.fuse_convs.{r}.conv.weight" for r in range(5)}
    modules = [
        *(f"mlvl_fuse.input_conv.{n}" for n in range(4)),
        *(f"mlvl_fuse.fuse_convs.{r}.gn" for r in range(5)),
        *(f"roi_align.pconvs.{n}" for n in range(4)),
        *(f"roi_align.pos_embedd.{n}" for n in (0, 2, 3, 5)),
        *("roi_align.updims", "roi_align.flatten_linear"),
    ]
    return keys | {f"{m}.{leaf}" for m in modules for leaf in leaves}


@pytest.mark.parametrize("kind", CONFIGS)
def test_official_keys_map_completely(kind):
    cfg = load_config(f"configs/{CONFIGS[kind]}", check=False)
    target = meta_state(cfg.model.to_dict())
    ours = {k.partition(".")[2] for k in target if k.startswith("region_encoder.")}
    nothing = torch.empty(0, device="meta")

    found = REGION_MODULES[kind].to_ours(dict.fromkeys(official_keys(kind), nothing))

    assert set(found) == ours
    with pytest.raises(ValueError, match=r"official module does not have: .*'odd'"):
        REGION_MODULES[kind].to_ours({"odd": nothing})


def test_keys_of_osprey_map_completely():
    maps = tuple(MapSpec(f"stage{n}", 8 * 2**n, 1) for n in range(4))
    spec = VisionEncoderSpec(8, 1, 8, 32, maps=maps)
    module = MaskExtractor(vision_spec=spec, out_width=8, select_layers=[0])
    names = [*(f"res{n}" for n in range(2, 6)), "feat_linear"]
    names += [f"mask_linear.layers.{n}" for n in range(3)]
    official = {
        f"{n}.{leaf}": torch.zeros(1) for n in names for leaf in ("weight", "bias")
    }

    found = REGION_MODULES["MaskExtractor"].to_ours(official)

    assert set(found) == set(module.state_dict())


def small_config(kind):
    """A model of the kind's classes, a few weights wide."""
    vision = dict(
        model_type="clip_vision_model",
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    text = dict(
        model_type="llama",
        vocab_size=20,
        hidden_size=12,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    sizes = dict(
        FerretSampler=dict(num_points=8, num_sub_points=[4, 2], num_neighbours=[2, 2]),
        MultiLevelRoI=dict(
            select_layers=[1, 2],
            roi_size=2,
            hidden_width=8,
            place_width=4,
            num_groups=2,
        ),
    )
    return dict(
        type="VisionLanguageModel",
        vision_encoder=dict(type="HFVisionEncoder", config=vision),
        connector=dict(type="LinearConnector"),
        connectors=dict(region_encoder=dict(type=kind, **sizes[kind])),
        language_model=dict(
            type="HFCausalLM", config=text, new_tokens=dict(tokens=["<r>"], train=None)
        ),
    )


def official(model, kind):
    """The weights of a model as the official code saves them, without the tower."""
    module, state = REGION_MODULES[kind], {}
    inverse = {}
    for key in [k for s in range(2) for k in official_keys(kind)]:
        try:
            (ours,) = module.to_ours({key: torch.empty(0)})
        except ValueError:
            continue
        inverse[ours] = key
    for key, tensor in model.state_dict().items():
        part, _, rest = key.partition(".")
        if part == "region_encoder":
            name = inverse[rest]
            tensor = tensor[..., None] if name.endswith("net.0.weight") else tensor
            state[module.prefix + name] = tensor
        elif part == "connector":
            state[f"model.mm_projector.{rest.removeprefix('proj.')}"] = tensor
        elif part == "language_model":
            state[rest.removeprefix("model.")] = tensor
    return state


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_delta_and_its_base_give_the_model(kind, tmp_path):
    torch.manual_seed(0)
    model = MODELS.build(small_config(kind))
    state = official(model, kind)
    base = {
        key: torch.randn_like(tensor[:20] if len(tensor) == 21 else tensor)
        for key, tensor in state.items()
        if key.startswith(("model.layers", "model.norm", "model.embed", "lm_head"))
    }
    delta = dict(state)
    for key, old in base.items():
        delta[key] = state[key].clone()
        delta[key][: len(old)] -= old
    torch.save(delta, tmp_path / "delta.bin")
    torch.save(base, tmp_path / "base.bin")

    imported = import_grounding(
        tmp_path / "delta.bin", small_config(kind), base=tmp_path / "base.bin"
    )

    own = model.state_dict()
    wanted = {key for key in own if not key.startswith("vision_encoder.")}
    assert set(imported.state_dict) == wanted and "region_encoder" in imported.parts
    for key in wanted:
        torch.testing.assert_close(
            imported.state_dict[key], own[key], atol=1e-6, rtol=1e-5
        )


def test_new_rows_of_a_delta_are_taken_as_they_are():
    delta = {"model.embed_tokens.weight": torch.ones(5, 2, dtype=torch.float16)}
    base = {"model.embed_tokens.weight": torch.full((3, 2), 2.0)}

    (table,) = add_base(delta, base).values()

    assert table[:, 0].tolist() == [3, 3, 3, 1, 1] and table.dtype == torch.float16
    with pytest.raises(ValueError, match="lacks 1 weights of the base"):
        add_base(delta, {**base, "lm_head.weight": torch.ones(3, 2)})
    with pytest.raises(ValueError, match=r"shape \(5, 2\), in the base \(6, 2\)"):
        add_base(delta, {"model.embed_tokens.weight": torch.ones(6, 2)})


def test_a_file_without_the_region_module_is_refused(tmp_path):
    model = SimpleNamespace(
        state_dict=MODELS.build(small_config("FerretSampler")).state_dict
    )
    state = official(model, "FerretSampler")
    lost = {k: v for k, v in state.items() if "diff_projector_list.1" not in k}
    torch.save(lost, tmp_path / "lost.bin")

    with pytest.raises(ValueError, match=r"region encoder. 2 missing: \['region_enc"):
        import_grounding(tmp_path / "lost.bin", small_config("FerretSampler"))
