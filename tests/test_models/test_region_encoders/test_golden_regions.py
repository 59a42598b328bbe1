"""Ferret's sampler and GPT4RoI's region module against the official ones."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from mmvlm.export.region_keys import REGION_MODULES
from mmvlm.models.region_encoders.ferret_sampler import FerretSampler
from mmvlm.models.region_encoders.mask_mean_pool import MaskMeanPool
from mmvlm.models.region_encoders.multi_level_roi import MultiLevelRoI
from mmvlm.models.region_encoders.sampling import (
    farthest_points,
    nearest_points,
    sample_features,
)
from mmvlm.structures import VisionEncoderSpec, VisionFeatures
from mmvlm.structures.regions import RegionInputs
from mmvlm.text.codecs.region_token import inline_boxes

pytestmark = pytest.mark.golden


@pytest.fixture
def ferret(goldens):
    return dict(np.load(goldens / "ferret_sampler.npz"))


def facts_of(golden):
    config = json.loads(str(golden["cfg_json"]))
    parents = [meta["image"] for meta in json.loads(str(golden["regions/meta_json"]))]
    return config, parents


def features_of(golden, grid):
    state = torch.as_tensor(golden["feature_map"])
    return VisionFeatures((state,), (0,), (grid, grid))


def sampler_of(golden, pooler):
    config, _ = facts_of(golden)
    spec = VisionEncoderSpec(config["input_dim"], 0, 1, config["grid"])
    sampler = FerretSampler(
        vision_spec=spec,
        out_width=config["output_dim"],
        select_layers=[0],
        num_points=config["num_init_point"],
        num_sub_points=config["num_sub_point"],
        num_neighbours=config["num_neighbor"],
        pooler=pooler,
    )
    prefix = f"{pooler}/sd/"
    state = {
        key.removeprefix(prefix): torch.from_numpy(golden[key])
        for key in golden
        if key.startswith(prefix)
    }
    sampler.load_state_dict(REGION_MODULES["FerretSampler"].to_ours(state))
    return sampler.eval()


def regions_of(golden, pooler):
    config, parents = facts_of(golden)
    sizes = [config["num_init_point"], *config["num_sub_point"]]
    stages = range(len(config["num_sub_point"]))
    starts = [golden[f"{pooler}/stage{s}/fps_start"] for s in stages]
    draws = [(one + 0.5) / size for one, size in zip(starts, sizes, strict=False)]
    points = torch.from_numpy(golden[f"{pooler}/init_points"])
    return RegionInputs(
        boxes=torch.zeros(len(points), 4),
        views=torch.tensor(parents),
        points=points,
        draws=torch.from_numpy(np.stack(draws, 1)).float(),
    )


@pytest.mark.parametrize("pooler", ["max", "mean"])
def test_sampler_is_that_of_ferret(ferret, pooler):
    config, parents = facts_of(ferret)
    sampler, regions = sampler_of(ferret, pooler), regions_of(ferret, pooler)

    found = sampler(features_of(ferret, config["grid"]), regions).detach()

    for image in sorted(set(parents)):
        own = found[torch.tensor([parent == image for parent in parents])]
        expected = torch.from_numpy(ferret[f"{pooler}/out_image{image}"])
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooler", ["max", "mean"])
def test_stages_choose_the_points_of_ferret(ferret, pooler):
    config, parents = facts_of(ferret)
    regions = regions_of(ferret, pooler)
    points = regions.points

    sampled = sample_features(
        torch.from_numpy(ferret["feature_map"]),
        (config["grid"],) * 2,
        points,
        regions.views,
        "transposed",
    )
    first = torch.tensor([parent == 0 for parent in parents])
    expected = torch.from_numpy(ferret[f"{pooler}/sampled_feat_image0"])
    torch.testing.assert_close(sampled[first], expected, atol=1e-5, rtol=0)
    lines = torch.arange(len(points))[:, None]
    for stage, count in enumerate(config["num_sub_point"]):
        golden = f"{pooler}/stage{stage}"
        starts = torch.from_numpy(ferret[f"{golden}/fps_start"])
        chosen = farthest_points(points, count, starts)
        assert np.array_equal(chosen, ferret[f"{golden}/fps_idx"])
        anchors = points[lines, chosen]
        near = nearest_points(anchors, points, config["num_neighbor"][stage])
        near = near.sort(-1).values
        assert np.array_equal(near, ferret[f"{golden}/knn_idx_sorted"])
        points = anchors


def mean_pooled(golden, image):
    """Pool every region of an image under its whole mask, without a layer behind."""
    config, parents = facts_of(golden)
    spec = VisionEncoderSpec(config["input_dim"], 0, 1, config["grid"])
    pool = MaskMeanPool(vision_spec=spec, out_width=4, select_layers=[0])
    pool.proj = nn.Identity()
    found = []
    for number in [n for n, parent in enumerate(parents) if parent == image]:
        mask = np.asarray(golden[f"regions/mask_{number}"])
        points = torch.from_numpy(np.argwhere(mask) / mask.shape)[None].float()
        regions = RegionInputs(torch.zeros(1, 4), torch.tensor([image]), points)
        found.append(pool(features_of(golden, config["grid"]), regions))
    return torch.cat(found)


def test_mean_pool_is_that_of_ferret(ferret):
    for image in sorted(set(facts_of(ferret)[1])):
        expected = torch.from_numpy(ferret[f"meanpool/out_image{image}"])
        found = mean_pooled(ferret, image)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_official_order_of_coordinates_is_transposed(ferret):
    grid, place = 5, torch.tensor([[[0.8, 0.2]]])
    rows, cols = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    feature_map = torch.stack([cols, rows], -1).flatten(0, 1)[None].float()

    for order, key in (
        ("transposed", "probe/result_col_row"),
        ("xy", "probe/expected_if_x_is_column"),
    ):
        found = sample_features(
            feature_map, (grid, grid), place, torch.zeros(1).long(), order
        )
        np.testing.assert_allclose(found[0], ferret[key], atol=1e-5)


@pytest.fixture
def roi(goldens):
    return dict(np.load(goldens / "gpt4roi_roi.npz"))


def roi_results(roi):
    """Return the module's outputs, its fused levels, and the cells cut out of each."""
    config = json.loads(str(roi["cfg_json"]))
    names = sorted(key for key in roi if key.startswith("feat_level"))
    states = tuple(torch.from_numpy(roi[name]) for name in names)
    grid, levels = config["grid"], len(names)
    spec = VisionEncoderSpec(config["embed_dims"], levels - 1, 1, grid)
    module = MultiLevelRoI(
        vision_spec=spec,
        out_width=config["llm_dim"],
        select_layers=range(levels),
        roi_size=config["roi_out"],
        hidden_width=config["hidden"],
        place_width=config["pos_hidden"],
        num_rounds=config["num_fuse"],
        num_groups=config["gn_groups"],
    )
    state = {k[3:]: torch.from_numpy(roi[k]) for k in roi if k[:3] == "sd/"}
    module.load_state_dict(REGION_MODULES["MultiLevelRoI"].to_ours(state))
    features = VisionFeatures(states, tuple(range(levels)), (grid, grid))
    boxes = [roi[f"boxes_image{image}"] for image in range(len(states[0]))]
    views = np.repeat(np.arange(len(boxes)), [len(one) for one in boxes])
    regions = RegionInputs(
        torch.from_numpy(np.concatenate(boxes)), torch.from_numpy(views)
    )
    seen = []
    module.mlvl_fuse.register_forward_hook(lambda _, args, out: seen.extend(out))
    found = module(features, regions)
    cells = [module.roi_align.cut(one, regions.boxes, regions.views) for one in seen]
    return found, seen, cells


def test_region_module_is_that_of_gpt4roi(roi):
    found, fused, cells = roi_results(roi)

    images = sorted(key for key in roi if key.startswith("out_image"))
    expected = torch.from_numpy(np.concatenate([roi[key] for key in images]))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    for level, one in enumerate(fused):
        assert list(one.shape) == roi[f"fused_level{level}_shape"].tolist()
        wanted = torch.from_numpy(roi[f"roi_level{level}"])
        torch.testing.assert_close(cells[level], wanted, atol=1e-4, rtol=0)
    last = torch.from_numpy(roi[f"fused_level{len(fused) - 1}"])
    torch.testing.assert_close(fused[-1], last, atol=1e-4, rtol=0)


def test_boxes_in_texts_are_those_of_gpt4roi(roi):
    case = json.loads(str(roi["str2spi_json"]))

    assert inline_boxes(case["text"]) == case["boxes"]
