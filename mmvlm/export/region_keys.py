"""Names of region modules' weights in official checkpoints, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .importing import rename_keys


@dataclass(frozen=True)
class RegionModule:
    """Where official files keep a region encoder, and how its weights are named.

    Args:
        prefix (str): of its keys in the official file.
        names (tuple[tuple[str, str], ...]): pattern of an official name without the
            prefix, and ours; the whole name must match one.
    """

    prefix: str
    names: tuple[tuple[str, str], ...]

    def to_ours(
        self, state: Mapping[str, torch.Tensor], source: str = "checkpoint"
    ) -> dict[str, torch.Tensor]:
        """Rename official weights, given without prefix.

        A convolution of kernel 1 over one dimension is a linear layer here.

        Raises:
            ValueError: listing names that the official module does not have.
        """
        renamed = rename_keys(state, self.names, f"{source}, below '{self.prefix}'")
        return {k: v[..., 0] if v.ndim == 3 else v for k, v in renamed.items()}


_LEAF = r"(weight|bias)"
#: By our class.
REGION_MODULES = {
    "FerretSampler": RegionModule(
        "model.region_geo_sampler.",
        (
            (rf"diff_projector_list\.(\d+)\.{_LEAF}", r"difference.\1.\2"),
            (rf"agg_projector_list\.(\d+)\.net\.0\.{_LEAF}", r"pair.\1.\2"),
            (rf"agg_projector_list\.(\d+)\.norm\.{_LEAF}", r"norm.\1.\2"),
            (rf"flatten_projector\.{_LEAF}", r"flatten_proj.\1"),
            (rf"dim_projector\.{_LEAF}", r"out_proj.\1"),
        ),
    ),
    "MaskMeanPool": RegionModule("model.region_fea_adapter.", ((_LEAF, r"proj.\1"),)),
    "MultiLevelRoI": RegionModule(
        "model.spi_module.", ((r"((?:mlvl_fuse|roi_align)\..+)", r"\1"),)
    ),
    "MaskExtractor": RegionModule(
        "model.mask_extractor.",
        (
            *((rf"res{n + 2}\.{_LEAF}", rf"level_proj.{n}.\1") for n in range(4)),
            (rf"feat_linear\.{_LEAF}", r"feature_proj.\1"),
            *(
                (rf"mask_linear\.layers\.{n}\.{_LEAF}", rf"place_mlp.{2 * n}.\1")
                for n in range(3)
            ),
        ),
    ),
}
