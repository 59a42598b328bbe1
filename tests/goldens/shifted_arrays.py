"""Recipes of the second set: arrays of other sizes and what our modules give for them.

A recipe gets the arrays of a file, drawn anew from the file's own values, and fills in
what is computed. The tests' own builders make the modules, so that a size that a test
does not take from its file fails there.
"""

import json
import re
from unittest import mock

import mmvlm  # noqa: F401  isort: skip

import numpy as np
import torch
from shifted_masks import lisa_losses, lisa_mask_decoder, seg_eval
from shifted_regions import ferret_sampler, gpt4roi_roi
from shifting import MODELS, TESTS, builders, gradients, redrawn, shaken, state, tensors

from mmvlm.models.connectors.fused import FusedConnector
from mmvlm.models.connectors.resampler import ResamplerConnector
from mmvlm.models.fusers.dual_perspective import DualPerspectiveFuser
from mmvlm.models.fusers.mmfuser import MMFuser, cell_centres
from mmvlm.models.language_models.adapters.visual_expert import (
    shared_positions,
    vision_mask,
)
from mmvlm.models.ops.ms_deform_attn import MSDeformAttention
from mmvlm.models.utils.multiscale import multiscale_forward
from mmvlm.models.utils.positions import resize_grid, sincos_grid
from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
from mmvlm.structures import VisionEncoderSpec, VisionFeatures
from mmvlm.structures.dual_perspective import crop_views

# ------------------------------------------------------------ connectors_small
SMALL = {
    "^mplug/": {32: 40, 64: 72, 20: 12, 9: 7, 4: 3, 2: 3},
    "^plora/": {32: 28, 24: 20, 4: 3, 6: 5, 2: 3},
    "^lavin": {32: 24, 8: 6, 4: 3, 6: 5},
    "^mgm/": {32: 40, 24: 20, 9: 16, 6: 8, 2: 3},
    "^llava_hr/mr_sd": {32: 40, 24: 20, 64: 80, 16: 20},
    "^llava_hr/": {32: 40, 24: 20, 16: 36, 4: 6, 2: 3, 8: 12},
    "^cogvlm_glu/": {32: 28, 24: 20, 64: 56, 5: 7, 2: 3},
}


def connectors_small(arrays):
    """Add a layer to the abstractor, rename cases, compute all."""
    for old, new in (("t10/", "t9/"), ("t1/", "t5/"), ("/up/", "/half/")):
        arrays = {key.replace(old, new): value for key, value in arrays.items()}
    layer = "mplug/sd/encoder.layers."
    copies = [(f"{layer}0.", f"{layer}2.")]
    numbers = {"mplug/heads": 5, "plora/alpha_over_r": np.float32(1.5)}
    drawn = redrawn(arrays, SMALL, numbers, copies, "encoder_out")
    given, text = tensors(drawn), MODELS / "test_language_models"
    connector, features = builders(
        MODELS / "test_connectors/test_abstractor.py"
    ).official(drawn)
    made = {"mplug/out": connector(features)}
    small = builders(text / "test_small_adapters.py")
    made["plora/out"], made["plora/out_nomask"] = small.partial_lora_outputs(given)
    for case in ("lavin_t9", "lavin_t5"):
        adapter, x = small.routed_adapter(given, case), given["lavin/in"]
        made[f"{case}/out"] = adapter(x, adapter.route(x[:, 0])[:, None])
    dual = builders(MODELS / "test_vision_encoders/test_dual.py")
    made["mgm/embed_feat"] = dual.mined(given)
    for case in dual.cases_of(given):
        mixed, aligned = dual.mixed_and_aligned(given, case)
        made[f"llava_hr/{case}/mr_adapter_out"] = mixed
        made[f"llava_hr/{case}/final_align_out"] = aligned
    glu = builders(text / "test_cogvlm.py")
    made["cogvlm_glu/out"] = glu.connector_output(given)
    return drawn | made


