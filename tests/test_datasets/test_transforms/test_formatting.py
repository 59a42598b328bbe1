import numpy as np
import pytest
import torch

from mmvlm.datasets.transforms.compose import Compose
from mmvlm.datasets.transforms.formatting import PackVLMInputs
from mmvlm.structures import (
    Boxes,
    Conversation,
    EncodedSample,
    InputLayout,
    SampleInputs,
    Slot,
    ViewLayout,
)


def item(num_slots=1, num_views=1, sizes=((4, 4),), **extra):
    talk = Conversation.from_texts("q", "a", images=["x"] * num_slots)
    talk.id, talk.meta = "s", dict(task="colour")
    ids = np.array([1, *[-200] * num_slots, 3])
    return dict(
        conversation=talk,
        dataset="d",
        index=5,
        encoded=EncodedSample(ids, ids, [Slot(i, 1 + i, 1) for i in range(num_slots)]),
        views=[np.zeros((num_views, 3, *size), np.uint8) for size in sizes],
        layouts=[ViewLayout((9, 9), size, num_views) for size in sizes],
        **extra,
    )


def test_packs_two_images_and_facts():
    boxes = Boxes(np.zeros((1, 4)), (9, 9))
    given = item(2, 2, ((4, 4), (4, 4)), gt_text="red", gt_boxes=boxes, noise=3)

    packed = PackVLMInputs(meta_keys=["noise"])(given)
    inputs, sample = packed["inputs"], packed["data_samples"]
    encoded, images = inputs["streams"]["text"], inputs["inputs"]["image"]

    assert images.values.shape == (4, 3, 4, 4)
    assert images.values.dtype == torch.uint8
    assert encoded.input_ids.tolist() == [1, -200, -200, 3]
    assert encoded.input_ids.dtype == encoded.labels.dtype == np.int64
    assert len(images.layouts) == 2 and [s.index for s in encoded.slots] == [0, 1]
    assert inputs["targets"] == {}
    assert sample.sample_id == "s" and sample.index == 5 and sample.dataset == "d"
    assert sample.meta == dict(task="colour") and sample.noise == 3
    assert sample.gt_text == "red" and sample.gt_boxes is boxes
    assert sample.truncated_tokens == 0 and sample.dropped_labels is False
    assert sample.conversation is given["conversation"]


def test_text_only_sample_has_no_pixels():
    packed = PackVLMInputs()(item(0, 1, ()))

    assert packed["inputs"]["inputs"] == {}
    assert packed["data_samples"].layouts == ()


def test_images_of_two_sizes_stay_apart():
    packed = PackVLMInputs()(item(2, 2, ((4, 4), (8, 6))))

    views = packed["inputs"]["inputs"]["image"].values
    sizes = [(3, 4, 4), (3, 4, 4), (3, 8, 6), (3, 8, 6)]
    assert [tuple(one.shape) for one in views] == sizes


def test_other_inputs_targets_and_a_second_stream_are_packed():
    regions = SampleInputs(
        torch.zeros(2, 4), (InputLayout("region", (4,)),) * 2, (0, 0), False
    )
    answer = EncodedSample(np.array([7, 8]), np.array([7, 8]))
    extra = dict(
        inputs=dict(region=regions),
        targets=dict(box=[np.zeros(4)]),
        encoded_answer=answer,
    )

    inputs = PackVLMInputs()(item(**extra))["inputs"]

    assert list(inputs["streams"]) == ["encoder", "decoder"]
    assert inputs["streams"]["decoder"] is answer
    assert set(inputs["inputs"]) == {"image", "region"}
    assert inputs["inputs"]["region"] is regions
    assert len(inputs["targets"]["box"]) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (item(2), "sample 's': 2 slots for 'image' .* but 1 inputs"),
        (item(0), "sample 's': 0 slots for 'image' .* but 1 inputs"),
    ],
)
def test_mismatch_names_the_sample(given, message):
    with pytest.raises(ValueError, match=message):
        PackVLMInputs()(given)


def test_missing_key_is_a_fault_of_the_pipeline():
    given = item()
    del given["encoded"]

    with pytest.raises(RuntimeError, match=r"lacks \['encoded'\].*EncodeConversation"):
        PackVLMInputs()(given)


def test_compose_refuses_what_is_no_transform():
    with pytest.raises(
        TypeError, match=r"pipeline\[0\]: expected a dict or a callable"
    ):
        Compose([3])


def test_compose_refuses_a_transform_that_returns_nothing():
    with pytest.raises(TypeError, match=r"pipeline\[1\] .* returned NoneType"):
        Compose([lambda x: x, lambda x: None])({})
