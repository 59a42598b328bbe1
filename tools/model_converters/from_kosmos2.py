"""Import transformers' Kosmos-2 (microsoft/kosmos-2-patch14-224)."""

from importer import import_weights, make_parser

from mmvlm.utils.entry import run_tool


def parse_args(argv=None):
    return make_parser(__doc__).parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.export.kosmos2_keys import import_kosmos2

    return import_weights(args, lambda cfg: import_kosmos2(args.path, cfg))


if __name__ == "__main__":
    run_tool(main)