# ------------------------------------------------------------- language models
def cogvlm_visual_expert(arrays):
    """Compute layers of other widths, heads, keys, values and lengths."""
    numbers = {"cfg/hidden": 40, "cfg/heads": 5, "cfg/multi_query": 1, "cfg/inter": 48}
    sizes = {"": {32: 40, 96: 120, 64: 56, 40: 48, 12: 9, 2: 3}}
    drawn = redrawn(arrays, sizes, numbers)
    given, made = tensors(drawn), {}
    test = builders(MODELS / "test_language_models/test_cogvlm.py")
    for case in ("v1", "v2"):
        layout, like = test.tokens_of(given, case).flat(), given[f"{case}/position_ids"]
        made[f"{case}/position_ids"] = shared_positions(layout).view_as(like)
        made[f"{case}/vision_mask"] = vision_mask(layout).view_as(like)
        layer, mlp = test.layer_outputs(given, case)
        made |= {f"{case}/layer_out": layer, f"{case}/mlp_out": mlp}
    return drawn | made


def flamingo_perceiver_gated_xattn(arrays):
    """Compute a deeper resampler and blocks that read other media."""
    named = dict(dim=32, dim_head=5, heads=4, num_latents=7, depth=3, dim_visual=20)
    sizes = {40: 32, 24: 20, 48: 40, 96: 80, 160: 128, 5: 7, 2: 3, 6: 4, 9: 11}
    copies = [("perceiver/sd/layers.0.", "perceiver/sd/layers.2.")]
    numbers = {f"cfg/{key}": value for key, value in named.items()}
    drawn = redrawn(arrays, {"": sizes}, numbers, copies)
    given = tensors(drawn)
    test = builders(MODELS / "test_language_models/test_flamingo.py")
    for case in ("perceiver", "perceiver_video"):
        drawn[f"{case}/out"] = given[f"{case}/out"] = test.resampled(given, case)
    for case in ("xattn_immediate", "xattn_all"):
        where = given[f"{case}/media_locations"]  # three pictures, text before them
        where.fill_(False)[:, [2, 3, 8]] = True
        read, out = test.block_outputs(given, case)
        cached = test.cached_output(given, case)
        made = dict(attn_out=read, out=out, out_cached=cached)
        drawn |= {f"{case}/{key}": value for key, value in made.items()}
    return drawn


def onelm_upm(arrays):
    """Compute OneLLM with fewer experts, deeper decoder, other lengths."""
    named = dict(w=24, dim=36, K=2, rh=3, nt=4, vocab=40, imu_len=30, fmri_in=28)
    numbers = {f"cfg/{k}": v for k, v in dict(named, heads=3, img=42).items()}
    width, batch = {32: 24, 128: 96, 48: 36}, {2: 3}
    sizes = {
        "imu/in": {40: 30, 2: 3},
        r"routers.*fc2": {3: 2, 128: 96},
        r"conv1\.audio": {32: 24, 16: 8},
        r"positional_embedding\.audio": {16: 13, 32: 24},
        "audio/in": {36: 28, 56: 38, 2: 3},
        "visual.positional": {17: 10, 32: 24},
        r"conv1\.fmri|fmri/in": {40: 28, 256: 120, 2: 3},
        r"positional_embedding\.fmri": {9: 6, 32: 24},
        "resample_layers": {32: 24, 96: 64},
        "in_proj": {96: 72, 32: 24},
        r"/in$": {56: 42, **batch},
        "full/": {7: 6, **batch},
        "": {**width, 5: 4, 50: 40},
    }
    copies = [("llm/sd/layers.1.", "llm/sd/layers.2.")]
    drawn = redrawn(arrays, sizes, numbers, copies, r"resample_layers\.2\.")
    drawn["sd/positional_embedding.imu"] = torch.randn(22, 24).numpy()  # was 32 x 32
    for key in ("input_ids", "labels"):
        drawn[f"full/{key}"] %= named["vocab"]
    drawn["full/input_ids"][:, 0] = 1
    given = tensors(drawn)
    test = builders(MODELS / "test_vlms/test_onellm_golden.py")
    with torch.no_grad():
        return drawn | _onellm_outputs(test, given)


