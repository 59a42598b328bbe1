"""The data benchmark: the files are what they claim, the rows are honest."""

import argparse
import json

import pytest
from benchmarks import data as bench_data

from mmvlm.datasets.index import records


def _args(*options):
    parser = argparse.ArgumentParser()
    bench_data.add_arguments(parser)
    return parser.parse_args(list(options))


@pytest.mark.parametrize("kind", bench_data.FILES)
def test_both_ways_read_the_same_records(tmp_path, kind):
    path = str(tmp_path / bench_data.FILES[kind][0])
    bench_data.write_file(kind, path, 200)

    plain, ours = (f(kind, path) for f in (bench_data.open_plain, bench_data.open_ours))

    found = [bench_data._get(ours)(row) for row in range(200)]
    assert [getattr(one, "value", one) for one in found] == plain
    assert {len(json.dumps(one)) > 100 for one in plain} == {True}
    assert [ours[row]["conversation"].id for row in (0, 199)] == [
        plain[row].get("id", plain[row].get("image_id")) for row in (0, 199)
    ]
    pretty = (tmp_path / bench_data.FILES[kind][0]).read_bytes().count(b"\n") > 2000
    assert pretty == (kind == "llava-pretty")


def test_records_have_the_size_of_llavas(tmp_path):
    path = tmp_path / "llava.json"
    bench_data.write_file("llava", str(path), 2000)

    assert 1400 < path.stat().st_size / 2000 < 1700
    assert _args().records == 665_298 and _args().rows == 1_000_000


def test_a_run_gives_rows_and_a_table(tmp_path, monkeypatch):
    small = ["--records", "1500", "--rows", "300", "--accesses", "50"]
    args = _args("--files", "llava", "--folder", str(tmp_path / "files"), *small)

    rows = list(bench_data.run(args))
    text = "\n".join(bench_data.table(rows))

    assert [row["figure"] for row in rows] == list(bench_data.MUSTS)
    assert all(row["records"] == 1500 and row["ours"] > 0 for row in rows)
    assert all(row["plain"] > 0 and row["ratio"] > 0 for row in rows)
    assert rows[0]["megabytes"] * 1e6 > records.SMALL_FILE  # so an index is kept
    assert rows[0]["index_megabytes"] > 0 and rows[0]["wall"] > 0
    assert "llava: 1500 records" in text and "<=0.1" in text
    assert not (tmp_path / "files" / "llava.json").exists()


def test_a_failing_process_is_told(tmp_path):
    with pytest.raises(RuntimeError, match=r"llava, ours: (?s:.*)does not exist"):
        bench_data._child("llava", str(tmp_path / "none.json"), "ours", _args())
