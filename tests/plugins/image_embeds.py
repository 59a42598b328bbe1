"""Plug-in: an image as answer, in embeddings that are regressed and fed back."""

from dataclasses import replace

import cv2
import numpy as np
from torch import nn

from mmvlm.models.connectors.base import Connector
from mmvlm.models.heads.base import Head, LossTerm
from mmvlm.registry import MODELS, TRANSFORMS
from mmvlm.structures import (
    Boxes,
    FixedTokenCount,
    Region,
    SampleInputs,
    Text,
    TextMark,
    Turn,
    ViewLayout,
)

OPENING, PLACE = "[IMG]", "[EMB]"


@TRANSFORMS.register_module()
class AnswerWithImage:
    """The described image stands in the answer, at the mark of ``target_image``."""

    def __call__(self, item):
        talk = item["conversation"]
        mark = TextMark(len(OPENING), len(OPENING + PLACE), "input", "target_image")
        answer = Text(OPENING + PLACE, kind="markup", marks=(mark,))
        turns = [
            Turn("user", (Text(f"Draw {talk.turns[1].text}"),)),
            Turn("assistant", (answer,)),
        ]
        whole = Boxes(np.array([[0, 0, 1, 1]]), item["images"][0].shape[:2], "unit")
        item["regions"], item["target"] = (Region(0, whole),), item["images"][0]
        item["conversation"] = replace(talk, turns=turns, images=[])
        return {**item, "images": []}


@TRANSFORMS.register_module()
class TargetImage:
    """What fills the mark; prompts, which end before the answer, have none."""

    def __init__(self, size=32):
        self.size = size

    def __call__(self, item):
        if item["encoded"].slots:
            shape, image = (self.size, self.size), item["target"]
            view = cv2.resize(image, shape).transpose(2, 0, 1)[None]
            layout = ViewLayout(image.shape[:2], shape)
            item["inputs"] = dict(target_image=SampleInputs.join([view], (layout,)))
        return item


@MODELS.register_module()
class PooledImage(Connector):
    """The features of an image, pooled to 2 x 2 cells."""

    source, fills = "target_image", ("target_image",)
    default_layers = (-1,)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.proj = nn.Linear(self.vision_spec.width, self.out_width)

    @property
    def token_count(self):
        return FixedTokenCount(4)

    def forward(self, features):
        cells = nn.functional.adaptive_avg_pool2d(features.patch_map(), 2)
        return self.proj(cells.flatten(2).transpose(1, 2))


@MODELS.register_module()
class NextEmbedding(Head):
    """The state in front of every embedding of the image to that embedding."""

    terms = ("embedding",)
    tokens = (OPENING, PLACE)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.proj = nn.Linear(self.in_width, self.in_width)

    def rows(self, batch):
        images = batch.inputs.get("target_image")
        return batch.text.target_rows[:0] if images is None else images.slot_index - 1

    def counts(self, batch):
        images = batch.inputs.get("target_image")
        return dict(embedding=0 if images is None else sum(images.slot_lens))

    def loss(self, hidden, targets, feed):
        goal = feed.embeds[feed.inputs("target_image").slot_index].detach()
        away = (self.proj(hidden) - goal).square().mean(-1) / goal.square().mean()
        return dict(embedding=LossTerm(away.sum(), len(goal)))

    def on_step(self, step, tokenizer):
        opening, place = tokenizer.convert_tokens_to_ids([OPENING, PLACE])
        for row, said in enumerate(step.ids.tolist()):
            if opening in said[-4:]:
                step.allow(row, [place])
                step.feed(row, self.proj(step.states[row]))

    def predict(self, states, samples, feed):
        for own, sample in zip(states, samples, strict=True):
            sample.pred_embeds = self.proj(own[1:5])
