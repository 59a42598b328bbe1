"""Test a trained checkpoint on a config's test set, or on benchmarks."""

import argparse
import json
import os
import sys

from mmvlm.utils.entry import run_tool


def parse_args(argv=None):
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="work dir, config file, or name of a config")
    parser.add_argument(
        "checkpoint", nargs="?", help="file, or a work dir for its newest one"
    )
    parser.add_argument(
        "--work-dir", help="default: work_dirs/<name>, of a work dir <name>_test"
    )
    parser.add_argument(
        "--out",
        metavar="RESULTS.json",
        help="write the metrics here; with --benchmarks a folder, default: "
        "<work dir>/benchmarks",
    )
    parser.add_argument(
        "--draw",
        type=int,
        metavar="N",
        help="draw the first N replies and what would be right into the work dir",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="replace existing keys, as in test_dataloader.batch_size=4",
    )
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm"], default="none"
    )
    parser.add_argument("--tiny", action="store_true", help="as in tools/train.py")
    add_benchmark_options(parser)
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    args = parser.parse_args(argv)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def add_benchmark_options(parser):
    group = parser.add_argument_group("benchmarks")
    group.add_argument(
        "--benchmarks",
        metavar="NAMES",
        help="names behind commas, a suite, a config file, or all; see "
        "tools/misc/list_components.py --kind benchmark",
    )
    group.add_argument("--data-root", help="folder that stands in for data")
    group.add_argument("--limit", type=int, help="first questions of each only")
    group.add_argument("--only", metavar="UID,...", help="these questions only")
    group.add_argument(
        "--answers",
        default="model",
        metavar="model|reference|empty|FILE",
        help="what answers; reference: the most that can be reached",
    )
    group.add_argument(
        "--rule",
        help="of the scorers, in place of the benchmarks' own; option_logits and ppl "
        "have the model score the options, in place of generating a reply",
    )
    group.add_argument(
        "--blind",
        choices=["shuffle", "text"],
        help="without the right image: another question's, or none",
    )
    group.add_argument(
        "--server",
        metavar="URL",
        help="ask a served model, as in http://localhost:8000/v1, in place of the "
        "config's",
    )
    group.add_argument("--model", help="of the server, by its name there")
    group.add_argument(
        "--published",
        metavar="CONFIG",
        help="whose published scores stand beside; default: the config's own",
    )
    group.add_argument("--fresh", action="store_true", help="drop older answers")
    group.add_argument(
        "--allow-partial", action="store_true", help="score what is answered"
    )
    group.add_argument(
        "--stop-on-error",
        action="store_true",
        help="end at an image that cannot be read, instead of counting it as wrong",
    )
    group.add_argument("--batch-tokens", type=int, help="tokens of a batch")
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="each question by itself, logits in float32: answers of half precision "
        "then depend on no batch",
    )
    group.add_argument("--num-workers", type=int, default=2, help="that read images")
    group.add_argument(
        "--dry-run", action="store_true", help="check files and prompts, no weights"
    )
    add_judge_options(parser)


def benchmark_options(args):
    """Return which options of benchmarks were given."""
    parser = argparse.ArgumentParser()
    add_benchmark_options(parser)
    defaults = vars(parser.parse_args([]))
    changed = [name for name, value in defaults.items() if getattr(args, name) != value]
    return [f"--{name.replace('_', '-')}" for name in changed]


#: Options that say nothing without one of others.
NEEDS = {
    ("--server",): ("--model", "--server-key-env"),
    ("--judge",): (
        *("--judge-model", "--judge-runs", "--judge-options", "--judge-price"),
        "--judge-key-env",
    ),
    ("--judge", "--server"): ("--concurrency", "--request-timeout", "--retries"),
}


def contradictions(args):
    """Yield what is wrong with options that were chosen together, and the way out."""
    chosen = benchmark_options(args)
    for needed, options in NEEDS.items():
        if not set(needed) & set(chosen):
            for name in (one for one in options if one in chosen):
                yield (
                    f"{name} says nothing without {' or '.join(needed)}: add it, or "
                    f"leave out {name}."
                )
    for name in ("--server", "--answers", "--deterministic"):
        if {name, "--batch-tokens"} <= set(chosen):
            yield f"--batch-tokens says nothing beside {name}: leave one of them out."
    if args.draw is not None:
        yield (
            "--draw is of a test_dataloader: leave it out, replies stand in the "
            "answers.jsonl of each benchmark."
        )
    if args.out and args.work_dir:
        yield "--out is the folder of benchmarks: leave out --work-dir, or --out."


def add_judge_options(parser):
    from mmengine.config import DictAction

    group = parser.add_argument_group("judges, and servers of models")
    group.add_argument(
        "--judge",
        default="none",
        metavar="none|cached|URL",
        help="who rates answers; none: what it would be asked is written to a file; "
        "cached: only what it said before counts",
    )
    group.add_argument("--judge-model", help="name of the judge at its URL")
    group.add_argument("--judge-runs", type=int, default=1, help="replies per answer")
    group.add_argument(
        "--judge-options",
        nargs="+",
        action=DictAction,
        default={},
        metavar="KEY=VALUE",
        help="fields of its requests; None leaves one out, as in max_tokens=None",
    )
    group.add_argument(
        "--judge-price",
        type=float,
        nargs=2,
        metavar=("READ", "WRITTEN"),
        help="of a million tokens, to tell the cost",
    )
    for name in ("judge", "server"):
        group.add_argument(
            f"--{name}-key-env",
            default="OPENAI_API_KEY",
            metavar="NAME",
            help=f"environment variable with the {name}'s key",
        )
    group.add_argument("--concurrency", type=int, default=8, help="requests at once")
    group.add_argument(
        "--request-timeout", type=float, default=300.0, help="seconds of silence"
    )
    group.add_argument("--retries", type=int, default=6, help="of a failed request")


