"""Processes for tests: forked from one server that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Jobs:
    """Starts functions of ``engine_jobs`` in processes of their own."""

    def __init__(self, context):
        self.context = context

    def start(self, folder, function, *args, world=1, daemon=True):
        """Return the started processes of one job; daemons have no loader workers."""
        from engine_jobs_entry import entry, free_port

        port = free_port()
        processes = []
        for rank in range(world):
            env = {}
            if world > 1:
                env = dict(
                    RANK=str(rank),
                    LOCAL_RANK=str(rank),
                    WORLD_SIZE=str(world),
                    MASTER_ADDR="127.0.0.1",
                    MASTER_PORT=str(port),
                )
            log = str(folder / f"{function}-rank{rank}.log")
            process = self.context.Process(
                target=entry, args=(function, log, env, args), daemon=daemon
            )
            process.start()
            processes.append(process)
        return processes

    def run(self, folder, function, *args, world=1, timeout=600, daemon=True):
        """Run a job to its end; returns exit codes and the logs."""
        processes = self.start(folder, function, *args, world=world, daemon=daemon)
        for process in processes:
            process.join(timeout)
        hung = [process.is_alive() for process in processes]
        for process in processes:
            process.kill()
        logs = [(folder / f"{function}-rank{r}.log").read_text() for r in range(world)]
        assert not any(hung), f"ranks {hung} hang:\n" + "\n".join(
            x[-3000:] for x in logs
        )
        return [process.exitcode for process in processes], logs

    def check(self, folder, function, *args, world=1, **options):
        """Run a job that must succeed."""
        codes, logs = self.run(folder, function, *args, world=world, **options)
        assert codes == [0] * world, "\n".join(log[-4000:] for log in logs)
        return logs


@pytest.fixture(scope="session")
def jobs():
    """The fork server; its start takes the imports' seconds, jobs take none."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["engine_jobs"])
    before = dict(os.environ)
    paths = [str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")]
    os.environ.update(
        PYTHONPATH=os.pathsep.join(filter(None, paths)), OMP_NUM_THREADS="1"
    )
    from multiprocessing import forkserver

    forkserver.ensure_running()
    os.environ.clear()
    os.environ.update(before)
    return Jobs(context)
