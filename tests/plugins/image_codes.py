"""Plug-in: an image as answer, in codes that are tokens of the vocabulary."""

from dataclasses import replace

import cv2
import numpy as np

from mmvlm.models.heads.base import Head
from mmvlm.registry import MODELS, TRANSFORMS
from mmvlm.structures import Text, Turn

CODES = tuple(f"[I{number}]" for number in range(8))
#: Red, green and blue, each dark or bright.
COLOURS = np.array([(n & 4, n & 2, n & 1) for n in range(8)]).astype(bool) * 255


@TRANSFORMS.register_module()
class WriteImageCodes:
    """Ask for the described image; its cells, as codes, are the answer."""

    def __init__(self, grid=3):
        self.grid = grid

    def __call__(self, item):
        talk, (image,) = item["conversation"], item["images"]
        cells = cv2.resize(image, (self.grid,) * 2, interpolation=cv2.INTER_AREA)
        away = (cells.reshape(-1, 1, 3) - COLOURS[None].astype(int)) ** 2
        codes = "".join(CODES[n] for n in away.sum(-1).argmin(1))
        turns = [
            Turn("user", (Text(f"Draw {talk.turns[1].text}"),)),
            Turn("assistant", (Text(f"[IMG]{codes}", kind="markup"),)),
        ]
        item["conversation"] = replace(talk, turns=turns, images=[])
        return {**item, "images": []}


@MODELS.register_module()
class CodesToImage(Head):
    """Lets codes alone follow the opening token; paints those that were said."""

    tokens = ("[IMG]", *CODES)

    def __init__(self, grid=3, **kwargs):
        super().__init__(**kwargs)
        self.grid, self.ids = grid, []

    def on_step(self, step, tokenizer):
        opening, *self.ids = tokenizer.convert_tokens_to_ids(list(self.tokens))
        for row, said in enumerate(step.ids.tolist()):
            if opening in said[-(self.grid**2) :]:
                step.allow(row, self.ids)

    def predict(self, states, samples, feed):
        for sample in samples:
            said = [self.ids.index(n) for n in sample.pred_ids if n in self.ids]
            whole = len(said) == self.grid**2
            cells = COLOURS[said].reshape(self.grid, -1, 3) if whole else None
            sample.pred_image = cells
