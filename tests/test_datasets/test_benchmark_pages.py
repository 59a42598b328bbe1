"""The page of benchmarks says what the configs say, and its example is a config."""

import re
from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.evaluation.benchmark import Benchmark
from mmvlm.registry import SCORERS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs/_base_/benchmarks"
PAGE = ROOT / "docs/en/user_guides/formats/benchmarks.md"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def row_of(name):
    """Return the line of the page that belongs to a config."""
    benchmark = Benchmark(**load_config(FOLDER / f"{name}.py").benchmark.to_dict())
    scorer = SCORERS.build(dict(benchmark.scorer))
    items = "-" if benchmark.num_items is None else f"{benchmark.num_items:,}"
    chance = "-" if benchmark.chance is None else f"{benchmark.chance:g}"
    title = f"{benchmark.title}, {benchmark.split}"
    title += f" ({benchmark.variant})" if benchmark.variant else ""
    cells = (
        *(f"`{name}`", title, f"`{benchmark.dataset['type']}`"),
        *(f"`{benchmark.scorer['type']}`, {scorer.rule}", benchmark.headline, items),
        *(benchmark.cluster, chance),
    )
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("name", NAMES)
def test_a_config_has_its_line(name):
    assert row_of(name) in PAGE.read_text(encoding="utf-8").splitlines()


def test_no_line_is_left_of_a_config_that_is_gone():
    lines = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.M)

    assert sorted(lines) == NAMES


def test_the_example_is_a_benchmark(tmp_path):
    (text,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    for path in FOLDER.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "my_choices.py").write_text(text)

    benchmark = Benchmark(**load_config(tmp_path / "my_choices.py").benchmark)

    assert text.count("\n") <= 20
    assert benchmark.dataset["ann_file"] == "MyChoices.tsv"
    assert benchmark.dataset["task"]["type"] == "MultipleChoice"
