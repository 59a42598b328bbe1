"""Benchmarks as the validation of a training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.base_loop import BaseLoop

from mmvlm.config.benchmarks import find_benchmarks
from mmvlm.evaluation.scoring import RESULTS
from mmvlm.evaluation.tables import text, write_tables
from mmvlm.models.utils.feature_cache import FeatureCache
from mmvlm.registry import LOOPS
from mmvlm.utils import signals
from mmvlm.utils.dist import broadcast_object, gather_integers, get_dist_info

from ..benchmarks.answering import settings_of
from ..benchmarks.choosing import flips_of, model_answers
from ..benchmarks.planner import BatchPolicy
from ..benchmarks.questions import Questions
from ..benchmarks.ranks import Ranks
from ..benchmarks.run import BenchmarkRun
from ..optimizers.optim_wrapper import precision
from .eval_loops import validation_dtype


@LOOPS.register_module()
class BenchmarkValLoop(BaseLoop):
    """Validate on benchmarks, as tools/test.py asks them, each with a cap.

    Takes the place of ``val_dataloader`` and ``val_evaluator``. Metrics are named
    ``<benchmark>/<metric>``; ``checkpoint.save_best='pope/f1'`` keeps the best weights.
    Answers lie in ``<work dir>/benchmarks/iter_<n>``. Training goes on as if nothing
    had been asked.

    Args:
        runner (VLMRunner): whose model is asked.
        dataloader (Any): not used.
        evaluator (Any): not used.
        benchmarks (str | Sequence[str]): see :func:`find_benchmarks`.
        limit (int | None): first questions of each.
        data_root (str | None): folder that stands in for ``data``.
        dtype (str | None): see :class:`VLMValLoop`.
        batch_tokens (int): most tokens of a batch.
        deterministic (bool): each question by itself, as ``--deterministic`` of
            tools/test.py; without it half precision is warned of.
        draws (int): resamples of the intervals.
    """

    #: The runner asks for no dataloader and no evaluator beside it.
    brings_data = True

    def __init__(
        self,
        runner: Any,
        dataloader: Any = None,
        evaluator: Any = None,
        *,
        benchmarks: str | Sequence[str],
        limit: int | None = 500,
        data_root: str | None = None,
        dtype: str | None = None,
        batch_tokens: int = 16384,
        deterministic: bool = False,
        draws: int = 1000,
    ) -> None:
        self._runner = runner
        self.benchmarks = find_benchmarks(benchmarks)
        self.limit, self.data_root, self.draws = limit, data_root, draws
        self.dtype, self.policy = precision(dtype), BatchPolicy(batch_tokens)
        self.deterministic = deterministic
        if not self.benchmarks:
            raise ValueError(f"val_cfg.benchmarks={benchmarks!r}: names none.")
        #: mmengine's hooks tell its length.
        self.dataloader = self.questions

    @cached_property
    def questions(self) -> list[Questions]:
        """The questions of each benchmark; files that are missing show here."""
        return [
            Questions(
                one,
                self.runner.processor,
                gen=settings_of(self.runner.cfg, one),
                data_root=self.data_root,
                limit=self.limit,
            )
            for one in self.benchmarks
        ]

    def run(self) -> dict[str, float]:
        """Ask, score and return the metrics, the same on every rank.

        Raises:
            ValueError: for a model whose weights are spread over ranks.
            Stopped: on every rank, when one noted a signal during training.
        """
        model = self.runner.model
        if self.runner.strategy.shards_weights:
            raise ValueError(
                "BenchmarkValLoop: every rank answers by itself, so it needs whole "
                "weights; FSDP and ZeRO-3 spread them. Use VLMValLoop, or "
                "tools/test.py later."
            )
        self.runner.call_hook("before_val")
        self.runner.call_hook("before_val_epoch")
        model.eval()
        metrics = self._metrics(model)
        self.runner.call_hook("after_val_epoch", metrics=metrics)
        self.runner.call_hook("after_val")
        return metrics

    def _metrics(self, model: torch.nn.Module) -> dict[str, float]:
        out = Path(self.runner.work_dir, "benchmarks", f"iter_{self.runner.iter}")
        ranks = Ranks(out, *get_dist_info())
        dtype = validation_dtype(self.runner, self.dtype)
        cache = FeatureCache()  # of these weights
        runs = [
            BenchmarkRun(
                out,
                questions,
                model_answers(
                    *(model, questions, self.policy, dtype, cache),
                    deterministic=self.deterministic,
                ),
                policy=self.policy,
            )
            for questions in self.questions
        ]

        def prepare() -> None:
            for run in runs:
                # Training anew in the same folder has other weights.
                run.prepare({}, fresh=True)

        try:
            ranks.begin(prepare)
            for run in runs:
                run.run_share(ranks, stop=signals.received)
            number = max(one[0] for one in gather_integers([signals.received()]))
            if number:
                raise signals.Stopped(number)
            rows = [self._row(run, ranks, dtype) for run in runs]
            if ranks.rank == 0:
                write_tables(out, rows)
                self.runner.logger.info(f"Benchmarks, {out}:\n{text(rows)}")
        finally:
            ranks.end()
        return broadcast_object(
            {
                f"{row['benchmark']}/{name}": value
                for row in rows
                for name, value in row.get("metrics", {}).items()
            }
        )

    def _row(
        self, run: BenchmarkRun, ranks: Ranks, dtype: torch.dtype | None
    ) -> dict[str, Any]:
        """Score a benchmark on rank 0; the others wait for its file."""
        name = run.benchmark.name
        if ranks.rank:
            done = run.folder / RESULTS
            ranks.wait_until(done.is_file, f"rank 0 to score {name}")
            return {"benchmark": name}
        ranks.wait_for(lambda rank: run.is_done(ranks, rank), f"answers to {name}")
        flips = flips_of(
            *(run, self.runner.model, self.policy, dtype),
            deterministic=self.deterministic,
        )
        facts = dict(limit=self.limit, deterministic=self.deterministic)
        chosen = {key: value for key, value in facts.items() if value}
        return run.finish(draws=self.draws, facts=chosen | flips).row
