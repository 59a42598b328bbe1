"""Benchmarks by several processes: killed, gone, or all at work."""

import json
import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest
from benchmark_jobs import answer
from letters import NUM_ITEMS, write_letters, write_mixed

from mmvlm.apis.benchmarks import BenchmarkOptions, run_benchmarks
from mmvlm.config.benchmarks import load_benchmark
from mmvlm.datasets.collate import collate_flat
from mmvlm.engine.benchmarks.questions import Questions

pytestmark = [pytest.mark.slow, pytest.mark.multiproc]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_letters(tmp_path_factory.mktemp("data"))


@pytest.fixture
def run(config_file, checkpoint, data, tmp_path):
    def run(out="out"):
        options = BenchmarkOptions(num_workers=0, data_root=str(data))
        path = str(data / "letters.py")
        return run_benchmarks(config_file, checkpoint, path, tmp_path / out, options)

    return run


class Processes:
    """Starts the ranks of a run as processes of their own, without a launcher."""

    def __init__(self, model, data, folder):
        self.model, self.data, self.folder = list(map(str, model)), str(data), folder
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["benchmark_jobs"])

    def start(self, world_size, pause=0.0, **options):
        benchmark = os.path.join(self.data, "letters.py")
        options = dict(out=str(self.folder / "out"), benchmark=benchmark) | options
        processes = []
        for rank in range(world_size):
            log = str(self.folder / f"rank{rank}.log")
            processes.append(
                self.context.Process(
                    target=answer,
                    args=(log, rank, world_size, pause, self.model),
                    kwargs=options,
                )
            )
            processes[-1].start()
        return processes

    def said(self, rank):
        return (self.folder / f"rank{rank}.log").read_text()

    def wait_for(self, count):
        """Wait until so many answers more are there."""
        goal, deadline = self.num_answers() + count, time.monotonic() + 120
        while self.num_answers() < goal:
            assert time.monotonic() < deadline, [self.said(0), self.num_answers()]
            time.sleep(0.02)

    def num_answers(self):
        files = (self.folder / "out/letters").glob("answers*.jsonl")
        return sum(path.read_bytes().count(b"\n") for path in files)


@pytest.fixture
def processes(config_file, checkpoint, data, tmp_path, monkeypatch):
    paths = [str(ROOT), str(Path(__file__).parent)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Processes((config_file, checkpoint), data, tmp_path)


def test_killed_runs_lose_no_answer_with_any_number_of_processes(
    processes, run, tmp_path
):
    run("whole")
    draw = random.Random(0)
    for world_size in (2, 1, 3):
        ranks = processes.start(world_size, pause=0.2)
        processes.wait_for(draw.randrange(2, 6))
        for rank in ranks:
            rank.kill()
            rank.join()
    assert processes.num_answers() < NUM_ITEMS

    for rank in (ranks := processes.start(2)):
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0], processes.said(0)
    for name in ("answers.jsonl", "scored.jsonl"):
        whole = (tmp_path / "whole/letters" / name).read_text()
        assert (tmp_path / "out/letters" / name).read_text() == whole
    rows = [
        json.loads((tmp_path / name / "letters/results.json").read_text())
        for name in ("whole", "out")
    ]
    assert rows[0].pop("counts")["missing"] == rows[1].pop("counts")["missing"] == 0
    assert rows[0] == rows[1]


def test_a_dead_rank_ends_the_run_and_a_second_run_is_refused(processes, run):
    ranks = processes.start(2, pause=0.5)
    processes.wait_for(3)
    with pytest.raises(RuntimeError, match="another process writes to"):
        run()
    ranks[1].kill()

    ranks[0].join()

    assert ranks[0].exitcode == 1
    assert "rank 1 of 2 has ended before its work was done" in processes.said(0)


@pytest.mark.parametrize("count", [32, 512])
def test_replies_are_those_of_prompts_alone_for_any_number_of_processes(
    processes, talk, tmp_path, count
):
    path = write_mixed(tmp_path / "data", count)
    benchmark = load_benchmark(path)
    questions = Questions(
        benchmark, talk.processor, gen=benchmark.generation, data_root=path.parent
    )
    alone = []
    for number in range(len(questions)):
        batch = collate_flat([questions[number].item])
        batch = talk.model.data_preprocessor(batch, False)
        (sample,) = talk.model.predict(**batch, **questions.gen)
        alone.append(list(sample.pred_ids))
    assert len({len(ids) for ids in alone}) > 2

    for world_size, tokens, shares in (
        (1, 16384, True),
        (2, 300, True),
        (3, 900, False),
    ):
        out = tmp_path / f"out{world_size}"
        ranks = processes.start(
            world_size,
            out=str(out),
            benchmark=str(path),
            tokens=tokens,
            shares=shares,
        )
        for rank in ranks:
            rank.join()
        assert {rank.exitcode for rank in ranks} == {0}, processes.said(0)
        records = [json.loads(line) for line in (out / "mixed/answers.jsonl").open()]
        assert [one["meta"]["ids"] for one in records] == alone, world_size
