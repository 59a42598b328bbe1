"""The benchmark of replies: equal ids, then rows."""

import argparse

import pytest
import torch
from benchmarks import generating

SMALL = ["--width", "64", "--layers", "2", "--vocab", "512", "--repeats", "1"]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def measure(*cases):
    parser = argparse.ArgumentParser()
    generating.add_arguments(parser)
    return list(generating.run(parser.parse_args([*SMALL, "--cases", *cases])))


@pytest.mark.parametrize(
    ("case", "prompts", "what"),
    [
        ("six questions, 144", 24, "tokens"),
        ("option logits", 24, "answers"),
        pytest.param("kept encoder", 12, "tokens", marks=pytest.mark.slow),
    ],
)
def test_rows_say_that_tokens_are_equal(case, prompts, what):
    (row,) = measure(case)
    assert row["prompts"] == row["equal"] == prompts
    assert row["ratio"] > 0
    line = generating.table([row])[1]
    assert line.startswith(case) and line.endswith(f"{what} equal")


def test_rows_say_which_tokens_differ(monkeypatch):
    together = generating.together

    def changed(*args):
        replies = together(*args)
        replies[3][-1] += 1
        return replies

    monkeypatch.setattr(generating, "together", changed)
    rows = measure("six questions, 144")
    assert rows[0]["equal"] == 23
    assert any("23 of 24 equal" in line for line in generating.table(rows))
