"""Encoders, connectors and heads are wired by what they read."""

import numpy as np
import pytest
import torch

from mmvlm.models.connectors.base import Filled
from mmvlm.models.connectors.linear import LinearConnector
from mmvlm.models.heads.base import Head, LossTerm
from mmvlm.models.utils.assembly import build_part
from mmvlm.models.utils.feed import parse_source
from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
from mmvlm.structures import (
    SLOT_TOKEN_ID,
    EncodedSample,
    Inputs,
    Targets,
    TokenStream,
    ViewLayout,
    VisionEncoderSpec,
    VLMBatch,
)
from mmvlm.testing import make_batch, tiny_batch, tiny_vlm

P = SLOT_TOKEN_ID
SPEC = VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)


class BoxHead(Head):
    """Four numbers of a state; two losses."""

    terms = ("l1", "l2")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.proj = torch.nn.Linear(self.in_width, 4)

    def loss(self, hidden, targets, feed):
        error = self.proj(hidden) - targets.values.values
        count = len(targets)
        return dict(
            l1=LossTerm(error.abs().sum(), count),
            l2=LossTerm(error.pow(2).sum(), count),
        )


class DetailHead(Head):
    """A number of a state and of the images, counted value by value."""

    terms = ("detail",)
    reads = ("image:-1",)

    def __init__(self, specs, **kwargs):
        super().__init__(**kwargs)
        self.look = torch.nn.Linear(specs["image"].width, 3)
        self.say = torch.nn.Linear(self.in_width, 3)

    def counts(self, batch):
        return dict(detail=3 * len(batch.targets.get(self.name, ())))

    def loss(self, hidden, targets, feed):
        owner = feed.inputs("image").owner
        seen = [f.patches(0).mean((0, 1)) for f in feed.images("image", (-1,))]
        seen = torch.stack([seen[owner.index(sample)] for sample in targets.owner])
        error = self.say(hidden) + self.look(seen) - targets.values.values
        return dict(detail=LossTerm(error.pow(2).sum(), error.numel()))


def calls_of(encoder):
    """Return the list of layers that an encoder is asked for, call by call."""
    seen = []
    encoder.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    return seen


# ------------------------------------------------------------------- sources
def test_sources_are_parsed():
    assert parse_source("image:-2") == ("image", -2)
    assert parse_source("high:*") == ("high", "*")
    assert parse_source("question") == ("question", None)
    with pytest.raises(ValueError, match="reads names 'image:last'; expected"):
        parse_source("image:last")


def test_wiring_keys_are_set_and_constructors_get_what_they_take():
    config = dict(type="MLPConnector", source="high", fills=["image_hi"])

    built = build_part(config, vision_spec=SPEC, out_width=8, unknown=1)

    assert (built.source, built.fills) == ("high", ("image_hi",))
    assert built.reads == ("high:-2",) and built.out_width == 8
    assert config["fills"] == ["image_hi"] and build_part(built) is built
    with pytest.raises(ValueError, match=r"BoxHead.* has no 'fills' to set"):
        build_part(dict(type=BoxHead, fills=["image"]), in_width=4)


# --------------------------------------------------- encoders and connectors
def stream_of(ids):
    labels = [-100 if token == P else token for token in ids]
    return TokenStream.join([EncodedSample(np.array(ids), np.array(labels))])


def images(count, places, lengths, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, 3, side, side, generator=generator)
    layouts = (ViewLayout((side, side), (side, side)),) * count
    return Inputs(values, (0,) * count, layouts, torch.tensor(places), lengths)


