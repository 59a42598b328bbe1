"""Find benchmarks by name: one, a suite of them, or all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmvlm.evaluation.benchmark import Benchmark

from .find import config_roots
from .load import load_config
from .problems import nearest

#: Below the configs: benchmarks, and lists of their names.
_BENCHMARKS, _SUITES = "_base_/benchmarks", "_base_/benchmarks/suites"


def shipped_benchmarks(folder: str = _BENCHMARKS) -> dict[str, Path]:
    """Return name to file of the benchmarks that come with the package."""
    found: dict[str, Path] = {}
    for root in config_roots():
        for path in sorted((root / folder).glob("*.py")):
            found.setdefault(path.stem, path)
    return found


def find_benchmarks(names: str | Iterable[str]) -> list[Benchmark]:
    """Return benchmarks, each checked by the doctor.

    Args:
        names (str | Iterable[str]): names of benchmarks or suites, paths of config
            files, or ``all``; a text holds several behind commas.

    Raises:
        FileNotFoundError: with the nearest names.
        ConfigError: for a config that is wrong.
    """
    names = names.split(",") if isinstance(names, str) else list(names)
    found: dict[str, Benchmark] = {}
    for path in _paths([name.strip() for name in names if name.strip()]):
        benchmark = load_benchmark(path)
        found.setdefault(benchmark.name, benchmark)
    return list(found.values())


def load_benchmark(path: str | os.PathLike) -> Benchmark:
    """Return the benchmark of a config file.

    Raises:
        ConfigError: when the doctor finds fault with it.
        ValueError: for a config that sets none.
    """
    cfg = load_config(path)
    if cfg.get("benchmark") is None:
        raise ValueError(f"{path}: sets no 'benchmark'.")
    return Benchmark(**cfg.benchmark.to_dict())


def _paths(names: Sequence[str]) -> list[Path]:
    known, suites = shipped_benchmarks(), shipped_benchmarks(_SUITES)
    paths: list[Path] = []
    for name in names:
        if name == "all":
            paths += known.values()
        elif name in known:
            paths.append(known[name])
        elif name in suites:
            paths += _paths(load_config(suites[name]).benchmarks)
        elif os.path.isfile(name):
            paths.append(Path(name))
        else:
            hint = nearest(name, [*known, *suites, "all"])
            raise FileNotFoundError(
                f"no benchmark or suite '{name}'.{hint} See: "
                "tools/misc/list_components.py --kind benchmark"
            )
    return paths
