"""torch's launcher, with what a stopped or failed run needs.

``python -m mmvlm.utils.launch [options of torch.distributed.run] SCRIPT ...`` hands
signals (SIGUSR1 too) to the ranks, gives them time to save, and exits with a true code:
128 + signal, or that of the rank that failed first.
"""

from __future__ import annotations

import os
import signal
import sys

from .signals import SIGNALS

if __name__ == "__main__":
    # Until the ranks are there, and torch's launcher hands signals to them.
    for one in SIGNALS:
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, lambda number, frame: os._exit(128 + number))

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from .entry import end_with_parent

#: Options of torch's launcher that newer releases have.
OPTIONS = {
    "--signals-to-handle": "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
    # Seconds for the step in progress and a checkpoint.
    "--shutdown-timeout": "600",
}


def main() -> int:
    """Launch what the command line says; returns the exit code."""
    end_with_parent()
    known = run.get_args_parser()._option_string_actions
    options = [f"{key}={value}" for key, value in OPTIONS.items() if key in known]
    try:
        run.main([*options, *sys.argv[1:]])
    except SignalException as error:
        return 128 + error.sigval
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode
        sys.stderr.write(f"rank {rank} ended first, with exit code {code}.\n")
        return code if code > 0 else 128 - code
    return 0


if __name__ == "__main__":
    sys.exit(main())
