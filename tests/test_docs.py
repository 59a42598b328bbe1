"""Documentation: links, named files, options, and the blocks marked as runnable.

A block is run when an HTML comment stands before it: ``<!-- run: slow -->`` a
command, ``<!-- run: error -->`` a command that fails with the text block after it,
``<!-- run: config as PATH -->`` a config the doctor must accept,
``<!-- run: data as PATH -->`` annotations, ``<!-- run: python as PATH -->`` a
module that is added to the package.
"""

import ast
import doctest
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
from mmvlm.registry import SCENE_WRITERS

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(p for p in (ROOT / "docs" / "en").rglob("*.md") if "api" not in p.parts),
]
PAGES = [p for p in PAGES if "_build" not in p.parts]
BLOCK = re.compile(
    r"(?:<!-- run: (?P<kind>\w+)(?: as (?P<path>\S+))? -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```",
    re.S | re.M,
)
NAMED_FILE = re.compile(
    r"(?<![\w/.-])((?:tools|configs|docs|requirements|tests|mmvlm)/[\w./-]*\w)"
)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
TOOL = re.compile(r"(tools/[\w/]+\.(?:py|sh))((?:[^\n`|]|\n    )*)")


@dataclass(frozen=True)
class Block:
    page: Path
    kind: str | None
    path: str | None
    language: str
    text: str


def blocks(page):
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield Block(page, **match.groupdict())


ALL_BLOCKS = [block for page in PAGES for block in blocks(page)]
#: Files that the pages tell a reader to write.
WRITTEN = {block.path for block in ALL_BLOCKS if block.path}


def of_kind(*kinds):
    chosen = [b for b in ALL_BLOCKS if b.kind in kinds]
    names = [f"{b.page.stem}-{b.path or b.text.split()[1]}" for b in chosen]
    return pytest.mark.parametrize("block", chosen, ids=names)


over_pages = pytest.mark.parametrize(
    "page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix()
)


def source_of(tool):
    """Return a tool's source with what it starts or takes its command line from."""
    if not tool.exists():
        return ""
    source = tool.read_text()
    if tool.suffix == ".sh":
        return source + (ROOT / "tools" / "train.py").read_text()
    modules = re.findall(r"^from (\w+) import", source, re.M)
    neighbours = [tool.with_name(f"{module}.py") for module in modules]
    neighbours += tool.with_name(f"{tool.stem}s").glob("*.py")  # subcommands
    return "".join([source, *(n.read_text() for n in neighbours if n.exists())])


# ------------------------------------------------------------------- static
@over_pages
def test_links_lead_somewhere(page):
    targets = LINK.findall(page.read_text(encoding="utf-8"))

    local = [t for t in targets if not re.match(r"https?:|mailto:", t)]
    assert [t for t in local if not (page.parent / t).exists()] == []


@over_pages
def test_named_files_exist(page):
    named = set(NAMED_FILE.findall(page.read_text(encoding="utf-8"))) - WRITTEN

    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@over_pages
def test_options_exist(page):
    wrong = []
    for tool, rest in TOOL.findall(page.read_text(encoding="utf-8")):
        source = source_of(ROOT / tool)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest.split("#")[0]):
            if option not in source:
                wrong.append(f"{tool} {option}")
    assert wrong == []


@over_pages
def test_pages_have_no_leftovers(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"\bTODO\b|\bTBD\b|\bFIXME\b|lorem", text)
    assert text.strip().count("\n") > 2, "a page exists when it has content"


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / "docs" / "en" / "index.md").read_text()
    listed = set(re.findall(r"^[\w/]+$", index, re.M))
    pages = {
        p.relative_to(ROOT / "docs" / "en").with_suffix("").as_posix()
        for p in PAGES[1:]
    } - {"index"}
    assert pages - listed == set()


def test_marked_blocks_were_found():
    kinds = {block.kind for block in ALL_BLOCKS}
    assert {"slow", "error", "config", "data", "python"} <= kinds


