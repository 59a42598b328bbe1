"""Tiny LISA and Ferret on two ranks of which one never sees a mask or a region."""

import json

import pytest
import torch

from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
from mmvlm.engine.runner.checkpoint import load_file

pytestmark = [pytest.mark.slow, pytest.mark.multiproc]
kinds = pytest.mark.parametrize("kind", ["mask", "region"])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with TinyScenes where the two configs expect it."""
    folder = tmp_path_factory.mktemp("one-sided")
    formats = ("llava", "refcoco", "ferret_grit")
    for name, style in (("tiny_scenes", "plain"), ("tiny_scenes_tangled", "tangled")):
        data = folder / "data" / name
        make_tiny_scenes(data, num_train=24, num_test=2, formats=formats, style=style)
    return folder


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@kinds
@pytest.mark.parametrize("strategy", [None, "fsdp"])
def test_a_run_ends_and_its_checkpoint_resumes_exactly(
    jobs, workspace, tmp_path, kind, strategy
):
    job = (tmp_path, "train_one_sided", str(workspace), kind, strategy)
    jobs.check(*job, world=2)

    folder = workspace / f"{kind}-{strategy}"
    whole, again = (folder / name for name in ("whole", "again"))
    seen = [
        {name.split("/")[0] for row in rows(whole / f"samples-rank{rank}.jsonl")
         for batch in row["samples"] for name in batch}
        for rank in (0, 1)
    ]  # fmt: skip
    assert len(seen[0]) == 1 and seen[1] == {"questions"} != seen[0]
    expected = rows(whole / "scalars.jsonl")
    names = ["loss", *(["loss_mask_bce", "loss_mask_dice"] if kind == "mask" else [])]
    found = rows(again / "scalars.jsonl")
    assert [row["step"] for row in found] == [3, 4]
    for row, other in zip(expected[2:], found, strict=True):
        assert [row[name] for name in names] == [other[name] for name in names]
        assert all(row[name] > 0 for name in names)
    one, other = (load_file(f / "iter_4.pth")["state_dict"] for f in (whole, again))
    assert one.keys() == other.keys() and one
    assert all(torch.equal(value, other[key]) for key, value in one.items())


@kinds
def test_gradients_are_equal_however_samples_are_dealt(jobs, workspace, tmp_path, kind):
    alone = [("eight", 8, 1), ("four-twice", 4, 2), ("two-by-two", 2, 4)]
    ranks = [("ranks", 4, 1), ("ranks-twice", 2, 2)]
    for cases, world in ((alone, 1), (ranks, 2)):
        job = (tmp_path, "one_sided_gradients", str(workspace), kind, cases)
        jobs.check(*job, world=world)

    files = [f"{name}/grads-0-rank0.pth" for name, *_ in (*alone, *ranks)]
    files += [f"{name}/grads-0-rank1.pth" for name, *_ in ranks]
    expected, *others = [torch.load(workspace / kind / file) for file in files]
    part = dict(mask="mask.decoder.mask_decoder.", region="region_encoder.")[kind]
    assert any(k.startswith(part) and g.any() for k, g in expected["grads"].items())
    for file, other in zip(files[1:], others, strict=True):
        # Ranks touch also what nothing reads, such as the tower's last block.
        more = other["grads"].keys() - expected["grads"].keys()
        assert not any(other["grads"][key].any() for key in more), file
        for key, grad in expected["grads"].items():
            torch.testing.assert_close(
                other["grads"][key], grad, rtol=1e-4, atol=1e-6, msg=f"{file} {key}"
            )