def endpoints_of(args):
    """Return judge and server, None where there is none."""
    from mmvlm.evaluation.chat_client import Endpoint

    shared = dict(
        concurrency=args.concurrency,
        timeout=args.request_timeout,
        retries=args.retries,
    )
    judge = server = None
    if args.judge != "none":
        judge = Endpoint(
            None if args.judge == "cached" else args.judge,
            args.judge_model,
            args.judge_key_env,
            args.judge_options,
            price=args.judge_price,
            **shared,
        )
    if args.server:
        server = Endpoint(args.server, args.model, args.server_key_env, **shared)
    return dict(judge=judge, server=server)


def test_benchmarks(args):
    """Run benchmarks and print their table; the exit code is 0 when all are scored."""
    from mmvlm.apis.benchmarks import BenchmarkOptions, check_data, run_benchmarks
    from mmvlm.engine.benchmarks.planner import BatchPolicy
    from mmvlm.evaluation.tables import text

    for message in contradictions(args):
        sys.exit(f"error: {message}")
    policy = BatchPolicy()
    if args.batch_tokens is not None:
        policy = BatchPolicy(args.batch_tokens)
    options = BenchmarkOptions(
        data_root=args.data_root,
        limit=args.limit,
        only=args.only.split(",") if args.only else (),
        answers=args.answers,
        rule=args.rule,
        blind=args.blind,
        fresh=args.fresh,
        allow_partial=args.allow_partial,
        stop_on_error=args.stop_on_error,
        policy=policy,
        deterministic=args.deterministic,
        num_workers=args.num_workers,
        judge_runs=args.judge_runs,
        published=args.published,
        **endpoints_of(args),
    )
    model = dict(cfg_options=args.cfg_options, tiny=args.tiny)
    if args.dry_run:
        print(check_data(args.config, args.benchmarks, options, **model))
        return 0
    out = args.out or os.path.join(work_dir_of(args), "benchmarks")
    rows = run_benchmarks(
        *(args.config, args.checkpoint, args.benchmarks, out, options), **model
    )
    if rows:
        print(text(rows))
        print(f"Answers and results: {out}")
    return 0


def work_dir_of(args, cfg=None):
    """Return the folder that a test writes to."""
    from mmvlm.config.work_dir import is_work_dir

    if args.work_dir is not None:
        return args.work_dir
    if is_work_dir(args.config):
        # What a training wrote stays its own; it may be read-only or another's.
        name = os.path.basename(os.path.abspath(args.config))
        return os.path.join("work_dirs", f"{name}_test")
    if cfg is not None and cfg.get("work_dir") is not None:
        return cfg.work_dir
    name = os.path.splitext(os.path.basename(args.config))[0]
    return os.path.join("work_dirs", name)


def table(metrics):
    """Return metrics as an aligned text table."""
    from mmvlm.utils.text_table import text_table

    shown = (f"{v:.4f}" if isinstance(v, float) else v for v in metrics.values())
    return text_table(list(zip(metrics, shown, strict=True)), left=2)


def main(argv=None):
    import mmvlm  # noqa: F401  before mmengine and transformers: applies shims

    args = parse_args(argv)
    from mmengine.dist import is_main_process

    from mmvlm.apis.loading import without_pretrained
    from mmvlm.config import load_config
    from mmvlm.config.own_files import split_model
    from mmvlm.engine.runner import build_runner
    from mmvlm.engine.runner.checkpoint import load_file, plain, write_atomic
    from mmvlm.utils.files import check_writable

    args.config, args.checkpoint = split_model(args.config, args.checkpoint)
    needs_weights = args.answers == "model" and not (args.dry_run or args.server)
    if args.checkpoint is None and (needs_weights or not args.benchmarks):
        sys.exit(f"error: {args.config} is no work dir; name a checkpoint behind it.")
    if args.benchmarks:
        return test_benchmarks(args)
    if options := benchmark_options(args):
        sys.exit(f"error: {', '.join(options)} belong to --benchmarks; name some.")
    cfg = load_config(
        args.config,
        cfg_options=args.cfg_options,
        tiny=args.tiny,
        check_files=("test",),
        check_sources=False,
    )
    if cfg.get("test_dataloader") is None:
        sys.exit(f"{args.config}: no test_dataloader, nothing to test.")
    cfg.work_dir = work_dir_of(args, cfg)
    check_writable(cfg.work_dir)
    cfg.launcher = args.launcher
    if args.launcher == "none":
        # Whole files load in one process, whatever strategy trained them.
        cfg.pop("strategy", None)
    if args.draw is not None:
        drawing = dict(type="DrawRepliesHook", num=args.draw)
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), drawing]
    content = load_file(args.checkpoint)
    cfg.model = without_pretrained(cfg.model.to_dict(), content["state_dict"])
    runner = build_runner(cfg)
    runner.load_trained(args.checkpoint)
    metrics = runner.test()
    if is_main_process():
        print(table(metrics))
        if args.out:
            content = dict(
                config=str(args.config),
                checkpoint=str(args.checkpoint),
                metrics=plain(metrics),
            )
            text = json.dumps(content, indent=2)
            write_atomic(args.out, text)
    return metrics


if __name__ == "__main__":
    run_tool(main)
