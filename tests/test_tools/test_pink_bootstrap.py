"""Descriptions are kept where the model finds its own box again."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mmvlm.registry import DATASETS
from mmvlm.structures import Boxes, Region

TOOL = Path(__file__).parents[2] / "tools/dataset_converters/pink_bootstrap.py"


class Talk:
    """Calls everything by its left side, and finds only what is not at 20."""

    def __init__(self):
        self.asked = 0

    def read_image(self, path):
        assert path.endswith("a.png")
        return np.zeros((40, 60, 3), np.uint8)

    def chat(self, image, prompt, regions):
        assert prompt == "Describe <region1>."
        self.asked += 1
        return f" thing at {regions[0]['box'][0]:g} "

    def answer(self, image, prompt):
        left = float(prompt.split()[-1].rstrip("?"))
        row = [left, 0, left + 10, 10] if left != 20 else [50, 30, 60, 40]
        regions = [] if left == 30 else [Region(0, Boxes(np.array([row]), (40, 60)))]
        return SimpleNamespace(pred_regions=regions)


@pytest.fixture
def args(tmp_path):
    boxes = [[0, 0, 10, 10], [20, 0, 10, 10], [30, 0, 10, 10], [5, 5, 0, 9]]
    content = dict(
        images=[dict(id=1, file_name="a.png")],
        annotations=[
            dict(id=number, image_id=1, bbox=box) for number, box in enumerate(boxes)
        ],
    )
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    parse = runpy.run_path(str(TOOL))["parse_args"]
    out = str(tmp_path / "kept.jsonl")
    return parse(["c", "--annotations", str(path), "--images", "p", "--out", out])


def test_kept_lost_and_unread_are_counted_and_a_second_run_goes_on(args):
    run = runpy.run_path(str(TOOL))["bootstrap"]
    talk = Talk()
    args.num = 1
    assert run(talk, args) == dict(kept=1)
    args.num = None

    assert run(talk, args) == dict(lost=1, unread=1) and talk.asked == 3

    (line,) = Path(args.out).read_text().splitlines()
    assert json.loads(line) == dict(
        image_id="a.png", sentence="thing at 0", bbox=[0, 0, 10, 10], exp_id=0
    )
    data = DATASETS.build(
        dict(type="FlatReferringDataset", ann_file=args.out, dialect="pink")
    )
    assert len(data) == 1
