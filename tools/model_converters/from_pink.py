"""Import what the second stage of PINK's official code saves.

PATH is saved_parameters.pth or its folder; --base puts Llama-2-7b-chat beside it.
"""

from importer import import_weights, make_parser

from mmvlm.utils.entry import run_tool


def parse_args(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--base", help="folder of Llama-2-7b-chat")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.export.from_pink import import_pink

    return import_weights(args, lambda cfg: import_pink(args.path, cfg, base=args.base))


if __name__ == "__main__":
    run_tool(main)