def _onellm_outputs(test, given):
    model, made = test._model(given), {}
    encoder, connector = model.vision_encoder, model.connector
    routed = {r: test._rerouted(given, model, r) for r in ("constant", "sparse")}
    with mock.patch.object(HFVisionEncoder, "run_blocks", test._over_the_batch):
        for name in test.MODALITIES:
            (states,) = encoder(given[f"{name}/in"], (-1,), name).hidden_states
            made[f"{name}/encoder_feats"] = states
        made["full/logits"], made["full/loss"] = test._logits_and_loss(given, model)
    for name in test.MODALITIES:
        states, shape = made[f"{name}/encoder_feats"], given[f"{name}/in"].shape
        tokens = connector.with_learned_tokens(states, name)
        made[f"{name}/routing_weights"] = connector.routing_weights(tokens, name)
        made[f"{name}/out"] = connector.project(states, name)
        frames = shape[1] if name in ("video", "rgbd") else 1
        sizes = (frames * len(states), states.shape[2], states.shape[1] - 1)
        made[f"{name}/tokens_before_encoder_shape"] = torch.tensor(sizes)
        if name in ("image", "audio"):
            for router, other in routed.items():
                made[f"{name}/out_{router}"] = other.project(states, name)
    made["full/logits_text_only"] = test._logits_of_text(given, model)
    return made


# ------------------------------------------------------------------- connectors
def emu_cformer(arrays):
    """Compute a deeper C-Former of other widths."""
    named = dict(d_model=24, d_ff=40, num_layers=3, num_heads=3, vision_width=20)
    named |= dict(n_causal=5, output_dim=12)
    sizes = {
        "relative": {4: 3},
        "": {32: 24, 48: 40, 24: 20, 6: 5, 20: 12, 7: 9, 2: 3},
    }
    copies = [("sd/cformer.block.1.", "sd/cformer.block.2.")]
    drawn = redrawn(arrays, sizes, {f"cfg/{k}": v for k, v in named.items()}, copies)
    test = builders(MODELS / "test_connectors/test_causal_former.py")
    connector, features = test.official(drawn)
    return drawn | {"out": connector(features)}


def qformer_instructblip(arrays):
    """Compute a deeper Q-Former with other queries and questions."""
    named = dict(hidden_size=40, num_hidden_layers=4, num_attention_heads=5)
    named |= dict(intermediate_size=56, encoder_hidden_size=20, vocab_size=70)
    named |= dict(max_position_embeddings=40)
    sizes = {32: 40, 48: 56, 24: 20, 60: 70, 5: 4, 6: 7, 11: 9, 20: 12, 2: 3}
    copies = [
        (f"{case}/sd/encoder.layer.1.", f"{case}/sd/encoder.layer.3.")
        for case in ("instructblip", "blip2")
    ]
    numbers = {f"cfg/{key}": value for key, value in named.items()}
    unread = "instructblip/last|query_out|attention_mask_full"
    drawn = redrawn(arrays, {"": sizes}, numbers, copies, unread)
    drawn["input_mask"][:] = np.arange(7) < np.array([[7], [5], [2]])
    test = builders(MODELS / "test_connectors/test_qformer.py")
    projected = test.instructblip_output(drawn)
    made = {"instructblip/language_projection_out": projected}
    return drawn | made | {"blip2/last_hidden_state": test.blip2_output(drawn)}


def qwen_vl_resampler(arrays, grid=3, dim=24, heads=2, kv=20):
    """Compute Qwen-VL's resampler with another grid and other widths."""
    made = {"cfg/grid": grid, "cfg/dim": dim, "cfg/heads": heads, "cfg/kv": kv}
    made["pos_embed_2d"] = sincos_grid(dim, (grid, grid))
    for prefix, width in (("", kv), ("nokv/", dim)):
        module = ResamplerConnector(
            vision_spec=VisionEncoderSpec(width, 1, 1, grid),
            out_width=dim,
            grid=grid,
            heads=heads,
        ).eval()
        made |= state(module, f"{prefix}sd/")
        for number, side in enumerate((2, 5) if prefix == "" else (4,)):
            given = torch.randn(1, side * side, width)
            end = "" if prefix else str(number)
            features = VisionFeatures((given,), (1,), (side, side))
            made[f"{prefix}in{end}"] = given
            made[f"{prefix}out{end}"] = module(features)
            if not prefix:
                table = made["sd/pos_embed"]
                resized = resize_grid(table, (grid, grid), (side, side))
                made[f"abs_pos_interp{end}"] = resized
    return made


