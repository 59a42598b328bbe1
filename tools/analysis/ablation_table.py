"""One table of an ablation: scores over seeds, cost, and what differs."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from ablation_runs import Ablation, Run
from flops import count_flops

from mmvlm.config.diff import diff_configs
from mmvlm.engine.hooks.progress_hook import read_scalars

#: Differences of these say nothing about the model.
_IGNORED = ("load_from", "work_dir", "resume")


@dataclass
class Score:
    """A number over seeds.

    Args:
        mean (float): over the finished seeds.
        std (float | None): of a sample; None for a single seed.
        delta (float | None): to the parent, mean over the seeds that both have.
        delta_std (float | None): of those differences, seed by seed.
    """

    mean: float
    std: float | None = None
    delta: float | None = None
    delta_std: float | None = None


@dataclass
class Line:
    """One variant.

    Args:
        name (str): of the config.
        changed (list[str]): keys that differ from the parent, with both values.
        seeds (list[int]): finished.
        parameters, trainable (int): weights.
        forward, training (int): FLOP of one sample.
        step_seconds, memory_gib (float | None): median and peak of its training.
        scores (dict[str, Score]): by metric.
        values (dict[str, dict[int, float]]): metric to seed to number.
    """

    name: str
    changed: list[str]
    seeds: list[int]
    parameters: int
    trainable: int
    forward: int
    training: int
    step_seconds: float | None = None
    memory_gib: float | None = None
    scores: dict[str, Score] = field(default_factory=dict)
    values: dict[str, dict[int, float]] = field(default_factory=dict)


def collect(ablation: Ablation) -> list[Line]:
    """Return a line per tested config, the parent first; unfinished runs are left out.

    Args:
        ablation (Ablation): its finished runs are read.
    """
    names = [ablation.parent, *(n for n in ablation.results if n != ablation.parent)]
    lines = [_line(ablation, name) for name in names]
    parent = lines[0]
    for line in lines:
        for metric, by_seed in line.values.items():
            numbers = list(by_seed.values())
            score = Score(mean(numbers), stdev(numbers) if len(numbers) > 1 else None)
            base = parent.values.get(metric, {})
            pairs = [v - base[seed] for seed, v in by_seed.items() if seed in base]
            if pairs and line is not parent:
                score.delta = mean(pairs)
                score.delta_std = stdev(pairs) if len(pairs) > 1 else None
            line.scores[metric] = score
    return lines


def _line(ablation: Ablation, name: str) -> Line:
    variant = ablation.variants[name]
    parent = ablation.variants[ablation.parent].cfg
    flops = count_flops(variant.cfg)
    runs = [
        run
        for run in ablation.runs.values()
        if run.variant.name == name and run.status == "finished"
    ]
    line = Line(
        name=name,
        changed=[
            str(difference)
            for difference in diff_configs(parent, variant.cfg)
            if difference.path.split(".")[0] not in _IGNORED
        ],
        seeds=[run.seed for run in runs],
        parameters=sum(row.parameters for row in flops.parts),
        trainable=sum(row.trainable for row in flops.parts),
        forward=flops.forward,
        training=flops.forward + flops.backward,
    )
    line.step_seconds, line.memory_gib = _speed(runs)
    for run in runs:
        for metric, value in (run.result().get("metrics") or {}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                line.values.setdefault(metric, {})[run.seed] = float(value)
    return line


def _speed(runs: Sequence[Run]) -> tuple[float | None, float | None]:
    """Return median seconds per step and peak memory of the runs' trainings.

    The first line of a log holds the warm-up and is left out when there are more.
    """
    seconds: list[float] = []
    memory: list[float] = []
    for run in runs:
        rows = [r for r in read_scalars(str(run.folder)) if "seconds_per_step" in r]
        seconds += [r["seconds_per_step"] for r in rows[1:] or rows]
        memory += [r["memory_gib"] for r in rows]
    return (median(seconds) if seconds else None), max(memory, default=None)


def choose_metrics(lines: Sequence[Line], patterns: Sequence[str] = ()) -> list[str]:
    """Return the metrics to show, in the order of the first line that has them.

    Args:
        lines (Sequence[Line]): of :func:`collect`.
        patterns (Sequence[str]): as in ``*/accuracy*``; without any, names with
            ``accuracy``, or all when there is none.

    Raises:
        ValueError: for a pattern that fits no metric, when there are any.
    """
    known = list(dict.fromkeys(metric for line in lines for metric in line.values))
    if not patterns:
        return [m for m in known if "accuracy" in m] or known
    unused = [p for p in patterns if not any(_fits(m, p) for m in known)]
    if unused and known:
        raise ValueError(f"metrics {unused}: none fits, there are {known}.")
    return [m for m in known if any(_fits(m, p) for p in patterns)]


def _fits(metric: str, pattern: str) -> bool:
    """Whether a pattern names a metric, or the sighted one of a blind metric."""
    return fnmatch(metric, pattern) or fnmatch(metric.removesuffix(" blind"), pattern)


def _is_share(lines: Sequence[Line], metric: str) -> bool:
    values = [v for line in lines for v in line.values.get(metric, {}).values()]
    return bool(values) and all(0 <= v <= 1 for v in values)


def _cell(score: Score | None, percent: bool) -> str:
    """Write ``55.2 +- 1.0 (+3.1)``."""
    if score is None:
        return "-"
    factor, digits = (100, 1) if percent else (1, 4)
    text = f"{score.mean * factor:.{digits}f}"
    if score.std is not None:
        text += f" +- {score.std * factor:.{digits}f}"
    if score.delta is not None:
        text += f" ({score.delta * factor:+.{digits}f})"
    return text


def markdown(lines: Sequence[Line], metrics: Sequence[str], missing: int = 0) -> str:
    """Return the table and below it the keys that every config changes.

    Args:
        lines (Sequence[Line]): the parent first.
        metrics (Sequence[str]): columns.
        missing (int): runs that are not finished, which is said.
    """
    short = _short_names(metrics)
    shares = {m: _is_share(lines, m) for m in metrics}
    heads = ["config", *(f"{short[m]} %" if shares[m] else short[m] for m in metrics)]
    heads += ["seeds", "parameters", "trained", "GFLOP", "training GFLOP"]
    heads += ["s / step", "GiB"]
    rows = [heads, ["---"] * len(heads)]
    labels = _short_configs([line.name for line in lines])
    for number, line in enumerate(lines):
        name = f"{labels[number]} (parent)" if number == 0 else labels[number]
        cells = [_cell(line.scores.get(m), shares[m]) for m in metrics]
        sizes = [f"{line.parameters:,}", f"{line.trainable:,}"]
        flops = [f"{line.forward / 1e9:.3f}", f"{line.training / 1e9:.3f}"]
        speed = [_number(line.step_seconds, 3), _number(line.memory_gib, 2)]
        rows.append([name, *cells, str(len(line.seeds)), *sizes, *flops, *speed])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    notes = [
        "Mean +- standard deviation over seeds; in brackets the difference to the "
        "parent, mean over seeds. FLOP of one sample, multiply-add as 2."
    ]
    if any(metric.endswith(" blind") for metric in metrics):
        notes.append("blind: the first seed, with the images of other questions.")
    if missing:
        notes.append(f"{missing} runs are not finished and not in the table.")
    changes = []
    for number, line in enumerate(lines[1:], 1):
        keys = "\n".join(f"- `{change}`" for change in line.changed) or "- nothing"
        changes.append(f"{labels[number]} changes\n\n{keys}")
    return "\n\n".join([table, *notes, *changes]) + "\n"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _short_names(metrics: Sequence[str]) -> dict[str, str]:
    """Drop a first word that all metrics share."""
    first = {metric.split("/")[0] for metric in metrics}
    if len(first) == 1 and all("/" in metric for metric in metrics):
        return {metric: metric.split("/", 1)[1] for metric in metrics}
    return {metric: metric for metric in metrics}


def _short_configs(names: Sequence[str]) -> list[str]:
    """Keep the parts of config names in which they differ."""
    split = [name.split("_") for name in names]
    if len(names) < 2 or len({len(parts) for parts in split}) > 1:
        return list(names)
    keep = [
        i for i, parts in enumerate(zip(*split, strict=True)) if len(set(parts)) > 1
    ]
    short = ["_".join(parts[i] for i in keep) for parts in split]
    return short if all(short) else list(names)


def write_csv(lines: Sequence[Line], path: str | os.PathLike) -> None:
    """Write every metric and cost, one row per config, unrounded."""
    metrics = list(dict.fromkeys(m for line in lines for m in line.scores))
    columns = ("parameters", "trainable", "forward", "training")
    columns += ("step_seconds", "memory_gib")
    parts = ("mean", "std", "delta", "delta_std")
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        heads = [f"{m}:{part}" for m in metrics for part in parts]
        writer.writerow(["config", "seeds", "changed", *columns, *heads])
        for line in lines:
            empty = Score(float("nan"))
            cells = [
                getattr(line.scores.get(m, empty), part)
                for m in metrics
                for part in parts
            ]
            seeds = " ".join(map(str, line.seeds))
            costs = [getattr(line, column) for column in columns]
            writer.writerow([line.name, seeds, "; ".join(line.changed), *costs, *cells])


def write_tables(
    ablation: Ablation, lines: Sequence[Line], metrics: Sequence[str]
) -> dict[str, Path]:
    """Write ``ablation.md``, ``.csv`` and, when there are scores, ``.png``.

    Returns:
        dict[str, Path]: kind to file.
    """
    from ablation_plot import draw_ablation

    folder = ablation.work_dir
    folder.mkdir(parents=True, exist_ok=True)
    files = {kind: folder / f"ablation.{kind}" for kind in ("md", "csv", "png")}
    missing = sum(r.tested and r.status != "finished" for r in ablation.runs.values())
    files["md"].write_text(markdown(lines, metrics, missing), encoding="utf-8")
    write_csv(lines, files["csv"])
    labels = _short_configs([line.name for line in lines])
    short = _short_names(metrics)
    panels: list[dict[str, Any]] = [
        dict(
            title=short[metric],
            percent=_is_share(lines, metric),
            bars=[
                (label, list(line.values.get(metric, {}).values()))
                for label, line in zip(labels, lines, strict=True)
            ],
        )
        for metric in metrics
        if any(line.values.get(metric) for line in lines)
    ]
    if not panels:
        files.pop("png")
    else:
        draw_ablation(panels, files["png"])
    return files
