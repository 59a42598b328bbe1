"""Official grounding models under our names, deltas included."""

from types import SimpleNamespace

import pytest
import torch
from export_helpers import llama_7b, meta_tensors

from mmvlm.config import load_config
from mmvlm.export.delta import add_delta
from mmvlm.export.from_grounding import fit_grounding, import_grounding
from mmvlm.export.region_keys import REGION_MODULES
from mmvlm.models.vision_encoders.convnext import TimmConvNeXt
from mmvlm.registry import MODELS

FERRET = "ferret-clip-l14-336_sampler_vicuna-v13-7b_8xb16-3e-ft_grit.py"
GPT4ROI = "gpt4roi-clip-l14-224_multi-level-roi_llama-7b_8xb2-2e-ft_region-instruct.py"
OSPREY = "osprey-convnext-l-512_mask-extractor_vicuna-v15-7b_4xb1-2e-ft_osprey-724k"
SHIKRA = "shikra-clip-l14-224_linear_vicuna-7b_8xb8-1e-ft_shikra-rec.py"
#: config of released weights, new rows of its tables, weights of the region module
RELEASED = {
    "FerretSampler": (f"ferret/{FERRET}", 1, 44_069_900),
    "MultiLevelRoI": (f"gpt4roi/{GPT4ROI}", 5, 299_142_912),
    None: (f"shikra/{SHIKRA}", 3, 0),
}
KINDS = [kind for kind in RELEASED if kind]


def official_shapes(kind):
    """The key list of a released module with its sizes."""
    if kind is None:
        return {}
    if kind == "FerretSampler":
        bare = {}
        linears = {
            **{f"diff_projector_list.{s}": (1026, 1026) for s in (0, 1)},
            **{f"agg_projector_list.{s}.net.0": (1024, 2052, 1) for s in (0, 1)},
            "flatten_projector": (1024, 32 * 1024),
            "dim_projector": (4096, 1024),
        }
        norms = {f"agg_projector_list.{s}.norm": 1024 for s in (0, 1)}
    else:
        kernel = (1024, 1024, 3, 3)
        bare = {f"mlvl_fuse.fuse_convs.{r}.conv.weight": kernel for r in range(5)}
        linears = {
            **{f"mlvl_fuse.input_conv.{n}": (1024, 1026, 1, 1) for n in range(4)},
            **{f"roi_align.pconvs.{n}": kernel for n in range(4)},
            "roi_align.pos_embedd.0": (256, 4),
            "roi_align.pos_embedd.3": (1024, 256),
            "roi_align.updims": (4096, 1024),
            "roi_align.flatten_linear": (1024, 1024 * 14 * 14),
        }
        norms = {f"mlvl_fuse.fuse_convs.{r}.gn": 1024 for r in range(5)}
        norms |= {"roi_align.pos_embedd.2": 256, "roi_align.pos_embedd.5": 1024}
    shapes = dict(bare)
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name, width in norms.items():
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return shapes


def official_keys(kind):
    return set(official_shapes(kind))


@pytest.mark.parametrize("kind", RELEASED)
def test_a_released_delta_maps_completely(kind):
    config, new, size = RELEASED[kind]
    cfg = load_config(f"configs/{config}", check=False).model.to_dict()
    region = meta_tensors(official_shapes(kind))
    assert sum(tensor.numel() for tensor in region.values()) == size
    projector = {"model.mm_projector.weight": (4096, 1024)}
    projector["model.mm_projector.bias"] = (4096,)
    prefix = REGION_MODULES[kind].prefix if kind else ""
    delta = meta_tensors(llama_7b(32000 + new) | projector)
    delta |= {f"{prefix}{key}": tensor for key, tensor in region.items()}

    whole = add_delta(delta, meta_tensors(llama_7b(32000)))
    imported = fit_grounding(whole, cfg, config)

    assert imported.omitted
    assert all(key.startswith("vision_encoder.") for key in imported.omitted)
    parts = {"connector", "language_model", *(["region_encoder"] if kind else [])}
    assert set(imported.parts) == parts


def test_names_that_a_region_module_does_not_have_are_listed():
    for kind in KINDS:
        with pytest.raises(ValueError, match=r"1 keys .* not have: \['odd'\]"):
            REGION_MODULES[kind].to_ours({"odd": torch.empty(0)})


def test_osprey_maps_completely(monkeypatch):
    told = []
    where = "mmvlm.export.from_grounding.print_log"
    monkeypatch.setattr(where, lambda text, *args: told.append(text))
    cfg = load_config(f"configs/osprey/{OSPREY}.py", check=False).model.to_dict()
    linears = {f"res{n}": (1024, 48 * 2**n) for n in range(2, 6)}
    linears |= {"feat_linear": (4096, 1024), "mask_linear.layers.0": (1024, 12544)}
    linears["mask_linear.layers.1"] = (1024, 1024)
    linears["mask_linear.layers.2"] = (4096, 1024)
    linears = {f"model.mask_extractor.{name}": v for name, v in linears.items()}
    linears |= {
        "model.mm_projector.0": (4096, 768),
        "model.mm_projector.2": (4096,) * 2,
    }
    shapes = llama_7b(32002)
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    tower = "model.vision_tower.vision_tower.visual."
    shapes |= {f"{tower}head.mlp.fc1.weight": (3072, 1536)}
    shapes |= {f"{tower}trunk.head.norm.weight": (1536,)}
    with torch.device("meta"):
        trunk = TimmConvNeXt("convnext_large").state_dict()
    state = meta_tensors(shapes)
    state |= {f"{tower}trunk.{key}": value for key, value in trunk.items()}

    imported = fit_grounding(state, cfg, "osprey")
    assert len(told) == 1 and told[0].startswith("osprey: 2 unused weights")
    odd = {f"{tower}positional_embedding": torch.empty(5, device="meta")}
    with pytest.raises(ValueError, match=r"1 unexpected: .*positional_embedding"):
        fit_grounding(state | odd, cfg, "osprey")

    parts = {"vision_encoder", "connector", "language_model", "region_encoder"}
    assert set(imported.parts) == parts and not imported.omitted


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


@pytest.mark.parametrize("kind", KINDS)
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


def test_a_file_without_all_of_the_region_module_is_refused(tmp_path):
    model = SimpleNamespace(
        state_dict=MODELS.build(small_config("FerretSampler")).state_dict
    )
    state = official(model, "FerretSampler")
    lost = {k: v for k, v in state.items() if "diff_projector_list.1" not in k}
    torch.save(lost, tmp_path / "lost.bin")

    with pytest.raises(ValueError, match=r"\(region_encoder\). 2 missing: \['reg"):
        import_grounding(tmp_path / "lost.bin", small_config("FerretSampler"))
