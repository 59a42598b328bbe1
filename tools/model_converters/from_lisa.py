"""Import a checkpoint of the official LISA code, its LoRA merged."""

from importer import import_weights, make_parser

from mmvlm.utils.entry import run_tool


def parse_args(argv=None):
    return make_parser(__doc__).parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.export.from_lisa import import_lisa

    return import_weights(args, lambda cfg: import_lisa(args.path, cfg))


if __name__ == "__main__":
    run_tool(main)
