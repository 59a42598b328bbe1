"""The files of the project, as tests of the house's rules read them."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mmvlm"
SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if ".mim" not in p.parts)
TOOLS = sorted((ROOT / "tools").rglob("*.py"))
SCRIPTS = sorted((ROOT / "tools").rglob("*.sh"))
CONFIGS = sorted((ROOT / "configs").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@functools.cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def over(paths):
    """Make one test of a rule for files: it names every file that breaks the rule.

    A test per file would be seven thousand, most of the suite's, for milliseconds each.
    """

    def decorate(rule):
        def test():
            assert paths
            broken = []
            for path in paths:
                try:
                    rule(path)
                except AssertionError as error:
                    broken.append(f"{name_of(path)}: {error}")
            assert not broken, "\n".join(broken)

        test.__name__, test.__doc__ = rule.__name__, rule.__doc__
        return test

    return decorate


def calls(path, *names):
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in names:
            yield node
