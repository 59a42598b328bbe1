"""Import transformers' Kosmos-2 (microsoft/kosmos-2-patch14-224)."""

import argparse

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", help="folder or weight file of transformers")
    parser.add_argument("out", help="checkpoint to write (.pth)")
    parser.add_argument("--config", required=True, help="our config it must fit")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.config import load_config
    from mmvlm.export.importing import Imported, meta_state
    from mmvlm.export.kosmos2_keys import from_kosmos2
    from mmvlm.export.state import read_state

    try:
        model_cfg = load_config(args.config).model.to_dict()
        state = from_kosmos2(read_state(args.path))
        target = meta_state(model_cfg)
        wrong = sorted(
            name
            for name in set(state) | set(target)
            if getattr(state.get(name), "shape", None)
            != getattr(target.get(name), "shape", None)
            and not name.endswith("position_ids")
        )
        if wrong:
            raise ValueError(
                f"{args.path} does not fit {args.config}: {len(wrong)} weights are "
                f"missing, unknown or of another shape, for example {wrong[:3]}."
            )
        parts = ("vision_encoder", "connector", "language_model")
        kept = {name: value for name, value in state.items() if name in target}
        Imported(kept, model_cfg, parts, str(args.path)).save(args.out)
    except user_errors() as error:
        return f"error: {error}"
    return 0


if __name__ == "__main__":
    run_tool(main)
