"""Test a trained checkpoint on a config's test set."""

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
    parser.add_argument("--out", metavar="RESULTS.json", help="write the metrics here")
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
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    args = parser.parse_args(argv)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


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
    from mmvlm.config.work_dir import is_work_dir, split_model
    from mmvlm.engine.runner import build_runner
    from mmvlm.engine.runner.checkpoint import load_file, plain, write_atomic
    from mmvlm.utils.files import check_writable

    args.config, args.checkpoint = split_model(args.config, args.checkpoint)
    if args.checkpoint is None:
        sys.exit(f"error: {args.config} is no work dir; name a checkpoint behind it.")
    cfg = load_config(
        args.config,
        cfg_options=args.cfg_options,
        tiny=args.tiny,
        check_files=("test",),
        check_sources=False,
    )
    if cfg.get("test_dataloader") is None:
        sys.exit(f"{args.config}: no test_dataloader, nothing to test.")
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif is_work_dir(args.config):
        # What a training wrote stays its own; it may be read-only or another's.
        name = os.path.basename(os.path.abspath(args.config))
        cfg.work_dir = os.path.join("work_dirs", f"{name}_test")
    elif cfg.get("work_dir") is None:
        name = os.path.splitext(os.path.basename(args.config))[0]
        cfg.work_dir = os.path.join("work_dirs", name)
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