def test_two_encoders_fill_the_slots_of_their_kinds():
    torch.manual_seed(0)
    high = dict(type="TinyVisionEncoder", width=24, num_layers=2, image_size=48)
    model = tiny_vlm(
        encoders=dict(high=dict(high, reads=["image_hi"])),
        connectors=dict(
            detail=dict(type="MLPConnector", source="high", fills=["image_hi"])
        ),
    )
    count = model.detail.token_count(ViewLayout((48, 48), (48, 48)))
    ids = [1, *[P] * 16, 5, *[P] * count, 6]
    places = [n for n, token in enumerate(ids) if token == P]
    batch = VLMBatch(
        dict(text=stream_of(ids)),
        dict(
            image=images(1, places[:16], (16,)),
            image_hi=images(1, places[16:], (count,), 48),
        ),
    )

    rows = model.embed(batch)

    assert list(model.parts) == [
        *("vision_encoder", "high", "connector", "detail", "language_model")
    ]
    assert model.modalities == ("image", "image_hi") and model.detail.vision_spec.width
    for kind, encoder, connector in (
        ("image", model.vision_encoder, model.connector),
        ("image_hi", model.high, model.detail),
    ):
        inputs = batch.inputs[kind]
        expected = connector(encoder(inputs.values, (-2,))).flatten(0, 1)
        torch.testing.assert_close(rows[inputs.slot_index], expected)
    assert model.token_count(batch.inputs["image"].layouts[0]) == 16


@pytest.mark.parametrize("source", ["image", "vision_encoder"])
def test_an_encoder_runs_once_for_all_its_readers(source):
    again = dict(type="LinearConnector", fills=["again"], select_layers=[0])
    again.update(source=source)
    model = tiny_vlm(connectors=dict(again=again))
    ids = [1, *[P] * 16, 5, *[P] * 16, 6]
    one = images(1, range(1, 17), (16,))
    other = Inputs(one.values[:0], (0,), one.layouts, torch.arange(18, 34), (16,))
    batch = VLMBatch(dict(text=stream_of(ids)), dict(image=one, again=other))
    asked = calls_of(model.vision_encoder)

    feed = model.feed(batch)
    first = model.connector.fill("image", feed).rows
    second = model.again.fill("again", feed).rows

    assert [sorted(layers) for layers in asked] == [[0, 2]] and feed.has("image")
    encode = model.vision_encoder
    expected = model.connector(encode(one.values, (-2,)))[0]
    torch.testing.assert_close(first, expected)
    expected = model.again(encode(one.values, (0,)))[0]
    torch.testing.assert_close(second, expected)


def test_a_feed_gives_layers_dtypes_and_images_by_themselves():
    model, batch = tiny_vlm(), tiny_batch(num_images=(1, 0, 2))
    feed = model.feed(batch)

    ((numbers, features),) = feed.groups("image", (-2,), torch.bfloat16)

    assert numbers == [0, 1, 2] and features.hidden_states[0].dtype == torch.bfloat16
    assert features.layers == (2,) and feed.inputs("audio") is None
    one = feed.images("image")[1]
    ((_, all_of_them),) = feed.groups("image")
    assert torch.equal(one.hidden_states[0], all_of_them.hidden_states[0][1:2])
    with pytest.raises(ValueError, match=r"'sample-0'.*a test reads the question"):
        feed.questions([0], "a test")


def test_images_of_two_sizes_give_what_each_gives_alone():
    model = tiny_vlm()
    sizes, tokens = (32, 48, 32), (16, 36, 16)
    ids, pixels, layouts = [1], [], []
    for number, (side, length) in enumerate(zip(sizes, tokens, strict=True)):
        ids += [*[P] * length, 5]
        generator = torch.Generator().manual_seed(number)
        pixels.append(torch.randn(3, side, side, generator=generator))
        layouts.append(ViewLayout((side, side), (side, side)))
    inputs = Inputs(
        torch.cat([one.flatten() for one in pixels]),
        (0,) * 3,
        tuple(layouts),
        torch.tensor([n for n, token in enumerate(ids) if token == P]),
        tokens,
        shapes=tuple(tuple(one.shape) for one in pixels),
    )
    batch = VLMBatch(dict(text=stream_of(ids)), dict(image=inputs))

    rows = model.embed(batch)[inputs.slot_index].split(tokens)

    for own, one, layout in zip(rows, pixels, layouts, strict=True):
        alone = model.encode_images(one[None], [layout])
        torch.testing.assert_close(own, alone, atol=1e-5, rtol=1e-5)
    model.train()(batch, mode="loss")["loss"].backward()
    assert all(p.grad is not None for p in model.connector.parameters())
    model.is_sharded = True
    with pytest.raises(ValueError, match="'image' of 2 sizes in one batch"):
        model.embed(batch)


