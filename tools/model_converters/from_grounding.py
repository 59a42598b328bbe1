"""Import official weights of Ferret, GPT4RoI, Osprey or Shikra.

PATH is a file or folder of the official code. Released weights are mostly deltas:
--base names the language model that is added to them.
"""

from importer import import_weights, make_parser

from mmvlm.utils.entry import run_tool


def parse_args(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument(
        "--base", help="folder of the language model that a delta was made from"
    )
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.export.from_grounding import import_grounding

    return import_weights(
        args, lambda cfg: import_grounding(args.path, cfg, base=args.base)
    )


if __name__ == "__main__":
    run_tool(main)
