"""A config's model without weights, and the tokens that its images take."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

from mmvlm.datasets.processor import VLMProcessor, pipelines, views_in

from .parts import holds_parts

#: Height and width in pixels of the image that the token budget is told for.
_SAMPLE_IMAGE = (480, 640)


def build_on_meta(model: dict) -> Any:
    """Build a model without memory for its weights.

    Args:
        model (dict): ``model`` of a config.
    """
    import torch
    from transformers import PreTrainedModel

    from mmvlm.registry import MODELS

    # As transformers 5 does: drawing weights without memory took half of the time.
    undrawn = patch.object(PreTrainedModel, "_initialize_weights", lambda *_, **__: 0)
    with torch.device("meta"), undrawn:
        return MODELS.build(_offline(without_quantization(model)[0]))


def without_options(model: dict, *names: str) -> dict:
    """Return a model's config whose parts lack some optional keywords.

    Args:
        model (dict): ``model`` of a config.
        *names (str): keywords that say nothing of the architecture.
    """
    result = {key: value for key, value in model.items() if key not in names}
    for key, part in result.items():
        if isinstance(part, dict) and ("type" in part or holds_parts(part)):
            result[key] = without_options(part, *names)
    return result


def is_offline(model: Any) -> bool:
    """Whether a model's config tells its whole architecture."""
    if isinstance(model, dict):
        if "type" in model and not isinstance(model["type"], str):
            return False  # a lazy config may hold functions that load weights
        path = model.get("name_or_path")
        if path and not model.get("config"):
            config = os.path.join(os.path.expanduser(path), "config.json")
            if not os.path.isfile(config):
                return False
        if any(model.get(key) for key in ("pretrained", "checkpoint", "init_cfg")):
            return False
        return all(is_offline(value) for value in model.values())
    if isinstance(model, (list, tuple)):
        return all(is_offline(value) for value in model)
    return True


def without_quantization(model: dict) -> tuple[dict, dict[str, int]]:
    """Return the config without ``quantization``, and the bits by part.

    Quantised layers hold packed weights, whose number says nothing of the
    architecture; and the package that makes them may not be installed.
    """
    result, bits = dict(model), {}
    for name, part in model.items():
        if holds_parts(part):
            result[name], inner = without_quantization(part)
            bits.update(inner)
        elif isinstance(part, dict) and part.get("quantization"):
            bits[name] = part["quantization"].get("bits", 4)
            result[name] = {k: v for k, v in part.items() if k != "quantization"}
    return result, bits


def _offline(model: dict) -> dict:
    """Drop paths to weights wherever the architecture is written beside them."""
    result = dict(model)
    for name, part in model.items():
        if not isinstance(part, dict):
            continue
        if part.get("config") and part.get("name_or_path"):
            part = {k: v for k, v in part.items() if k != "name_or_path"}
        result[name] = _offline(part) if "type" in part or holds_parts(part) else part
    return result


def length_limits(cfg: Any, *loaders: str) -> Iterator[tuple[str, dict, list]]:
    """Yield path, step and pipeline of every ``max_length``.

    Args:
        cfg (mmengine.Config): the config.
        *loaders (str): see :func:`pipelines`.
    """
    for path, steps in pipelines(cfg, *loaders):
        for number, step in enumerate(steps):
            if isinstance(step, dict) and step.get("max_length"):
                place = path if path == "processor" else f"{path}.{number}"
                yield f"{place}.max_length", step, steps


def training_length(cfg: Any) -> int | None:
    """Return the most tokens of a training sample, of several sets the first's."""
    found = length_limits(cfg, "train_dataloader")
    return next((step["max_length"] for _, step, _ in found), None)


def training_steps(cfg: Any) -> list:
    """Return the steps of all training pipelines, one behind the other."""
    return [step for _, steps in pipelines(cfg, "train_dataloader") for step in steps]


def sample_tokens(
    cfg: Any, model: Any, *loaders: str
) -> Iterator[tuple[str, int, int]]:
    """Yield path, tokens of an image and limit for every ``max_length``."""
    spec = getattr(model, "vision_spec", None)
    if spec is None or getattr(model, "image_connector", None) is None:
        return
    for where, step, steps in length_limits(cfg, *loaders):
        tokens = model.token_count(sample_layout(steps, model))
        limit = step["max_length"]
        if not step.get("count_images", True):
            limit += tokens - 1
        yield where, tokens, limit


def sample_layout(steps: Sequence[Any], model: Any) -> Any:
    """Return the layout that the first view transform of a pipeline gives.

    Args:
        steps (Sequence[dict]): of the pipeline.
        model (VisionLanguageModel): with a vision encoder.
    """
    import numpy as np

    from mmvlm.registry import TRANSFORMS
    from mmvlm.structures import ViewLayout

    spec, views = model.vision_spec, getattr(model, "requested_views", None)
    for step in views_in(steps):
        transform = TRANSFORMS.build(dict(step))
        transform.bind(VLMProcessor(spec=spec, requested_views=views))
        image = np.zeros((*_SAMPLE_IMAGE, 3), dtype=np.uint8)
        item = dict(images=[image], rng=np.random.default_rng(0))
        return transform(item)["layouts"][0]
    return views or ViewLayout(_SAMPLE_IMAGE, (spec.image_size, spec.image_size))
