"""Train on TinyScenes in any format: datasets with a pipeline that fits them."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable
from typing import Any

from mmvlm.registry import DATASETS, SCENE_WRITERS


def format_datasets(
    folder: str, formats: Iterable[str], pipeline: list[dict], codec: dict
) -> list[dict]:
    """Return configs of training sets that a chat about images can learn from.

    Args:
        folder (str): where :func:`make_tiny_scenes` wrote these formats.
        formats (Iterable[str]): names in ``SCENE_WRITERS``.
        pipeline (list[dict]): of LLaVA's records; regions are written by ``codec``
            before the step that encodes.
        codec (dict): config in ``CODECS``.

    Raises:
        ValueError: for a format of documents, which have no questions, or of other
            inputs than images: the template and the model are not made for them.
        KeyError: for a format that was not written.
    """
    with open(os.path.join(folder, "tiny_scenes.json"), encoding="utf-8") as file:
        summary = json.load(file)
    configs = []
    for name in formats:
        if name not in summary["formats"]:
            raise KeyError(
                f"format '{name}' was not written to '{folder}', only "
                f"{summary['formats']}."
            )
        writer = SCENE_WRITERS.build(
            dict(type=name, folder=folder, image_format=summary["image_format"])
        )
        for number, reader in enumerate(writer.readers("train")):
            _check(name, reader)
            reader = copy.deepcopy(reader)
            known = reader.get("name") or reader["type"]
            reader["name"] = f"{name}-{number}-{known}"
            reader["pipeline"] = _with_codec(pipeline, codec)
            configs.append(reader)
    return configs


def _check(name: str, reader: dict[str, Any]) -> None:
    dataset = DATASETS.build(reader)
    kinds = {part for kind in set(dataset.modalities) for part in kind.split("+")}
    if kinds - {"image", "text"}:
        raise ValueError(
            f"format '{name}' holds {sorted(kinds)}; a model of images cannot train "
            "on it (see configs/onellm)."
        )
    if dataset.item_at(0)["conversation"].turns[0].role == "assistant":
        raise ValueError(
            f"format '{name}' holds documents without questions; they need the chat "
            "template 'plain'."
        )


def _with_codec(pipeline: list[dict], codec: dict) -> list[dict]:
    steps = [copy.deepcopy(dict(step)) for step in pipeline]
    places = [n for n, s in enumerate(steps) if s["type"] == "EncodeConversation"]
    steps.insert(places[0], dict(type="WriteRegions", codec=dict(codec)))
    return steps
