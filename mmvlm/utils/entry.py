"""How every tool begins and ends: signals, errors in one line, a true exit code."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from . import signals

_USER_ERRORS = (ValueError, OSError, KeyError, ImportError, TypeError)
_debug = False
#: Told below the help of every tool.
_DEBUG_HELP = """
every tool:
  --debug               with the traceback of an error
"""
#: Variable of the environment of processes that end with the one that started them.
CHILD = "MMVLM_ENDS_WITH_PARENT"
#: Seconds that a rank has to wait for the others and leave their group.
_PATIENCE = 10.0


def run_tool(main: Callable[[], Any]) -> NoReturn:
    """Run a tool's main function as the whole process, then end the process.

    A result that is a whole number is the exit code, a text is an error, anything
    else is success. A user's mistake is told in one line, with its traceback after
    ``--debug``; a signal gives 128 + its number.

    Args:
        main (Callable): takes nothing; reads ``sys.argv``.
    """
    global _debug
    _debug = "--debug" in sys.argv[1:]
    if _debug:
        sys.argv.remove("--debug")
    catch_signals()
    try:
        code = _exit_code(main())
    except signals.Stopped as stop:
        code = _say(f"{stop}.")
    except SystemExit as end:
        code = _exit_code(end.code)
        if code == 0 and {"-h", "--help"} & set(sys.argv[1:]):
            sys.stdout.write(_DEBUG_HELP)
    except BaseException as error:
        code = _tell(error)
    if signals.stopped():
        code = 128 + signals.stopped()
    end_process(code)


def user_errors() -> tuple[type[Exception], ...]:
    """Return what a user can mend, to be told in one line without a traceback.

    None after ``--debug``.
    """
    return () if _debug else _USER_ERRORS


def catch_signals() -> None:
    """Handle signals from now on; call it before imports that take seconds."""
    signals.install()
    end_with_parent()
    sys.excepthook = _uncaught


def end_with_parent() -> None:
    """Let ranks save and end when their launcher is killed, which tells nobody.

    So do processes with the variable :data:`CHILD`.
    """
    if {"RANK", "SLURM_PROCID", CHILD} & set(os.environ):
        signals.die_with_parent(signal.SIGTERM)


def _uncaught(kind: type, error: BaseException, trace: Any) -> None:
    """End a tool that was stopped while it imported."""
    if isinstance(error, signals.Stopped):
        _say(f"{error}.")
        sys.stderr.flush()
        os._exit(128 + error.number)
    sys.__excepthook__(kind, error, trace)


def _exit_code(result: Any) -> int:
    if isinstance(result, str):
        return _say(result)
    return int(result) if isinstance(result, int) else 0


def _tell(error: BaseException) -> int:
    """Print what went wrong; returns the exit code."""
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has left; nothing can be told.
        sys.stdout = open(os.devnull, "w")
        return 1
    reported = user_errors()
    if reported and signals.at_work():
        # What fails in the middle of training is our own mistake, a full disk apart.
        reported = (OSError,)
    if not isinstance(error, reported):
        traceback.print_exception(error)
        return 1
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    rank = os.environ.get("RANK")
    mark = "" if rank is None else f"rank {rank}: "
    return _say(f"{mark}error: {text or type(error).__name__}")


def _say(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return 1


def end_process(code: int) -> NoReturn:
    """End this process in the open: writers, workers, group, then the exit code.

    Args:
        code (int): the exit code; ranks that succeeded wait for each other.
    """
    signals.begin_to_end()
    with contextlib.suppress(Exception):
        _close_writers()
    for child in multiprocessing.active_children():
        child.kill()
    had_group = _leave_group(succeeded=code == 0)
    if not had_group:
        sys.exit(code)
    # A gloo thread of a group that something still holds (DDP's reducer does) drops
    # its tensors when it likes. Once the interpreter is finalizing, taking the GIL
    # for that ends the thread inside a destructor, and the process aborts
    # (pytorch#179291). So Python's own exit functions are run here, and the
    # interpreter and its threads end together without being finalized.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _close_writers() -> None:
    """Close what visualizers write to (event files, connections)."""
    if "mmengine.visualization" not in sys.modules:
        return
    from mmengine.visualization import Visualizer

    for visualizer in list(Visualizer._instance_dict.values()):
        visualizer.close()


def _leave_group(succeeded: bool) -> bool:
    """Destroy the process group; returns whether there was one."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available():
        return False
    if not distributed.is_initialized():
        return False

    def leave() -> None:
        if succeeded:
            with contextlib.suppress(Exception):
                distributed.barrier()
        with contextlib.suppress(Exception):
            distributed.destroy_process_group()

    # Ranks that are gone, or hang, must not hold this one up.
    thread = threading.Thread(target=leave, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return True


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send what libraries print inside a ``with`` to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
