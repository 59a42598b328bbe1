"""Places of records: held against json.loads on files laid out in every way."""

import json
import random

import pytest

from mmvlm.datasets.index import scanner
from mmvlm.datasets.index.scanner import first_character, scan_lines, scan_list

TEXTS = [
    "",
    "plain",
    'a "quoted" \\ back',
    "]},[{",
    "\u00e4\u00f6\u00fc",
    "\u4e2d\u6587 \U0001f600",
    "tab\tbreak\r\n",
    '\\"',
    "\\\\",
    "\u2028\u0085\u00a0",
]


def random_value(rng, depth=0):
    kind = rng.randrange(8 if depth < 4 else 5)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind == 1:
        return rng.choice([0, -1, 2**70, 1.5, -2e-300, 1e22])
    if kind < 5:
        return "".join(rng.choices(TEXTS, k=rng.randrange(4)))
    if kind == 5:
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    keys = ["".join(rng.choices(TEXTS, k=2)) for _ in range(rng.randrange(4))]
    return {key: random_value(rng, depth + 1) for key in keys}


def layout(rng, values):
    """Write a list in one of many ways."""
    text = json.dumps(
        values,
        ensure_ascii=rng.random() < 0.5,
        indent=rng.choice([None, 0, 1, "\t"]),
        separators=rng.choice([(",", ":"), (" , ", " : ")]),
    )
    if rng.random() < 0.5:
        text = f" \n\t{text}\r\n \n"
    if rng.random() < 0.3:
        text = text.replace("\n", "\r\n")
    data = text.encode()
    return b"\xef\xbb\xbf" + data if rng.random() < 0.3 else data


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_records_of_random_lists_are_those_of_json(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(scanner, "_CHUNK", chunk)
    rng, path = random.Random(chunk), tmp_path / "list.json"

    for _ in range(60):
        values = [random_value(rng) for _ in range(rng.randrange(7))]
        data = layout(rng, values)
        path.write_bytes(data)

        found = list(scan_list(str(path)))

        assert [json.loads(data[f.start : f.end]) for f in found] == values, data
        assert [f.value for f in found] == values  # 1 == 1.0
        assert [f.number for f in found] == list(range(1, len(values) + 1))


@pytest.mark.parametrize("chunk", [1, 13, 1 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_are_found_in_every_layout(tmp_path, monkeypatch, chunk, end):
    monkeypatch.setattr(scanner, "_CHUNK", chunk)
    rng, path = random.Random(chunk), tmp_path / "rows.jsonl"
    values = [dict(n=random_value(rng)) for _ in range(40)]
    lines = [json.dumps(v, ensure_ascii=n % 2 == 0) for n, v in enumerate(values)]
    lines[3:3], lines[9:9] = ["", "  \t"], ["{broken", "x"]
    data = b"\xef\xbb\xbf" + end.join(lines).encode()
    path.write_bytes(data)

    found = list(scan_lines(str(path)))

    good = [f for f in found if f.problem is None]
    assert [f.value for f in good] == values
    assert [f.number for f in found if f.problem] == [10, 11]
    for entry in good:
        text = data[entry.start : entry.end].decode("utf-8-sig")
        assert json.loads(text) == entry.value


def message_of(path, data):
    path.write_bytes(data)
    with pytest.raises(ValueError) as info:
        list(scan_list(str(path)))
    return str(info.value)


@pytest.mark.parametrize("chunk", [5, 1 << 20])
def test_a_list_cut_anywhere_is_refused(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(scanner, "_CHUNK", chunk)
    values = [dict(a='x\\"]\u4e2d', b=[1, 2.5e3, None]), [True, {"c": {}}], "end"]
    data = json.dumps(values, ensure_ascii=False, indent=1).encode()
    path = tmp_path / "list.json"

    for size in range(1, len(data)):
        message = message_of(path, data[:size])
        assert "list.json' is not" in message, size
    assert list(scan_list(str(path))) if path.write_bytes(data) else None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1} {"b": 2}]', "line 1 column 11 .byte 10 of 19.: Expecting ','"),
        ('[\n{"a": 1},\n{"b" 2}]', "line 3 column 6 .*Expecting ':' delimiter"),
        ("[1, 2]\n]", "line 2 column 1 .*Extra data"),
        ('["a\nb"]', "Invalid control character"),
        ("[1,]", "Expecting value|trailing comma"),
        ('["a", "b', "Unterminated string.*it was cut"),
        ('["a", ', "it was cut"),
        ("[[1, 2)]", "Expecting ',' delimiter.*Repair"),
    ],
)
def test_damage_is_named_by_line_and_column(tmp_path, text, message):
    path = tmp_path / "list.json"
    path.write_text(text)

    with pytest.raises(ValueError, match=rf"(?s)list\.json' .*{message}"):
        list(scan_list(str(path)))


def test_other_encodings_and_bottomless_nesting_are_refused(tmp_path):
    path = tmp_path / "list.json"

    assert "is not UTF-8 text" in message_of(path, '["\u00e4bc"]'.encode("latin-1"))
    assert "is not UTF-8 text" in message_of(path, "[1, 2]".encode("utf-16"))
    assert "too deeply" in message_of(path, b"[" * 200_000)
    path.write_bytes(b"[" * 200_000 + b"\n")
    (line,) = scan_lines(str(path))
    assert line.problem == "is nested too deeply"


def test_a_number_of_many_digits_damages_its_line_only(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": ' + "9" * 5000 + '}\n{"a": 3}\n')

    rows = list(scan_lines(str(path)))

    assert [row.value for row in rows] == [{"a": 1}, None, {"a": 3}]
    assert "not valid JSON" in rows[1].problem


def test_a_damaged_list_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(scanner, "_CHUNK", 256)
    path = tmp_path / "list.json"
    path.write_text('[{"a": 1}, {"b": oops}' + ', {"c": 1}' * 5000 + "]")
    grown = []
    grow = scanner._Window.grow
    monkeypatch.setattr(
        scanner._Window, "grow", lambda self: (grow(self), grown.append(len(self.text)))
    )

    assert "Expecting value" in message_of(path, path.read_bytes())
    assert len(grown) == 1


@pytest.mark.parametrize(
    ("data", "first"),
    [(b"", ""), (b"\xef\xbb\xbf [", "["), (b" " * 300 + b"{", "{"), (b"x[", "x")],
)
def test_first_character(tmp_path, data, first):
    path = tmp_path / "any"
    path.write_bytes(data)

    assert first_character(str(path))[0] == first
