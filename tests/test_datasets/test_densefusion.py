"""DenseFusion's rows: read lazily, converted, wrong ones named by file and line."""

import importlib.util
import json
import pickle
from pathlib import Path

import pytest
from dataset_helpers import identity
from torch.utils.data import DataLoader

from mmvlm.datasets.bad_samples import BadRecord, DataError
from mmvlm.datasets.io.jsonl import JSONLines
from mmvlm.datasets.readers.densefusion import DenseFusionDataset, convert_to_llava
from mmvlm.datasets.readers.llava import LLaVADataset
from mmvlm.structures import Image
from mmvlm.text.templates.plain import PlainTemplate

ROOT = Path(__file__).resolve().parents[2]


def row(number, **changes):
    fields = dict(
        image_id=f"id{number}",
        image_path=f"nested/{number}.png",
        caption=f"A wall, {number} windows.\nBelow it a street.",
        url=f"https://images.invalid/{number}.jpg",
    )
    return {**fields, **changes}


@pytest.fixture
def write(llava):
    """Write rows (or raw lines) and their images; gives the reader's arguments."""

    def function(rows, end="\n", **options):
        lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
        (llava.root / "rows.jsonl").write_text("\n".join(lines) + end)
        for number in range(len(rows)):
            llava.image(f"nested/{number}.png")
        places = dict(data_root=str(llava.root), ann_file="rows.jsonl")
        return dict(places, image_prefix="pics", **options)

    return function


def test_a_row_is_an_image_and_its_caption(write, pipeline):
    data = DenseFusionDataset(**write([row(0), row(1)]))

    talk = data[1]["conversation"]

    assert len(data) == 2
    assert talk.id == "id1"
    assert talk.images == ["nested/1.png"]
    assert talk.turns[0].parts == (Image(0),)
    assert talk.turns[1].text == row(1)["caption"]
    assert talk.meta["url"] == row(1)["url"]
    pieces = PlainTemplate().render(talk)
    assert [p.supervised for p in pieces] == [False, True]
    assert data.lengths.tolist() == [8, 8]
    loaded = DenseFusionDataset(**write([row(0), row(1)]), pipeline=pipeline)[1]
    assert loaded["inputs"]["inputs"]["image"].values.shape == (1, 3, 4, 4)


def test_downloaded_files_come_first_unless_told_otherwise(write):
    rows = [row(0, image="id0.png"), row(1)]

    def paths(**options):
        data = DenseFusionDataset(**write(rows), **options)
        return [data[i]["conversation"].images[0] for i in range(2)]

    assert paths() == ["id0.png", "nested/1.png"]
    assert paths(image_field="image_path") == ["nested/0.png", "nested/1.png"]
    with pytest.raises(DataError, match=r"line 2 of '.*rows.jsonl': no field 'image'"):
        paths(image_field="image")
    with pytest.raises(ValueError, match="image_field='path': expected one of"):
        paths(image_field="path")


def test_a_prompt_stands_behind_the_image(write):
    data = DenseFusionDataset(**write([row(0)]), prompt="Describe it.")

    parts = data[0]["conversation"].turns[0].parts

    assert (parts[0], parts[1].text) == (Image(0), "\nDescribe it.")


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"image_id": ', r"line 2 of '.*' is not valid JSON \(column 14\)"),
        ("[1, 2]", r"line 2 of '.*': expected a row \(JSON object\), got list"),
        (row(1, caption=" "), "line 2 of '.*': 'caption' must be a text"),
        (row(1, image_path=3), "line 2 of '.*': 'image_path' must be a text"),
        ('{"image_id": "x"}', "line 2 of '.*': no field 'image_path'; it has"),
    ],
)
def test_damaged_rows_name_file_and_line_and_follow_the_policy(write, line, message):
    rows = [row(0), line, row(2)]

    strict = DenseFusionDataset(**write(rows))
    with pytest.raises(DataError, match=message):
        strict[1]
    lenient = DenseFusionDataset(**write(rows), bad_samples=dict(policy="skip"))

    assert isinstance(lenient[1], BadRecord)
    assert lenient[2]["conversation"].id == "id2"
    assert len(lenient.lengths) == 3


