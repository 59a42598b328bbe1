"""Documentation: links, named files, options, and the blocks marked as runnable.

A block is run when an HTML comment stands before it: ``<!-- run: slow -->`` a
command, ``<!-- run: error -->`` a command that fails with the text block after it,
``<!-- run: config as PATH -->`` a config the doctor must accept,
``<!-- run: data as PATH -->`` annotations, ``<!-- run: python as PATH -->`` a
module that is added to the package.
"""

import doctest
import importlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

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


@pytest.mark.slow
@pytest.mark.parametrize("path", [b.path for b in ADDED if b.kind == "config"])
def test_added_part_trains(path, workspace):
    """The advanced guides: one file and one config are enough."""
    check = run(workspace, f"python tools/misc/check_config.py {path}")
    train = run(workspace, f"python tools/train.py {path} --tiny --work-dir out")

    tokens = "576 tokens -> 144 tokens" if "_pooled_" in path else "576 tokens"
    assert tokens in check.stdout, check.stderr[-2000:]
    assert train.returncode == 0, train.stdout[-2000:] + train.stderr[-2000:]


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
