"""Families of configs: order, resume, failures, table. Stubs stand for training."""

import csv
import json
import runpy
import threading
import time
from pathlib import Path

import pytest
from ablation_runs import Ablation, blind_options, find_configs
from ablation_table import choose_metrics, collect, markdown, write_tables

from mmvlm.config import load_config

ROOT = Path(__file__).parents[2]

TRAIN = """
import json, pathlib, sys
args = sys.argv[1:]
folder = pathlib.Path(args[args.index("--work-dir") + 1])
with open(folder.parents[1] / "order.txt", "a") as file:
    file.write(f"{folder.parent.name} {folder.name}\\n")
(folder / "command.json").write_text(json.dumps(args))
if (folder.parents[1] / f"break_{folder.parent.name}").exists():
    print("the loss is not a number")
    sys.exit(3)
times = ((1, 9), (2, 0.25))
rows = [dict(step=n, seconds_per_step=s, memory_gib=0.5) for n, s in times]
(folder / "scalars.jsonl").write_text("".join(json.dumps(r) + "\\n" for r in rows))
"""
TEST = """
import json, pathlib, sys
args = sys.argv[1:]
out = pathlib.Path(args[args.index("--out") + 1])
seed = int(out.parent.name.split("_")[1])
value = 0.5 + 0.01 * seed + 0.1 * ("deep" in out.parents[1].name) * (1 + seed)
value *= "test_dataloader.dataset.shuffle_images=True" not in args
metrics = {"t/accuracy": value, "t/accuracy/digit": value / 2, "t/num": 10}
out.write_text(json.dumps(dict(metrics=metrics)))
"""


@pytest.fixture
def tools(tmp_path):
    folder = tmp_path / "stub" / "tools"
    folder.mkdir(parents=True)
    (folder / "train.py").write_text(TRAIN)
    (folder / "test.py").write_text(TEST)
    return folder


@pytest.fixture
def family(tmp_path, config_file):
    """A parent, a child, and a stage that the child loads."""
    folder = tmp_path / "family"
    folder.mkdir()
    base = config_file.read_text().replace('"pretrained/gone/tower"', "None")
    base = base.replace('"pretrained/gone/llm"', "None")
    base += "test_cfg = dict()\ntest_evaluator = dict(type='TinyScenesMetric')\n"
    (folder / "plain.py").write_text(base)
    child = '_base_ = ["plain.py"]\nmodel = dict(connector=dict(depth=3))\n'
    source = "load_from = [dict(path='work_dirs/stage', parts=['connector'])]\n"
    (folder / "deep.py").write_text(child + source)
    (folder / "stage.py").write_text('_base_ = ["plain.py"]\n')
    return folder


def make(family, tools, tmp_path, **options):
    return Ablation([family], tmp_path / "work", tools=tools, **options)


def order(tmp_path):
    return (tmp_path / "work" / "order.txt").read_text().splitlines()


def test_stages_come_first_and_are_read_from_the_same_seed(family, tools, tmp_path):
    ablation = make(family, tools, tmp_path, seeds=2, options=["train_cfg=None"])

    assert ablation.run() == []

    done = order(tmp_path)
    assert sorted(done) == sorted(
        f"{name} seed_{seed}" for name in ("deep", "plain", "stage") for seed in (0, 1)
    )
    for seed in (0, 1):
        assert done.index(f"stage seed_{seed}") < done.index(f"deep seed_{seed}")
        folder = tmp_path / "work" / "deep" / f"seed_{seed}"
        command = json.loads((folder / "command.json").read_text())
        assert command[command.index("--seed") + 1] == str(seed)
        assert "--resume" in command
        start = tmp_path / "work" / "stage" / f"seed_{seed}"
        assert command[-2:] == ["train_cfg=None", f"load_from.0.path={start}"]
    assert ablation.results == ["deep", "plain"] and ablation.parent == "plain"
    assert not (tmp_path / "work" / "stage" / "seed_0" / "metrics.json").exists()


def test_finished_runs_are_skipped(family, tools, tmp_path):
    make(family, tools, tmp_path, seeds=1).run()
    before = order(tmp_path)

    more = make(family, tools, tmp_path, seeds=2)
    more.run()

    assert [run.status for run in more.runs.values()] == ["finished"] * 6
    assert sorted(order(tmp_path)[len(before) :]) == [
        "deep seed_1", "plain seed_1", "stage seed_1",
    ]  # fmt: skip


