"""Twins of the full configs, with the full configs' dtypes, start everywhere.

``MMVLM_ALL_TWINS=1`` starts every full config; without it one of each folder.
"""

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "configs"


def full_configs():
    """Every full config, or the first fine-tuning (else the first) of each folder."""
    paths = sorted(
        path
        for path in ROOT.rglob("*.py")
        if not {"_base_", "tiny", "tiny_scenes"} & set(path.relative_to(ROOT).parts)
    )
    if os.environ.get("MMVLM_ALL_TWINS"):
        return paths
    folders = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    return [
        next((p for p in members if "-ft" in p.stem), members[0])
        for members in folders.values()
    ]


def check_start(jobs, root, strategies):
    paths = full_configs()
    assert len(paths) > 10
    every = bool(os.environ.get("MMVLM_ALL_TWINS"))
    if "deepspeed_zero3" in strategies and not every:
        # It gathers every layer of two steps: minutes for all folders.
        paths = [p for p in paths if p.parent.name in ("llava", "mmfuser")]
    cases = [(str(path), name) for path in paths for name in strategies]

    limit = 7200 if every else 600
    jobs.check(root, "start_twins", str(root), cases, world=2, timeout=limit)

    failures = [json.loads((root / f"failures-{r}.json").read_text()) for r in (0, 1)]
    assert failures == [{}, {}], json.dumps(failures, indent=2)


@pytest.mark.slow
@pytest.mark.multiproc
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_twins_start_under_ddp_and_fsdp(jobs, tmp_path, strategy):
    check_start(jobs, tmp_path, [strategy])


@pytest.mark.slow
@pytest.mark.multiproc
@pytest.mark.optional_deepspeed
@pytest.mark.parametrize("strategy", ["deepspeed_zero2", "deepspeed_zero3"])
def test_twins_start_under_zero(jobs, tmp_path, strategy):
    pytest.importorskip("deepspeed", reason="needs the package deepspeed")
    check_start(jobs, tmp_path, [strategy])


@pytest.mark.slow
@pytest.mark.multiproc
def test_a_sharded_model_is_validated_saved_and_resumed(jobs, tmp_path):
    jobs.check(tmp_path, "validate_sharded", str(tmp_path), world=2)

    whole, again = (
        [json.loads(line) for line in (tmp_path / name / "scalars.jsonl").open()]
        for name in ("whole", "again")
    )
    whole, again = ([r["loss"] for r in rows if "loss" in r] for rows in (whole, again))
    assert len(whole) == 4 and again == whole[2:]
