"""Import a checkpoint of the official OneLLM code.

PATH is a file, or a folder of shards. A stage-I file (one expert) fits the config
of stage I only; load_from=dict(..., grow=True) makes the next stage of it.
"""

from importer import import_weights, make_parser

from mmvlm.utils.entry import run_tool


def parse_args(argv=None):
    return make_parser(__doc__).parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from mmvlm.export.from_onellm import import_onellm

    return import_weights(args, lambda cfg: import_onellm(args.path, cfg))


if __name__ == "__main__":
    run_tool(main)
