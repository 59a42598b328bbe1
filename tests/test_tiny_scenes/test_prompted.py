"""A share of the conversations asks as the configs of benchmarks do."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.datasets.readers.questions import SHORT_ANSWER
from mmvlm.datasets.tiny_scenes.benchmarks import write_benchmarks
from mmvlm.datasets.tiny_scenes.prompted import (
    OPTION_LAYOUTS,
    YES_NO_ENDINGS,
    prompted,
)
from mmvlm.datasets.tiny_scenes.questions import choices_of, letter_of
from mmvlm.datasets.tiny_scenes.samples import training_samples
from mmvlm.datasets.tiny_scenes.writers.llava_json import LLaVAJSONWriter
from mmvlm.registry import DATASETS

BENCHMARKS = Path(__file__).parents[2] / "configs/_base_/benchmarks"
SAMPLES = list(training_samples(400, 3))


def talks(share):
    """Return the turns of every first conversation, before and after."""
    parts = [(sample, sample.turns[:3]) for sample in SAMPLES]
    return [(one, turns, prompted(one, 0, turns, share)) for one, turns in parts]


@pytest.fixture(scope="module")
def changed():
    return [talk for talk in talks(1.0) if talk[1] is not talk[2]]


def options_of(text):
    """Return letter to option of a question in one of the layouts; None: no options."""
    if "\nOptions: (" in text:
        row = text.partition("\nOptions: ")[2].partition("\n")[0]
        pairs = [part.split(") ") for part in row.removeprefix("(").split(" (")]
        return dict(pairs)
    lines = [line.split(". ") for line in text.split("\n") if line[1:3] == ". "]
    return dict(lines) or None


def test_a_share_is_asked_with_prompts_and_all_else_stays():
    assert all(before is after for _, before, after in talks(0.0))
    part = sum(before is not after for _, before, after in talks(0.25))
    assert 0.17 < part / len(SAMPLES) < 0.33
    assert SAMPLES == list(training_samples(400, 3))


def test_the_letter_names_the_answer_and_falls_on_every_place_alike(changed):
    places = Counter()
    for sample, before, (first, *_) in changed:
        if (options := options_of(first.text)) is None:
            continue
        assert list(options) == [letter_of(n) for n in range(len(options))]
        own = [q for q in before if q.text in first.text]
        assert [options[first.answer]] == [q.answer for q in own]
        places[len(options), first.answer] += 1
        assert choices_of(sample, 0) == choices_of(sample, 0)
    four = [places[4, letter] for letter in "ABCD"]
    two = [places[2, letter] for letter in "AB"]
    assert 0.4 < sum(places.values()) / len(changed) < 0.6
    assert min(four) > 0.15 * sum(four) and min(two) > 0.35 * sum(two)


def test_yes_and_no_are_asked_for_equally_often(changed):
    answers = Counter(
        first.answer
        for _, _, (first, *_) in changed
        if first.text.endswith(YES_NO_ENDINGS[1:]) and "\nA. " not in first.text
    )

    assert set(answers) == {"yes", "no"}
    assert 0.35 < answers["yes"] / sum(answers.values()) < 0.65


def test_prompts_make_conversations_no_longer(changed):
    def length(turns):
        text = " ".join(f"USER: {q.text} ASSISTANT: {q.answer}</s>" for q in turns)
        return len(re.findall(r"\w+|[^\w\s]|\n", text))

    before, after = (sum(length(talk[place]) for talk in changed) for place in (1, 2))
    assert after < before


def test_the_writer_takes_the_share(tmp_path):
    with pytest.raises(ValueError, match="prompted_share=2: expected 0 to 1"):
        LLaVAJSONWriter(str(tmp_path), prompted_share=2)
    files = []
    for share in (0.0, 0.5):
        LLaVAJSONWriter(str(tmp_path), prompted_share=share).write("train", SAMPLES)
        files.append(json.loads((tmp_path / "train.json").read_text()))
    plain, mixed = files

    assert [row["id"] for row in plain] == [row["id"] for row in mixed]
    same = [a == b for a, b in zip(plain, mixed, strict=True)]
    assert 0.55 < sum(same) / len(same) < 0.8
    assert all(
        row["conversations"][0]["value"].startswith("<image>\n") for row in mixed
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    formats = (
        "vqav2",
        "pope",
        "mme",
        "vizwiz",
        "scienceqa",
        "seed_bench",
        "option_tsv",
    )
    write_benchmarks(folder, num=14, seed=1, formats=formats)
    return folder


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("vqav2_val", [f"\n{SHORT_ANSWER}"]),
        ("pope", YES_NO_ENDINGS[:1]),
        ("hallusionbench", YES_NO_ENDINGS[1:2]),
        ("mme", YES_NO_ENDINGS[:1]),
        ("seed", OPTION_LAYOUTS[:1]),
        ("scienceqa_img", OPTION_LAYOUTS[1:2]),
        ("mmstar", OPTION_LAYOUTS[2:]),
    ],
)
def test_the_wordings_are_those_of_the_benchmarks(name, known, data):
    config = load_config(BENCHMARKS / f"{name}.py").benchmark.dataset.to_dict()
    config["data_root"] = config["data_root"].replace("data", str(data), 1)
    talk = DATASETS.build(config).item_at(0)["conversation"]

    text, question = talk.turns[0].text, talk.meta["question"]
    if options := options_of(text):
        lines = "\n".join(f"{key}. {option}" for key, option in options.items())
        row = " ".join(f"({key}) {option}" for key, option in options.items())
        (layout,) = known
        known = [layout.format(question=question, lines=lines, row=row)]
    assert len(known) == 1
    assert text.removeprefix("<image>\n").rstrip(" \n").endswith(known[0].rstrip(" \n"))
