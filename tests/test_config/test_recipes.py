"""Every full config is held against its official script by a table of its README."""

import ast
import math
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from mmvlm.config import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
HEADER = ["field", "official, file", "ours", "why"]
OTHERS = {"_base_", "tiny", "ablations"}
FULL = sorted(
    path
    for path in CONFIGS.glob("*/*.py")
    if path.parent.name not in OTHERS and not path.stem.startswith("_")
)
READMES = sorted({path.parent / "README.md" for path in FULL})
#: What decides a run, so every table has it; endings of dotted names.
NEEDED = (
    "optimizer.lr",
    "optimizer.weight_decay",
    "optim_wrapper.clip_grad",
    "param_scheduler.0.type",
    "param_scheduler.0.warmup_ratio",
    "base_batch_size",
    "train_cfg.max_",
    "train_cfg.loss_norm",
    "max_length",
    "chat_template",
    "model.train_parts",
)


def rows_of(text):
    """Yield the glob and the cells of every row below a heading ``### `glob```."""
    glob = None
    for line in text.splitlines():
        if line.startswith("#"):
            found = re.fullmatch(r"### `([^`]+)`", line)
            glob = found and found[1]
        elif glob and line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells != HEADER and not set(line) <= set("|-"):
                yield glob, cells


def literal(cell):
    """Return the first quoted value of a cell; a word that is no literal as it is."""
    found = re.match(r"`([^`]*)`", cell)
    if found is None:
        return cell
    try:
        return ast.literal_eval(found[1])
    except (ValueError, SyntaxError):
        return found[1]


def resolve(cfg, path):
    """Return the value at a dotted path; a list's item by number or by its type."""
    value = cfg
    for key in path.split("."):
        if isinstance(value, list | tuple):
            if not key.isdigit():
                (value,) = [item for item in value if item.get("type") == key]
            else:
                value = value[int(key)]
        elif value is None or isinstance(value, str):
            return None
        else:
            value = value.get(key)
    return value


def same(one, other):
    if isinstance(one, float) or isinstance(other, float):
        numbers = all(isinstance(v, int | float) for v in (one, other))
        return numbers and math.isclose(one, other, rel_tol=1e-3)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.fixture(scope="module")
def tables():
    return {readme: list(rows_of(readme.read_text())) for readme in READMES}


@pytest.fixture(scope="module")
def configs():
    return {path: load_config(path, check=False) for path in FULL}


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_tables_say_what_the_configs_say(readme, tables, configs):
    wrong = []
    for glob, cells in tables[readme]:
        assert len(cells) == len(HEADER), f"{readme}: {cells}"
        field, official, ours, why = cells
        members = [
            path
            for path in FULL
            if path.parent == readme.parent and fnmatchcase(path.stem, glob)
        ]
        assert members, f"{readme}: no config is named '{glob}'"
        if not same(literal(official), literal(ours)) and not why:
            wrong.append(f"{glob}: {field} differs from the official one without why")
        for path in members:
            found = resolve(configs[path], field.strip("`"))
            if not same(found, literal(ours)):
                wrong.append(f"{path.stem}: {field} is {found!r}, the table {ours}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", FULL, ids=lambda path: path.stem)
def test_every_full_config_has_a_table(path, tables):
    fields = [
        cells[0].strip("`")
        for glob, cells in tables[path.parent / "README.md"]
        if fnmatchcase(path.stem, glob)
    ]

    missing = [name for name in NEEDED if not any(name in field for field in fields)]
    assert not missing, f"{path.parent.name}/README.md: no row of {missing} for it"
    assert len(fields) == len(set(fields)), "two tables speak of one field"


def test_a_table_that_is_wrong_is_found():
    text = "### `a-*`\n\n| field | official, file | ours | why |\n|---|---|---|---|\n"
    text += "| `x.1.y` | `2e-5`, `a.sh` | `0.00002` | |\n## more\n| no | table |\n"

    ((glob, cells),) = rows_of(text)

    assert glob == "a-*" and same(literal(cells[1]), literal(cells[2]))
    cfg = dict(x=[dict(type="A"), dict(type="B", y=2e-5)])
    assert resolve(cfg, "x.1.y") == resolve(cfg, "x.B.y") == 2e-5
    assert not same(literal("`(0.9, 0.95)`"), (0.9, 0.999))
    assert literal("`PadToSquare`, `a.sh`") == "PadToSquare"
    assert literal("not published") == "not published"
