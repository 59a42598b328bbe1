"""Regions from conversations through the processor into models and their replies."""

import numpy as np
import pytest
import torch

from mmvlm.datasets.collate import collate_flat
from mmvlm.datasets.processor import VLMProcessor
from mmvlm.registry import TOKENIZERS
from mmvlm.structures import Boxes, Conversation, Image, Region, Text, Turn
from mmvlm.testing import tiny_vlm

CODEC = dict(type="FerretCodec")
SMALL = {
    "FerretSampler": dict(num_points=16, num_sub_points=[8, 4], num_neighbours=[4, 4]),
    "MaskMeanPool": dict(num_points=16),
    "MultiLevelRoI": dict(
        select_layers=[1, 2], roi_size=2, hidden_width=16, place_width=8, num_groups=4
    ),
    "MaskExtractor": dict(mask_side=8, place_side=4, hidden_width=16),
    "MaskedTokens": dict(connector=dict(type="MLPConnector")),
}
SIZES = ((40, 60), (64, 48))


def build(kind, size=None):
    encoder = dict(type=kind, **SMALL[kind])
    if size:
        encoder["view_size"] = size
    both = kind == "MaskedTokens"  # fills images, too
    parts = dict(connectors=dict(region_encoder=encoder))
    model = tiny_vlm(**parts, **(dict(connector=None) if both else {}))
    tokenizer = TOKENIZERS.build(
        dict(
            type="TinyTokenizer", special_tokens=["<region_fea>"], words=["What", "is"]
        )
    )
    processor = VLMProcessor(
        tokenizer, "vicuna_v1", views=dict(type="PadToSquare"), codec=None
    )
    steps = [
        dict(type="PadToSquare", size=size),
        dict(type="WriteRegions", codec=dict(CODEC, geometry="square_pad")),
        dict(type="PrepareRegions"),
        dict(type="EncodeConversation"),
        dict(type="PackVLMInputs"),
    ]
    processor.steps = dict(train=steps, generate=steps)
    model.language_model.model.resize_token_embeddings(len(tokenizer))
    processor.bind(model)
    model.bind(processor)
    return model, processor


def region(image, box, kind="box"):
    return Region(image, Boxes(np.array(box, float), SIZES[image]), kind)


def talks():
    """No region; two of one image; two images in the other order; a point."""
    first, second = region(0, (3, 4, 30, 30)), region(0, (20, 2, 59, 39))
    other = region(1, (1, 1, 40, 60))
    asked = [[], [first, second], [other, first], [region(0, (9, 9, 9, 9), "point")]]
    found = []
    for number, regions in enumerate(asked):
        images = 1 + max((one.image for one in regions), default=0)
        parts = [Image(index) for index in range(images)]
        for one in regions:
            parts += [Text(" What is "), one]
        turns = [Turn("user", (*parts, Text("?"))), Turn("assistant", (Text("is"),))]
        found.append(Conversation(turns, list("ab"[:images]), id=f"talk-{number}"))
    return found


def sample_of(processor, talk, mode="generate", seed=0):
    images = [
        np.random.default_rng(7 + n).integers(0, 255, (*SIZES[n], 3), dtype=np.uint8)
        for n in range(len(talk.images))
    ]
    rng = np.random.default_rng(seed)
    return processor(talk, mode, images=images, rng=rng)


def batch_of(model, processor, which, mode="generate"):
    samples = [sample_of(processor, talk, mode) for talk in which]
    return model.data_preprocessor(collate_flat(samples), False)


@pytest.fixture(scope="module", params=sorted(SMALL))
def bound(request):
    return request.param, *build(request.param)


def test_a_batch_holds_what_the_encoder_needs(bound):
    kind, model, processor = bound

    inputs = batch_of(model, processor, talks())["inputs"].inputs["region"]

    needs = model.region_needs
    assert len(inputs) == 5 and inputs.owner == (1, 1, 2, 2, 3)
    # Images: one each of talks 0 and 1, two of talk 2, one of talk 3.
    assert inputs.parent == (1, 1, 3, 2, 4)
    wanted = {"points": needs.points, "draws": needs.draws, "masks": needs.mask}
    assert {k for k, v in wanted.items() if v} == set(inputs.extra) - {"num_points"}
    assert inputs.values.shape == (5, 4) and (inputs.values <= 1).all()
    assert len(inputs.slot_index) == sum(inputs.slot_lens)
    if kind == "MaskedTokens":
        assert len(set(inputs.slot_lens)) > 1
        cells = [one.cells for one in inputs.layouts]
        assert list(inputs.slot_lens) == cells


