"""Add a released difference (Shikra, Ferret, GPT4RoI) to the model it belongs to.

DELTA and BASE are folders or weight files of the official code; OUT becomes a folder
with the sums under official names and the other files of DELTA, which from_llava.py
imports.
"""

import argparse
import shutil
from pathlib import Path

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("delta", help="folder or file of the difference")
    parser.add_argument("out", help="folder to write")
    parser.add_argument("--base", required=True, help="folder or file of the base")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from safetensors.torch import save_file

    from mmvlm.export.delta import add_delta
    from mmvlm.export.state import read_state
    from mmvlm.utils.files import writing_into

    try:
        with writing_into(args.out):
            summed = add_delta(read_state(args.delta), read_state(args.base))
            out, source = Path(args.out), Path(args.delta)
            out.mkdir(parents=True, exist_ok=True)
            others = (".json", ".model", ".txt") if source.is_dir() else ()
            for path in source.iterdir() if others else ():
                if path.suffix in others and not path.name.endswith(".index.json"):
                    shutil.copy(path, out)
            kept = {name: value.contiguous() for name, value in summed.items()}
            save_file(kept, str(out / "model.safetensors"), metadata={"format": "pt"})
    except user_errors() as error:
        return f"error: {error}"
    print(f"{len(summed)} weights in {args.out}")
    return 0


if __name__ == "__main__":
    run_tool(main)
