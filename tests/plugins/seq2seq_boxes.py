"""Plug-in: an encoder-decoder that writes boxes as tokens of a prefix tree."""

import re

import numpy as np

from mmvlm.models.heads.base import Head
from mmvlm.registry import CODECS, MODELS
from mmvlm.text.codecs.base import Found, GroundingCodec


@CODECS.register_module()
class CellCodec(GroundingCodec):
    """``<x1><y0><x4><y7>``: the cells that a box touches, on a grid over the image."""

    def __init__(self, cells=8, **kwargs):
        super().__init__(**kwargs)
        self.cells = cells
        edges = range(cells + 1)
        self.special_tokens = tuple(
            f"<{axis}{edge}>" for axis in "xy" for edge in edges
        )

    def max_error(self, size):
        return 1 / self.cells

    def _write(self, region, role):
        edges = region.boxes.to("unit").xyxy * self.cells
        edges = np.concatenate([np.floor(edges[:, :2]), np.ceil(edges[:, 2:])], axis=1)
        rows = edges.astype(int).tolist()
        return "".join("<x{}><y{}><x{}><y{}>".format(*row) for row in rows)

    def _read(self, text):
        for match in re.finditer(r"<x(\d)><y(\d)><x(\d)><y(\d)>", text):
            row = [int(edge) / self.cells for edge in match.groups()]
            yield Found(match.start(), match.end(), [row])


@MODELS.register_module()
class BoxTree(Head):
    """Lets the decoder write one box whose corners are in order, and nothing else."""

    def __init__(self, cells=8, **kwargs):
        super().__init__(**kwargs)
        self.cells = cells

    def tree(self, tokenizer):
        """Token to the tokens that may follow it, for every path of one box."""
        x, y = (
            tokenizer.convert_tokens_to_ids(
                [f"<{a}{n}>" for n in range(self.cells + 1)]
            )
            for a in "xy"
        )
        end = {tokenizer.eos_token_id: {}}
        ends = [{y2: end for y2 in y[row + 1 :]} for row in range(self.cells)]
        boxes = {
            x1: {
                y1: dict.fromkeys(x[left + 1 :], ends[top])
                for top, y1 in enumerate(y[:-1])
            }
            for left, x1 in enumerate(x[:-1])
        }
        return {tokenizer.bos_token_id: boxes}

    def on_step(self, step, tokenizer):
        tree = self.tree(tokenizer)
        for row, said in enumerate(step.ids.tolist()):
            node = tree
            for token in said:
                node = node.get(token, {})
            step.allow(row, list(node) or [tokenizer.eos_token_id])
