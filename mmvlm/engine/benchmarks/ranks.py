"""Ranks that meet through files: who is at work, and who is gone."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmvlm.utils.files import write_atomic, writing

#: Seconds between two looks at a file, and between two words about waiting.
_LOOK, _WORD = 0.2, 60.0


#: Seconds for a killed holder to vanish; another rank's look takes a moment as well.
_PATIENCE = 3.0


class RankLost(RuntimeError):
    """Another rank of the run has ended before its work was done."""


class Ranks:
    """The processes of a run, each holding a lock as long as it lives.

    No collective is used: a rank may be as slow as it likes, and the system frees
    the lock of one that is killed.

    Args:
        folder (str | PathLike): of the run, on a file system with locks.
        rank (int): of this process.
        world_size (int): processes of the run.
    """

    def __init__(self, folder: str | os.PathLike, rank: int, world_size: int) -> None:
        self.folder, self.rank, self.world_size = Path(folder), rank, world_size
        self._locks: list[int] = []
        self._seen: set[int] = set()

    @classmethod
    def from_environment(cls, folder: str | os.PathLike) -> Ranks:
        """Return the ranks that torchrun or Slurm started, one without a launcher."""
        for names in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
            values = [os.environ.get(name, "") for name in names]
            if all(value.isdigit() for value in values):
                return cls(folder, *map(int, values))
        return cls(folder, 0, 1)

    def _path(self, rank: int) -> Path:
        return self.folder / f".rank{rank}.lock"

    def begin(self, prepare: Callable[[], Any]) -> None:
        """Start the run: rank 0 prepares the folder, then all go to work.

        Args:
            prepare (Callable): called on rank 0 alone, while no other run is at work.

        Raises:
            RuntimeError: when another run writes to the folder.
        """
        if self.rank == 0:
            self._take(self.folder / ".run.lock")
            prepare()
            run = os.urandom(8).hex()
        else:
            self.wait_until(lambda: self._is_locked(0), "rank 0 to prepare the run")
            run = self._run_of(0)
        # A lock that is held so always names its run.
        write_atomic(self._path(self.rank).with_suffix(".run"), run)
        self._take(self._path(self.rank))
        self._seen.add(self.rank)

    def _run_of(self, rank: int) -> str:
        """Return the run that a rank has come to last."""
        path = self._path(rank).with_suffix(".run")
        return path.read_text() if path.is_file() else ""

    def meet(self) -> None:
        """Wait on rank 0 until every other rank has come to this run.

        One that comes when rank 0 is gone would wait for it for ever.
        """
        run = self._run_of(0)
        self.wait_until(
            lambda: all(self._run_of(one) == run for one in range(self.world_size)),
            "the other ranks to begin",
        )

    def _take(self, path: Path) -> None:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + _PATIENCE
        while not _locks(handle, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                os.close(handle)
                raise RuntimeError(
                    f"another process writes to '{self.folder}' (it holds "
                    f"{path.name}). Wait for it, end it, or name another --out."
                )
            time.sleep(_LOOK / 4)
        self._locks.append(handle)

    def _is_locked(self, rank: int) -> bool:
        """Whether a rank is alive and at work."""
        try:
            handle = os.open(self._path(rank), os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _locks(handle, fcntl.LOCK_SH)
        finally:
            os.close(handle)

    def check(self, is_done: Callable[[int], bool] = lambda rank: False) -> None:
        """End this process when another one is gone.

        Args:
            is_done (Callable): whether a rank had answered all of its share.

        Raises:
            RankLost: naming the rank.
        """
        others = range(self.world_size) if self.rank == 0 else (0,)
        for rank in others:
            if rank == self.rank:
                continue
            if self._is_locked(rank):
                self._seen.add(rank)
            elif rank in self._seen and not is_done(rank):
                raise RankLost(
                    f"rank {rank} of {self.world_size} has ended before its work was "
                    "done. What was answered is kept: run the same command again."
                )

    def wait_for(self, is_done: Callable[[int], bool], what: str) -> None:
        """Wait on rank 0 until every other rank has answered its share.

        Args:
            is_done (Callable): see :meth:`check`.
            what (str): for messages.

        Raises:
            RankLost: when one has ended before.
        """

        def all_done() -> bool:
            if all(is_done(rank) for rank in range(self.world_size)):
                return True
            self.check(is_done)
            return False

        self.wait_until(all_done, what)

    def wait_until(self, is_over: Callable[[], bool], what: str) -> None:
        """Wait, as long as it takes, as long as the other ranks live.

        Args:
            is_over (Callable): whether the waiting is over.
            what (str): what is waited for, for messages.

        Raises:
            RankLost: when another rank is gone.
        """
        reported_at = time.monotonic()
        while not is_over():
            if self.rank:
                # Rank 0 may end just after it has done what is waited for.
                self.check(lambda rank: is_over())
            time.sleep(_LOOK)
            if time.monotonic() - reported_at > _WORD:
                reported_at = time.monotonic()
                print_log(f"rank {self.rank} waits for {what}.", logger="current")

    def end(self) -> None:
        """Let go of the locks."""
        for handle in self._locks:
            os.close(handle)
        self._locks = []


def _locks(handle: int, kind: int) -> bool:
    """Take a lock if it is free; whether it was."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
