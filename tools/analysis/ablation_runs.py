"""Train and test a family of configs with several seeds; nothing is run twice."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from mmvlm.config import load_config
from mmvlm.config.origin import ConfigTrace

#: In a run's folder: what it was started with, the metrics, and the result.
STARTED, METRICS, FINISHED = "started.json", "metrics.json", "finished.json"
#: The metrics of a test with the images of other questions.
BLIND = "blind.json"
#: How its metrics are named among those of a run that is finished.
_BLIND = " blind"
#: Lines of a failed run's log that are shown.
TAIL_LINES = 20


@dataclass
class Variant:
    """One config of an ablation.

    Args:
        name (str): stem of the file.
        path (str): the file.
        cfg (Config): checked, with the command line's options.
        loads (dict[str, str]): option that names start weights -> name of the
            variant that they come from.
    """

    name: str
    path: str
    cfg: Config
    loads: dict[str, str] = field(default_factory=dict)


@dataclass
class Run:
    """One variant with one seed.

    Args:
        variant (Variant): what is trained.
        seed (int): of initialisation and data order.
        folder (Path): its work dir.
        tested (bool): whether it is scored; what only gives start weights is not.
        status (str): ``new``, ``interrupted``, ``finished``, ``failed`` or
            ``blocked`` (by the failure of a run that it loads).
        message (str): why it failed.
    """

    variant: Variant
    seed: int
    folder: Path
    tested: bool
    status: str = "new"
    message: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """Name and seed."""
        return self.variant.name, self.seed

    @property
    def needs(self) -> list[tuple[str, int]]:
        """Keys of the runs that must be finished before."""
        return [(name, self.seed) for name in self.variant.loads.values()]

    def result(self) -> dict[str, Any]:
        """Return what a finished run wrote."""
        return json.loads((self.folder / FINISHED).read_text(encoding="utf-8"))


def find_configs(paths: Sequence[str | os.PathLike]) -> list[str]:
    """Return config files: folders give those directly inside, sorted.

    Raises:
        FileNotFoundError: for a folder without configs.
        ValueError: when two files have one name.
    """
    files: list[str] = []
    for path in paths:
        if not os.path.isdir(path):
            files.append(str(path))
            continue
        inside = sorted(Path(path).glob("*.py"))
        if not inside:
            raise FileNotFoundError(f"no config (*.py) in the folder '{path}'.")
        files += map(str, inside)
    stems = [Path(file).stem for file in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ValueError(f"runs are named after their configs; twice: {twice}.")
    return files


def blind_options(dataset: Mapping[str, Any], key: str) -> list[str]:
    """Return the ``key=value`` texts that give all questions other images."""
    members = dataset.get("datasets")
    if members is None:
        return [f"{key}.shuffle_images=True"]
    parts = (blind_options(d, f"{key}.datasets.{n}") for n, d in enumerate(members))
    return [text for part in parts for text in part]


def read_options(options: Sequence[str]) -> dict[str, Any]:
    """Parse ``key=value`` texts as ``--cfg-options`` does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    found = parser.parse_args(["--cfg-options", *options] if options else [])
    return found.cfg_options or {}


