"""NExT-Chat's head and encoder of boxes: losses, frames, and a model of both."""

import mmvlm  # noqa: F401  isort: skip

import numpy as np
import pytest
import torch

from mmvlm.datasets.collate import collate_flat
from mmvlm.datasets.processor import VLMProcessor
from mmvlm.models.heads.box_regression import BoxRegressionHead, paired_giou
from mmvlm.models.region_encoders.box_encoder import BoxEncoder
from mmvlm.registry import TOKENIZERS, TRANSFORMS
from mmvlm.structures import (
    Boxes,
    Conversation,
    Image,
    Inputs,
    Region,
    Targets,
    Text,
    Turn,
    ViewLayout,
    VLMDataSample,
)
from mmvlm.testing import tiny_vlm

SIZE = (40, 60)
BOXES = ((3, 4, 30, 30), (20, 2, 59, 39), (0, 0, 60, 40))
IMAGE = np.random.default_rng(7).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
CODEC = dict(
    type="RegionTokenCodec", token="<at>", question_token="<boxes>", reads="box"
)


def region(number, kind="box", image=0):
    return Region(image, Boxes(np.array(BOXES[number], float), SIZE), kind)


def talk(asked, answered):
    """An image, regions of the question and regions of the answer, by number."""
    question = [Image(0), Text("What is")]
    for number in asked:
        question += [Text(" "), region(number)]
    answer = [part for n in answered for part in (Text(" is "), region(n))]
    turns = [Turn("user", tuple(question)), Turn("assistant", (Text("It"), *answer))]
    return Conversation(turns, [IMAGE], id=f"talk-{asked}-{answered}")


TALKS = (talk([], [0]), talk([1, 2], [0, 1]), talk([0], []), talk([], [2, 1, 0]))


@pytest.fixture(scope="module")
def bound():
    weight = dict(box_l1=2.0, box_giou=0.2)
    model = tiny_vlm(
        connectors=dict(region_encoder=dict(type="BoxEncoder")),
        heads=dict(
            box=dict(type="BoxRegressionHead", position="at", weight=weight),
        ),
    )
    tokenizer = TOKENIZERS.build(
        dict(
            type="TinyTokenizer",
            special_tokens=["<at>", "<boxes>"],
            words=["What", "is", "It"],
        )
    )
    processor = VLMProcessor(
        tokenizer,
        "vicuna_v1",
        views=dict(type="PadToSquare"),
        codec=CODEC,
        targets=[dict(type="ViewBoxTargets")],
    )
    model.language_model.model.resize_token_embeddings(len(tokenizer))
    processor.bind(model)
    model.bind(processor)
    return model, processor


def batch_of(bound, talks, mode="train"):
    model, processor = bound
    samples = [processor(one, mode) for one in talks]
    return model.data_preprocessor(collate_flat(samples), False)


def test_targets_and_inputs_are_fractions_of_the_padded_square(bound):
    batch = batch_of(bound, TALKS)["inputs"]

    learnt, asked = batch.targets["box"], batch.inputs["region"]
    square = Boxes(np.array(BOXES, float), SIZE).pad_to_square().to("unit").xyxy
    expected = torch.tensor(square[[0, 0, 1, 2, 1, 0]]).float()
    assert torch.allclose(learnt.values.values, expected, atol=1e-6)
    assert learnt.owner == (0, 1, 1, 3, 3, 3) and asked.owner == (1, 1, 2)
    shown = torch.tensor(square[[1, 2, 0]]).float()
    assert torch.allclose(asked.values, shown, atol=1e-6)
    token = bound[1].tokenizer.convert_tokens_to_ids("<at>")
    assert (batch.text.input_ids[learnt.rows] == token).all()


@pytest.mark.parametrize("views", ["CenterCropSquare", "PadToSquare", "ResizeSquare"])
def test_crops_are_refused_where_boxes_are_learnt(bound, views):
    model, processor = bound
    cut = VLMProcessor(
        processor.tokenizer,
        "vicuna_v1",
        views=dict(type=views),
        codec=CODEC,
        targets=[dict(type="ViewBoxTargets")],
    ).bind(model)
    if views == "CenterCropSquare":
        with pytest.raises(ValueError, match=r"sample 0 .*is a crop.*PadToSquare"):
            cut(talk([], [0]), "train")
        return
    (box,) = cut(talk([], [0]), "train")["inputs"]["targets"]["box"]
    assert box.min() >= 0 and box.max() <= 1


