"""Replies of a test are drawn as they come."""

import logging
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from mmvlm.registry import HOOKS
from mmvlm.structures import Boxes, Region, VLMDataSample


def answered(path, number):
    sample = VLMDataSample()
    sample.set_metainfo(dict(image_paths=(str(path),)))
    box = np.array([[1.0, 2, 20 + number, 12]])
    sample.pred_text, sample.gt_text = f"reply {number}", f"truth {number}"
    sample.pred_regions = (Region(0, Boxes(box, (20, 30)), phrase="a dog"),)
    sample.pred_spans, sample.problems = ((0, 5),), ()
    sample.gt_boxes = Boxes(box + 1, (20, 30))
    return sample


def test_the_first_replies_are_drawn(tmp_path):
    path = tmp_path / "grey.png"
    PIL.Image.fromarray(np.full((20, 30, 3), 99, np.uint8)).save(path)
    samples = [answered(path, number) for number in range(5)]
    runner = SimpleNamespace(
        work_dir=str(tmp_path / "work"), logger=logging.getLogger("draw")
    )
    hook = HOOKS.build(dict(type="DrawRepliesHook", num=3))

    hook.before_test(runner)
    for start in (0, 2, 4):
        hook.after_test_iter(runner, start, outputs=samples[start : start + 2])
    hook.after_test(runner)

    folder = tmp_path / "work" / "replies"
    assert sorted(p.name for p in folder.iterdir()) == [
        *("0000.png", "0001.png", "0002.png"),
        "index.html",
    ]
    page = (folder / "index.html").read_text()
    assert "truth 2" in page and "truth 3" not in page and page.count("<mark") == 3
    drawn = np.asarray(PIL.Image.open(folder / "0000.png"))
    assert drawn.shape == (427, 640, 3) and len(np.unique(drawn)) > 3
    with pytest.raises(ValueError, match="num=0, expected at least 1"):
        HOOKS.build(dict(type="DrawRepliesHook", num=0))