def inf_llava_spatial_embed(arrays):
    """Compute crops, fusers and the whole encoder with other grids and names."""
    test = builders(MODELS / "test_connectors/test_dual_perspective_fuser.py")
    made = {}
    for case, grid, shape in (
        ("dcm_n5", 5, (1, 3, 10, 15)),
        ("dcm_wide", 2, (3, 1, 6, 8)),
    ):
        image = torch.randn(shape)
        made |= {f"{case}/n": grid, f"{case}/image": image}
        for kind in ("local", "global"):
            made[f"{case}/{kind}"] = crop_views(image, grid, kind)
    for case, grid, width, side, batch in (
        ("n4", 4, 16, 3, 1),
        ("wide_n2", 2, 48, 5, 3),
    ):
        spec = VisionEncoderSpec(width, 1, 2, side * 2)
        fuser = shaken(DualPerspectiveFuser(vision_spec=spec, grid=grid))
        views = torch.randn(2 * grid**2, batch, side**2, width)
        given = dict(n=grid, channel=width, spatial=side, **{"in": views})
        given |= state(fuser, "sd/")
        fuser, features = test.official_fuser(given)
        given["out"] = fuser(features).hidden_states[0]
        if batch > 1:  # the other case is of the kind without steps
            given |= _steps(fuser, views.unflatten(2, (side, side)))
        made |= {f"{case}/{key}": value for key, value in given.items()}
    spec = VisionEncoderSpec(48, 1, 3, 12)
    fuser = DualPerspectiveFuser(vision_spec=spec, grid=2, select_layers=[-1])
    connector = shaken(FusedConnector.around(fuser, 20))
    given = dict(base=12, patch=3, n=2) | state(connector.fuser, "sd/spatial_embed.")
    given |= state(connector.projector.proj, "sd/mm_projector.")
    given["sd/tower_conv.weight"] = torch.randn(48, 3, 3, 3)
    for number, size in enumerate(((24, 24), (10, 10), (36, 18), (7, 30))):
        image = torch.randn(3, 3, *size)
        out, _ = test.encoded(*test.official_encoder(given), image)
        given |= {f"image{number}": image, f"out{number}": out}
    return made | {f"encode/{key}": value for key, value in given.items()}


def _steps(fuser, views):
    maps = fuser.branch_maps(views)
    plain = DualPerspectiveFuser(
        vision_spec=fuser.vision_spec, grid=fuser.grid, enhance=False, fusion="add"
    ).branch_maps(torch.cat([views, views[:1]]))
    return dict(
        F_loc=plain["local"],
        F_glo=plain["global"],
        V_local_query=maps["local"],
        V_global_query=maps["global"],
        fused_highres=fuser.join(maps),
    )


# ------------------------------------------------------- deformable attention
def msdeform_attn(arrays, width=24, heads=3, points=2, shapes=((4, 3), (2, 5))):
    """Compute deformable attention over two maps with other heads and points."""
    fresh = MSDeformAttention(width, heads, len(shapes), points, backend="grid")
    made = state(fresh, "sd_init/")
    module = shaken(fresh)
    places, queries = sum(h * w for h, w in shapes), 7
    query, value = torch.randn(3, queries, width), torch.randn(3, places, width)
    near, boxes = (torch.rand(3, queries, len(shapes), n) for n in (2, 4))
    given = dict(query=query, value=value, ref2=near)
    for tensor in given.values():
        tensor.requires_grad_()
    masked = torch.rand(3, places) < 0.3
    outs = {
        "ref2": module(query, near, value, shapes),
        "ref4": module(query, boxes, value, shapes),
        "ref2_masked": module(query, near, value, shapes, masked),
    }
    weight = torch.randn_like(outs["ref2"])
    own = {f"in/{k}": v for k, v in given.items()}
    own |= {f"sd/{k}": v for k, v in module.named_parameters()}
    made |= gradients(outs["ref2"], weight, **own) | own
    made |= {f"out/{key}": value for key, value in outs.items()}
    made |= {"in/ref4": boxes, "in/padding_mask": masked, "in/grad_weight": weight}
    made |= {"in/heads": heads, "in/points": points}
    return made | {"in/spatial_shapes": np.array(shapes)}


