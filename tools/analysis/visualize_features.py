"""Show what a connector sees in an image, and what it makes of it.

    python tools/analysis/visualize_features.py CONFIG CHECKPOINT --image a.png

Writes maps.png (every selected layer, the output, and its difference to the last
layer: first three principal components and channel mean), a sampling-*.png for
every deformable attention, a routing-*.png for every router, and features.html
with all of them, where a click shows the sampling points of a place.
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

from feature_maps import look_inside
from feature_page import (
    check_query,
    draw_maps,
    draw_routing,
    draw_sampling,
    write_feature_page,
)
from mmengine.config import DictAction

from mmvlm.apis import VLMInferencer
from mmvlm.utils.files import writing


def pair(text: str) -> tuple[float, float]:
    """Read ``3,4``."""
    first, second = text.split(",")
    return float(first), float(second)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file, or the name of a shipped one")
    parser.add_argument("checkpoint", nargs="?", help="none: the config's own weights")
    parser.add_argument("--image", required=True, help="image file")
    parser.add_argument("--out", default="work_dirs/features", help="folder to write")
    parser.add_argument(
        "--layers", type=int, nargs="+", help="default: the connector's"
    )
    parser.add_argument("--view", type=int, default=0, help="of an image with many")
    parser.add_argument("--prompt", default="", help="for connectors that read it")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--query", type=pair, metavar="ROW,COL", help="cell of the grid")
    place.add_argument(
        "--pixel", type=pair, metavar="X,Y", help="of the view; default: its middle"
    )
    parser.add_argument("--device", help="default: cuda if there is one")
    parser.add_argument("--tiny", action="store_true", help="the config's tiny twin")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="K=V")
    return parser.parse_args(argv)


def find_query(args: argparse.Namespace, maps) -> tuple[int, int]:
    """Return row and column of the cell that was asked for."""
    rows, columns = maps.grid
    height, width = maps.image.shape[:2]
    if args.query is not None:
        query = tuple(int(value) for value in args.query)
    else:
        x, y = args.pixel or (width / 2, height / 2)
        query = int(y * rows // height), int(x * columns // width)
    check_query(query, maps.grid)
    return query


def draw(maps, query: tuple[int, int], folder: Path) -> list[tuple[str, str]]:
    """Write the PNGs; returns their headings and paths."""
    panels = [(f"layer {number}", values) for number, values in maps.layers.items()]
    if maps.output is not None:
        panels.append(("output", maps.output))
    if maps.difference is not None:
        panels.append(("output - last layer", maps.difference))
    figures = [("Maps", "maps", draw_maps(panels, maps.image))]
    for name, sampling in maps.sampling.items():
        figure = draw_sampling(maps.image, maps.grid, query, sampling, name)
        figures.append((f"Sampling points of {name}", f"sampling-{name}", figure))
    for name, weights in maps.routing.items():
        figure = draw_routing(weights, name)
        figures.append((f"Routing weights of {name}", f"routing-{name}", figure))
    out = []
    for heading, stem, figure in figures:
        path = folder / f"{stem}.png"
        with writing(path):
            figure.savefig(path, dpi=110)
        out.append((heading, str(path)))
    return out


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        talk = VLMInferencer(
            args.config,
            args.checkpoint,
            args.device,
            cfg_options=args.cfg_options,
            tiny=args.tiny,
        )
        maps = look_inside(
            talk, args.image, layers=args.layers, view=args.view, prompt=args.prompt
        )
        query = find_query(args, maps)
    except user_errors() as error:
        print(error, file=sys.stderr)
        return 1
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    figures = draw(maps, query, folder)
    page = folder / "features.html"
    write_feature_page(
        page,
        title=f"{Path(args.config).stem}: {maps.output_name}",
        figures=figures,
        image=maps.image,
        grid=maps.grid,
        sampling=maps.sampling,
        query=query,
    )
    print(f"{maps.output_name}; written: {page} and {len(figures)} PNG.")
    return 0


if __name__ == "__main__":
    run_tool(main)
