"""The dataset doctor: every rule on damage of its own, and what it leaves behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from data_doctor import check_data, render_report, write_files
from data_loading import build_dataset, open_config_data, parse_dict
from dataset_doctor.rule import Rule, all_rules, rule
from dataset_helpers import EncodeStub, record, turn
from torch.utils.data import DataLoader

from mmvlm.datasets.annotated import AnnotatedImageDataset
from mmvlm.datasets.bad_samples import BadSampleCounter
from mmvlm.datasets.collate import collate_flat
from mmvlm.datasets.mixture import MixtureDataset
from mmvlm.datasets.readers.llava import LLaVADataset
from mmvlm.datasets.tasks.base import DataTask, NothingToAsk, region
from mmvlm.structures import AnnotatedImage, Caption, Instance, Text, Turn

ROOT = Path(__file__).parents[2]


def check(llava, rows, **options):
    dataset = LLaVADataset(**llava.write(rows))
    return check_data(dataset, **options)


def found(report):
    """(rule, record) of everything but notes."""
    return [(finding.rule, finding.index) for finding in report.findings]


def rows_of(num):
    return [record(number) for number in range(num)]


# --------------------------------------------------------------- conversations
def test_whole_data_are_clean(llava):
    report = check(llava, rows_of(5))

    assert report.findings == [] and report.is_clean(strict=True)
    assert report.num_seen == 5 and report.members[0].num_images == 5


def change(row, text=None, **fields):
    row = {**row, **fields}
    if text is not None:
        row["conversations"] = [row["conversations"][0], turn("gpt", text)]
    return row


def talk(*roles):
    return [turn(role, "<image> a" if n == 0 else "b") for n, role in enumerate(roles)]


@pytest.mark.parametrize(
    ("rule_name", "words", "fields"),
    [
        ("placeholders", "2 <image> placeholders", dict(text="<image>")),
        ("roles", "alien", dict(conversations=talk("alien", "gpt"))),
        (
            *("roles", "turn 2 is the assistant's, expected the user's"),
            dict(conversations=talk("human", "gpt", "gpt")),
        ),
        (
            *("roles", "nothing answers the last of 3 turns"),
            dict(conversations=talk("human", "gpt", "human")),
        ),
        ("empty answers", "turn 1 is an empty answer", dict(text=" \n")),
        ("encoding", "read as another encoding", dict(text="caf\u00c3\u00a9")),
        ("encoding", "read as another encoding", dict(text="it\u00e2\u20ac\u2122s")),
        ("encoding", "a control character", dict(text="ring \x07")),
        ("encoding", "a replacement mark", dict(text="na\ufffdve")),
        ("encoding", "half a character", dict(text="smile \ud83d")),
        ("images", "does not exist", dict(image="nested/none.png")),
        ("images", "leaves the folder", dict(image="../../secret.png")),
        ("readable", "must be a list of turns", dict(conversations=None)),
    ],
)
def test_every_rule_finds_its_damage_and_no_other(llava, rule_name, words, fields):
    rows = rows_of(3)
    llava.write(rows)
    rows[1] = change(rows[1], **fields)
    dataset = LLaVADataset(**llava.write(rows, images=False))

    report = check_data(dataset)

    assert found(report) == [(rule_name, 1)]
    assert words in report.findings[0].reason
    assert report.findings[0].id == "id1" and not report.is_clean()


def test_texts_in_other_alphabets_are_no_mojibake(llava):
    rows = rows_of(4)
    texts = [
        "\u00e9t\u00e9 na\u00efve \u00df",
        "\u732b",
        "\u00c0 \u00e9",
        "\u0441\u043e\u0431\u0430\u043a\u0430",
    ]
    rows = [change(row, text=text) for row, text in zip(rows, texts, strict=True)]

    assert check(llava, rows).findings == []


def test_images_that_are_cut_or_empty(llava):
    dataset = LLaVADataset(**llava.write(rows_of(3)))
    files = [llava.root / f"pics/nested/{number}.png" for number in range(3)]
    PIL.Image.effect_noise((64, 64), 60).save(files[0])
    files[0].write_bytes(files[0].read_bytes()[:900])
    files[1].write_bytes(b"")

    full, fast = check_data(dataset), check_data(dataset, full=False)

    assert found(full) == [("images", 0), ("images", 1)]
    assert found(fast) == [("images", 1)]  # the head of a cut image is whole


def test_copies_and_shared_ids(llava):
    rows = rows_of(5)
    rows[2] = change(rows[1], id="other")
    rows[4] = change(rows[4], id="id3", text="other words")
    dataset = LLaVADataset(**llava.write(rows))
    source = llava.root / "pics/nested/0.png"
    (llava.root / "pics/nested/4.png").write_bytes(source.read_bytes())

    report = check_data(dataset)

    expected = [("same record", 2), ("same id", 4), ("same image", 4)]
    assert sorted(found(report)) == sorted(expected)
    assert [f.index for f in report.bad_samples()] == [2]
    assert "of sample 1 of 'ann'" in report.of_rule("same record")[0].reason


def test_unknown_fields_are_counted(llava):
    rows = rows_of(3)
    rows[0] |= dict(source="web", score=1)
    rows[1] |= dict(source="web")

    report = check(llava, rows)

    assert report.tallies["other fields"] == {"source": 2, "score": 1}
    assert report.is_clean(strict=True)


@pytest.mark.parametrize(
    ("overflow", "name", "clean"),
    [("error", "too long", False), ("drop", "cut or dropped", True)],
)
def test_lengths_are_held_against_the_limit(llava, overflow, name, clean):
    from format_helpers import tiny_context

    rows = rows_of(4)
    rows[2] = change(rows[2], text="word " * 300)
    steps = [dict(type="LoadImages"), dict(type="ResizeSquare")]
    steps.append(dict(type="EncodeConversation", max_length=200, overflow=overflow))
    dataset = LLaVADataset(**llava.write(rows), pipeline=steps)
    dataset.bind(tiny_context(["what word USER: ASSISTANT:"] * 3))

    report = check_data(dataset, bound=True)

    assert found(report) == [(name, 2)]
    assert report.is_clean() is clean and not report.is_clean(strict=True)
    member = report.members[0]
    assert len(member.tokens) == 4 and max(member.tokens) > 300
    assert member.trained[0] < member.tokens[0] - 36


# ------------------------------------------------------------------ annotations
class Boxed(DataTask):
    def turns(self, annotation, rng):
        if not annotation.instances:
            raise NothingToAsk("no object.")
        shown = region(annotation.instances[:1], annotation.size, phrase="it")
        return [Turn("user", (Text("where?"),)), Turn("assistant", (shown,))]


class Annotated(AnnotatedImageDataset):
    """Rows as they are, so that rules see what no reader would let through."""

    def _flatten(self):
        yield from json.loads(Path(self.ann_file).read_text())

    def _annotation(self, row, size):
        things = tuple(
            Instance(**{k: tuple(v) if k == "box" else v for k, v in thing.items()})
            for thing in row["things"]
        )
        return AnnotatedImage(row["image"], size, things, (), (Caption("x"),))


def annotated(tmp_path, *things, **row):
    for number in range(len(things)):
        noise = np.random.default_rng(number).integers(0, 255, (30, 40, 3), np.uint8)
        PIL.Image.fromarray(noise).save(tmp_path / f"{number}.png")
    rows = [
        dict(id=str(n), image=f"{n}.png", width=40, height=30, things=thing, **row)
        for n, thing in enumerate(things)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    return Annotated("rows.json", data_root=str(tmp_path), task=Boxed())


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMVLM_CACHE", str(tmp_path / "cache"))


def test_boxes_lie_in_their_frame(tmp_path):
    whole = [dict(box=[0, 0, 40, 30])]
    boxes = [[5, 5, 5, 9], [9, 5, 5, 9], [-1, 0, 5, 5], [0, 0, 40.5, 30]]
    bad = [[dict(box=[1, 1, 2, 2]), dict(box=box, id="b")] for box in boxes]
    bad.append([dict(box=[float("nan"), 0, 1, 1])])
    dataset = annotated(tmp_path, whole, *bad)

    report = check_data(dataset)

    assert found(report) == [("boxes", n) for n in range(1, 6)]
    reasons = [finding.reason for finding in report.findings]
    assert "instance 'b': box [5, 5, 5, 9] has no extent" in reasons[0]
    assert "leaves its image of 40 x 30 pixels" in reasons[3]
    assert "NaN" in reasons[4]


def test_masks_hold_pixels_of_their_image(tmp_path):
    box = [0, 0, 4, 4]
    masks = [
        dict(polygons=[[0, 0, 4, 0, 4, 4]]),
        dict(polygons=[[0, 0, 4, 0]]),
        dict(polygons=[[35, 0, 48, 0, 48, 9]]),
        dict(polygons=[[2, 2, 2, 2, 2, 2]]),
        dict(rle=dict(size=[30, 40], counts=[1200])),
        dict(rle=dict(size=[10, 40], counts=[0, 400])),
        dict(rle=dict(size=[30, 40], counts=[3, 99])),
        dict(rle=dict(size=[30, 40], counts=[3, 97, 1100])),
    ]
    dataset = annotated(tmp_path, *([dict(box=box, **mask)] for mask in masks))

    report = check_data(dataset)

    assert found(report) == [("masks", n) for n in range(1, 7)]
    reasons = " ".join(finding.reason for finding in report.findings)
    for words in ("three or more", "leaves its image", "empty", "size"):
        assert words in reasons


def test_sizes_are_held_against_the_image(tmp_path):
    dataset = annotated(tmp_path, [dict(box=[0, 0, 9, 9])] * 2)
    PIL.Image.new("RGB", (20, 30)).save(tmp_path / "0.png")

    report = check_data(dataset)

    assert found(report) == [("image size", 0)]
    assert "annotated as 40 x 30 pixels, but '0.png' has 20 x 30" in (
        report.findings[0].reason
    )


def test_nothing_to_ask_is_counted_and_no_problem(tmp_path):
    report = check_data(annotated(tmp_path, [dict(box=[0, 0, 9, 9])], []))

    assert report.findings == []
    assert report.tallies["left out"] == {"nothing to ask": 1}


# ------------------------------------------------------------------- the walk
@pytest.fixture
def broken(llava):
    rows = rows_of(150)
    rows[7] = change(rows[7], text="")
    rows[8] = "oops"
    config = llava.write(rows)
    for number in (3, 99):
        (llava.root / f"pics/nested/{number}.png").write_text("text")
    return config


def test_processes_find_what_one_finds(broken):
    dataset = LLaVADataset(**broken)

    alone, several = check_data(dataset), check_data(dataset, workers=2)

    assert alone.to_dict() == several.to_dict()
    assert len(alone.bad_samples()) == 4 and alone.num_seen == 150


def test_mixtures_are_walked_into(broken, llava):
    whole = llava.write(rows_of(6), name="whole.json", images=False)
    members = [
        LLaVADataset(**broken, name="a"),
        LLaVADataset(**whole, name="b", indices=[0, 1]),
    ]

    report = check_data(MixtureDataset(members, weights=[0.5, 3]))

    assert {f.dataset for f in report.bad_samples()} == {"a", "b"}
    assert [m.per_epoch for m in report.members] == [75, 6]
    copies = [f for f in report.of_rule("same record") if f.dataset == "b"]
    assert [f.index for f in copies] == [0, 1]  # in a first, under the same id


def test_limit_spreads_evenly(broken):
    report = check_data(LLaVADataset(**broken), limit=10)

    assert report.num_seen == report.num_planned == 10


def test_quarantine_list_leaves_out_exactly_the_bad(broken, llava, tmp_path):
    report = check_data(LLaVADataset(**broken))
    write_files(report, tmp_path / "out")
    file = tmp_path / "out" / "quarantine.jsonl"
    before = file.read_text()
    steps = [
        *(
            dict(type="LoadImages"),
            dict(type="ResizeSquare", size=4, resample="bicubic"),
        ),
        *(EncodeStub(), dict(type="PackVLMInputs")),
    ]
    policy = dict(policy="quarantine", file=str(file), max_fraction=0)
    dataset = LLaVADataset(**broken, pipeline=steps, bad_samples=policy)
    counter = BadSampleCounter.from_dataset(dataset)

    ids = []
    loader = DataLoader(dataset, 10, num_workers=2, collate_fn=collate_flat)
    for batch in loader:
        bad = batch["bad_records"]
        counter.add(bad, len(batch["data_samples"]) + len(bad))
        ids += [sample.sample_id for sample in batch["data_samples"]]
    counter.check()

    assert sorted(f.index for f in report.bad_samples()) == [3, 7, 8, 99]
    out = {"id3", "id7", "id99"}
    assert ids == [f"id{n}" for n in range(150) if n != 8 and f"id{n}" not in out]
    assert counter.counts == {("ann", "quarantined"): 4}
    assert file.read_text() == before


def test_report_files_say_what_the_table_says(broken, tmp_path):
    from rich.console import Console

    report = check_data(LLaVADataset(**broken))
    console = Console(record=True, width=120, file=open(os.devnull, "w"))

    paths = write_files(report, tmp_path)
    render_report(report, console)

    assert [Path(p).name for p in paths] == [
        *("report.json", "quarantine.jsonl", "lengths.png", "mixture.png")
    ]
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["samples_bad"] == 4 and told["rules"]["images"]["findings"] == 2
    assert told["datasets"][0]["words"]["p100"] >= 3
    for name in ("lengths.png", "mixture.png"):
        assert PIL.Image.open(tmp_path / name).size[0] > 400
    text = console.export_text()
    assert "4 of 150 samples have a problem." in text and "images" in text


def test_interrupt_gives_what_was_found(broken, monkeypatch):
    from dataset_doctor.checker import DataChecker

    checker = DataChecker(LLaVADataset(**broken))

    def stop(count):
        raise KeyboardInterrupt

    report = checker(stop)

    assert report.interrupted and report.num_seen == 64
    assert [f.index for f in report.bad_samples()] == [3, 7, 8]


def test_a_fault_of_the_reader_is_told_and_stops_nothing(llava, monkeypatch):
    dataset = LLaVADataset(**llava.write(rows_of(2)))
    inner = dataset._conversation

    def fails(record, images, rng):
        if record["id"] == "id0":
            raise AttributeError("no such thing")
        return inner(record, images, rng)

    monkeypatch.setattr(dataset, "_conversation", fails)
    report = check_data(dataset)

    assert found(report) == [("readable", 0)]
    assert "fault of the code: AttributeError" in report.findings[0].reason


def test_rules_can_be_left_out_and_added(llava, monkeypatch):
    from dataset_doctor import rule as rules

    with pytest.raises(ValueError, match=r"no data rule is named \['boxen'\]"):
        all_rules(["boxen"])
    assert "boxes" not in [r.name for r in all_rules(["boxes"])]
    monkeypatch.setattr(rules, "_RULES", dict(rules._RULES))

    @rule
    class Short(Rule):
        """Answers of one word."""

        name = "short"

        def check(self, specimen):
            if len(specimen.conversation.turns[-1].text.split()) < 2:
                yield "one word."

    with pytest.raises(KeyError, match="two data rules are named 'short'"):
        rule(Short)
    report = check(llava, [record(0), record(1, words=1)])
    assert found(report) == [("short", 1)]


# -------------------------------------------------------------------- the tool
def run_tool(*args, **kwargs):
    return subprocess.run(
        [sys.executable, str(ROOT / "tools/misc/check_dataset.py"), *map(str, args)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        **kwargs,
    )


@pytest.mark.slow
def test_tool_exits_with_what_it_found(broken, llava, tmp_path):
    told = "dict(type='LLaVADataset', " + ", ".join(
        f"{key}={value!r}" for key, value in broken.items()
    )
    ill = run_tool("--dataset", told + ")", "--out", tmp_path / "o", "--workers", 2)
    well = run_tool(
        *("--dataset", told + ", indices=[0, 1])", "--out", tmp_path / "o", "--fast")
    )
    (llava.root / "ann.json").write_text('[{"id": 1')
    cut = run_tool("--dataset", told + ")", "--out", tmp_path / "o")

    assert ill.returncode == 1 and "4 of 150 samples have a problem" in ill.stdout
    assert well.returncode == 0, well.stderr
    assert cut.returncode == 2 and "cannot open" in cut.stderr
    assert "ann.json" in cut.stderr and "cut" in cut.stderr


def test_dataset_argument_runs_no_code():
    told = parse_dict("dict(type='A', x=[1, dict(y=None)], z={'k': (1.5,)})")

    assert told == dict(type="A", x=[1, dict(y=None)], z={"k": [1.5]})
    for text in ("__import__('os')", "dict(a=open('x'))", "[1]", "dict(a=", "x"):
        with pytest.raises(ValueError):
            parse_dict(text)
    with pytest.raises(ValueError, match="expected a dict with type"):
        build_dataset(dict(ann_file="a"))


def test_config_without_the_loader_says_so():
    with pytest.raises(ValueError, match="no val_dataloader"):
        open_config_data({}, "val")
