"""Views that each have a patch grid of their own: who takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmvlm.models.connectors.base import Connector
from mmvlm.models.vision_encoders.base import VisionEncoder
from mmvlm.structures import ViewLayout
from mmvlm.structures.vision import grids_of


def grid_options(
    encoder: VisionEncoder, readers: Sequence[Connector], layouts: Sequence[ViewLayout]
) -> dict[str, Any]:
    """Return ``grids``, the patch grid of every view; nothing if all views are whole.

    Args:
        encoder (VisionEncoder): gets it as an option.
        readers (Sequence[Connector]): read ``features.grids``.
        layouts (Sequence[ViewLayout]): one per image.

    Raises:
        ValueError: when encoder or a reader takes no such views.
    """
    grids = grids_of(layouts, encoder.spec.patch_size)
    for part in (encoder, *readers):
        if grids and not getattr(part, "takes_grids", False):
            raise ValueError(
                f"{type(part).__name__} takes views of one grid, but these have their "
                "own. Take vision_encoder=dict(type='AnyAspectVisionEncoder', "
                "vision_encoder=dict(...)) and a ResamplerConnector, or set "
                "SliceViews(keep_aspect=False)."
            )
    return dict(grids=grids) if grids else {}
