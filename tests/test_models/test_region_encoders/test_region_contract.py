"""The contract suite, over every registered region encoder and one of 32 tokens."""

import inspect

import pytest
import torch

import mmvlm.models  # noqa: F401  registers
from mmvlm.models.region_encoders.base import RegionEncoder
from mmvlm.registry import MODELS
from mmvlm.structures import FixedTokenCount
from mmvlm.testing.region_contract import REGION_CHECKS, region_classes

NAMES = ("FerretSampler", "MaskExtractor", "MaskMeanPool", "MaskedTokens")
NAMES += ("MultiLevelRoI",)


class ManyTokenRegions(RegionEncoder):
    """RoI cells as 32 queries of a region, as All-Seeing makes them."""

    def __init__(self, num_tokens=32, **kwargs):
        super().__init__(**kwargs)
        self.num_tokens = num_tokens
        self.to_queries = torch.nn.Linear(
            self.vision_spec.width, num_tokens * self.out_width
        )

    @property
    def token_count(self):
        return FixedTokenCount(self.num_tokens)

    def forward(self, features, regions):
        from mmcv.ops import roi_align

        feature_map = features.patch_map().contiguous()
        rows, cols = features.grid
        boxes = regions.boxes * regions.boxes.new_tensor([cols, rows, cols, rows])
        rois = torch.cat([regions.views[:, None].float(), boxes], 1)
        cells = roi_align(feature_map.float(), rois, (2, 2), 1.0, 2, "avg", True)
        mean = cells.mean((2, 3)).to(feature_map.dtype)
        return self.to_queries(mean).view(-1, self.out_width)


@pytest.fixture
def many_tokens():
    MODELS.register_module(module=ManyTokenRegions)
    yield ManyTokenRegions
    MODELS._module_dict.pop("ManyTokenRegions")


def test_all_are_registered():
    assert set(NAMES) <= set(region_classes())


@pytest.mark.parametrize("check", REGION_CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_region_encoder_keeps_its_contract(name, check):
    REGION_CHECKS[check](region_classes()[name])


@pytest.mark.parametrize("check", REGION_CHECKS)
def test_an_encoder_of_many_tokens_keeps_it_too(check, many_tokens):
    REGION_CHECKS[check](many_tokens)


@pytest.mark.parametrize("name", NAMES)
def test_region_encoder_documents_its_shapes(name):
    assert "Shape:" in inspect.getdoc(region_classes()[name].forward)


def _mixes_regions(self, features, regions):
    rows = _right(self, features, regions)
    return rows + rows.sum(0)


def _reads_the_first_image(self, features, regions):
    return (
        self.to_queries(features.patches()[:1].mean(1))
        .expand(len(regions), -1)
        .reshape(-1, self.out_width)
    )


def _draws(self, features, regions):
    return _right(self, features, regions) + torch.rand(1)


def _fewer_rows(self, features, regions):
    return _right(self, features, regions)[1:]


_right = ManyTokenRegions.forward


@pytest.mark.parametrize(
    "forward, check",
    [
        (_mixes_regions, "regions_are_independent"),
        (_reads_the_first_image, "images_are_told_apart"),
        (_draws, "determinism"),
        (_fewer_rows, "rows_keep_the_promise"),
    ],
)
def test_suite_finds_what_is_broken(forward, check, many_tokens, monkeypatch):
    monkeypatch.setattr(many_tokens, "forward", forward)

    with pytest.raises(AssertionError):
        REGION_CHECKS[check](many_tokens)
