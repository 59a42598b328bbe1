"""Scores that others published for shipped systems, from their metafiles."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import load

from mmvlm.config.find import config_roots
from mmvlm.config.load import load_config
from mmvlm.config.problems import nearest
from mmvlm.config.work_dir import CONFIG
from mmvlm.engine.runner.identity import leaves


@functools.cache
def _systems() -> dict[str, dict[str, float]]:
    """Return config name to benchmark to score, of all that have scores."""
    found: dict[str, dict[str, float]] = {}
    for root in config_roots():
        for path in sorted(root.glob("*/metafile.yml")):
            for model in load(path)["Models"]:
                scores: dict[str, float] = {}
                for result in model["Results"]:
                    scores.update(result["Metrics"])
                if scores:
                    found.setdefault(model["Name"], scores)
    return found


def published_scores(name: str) -> dict[str, float]:
    """Return the published scores of a shipped config, by benchmark.

    Names in capitals are those of sets and splits that no benchmark asks in the
    protocol of the score.

    Args:
        name (str): of the config, without folder.

    Raises:
        ValueError: for a config without such scores, with the nearest names.
    """
    if name not in _systems():
        raise ValueError(
            f"no scores of '{name}' are published.{nearest(name, _systems())} Configs "
            "with scores have 'Metrics' in configs/*/metafile.yml."
        )
    return _systems()[name]


def system_of(cfg: Config) -> str | None:
    """Return the config with published scores that a config is, if it is one.

    It has that name, or that of a config that a work dir was trained with, and every
    setting of its model but paths, and none besides: no tiny twin, no ablation from the
    command line.

    Args:
        cfg (Config): as ``load_config`` gives it.
    """
    path = Path(cfg.filename or "")
    names = [path.stem]
    if path.name == CONFIG:
        names = sorted(file.stem for file in path.parent.glob("*.py"))
    own = dict(leaves(cfg.get("model"), "model"))
    for name in set(names) & set(_systems()):
        shipped = dict(leaves(load_config(name, check=False).model, "model"))
        added = own.keys() - shipped.keys()
        if shipped.items() <= own.items() and all(
            _is_of_weights(path, shipped) for path in added
        ):
            return name
    return None


def _is_of_weights(path: str, shipped: Mapping[str, Any]) -> bool:
    """Whether a setting is in a ``config`` that a work dir took from its weights.

    See :func:`mmvlm.config.own_files.use_own_files`: only a part without ``config``
    gets one.
    """
    part, config, _ = path.partition(".config.")
    return bool(config) and not any(key.startswith(part + config) for key in shipped)


def published_row(system: str | None, benchmark: str) -> dict[str, Any]:
    """Return what a row of results says of the published score, if there is one."""
    scores = {} if system is None else published_scores(system)
    if benchmark not in scores:
        return {}
    return dict(published=float(scores[benchmark]), published_of=system)