def test_losses_are_the_official_ones(bound):
    head = bound[0].heads["box"]
    hidden = torch.randn(5, head.in_width, generator=torch.Generator().manual_seed(0))
    goal = torch.tensor([[0.1, 0.2, 0.6, 0.9]] * 5)
    found = torch.tensor(
        [
            [0.1, 0.2, 0.6, 0.9],
            [0.0, 0.2, 0.5, 0.9],
            [0.7, 0.0, 0.9, 0.1],
            [0.6, 0.2, 0.1, 0.9],  # swapped: no GIoU, but a distance
            [-0.1, 0.3, 1.2, 0.8],
        ]
    )

    class Fixed(BoxRegressionHead):
        def forward(self, hidden):
            return found

    fixed = Fixed(in_width=head.in_width)
    targets = Targets(torch.arange(5), (0,) * 5, Inputs(goal, (0,) * 5))
    terms = fixed.loss(hidden, targets, None)

    def giou(one, other):
        inter = max(0, min(one[2], other[2]) - max(one[0], other[0]))
        inter *= max(0, min(one[3], other[3]) - max(one[1], other[1]))
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
        union = sum(areas) - inter
        hull = max(one[2], other[2]) - min(one[0], other[0])
        hull *= max(one[3], other[3]) - min(one[1], other[1])
        return inter / union - (hull - union) / hull

    rows = found.tolist()
    kept = [row for number, row in enumerate(rows) if number != 3]
    expected = sum(1 - giou(row, goal[0].tolist()) for row in kept)
    assert terms["box_giou"].sum.item() == pytest.approx(expected, abs=1e-5)
    distance = (found - goal).abs().sum() / 4
    assert terms["box_l1"].sum.item() == pytest.approx(distance.item(), abs=1e-6)
    assert {term.count for term in terms.values()} == {5}


def test_giou_is_bounded_and_has_a_gradient_where_boxes_are_apart():
    one = torch.tensor([[0.0, 0.0, 0.1, 0.1]], requires_grad=True)
    other = torch.tensor([[0.9, 0.9, 1.0, 1.0]])

    value = paired_giou(one, other)
    value.sum().backward()

    assert -1 <= value.item() < -0.9 and one.grad.abs().sum() > 0
    flat = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    assert paired_giou(flat, flat).isfinite().all()
    assert paired_giou(other, other).item() == pytest.approx(1)


def test_every_weight_learns_and_a_batch_without_boxes_touches_all(bound):
    model = bound[0]
    for talks, learns in ((TALKS, True), (TALKS[2:3], False)):
        model.zero_grad()
        losses = model.loss(batch_of(bound, talks)["inputs"])
        assert set(losses) == {"loss", "loss_box_l1", "loss_box_giou"}
        sum(losses.values()).backward()
        grads = [weight.grad for weight in model.heads["box"].parameters()]
        assert all(grad is not None for grad in grads)
        assert any(bool(grad.any()) for grad in grads) == learns


@torch.no_grad()
def test_losses_of_a_batch_are_those_of_its_samples(bound):
    model = bound[0]
    whole = batch_of(bound, TALKS)["inputs"]
    counts = model.loss_counts(whole)
    assert counts["box_l1"] == counts["box_giou"] == 6
    together, alone = model.loss(whole), {}
    for one in TALKS:
        batch = batch_of(bound, [one])["inputs"]
        batch.denominators = counts
        for name, value in model.loss(batch).items():
            alone[name] = alone.get(name, 0) + value

    for name, value in together.items():
        torch.testing.assert_close(alone[name], value, atol=1e-5, rtol=1e-5)


def say(bound, count):
    """Force replies that hold the trigger some times between other tokens."""
    at, word = bound[1].tokenizer.convert_tokens_to_ids(["<at>", "is"])

    def on_step(step):
        number = step.ids.shape[1]
        for row in range(len(step.ids)):
            said = number < 2 * count and number % 2
            step.allow(row, [at if said else word])

    return on_step


