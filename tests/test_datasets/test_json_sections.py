"""Tables of a JSON object as a stream: places, encodings, damage."""

import json
import tracemalloc

import pytest

from mmvlm.datasets.io.json_sections import scan_sections

TABLES = dict(
    info=dict(year=2017, about="Stra\u00dfe"),
    images=[dict(id=number, name=f"caf\u00e9 {number}") for number in range(20)],
    licenses=[1, [2, {"images": 3}]],
    annotations=[dict(id=1, box=[1.5, -2e3, 10**12, 4]), 12345, "a]b}", None],
)


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_items_and_their_bytes_are_found_however_the_file_is_cut_up(
    tmp_path, chunk, indent, ascii_only
):
    path = tmp_path / "tables.json"
    text = json.dumps(TABLES, indent=indent, ensure_ascii=ascii_only) + "\n"
    path.write_text(text, encoding="utf-8")
    raw = path.read_bytes()

    items = list(scan_sections(str(path), ("images", "annotations"), chunk))

    expected = [("images", value) for value in TABLES["images"]]
    expected += [("annotations", value) for value in TABLES["annotations"]]
    assert [item[:2] for item in items] == expected
    for item in items:
        assert json.loads(raw[item.start : item.end]) == item.value


def test_a_byte_order_mark_and_empty_tables_are_fine(tmp_path):
    path = tmp_path / "tables.json"
    path.write_bytes(b'\xef\xbb\xbf {"images" : [ ] , "x": {}}')

    assert list(scan_sections(str(path), ["images"])) == []


@pytest.mark.parametrize(
    "raw, message",
    [
        (b"", "is damaged at byte 0: it is no JSON object"),
        (b"[1]", "at byte 0: it is no JSON object"),
        (b'{"images": [{"id": 1}, {"id"', "at byte 23: .*it was cut; fetch it again"),
        (b'{"images": [1, 2', "expected ',', found 'its end'; it was cut"),
        (b'{"images": [1 2]}', "at byte 14: expected ',', found '2'; repair"),
        (b'{"images": {"a": 1}}', "'images' is no list"),
        (b'{"images": [1]} x', "at byte 16: something follows its end"),
        (b'{"images": [], "images": []}', "the table 'images' comes twice"),
        (
            b'{"categories": []}',
            r"no table \['images'\]; its keys are \['categories'\]",
        ),
        (b'{"images": ["\xff"]}', "is not UTF-8 text: invalid start byte"),
        (b'{"images": [' + b"[" * 200000, "damaged at byte 12"),
        (b"{1: 2}", "expected a key, found 1"),
    ],
)
def test_damaged_files_are_named_with_the_place(tmp_path, raw, message):
    path = tmp_path / "tables.json"
    path.write_bytes(raw)

    with pytest.raises(ValueError, match=message) as caught:
        list(scan_sections(str(path), ["images"]))
    assert f"annotation file '{path}'" in str(caught.value)


def test_memory_holds_a_chunk_not_the_file(tmp_path):
    path = tmp_path / "tables.json"
    item = json.dumps(dict(id=1, text="x" * 1000))
    path.write_text('{"images": [' + ",\n".join([item] * 8000) + "]}")
    tracemalloc.start()

    count = sum(1 for _ in scan_sections(str(path), ["images"], 1 << 16))

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 8000
    assert peak < 2**20 < path.stat().st_size / 4