def test_first_seeds_are_tested_blind_too(family, tools, tmp_path):
    make(family, tools, tmp_path, seeds=2).run()

    ablation = make(family, tools, tmp_path, seeds=2, blind=True)
    assert [run.status for run in ablation.runs.values() if run.tested] == [
        "interrupted", "interrupted", "finished", "finished",
    ]  # fmt: skip
    # Killed between its blind test and what says that it is finished.
    folder = tmp_path / "work/plain/seed_0"
    (folder / "blind.json").write_text(json.dumps(dict(metrics={"t/accuracy": 0})))
    ablation = make(family, tools, tmp_path, seeds=2, blind=True)
    assert ablation.runs["plain", 0].status == "interrupted"
    assert ablation.run() == []
    done = make(family, tools, tmp_path, seeds=2, blind=True).runs.values()
    assert {run.status for run in done} == {"finished"}

    lines = collect(ablation)
    metrics = choose_metrics(lines, ["t/accuracy"])
    assert metrics == ["t/accuracy", "t/accuracy blind"]
    for line in lines:
        assert line.values["t/accuracy blind"] == {0: 0.0}
        assert set(line.values["t/accuracy"]) == {0, 1}
    assert "blind: the first seed" in markdown(lines, metrics)


def test_every_member_of_a_mixture_gets_other_images():
    members = [dict(type="A"), dict(datasets=[dict(type="B")])]

    options = blind_options(dict(datasets=members), "data")

    assert options == [
        "data.datasets.0.shuffle_images=True",
        "data.datasets.1.datasets.0.shuffle_images=True",
    ]


def test_a_failure_blocks_only_what_needs_it_and_shows_its_log(family, tools, tmp_path):
    mark = tmp_path / "work" / "break_stage"
    mark.parent.mkdir()
    mark.touch()
    said = []

    ablation = make(family, tools, tmp_path, seeds=1)
    failed = ablation.run(report=said.append)

    status = {run.variant.name: run.status for run in ablation.runs.values()}
    assert status == dict(stage="failed", deep="blocked", plain="finished")
    assert {run.variant.name for run in failed} == {"stage", "deep"}
    assert any("the loss is not a number" in text for text in said)
    assert "needs stage of seed 0" in ablation.runs["deep", 0].message
    mark.unlink()
    again = make(family, tools, tmp_path, seeds=1)
    assert again.runs["stage", 0].status == "interrupted"
    assert again.run(report=said.append) == []
    assert any("stage seed 0: resumed" in text for text in said)


def test_a_changed_config_does_not_take_old_results(family, tools, tmp_path):
    make(family, tools, tmp_path, seeds=1).run()
    path = family / "deep.py"
    path.write_text(path.read_text().replace("depth=3", "depth=4"))

    with pytest.raises(ValueError, match=r"deep/seed_0' was started with another"):
        make(family, tools, tmp_path, seeds=1)


def test_jobs_run_at_the_same_time(family, tools, tmp_path):
    text = (tools / "train.py").read_text()
    wait = "\nimport time; time.sleep(1.5)\n"
    (tools / "train.py").write_text(text + wait)
    ablation = make(family, tools, tmp_path, seeds=2)
    running = []

    def look():
        while thread.is_alive():
            running.append(len(getattr(ablation, "_processes", ())))
            time.sleep(0.02)

    thread = threading.Thread(target=ablation.run, args=(2,))
    thread.start()
    look()

    assert max(running) == 2
    assert {run.status for run in ablation.runs.values()} == {"finished"}


def test_the_table_has_means_deltas_costs_and_changes(family, tools, tmp_path):
    ablation = make(family, tools, tmp_path, seeds=3)
    ablation.run()

    lines = collect(ablation)
    metrics = choose_metrics(lines)
    text = markdown(lines, metrics)

    plain, deep = lines
    assert plain.name == "plain" and plain.changed == []
    assert deep.changed == ["~ model.connector.depth: 2 -> 3"]
    assert deep.parameters - plain.parameters == 24 * 24 + 24
    assert deep.forward > plain.forward
    assert (plain.step_seconds, plain.memory_gib) == (0.25, 0.5)
    # Seeds 0, 1, 2 of the stub: 0.5 + 0.01 s, the child 0.1 (1 + s) more.
    score = deep.scores["t/accuracy"]
    assert score.mean == pytest.approx(0.71) and score.std == pytest.approx(0.11)
    assert score.delta == pytest.approx(0.2)
    assert score.delta_std == pytest.approx(0.1)
    assert metrics == ["t/accuracy", "t/accuracy/digit"]
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert "| accuracy % | accuracy/digit % | seeds |" in rows[0]
    assert rows[2].startswith("| plain (parent) | 51.0 +- 1.0 |")
    assert rows[3].startswith("| deep | 71.0 +- 11.0 (+20.0) |")
    assert "- `~ model.connector.depth: 2 -> 3`" in text