@pytest.mark.parametrize("count", [0, 1, 3])
@torch.no_grad()
def test_replies_hold_boxes_in_pixels_of_the_original(bound, count):
    model, head = bound[0], bound[0].heads["box"]
    batch = batch_of(bound, TALKS, "generate")
    options = dict(max_new_tokens=2 * count + 1, on_step=say(bound, count))
    samples = model.predict(batch["inputs"], batch["data_samples"], **options)

    for talks, sample in zip(TALKS, samples, strict=True):
        assert [one.kind for one in sample.pred_regions] == ["box"] * count
        assert all(one.boxes.size == SIZE for one in sample.pred_regions)
        alone = batch_of(bound, [talks], "generate")
        (single,) = model.predict(alone["inputs"], alone["data_samples"], **options)
        for one, other in zip(sample.pred_regions, single.pred_regions, strict=True):
            assert len(one.boxes) == 1
            assert np.allclose(one.boxes.xyxy, other.boxes.xyxy, atol=1e-3)
    if count == 1:  # the state of the token itself, through the frame and back
        reply = samples[0].pred_ids
        stream = batch_of(bound, TALKS[:1], "generate")["inputs"]
        from mmvlm.models.language_models.generation_steps import Generation
        from mmvlm.models.utils.reply_states import second_pass

        one = Generation(torch.tensor(reply), "length", None, None)
        ids = bound[1].tokenizer.convert_tokens_to_ids(["<at>"])
        (state,) = second_pass(model.hidden_states, stream, [one], ids, "at")
        side = max(SIZE)
        square = Boxes(head(state).double().numpy() * side, (side, side))
        expected = square.unpad_from_square(SIZE).xyxy
        found = samples[0].pred_regions[0].boxes.xyxy
        assert np.allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("own", [(), (0,), (1,), (0, 1)])
@torch.no_grad()
def test_a_trigger_that_is_only_spelled_takes_no_box(bound, own):
    model, tokenizer = bound[0], bound[1].tokenizer
    token = tokenizer.convert_tokens_to_ids("<at>")
    letters = [n for c in "<at>" for n in tokenizer(c)["input_ids"][1:]]
    said = [n for place in (0, 1) for n in ([token] if place in own else letters)]

    def on_step(step):
        step.allow(0, [said[step.ids.shape[1]]])

    batch = batch_of(bound, TALKS[:1], "generate")
    options = dict(max_new_tokens=len(said), on_step=on_step)
    (sample,) = model.predict(batch["inputs"], batch["data_samples"], **options)

    assert sample.pred_text == "<at><at>" and not sample.problems
    assert [one.kind for one in sample.pred_regions] == ["box"] * len(own)
    assert all(len(one.boxes) == 1 for one in sample.pred_regions)
    assert sample.pred_spans == tuple((4 * place, 4 * place + 4) for place in own)


def test_what_is_not_finite_is_named():
    head = BoxRegressionHead.tiny()
    with torch.no_grad():
        head.loc_decoder[2].bias.fill_(float("nan"))
    layout = ViewLayout(SIZE, (32, 32), scale=(32 / 60, 32 / 40))
    sample = VLMDataSample()
    nothing = Boxes(np.zeros((0, 4)), SIZE)
    sample.pred_regions = (Region(0, nothing, "mask"), Region(0, nothing))
    sample.layouts, sample.problems = (layout,), ("before",)

    with torch.no_grad():
        head.predict([torch.zeros(1, 48)], [sample], None)

    assert [len(one.boxes) for one in sample.pred_regions] == [0, 0]
    assert sample.problems == ("before", "boxes [1]: their coordinates are not finite")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (region(0, "point"), "sample 3 of toy: .*learns boxes"),
        (region(0, image=1), "sample 3 of toy: a box in image 1, but .* 1 image"),
    ],
)
def test_what_is_no_box_of_a_shown_image_is_refused(wrong, message):
    step = TRANSFORMS.build(dict(type="ViewBoxTargets"))
    layout = ViewLayout(SIZE, SIZE)
    item = dict(index=3, dataset="toy", conversation=TALKS[0])
    item.update(marked_regions=(wrong,), layouts=(layout,))
    with pytest.raises(ValueError, match=message):
        step(item)


def test_the_encoder_reads_places_alone_and_takes_none():
    encoder = BoxEncoder.tiny(out_width=48)

    rows = encoder(torch.rand(3, 4))

    assert rows.shape == (3, 48) and encoder(torch.zeros(0, 4)).shape == (0, 48)
    names = {name: value.numel() for name, value in encoder.named_parameters()}
    assert set(names) == {f"loc_encoder.{n}.{k}" for n in (0, 2) for k in _LEAVES}
    assert sum(names.values()) == 5 * 24 + 24 * 48 + 48
    assert encoder.bfloat16()(torch.rand(2, 4)).dtype == torch.bfloat16
    decoder = BoxRegressionHead.tiny(48)
    assert sum(p.numel() for p in decoder.parameters()) == 48 * 24 + 24 + 2 * 48 + 4


_LEAVES = ("weight", "bias")
