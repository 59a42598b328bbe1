"""Train a model from a config."""

import argparse
import os
import sys

from mmvlm.utils.entry import run_tool


def parse_args(argv=None):
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file; with --resume also a work dir")
    parser.add_argument("--work-dir", help="default: work_dirs/<name of the config>")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="PATH",
        help="go on from PATH, or from the newest checkpoint of the work dir",
    )
    parser.add_argument(
        "--resume-with-changes",
        action="store_true",
        help="resume although settings differ from the checkpoint's, and use them",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="replace existing keys, as in model.connector.depth=3",
    )
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm"], default="none"
    )
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="the tiny twins of the towers and generated data, on any machine",
    )
    parser.add_argument("--seed", type=int, help="of initialisation and data order")
    parser.add_argument(
        "--deterministic", action="store_true", help="slower; equal losses on repeat"
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    args = parser.parse_args(argv)
    if args.resume_with_changes and args.resume is None:
        args.resume = "auto"
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def main(argv=None):
    import mmvlm  # noqa: F401  before mmengine and transformers: applies shims

    args = parse_args(argv)
    from mmvlm.config import load_config
    from mmvlm.config.work_dir import is_work_dir
    from mmvlm.engine.runner import build_runner
    from mmvlm.utils.files import check_writable

    cfg = load_config(
        args.config,
        cfg_options=args.cfg_options,
        tiny=args.tiny,
        check_files=("train", "val", *([] if args.resume else ["load_from"])),
        check_sources=not (args.resume and is_work_dir(args.config)),
    )
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif is_work_dir(args.config) and not (args.resume or cfg.get("resume")):
        sys.exit(
            f"error: {args.config} is the folder of a run: add --resume to go on with "
            "it, or --work-dir OTHER to begin anew from its config."
        )
    elif cfg.get("work_dir") is None:
        name = os.path.splitext(os.path.basename(args.config))[0]
        cfg.work_dir = os.path.join("work_dirs", name)
    check_writable(cfg.work_dir)
    cfg.launcher = args.launcher
    if args.resume is not None:
        cfg.resume = args.resume
    if args.resume_with_changes:
        cfg.resume_with_changes = True
    randomness = dict(cfg.get("randomness") or {})
    if args.seed is not None:
        randomness["seed"] = args.seed
    if args.deterministic:
        randomness["deterministic"] = True
    randomness.setdefault("seed", 0)
    cfg.randomness = randomness
    build_runner(cfg).train()


if __name__ == "__main__":
    run_tool(main)
