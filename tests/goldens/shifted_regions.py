"""Recipes of the second set for regions: see ``shifted_arrays``."""

import json

import numpy as np
import torch
from shifting import MODELS, builders, shaken

from mmvlm.models.region_encoders.ferret_sampler import FerretSampler
from mmvlm.models.region_encoders.multi_level_roi import MultiLevelRoI
from mmvlm.models.region_encoders.sampling import (
    farthest_points,
    nearest_points,
    sample_features,
)
from mmvlm.structures import Boxes, Region, VisionEncoderSpec
from mmvlm.structures.masks import mask_to_rle
from mmvlm.structures.region_pixels import draw_points, region_pixels

_OFFICIAL = {
    "difference.": "diff_projector_list.",
    "flatten_proj.": "flatten_projector.",
    "out_proj.": "dim_projector.",
}
_SIZES = [[50, 36], [30, 41], [28, 28]]  # width, height
_REGIONS = (
    (0, "box", [5, 3, 31, 22], [5, 3, 31, 22]),
    (0, "freeform", [2, 6, 44, 33], [2, 6, 44, 33]),
    (1, "point", [12, 20], [6, 9, 25, 38]),
    (1, "box", [0, 0, 3, 4], [0, 0, 3, 4]),
)


def official_sampler(sampler):
    """Return a sampler's weights under the official names."""
    found = {}
    for key, value in sampler.state_dict().items():
        group, stage, leaf = [*key.split("."), ""][:3]
        if group in ("pair", "norm"):
            inner = "net.0" if group == "pair" else "norm"
            grows = group == "pair" and leaf == "weight"
            name = f"agg_projector_list.{stage}.{inner}.{leaf}"
            found[name] = value[..., None] if grows else value
        else:
            old = next(name for name in _OFFICIAL if key.startswith(name))
            found[_OFFICIAL[old] + key.removeprefix(old)] = value
    return found


def ferret_sampler(arrays, width=7, out=9, grid=6):
    """Show four other regions in pictures of other sizes."""
    test = builders(MODELS / "test_region_encoders/test_golden_regions.py")
    rng = np.random.default_rng(0)
    shape = dict(num_points=20, num_sub_points=[8, 3], num_neighbours=[5, 3])
    names = ("num_init_point", "num_sub_point", "num_neighbor")
    config = dict(input_dim=width, output_dim=out, grid=grid, image_wh=_SIZES)
    config |= dict(zip(names, shape.values(), strict=True))
    free = (rng.random((36, 50)) < 0.4).astype(np.uint8)
    metas, windows = [], []
    made = {"regions/freeform_input_hw": free, "cfg_json": json.dumps(config)}
    for number, (image, kind, coor, box) in enumerate(_REGIONS):
        size = _SIZES[image][::-1]
        inside = np.zeros(size, np.uint8)
        inside[box[1] : box[3] + 1, box[0] : box[2] + 1] = 1
        rles = {"freeform": (mask_to_rle(free),), "point": (mask_to_rle(inside),)}
        corners = np.array(coor * 2 if kind == "point" else coor, float)
        ours = "mask" if kind == "freeform" else kind
        region = Region(0, Boxes(corners, size), ours, rles=rles.get(kind, ()))
        windows.append(region_pixels(region))
        full = np.zeros(size, np.uint8)
        x1, y1, x2, y2 = windows[-1].box
        full[y1:y2, x1:x2] = windows[-1].inside
        made[f"regions/mask_{number}"] = full.T
        metas.append(dict(image=image, kind=kind, coor=coor, box_xyxy=box))
        metas[-1]["image_wh"] = _SIZES[image]
    made["regions/meta_json"] = json.dumps(metas)
    made["feature_map"] = torch.randn(3, grid * grid, width)
    for pooler in ("max", "mean"):
        made |= _sampled(test, made, windows, pooler, width, out, shape)
    for image in (0, 1):
        pooled = test.mean_pooled(made, image)
        made[f"meanpool/out_image{image}"] = pooled
    kept = ("probe/result_col_row", "probe/expected_if_x_is_column")
    return made | {key: arrays[key] for key in kept}


