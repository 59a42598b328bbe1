"""What the test process itself needs to start others; imports nothing heavy."""

import socket


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def entry(function, log, env, args):
    import engine_jobs

    engine_jobs.run_job(function, log, env, args)