def test_files_hold_the_same_numbers(family, tools, tmp_path):
    ablation = make(family, tools, tmp_path, seeds=2)
    ablation.run()
    lines = collect(ablation)

    files = write_tables(ablation, lines, choose_metrics(lines))

    with open(files["csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["config"] for row in rows] == ["plain", "deep"]
    assert float(rows[1]["t/accuracy:delta"]) == pytest.approx(0.15)
    assert rows[0]["t/accuracy:delta"] == "" and rows[0]["seeds"] == "0 1"
    assert files["md"].read_text() == markdown(lines, choose_metrics(lines))
    assert files["png"].stat().st_size > 5000


def test_unknown_metrics_and_parents_are_refused(family, tools, tmp_path):
    ablation = make(family, tools, tmp_path, seeds=1)
    assert choose_metrics(collect(ablation), ["x*"]) == []
    ablation.run()

    with pytest.raises(ValueError, match=r"metrics \['x\*'\]: none fits"):
        choose_metrics(collect(ablation), ["x*"])
    with pytest.raises(ValueError, match="parent='stage': expected one of"):
        make(family, tools, tmp_path, parent="stage")
    with pytest.raises(FileNotFoundError, match="no config"):
        find_configs([tools.parent])
    with pytest.raises(ValueError, match=r"twice: \['plain'\]"):
        find_configs([family, family / "plain.py"])


def test_a_dry_run_prints_commands_and_starts_nothing(family, tmp_path, capsys):
    tool = runpy.run_path(str(ROOT / "tools" / "analysis" / "ablate.py"))["main"]
    work = tmp_path / "work"

    assert (
        tool([str(family), "--seeds", "1", "--work-dir", str(work), "--dry-run"]) == 0
    )

    text = capsys.readouterr().out
    assert "deep seed 0: new, after stage" in text
    assert f"load_from.0.path={work}/stage/seed_0" in text
    assert "| plain (parent) | 0 |" in text
    assert not work.exists()


@pytest.mark.slow
def test_a_killed_training_goes_on_and_is_scored(tmp_path):
    """The real tools: killed in training, resumed, the losses of one go."""
    cfg = load_config(
        "llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k", tiny=True
    )
    dataset = cfg.train_dataloader.dataset.to_dict()
    steps = [dict(step) for step in dataset["pipeline"]]
    next(s for s in steps if s["type"] == "EncodeConversation").update(mode="generate")
    dataset.update(pipeline=steps, indices=3)
    cfg.test_dataloader = dict(batch_size=3, num_workers=0, dataset=dataset)
    cfg.test_cfg = dict(type="VLMTestLoop")
    cfg.test_evaluator = dict(type="ExactMatchMetric")
    cfg.model.generation = dict(max_new_tokens=2)
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    cfg.default_hooks = dict(
        logger=dict(type="ProgressHook", interval=1),
        checkpoint=dict(type="VLMCheckpointHook", interval=1),
    )
    cfg.train_cfg.max_iters = 40
    cfg.dump(str(tmp_path / "tiny.py"))

    def make_one(work):
        return Ablation([tmp_path / "tiny.py"], work, tools=ROOT / "tools", seeds=1)

    def losses(ablation):
        folder = ablation.runs["tiny", 0].folder
        rows = map(json.loads, (folder / "scalars.jsonl").read_text().splitlines())
        return {row["step"]: row["loss"] for row in rows}

    cut = make_one(tmp_path / "cut")
    thread = threading.Thread(target=cut.run)
    thread.start()
    folder = cut.runs["tiny", 0].folder
    while thread.is_alive() and not (folder / "iter_2.pth").exists():
        time.sleep(0.01)
    cut._processes[0].kill()
    thread.join()
    assert cut.runs["tiny", 0].status == "failed"
    assert "ended with -9" in cut.runs["tiny", 0].message

    again, whole = make_one(tmp_path / "cut"), make_one(tmp_path / "whole")
    assert again.runs["tiny", 0].status == "interrupted"
    assert again.run() == [] and whole.run() == []
    assert losses(again) == losses(whole) and len(losses(whole)) == 40
    metrics = [a.runs["tiny", 0].result()["metrics"] for a in (again, whole)]
    assert metrics[0] == metrics[1] and metrics[0]
