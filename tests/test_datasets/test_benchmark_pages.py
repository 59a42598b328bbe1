"""The pages of benchmarks say what the configs say, and the example is a config."""

import re
from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.evaluation.benchmark import Benchmark
from mmvlm.registry import SCORERS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs/_base_/benchmarks"
GUIDES = ROOT / "docs/en/user_guides"
OVERVIEW = GUIDES / "formats/benchmarks.md"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
#: Page of a family and its scorers.
FAMILIES = {
    "ten_answers": ["TenAnswerScorer"],
    "exact": ["GQAScorer", "ExactScorer"],
    "multiple_choice": [
        *("ChoiceScorer", "SEEDScorer", "ScienceQAScorer", "MMMUScorer"),
        "JudgedChoiceScorer",
    ],
    "yes_no": ["YesNoScorer", "MMEScorer", "HallusionBenchScorer"],
    "text_in_images": ["OCRBenchScorer", "ANLSScorer", "RelaxedAccuracyScorer"],
    "captions": ["CaptionScorer"],
    "grounding": ["ReferringScorer", "PhraseGroundingScorer", "RegionNamingScorer"],
    "masks": ["MaskScorer", "GeneralizedMaskScorer", "GroundedConversationScorer"],
    "judged": ["ReviewScorer", "MMVetScorer", "MathVistaScorer"],
}
HEAD = (
    *("name", "set", "reader", "scorer, rule", "headline", "items", "cluster"),
    *("ceiling", "chance", "data version", "source"),
)


def benchmark_of(name):
    return Benchmark(**load_config(FOLDER / f"{name}.py").benchmark.to_dict())


def line_of(name):
    """Return the line that belongs to a config."""
    one = benchmark_of(name)
    title = f"{one.title}, {one.split}" + (f" ({one.variant})" if one.variant else "")
    cells = (
        *(f"`{name}`", title, f"`{one.dataset['type']}`"),
        f"`{one.scorer['type']}`, {SCORERS.build(dict(one.scorer)).rule}",
        one.headline,
        "-" if one.num_items is None else f"{one.num_items:,}",
        *(one.cluster, f"{one.ceiling:g}"),
        "-" if one.chance is None else f"{one.chance:g}",
        *(one.data_version or "-", one.source),
    )
    return f"| {' | '.join(cells)} |"


def table_of(family):
    """Return the table that the page of a family should hold."""
    names = [n for n in NAMES if benchmark_of(n).scorer["type"] in FAMILIES[family]]
    rule = "|" + "---|" * len(HEAD)
    return "\n".join([f"| {' | '.join(HEAD)} |", rule, *map(line_of, names)]) + "\n"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_of_a_family_holds_what_its_configs_say(family):
    text = (GUIDES / f"benchmarks/{family}.md").read_text(encoding="utf-8")

    # Behind the words stands the table and nothing else: copy it from here.
    assert text[text.index("| name |") :] == table_of(family)


def test_every_benchmark_and_scorer_has_one_family():
    known = [scorer for scorers in FAMILIES.values() for scorer in scorers]

    assert len(known) == len(set(known))
    assert {benchmark_of(name).scorer["type"] for name in NAMES} <= set(known)
    assert {page.stem for page in (GUIDES / "benchmarks").iterdir()} == set(FAMILIES)


def test_the_overview_leads_to_every_page_and_counts_its_sets():
    text = OVERVIEW.read_text(encoding="utf-8")

    for family in FAMILIES:
        count = table_of(family).count("\n") - 2
        assert re.search(rf"\(\.\./benchmarks/{family}\.md\) \| {count} \|", text), (
            family,
            count,
        )


def test_the_example_is_a_benchmark(tmp_path):
    (text,) = re.findall(r"```python\n(.*?)```", OVERVIEW.read_text(), re.S)
    for path in FOLDER.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "my_choices.py").write_text(text)

    benchmark = Benchmark(**load_config(tmp_path / "my_choices.py").benchmark)

    assert text.count("\n") <= 20
    assert benchmark.dataset["ann_file"] == "MyChoices.tsv"
    assert benchmark.dataset["task"]["type"] == "MultipleChoice"