def test_a_batch_gives_what_its_samples_alone_give(bound):
    _, model, processor = bound
    whole = batch_of(model, processor, talks())["inputs"]
    states = model(whole)

    pieces = states.split(list(whole.text.seq_lens))
    for talk, together in zip(talks(), pieces, strict=True):
        alone = batch_of(model, processor, [talk])["inputs"]
        torch.testing.assert_close(model(alone), together, atol=1e-4, rtol=1e-4)


def test_what_lies_in_a_region_is_seen(bound):
    _, model, processor = bound
    one, other = talks()[1], talks()[1]
    turns = list(other.turns)
    moved = region(0, (40, 20, 59, 39))
    parts = [moved if isinstance(p, Region) else p for p in turns[0].parts]
    other.turns[0] = Turn("user", tuple(parts))

    both = [batch_of(model, processor, [talk])["inputs"] for talk in (one, other)]
    rows = [model.embed(b)[b.inputs["region"].slot_index].sum(0) for b in both]
    assert not torch.allclose(*rows)


def test_a_prediction_depends_on_the_sample_alone(bound):
    _, _, processor = bound
    talk = talks()[1]
    one, other = (sample_of(processor, talk, seed=seed) for seed in (0, 1))
    first, second = (s["inputs"]["inputs"]["region"].extra for s in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in first)

    drawn = [
        sample_of(processor, talk, "train", seed)["inputs"]["inputs"]["region"].extra
        for seed in (0, 1)
    ]
    if "points" in first:
        assert not torch.equal(*(one["points"] for one in drawn))


def test_weights_learn_and_batches_without_regions_touch_them(bound):
    _, model, processor = bound
    model.touch_all_parts = True
    for which, learns in ((talks(), True), (talks()[:1], False)):
        batch = batch_of(model, processor, which, "train")["inputs"]
        model.zero_grad()
        model.loss(batch)["loss"].backward()
        grads = [w.grad for w in model.region_encoder.parameters()]
        assert all(grad is not None for grad in grads)
        if learns or model.region_encoder.fills != ("region",):
            assert any(grad.any() for grad in grads)
        else:
            assert not any(grad.any() for grad in grads)
    model.zero_grad()


def test_a_region_encoder_that_learns_alone_goes_on_without_regions(bound):
    _, model, processor = bound
    trained = [name for name, w in model.named_parameters() if w.requires_grad]
    model.touch_all_parts = False
    model.requires_grad_(False)
    model.region_encoder.requires_grad_(True)

    batch = batch_of(model, processor, talks()[:1], "train")["inputs"]
    model.loss(batch)["loss"].backward()

    assert all(w.grad is not None for w in model.region_encoder.parameters())
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in trained)
    model.zero_grad()


def test_replies_come_batched_as_alone(bound):
    _, model, processor = bound
    batch = batch_of(model, processor, talks())
    together = model.predict(batch["inputs"], batch["data_samples"], max_new_tokens=4)

    for talk, sample in zip(talks(), together, strict=True):
        one = batch_of(model, processor, [talk])
        (alone,) = model.predict(one["inputs"], one["data_samples"], max_new_tokens=4)
        assert alone.pred_ids == sample.pred_ids


def test_masks_have_the_cells_of_views_of_another_size():
    own, _ = build("MaskedTokens")
    model, processor = build("MaskedTokens", 64)

    batch = batch_of(model, processor, talks())["inputs"]

    assert model.region_needs.mask == 2 * own.region_needs.mask
    assert torch.isfinite(model(batch)).all()


def test_views_of_another_size_need_the_side_in_the_config():
    model, processor = build("MaskedTokens")
    processor.steps["generate"][0]["size"] = 64
    processor.steps["train"][0]["size"] = 64
    processor.bind(model)

    with pytest.raises(ValueError, match="give it the side of the views as view_size"):
        model(batch_of(model, processor, talks())["inputs"])
