"""The deformable attention benchmark: equality first, then honest rows."""

import argparse
import json

import pytest
import torch
from benchmarks import deform as bench_deform

from mmvlm.models.ops import compiled


def _args(*options):
    parser = argparse.ArgumentParser()
    bench_deform.add_arguments(parser)
    small = ["--side", "4", "--heads", "2", "--channels", "8", "--repeats", "1"]
    return parser.parse_args([*small, *options])


def test_the_plain_loop_is_mmcvs():
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    (value, locations, weights), shapes, _ = bench_deform.make_inputs(_args(), 4, 2)

    expected = multi_scale_deformable_attn_pytorch(
        value, torch.tensor(shapes), locations, weights
    )
    out = bench_deform.plain_sample(value, shapes, locations, weights)
    assert torch.equal(out, expected)


def test_defaults_are_mmfusers_sizes():
    parser = argparse.ArgumentParser()
    bench_deform.add_arguments(parser)

    (value, locations, weights), shapes, grad = bench_deform.make_inputs(
        parser.parse_args([]), bench_deform.KINDS["cross"], 1
    )

    assert value.shape == (1, 2304, 16, 64) and shapes == [(24, 24)] * 4
    assert locations.shape == (1, 576, 16, 4, 4, 2) and grad.shape == (1, 576, 1024)
    outside = ((locations < 0) | (locations > 1)).any(-1)
    assert 0.1 < outside.float().mean() < 0.5
    torch.testing.assert_close(weights.sum((-1, -2)), torch.ones(1, 576, 16))


def test_rows_hold_ratios_and_the_table_shows_the_musts():
    args = _args("--batch", "1", "2")

    rows = list(bench_deform.run(args))

    names = ["plain", *bench_deform.BACKENDS]
    if compiled.load_ops() is not None:
        names.remove("cpp")
    assert json.dumps(rows)
    assert [row["backend"] for row in rows] == names * 4
    assert {(row["attention"], row["batch"]) for row in rows} == {
        *(("cross", 1), ("cross", 2), ("self", 1), ("self", 2))
    }
    assert rows[0]["ratio"] == {"forward": 1.0, "forward+backward": 1.0}
    musts = [row["must"]["forward"] for row in rows if row["backend"] == "bag"]
    assert musts == [3.0, None, None, None]
    text = "\n".join(bench_deform.table(rows))
    assert text.count(">=3") == 1 and text.count(">=2") == 1


def test_memory_for_the_backward_pass_is_counted_once_per_storage():
    leaves, shapes, _ = bench_deform.make_inputs(_args(), 1, 1)

    def twice(value, shapes, locations, weights):
        return (value * value).sum() + weights.exp().sum()

    kept = bench_deform.saved_bytes(twice, leaves, shapes)

    assert kept == 4 * (leaves[0].numel() + leaves[2].numel())


@pytest.mark.parametrize("what", ["output", "gradient of value"])
def test_variants_that_disagree_are_an_error(what, monkeypatch):
    def wrong(value, shapes, locations, weights):
        if what == "output":
            value = value + 1e-4
        else:
            value = value + (value - value.detach()) * 1e-3
        return bench_deform.plain_sample(value, shapes, locations, weights)

    monkeypatch.setattr(
        bench_deform,
        "variants",
        lambda args: {"plain": bench_deform.plain_sample, "wrong": wrong},
    )

    with pytest.raises(RuntimeError, match=f"wrong disagrees .*: {what} by"):
        list(bench_deform.run(_args()))
