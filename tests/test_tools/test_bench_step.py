"""The step benchmark: equal losses, honest batches, a table beside the musts."""

import argparse
import json

import pytest
from benchmarks import step as bench_step


def _args(*options):
    parser = argparse.ArgumentParser()
    bench_step.add_arguments(parser)
    small = ["--width", "64", "--layers", "1", "--batch", "2", "--repeats", "1"]
    return parser.parse_args([*small, *options])


@pytest.mark.parametrize(
    "kind, least, most", [("ragged", 0.2, 0.35), ("equal", 0.05, 0.07), ("exact", 0, 0)]
)
def test_batches_have_the_stated_padding_and_trained_share(kind, least, most):
    batch = bench_step.make_samples(kind, 8, 500)

    padding = 1 - len(batch.text.input_ids) / (max(batch.text.seq_lens) * 8)
    trained = batch.text.num_targets / len(batch.text.input_ids)

    assert least <= padding <= most
    assert 0.16 <= trained <= 0.19
    assert set(batch.inputs["image"].slot_lens) == {144}


@pytest.mark.parametrize("head, share", [("small", 0.04), ("large", 0.4)])
def test_head_has_the_stated_share_of_the_matrices(head, share):
    args = _args("--width", "128", "--layers", "4")

    vocab = bench_step.vocab_of(args, head)
    llm = bench_step.build_model(args, vocab, "segment").language_model.model

    matrices = sum(p.numel() for p in llm.model.layers.parameters() if p.dim() == 2)
    own = llm.lm_head.weight.numel()
    assert abs(own / (own + matrices) - share) < 0.02


def test_rows_hold_ratios_and_the_table_shows_the_musts():
    args = _args("--heads", "small", "--lengths", "ragged", "--no-memory")

    rows = list(bench_step.run(args))

    assert len(rows) == 1 and json.dumps(rows)
    assert set(rows[0]["cpu_seconds"]) == set(bench_step.VARIANTS)
    assert rows[0]["must"] == 1.3 and rows[0]["ratio"] > 0
    assert ">=1.3" in "\n".join(bench_step.table(rows))


def test_variants_that_disagree_are_an_error(monkeypatch):
    args = _args("--heads", "small", "--lengths", "ragged", "--no-memory")
    result = bench_step.measure_time(args, "small", "ragged")
    result["losses"]["ours"] += 1e-3
    monkeypatch.setattr(bench_step, "measure_time", lambda *_: result)

    with pytest.raises(RuntimeError, match="the variants disagree"):
        list(bench_step.run(args))


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own():
    args = _args("--heads", "small", "--lengths", "exact")

    mib = bench_step._memory_in_child(args, "small", "exact", "ours")

    assert mib is None or 1 < mib < 2000
