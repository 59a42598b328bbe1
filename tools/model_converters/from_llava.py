"""Import a checkpoint of the official LLaVA code.

PATH is a whole model, mm_projector.bin of stage 1 (or its folder), or a folder
with LoRA adapters and non_lora_trainables.bin. With --base adapters are merged
into that language model; without, they stay adapters of a config with the same
lora.
"""

import argparse
from pathlib import Path

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="file or folder of the official code")
    parser.add_argument("out", help="checkpoint to write (.pth)")
    parser.add_argument(
        "--config",
        help="our config that the weights and their config.json must fit; default: "
        "that of --print-config",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the config that config.json describes",
    )
    parser.add_argument(
        "--base", help="folder of the language model under the adapters"
    )
    parser.add_argument(
        "--vocab-size", type=int, help="embedding rows to keep; default: the config's"
    )
    parser.add_argument(
        "--vision-tower",
        metavar="DIR",
        help="folder of the tower where PATH lacks it; default: PATH/vision_tower",
    )
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.config import load_config
    from mmvlm.config.meta_model import training_length
    from mmvlm.datasets.processor import steps_of, view_of
    from mmvlm.export.from_llava import import_llava
    from mmvlm.export.llava_config import config_from_llava, config_text
    from mmvlm.export.state import read_json

    path = Path(args.path)
    try:
        folder = path.parent if path.is_file() else path
        if args.config is None or args.print_config:
            official = read_json(folder / "config.json")
        if args.config is None:
            cfg = config_from_llava(official, folder)
        else:
            cfg = load_config(args.config)
        imported = import_llava(
            args.path,
            cfg.model.to_dict(),
            base=args.base,
            vocab_size=args.vocab_size,
            vision_tower=args.vision_tower,
            view=view_of(steps_of(cfg)["generate"]),
            max_length=training_length(cfg),
        )
        imported.save(args.out)
        if args.print_config:
            print(config_text(official, folder))
    except user_errors() as error:
        return f"error: {error}"
    return 0


if __name__ == "__main__":
    run_tool(main)
