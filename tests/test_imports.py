"""Who imports whom: layers, circles, extras, and each module by itself."""

import ast
import json
import os
import subprocess
import sys

import pytest
from code_files import PACKAGE, ROOT, SOURCES, name_of, over, parse

# folder of mmvlm -> folders of mmvlm that it must not know. "A room knows the
# rooms it imports and none that import it."
FORBIDDEN_ROOMS = {
    "structures": {
        *("text", "datasets", "models", "engine", "evaluation", "visualization"),
        *("apis", "export", "config", "registry"),
    },
    "text": {
        *("datasets", "models", "engine", "evaluation", "visualization"),
        *("apis", "export", "config"),
    },
    "datasets": {
        *("models", "engine", "evaluation", "visualization", "apis", "export"),
        "config",
    },
    "models": {
        *("datasets", "engine", "evaluation", "visualization", "apis", "export"),
        "config",
    },
    "evaluation": {"models", "datasets", "engine", "apis", "export", "config"},
    "visualization": {"models", "datasets", "engine", "apis", "export", "config"},
    "engine": {"apis", "export"},
    "utils": {
        *("text", "datasets", "models", "engine", "evaluation", "visualization"),
        *("apis", "export", "config"),
    },
}
LAZY_PACKAGES = (
    *("xtuner", "deepspeed", "bitsandbytes", "mmpretrain", "gradio"),
    *("pycocoevalcap", "peft", "mmcv.ops", "spacy", "flash_attn"),
    *("openai", "lmms_eval"),
)
LAZY_PREFIXES = tuple(f"{name}." for name in LAZY_PACKAGES)
HEAVY_PACKAGES = ("torch", "mmengine", "transformers", "numpy", "cv2", "torchvision")
COLLECTIVES = ("engine/", "utils/dist", "utils/launch", "compat.py")


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def run_time_nodes(tree):
    """All nodes but those under ``if TYPE_CHECKING:``."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        children = node.orelse if is_type_checking(node) else ast.iter_child_nodes(node)
        todo.extend(children)


def imported_modules(path, nodes=run_time_nodes):
    """Dotted names that a file imports, also inside functions."""
    package = list(path.relative_to(ROOT).with_suffix("").parts)
    for node in nodes(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level] if node.level else []
            home = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{home}.{alias.name}" for alias in node.names)


@over(SOURCES)
def test_imports_stay_inside_the_allowed_rooms(path):
    parts = path.relative_to(PACKAGE).parts
    room = parts[0].removesuffix(".py")
    modules = list(imported_modules(path))

    outside = [m for m in modules if m.split(".")[0] in ("tools", "tests", "configs")]
    wrong = [
        module
        for module in modules
        if module.startswith("mmvlm.")
        and module.split(".")[1] in FORBIDDEN_ROOMS.get(room, ())
    ]
    assert outside + wrong == []


@over([p for p in SOURCES if "evaluation/functional/" in name_of(p)])
def test_scoring_functions_know_neither_mmengine_nor_ranks(path):
    wrong = [
        module
        for module in imported_modules(path)
        if module.startswith(("mmengine", "torch.distributed"))
    ]
    assert wrong == []


@over(SOURCES)
def test_collectives_are_called_only_in_the_engine(path):
    inside = path.relative_to(PACKAGE).as_posix()
    if inside.startswith(COLLECTIVES):
        return
    wrong = [m for m in imported_modules(path) if m.startswith("torch.distributed")]
    wrong += [
        ast.unparse(node)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.distributed"
    ]
    assert wrong == []


@over(SOURCES)
def test_extras_are_not_imported_at_module_level(path):
    found = []
    for node in parse(path).body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found += [n for n in names if f"{n}.".startswith(LAZY_PREFIXES)]
    assert found == []


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph():
    """Module to the modules that it imports, and to the packages that hold them.

    Imports inside functions and for type checkers count: they hide a circle, and
    break the file of a class that two modules share into two that know each other.
    A package runs before its modules, so its own ones do not lead back to it.
    """
    names = {module_name(path): path for path in SOURCES}
    graph = {}
    for name, path in names.items():
        found = set()
        for target in imported_modules(path, ast.walk):
            while target and target not in names:
                target = target.rpartition(".")[0]
            while target:
                found.add(target)
                target = target.rpartition(".")[0]
        graph[name] = {x for x in found if not f"{name}.".startswith(f"{x}.")}
    return graph


def circles(graph):
    """Return the modules of each import circle (Tarjan's components)."""
    order, low, stack, found = {}, {}, [], []

    def visit(name):
        order[name] = low[name] = len(order)
        stack.append(name)
        for target in graph[name]:
            if target not in order:
                visit(target)
            if target in stack:
                low[name] = min(low[name], low[target])
        if low[name] == order[name]:
            members = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(members) > 1:
                found.append(sorted(members))

    for name in graph:
        if name not in order:
            visit(name)
    return found


def test_no_module_imports_one_that_imports_it():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [
        ["a", "b", "c"]
    ]
    assert circles(import_graph()) == []


def test_a_registry_knows_its_modules_before_it_imports_them():
    """The search for decorators in the sources finds what parsing them finds."""
    from mmvlm import registry

    expected = {}
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            for call in getattr(node, "decorator_list", ()):
                owner, _, method = ast.unparse(getattr(call, "func", call)).rpartition(
                    "."
                )
                if method == "register_module":
                    given = [ast.literal_eval(k.value) for k in call.keywords]
                    names = given[0] if given else node.name
                    for name in [names] if isinstance(names, str) else names:
                        expected.setdefault(owner, {})[name] = [module_name(path)]
    known = {
        name: {k: v for k, v in node.module_dict.modules.items() if k}
        for name, node in vars(registry).items()
        if isinstance(node, registry.Registry)
    }
    expected.pop("ROOT_FUNCTIONS")
    assert {name: found for name, found in known.items() if found} == expected


# ------------------------------------------------- fresh interpreters
IMPORTER = r"""
import importlib, json, os, sys
import mmvlm
heavy = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
import torch, mmengine, mmengine.dist, mmengine.runner, transformers, PIL.Image
torch.set_num_threads(1)
for name in ("transformers.modeling_utils", "transformers.generation", "numpy"):
    importlib.import_module(name)
assert not [name for name in sys.modules if name.startswith("mmvlm.models")]

def in_child(function, *arguments):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = function(*arguments)
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        with os.fdopen(writing, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = json.load(pipe)
    os.waitpid(child, 0)
    return answer

# accelerate and mmengine themselves import some of them when installed.
lazy = [package for package in json.loads(sys.argv[3]) if package not in sys.modules]

def import_one(name):
    importlib.import_module(name)
    return [package for package in lazy if package in sys.modules]

def registries():
    from mmvlm import registry
    return {k: v for k, v in vars(registry).items() if isinstance(v, registry.Registry)}

def registered(names):
    for name in names:
        importlib.import_module(name)
    return {
        key: sorted(
            name for name, value in node.module_dict.items()
            if getattr(value, "__module__", "").startswith("mmvlm.")
        )
        for key, node in registries().items()
    }

def look_up(key, names):
    node = registries()[key]
    return [name for name in names if node.get(name) is None]

modules = json.loads(sys.argv[1])
imports = {name: in_child(import_one, name) for name in modules}
known = in_child(registered, [n for n in modules if not isinstance(imports[n], str)])
missing = {}
if isinstance(known, dict):
    missing = {key: in_child(look_up, key, names) for key, names in known.items()}
print("RESULTS", json.dumps(dict(
    heavy=heavy, imports=imports, known=known, missing=missing)))
"""


MODULES = [module_name(path) for path in SOURCES if not path.stem.startswith("__main")]


@pytest.fixture(scope="module")
def fresh():
    """Each module imported alone, in a process that has not seen mmvlm's others."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", IMPORTER, json.dumps(MODULES)),
            *(json.dumps(HEAVY_PACKAGES), json.dumps(LAZY_PACKAGES)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,  # a second or so per module on a busy machine
    )
    lines = [x for x in done.stdout.splitlines() if x.startswith("RESULTS ")]
    assert lines, done.stderr[-2000:]
    return json.loads(lines[0].removeprefix("RESULTS "))


@pytest.mark.slow
class TestFreshInterpreter:
    def test_import_mmvlm_pulls_nothing_heavy(self, fresh):
        assert fresh["heavy"] == []

    def test_modules_import_alone_and_without_extras(self, fresh):
        assert fresh["imports"].keys() == set(MODULES)
        assert {name: said for name, said in fresh["imports"].items() if said} == {}

    def test_registered_names_are_found_from_the_registry_alone(self, fresh):
        assert isinstance(fresh["known"], dict), fresh["known"]
        assert "MLPConnector" in fresh["known"]["MODELS"]
        assert {key: names for key, names in fresh["missing"].items() if names} == {}


#: Lines that tools/train.py imports for LLaVA-1.5; it may only go down.
MAX_TRAINING_LINES = 21_450


LLAVA = "llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k"


@pytest.mark.slow
def test_a_training_imports_what_its_config_names():
    done = subprocess.run(
        [sys.executable, "tools/analysis/import_closure.py", LLAVA, "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = json.loads(done.stdout)

    assert sum(lines.values()) <= MAX_TRAINING_LINES
    rooms = {name.split(".")[1] for name in lines if "." in name}
    assert not rooms & {"apis", "evaluation", "export", "testing", "visualization"}
    connectors = {name for name in lines if name.startswith("mmvlm.models.connectors.")}
    names = ("base", "linear", "mlp")
    assert connectors == {f"mmvlm.models.connectors.{name}" for name in names}
