"""The benchmark of the image path: pixels first, then honest rows."""

import argparse
import json

import pytest
import torch
from benchmarks import image as bench_image


def _args(*options):
    parser = argparse.ArgumentParser()
    bench_image.add_arguments(parser)
    small = ["--images", "2", "--repeats", "1", "--size", "64", "48"]
    return parser.parse_args([*small, "--decoder", "opencv", *options])


def test_exact_is_llavas_pixels_and_values(tmp_path):
    args = _args("--size", "640", "480")
    names = bench_image.write_images(args, str(tmp_path))
    made = bench_image.variants(args, str(tmp_path))

    for name in names:
        wanted, found = made["LLaVA"](name), made["exact"](name)
        assert found.shape == wanted.shape == (1, 3, 336, 336)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
        pixels = made["exact, uint8 to device"](name)
        assert pixels.dtype == torch.uint8
        assert (bench_image.levels(wanted) == pixels.numpy()).all()


def test_rows_hold_ratios_and_the_table_shows_the_musts():
    rows = list(bench_image.run(_args()))

    assert json.dumps(rows)
    by_name = {row["variant"]: row for row in rows}
    assert by_name["LLaVA"]["ratio"] == 1.0 and by_name["LLaVA"]["must"] is None
    assert by_name["exact"]["error_max"] == 0 and by_name["exact"]["must"] == 1.6
    assert by_name["fast"]["error_mean"] <= 0.1 and by_name["fast"]["must"] == 4.0
    text = "\n".join(bench_image.table(rows))
    assert text.count(">=1.6") == 3 and text.count(">=4.0") == 2


@pytest.mark.parametrize("variant", ["exact", "fast"])
def test_pixels_too_far_from_llavas_are_an_error(variant, monkeypatch, tmp_path):
    args = _args()
    names = bench_image.write_images(args, str(tmp_path))
    made = bench_image.variants(args, str(tmp_path))
    made[variant] = made["opencv CUBIC"]

    with pytest.raises(RuntimeError, match=f"'{variant}' is .* levels .* LLaVA's"):
        bench_image.errors(made, names)
