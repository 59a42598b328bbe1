"""How tools end: exit codes, one line, signals; small scripts in fresh processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
HEAD = """
import os, sys, time
from mmvlm.utils import signals
from mmvlm.utils.entry import run_tool, user_errors
def ready():
    write("ready")
def write(line):  # at once, as two processes may write
    os.write(1, f"{line}\\n".encode())
"""
WORK = """
def main():
    ready()
    time.sleep(60)
run_tool(main)
"""
NOTING = """
def main():
    with signals.noting():
        ready()
        while not signals.received():
            time.sleep(0.02)
        signals.stop(signals.received())
        {then}
run_tool(main)
"""


def start(body, *arguments, **env):
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + body, *arguments],
        env=dict(os.environ, PYTHONPATH=str(ROOT), **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Under nohup, or behind a shell's "&", some would be ignored here too.
        preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in SIGNALS],
    )


def end(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def after(process, *numbers, apart=0.5):
    """Send signals to a process that is ready; returns exit code and stderr."""
    assert process.stdout.readline() == "ready\n"
    for number in numbers:
        process.send_signal(number)
        time.sleep(apart)
    code, _, err = end(process)
    return code, err


@pytest.mark.parametrize("number", SIGNALS)
def test_work_is_left_at_once_in_one_line(number):
    code, err = after(start(WORK), number)

    assert (code, err) == (128 + number, f"stopped by {number.name}.\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_training_notes_a_signal_and_ends_in_its_own_time(number):
    code, err = after(start(NOTING.format(then="print('saved')")), number)

    assert code == 128 + number and "Traceback" not in err


def test_a_second_signal_ends_at_once_also_where_python_does_not_run():
    # Waits in C for ever, as for a device that hangs: a lock taken twice.
    lock = "import ctypes; m = ctypes.create_string_buffer(64); "
    lock += "[ctypes.CDLL(None).pthread_mutex_lock(m) for _ in 'ab']"
    blocked = NOTING.format(then=lock)
    began = time.monotonic()
    code, err = after(start(blocked), signal.SIGTERM, signal.SIGINT)

    assert code == 128 + signal.SIGINT and time.monotonic() - began < 30
    assert err.endswith("stopped by SIGINT, at once.\n")


def test_two_of_one_signal_in_a_moment_count_as_one():
    """coreutils' timeout sends one to the process and one to its group."""
    code, err = after(
        start(NOTING.format(then="time.sleep(1); sys.exit(0)")),
        *(signal.SIGTERM, signal.SIGTERM),
        apart=0,
    )

    assert code == 128 + signal.SIGTERM and "at once" not in err


def test_what_the_parent_ignores_stays_ignored():
    body = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WORK
    code, _ = after(start(body.replace("60", "1.5")), signal.SIGHUP)

    assert code == 0


def test_forked_workers_leave_ctrl_c_to_the_main_process_and_die_with_it():
    body = """
import os
def main():
    child = os.fork()
    if child == 0:
        ready()
        time.sleep(60)
    write(child)
    time.sleep(60)
run_tool(main)
"""
    process = start(body)
    lines = sorted(process.stdout.readline().strip() for _ in range(2))
    child = int(lines[0])
    os.kill(child, signal.SIGINT)
    os.kill(child, signal.SIGUSR1)
    time.sleep(0.3)
    assert Path(f"/proc/{child}/stat").read_text().split()[2] == "S"

    process.kill()
    process.communicate()

    assert gone(child)


def gone(process, seconds=10):
    deadline = time.monotonic() + seconds
    path = Path(f"/proc/{process}/stat")
    while path.exists() and path.read_text().split()[2] != "Z":
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_ranks_of_a_killed_launcher_end():
    launcher = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {HEAD + WORK!r}])
print(child.pid, flush=True)
child.wait()
"""
    process = start(launcher, RANK="0")
    lines = sorted(process.stdout.readline().strip() for _ in range(2))
    process.kill()
    process.wait()

    assert gone(int(lines[0]))


@pytest.mark.parametrize("kind", ["ValueError", "OSError", "KeyError", "ImportError"])
def test_a_users_mistake_is_one_line_and_a_traceback_after_debug(kind):
    body = f"def main():\n    raise {kind}('no such thing')\nrun_tool(main)\n"

    short, long = end(start(body)), end(start(body, "--debug"))

    assert short == (1, "", "error: no such thing\n")
    assert long[0] == 1 and "Traceback" in long[2]


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_help_of_every_tool_tells_of_debug(flag):
    body = """
import argparse
run_tool(lambda: argparse.ArgumentParser(description="A tool.").parse_args())
"""
    code, out, err = end(start(body, flag))

    assert (code, err) == (0, "") and "A tool." in out and "--debug" in out
    code, out, err = end(start(body, "--no-such-option"))
    assert code == 2 and out == "" and "--debug" not in err


def test_tools_that_tell_themselves_show_tracebacks_after_debug_too():
    body = """
def main():
    try:
        raise ValueError("bad")
    except user_errors() as error:
        return f"told: {error}"
run_tool(main)
"""
    assert end(start(body)) == (1, "", "told: bad\n")
    assert "Traceback" in end(start(body, "--debug"))[2]


def test_an_error_in_the_middle_of_training_comes_with_its_traceback():
    body = """
def main():
    with signals.noting():
        raise {error}
run_tool(main)
"""
    code, _, ours = end(start(body.format(error="ValueError('shapes')")))
    assert code == 1
    assert "Traceback" in ours
    full = end(start(body.format(error="OSError('disk full')")))
    assert full == (1, "", "error: disk full\n")


def test_tools_called_after_training_tell_a_users_error_all_the_same():
    """Training in this process, as tests and notebooks do, changes nothing for them."""
    from mmvlm.utils import entry, signals

    with signals.noting():
        pass

    assert ValueError in entry.user_errors()


@pytest.mark.parametrize(
    ("result", "code"), [("0", 0), ("3", 3), ("None", 0), ("{'a': 1}", 0), ("'no'", 1)]
)
def test_exit_codes_are_true(result, code):
    assert end(start(f"run_tool(lambda: {result})"))[0] == code


@pytest.mark.multiproc
def test_a_rank_that_is_done_does_not_wait_for_one_that_hangs(tmp_path):
    body = f"""
import os
import torch.distributed as dist
from mmvlm.utils import entry
entry._PATIENCE = 1.0
def main():
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo", "file://{tmp_path}/store", None, 2, rank)
    if rank:
        time.sleep(600)
run_tool(main)
"""
    done, hung = (start(body, RANK=rank) for rank in "01")
    try:
        assert end(done) == (0, "", "")
    finally:
        hung.kill()
        end(hung)


def test_an_error_of_ours_keeps_its_traceback():
    code, _, err = end(start("def main():\n    1 / 0\nrun_tool(main)\n"))

    assert code == 1 and "Traceback" in err and "ZeroDivisionError" in err
