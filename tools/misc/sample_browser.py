"""Samples of datasets, taken through their pipelines step by step, to be shown."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sample_card import SampleCard, token_runs

from mmvlm.datasets.bad_samples import leaf_datasets, reason_of
from mmvlm.datasets.processor import VLMProcessor
from mmvlm.datasets.transforms.loading import LoadImages


def collect_card(
    dataset: Any, position: int, processor: VLMProcessor | None = None
) -> SampleCard:
    """Take a sample through the pipeline and keep what it was after each step.

    Regions are shown as they were before a codec wrote them as text.

    Args:
        dataset (ConversationDataset): bound to ``processor``, if there is one.
        position (int): among its samples.
        processor (VLMProcessor | None): without one only images are loaded.

    """
    facts = dataset.facts_at(position)
    card = SampleCard(
        facts["dataset"], facts["index"], facts["sample_id"], facts["path"]
    )
    at = "reader"
    try:
        card.record = dataset.record_at(position)
        card.annotation = dataset.annotation_at(position)
        item = dataset.item_at(position)
        card.conversation = item["conversation"]
        loader = next(_loaders(dataset), LoadImages())
        at = "LoadImages"
        card.images = loader(dict(item))["images"]
        for step in dataset.pipeline.transforms if processor is not None else ():
            at = type(step).__name__
            item = step(item)
            _keep(card, item, processor)
    except Exception as error:
        card.reason = f"{at}: {reason_of(error)}"
    listed = dataset.bad_samples.listed(**facts)
    if card.reason is None and listed is not None:
        card.reason = f"quarantined: {listed.reason}"
    return card


def _loaders(dataset: Any) -> Iterable[LoadImages]:
    return (t for t in dataset.pipeline.transforms if isinstance(t, LoadImages))


def _keep(card: SampleCard, item: dict, processor: VLMProcessor) -> None:
    """Keep views and tokens as soon as a step has made them."""
    if not card.views and item.get("views"):
        card.layouts = list(item["layouts"])
        card.views = [_pixels(views, processor) for views in item["views"]]
    if not card.runs and "encoded" in item:
        card.runs = token_runs(item["encoded"], processor.tokenizer)


def _pixels(views: Any, processor: VLMProcessor) -> np.ndarray:
    """Return views as uint8, normalised ones as they were before."""
    views = np.asarray(views)
    if views.dtype == np.uint8:
        return views
    mean, std = (
        np.asarray(getattr(processor.spec, key)).reshape(1, 3, 1, 1)
        for key in ("mean", "std")
    )
    return np.clip(np.rint((views * std + mean) * 255), 0, 255).astype(np.uint8)


def choose_samples(
    datasets: Sequence[Any],
    *,
    num: int = 12,
    ids: Sequence[str] | None = None,
    seed: int | None = None,
    quarantine: str | os.PathLike | None = None,
) -> list[tuple[Any, int]]:
    """Return (dataset, position) of the samples to show.

    Args:
        datasets (Sequence): readers and mixtures.
        num (int): samples of every reader, evenly spread.
        ids (Sequence[str] | None): these ids or record numbers instead.
        seed (int | None): draw ``num`` at random instead of evenly.
        quarantine (str | PathLike | None): the samples of such a file instead.

    Raises:
        ValueError: when an id is not found, or the file lists nothing here.
    """
    leaves = [leaf for dataset in datasets for leaf in leaf_datasets(dataset)]
    if quarantine is not None:
        return _listed(leaves, quarantine)[:num]
    if ids is not None:
        return _by_id(leaves, ids)
    chosen = []
    for leaf in leaves:
        count = min(num, len(leaf))
        places = np.unique(np.linspace(0, len(leaf) - 1, count).astype(int))
        if seed is not None:
            rng = np.random.default_rng(seed)
            places = np.sort(rng.choice(len(leaf), count, replace=False))
        chosen += [(leaf, place) for place in places.tolist()]
    return chosen


def _by_id(leaves: Sequence[Any], ids: Sequence[str]) -> list[tuple[Any, int]]:
    requested, found = dict.fromkeys(map(str, ids)), {}
    for leaf in leaves:
        for position in range(len(leaf)):
            facts = leaf.facts_at(position)
            for name in (facts["sample_id"], str(facts["index"])):
                if name in requested:
                    found.setdefault(name, (leaf, position))
    missing = [name for name in requested if name not in found]
    if missing:
        names = [leaf.name for leaf in leaves]
        raise ValueError(f"no sample of {names} has the id or number {missing}.")
    return [found[name] for name in requested]


def _listed(leaves: Sequence[Any], path: str | os.PathLike) -> list[tuple[Any, int]]:
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    requested = {(row["dataset"], int(row["index"])) for row in rows}
    chosen = [
        (leaf, position)
        for leaf in leaves
        for position in range(len(leaf))
        if (leaf.name, leaf.facts_at(position)["index"]) in requested
    ]
    if not chosen:
        raise ValueError(f"'{path}' lists no sample of {[x.name for x in leaves]}.")
    return chosen