def mmfuser(arrays, width=48, layers=4, side=5, heads=6, points=3):
    """Compute MMFuser's block and projector with other layers, heads and points."""
    spec = VisionEncoderSpec(width, layers - 1, 2, 2 * side)
    options = dict(select_layers=range(layers), num_heads=heads, num_points=points)
    fuser = MMFuser(vision_spec=spec, **options)
    states = torch.randn(layers, 3, side**2, width)
    made = state(fuser, "sd_init/") | {"in/features": states}
    made["out/init_out"] = states[-1]
    made |= state(shaken(fuser), "sd/")
    made["out/spatial_shapes"] = np.full((layers - 1, 2), side)
    made["out/reference_points"] = cell_centres((side, side), torch.device("cpu"))
    test = builders(MODELS / "test_connectors/test_mmfuser.py")
    fuser = test.build(made, "grid")
    for name in ("cross_attn", "self_attn"):
        getattr(fuser, name).register_forward_hook(
            lambda module, given, out, name=name: made.update({f"out/{name}": out})
        )
    seen = states.clone().requires_grad_()
    made["out/out"] = fuser(test.features_of(made, seen)).hidden_states[0]
    weight = made["in/grad_weight"] = torch.randn(3, side**2, width)
    made["out/loss"] = (made["out/out"].double() * weight).sum()
    own = {"in/features": seen}
    own |= {f"sd/{name}": weight for name, weight in fuser.named_parameters()}
    made |= gradients(made["out/out"], weight, **own)
    low = test.features_of(made, states.bfloat16())
    half = test.build(made, "grid").bfloat16()(low).hidden_states[0]
    made["out/out_bf16_as_f32"] = half.float()
    connector = FusedConnector(
        dict(type="MMFuser", **dict(options, select_layers=list(range(layers)))),
        dict(type="MLPConnector", depth=3),
        vision_spec=spec,
        out_width=40,
    )
    made |= state(shaken(connector).fuser, "proj_sd/0.")
    for key, value in connector.projector.proj.state_dict().items():
        number, leaf = key.split(".")
        made[f"proj_sd/{int(number) + 1}.{leaf}"] = value
    made["out/proj_out"] = connector(test.features_of(made))
    return made


def s2(arrays, stride=5, channels=4):
    """Compute S2 with smaller tiles: every side is scaled with the stride."""
    weight = arrays["backbone/weight"]
    made = redrawn(
        {k: v for k, v in arrays.items() if k.startswith("backbone/")},
        {"": {weight.shape[0]: channels, weight.shape[-1]: stride}},
        {"backbone/stride": stride},
    )
    test, cases = builders(MODELS / "test_vision_encoders/test_s2.py"), {}

    def scaled(side):
        return side * stride // int(arrays["backbone/stride"])

    for name, case in json.loads(str(arrays["meta_json"])).items():
        options, size = dict(case["kwargs"]), scaled(case["size"])
        for key in {"img_sizes", "max_split_size"} & set(options):
            value = options[key]
            many = isinstance(value, list)
            options[key] = [scaled(v) for v in value] if many else scaled(value)
        maps = options.get("output_shape") == "bchw"
        x = torch.randn(case["B"] + 1, 3, size, size, requires_grad=True)
        backbone = test._toy_backbone(made, case["prefix"], maps)
        out = multiscale_forward(backbone, x, **options)
        weight = torch.randn_like(out)
        made |= {f"{name}/in/x": x, f"{name}/in/grad_weight": weight}
        made |= {f"{name}/out/y": out}
        made[f"{name}/grad/in/x"] = gradients(out, weight, x=x)["grad/x"]
        cases[name] = dict(case, kwargs=options, out_shape=list(out.shape))
    return made | {"meta_json": np.array(json.dumps(cases))}


