"""Rows of new tokens learn under every strategy; the old ones keep every bit."""

import json

import pytest
import torch
from engine_jobs import NEW_TOKENS

TABLES = ("model.embed_tokens.weight", "lm_head.weight")


def losses(folder):
    rows = [json.loads(line) for line in (folder / "scalars.jsonl").open()]
    return [row["loss"] for row in rows]


def check(jobs, root, cases):
    """Train and resume every case (strategy, tied, lora, dtype)."""
    world = 1 if cases[0][0] == "none" else 2
    jobs.check(root, "train_new_tokens", str(root), cases, world=world)

    for case in cases:
        folder = root / "-".join(map(str, case))
        whole = losses(folder)
        assert whole[-1] < whole[0], case
        assert losses(root / f"{folder.name}-resumed") == whole[40:], case
        before = torch.load(folder / "first.pth")
        after = torch.load(folder / "iter_50.pth")["state_dict"]
        assert before.keys() == after.keys()
        assert not any("new_weight" in key for key in after)
        for name in TABLES:
            key = f"language_model.model.{name}"
            old = len(after[key]) - len(NEW_TOKENS)
            assert torch.equal(after[key][:old], before[key][:old]), (case, key)
            moved = (after[key][old:] != before[key][old:]).any(1)
            # The input row of a token that never comes stays, if the head has its own.
            assert moved.tolist() == [True, True, case[1] or name == TABLES[1]], case


@pytest.mark.slow
def test_in_one_process(jobs, tmp_path):
    check(jobs, tmp_path, [("none", False, True, None), ("none", True, False, None)])


@pytest.mark.slow
@pytest.mark.multiproc
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_under_strategies(jobs, tmp_path, strategy):
    check(
        jobs,
        tmp_path,
        [
            (strategy, False, False, None),
            (strategy, True, True, "bfloat16"),
        ],
    )


@pytest.mark.slow
@pytest.mark.multiproc
@pytest.mark.optional_deepspeed
def test_under_zero3(jobs, tmp_path):
    pytest.importorskip("deepspeed", reason="needs the package deepspeed")
    check(
        jobs,
        tmp_path,
        [
            ("deepspeed_zero3", False, False, None),
            ("deepspeed_zero3", True, True, "bfloat16"),
        ],
    )
