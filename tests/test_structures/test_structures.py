"""Nouns: conversations, boxes, layouts and batches."""

import doctest

import numpy as np
import pytest
import torch

import mmvlm.structures.conversation as conversation_module
from mmvlm.structures import (
    Boxes,
    Conversation,
    FixedTokenCount,
    Image,
    PatchTokenCount,
    Text,
    Turn,
    ViewLayout,
    VisionEncoderSpec,
    VisionFeatures,
)


def test_docstring_examples_hold():
    result = doctest.testmod(conversation_module)

    assert result.attempted and not result.failed


def test_from_texts_puts_every_image_on_a_line_of_its_own():
    talk = Conversation.from_texts("Q", "A", "More?", images=["a", "b"])

    assert talk.turns[0].parts == (Image(0), Text("\n"), Image(1), Text("\nQ"))
    assert [turn.role for turn in talk.turns] == ["user", "assistant", "user"]
    assert [turn.is_supervised for turn in talk.turns] == [False, True, False]
    assert talk.turns[2].text == "More?"
    talk.check()


def test_supervision_can_be_set_against_the_role():
    assert Turn("user", (Text("x"),), supervised=True).is_supervised
    assert not Turn("assistant", (Text("x"),), supervised=False).is_supervised


@pytest.mark.parametrize(
    ("turns", "images", "message"),
    [
        ([], [], "sample '7': no turns"),
        ([Turn("user", (Image(0), Image(0)))], ["a"], "2 image placeholders"),
        ([Turn("user", (Text("x"),))], ["a"], "0 image placeholders .* but 1 images"),
    ],
)
def test_check_names_the_sample(turns, images, message):
    with pytest.raises(ValueError, match=message):
        Conversation(turns, images, id="7").check()


@pytest.mark.parametrize("size", [(10, 20), (20, 10), (7, 12), (9, 9)])
@pytest.mark.parametrize("frame", ["pixel", "unit", "thousand"])
def test_boxes_survive_frames_and_padding(size, frame):
    boxes = Boxes([[1, 2, 5, 6.5], [0, 0, 3, 3]], size)

    there = boxes.to(frame)
    padded = there.pad_to_square()
    back = padded.unpad_from_square(size).to("pixel")

    assert there.frame == padded.frame == frame
    assert padded.size == (max(size), max(size))
    np.testing.assert_allclose(back.xyxy, boxes.xyxy, atol=1e-9)


def test_unit_box_in_the_padded_square_is_llavas():
    # 100 wide, 50 high: 25 rows of padding above, divided by the longer side.
    unit = Boxes([[10, 0, 90, 50]], (50, 100)).pad_to_square().to("unit")

    np.testing.assert_allclose(unit.xyxy, [[0.1, 0.25, 0.9, 0.75]])


def test_iou_and_clip():
    a = Boxes([[0, 0, 2, 2], [5, 5, 5, 5]], (10, 10))
    b = Boxes([[1, 1, 3, 3], [-1, -1, 20, 20]], (10, 10))

    np.testing.assert_allclose(a.iou(b), [[1 / 7, 4 / 441], [0, 0]])
    np.testing.assert_array_equal(b.clip().xyxy[1], [0, 0, 10, 10])


def test_boxes_refuse_bad_numbers_and_frames():
    with pytest.raises(ValueError, match="NaN or infinity"):
        Boxes([[0, 0, float("nan"), 1]], (4, 4))
    with pytest.raises(ValueError, match="unknown box frame 'percent'"):
        Boxes([[0, 0, 1, 1]], (4, 4), "percent").to("unit")
    with pytest.raises(ValueError, match="not in a square of side 6"):
        Boxes([[0, 0, 1, 1]], (4, 4)).unpad_from_square((6, 3))


def test_token_counts():
    layout = ViewLayout((50, 80), (42, 56), num_views=3)

    assert PatchTokenCount(14)(layout) == 3 * 3 * 4
    assert PatchTokenCount(14, extra=1, shrink=2)(layout) == 3 * (2 * 2 + 1)
    assert FixedTokenCount(32)(layout) == 96


def test_spec_resolves_layers_and_grid():
    spec = VisionEncoderSpec(8, num_layers=24, patch_size=14, image_size=336)

    assert spec.grid(336, 280) == (24, 20)
    assert [spec.layer_index(k) for k in (-1, -2, 0, 24, -25)] == [24, 23, 0, 24, 0]
    for layer in (25, -26):
        with pytest.raises(ValueError, match=f"select_layers has {layer}"):
            spec.layer_index(layer)


def test_features_cut_prefix_tokens():
    states = tuple(torch.randn(2, 5, 3) for _ in range(2))
    features = VisionFeatures(states, (1, 2), (2, 2), num_prefix_tokens=1)

    torch.testing.assert_close(features.patches(0), states[0][:, 1:])
    torch.testing.assert_close(features.patches(), states[1][:, 1:])
