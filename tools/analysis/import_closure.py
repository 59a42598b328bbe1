"""Count the lines of mmvlm that a training imports before its first step.

The config is loaded and examined as tools/train.py does, which imports what it names.
With --tiny the run of its tiny twins is built as well, with data, loop and hooks.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter

from mmvlm.utils.entry import quiet_stdout, run_tool


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file or name of a shipped one")
    parser.add_argument("--tiny", action="store_true", help="build the tiny twins")
    parser.add_argument("--json", action="store_true", help="lines by module as JSON")
    return parser.parse_args(argv)


def imported_lines():
    """Return the lines of every module of mmvlm that is imported, by its name."""
    files = {
        name: module.__file__
        for name, module in sys.modules.items()
        if name.partition(".")[0] == "mmvlm" and getattr(module, "__file__", None)
    }
    lines = {}
    for name, file in files.items():
        with open(file, encoding="utf-8") as text:
            lines[name] = sum(1 for _ in text)
    return lines


def build(config, tiny, work_dir):
    """Examine a config and build, or only import, what tools/train.py builds."""
    from mmvlm.config import load_config
    from mmvlm.engine.runner import build_runner
    from mmvlm.engine.runner.setup import default_hooks
    from mmvlm.registry import HOOKS

    cfg = load_config(config, tiny=tiny)
    cfg.work_dir = work_dir
    if tiny:
        return build_runner(cfg).train_loop
    hooks = default_hooks(cfg.get("default_hooks")).values()
    return [HOOKS.get(hook["type"]) for hook in hooks if hook is not None]


def main(argv=None):
    import mmvlm  # noqa: F401  before mmengine and transformers: applies shims

    args = parse_args(argv)
    with quiet_stdout(), tempfile.TemporaryDirectory() as folder:
        build(args.config, args.tiny, folder)
    lines = imported_lines()
    if args.json:
        print(json.dumps(lines, indent=1, sort_keys=True))
        return
    rooms = Counter()
    for name, count in lines.items():
        rooms[".".join(name.split(".")[:2])] += count
    for room, count in rooms.most_common():
        print(f"{count:7,}  {room}")
    print(f"{sum(lines.values()):7,}  lines in {len(lines)} modules")


if __name__ == "__main__":
    run_tool(main)
