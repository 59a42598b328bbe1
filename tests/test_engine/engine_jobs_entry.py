"""The entry of a test process; light, so that pytest itself imports nothing more."""


def entry(function, log, env, args):
    import engine_jobs

    engine_jobs.run_job(function, log, env, args)
