"""What a connector sees in an image, and what it makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from mmvlm.apis.inferencer import VLMInferencer
from mmvlm.models.utils.observing import RoutingWeights, SamplingPoints, observe
from mmvlm.structures import VisionFeatures
from mmvlm.structures.slices import unpacked


@dataclass
class FeatureMaps:
    """Maps of one view of an image, as arrays.

    Args:
        image (np.ndarray): (H, W, 3) uint8, the view as the encoder sees it.
        grid (tuple[int, int]): rows and columns of patches.
        layers (dict[int, np.ndarray]): layer to (rows, columns, Dv).
        output (np.ndarray | None): what the fuser, or a connector that keeps the
            grid, gives: (rows, columns, D); None where it gives no map.
        output_name (str): of what gave it, and with how many tokens.
        difference (np.ndarray | None): output minus the last selected layer, where
            both have one shape.
        sampling (dict[str, tuple]): module to locations (Q, M, L, K, 2) in 0-1 and
            weights (Q, M, L, K).
        routing (dict[str, np.ndarray]): module to weights (N, K).
    """

    image: np.ndarray
    grid: tuple[int, int]
    layers: dict[int, np.ndarray]
    output: np.ndarray | None
    output_name: str
    difference: np.ndarray | None = None
    sampling: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    routing: dict[str, np.ndarray] = field(default_factory=dict)


@torch.no_grad()
def look_inside(
    talk: VLMInferencer,
    image: Any,
    *,
    layers: Sequence[int] | None = None,
    view: int = 0,
    prompt: str = "",
) -> FeatureMaps:
    """Run an image through encoder and connector and keep what passes by.

    Args:
        talk (VLMInferencer): the model.
        image (Any): path, PIL image or array.
        layers (Sequence[int] | None): hidden states to show; None takes those that
            the connector selects.
        view (int): which view, for images that become several.
        prompt (str): for connectors that read the instruction.

    Raises:
        ValueError: without encoder or connector of images, or for a view that does
            not exist.
    """
    model = talk.model
    connector, encoder = model.image_connector, model.image_encoder
    if connector is None or encoder is None:
        raise ValueError(
            "the model has no vision encoder and connector of images, so no maps to "
            "show."
        )
    batch = talk.encode([talk.conversation(image, prompt)])
    images = batch.inputs["image"]
    pixels = images.values
    if not 0 <= view < len(pixels):
        raise ValueError(f"view={view}: the image has {len(pixels)} views.")
    fuser = getattr(connector, "fuser", None)
    giver = connector if fuser is None else fuser
    taken: list = []
    handle = giver.register_forward_hook(
        lambda module, args, output: taken.append((args[0], output))
    )
    shared, model.share_equal_views = model.share_equal_views, False
    try:
        with observe() as records:
            model.embed(batch)
    finally:
        handle.remove()
        model.share_equal_views = shared
    features, output = taken[0]
    selected = tuple(connector.select_layers)
    chosen = selected if layers is None else tuple(layers)
    own = features.grids[view] if features.grids else features.grid
    options = dict(grids=[own]) if features.grids else {}
    shown = encoder(pixels[view : view + 1], chosen, **options)
    maps = {
        number: _as_map(shown.patches(place)[0], own)
        for place, number in enumerate(shown.layers)
    }
    name, fused = _output_map(giver, output, own, view)
    difference = None
    if fused is not None:
        last = _as_map(features.patches(len(selected) - 1)[view], own)
        difference = fused - last if fused.shape == last.shape else None
    viewed = _as_image(pixels[view], talk.processor.spec).transpose(2, 0, 1)
    result = FeatureMaps(
        image=unpacked(viewed, images.layouts[0], view).transpose(1, 2, 0),
        grid=own,
        layers=maps,
        output=fused,
        output_name=name,
        difference=difference,
    )
    _keep_records(result, records, dict(model.named_modules()), view)
    return result


def _as_map(patches: torch.Tensor, grid: tuple[int, int]) -> np.ndarray:
    rows, cols = grid  # behind them a packed view holds nothing
    return patches[: rows * cols].float().reshape(rows, cols, -1).cpu().numpy()


def _as_image(pixels: torch.Tensor, spec: Any) -> np.ndarray:
    """Take the normalisation off again."""
    mean, std = (np.asarray(x)[:, None, None] for x in (spec.mean, spec.std))
    unit = pixels.float().cpu().numpy() * std + mean
    return np.clip(np.rint(unit * 255), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def _output_map(
    giver: Any, output: Any, grid: tuple[int, int], view: int
) -> tuple[str, np.ndarray | None]:
    """Return a name for the output and its map, where it is one."""
    kind = type(giver).__name__
    if isinstance(output, VisionFeatures):
        patches, grid = output.patches(-1), output.grid
    else:
        patches = output
    name = f"{kind}: {patches.shape[1]} tokens, {patches.shape[2]} wide"
    if patches.shape[1] != grid[0] * grid[1] or view >= len(patches):
        return f"{name}, no map", None
    return name, _as_map(patches[view], grid)


def _keep_records(maps: FeatureMaps, records: list, modules: dict, view: int) -> None:
    """Sort the modules' reports under their names; the first of each is kept."""
    names = {id(module): name for name, module in modules.items()}
    for record in records:
        name = names.get(id(record.module), type(record.module).__name__)
        weights = record.weights.float().cpu().numpy()
        if view >= len(weights):
            continue
        if isinstance(record, SamplingPoints):
            places = record.locations.float().cpu().numpy()
            maps.sampling.setdefault(name, (places[view], weights[view]))
        elif isinstance(record, RoutingWeights):
            maps.routing.setdefault(name, weights[view])