def test_parts_that_do_not_fit_are_refused():
    tower = dict(type="TinyVisionEncoder", width=24, num_layers=2, image_size=48)
    with pytest.raises(ValueError, match=r"model.high takes \['image_hi'\], but no"):
        tiny_vlm(encoders=dict(high=dict(tower, reads=["image_hi"])))
    with pytest.raises(ValueError, match=r"fill the slots of \['image'\].*set 'fills'"):
        tiny_vlm(connectors=dict(other=dict(type="MLPConnector")))
    with pytest.raises(ValueError, match="which no encoder reads"):
        other = dict(type="MLPConnector", source="audio", fills=["audio"])
        tiny_vlm(connectors=dict(other=other))
    with pytest.raises(ValueError, match=r"'vision_encoder', 'high'.* read: name one"):
        tiny_vlm(encoders=dict(high=tower))
    with pytest.raises(ValueError, match=r"several losses are named \['l1', 'l2'\]"):
        tiny_vlm(heads=dict(one=dict(type=BoxHead), two=dict(type=BoxHead)))
    with pytest.raises(ValueError, match="cannot be named 'loss'"):
        tiny_vlm(heads=dict(loss=dict(type=BoxHead)))
    with pytest.raises(ValueError, match="parts need different names"):
        tiny_vlm(heads=dict(connector=dict(type=BoxHead)))
    with pytest.raises(ValueError, match=r"other gives width 7, .* takes 48"):
        other = LinearConnector(vision_spec=SPEC, out_width=7)
        other.fills = ("other",)
        tiny_vlm(connectors=dict(other=other))
    with pytest.raises(ValueError, match="detail: select_layers has 9"):
        tiny_vlm(heads=dict(detail=dict(type=DetailHead, reads=["image:9"])))


def test_inputs_that_nothing_takes_are_refused_by_sample():
    batch = tiny_batch(num_images=(1, 0, 0))
    batch.inputs["smell"] = Inputs(torch.zeros(1, 3), (2,))

    with pytest.raises(ValueError, match=r"'sample-2' has 'smell', but .*\['image'\]"):
        tiny_vlm()(batch, mode="loss")


