"""Tell how much print a probe reads from every layer of a vision tower.

    python tools/analysis/probe_layers.py CONFIG CHECKPOINT

Draws TinyScenes in the fine style, half of whose digits and words are in small
print, and trains one small probe per layer, kind and size of print on the tokens of
an object's quarter. The last rows are all layers joined, and the last layer with
every quarter seen at twice the size. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmvlm.utils.entry import catch_signals, run_tool, user_errors

if __name__ == "__main__":
    catch_signals()  # before imports that take seconds

import mmvlm  # noqa: F401  isort: skip

from layer_probe import PRINTS, probe_layers
from mmengine.config import DictAction

from mmvlm.apis.loading import load_model
from mmvlm.datasets.tiny_scenes.samples import test_samples, training_samples
from mmvlm.datasets.tiny_scenes.styles import FINE


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file, or the name of a shipped one")
    parser.add_argument("checkpoint", nargs="?", help="none: the config's own weights")
    parser.add_argument("--num", type=int, default=8000, help="scenes to learn from")
    parser.add_argument("--num-test", type=int, default=4000, help="scenes to ask")
    parser.add_argument("--layers", type=int, nargs="+", help="default: all")
    parser.add_argument("--epochs", type=int, default=25, help="of a probe")
    parser.add_argument("--seed", type=int, default=0, help="of scenes and probes")
    parser.add_argument("--device", help="default: cuda if there is one")
    parser.add_argument("--tiny", action="store_true", help="the config's tiny twin")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="K=V")
    return parser.parse_args(argv)


def markdown(table: dict) -> str:
    """Write a table of :func:`probe_layers`, shares in percent."""
    heads = [f"{'small' if small else 'large'} {kind}s" for kind, small in PRINTS]
    lines = [f"| tokens of | {' | '.join(heads)} |", f"|---|{'--:|' * len(heads)}"]
    for (view, layer), shares in table.items():
        name = "all layers joined" if layer is None else f"layer {layer}"
        if view == "quarters":
            name += ", quarter at twice the size"
        cells = [f"{shares.get(kind, float('nan')):.1%}" for kind in PRINTS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        loaded = load_model(
            args.config,
            args.checkpoint,
            device=args.device,
            cfg_options=args.cfg_options,
            tiny=args.tiny,
        )
        encoder = getattr(loaded.model, "image_encoder", None)
        if encoder is None:
            raise ValueError("the config has no vision encoder to probe.")
        train = training_samples(args.num, args.seed, style=FINE)
        test = test_samples(args.num_test, args.seed, taken=set(), style=FINE)
        table = probe_layers(
            encoder,
            train,
            test,
            layers=args.layers,
            epochs=args.epochs,
            seed=args.seed,
            progress=lambda line: print(f"{line} ...", file=sys.stderr, flush=True),
        )
    except user_errors() as error:
        print(error, file=sys.stderr)
        return 1
    print(markdown(table))
    return 0


if __name__ == "__main__":
    run_tool(main)
