"""Published scores: one source, and beside whose scores they stand."""

import json
from pathlib import Path

import pytest
import yaml

import mmvlm.apis.benchmarks as benchmarks
import mmvlm.apis.published as published
from mmvlm.apis.benchmarks import BenchmarkOptions, run_benchmarks
from mmvlm.apis.published import published_row, published_scores, system_of
from mmvlm.apis.rescoring import rescore, write_answers
from mmvlm.config import load_config
from mmvlm.config.benchmarks import shipped_benchmarks
from mmvlm.datasets.tiny_scenes.benchmarks import write_benchmarks
from mmvlm.evaluation.tables import comma_separated, markdown, text

ROOT = Path(__file__).parents[2]
METAFILES = sorted(ROOT.glob("configs/*/metafile.yml"))
LLAVA = "llava-clip-l14-336_mlp2x_vicuna-v15-{}_8xb16-1e-ft{}_llava-665k"
MMFUSER = "llava-clip-l14-336_mmfuser_vicuna-v15-{}_8xb16-1e-ft_llava-665k"
COLUMNS = {
    "VQAv2": "vqav2_testdev",
    "GQA": "gqa",
    "VizWiz": "vizwiz_test",
    "SQA-I": "scienceqa_img",
    "TextVQA": "textvqa_ocr",
    "POPE": "pope",
    "MME": "mme",
    "MMB": "mmbench",
    "MMB-CN": "mmbench_cn",
    "SEED": "seed",
    "LLaVA-W": "llava_bench_wild",
    "MM-Vet": "mm_vet",
}


def table_of(path, first):
    """The rows of the first table of a README, by their first cell."""
    lines = (ROOT / path).read_text().splitlines()
    rows = [[c.strip() for c in line.strip("| ").split("|")] for line in lines]
    start = next(n for n, row in enumerate(rows) if row[:2] == ["model", first])
    end = next(n for n, row in enumerate(rows) if n > start and len(row) < 2)
    return rows[start][1:], {row[0]: row[1:] for row in rows[start + 2 : end]}


@pytest.mark.parametrize("path", METAFILES, ids=lambda p: p.parent.name)
def test_scores_name_benchmarks_or_say_by_a_capital_that_none_fits(path):
    known = shipped_benchmarks()
    for model in yaml.safe_load(path.read_text())["Models"]:
        assert Path(model["Config"]).stem == model["Name"]
        seen = [key for result in model["Results"] for key in result["Metrics"]]
        assert len(seen) == len(set(seen)), model["Name"]
        assert all(key in known or key[0].isupper() for key in seen), seen


@pytest.mark.parametrize(
    ("path", "systems"),
    [
        (
            "configs/llava/README.md",
            {
                "7B": LLAVA.format("7b", ""),
                "13B": LLAVA.format("13b", ""),
                "7B LoRA": LLAVA.format("7b", "-lora"),
                "13B LoRA": LLAVA.format("13b", "-lora"),
            },
        ),
        ("configs/mmfuser/README.md", {"+ MMFuser": MMFUSER.format("13b")}),
    ],
)
def test_tables_of_systems_tell_the_same(path, systems):
    columns, rows = table_of(path, "VQAv2")
    assert columns == list(COLUMNS)
    for row, name in systems.items():
        scores = published_scores(name)
        assert [float(cell) for cell in rows[row]] == [
            scores[benchmark] for benchmark in COLUMNS.values()
        ]


def test_a_system_is_its_name_and_every_setting_of_its_model(tmp_path, monkeypatch):
    name = LLAVA.format("7b", "-lora")

    cfg = load_config(name)
    assert system_of(cfg) == name
    assert system_of(load_config(name, tiny=True)) is None
    rank = {"model.language_model.lora.r": 8}
    assert system_of(load_config(name, rank)) is None
    for key in ("adapters", "config.sliding_window"):
        added = {f"+model.language_model.{key}": 8}
        assert system_of(load_config(name, added, check=False)) is None
    moved = {"model.language_model.name_or_path": "elsewhere/vicuna"}
    assert system_of(load_config(name, moved)) == name

    # What a training leaves: the resolved config under two names.
    for file in ("config.py", f"{name}.py"):
        (tmp_path / file).write_text(cfg.pretty_text)
    assert system_of(load_config(tmp_path / "config.py")) == name

    shipped = dict(cfg.model.language_model)
    del shipped["config"]
    cfg.model.language_model = shipped
    monkeypatch.setattr(published, "load_config", lambda *_, **__: cfg)
    assert system_of(load_config(name)) == name  # a part with that of its weights

    tiny = "llava-clip-tiny_mlp2x_smollm2-135m_1xb16-150i-ft-lora_tiny-scenes"
    assert system_of(load_config(tiny)) is None
    with pytest.raises(ValueError, match=r"no scores of .* Did you mean '.*lora"):
        published_scores(name[:-1])
    assert published_row(name, "mmvp") == published_row(None, "pope") == {}


def test_scores_that_do_not_compare_stand_beside_no_run(
    config_file, tmp_path, monkeypatch
):
    write_benchmarks(tmp_path / "data", num=14, seed=1, formats=["pope"])
    name = LLAVA.format("7b", "")

    def published_of(out, **more):
        options = BenchmarkOptions(
            **dict(data_root=str(tmp_path / "data"), answers="reference"), **more
        )
        (row,) = run_benchmarks(config_file, None, "pope", tmp_path / out, options)
        return row.get("published_of")

    for system, chosen in ((None, name), (name, None)):
        monkeypatch.setattr(benchmarks._Source, "system", system)
        out = f"of_{system}"
        assert published_of(out, published=chosen, rule="pope") == name
        assert published_of(out, published=chosen, blind="text") is None
        assert published_of(f"{out}_rule", published=chosen, rule="mme") is None


def test_a_published_score_stands_beside_the_run_and_its_files(config_file, tmp_path):
    write_benchmarks(tmp_path / "data", num=14, seed=1, formats=["pope"])
    name = LLAVA.format("7b", "")
    options = dict(data_root=str(tmp_path / "data"), answers="reference", num_workers=0)

    def run(out, **more):
        options_ = BenchmarkOptions(**options, **more)
        (row,) = run_benchmarks(config_file, None, "pope", tmp_path / out, options_)
        return row

    assert "published" not in run("plain")
    row = run("out", published=name)
    expected = published_scores(name)["pope"]
    assert (row["published"], row["published_of"]) == (expected, name)
    for shown in (text([row]), markdown([row]), comma_separated([row])):
        assert name in shown and str(expected) in shown
    (written,) = json.loads((tmp_path / "out/results.json").read_text())
    assert written == row

    def again(*paths, **more):
        (scored,) = rescore(paths, draws=100, **more)
        return scored.row.get("published"), scored.row.get("published_of")

    assert again(tmp_path / "out") == (expected, name)
    assert again(tmp_path / "plain") == (None, None)
    assert again(tmp_path / "out", rule="vlmevalkit") == (None, None)
    thirteen = LLAVA.format("13b", "-lora")
    expected_13 = published_scores(thirteen)["pope"]
    assert again(tmp_path / "out", published=thirteen) == (expected_13, thirteen)
    for form in ("llava", "lmms-eval", "vlmevalkit"):
        (path,) = write_answers(tmp_path / "plain", form, tmp_path / form, "m")
        found = again(
            *(path,), benchmark="pope", form=form, data_root=options["data_root"]
        )
        assert found == (expected, name)
    with pytest.raises(ValueError, match="no scores of 'no-such' are published"):
        again(tmp_path / "out", published="no-such")
    with pytest.raises(ValueError, match="no scores of"):
        run("other", published="no-such")