# ----------------------------------------------------------------- run them
WITH_EXAMPLES = [
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in sorted((ROOT / "mmvlm").rglob("*.py"))
    if ">>> " in path.read_text() and ".mim" not in path.parts
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstring_examples_hold(name):
    module = importlib.import_module(name.removesuffix(".__init__"))

    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A copy of the clone with the files that the pages tell a reader to write."""
    home = tmp_path_factory.mktemp("clone")
    ignore = shutil.ignore_patterns("__pycache__", ".mim")
    for name in ("mmvlm", "configs", "tools"):
        shutil.copytree(ROOT / name, home / name, ignore=ignore)
    for block in ALL_BLOCKS:
        if block.path:
            target = home / block.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text)
    return home


def run(workspace, command):
    command = re.sub(r"^python ", f"{sys.executable} ", command.strip(), flags=re.M)
    return subprocess.run(
        ["bash", "-ec", command],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(workspace), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.slow
@of_kind("slow")
def test_command_runs(block, workspace):
    done = run(workspace, block.text)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.slow
@of_kind("error")
def test_command_fails_as_shown(block, workspace):
    following = ALL_BLOCKS[ALL_BLOCKS.index(block) + 1]
    assert following.language == "text"

    done = run(workspace, block.text)

    assert done.returncode != 0
    assert following.text.strip() in done.stdout + done.stderr


@pytest.mark.slow
def test_configs_pass_the_doctor(workspace):
    paths = sorted(b.path for b in ALL_BLOCKS if b.kind == "config")
    assert paths

    done = run(workspace, f"python tools/misc/check_config.py {' '.join(paths)}")

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert [f"{path}: fine" in done.stdout for path in paths] == [True] * len(paths)


@of_kind("data")
def test_annotations_are_read(block, workspace):
    from mmvlm.datasets.readers.llava import LLaVADataset

    path = workspace / block.path
    data = LLaVADataset(path.name, data_root=str(path.parent), pipeline=[])

    talks = [data[i]["conversation"] for i in range(len(data))]
    assert [len(talk.images) for talk in talks] == [1, 2, 0]
    assert talks[0].turns[-1].text == "One."


ADDED = [block for block in ALL_BLOCKS if block.page.stem.startswith("add_")]
REGIONS, HEAD = "add_a_region_encoder", "add_a_head"


@pytest.mark.slow
@pytest.mark.parametrize("path", [b.path for b in ADDED if b.kind == "config"])
def test_added_part_trains(path, workspace):
    """The advanced guides: one file and one config are enough."""
    check = run(workspace, f"python tools/misc/check_config.py {path}")
    train = run(workspace, f"python tools/train.py {path} --tiny --work-dir out")

    tokens = "576 tokens -> 144 tokens" if "_pooled_" in path else "576 tokens"
    assert tokens in check.stdout, check.stderr[-2000:]
    assert train.returncode == 0, train.stdout[-2000:] + train.stderr[-2000:]


@pytest.fixture(scope="module")
def scenes(workspace):
    """Referring expressions beside the pages' files."""
    SCENE_WRITERS.import_from_location()
    formats = ("llava", "refcoco")
    make_tiny_scenes(workspace / "scenes", num_train=8, num_test=1, formats=formats)
    return workspace


#: Trains the config of a page, with its own task, on scenes; says what was seen.
WITH_REGIONS = """
import json, sys
import mmvlm
from mmvlm.config import load_config
from mmvlm.engine.runner import build_runner
from mmvlm.engine.runner.checkpoint import unwrap
from mmvlm.structures import VLMBatch

path, name = sys.argv[1:]
task = load_config(path, check=False).train_dataloader.dataset.get("task")
cfg = load_config(path, tiny=True)
cfg.train_dataloader.dataset = dict(
    type="RefCOCODataset", data_root="scenes", ann_file="refcoco/refs(unc).p",
    image_prefix="images", indices=16, **(dict(task=task.to_dict()) if task else {}),
)
cfg.work_dir, cfg.launcher = f"out_{name}", "none"
runner = build_runner(cfg)
model = unwrap(runner.model)
part = getattr(model, name)
seen = dict(steps=0, slots=0, rows=0, targets=0)

def count(_, args, kwargs):
    (batch,) = (v for v in (*args, *kwargs.values()) if isinstance(v, VLMBatch))
    seen["steps"] += 1
    if "region" in batch.inputs:
        seen["slots"] += len(batch.inputs["region"].slot_index)
    seen["targets"] += len(batch.targets.get(name, ()))

def filled(_, args, rows):
    seen["rows"] += rows.shape[0] if rows.abs().sum() > 0 else 0

model.register_forward_pre_hook(count, with_kwargs=True)
if name == "region_encoder":
    part.register_forward_hook(filled)
before = {key: one.detach().clone() for key, one in part.named_parameters()}
runner.train()
seen["still"] = [k for k, one in part.named_parameters() if one.equal(before[k])]
seen["weights"] = len(before)
print("SEEN", json.dumps(seen))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("stem", "name"), [(REGIONS, "region_encoder"), (HEAD, "box")])
def test_added_part_learns_from_regions(stem, name, scenes):
    (path,) = (b.path for b in ADDED if b.page.stem == stem and b.kind == "config")
    (scenes / "with_regions.py").write_text(WITH_REGIONS)

    done = run(scenes, f"python with_regions.py {path} {name}")

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    seen = json.loads(done.stdout.rpartition("SEEN ")[2])
    assert seen["steps"] == 2 and seen["weights"] and seen["still"] == []
    if name == "region_encoder":  # a region, one slot, per sample of each step
        assert seen["slots"] == seen["rows"] == 4
    else:
        assert seen["targets"] == 4


def lines_of_code(text):
    """Count lines, but for blank ones, docstrings and imports."""
    left = set()
    for node in ast.walk(ast.parse(text)):
        string = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if string or isinstance(node, ast.Import | ast.ImportFrom):
            left |= set(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(bool(line.strip()) and number not in left for number, line in lines)


@pytest.mark.parametrize("stem", [REGIONS, HEAD])
def test_a_part_for_regions_is_a_short_file_and_a_short_config(stem):
    own = [b for b in ADDED if b.page.stem == stem]

    parts = [b for b in own if b.kind == "python" and "/models/" in b.path]
    configs = [b for b in own if b.kind == "config"]
    assert len(parts) == len(configs) == 1
    assert [lines_of_code(b.text) <= 20 for b in (*parts, *configs)] == [True, True]


def has_contract(block):
    """Heads, encoders and transforms are tested by what is trained with them."""
    rooms = ("connectors", "fusers", "adapters", "region_encoders")
    return block.kind == "python" and block.path.split("/")[-2] in rooms


CONTRACTS = """
import mmvlm.models
from mmvlm.testing import adapter_contract as a, connector_contract as c
from mmvlm.testing import region_contract as r
for classes, checks in (
    (a.adapter_classes(), a.ADAPTER_CHECKS),
    (c.connector_classes() | c.fuser_cases(), c.CONNECTOR_CHECKS),
    (r.region_classes(), r.REGION_CHECKS),
):
    if NAME in classes:
        break
for check in checks.values():
    check(classes[NAME])
"""


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in ADDED if has_contract(b)])
def test_added_part_keeps_its_contract(block, workspace):
    (name,) = re.findall(r"register_module\(\)\nclass (\w+)", block.text)
    script = workspace / "contract.py"
    script.write_text(f"NAME = {name!r}\n{CONTRACTS}")

    done = run(workspace, "python contract.py")

    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_pages_build_without_warnings(tmp_path):
    pytest.importorskip("sphinx", reason="needs the package sphinx")

    done = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"),
            *("-b", "html", "-d", tmp_path / "trees", ROOT / "docs" / "en"),
            tmp_path / "html",
        ],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    table = (tmp_path / "html" / "api" / "components.html").read_text()
    assert "MLPConnector" in table
