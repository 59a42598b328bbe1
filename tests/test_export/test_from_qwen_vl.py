"""Qwen-VL's official names and orders under ours."""

import mmvlm  # noqa: F401  isort: skip

import pytest
import torch
from export_helpers import build, meta_tensors

from mmvlm.config import load_config
from mmvlm.export.from_qwen_vl import fit_qwen_vl, import_qwen_vl

CONFIG = "qwen-vl-bigg_resampler-q256_qwen-7b_8xb1-5e-ft_custom"
FULL = dict(
    layers=32, width=4096, inner=11008, rows=151936, blocks=48, vision=1664, mlp=8192,
    patch=14, positions=256, queries=256,
)  # fmt: skip


def official_shapes(
    *, layers, width, inner, rows, blocks, vision, mlp, patch, positions, queries
):
    """The key list of the released model with its sizes."""
    table = (rows, width)
    shapes = {"transformer.wte.weight": table, "lm_head.weight": table}
    shapes["transformer.ln_f.weight"] = (width,)
    for n in range(layers):
        layer = f"transformer.h.{n}."
        shapes |= {f"{layer}ln_{i}.weight": (width,) for i in (1, 2)}
        shapes[f"{layer}attn.c_attn.weight"] = (3 * width, width)
        shapes[f"{layer}attn.c_attn.bias"] = (3 * width,)
        shapes[f"{layer}attn.c_proj.weight"] = (width, width)
        shapes |= {f"{layer}mlp.w{i}.weight": (inner, width) for i in (1, 2)}
        shapes[f"{layer}mlp.c_proj.weight"] = (width, inner)
    visual = "transformer.visual."
    shapes[f"{visual}conv1.weight"] = (vision, 3, patch, patch)
    shapes[f"{visual}positional_embedding"] = (positions, vision)
    shapes[f"{visual}proj"] = (width, width)
    pool = f"{visual}attn_pool."
    shapes[f"{pool}query"] = shapes[f"{pool}pos_embed"] = (queries, width)
    shapes[f"{pool}kv_proj.weight"] = (width, vision)
    shapes[f"{pool}attn.in_proj_weight"] = (3 * width, width)
    shapes[f"{pool}attn.in_proj_bias"] = (3 * width,)
    linears = {f"{pool}attn.out_proj": (width, width)}
    norms = {f"{visual}ln_pre": vision, f"{visual}ln_post": width}
    norms |= {f"{pool}ln_q": width, f"{pool}ln_kv": width}
    for n in range(blocks):
        block = f"{visual}transformer.resblocks.{n}."
        norms |= {f"{block}ln_{i}": vision for i in (1, 2)}
        linears[f"{block}attn.in_proj"] = (3 * vision, vision)
        linears[f"{block}attn.out_proj"] = (vision, vision)
        linears[f"{block}mlp.c_fc"] = (mlp, vision)
        linears[f"{block}mlp.c_proj"] = (vision, mlp)
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name, size in norms.items():
        shapes |= {f"{name}.weight": (size,), f"{name}.bias": (size,)}
    return shapes


SMALL = dict(
    layers=2, width=32, inner=24, rows=50, blocks=2, vision=16, mlp=32, patch=8,
    positions=16, queries=9,
)  # fmt: skip