# ---------------------------------------------------------------------- LLaVA
def llava_image(arrays, size=20):
    """Compute LLaVA's views with another crop; pictures no taller than wide.

    Pillow of some versions rounds tall ones otherwise.
    """
    mean, std = (arrays[k].reshape(3, 1, 1) for k in ("mean", "std"))
    made = dict(mean=arrays["mean"], std=arrays["std"])
    tiles, image = (
        builders(TESTS / f"test_datasets/test_transforms/{name}.py")
        for name in ("test_anyres_tiles", "test_image")
    )
    rng, color = np.random.default_rng(0), [int(255 * v) for v in arrays["mean"]]
    meta = dict(crop_size=size, background_rgb=color)

    def pixels(step, rgb, side):
        step.bind(image.context(side, tuple(arrays["mean"])))
        return (step(dict(images=[rgb]))["views"][0][0] / 255 - mean) / std

    pins = [[w * size, h * size] for w, h in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))]
    transform = tiles._bound(size, tilings=tiles._tilings(pins, size))
    for number, (height, width) in enumerate(((25, 64), (33, 33), (40, 47), (9, 11))):
        rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
        views, layout = transform.view(rgb)
        rows, cols = layout.extra
        outs = dict(
            square=image.expand_to_square(rgb, color),
            pad_pixel_values=pixels(image.PadToSquare(), rgb, size),
            default_pixel_values=pixels(image.CenterCropSquare(), rgb, size),
            anyres_pixel_values=((views / 255 - mean) / std),
            anyres_resized_padded=transform.fit(rgb, rows * size, cols * size),
        )
        made[f"picture{number}/in/rgb"] = rgb
        for key, value in outs.items():
            kind = np.uint8 if value.dtype == np.uint8 else np.float32
            made[f"picture{number}/out/{key}"] = value.astype(kind)
        best = [cols * size, rows * size]
        meta[f"picture{number}"] = dict(anyres_pinpoints=pins, anyres_best_wh=best)
    made["large/in/rgb"] = rgb = rng.integers(0, 256, (50, 70, 3), np.uint8)
    values = pixels(image.PadToSquare(), rgb, 120).astype(np.float16)
    made["large/out/pad_pixel_values_f16"] = values
    return made | {"meta_json": np.array(json.dumps(meta))}


#: Cases of LLaVA's merge that the second set does not have.
MERGES_LEFT_OUT = ("truncate", "list_flat", "adjacent_images")


def llava_prepare(arrays, width=6, more_words=7):
    """Narrow the merge: its channels do not mix, so the first ones are a case too."""
    left_out = "|".join(f"^{name}/" for name in MERGES_LEFT_OUT)
    own = arrays["embed_tokens"].shape[1]
    made = {
        key: value[..., :width] if value.shape[-1:] == (own,) else value
        for key, value in arrays.items()
        if not re.search(left_out, key)
    }
    words = made["embed_tokens"]
    made["embed_tokens"] = np.concatenate([words, words[:more_words]])
    return made


RECIPES = (
    connectors_small,
    cogvlm_visual_expert,
    flamingo_perceiver_gated_xattn,
    onelm_upm,
    emu_cformer,
    qformer_instructblip,
    qwen_vl_resampler,
    inf_llava_spatial_embed,
    msdeform_attn,
    mmfuser,
    s2,
    llava_image,
    llava_prepare,
    ferret_sampler,
    gpt4roi_roi,
    seg_eval,
    lisa_losses,
    lisa_mask_decoder,
)


def write_arrays(folder):
    """Write every file of ``RECIPES`` anew into the folder that holds the originals."""
    for recipe in RECIPES:
        torch.manual_seed(0)
        path = folder / f"{recipe.__name__}.npz"
        with np.load(path) as file:
            arrays = dict(file)
        made = {
            key: value.detach().numpy() if torch.is_tensor(value) else np.asarray(value)
            for key, value in recipe(arrays).items()
        }
        np.savez(path, **made)
