"""200 mixed samples: replies with masks and boxes, batched as alone, as taught."""

import mmvlm  # noqa: F401  isort: skip

import numpy as np
import pytest
import torch

from mmvlm.datasets.processor import VLMProcessor
from mmvlm.models.heads.sam_mask import SAMMaskHead
from mmvlm.models.vision_encoders.sam import SAMVisionEncoder
from mmvlm.registry import TOKENIZERS
from mmvlm.structures import (
    SLOT_TOKEN_ID,
    Boxes,
    Inputs,
    Region,
    ViewLayout,
    VLMDataSample,
)
from mmvlm.structures.masks import rle_to_mask
from mmvlm.testing.builders import make_batch, tiny_vlm

COUNT, BATCH, STEPS = 200, 25, 5
SIZES = ((20, 15), (15, 20))
SAM = dict(
    type="SAMVisionEncoder", reads=["image_hi"], config=SAMVisionEncoder.tiny_fields
)
CODECS = dict(mask="RegionTokenCodec", box="Kosmos2Codec")


def build(kind, position="before"):
    """Return a tiny model that answers with masks, or with boxes in its text."""
    parts = {}
    if kind == "mask":
        decoder = dict(SAMMaskHead.tiny_decoder)
        head = dict(type="SAMMaskHead", mask_decoder=decoder, position=position)
        parts = dict(encoders=dict(sam=SAM), heads=dict(mask=head))
    torch.manual_seed(0)
    model = tiny_vlm(lm=dict(initializer_range=0.2), **parts)
    codec = dict(type=CODECS[kind])
    tokenizer = TOKENIZERS.build(dict(type="TinyTokenizer", codec=codec))
    model.language_model.model.resize_token_embeddings(len(tokenizer))
    model.bind(VLMProcessor(tokenizer, "vicuna_v1", codec=codec))
    return model


def samples():
    """Return prompts, images (a fifth of the samples have none), and what is said."""
    generator = torch.Generator().manual_seed(3)

    def whole(low, high):
        return int(torch.randint(low, high, (1,), generator=generator))

    images = [torch.randn(2, 3, 32, 32, generator=generator) for _ in range(30)]
    found = []
    for number in range(COUNT):
        ids = [whole(3, 100) for _ in range(whole(3, 12))]
        shown = None if number % 5 == 4 else images[whole(0, 30)]
        if shown is not None:
            ids[1:1] = [SLOT_TOKEN_ID] * 16
        found.append((number, ids, shown))
    return found


def batch_of(chosen, replies=None, *, masks=True):
    """Return some samples as a batch, with replies behind the prompts if there are."""
    texts = [[*ids, *(replies[n] if replies else ())] for n, ids, _ in chosen]
    shown = [(row, one) for row, (*_, one) in enumerate(chosen) if one is not None]
    views = torch.stack([one[0] for _, one in shown]) if shown else None
    batch = make_batch([(ids, ids) for ids in texts], views)
    data = [VLMDataSample() for _ in chosen]
    if not shown:
        return batch, data
    owner = tuple(row for row, _ in shown)
    sizes = [SIZES[chosen[row][0] % 2] for row in owner]
    layouts = tuple(ViewLayout(size, (32, 24)) for size in sizes)
    for row, layout in zip(owner, layouts, strict=True):
        data[row].layouts = (layout,)
    if masks:
        large = torch.stack([one[1, :, :, :24] for _, one in shown])
        batch.inputs["image_hi"] = Inputs(large, owner, layouts)
    return batch, data


class Said:
    """Makes samples ``first`` and up say tokens: none, one, two, the last one too."""

    def __init__(self, first, kind, model):
        self.first, tokenizer = first, model.processor.tokenizer
        token = "[SEG]" if kind == "mask" else "<object>"
        self.token = tokenizer.convert_tokens_to_ids(token)
        self.end = tokenizer.eos_token_id
        box = model.processor.codec.encode(
            Region(0, Boxes([[3.0, 2, 12, 14]], (20, 15)))
        )
        self.box = tokenizer(box, add_special_tokens=False)["input_ids"]
        self.kind = kind

    def __call__(self, step):
        place = step.ids.shape[1]
        for row in range(len(step.ids)):
            way = (self.first + row) % 4
            step.forbid(row, [self.end])
            if self.kind == "box":
                own = ([], self.box, [9, *self.box], self.box[:2])[way]
                if place < len(own):
                    step.allow(row, [own[place]])
            elif place in ((), (1,), (0, STEPS - 1), (STEPS - 1,))[way]:
                step.allow(row, [self.token])
            else:
                step.forbid(row, [self.token])


