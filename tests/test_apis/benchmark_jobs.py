"""What ranks of a benchmark run do, in processes forked from one that has imported."""

import os
import sys
import time

import mmvlm  # noqa: F401  before mmengine and transformers

import letters  # noqa: F401  isort: skip
from mmvlm.apis.benchmarks import BenchmarkOptions, run_benchmarks
from mmvlm.engine.benchmarks import answering
from mmvlm.engine.benchmarks.planner import BatchPolicy
from mmvlm.utils.entry import run_tool


def answer(
    log, rank, world_size, pause, model, out, benchmark, tokens=120, shares=None
):
    """Run one rank, which takes a while for every batch.

    With ``shares``, whether prompts share what they begin with, token ids are kept.
    """
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size))
    os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    sys.argv = ["answer"]
    real = answering.ModelAnswers._batch

    def slowly(self, batch):
        time.sleep(pause)
        return real(self, batch)

    answering.ModelAnswers._batch = slowly
    if shares is not None:
        keep_ids()
        answering.ModelAnswers._can_share = lambda self: shares
    options = BenchmarkOptions(
        data_root=os.path.dirname(benchmark),
        num_workers=0,
        policy=BatchPolicy(tokens=tokens),
    )
    run_tool(lambda: run_benchmarks(*model, benchmark, out, options) and None)


def keep_ids():
    """Let records hold the ids of replies."""
    real = answering._answered

    def answered(question, sample):
        record = real(question, sample)
        record["meta"]["ids"] = list(sample.pred_ids)
        return record

    answering._answered = answered