@pytest.fixture(scope="module")
def small():
    """The model config in miniature: classes and options stay."""
    model = load_config(CONFIG, check=False).model.to_dict()
    tower = dict(embed_dim=16, depth=2, num_heads=4, mlp_ratio=2.0)
    model["vision_encoder"].update(tower, img_size=32, patch_size=8)
    model["connector"]["grid"] = 3
    model["language_model"]["config"].update(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    return model


@pytest.fixture(scope="module")
def state():
    """Random official weights of the miniature."""
    torch.manual_seed(0)
    shapes = official_shapes(**SMALL)
    return {key: torch.randn(shape) / 8 for key, shape in shapes.items()}


def test_the_released_key_list_maps_completely():
    cfg = load_config(CONFIG, check=False).model.to_dict()
    shapes = official_shapes(**FULL)
    official = meta_tensors(shapes)
    official["transformer.rotary_emb.inv_freq"] = torch.ones(64)

    imported = fit_qwen_vl(official, cfg, "qwen-vl")

    assert imported.parts == ("connector", "language_model", "vision_encoder")
    assert not imported.omitted
    fixed = shapes["transformer.visual.attn_pool.pos_embed"]
    numel = sum(value.numel() for value in imported.state_dict.values())
    assert numel - fixed[0] * fixed[1] == 9_655_886_592


def test_qwen_alone_is_a_part_and_half_a_tower_is_none(small, state):
    language = {k: v for k, v in state.items() if ".visual." not in k}
    assert fit_qwen_vl(language, small, "qwen").parts == ("language_model",)

    lost = {k: v for k, v in state.items() if k != "transformer.visual.proj"}
    with pytest.raises(ValueError, match=r"1 missing: \['connector.proj'\]"):
        fit_qwen_vl(lost, small, "qwen-vl")
    with pytest.raises(ValueError, match=r"1 keys .* not have: \['transformer.odd'\]"):
        fit_qwen_vl({**state, "transformer.odd": torch.ones(1)}, small, "qwen-vl")


def test_the_tower_computes_what_the_official_one_does(small, state, tmp_path):
    torch.save(state, tmp_path / "qwen.bin")
    encoder = build(import_qwen_vl(tmp_path / "qwen.bin", small)).vision_encoder
    tower, spec = encoder.backbone, encoder.spec
    own = {
        key.removeprefix("transformer.visual."): value
        for key, value in state.items()
        if ".visual." in key
    }
    pixels = torch.randn(2, 3, spec.image_size, spec.image_size)
    norm, linear = torch.nn.functional.layer_norm, torch.nn.functional.linear
    pair = lambda name: (own[f"{name}.weight"], own[f"{name}.bias"])  # noqa: E731

    patches = torch.nn.functional.conv2d(
        pixels, own["conv1.weight"], stride=spec.patch_size
    )
    x = patches.flatten(2).transpose(1, 2) + own["positional_embedding"]
    x = norm(x, x.shape[-1:], *pair("ln_pre"), eps=1e-6)
    for n, block in enumerate(tower.blocks):
        name, heads = f"transformer.resblocks.{n}.", block.attn.num_heads
        y = norm(x, x.shape[-1:], *pair(f"{name}ln_1"), eps=1e-6)
        # Queries, keys and values of one head stand together.
        packed = linear(y, *pair(f"{name}attn.in_proj")).unflatten(-1, (heads, -1))
        q, k, v = (part.transpose(1, 2) for part in packed.chunk(3, -1))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + linear(y.transpose(1, 2).flatten(2), *pair(f"{name}attn.out_proj"))
        y = norm(x, x.shape[-1:], *pair(f"{name}ln_2"), eps=1e-6)
        y = torch.nn.functional.gelu(linear(y, *pair(f"{name}mlp.c_fc")))
        x = x + linear(y, *pair(f"{name}mlp.c_proj"))

    found = encoder(pixels, [-1]).hidden_states[0]
    torch.testing.assert_close(found, x, atol=1e-4, rtol=1e-4)


def test_layers_of_the_language_model_get_their_thirds(small, state):
    found = fit_qwen_vl(state, small, "qwen").state_dict
    layer, official = "language_model.model.model.layers.0.", "transformer.h.0."
    width = SMALL["width"]

    for n, name in enumerate("qkv"):
        third = state[f"{official}attn.c_attn.bias"][n * width : (n + 1) * width]
        assert torch.equal(found[f"{layer}self_attn.{name}_proj.bias"], third)
    # The official MLP is c_proj(w1(x) * silu(w2(x))).
    gate = found[f"{layer}mlp.gate_proj.weight"]
    assert torch.equal(gate, state[f"{official}mlp.w2.weight"])
