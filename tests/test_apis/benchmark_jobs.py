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


def answer(log, rank, world_size, pause, model, out, data):
    """Run one rank, which takes a while for every batch."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size))
    os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    sys.argv = ["answer"]
    real = answering.ModelAnswers._batch

    def slowly(self, batch):
        time.sleep(pause)
        return real(self, batch)

    answering.ModelAnswers._batch = slowly
    options = BenchmarkOptions(
        data_root=data, num_workers=0, policy=BatchPolicy(tokens=120)
    )
    path = os.path.join(data, "letters.py")
    run_tool(lambda: run_benchmarks(*model, path, out, options) and None)
