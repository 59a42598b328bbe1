"""Import official weights of Qwen-VL, Qwen-VL-Chat, or Qwen alone."""

from importer import import_weights, make_parser

from mmvlm.utils.entry import run_tool


def parse_args(argv=None):
    return make_parser(__doc__).parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.export.from_qwen_vl import import_qwen_vl

    return import_weights(args, lambda cfg: import_qwen_vl(args.path, cfg))


if __name__ == "__main__":
    run_tool(main)
