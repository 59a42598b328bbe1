"""Score true answers, written and read back: what a config's syntax can say at best.

    python tools/analysis/ceilings.py configs/ablations/tiny_scenes/boxes

No weights are needed. Answers are tokens of the config's tokenizer, read by its codec
as replies are. Where a head makes the boxes or masks of a reply, the true ones stand in
for them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvlm.utils.entry import catch_signals, run_tool, user_errors

if __name__ == "__main__":
    catch_signals()  # before imports that take seconds

from ablation_runs import find_configs, read_options

from mmvlm.config import load_config
from mmvlm.config.meta_model import build_on_meta
from mmvlm.datasets.processor import VLMProcessor
from mmvlm.engine.runner.dataloader import build_dataloader
from mmvlm.registry import METRICS
from mmvlm.utils.files import write_atomic
from mmvlm.utils.text_table import text_table


def ceiling(cfg: Any) -> dict[str, float]:
    """Return the metrics of a config's test when every answer is the true one.

    Args:
        cfg (Config): with ``test_dataloader`` and ``test_evaluator``.

    Raises:
        ValueError: for a config without a test.
    """
    if not cfg.get("test_dataloader"):
        raise ValueError(f"'{cfg.filename}' has no test_dataloader.")
    processor = VLMProcessor.from_config(cfg, build_on_meta(cfg["model"]))
    loader = build_dataloader(
        cfg.test_dataloader, seed=0, processor=processor, training=False
    )
    wanted = cfg.test_evaluator
    metrics = []
    for one in wanted if isinstance(wanted, Sequence) else [wanted]:
        own = dict(one)
        if "out_file" in own:  # true answers must not replace those of a model
            own["out_file"] = None
        metrics.append(METRICS.build(own))
    number = 0
    for batch in loader:
        samples = batch["data_samples"]
        for sample in samples:
            _say_the_truth(sample, processor)
        number += len(samples)
        for metric in metrics:
            metric.process(batch, [sample.to_dict() for sample in samples])
    return {k: v for metric in metrics for k, v in metric.evaluate(number).items()}


def _say_the_truth(sample: Any, processor: VLMProcessor) -> None:
    """Give a sample the tokens of its true answer, and what is read in them."""
    sample.pred_ids = processor.reply_ids([sample.gt_text])[0]
    processor.read_reply(sample)
    codec = processor.codec
    if codec is not None and not codec.writes_coordinates:
        sample.pred_regions = sample.gt_regions


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", help="config files, or folders of them")
    parser.add_argument(
        "--metrics", nargs="+", default=["*"], metavar="PATTERN", help="as in 'rec/a*'"
    )
    parser.add_argument("--out", metavar="FILE.json", help="write all numbers here")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="for all"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        options = read_options(args.cfg_options)
        found = {
            Path(file).stem: ceiling(load_config(file, dict(options)))
            for file in find_configs(args.configs)
        }
    except user_errors() as error:
        print(error, file=sys.stderr)
        return 1
    names = list(dict.fromkeys(name for one in found.values() for name in one))
    shown = [name for name in names if any(fnmatch(name, p) for p in args.metrics)]
    rows = [("config", *shown)]
    for config, numbers in found.items():
        cells = (numbers.get(name) for name in shown)
        rows.append((config, *("-" if c is None else f"{c:.4g}" for c in cells)))
    print(text_table(rows))
    if args.out:
        write_atomic(args.out, json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    run_tool(main)