def answer(model, kind, size):
    """Answer all samples in batches of a size; return them and the masks' logits."""
    logits, done, chosen = [], [], samples()
    if kind == "mask":
        hook = model.mask.register_forward_hook(lambda *call: logits.append(call[2][0]))
    for first in range(0, COUNT, size):
        batch, data = batch_of(chosen[first : first + size], masks=kind == "mask")
        said = Said(first, kind, model)
        done += model.predict(batch, data, max_new_tokens=STEPS, on_step=said)
    if kind == "mask":
        hook.remove()
    return done, torch.cat(logits) if logits else None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "position"), [("mask", "before"), ("mask", "at"), ("box", "before")]
)
def test_replies_of_a_batch_are_those_of_its_samples(kind, position):
    model = build(kind, position)

    (together, logits), (alone, single) = (
        answer(model, kind, size) for size in (BATCH, 1)
    )

    held, other = 0, 0
    for one, own in zip(together, alone, strict=True):
        for name in ("pred_ids", "finish", "pred_text", "pred_spans", "problems"):
            assert getattr(one, name) == getattr(own, name)
        assert len(one.pred_regions) == len(own.pred_regions)
        for region, expected in zip(one.pred_regions, own.pred_regions, strict=True):
            held += 1
            assert region.kind == expected.kind == kind
            if kind == "box":
                assert np.array_equal(region.boxes.xyxy, expected.boxes.xyxy)
                continue
            assert region.score == pytest.approx(expected.score, abs=1e-5)
            (rle,), (want,) = region.rles, expected.rles
            other += np.count_nonzero(rle_to_mask(rle) != rle_to_mask(want))
    assert held > COUNT / 4 and other <= 2  # pixels, where a logit is all but zero
    if kind == "mask":
        torch.testing.assert_close(logits, single, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("position", ["before", "at"])
@torch.no_grad()
def test_masks_are_those_of_a_pass_over_prompt_and_reply(position):
    model = build("mask", position)
    replies, logits = answer(model, "mask", BATCH)
    token = model.processor.tokenizer.convert_tokens_to_ids("[SEG]")
    expected, last = [], 0

    ids = [one.pred_ids for one in replies]
    for sample in samples():
        number, prompt, shown = sample
        places = [n for n, one in enumerate(ids[number]) if one == token]
        if shown is None:
            continue
        batch, _ = batch_of([sample], ids)
        shift = len(prompt) - (position == "before")
        states = model.hidden_states(batch)[[shift + place for place in places]]
        large = batch.inputs["image_hi"].values
        neck = model.sam(large).maps["neck"].expand(len(places), -1, -1, -1)
        expected.append(model.mask(states, neck)[0] if places else logits[:0])
        last += STEPS - 1 in places

    assert last > COUNT / 4
    torch.testing.assert_close(logits, torch.cat(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("own", [(), (0,), (1,), (0, 1)])
def test_a_token_that_is_only_spelled_takes_no_mask(own):
    model = build("mask")
    tokenizer = model.processor.tokenizer
    token = tokenizer.convert_tokens_to_ids("[SEG]")
    letters = [n for c in "[SEG]" for n in tokenizer(c)["input_ids"][1:]]
    said = [n for place in (0, 1) for n in ([token] if place in own else letters)]

    def on_step(step):
        step.allow(0, [said[step.ids.shape[1]]])

    batch, data = batch_of([one for one in samples() if one[2] is not None][:1])
    options = dict(max_new_tokens=len(said), on_step=on_step)
    (sample,) = model.predict(batch, data, **options)

    assert sample.pred_text == "[SEG][SEG]" and not sample.problems
    assert [len(one.rles) for one in sample.pred_regions] == [1] * len(own)
    assert sample.pred_spans == tuple((5 * place, 5 * place + 5) for place in own)


def test_an_image_that_the_mask_encoder_did_not_get_stops_the_reply():
    model = build("mask")
    batch, data = batch_of([one for one in samples() if one[2] is not None][:1])
    del batch.inputs["image_hi"]

    with pytest.raises(ValueError, match="no image to make them of; put SAMViews"):
        model.predict(batch, data, max_new_tokens=STEPS, on_step=Said(1, "mask", model))


def test_a_mask_without_an_image_is_a_problem_of_its_sample_alone():
    model = build("mask")
    chosen = [one for one in samples() if one[0] in (1, 4, 9)]  # 4 and 9 show nothing
    for some in (chosen, chosen[1:]):
        batch, data = batch_of(some)
        said = Said(0, "mask", model)
        said.first = 1  # 1, 2 and 3: all of them say [SEG]
        done = model.predict(batch, data, max_new_tokens=STEPS, on_step=said)
        for (_, _, shown), one in zip(some, done, strict=True):
            if shown is None:
                assert not one.pred_regions
                assert "no image was shown" in one.problems[0]
            else:
                assert one.pred_regions[0].rles
