"""Write a second set of golden files: other sizes, half of the cases, other ids.

    python tests/goldens/make_shifted.py FOLDER
    MMVLM_GOLDENS=FOLDER python -m pytest -m golden tests

Files that hold cases keep every second one of them; arrays whose reference is a module
of this project are computed anew with other widths and grids. All else is copied. The
set shows that tests take sizes and cases from the files; it proves no module right.
"""

import argparse
import json
import shutil
from pathlib import Path

import mmvlm  # noqa: F401  isort: skip

import numpy as np
import torch

from mmvlm.models.connectors.resampler import ResamplerConnector
from mmvlm.models.utils.positions import resize_grid, sincos_grid
from mmvlm.structures import VisionEncoderSpec, VisionFeatures

HERE = Path(__file__).parent


def halve_cases(folder):
    """Keep every second conversation of each template, under other ids."""
    path = folder / "llava_preprocess.json"
    content = json.loads(path.read_text())
    groups = {}
    for record in content["cases"]:
        renamed = dict(record, id=f"shifted {record['id']}")
        groups.setdefault((record["template"], "error" in record), []).append(renamed)
    content["cases"] = [r for group in groups.values() for r in group[::2]]
    path.write_text(json.dumps(content))
    path = folder / "grounding_text.json"
    content = json.loads(path.read_text())
    for codec in content.values():
        for key in {"encode", "decode", "token_decode"} & set(codec):
            codec[key] = codec[key][1::2]
    path.write_text(json.dumps(content))


def resampler(folder, grid=3, dim=24, heads=2, kv=20):
    """Compute Qwen-VL's resampler with another grid and other widths."""
    torch.manual_seed(1)
    arrays = {"cfg/grid": grid, "cfg/dim": dim, "cfg/heads": heads, "cfg/kv": kv}
    arrays["pos_embed_2d"] = sincos_grid(dim, (grid, grid))
    for prefix, width in (("", kv), ("nokv/", dim)):
        module = ResamplerConnector(
            vision_spec=VisionEncoderSpec(width, 1, 1, grid),
            out_width=dim,
            grid=grid,
            heads=heads,
        ).eval()
        state = {f"{prefix}sd/{k}": v for k, v in module.state_dict().items()}
        arrays.update(state)
        for number, side in enumerate((2, 5) if prefix == "" else (4,)):
            given = torch.randn(1, side * side, width)
            end = "" if prefix else str(number)
            features = VisionFeatures((given,), (1,), (side, side))
            arrays[f"{prefix}in{end}"] = given
            arrays[f"{prefix}out{end}"] = module(features).detach()
            if not prefix:
                table = arrays["sd/pos_embed"]
                resized = resize_grid(table, (grid, grid), (side, side))
                arrays[f"abs_pos_interp{end}"] = resized
    made = {key: np.asarray(value) for key, value in arrays.items()}
    np.savez(folder / "qwen_vl_resampler.npz", **made)


def main():
    """Write the set into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    shutil.copytree(HERE, folder, dirs_exist_ok=True)
    halve_cases(folder)
    resampler(folder)


if __name__ == "__main__":
    main()
