"""Signals that ask a process to end: SIGINT, SIGTERM, SIGHUP, SIGUSR1.

A tool that gets one ends with the exit code 128 + signal. Most work is left at once,
through :class:`Stopped`; training notes the signal and ends after the step in
progress (:func:`noting`). A second signal ends the process at once.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
#: Seconds in which work that is left at once has to be left.
PATIENCE = 20.0
_PR_SET_PDEATHSIG = 1


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end.

    It is a ``KeyboardInterrupt``, so that code which tidies up after Ctrl-C does so
    after any of the signals.

    Args:
        number (int): of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")


class _State:
    """What this process knows of signals."""

    owner = 0  #: process whose handlers are installed; a fork is another one
    received = 0  #: first signal of this process
    stopped = 0  #: signal that the process ends with, this one's or another rank's
    is_noting = False
    at_work = False
    is_ending = False
    forks_from_main = True


def installed() -> bool:
    """Whether this process handles signals; see :func:`install`."""
    return _State.owner == os.getpid()


def received() -> int:
    """Return the number of the first signal that this process got, else 0."""
    return _State.received


def stopped() -> int:
    """Return the number of the signal that ended the work, else 0."""
    return _State.stopped


def stop(number: int) -> None:
    """Say that a signal, of this or another rank, ended the work."""
    _State.stopped = number


@contextmanager
def noting() -> Iterator[None]:
    """Only note the first signal inside a ``with``; see :func:`received`."""
    before, _State.is_noting = _State.is_noting, True
    _State.at_work = True
    try:
        yield
    finally:
        _State.is_noting = before


def at_work() -> bool:
    """Whether work that only notes signals (training) had begun."""
    return _State.at_work


def begin_to_end() -> None:
    """Note signals from now on: what is left to do is to end in order."""
    _State.is_ending = True


def install() -> None:
    """Handle the signals in this process, which must be in its main thread.

    Those that its parent ignores (nohup) stay ignored. Forked children leave the
    signals to this process and die with it.
    """
    if installed():
        return
    first = not _State.owner
    _State.owner = os.getpid()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
    if first:
        os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
    # Python runs handlers between its instructions only; a thread sees signals at
    # any time, also while the main one waits for a device or for another rank.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="signals", daemon=True).start()


def die_with_parent(number: int) -> None:
    """Let the system send a signal to this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def _handle(number: int, frame: FrameType | None) -> None:
    if _State.received or os.getpid() != _State.owner:
        return
    _State.received = number
    if _State.is_noting or _State.is_ending or _State.stopped:
        return
    _State.stopped = number
    raise Stopped(number)


def _watch(reader: int) -> None:
    """End the process at a second signal, or when it does not end by itself."""
    # A launcher that was signalled as well passes its own on, a moment later.
    apart = 2.0 if "TORCHELASTIC_RUN_ID" in os.environ else 0.25
    began, first, deadline = 0.0, 0, None
    while True:
        if not first or _State.is_noting:
            deadline, left = None, 1.0 if first else None
        else:
            deadline = deadline or time.monotonic() + PATIENCE
            left = max(0.0, deadline - time.monotonic())
        numbers = []
        if select.select([reader], [], [], left)[0]:
            numbers = [n for n in os.read(reader, 512) if n in SIGNALS]
        elif deadline is not None:
            _end_at_once(first)
        for number in numbers:
            if not first:
                began, first = time.monotonic(), number
                if _State.is_noting:
                    _say(f"{signal.Signals(number).name}: the step in progress ends.")
            elif time.monotonic() - began > apart:
                _end_at_once(number)


def _end_at_once(number: int) -> None:
    _say(f"stopped by {signal.Signals(number).name}, at once.")
    os._exit(128 + number)


def _say(text: str) -> None:
    # Not through sys.stderr: the main thread may hold its lock.
    os.write(2, f"{text}\n".encode())


def _before_fork() -> None:
    _State.forks_from_main = threading.current_thread() is threading.main_thread()


def _after_fork() -> None:
    """Let a forked child die with its parent, which alone heeds the signals."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) is _handle:
            ignored = number != signal.SIGTERM  # multiprocessing ends children so
            signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    # The system counts the thread that forked as the parent.
    if _State.forks_from_main:
        die_with_parent(signal.SIGKILL)
