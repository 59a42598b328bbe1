"""The tangled style: two things in one box, which only their pixels tell apart."""

import json

import numpy as np
import pytest

from mmvlm.datasets.readers.ferret_grit import FerretGRITDataset
from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
from mmvlm.datasets.tiny_scenes.draw import opacity, render
from mmvlm.datasets.tiny_scenes.samples import training_samples
from mmvlm.datasets.tiny_scenes.scene import UPPER_SHAPES, sample_scene
from mmvlm.datasets.tiny_scenes.scene_masks import object_mask
from mmvlm.datasets.tiny_scenes.styles import TANGLED
from mmvlm.structures.masks import rle_to_mask


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene(np.random.default_rng(i), "train", TANGLED) for i in range(80)]


def test_things_come_in_pairs_that_share_a_box(scenes):
    for scene in scenes:
        assert len(scene.objects) in (2, 4)
        assert len({item.colour for item in scene.objects}) == len(scene.objects)
        for lower, upper in zip(scene.objects[::2], scene.objects[1::2], strict=True):
            assert lower.box == upper.box and lower.position == upper.position
            assert (lower.partner, upper.partner) == (upper.name, lower.name)
            assert upper.name in UPPER_SHAPES and lower.covered_by == upper.name
            assert not upper.covered_by
    names = {item.thing for scene in scenes for item in scene.objects}
    assert names == {"circle", "square", "word", *UPPER_SHAPES}


def test_masks_part_the_box_and_fill_it_each(scenes):
    for scene in scenes:
        for lower, upper in zip(scene.objects[::2], scene.objects[1::2], strict=True):
            masks = [object_mask(scene, item) for item in (lower, upper)]
            assert not (masks[0] & masks[1]).any()
            for mask, item in zip(masks, (lower, upper), strict=True):
                x1, y1, x2, y2 = item.box
                inside = mask[y1:y2, x1:x2]
                # Enough to be seen, and tight: boxes cannot tell the two apart.
                assert inside.mean() > 0.1, (item.label, item.partner)
            y, x = np.nonzero(masks[1])
            tight = x.min(), y.min(), x.max() + 1, y.max() + 1
            assert np.abs(np.subtract(tight, upper.box)).max() <= 1
            total = opacity(lower) + opacity(upper)
            assert total.max() <= 1 + 1e-5


def test_images_show_both(scenes):
    for scene in scenes[:20]:
        image = render(scene).astype(int)
        for item in scene.objects:
            seen = image[object_mask(scene, item) == 1].mean(0)
            other = image[object_mask(scene, item) == 0].mean(0)
            assert np.abs(seen - other).max() > 40


def test_questions_fit_the_world():
    samples = list(training_samples(40, 3, style=TANGLED))
    texts = [q.text for s in samples for q in (*s.turns, *s.description)]

    assert not any(text.startswith("What is at") for text in texts)
    assert any("ring" in text for text in texts)


def test_regions_of_a_tangle_are_named_by_their_masks(tmp_path):
    formats = ("llava", "ferret_grit", "refcoco")
    make_tiny_scenes(
        tmp_path, num_train=12, num_test=8, formats=formats, style="tangled"
    )

    data = FerretGRITDataset(
        "ferret_grit/vg_object_train.json",
        data_root=str(tmp_path),
        image_prefix="images",
        pipeline=[],
    )
    talk = data[0]["conversation"]
    regions = [p for t in talk.turns for p in t.parts if hasattr(p, "rles")]
    masks = [rle_to_mask(region.rles[0]) for region in regions]
    assert len(regions) in (2, 4) and not (masks[0] & masks[1]).any()
    test = json.loads((tmp_path / "ferret_grit/vg_object_test.json").read_text())
    assert {(row["task"], row["form"]) for row in test} == {("region", "name")}


def test_the_order_of_questions_does_not_tell_which_thing_is_meant(tmp_path):
    make_tiny_scenes(
        tmp_path, num_train=40, num_test=1, formats=("ferret_grit",), style="tangled"
    )

    rows = json.loads((tmp_path / "ferret_grit/vg_object_train.json").read_text())
    answers = [row["conversations"][1]["value"].rstrip(".") for row in rows]
    upper = sum(answer.split()[-1] in UPPER_SHAPES for answer in answers)
    assert 8 < upper < 32


def test_the_order_of_questions_does_not_tell_the_place_either(tmp_path):
    make_tiny_scenes(tmp_path, num_train=40, num_test=1, formats=("ferret_grit",))

    named, scenes = (
        json.loads((tmp_path / f"ferret_grit/{part}_train.json").read_text())
        for part in ("vg_object", "refexp")
    )
    firsts = [
        [next(turn[0] for turn in row["box_x1y1x2y2"] if turn) for row in rows]
        for rows in (named, scenes)
    ]
    same = sum(one == other for one, other in zip(*firsts, strict=True))
    assert 8 < same < 32
