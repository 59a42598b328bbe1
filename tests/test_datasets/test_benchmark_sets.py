"""Every config of a benchmark, over TinyScenes in the layout of the public set."""

import os
from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.datasets.tiny_scenes.benchmarks import write_benchmarks
from mmvlm.evaluation.benchmark import Benchmark
from mmvlm.evaluation.functional.submissions import WRITERS
from mmvlm.registry import DATASETS, SCORERS

FOLDER = Path(__file__).parents[2] / "configs/_base_/benchmarks"
CONFIGS = sorted(FOLDER.glob("*.py"))
#: Their answers are known to a server alone.
HIDDEN = ("vqav2_testdev", "vqav2_testdev_llava", "vizwiz_test")
over_configs = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    before = os.environ.get("MMVLM_CACHE")
    os.environ["MMVLM_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    write_benchmarks(folder, num=16, seed=1)
    yield folder
    os.environ.pop("MMVLM_CACHE")
    if before is not None:
        os.environ["MMVLM_CACHE"] = before


def opened(path, data):
    """Return a benchmark and its reader over TinyScenes."""
    benchmark = Benchmark(**load_config(path).benchmark.to_dict())
    config = dict(benchmark.dataset)
    config["data_root"] = str(data / os.path.relpath(config["data_root"], "data"))
    return benchmark, DATASETS.build(config)


def answered(dataset, benchmark):
    """Return answer records that answer with the reference."""
    records = []
    for position in range(len(dataset)):
        item = dataset.item_at(position)
        talk, meta = item["conversation"], dict(item["conversation"].meta)
        talk.check()
        assert talk.turns[-1].role == "assistant" or talk.turns[-1].text.strip()
        image = [p if isinstance(p, str) else hash(p) for p in talk.images]
        own = [key for key in ("question_id", "reference") if key in meta]
        record = {key: meta.pop(key) for key in own}
        if "choices" in meta:
            meta["options"] = meta["choices"]
        text = talk.turns[-1].text.strip()
        records.append(
            dict(
                record,
                uid=f"{benchmark.name}/{item['index']}",
                sample_id=talk.id,
                index=item["index"],
                image=image[0] if image else None,
                question=meta.get("question", ""),
                text=text if talk.turns[-1].role == "assistant" else "",
                finish="stop",
                meta=meta,
                cluster=meta.get(benchmark.cluster, str(image)),
            )
        )
    return records


def test_there_are_enough_and_they_are_short():
    lines = {path.stem: path.read_text().count("\n") for path in CONFIGS}
    members = {p.stem for p in CONFIGS if "_base_ =" in p.read_text()}

    assert len(CONFIGS) >= 40
    assert {name: n for name, n in lines.items() if n > 30} == {}
    assert {name: n for name, n in lines.items() if name in members and n > 20} == {}


@over_configs
def test_a_config_says_how_a_set_is_asked_and_scored(path):
    benchmark = Benchmark(**load_config(path).benchmark.to_dict())

    assert benchmark.name == path.stem
    assert benchmark.generation["max_new_tokens"] >= 8
    assert SCORERS.build(dict(benchmark.scorer)).headline == benchmark.headline
    assert benchmark.dataset["evaluate"] and not set(benchmark.dataset) & {"pipeline"}


@over_configs
def test_records_hold_what_scoring_needs(path, data):
    benchmark, dataset = opened(path, data)

    records = answered(dataset, benchmark)

    ids = [record["sample_id"] for record in records]
    assert len(set(ids)) == len(ids) >= 5
    hidden = [record["reference"] is None for record in records]
    assert set(hidden) == {path.stem in HIDDEN}
    if benchmark.submission is not None and benchmark.submission["type"] != "mmbench":
        files = WRITERS[benchmark.submission["type"]](records)
        assert files and all(files.values())
    scorer = SCORERS.build(dict(benchmark.scorer))
    if hasattr(scorer, "messages"):  # a judge's
        assert all(scorer.messages(record) for record in records)
    elif path.stem not in HIDDEN:
        for record in records:
            if not record["text"]:
                found = scorer.reference_answer(record)
                record["text"] = found["text"]
                record["meta"]["pred_regions"] = found.get("pred_regions", [])
        verdicts = [scorer.verdict(record) for record in records]
        totals = scorer.totals(records, verdicts)
        top = totals.metrics[benchmark.headline]
        assert float(totals.statistic(totals.units.sum(0))) == pytest.approx(top)
        if benchmark.headline == "cider":  # depends on how far captions agree
            assert 0 < top <= benchmark.ceiling
        elif benchmark.headline == "final":  # a count
            assert top == len(records)
        else:
            assert top == pytest.approx(benchmark.ceiling, rel=1e-4)


def test_a_part_of_the_sets_is_written_the_same_each_time(tmp_path):
    for name in ("a", "b"):
        assert write_benchmarks(tmp_path / name, num=14, formats=["mm_vet"]) == [
            "mm_vet"
        ]
    first, second = (tmp_path / name / "mm-vet/mm-vet.json" for name in ("a", "b"))

    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["mm-vet"]
    with pytest.raises(ValueError, match="num=3: expected at least 14"):
        write_benchmarks(tmp_path, num=3)
