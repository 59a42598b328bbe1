"""The benchmark of scoring: equal scores first, then rows."""

import argparse
import json

import pytest
from benchmarks import scoring

from mmvlm.evaluation.functional import vqa

ARGS = argparse.Namespace(items=300, images=60, draws=50)


def test_rows_and_their_table():
    rows = list(scoring.run(ARGS))
    assert [row["variant"] for row in rows] == ["scores", "interval"]
    assert rows[0]["seconds"] < rows[0]["must"] and rows[0]["plain_seconds"] > 0
    assert rows[1]["low"] <= rows[1]["value"] <= rows[1]["high"]
    json.dumps(rows)

    lines = scoring.table(rows)
    assert lines[0].startswith("300 items of ten answers in 60 images, 50 draws: ")
    assert [line.split()[0] for line in lines[2:]] == ["scores", "interval"]


def test_scores_that_differ_stop_the_benchmark(monkeypatch):
    monkeypatch.setattr(vqa, "leave_one_out", lambda text, answers: 0.5)
    with pytest.raises(RuntimeError, match="the scorer and the plain way disagree"):
        list(scoring.run(ARGS))
