"""Benchmarks as configs: the doctor's eye on them."""

import pytest

from mmvlm.config import ConfigError, load_config
from mmvlm.config.benchmarks import find_benchmarks
from mmvlm.evaluation.benchmark import Benchmark
from mmvlm.evaluation.scorers.base import MeanScorer
from mmvlm.registry import SCORERS

TEXT = """
benchmark = dict(
    name="tiny_scenes",
    title="TinyScenes",
    split="test",
    source="generated",
    dataset=dict(type="LLaVADataset", data_root="data/tiny", ann_file="test.json"),
    generation=dict(max_new_tokens=8),
    scorer=dict(type="SameTextScorer"),
    headline="acc",
)
"""


@pytest.fixture(autouse=True)
def same_text_scorer():
    class SameTextScorer(MeanScorer):
        def judge(self, record):
            return dict(score=record["text"] == record["reference"], parsed=True)

    SCORERS.register_module(module=SameTextScorer)
    yield
    del SCORERS._module_dict["SameTextScorer"]


def load(folder, text):
    path = folder / "tiny.py"
    path.write_text(text)
    return load_config(path)


def test_a_benchmark_passes_the_doctor(tmp_path):
    cfg = load(tmp_path, TEXT)

    benchmark = Benchmark(**cfg.benchmark)

    assert (benchmark.name, benchmark.cluster, benchmark.ceiling) == (
        *("tiny_scenes", "image"),
        100.0,
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("headline=", "headlin=", "unexpected keyword 'headlin' for a benchmark"),
        ('headline="acc",', "", "required keyword 'headline' of a benchmark"),
        ("max_new_tokens", "max_tokens", "unexpected keyword 'max_tokens'"),
        ('"SameTextScorer"', '"SameTexScorer"', "no such scorer. Did you mean"),
        ('"test.json"', '"test.json", annfile=1', "unexpected keyword 'annfile'"),
        ('"test.json"', '"test.json", pipeline=[]', "'pipeline' is no matter of"),
        ('"tiny_scenes"', '"Tiny Scenes"', "expected lower-case letters"),
        ('split="test"', "split=3", "benchmark.split=3"),
        ("benchmark = dict(", "benchmarck = dict(", "unknown top-level field"),
    ],
)
def test_the_doctor_names_what_is_wrong(tmp_path, old, new, message):
    assert old in TEXT

    with pytest.raises(ConfigError) as error:
        load(tmp_path, TEXT.replace(old, new))

    assert message in str(error.value)


def test_a_benchmark_of_python_refuses_what_the_doctor_refuses():
    fields = dict(title="", split="", source="", scorer={}, headline="acc")

    with pytest.raises(ValueError, match="'views' is no matter of"):
        Benchmark(name="a", dataset=dict(views=1), **fields)


def test_names_are_benchmarks_suites_and_files(tmp_path):
    (tmp_path / "tiny.py").write_text(TEXT)

    found = find_benchmarks(f"llava15, pope,{tmp_path / 'tiny.py'}")

    names = [benchmark.name for benchmark in found]
    assert names[-1] == "tiny_scenes" and names.count("pope") == 1
    assert len(names) == 13
    with pytest.raises(FileNotFoundError, match="no benchmark or suite 'popes'"):
        find_benchmarks("popes")


def test_submissions_name_a_format_of_a_server():
    fields = dict(title="", split="", source="", scorer={}, headline="acc")

    with pytest.raises(ValueError, match="'type' must be one of"):
        Benchmark(name="a", dataset={}, submission=dict(type="vqa"), **fields)
