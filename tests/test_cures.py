"""Every command, option and file that a message names is there to be used."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ("mmvlm", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if ".mim" not in path.parts and "visualization" not in path.parts
)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z_-]*[a-z]")
SCRIPT = re.compile(r"tools/[\w/]+\.(?:py|sh)")
#: Options of other programs that our code calls or names.
FOREIGN = {"--untracked-files", "--porcelain", "--no-deps"}  # git's and pip's
FOREIGN |= {"--standalone", "--nproc_per_node", "--redirects", "--tee"}  # torchrun's


def messages(path):
    """Texts of a module that are no docstring and no definition of an option."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        named = getattr(getattr(node, "func", None), "attr", "")
        if named == "add_argument":
            skipped |= {id(arg) for arg in node.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [p for p in node.values if isinstance(p, ast.Constant)]
            skipped |= {id(part) for part in parts}
            yield node.lineno, "{}".join(part.value for part in parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in skipped:
                yield node.lineno, node.value


def options_of(script):
    """Options that a tool takes, read from its parser."""
    text = script.read_text(encoding="utf-8")
    if script.suffix == ".sh":
        return set()  # hands its options on
    return {
        arg.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        for arg in node.args
        if isinstance(arg, ast.Constant) and str(arg.value).startswith("--")
    }


TOOLS = {
    path.relative_to(ROOT).as_posix(): options_of(path)
    for pattern in ("*.py", "*.sh")
    for path in (ROOT / "tools").rglob(pattern)
}
ALL = set().union(*TOOLS.values(), *map(options_of, SOURCES))
TOLD = [
    (path.relative_to(ROOT).as_posix(), line, text)
    for path in SOURCES
    for line, text in messages(path)
    if (" " in text and OPTION.search(text) and "var(--" not in text)  # not CSS
    or SCRIPT.search(text)
    or "pip install" in text
]


def test_there_are_messages_with_cures():
    assert len(TOLD) > 20


@pytest.mark.parametrize(
    ("path", "line", "text"), TOLD, ids=[f"{path}:{line}" for path, line, _ in TOLD]
)
def test_a_cure_can_be_used(path, line, text):
    scripts = SCRIPT.findall(text)
    assert all(script in TOOLS for script in scripts), scripts
    python = [script for script in scripts if script.endswith(".py")]
    known = set().union(*(TOOLS[script] for script in python)) if python else ALL
    lost = set(OPTION.findall(text)) - known - FOREIGN
    assert not lost, f"{path}:{line}: {text!r} names {sorted(lost)}"
    for name in re.findall(r"pip install -r (\S+?)[,.;)]*(?:\s|$)", text):
        assert (ROOT / name).is_file(), name
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"[`'\"]make ([a-z]+)", text):
        assert re.search(rf"^{target}:", makefile, re.M), target