# --------------------------------------------------------------------- heads
def samples(count=8):
    """Texts with an image each; some train text, have a box, have a detail."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    found = []
    for number in range(count):
        length = 6 + 5 * (number % 3)
        text = torch.randint(3, 128, (length,), generator=generator).tolist()
        ids = [1, *[P] * 16, *text]
        trained = 0 if number in (1, 5) else 1 + number % 4
        labels = [-100] * (len(ids) - trained) + ids[len(ids) - trained :]
        boxes = [(18 + k, draw(4)) for k in range(2)] if number in (0, 1, 6) else []
        details = [(19, draw(3))] if number in (2, 6) else []
        found.append((ids, labels, draw(3, 32, 32), dict(box=boxes, detail=details)))
    return found


def batch_of(given):
    starts = [sum(len(one[0]) for one in given[:n]) for n in range(len(given))]
    targets = {}
    for head in ("box", "detail"):
        own = [
            (start + place, owner, value)
            for owner, (start, one) in enumerate(zip(starts, given, strict=True))
            for place, value in one[3][head]
        ]
        if own:
            rows, owner, values = zip(*own, strict=True)
            learnt = Inputs(torch.stack(values), owner)
            targets[head] = Targets(torch.tensor(rows), owner, learnt)
    pixels = torch.stack([one[2] for one in given])
    return make_batch([one[:2] for one in given], pixels, targets=targets)


def headed(**options):
    torch.manual_seed(1)
    box = dict(type=BoxHead, weight=dict(l1=0.5, l2=2.0))
    heads = dict(box=box, detail=dict(type=DetailHead))
    return tiny_vlm(heads=heads, **options).train()


def step(size, shared=True):
    """Return every gradient and the losses of 8 samples in micro-batches."""
    model, given = headed(), samples()
    batches = [batch_of(given[n : n + size]) for n in range(0, 8, size)]
    counts = [model.loss_counts(batch) for batch in batches]
    totals = {term: sum(count[term] for count in counts) for term in counts[0]}
    assert min(totals.values()) > 0
    assert size > 2 or any(0 in count.values() for count in counts)
    sums = dict.fromkeys(totals, 0.0)
    for batch in batches:
        if shared:
            batch.denominators = totals
        losses = model(batch, mode="loss")
        sum(losses.values()).backward()
        for name, value in losses.items():
            term = name.removeprefix("loss_")
            sums["text" if term == "loss" else term] += value.item()
    return sums, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("size", [1, 2])
def test_micro_batches_give_the_gradients_of_the_whole_step(size):
    expected, whole = step(8)

    losses, grads = step(size)

    assert losses == pytest.approx(expected, abs=1e-5)
    assert all(grad is not None for name, grad in whole.items() if "head" in name)
    assert whole["detail.look.weight"].any() and whole["box.proj.weight"].any()
    for name, grad in whole.items():
        if grad is None:
            assert grads[name] is None or not grads[name].any(), name
            continue
        torch.testing.assert_close(grads[name], grad, atol=1e-5, rtol=1e-5, msg=name)


def test_own_denominators_would_give_another_step():
    _, whole = step(8)

    _, grads = step(2, shared=False)

    gap = (grads["box.proj.weight"] - whole["box.proj.weight"]).abs().max()
    assert gap > 1e-2


def test_losses_are_weighted_means_of_their_own_terms():
    model, batch = headed().eval(), batch_of(samples())
    hidden = model.hidden_states(batch)[batch.targets["box"].rows - 1]
    error = model.box.proj(hidden) - batch.targets["box"].values.values

    losses = model.loss(batch)

    assert set(losses) == {"loss", "loss_l1", "loss_l2", "loss_detail"}
    torch.testing.assert_close(losses["loss_l1"], 0.5 * error.abs().sum() / len(error))
    torch.testing.assert_close(losses["loss_l2"], 2 * error.pow(2).sum() / len(error))


def test_the_text_has_a_weight_as_heads_have():
    batch = batch_of(samples())
    whole, half = headed().eval(), headed(text_weight=0.5).eval()
    half.load_state_dict(whole.state_dict())

    losses, halved = whole.loss(batch), half.loss(batch)

    assert torch.equal(halved.pop("loss"), losses.pop("loss") / 2)
    assert losses and all(torch.equal(halved[name], losses[name]) for name in losses)


@pytest.mark.parametrize("text", [3, 90])
def test_heads_get_the_states_in_front_of_their_tokens(text):
    # Few rows of a long text are picked before the last block, many of a short not.
    model, seen = headed().eval(), []
    ids = [1, *[P] * 16, *range(4, 4 + text)]
    labels = [-100] * (len(ids) - 2) + ids[-2:]
    boxes = [(18, torch.zeros(4)), (len(ids) - 1, torch.ones(4))]
    given = [(ids, labels, torch.randn(3, 32, 32), dict(box=boxes, detail=[]))]
    batch = batch_of(given)
    loss = model.box.loss
    model.box.loss = lambda hidden, *args: (seen.append(hidden), loss(hidden, *args))[1]

    losses = model.loss(batch)

    expected = model.hidden_states(batch)
    rows = [17, len(ids) - 2]
    torch.testing.assert_close(seen[0], expected[rows], atol=1e-5, rtol=1e-5)
    logits = model.language_model.logits(expected[batch.text.target_rows])
    text = torch.nn.functional.cross_entropy(logits, batch.text.targets)
    torch.testing.assert_close(losses["loss"], text, atol=1e-5, rtol=1e-5)


def test_a_batch_without_targets_reaches_every_weight_of_a_head():
    model = headed()
    model.touch_all_parts = True
    batch = tiny_batch(num_images=(0, 0, 0))

    losses = model(batch, mode="loss")
    losses["loss"].backward()

    assert list(losses) == ["loss", "loss_l1", "loss_l2", "loss_detail"]
    assert not any(losses[name] for name in list(losses)[1:])
    assert model.loss_counts(batch) == dict(
        text=batch.text.num_targets, l1=0, l2=0, detail=0
    )
    for name, weight in model.named_parameters():
        if name.split(".")[0] in ("box", "detail", "connector"):
            assert weight.grad is not None and not weight.grad.any(), name
    plain = tiny_vlm().train()
    plain.load_state_dict(model.state_dict(), strict=False)
    expected = plain(batch, mode="loss")["loss"]
    torch.testing.assert_close(losses["loss"], expected)


class TwoTowers(LinearConnector):
    """The patches of one tower, and the mean of another's added to each."""

    def __init__(self, specs, **kwargs):
        super().__init__(**kwargs)
        self.other = torch.nn.Linear(specs["image_hi"].width, self.out_width)

    @property
    def reads(self):
        return (*super().reads, "image_hi:-1")

    def fill(self, kind, feed):
        mean = [f.patches(0).mean((0, 1)) for f in feed.images("image_hi", (-1,))]
        rows, _ = super().fill(kind, feed)
        count = feed.inputs(kind).slot_lens[0]
        return Filled(rows + self.other(torch.stack(mean)).repeat_interleave(count, 0))


