"""Import a transformers LLaVA folder (LlavaForConditionalGeneration)."""

import argparse

from mmvlm.utils.entry import run_tool, user_errors


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="with config.json and weights")
    parser.add_argument("out", help="checkpoint to write (.pth)")
    parser.add_argument(
        "--config", help="our config that the weights must fit; default: config.json's"
    )
    parser.add_argument(
        "--vocab-size",
        type=int,
        help="keep that many embedding rows (32000 for Vicuna); default: the "
        "config's, or all",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the model as a config"
    )
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmengine.config import Config

    from mmvlm.config import load_config
    from mmvlm.export.from_hf import import_hf

    try:
        cfg = load_config(args.config).model.to_dict() if args.config else None
        imported = import_hf(args.folder, cfg, vocab_size=args.vocab_size)
        imported.save(args.out)
    except user_errors() as error:
        return f"error: {error}"
    if args.print_config:
        tokenizer = dict(type="HFTokenizer", name_or_path=args.folder)
        shown = Config(dict(model=imported.model_cfg, tokenizer=tokenizer))
        print(shown.pretty_text)
    return 0


if __name__ == "__main__":
    run_tool(main)