class Ablation:
    """A family of configs, seeds, and a folder that remembers what is done.

    Every run has the folder ``work_dir/<config>/seed_<seed>``. A run is finished
    when ``finished.json`` is there; it is then left alone. An interrupted run goes
    on from its last checkpoint. A run whose config has changed since it was
    started is refused.

    Stages: where ``load_from`` of a config names a path whose last part is the
    name of another config of the family (as ``work_dirs/<name>`` does), that
    config is trained first, with the same seed, and its work dir is read. It is
    not tested then. Any other path is left as it is.

    Args:
        configs (Sequence): files, or folders of them.
        work_dir (str | PathLike): where all runs go.
        seeds (int): the seeds are 0, 1, ...
        options (Sequence[str]): ``key=value`` for all configs.
        tools (str | PathLike): folder of ``train.py`` and ``test.py``.
        parent (str | None): name of the config that others are compared with;
            None takes the one that others inherit from, or else the first.
        blind (bool): test the first seed of every config once more, with the images
            of other questions.

    Raises:
        ConfigError: for a config that the doctor refuses.
        ValueError: for an unknown parent, stages in a circle, or a run that was
            started with another config.
    """

    def __init__(
        self,
        configs: Sequence[str | os.PathLike],
        work_dir: str | os.PathLike,
        *,
        tools: str | os.PathLike,
        seeds: int = 3,
        options: Sequence[str] = (),
        parent: str | None = None,
        blind: bool = False,
    ) -> None:
        if seeds < 1:
            raise ValueError(f"seeds={seeds}: expected 1 or more.")
        self.work_dir, self.tools = Path(work_dir), Path(tools)
        self.options, self.blind = list(options), blind
        parsed = read_options(self.options)
        files = find_configs(configs)
        self.variants = {
            Path(f).stem: Variant(Path(f).stem, f, load_config(f, dict(parsed)))
            for f in files
        }
        for variant in self.variants.values():
            variant.loads = dict(self._stages(variant))
        loaded = {n for v in self.variants.values() for n in v.loads.values()}
        self.results = [name for name in self.variants if name not in loaded]
        if not self.results:
            raise ValueError(f"load_from goes in a circle: {sorted(loaded)}.")
        self.parent = parent or self._find_parent()
        if self.parent not in self.results:
            raise ValueError(
                f"parent='{self.parent}': expected one of {self.results}, the configs "
                "that are tested."
            )
        self.runs = {
            (name, seed): Run(
                variant,
                seed,
                self.work_dir / name / f"seed_{seed}",
                tested=name in self.results
                and bool(variant.cfg.get("test_dataloader")),
            )
            for seed in range(seeds)
            for name, variant in self.variants.items()
        }
        for run in self.runs.values():
            self._read_status(run)

    def _stages(self, variant: Variant) -> Iterator[tuple[str, str]]:
        """Yield the options that name the start weights, and whose they are."""
        sources = variant.cfg.get("load_from") or []
        single = isinstance(sources, (str, dict))
        for number, entry in enumerate([sources] if single else sources):
            key = "load_from" if single else f"load_from.{number}"
            path = entry if isinstance(entry, str) else entry["path"]
            name = Path(path).name
            if name in self.variants and name != variant.name:
                yield key if isinstance(entry, str) else f"{key}.path", name

    def _find_parent(self) -> str:
        """Return the config that most others inherit from, or the first."""
        chains = [ConfigTrace.read(self.variants[n].path).files for n in self.results]
        stems = [{Path(file).stem for file in chain} for chain in chains]
        return max(self.results, key=lambda name: sum(name in stem for stem in stems))

    # What a run is -----------------------------------------------------------

    def options_of(self, run: Run) -> list[str]:
        """Return the ``key=value`` texts of a run: the user's and its stages'."""
        stages = [
            f"{key}={self.runs[name, run.seed].folder}"
            for key, name in run.variant.loads.items()
        ]
        return [*self.options, *stages]

    def commands(self, run: Run) -> list[list[str]]:
        """Return the commands of a run: training and, if it is scored, its tests."""
        options = self.options_of(run)
        more = ["--cfg-options", *options] if options else []
        python, folder = sys.executable, str(run.folder)
        config = run.variant.path
        train = [python, str(self.tools / "train.py"), config, "--work-dir", folder]
        train += ["--seed", str(run.seed), "--resume", *more]
        if not run.tested:
            return [train]
        test = [python, str(self.tools / "test.py"), config, folder]
        test += ["--work-dir", f"{folder}/test", "--out"]
        if not self.is_blind(run):
            return [train, [*test, f"{folder}/{METRICS}", *more]]
        dataset = run.variant.cfg.test_dataloader.dataset
        shuffled = [*options, *blind_options(dataset, "test_dataloader.dataset")]
        blind = [*test, f"{folder}/{BLIND}", "--cfg-options", *shuffled]
        return [train, [*test, f"{folder}/{METRICS}", *more], blind]

    def is_blind(self, run: Run) -> bool:
        """Whether a run is also tested with the images of other questions."""
        return self.blind and run.tested and run.seed == 0

    def fingerprint(self, run: Run) -> str:
        """Return a hash of the config that a run trains."""
        cfg = run.variant.cfg.copy()
        cfg.merge_from_dict(
            {key: f"{name}/seed_{run.seed}" for key, name in run.variant.loads.items()}
        )
        return hashlib.sha256(cfg.pretty_text.encode()).hexdigest()[:16]

    def _read_status(self, run: Run) -> None:
        """Find out how far a run has come; refuse one of another config."""
        mark = run.folder / STARTED
        if not mark.is_file():
            return
        started = json.loads(mark.read_text(encoding="utf-8"))
        if started["fingerprint"] != self.fingerprint(run):
            raise ValueError(
                f"'{run.folder}' was started with another content of "
                f"{run.variant.path} or other --cfg-options. Give another --work-dir, "
                "or remove that folder."
            )
        finished = run.folder / FINISHED
        done = finished.is_file() and (
            not self.is_blind(run)
            or any(name.endswith(_BLIND) for name in _metrics(finished))
        )
        run.status = "finished" if done else "interrupted"

    # Running -----------------------------------------------------------------

    def run(self, jobs: int = 1, report: Callable[[str], None] = str) -> list[Run]:
        """Run what is not finished; a failure stops only what needs it.

        Args:
            jobs (int): runs at a time; CPU threads are shared among them.
            report (Callable[[str], None]): takes a line when a run begins or ends.

        Returns:
            list[Run]: those that failed or were blocked.
        """
        if jobs < 1:
            raise ValueError(f"jobs={jobs}: expected 1 or more.")
        self._processes: list[subprocess.Popen] = []
        waiting = [r for r in self.runs.values() if r.status != "finished"]
        pending: dict[Future, Run] = {}
        with ThreadPoolExecutor(jobs) as pool:
            try:
                while waiting or pending:
                    for run in self._ready(waiting, report):
                        waiting.remove(run)
                        pending[pool.submit(self._execute, run, jobs, report)] = run
                    if not pending:
                        continue
                    for future in wait(pending, return_when=FIRST_COMPLETED).done:
                        future.result()
                        pending.pop(future)
            except BaseException:
                for process in self._processes:
                    process.terminate()
                pool.shutdown(cancel_futures=True)
                raise
        return [r for r in self.runs.values() if r.status in ("failed", "blocked")]

    def _ready(self, waiting: list[Run], report: Callable[[str], None]) -> list[Run]:
        """Return the runs whose stages are finished; take out the blocked ones."""
        ready = []
        for run in list(waiting):
            before = {key: self.runs[key].status for key in run.needs}
            bad = [k for k, status in before.items() if status in ("failed", "blocked")]
            if bad:
                waiting.remove(run)
                run.status = "blocked"
                run.message = f"needs {bad[0][0]} of seed {bad[0][1]}, which failed"
                report(f"{run.variant.name} seed {run.seed}: blocked, {run.message}")
            elif all(status == "finished" for status in before.values()):
                ready.append(run)
        return ready

    def _execute(self, run: Run, jobs: int, report: Callable[[str], None]) -> None:
        """Train and test one run in processes of their own."""
        from mmvlm.engine.runner.checkpoint import write_atomic

        name = f"{run.variant.name} seed {run.seed}"
        verb = "resumed" if run.status == "interrupted" else "started"
        report(f"{name}: {verb}, log {run.folder}/train.log")
        run.folder.mkdir(parents=True, exist_ok=True)
        mark = json.dumps(
            dict(fingerprint=self.fingerprint(run), config=run.variant.path)
        )
        write_atomic(run.folder / STARTED, mark)
        start = time.perf_counter()
        stages = ("train", "test", "blind")
        for command, stage in zip(self.commands(run), stages, strict=False):
            log = run.folder / f"{stage}.log"
            code = self._call(command, log, jobs)
            if code:
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
                tail = "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])
                run.status = "failed"
                run.message = f"{stage}.py ended with {code}; {log}:\n{tail}"
                report(f"{name}: failed, {run.message}")
                return
        seconds = time.perf_counter() - start
        content = dict(config=run.variant.path, seed=run.seed, seconds=seconds)
        if run.tested:
            content["metrics"] = _metrics(run.folder / METRICS)
        if self.is_blind(run):
            blind = _metrics(run.folder / BLIND)
            content["metrics"] |= {name + _BLIND: blind[name] for name in blind}
        text = json.dumps(content, indent=2)
        write_atomic(run.folder / FINISHED, text)
        run.status = "finished"
        report(f"{name}: finished after {seconds:.0f} s")

    def _call(self, command: list[str], log: Path, jobs: int) -> int:
        """Run a command into a log file; returns its exit code."""
        env = dict(os.environ)
        root = str(self.tools.resolve().parent)
        paths = [root, env.get("PYTHONPATH", "")]
        env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        if jobs > 1:
            threads = max(1, (os.cpu_count() or 1) // jobs)
            env.setdefault("OMP_NUM_THREADS", str(threads))
        with open(log, "a", encoding="utf-8") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=env)
            self._processes.append(process)
            try:
                return process.wait()
            finally:
                self._processes.remove(process)


def _metrics(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))["metrics"]