def test_a_batch_without_images_reaches_every_tower_that_a_connector_reads():
    tower = dict(type="TinyVisionEncoder", width=24, num_layers=1, image_size=48)
    model = tiny_vlm(
        connector=dict(type=TwoTowers, select_layers=[-1]),
        encoders=dict(high=dict(tower, reads=["image_hi"])),
    )
    model.touch_all_parts = True
    batch = VLMBatch(dict(text=stream_of([1, 2, 3])))

    model.loss(batch)["loss"].backward()

    assert model.connector.other.in_features == 24
    for part in (model.connector, model.high):
        assert all((w.grad == 0).all() for w in part.parameters())


def test_counts_that_lie_and_wrong_weights_are_refused():
    model, batch = headed(), batch_of(samples())
    model.detail.counts = lambda batch: dict(detail=1)
    with pytest.raises(ValueError, match=r"'detail' is a sum of 6, .* promised 1"):
        model.loss(batch)
    model.detail.loss = lambda *_: {}
    with pytest.raises(ValueError, match=r"'detail' is a sum of None, .* promised 1"):
        model.loss(batch)
    with pytest.raises(ValueError, match=r"BoxHead: weight=.*\['l1', 'l2'\]"):
        BoxHead(in_width=4, weight=dict(l1=1.0))


def test_equal_images_are_shared_in_inference_only():
    frozen = dict(vision_encoder=False, connector=False)
    model = tiny_vlm(train_parts=frozen)
    batch = tiny_batch(text_lens=(5, 9), num_images=(1, 1))
    images = batch.inputs["image"]
    images.values = images.values[:1].repeat(2, 1, 1, 1)
    seen = []
    model.vision_encoder.register_forward_pre_hook(
        lambda _, args: seen.append(len(args[0]))
    )

    model.train()(batch, mode="loss")
    with torch.no_grad():
        model.eval()(batch)

    assert seen == [2, 1]


def test_encoders_given_as_modules_and_names_work_alike():
    short = tiny_vlm(vision_encoder=HFVisionEncoder.tiny())
    long = tiny_vlm(
        vision_encoder=short.vision_encoder,
        connector=None,
        connectors=dict(connector=short.connector),
        language_model=short.language_model,
    )
    batch = tiny_batch()
    assert list(long.state_dict()) == list(short.state_dict())
    assert torch.equal(long.embed(batch), short.embed(batch))