def test_files_that_are_cut_empty_or_something_else_fail_at_once(write, llava):
    with pytest.raises(ValueError, match=r"line 2 .* it was cut"):
        DenseFusionDataset(**write([row(0), '{"image_id": "y"'], end=""))
    with pytest.raises(ValueError, match="is empty; expected one JSON object"):
        DenseFusionDataset(**write([], end=""))
    with pytest.raises(ValueError, match=r"starts with b'\["):
        DenseFusionDataset(**write(['[{"id": 1}]']))


def test_blank_lines_and_a_missing_last_break_are_fine(write):
    data = DenseFusionDataset(**write(["", row(0), "", row(2)], end=""))

    assert [data[i]["conversation"].id for i in range(2)] == ["id0", "id2"]
    assert [data._record(i).number for i in range(2)] == [2, 4]


def test_line_places_are_found_across_chunks(tmp_path, monkeypatch):
    path = tmp_path / "lines.jsonl"
    rows = [dict(n=number, text="x" * (number % 7)) for number in range(50)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    monkeypatch.setattr("mmvlm.datasets.index.scanner._CHUNK", 13)

    lines = JSONLines(str(path))

    assert [lines[i].value for i in range(len(lines))] == rows


def test_workers_and_copies_read_what_the_main_process_reads(write, pipeline):
    data = DenseFusionDataset(**write([row(i) for i in range(6)]), pipeline=pipeline)
    here = [data[i]["inputs"]["inputs"]["image"].values for i in range(6)]

    copy = pickle.loads(pickle.dumps(data))
    loader = DataLoader(data, batch_size=2, num_workers=2, collate_fn=identity)

    there = [item for batch in loader for item in batch]
    for number, pixels in enumerate(here):
        assert (copy[number]["inputs"]["inputs"]["image"].values == pixels).all()
        assert (there[number]["inputs"]["inputs"]["image"].values == pixels).all()
    assert not all((here[0] == pixels).all() for pixels in here)


def test_the_conversion_is_read_as_the_same_conversations(write, llava):
    places = write([row(i) for i in range(3)])
    source, out = llava.root / "rows.jsonl", llava.root / "rows.json"

    counts = convert_to_llava(str(source), str(out))

    assert counts == (3, 0)
    ours = DenseFusionDataset(**places)
    theirs = LLaVADataset(**{**places, "ann_file": "rows.json"})
    for number in range(3):
        first, second = (d[number]["conversation"] for d in (ours, theirs))
        assert first.id == second.id and first.images == second.images
        pieces = [PlainTemplate().render(talk) for talk in (first, second)]
        assert pieces[0] == pieces[1]


def test_the_conversion_refuses_or_counts_damaged_rows(write, llava):
    rows = [row(0), "{}}", row(2, caption="an <image> tag"), row(3)]
    write(rows)
    source, out = str(llava.root / "rows.jsonl"), llava.root / "out.json"
    told = []

    with pytest.raises(ValueError, match=r"line 2 of .* is not valid JSON"):
        convert_to_llava(source, str(out))
    assert not out.exists()
    assert [p.name for p in llava.root.iterdir() if ".tmp" in p.name] == []
    counts = convert_to_llava(source, str(out), skip_bad=True, report=told.append)

    assert counts == (2, 2)
    assert [r["id"] for r in json.loads(out.read_text())] == ["id0", "id3"]
    assert "line 2" in told[0] and "'<image>', which means an image" in told[1]


def test_the_conversion_tool(write, llava, capsys):
    write([row(0), row(1, caption="")])
    path = ROOT / "tools" / "dataset_converters" / "densefusion_to_llava.py"
    spec = importlib.util.spec_from_file_location("densefusion_to_llava", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    source, out = str(llava.root / "rows.jsonl"), llava.root / "out.json"

    assert "line 2 of" in tool.main([source, str(out)])
    assert tool.main([source, str(out), "--skip-bad", "--prompt", "Say."]) == 0

    (record,) = json.loads(out.read_text())
    assert record["conversations"][0]["value"] == "<image>\nSay."
    shown = capsys.readouterr()
    assert "1 records, 1 rows left out" in shown.out
    assert "left out: line 2 of" in shown.err