def _sampled(test, made, windows, pooler, width, out, shape):
    """Return weights, draws and outputs of one pooler."""
    spec = VisionEncoderSpec(width, 0, 1, 6)
    options = dict(out_width=out, select_layers=[0], pooler=pooler, **shape)
    sampler = shaken(FerretSampler(vision_spec=spec, **options))
    found = {f"{pooler}/sd/{k}": v for k, v in official_sampler(sampler).items()}
    rng = np.random.default_rng(len(pooler))
    drawn = [draw_points(one, shape["num_points"], rng)[0] for one in windows]
    sides = np.array([_SIZES[region[0]] for region in _REGIONS])[:, None]
    pixels = (np.stack(drawn) / sides).astype(np.float32)
    points = torch.from_numpy(pixels) + torch.rand(pixels.shape) * 1e-3
    found |= {f"{pooler}/pixel_points": pixels, f"{pooler}/init_points": points}
    parents = torch.tensor([region[0] for region in _REGIONS])
    sampled = sample_features(
        made["feature_map"], (6, 6), points, parents, "transposed"
    )
    found[f"{pooler}/sampled_feat_image0"] = sampled[parents == 0]
    counts, lines = shape["num_sub_points"], torch.arange(len(points))[:, None]
    for stage, count in enumerate(counts):
        starts = torch.randint(points.shape[1], (len(points),))
        chosen = farthest_points(points, count, starts)
        near = nearest_points(
            points[lines, chosen], points, shape["num_neighbours"][stage]
        )
        key = f"{pooler}/stage{stage}"
        found |= {f"{key}/fps_start": starts, f"{key}/fps_idx": chosen}
        found[f"{key}/knn_idx_sorted"] = near.sort(-1).values
        points = points[lines, chosen]
    golden = {k: v.detach().numpy() if torch.is_tensor(v) else np.asarray(v)
              for k, v in {**made, **found}.items()}  # fmt: skip
    result = sampler.eval()(
        test.features_of(golden, 6), test.regions_of(golden, pooler)
    )
    for image in (0, 1):
        found[f"{pooler}/out_image{image}"] = result[parents == image]
    return found


def gpt4roi_roi(arrays, width=16, grid=5):
    """Fuse three levels instead of four, and cut other boxes."""
    config = dict(embed_dims=width, roi_out=3, hidden=14, pos_hidden=7, llm_dim=11)
    config |= dict(gn_groups=2, grid=grid, image_size=70, num_fuse=2)
    spec = VisionEncoderSpec(width, 2, 1, grid)
    module = shaken(
        MultiLevelRoI(
            vision_spec=spec,
            out_width=11,
            select_layers=range(3),
            roi_size=3,
            hidden_width=14,
            place_width=7,
            num_rounds=2,
            num_groups=2,
        )
    )
    test = builders(MODELS / "test_region_encoders/test_golden_regions.py")
    made = {f"sd/{key}": value for key, value in module.state_dict().items()}
    made |= {f"feat_level{n}": torch.randn(3, grid * grid, width) for n in range(3)}
    boxes = torch.rand(6, 2, 2).sort(1).values.flatten(1)
    for image, some in enumerate(boxes.split([2, 3, 1])):
        made[f"boxes_image{image}"] = some
    made["cfg_json"] = json.dumps(config)
    case = dict(
        text="<bbox>7 8 9 10</bbox> or <bbox> 1 </bbox>", boxes=[[7.0, 8, 9, 10]]
    )
    made["str2spi_json"] = json.dumps(case)
    golden = {k: v.detach().numpy() if torch.is_tensor(v) else np.asarray(v)
              for k, v in made.items()}  # fmt: skip
    found, fused, cells = test.roi_results(golden)
    for image, some in enumerate(found.split([2, 3, 1])):
        made[f"out_image{image}"] = some
    for level, one in enumerate(fused):
        made[f"fused_level{level}_shape"] = np.array(one.shape)
        made[f"roi_level{level}"] = cells[level]
    made["fused_level2"] = fused[-1]
    return made
