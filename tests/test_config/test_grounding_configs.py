"""Shikra, PINK, Kosmos-2 and Qwen-VL with boxes: sizes, trained sets, syntax."""

from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run

ROOT = Path(__file__).resolve().parents[2] / "configs"
CLIP, LINEAR, LLAMA = 303_179_776, 4_198_400, 6_738_415_616
ROW = 2 * 4096
#: pattern of files: parameters and trained ones of each part, positions of an image.
SIZES = {
    "shikra/shikra-clip*": (
        (CLIP, LINEAR, LLAMA + 3 * ROW),
        (0, LINEAR, LLAMA + 3 * ROW),
        256,
    ),
    "shikra/shikra-tokens*": (
        (CLIP, LINEAR, LLAMA + (3 + 6 + 1001) * ROW),
        (0, LINEAR, LLAMA + (3 + 6 + 1001) * ROW),
        256,
    ),
    "kosmos2/*.py": (
        (CLIP, 19_015_680, 1_664_485_376 - CLIP - 19_015_680),
        (CLIP, 19_015_680, 1_664_485_376 - CLIP - 19_015_680),
        64,
    ),
    "pink/*-pt_*": (
        (CLIP + 23 * (16 * 1024 + 8 + 1024), LINEAR, LLAMA + 12 * ROW),
        (0, LINEAR, 0),
        256,
    ),
    "pink/*-ft_*": (
        (
            CLIP + 23 * (16 * 1024 + 8 + 1024),
            LINEAR,
            LLAMA + 12 * ROW + 32 * (16 * 4096 + 8 + 4096),
        ),
        (400_568, LINEAR, 12 * ROW + 2_228_480),
        256,
    ),
}
FILES = [
    (path, *sizes) for glob, sizes in SIZES.items() for path in sorted(ROOT.glob(glob))
]


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT.parent)


@pytest.mark.parametrize(
    ("path", "sizes", "trained", "tokens"), FILES, ids=[f[0].stem for f in FILES]
)
def test_sizes_and_trained_sets(path, sizes, trained, tokens):
    result = dry_run(load_config(path))

    assert tuple(row.parameters for row in result.parts) == sizes
    assert tuple(row.trainable for row in result.parts) == trained
    assert result.image_tokens == tokens


def test_every_pattern_has_files():
    assert {glob for glob in SIZES if not list(ROOT.glob(glob))} == set()
