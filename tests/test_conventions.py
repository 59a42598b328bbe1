"""Rules of the house that a machine can keep."""

import ast
import inspect
import os
import re
import subprocess
import sys

import pytest
from code_files import (
    CONFIGS,
    ROOT,
    SCRIPTS,
    SOURCES,
    TESTS,
    TOOLS,
    calls,
    name_of,
    over,
    parse,
)

# Hard limits; what is normal is far below.
MAX_PACKAGE_LINES = 85_500
MAX_FILE_LINES = 530
MAX_FUNCTION_LINES = 80
MAX_POSITIONAL = 5
MAX_DEPTH = 3
# Signatures that another library dictates.
FOREIGN_SIGNATURES = ("segment_attention", "flex_segment_attention")
MACHINE_PATH = re.compile(r"^/(home|root|work|mnt|data|opt|scratch|Users|tmp)(/|$)")


# ------------------------------------------------------------------- code
@over(SOURCES)
def test_no_forbidden_patterns(path):
    found = [f"print, line {node.lineno}" for node in calls(path, "print")]
    for node in calls(path, "torch.load"):
        if "weights_only" not in {keyword.arg for keyword in node.keywords}:
            found.append(f"torch.load without weights_only, line {node.lineno}")
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ExceptHandler):
            silent = all(isinstance(x, ast.Pass | ast.Continue) for x in node.body)
            kind = ast.unparse(node.type) if node.type else None
            if kind is None or (silent and kind in ("Exception", "BaseException")):
                found.append(f"except {kind} that hides errors, line {node.lineno}")
        if isinstance(node, ast.Assert) and node.msg is None:
            found.append(f"assert without a message, line {node.lineno}")
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".cuda"):
            found.append(f".cuda(), line {node.lineno}")
    assert found == []


@over([*SOURCES, *TOOLS, *CONFIGS])
def test_no_machine_paths(path):
    found = [
        (node.value, node.lineno)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and MACHINE_PATH.match(node.value)
    ]
    assert found == []


@over([*SOURCES, *TOOLS, *SCRIPTS, *CONFIGS, *TESTS])
def test_files_are_ascii_and_short(path):
    text = path.read_text(encoding="utf-8")

    odd = [i for i, line in enumerate(text.splitlines(), 1) if not line.isascii()]
    assert odd == [], "lines that are not ASCII"
    assert text.count("\n") <= MAX_FILE_LINES


def test_the_package_is_small():
    """What one tool alone uses stands beside it; what two parts share is one part."""
    lines = sum(path.read_text(encoding="utf-8").count("\n") for path in SOURCES)
    assert lines <= MAX_PACKAGE_LINES


@over([*SOURCES, *TOOLS])
def test_functions_are_short_with_few_positional_arguments(path):
    found = []
    for node in ast.walk(parse(path)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if (lines := node.end_lineno - node.lineno + 1) > MAX_FUNCTION_LINES:
            found.append(f"{node.name}: {lines} lines")
        names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        foreign = node.name.startswith("_") or node.name in FOREIGN_SIGNATURES
        if count > MAX_POSITIONAL and not foreign:
            found.append(f"{node.name}: {count} positional arguments")
    assert found == []


@over([p for p in SOURCES if not p.stem.startswith("_")])
def test_public_names_have_docstrings(path):
    tree = parse(path)
    missing = [] if ast.get_docstring(tree) else ["module"]
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.ClassDef):
            todo.extend(node.body)
        if (
            isinstance(node, ast.ClassDef | ast.FunctionDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
            and not any("override" in ast.unparse(d) for d in node.decorator_list)
        ):
            missing.append(node.name)
    # Methods that fulfil a documented contract inherit its text.
    assert [name for name in missing if not _inherits(path, name)] == []


def _inherits(path, name):
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ClassDef) and node.bases:
            if any(
                isinstance(x, ast.FunctionDef) and x.name == name for x in node.body
            ):
                return True
    return False


# ---------------------------------------------------------------- modules
def registered_modules():
    from torch import nn

    from mmvlm.registry import MODELS

    MODELS.import_from_location()
    found = {
        value
        for value in MODELS.module_dict.values()
        if inspect.isclass(value)
        and issubclass(value, nn.Module)
        and value.__module__.startswith("mmvlm.")
    }
    return sorted(found, key=lambda value: value.__name__)


def test_every_forward_says_its_shapes():
    modules = registered_modules()
    assert modules

    silent = [
        f"{module.__module__}.{module.__name__}"
        for module in modules
        if module.forward.__module__.startswith("mmvlm.")
        and "Shape:" not in (module.forward.__doc__ or "")
    ]
    assert silent == []


def test_registered_name_is_the_class_name():
    from mmvlm.registry import MODELS

    registered_modules()
    assert [
        (name, value.__name__)
        for name, value in MODELS.module_dict.items()
        if inspect.isclass(value) and name != value.__name__
    ] == []


def test_inheritance_is_shallow():
    deep = []
    for module in registered_modules():
        own = [c for c in module.__mro__ if c.__module__.startswith("mmvlm.")]
        if len(own) > MAX_DEPTH + 1:
            deep.append([c.__name__ for c in own])
    assert deep == []


# ------------------------------------------------------------------ tests
def test_test_modules_have_names_of_their_own():
    """Test folders are no packages: pytest and workers import files by bare name."""
    names = [path.stem for path in TESTS if path.stem != "conftest"]
    assert sorted({name for name in names if names.count(name) > 1}) == []
    imported = r"^\s*(from conftest import|import conftest)"
    guilty = [p.name for p in TESTS if re.search(imported, p.read_text(), re.M)]
    assert guilty == [], "each folder has a conftest; share through a helper module"


# ------------------------------------------------------------------- ruff
@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]])
def test_ruff_is_clean(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--no-cache", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_shell_scripts_parse():
    scripts = [*SCRIPTS, ROOT / "requirements" / "install.sh", ROOT / ".ci" / "run"]
    for path in scripts:
        done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert os.access(path, os.X_OK), f"{name_of(path)} is not executable"
