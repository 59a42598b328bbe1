"""Pipeline and connector must speak of the same views; the doctor sees to it."""

import pytest

from mmvlm.config import check_config, load_config
from mmvlm.config.dry_run import dry_run

FOLDER = "configs/inf_llava/"
NAME = "inf-llava-clip-l14-336_dual-n3_llama3-8b_8xb16-1e-pt_llava-558k.py"


@pytest.fixture
def cfg():
    return load_config(FOLDER + NAME, check=False)


def test_views_follow_the_connector(cfg):
    found = dry_run(cfg).token_budget
    cfg.model.connector.fuser.grid = 4
    cfg.model.connector.fuser.average_with_resized = False

    assert found == (
        "19 views (3 x 3 local, 3 x 3 global, 1 resized) of 336x336 -> 24x24 grid -> "
        "10944 tokens (19 views) -> 576 tokens"
    )
    assert "32 views (4 x 4 local, 4 x 4 global) of" in dry_run(cfg).token_budget
    assert check_config(cfg).problems == []


@pytest.mark.parametrize(
    "step, found",
    [
        (dict(type="PadToSquare"), "1 views of the layout 'pad'"),
        (dict(type="DualPerspectiveViews", grid=2), "9 views of the layout 'dual_"),
    ],
)
def test_other_views_are_a_problem(cfg, step, found):
    cfg.train_dataloader.dataset.pipeline[1] = step

    (problem,) = check_config(cfg).problems

    assert problem.startswith("model.connector (")
    assert f"an image has {found}" in problem
    assert "DualPerspectiveFuser takes 19" in problem
