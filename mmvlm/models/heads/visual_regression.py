"""Emu's second objective: predict the next visual embedding."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import mse_loss

from mmvlm.models.language_models.generation_steps import GenerationStep
from mmvlm.models.utils.feed import Feed
from mmvlm.registry import MODELS
from mmvlm.structures import Targets, VLMBatch

from .base import Head, LossTerm


def regression_rows(batch: VLMBatch) -> torch.Tensor:
    """Return the flat positions whose output predicts a visual embedding.

    For an image of L tokens at s .. s + L - 1 these are s - 1 .. s + L - 1, L + 1
    pairs: the mark before predicts the first token, the last token the mark behind;
    row r predicts the embedding at r + 1.

    Args:
        batch (VLMBatch): with marks around every image.

    Raises:
        ValueError: when an image stands at the very start or end of a sample, so
            that a mark is missing.

    Shape:
        - ``batch.inputs["image"].slot_index``: (S,)
        - output: (S + I,), I images
    """
    stream, images = batch.text, batch.inputs.get("image")
    if images is None or not len(images):
        return stream.target_rows[:0]
    slots = images.slot_index
    lengths = torch.tensor(images.slot_lens, device=slots.device)
    ends = slots[lengths.cumsum(0) - 1]
    rows = torch.cat([slots - 1, ends])
    # A sample's positions count from 0, so that a pair across two samples shows.
    last = len(stream.input_ids) - 1
    inside = (rows >= 0) & (rows < last)
    ahead = (rows + 1).clamp(0, last)
    steps = stream.position_ids[ahead] - stream.position_ids[rows.clamp(0, last)]
    if not bool((inside & (steps == 1)).all()):
        raise ValueError(
            f"samples {list(batch.sample_ids)}: an image stands at the very start or "
            "end of a sample; Emu's loss needs a mark before and behind every "
            "image (chat templates 'emu' and 'emu_plain')."
        )
    return rows


@MODELS.register_module()
class VisualRegressionHead(Head):
    """Regress the state before every visual token to that token's input embedding.

    The embedding gets no gradient from it (:func:`regression_rows`). In generation it
    writes images: after ``opening`` it feeds ``num_tokens`` embeddings back, one after
    the other, where ``placeholder`` stands in the reply.

    Paper: Sun et al., "Emu: Generative Pretraining in Multimodality", ICLR 2024,
    arXiv 2307.05222. Deviations: the released code holds the layer
    (``stu_regress_head``) but not the loss; this one follows the paper. Visual
    embeddings are not decoded to pixels.

    Args:
        opening (str | None): token behind which an image is written; None writes none.
        placeholder (str): token of each written embedding.
        num_tokens (int): embeddings of an image.
        **kwargs: see :class:`Head`; its loss is ``regression``, a mean over all values.

    Trainable parameters: Dl*Dl.
    """

    terms = ("regression",)

    def __init__(
        self,
        opening: str | None = None,
        placeholder: str = "<image>",
        num_tokens: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.opening, self.num_tokens = opening, num_tokens
        self.tokens = () if opening is None else (opening, placeholder)
        self.stu_regress_head = nn.Linear(self.in_width, self.in_width, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Predict embeddings.

        Shape:
            - ``hidden_states``: (K, Dl), after the final norm
            - output: (K, Dl)
        """
        return self.stu_regress_head(hidden_states)

    def rows(self, batch: VLMBatch) -> torch.Tensor:
        """Return the positions in front of visual tokens, and the last tokens."""
        return regression_rows(batch)

    def counts(self, batch: VLMBatch) -> dict[str, int]:
        """Count the values of all pairs."""
        images = batch.inputs.get("image")
        pairs = 0 if images is None else sum(images.slot_lens) + len(images)
        return dict(regression=pairs * self.in_width)

    def loss(
        self, hidden: torch.Tensor, targets: Targets | None, feed: Feed
    ) -> dict[str, LossTerm]:
        """Return the summed squared error of all values, in float32.

        Shape:
            - ``hidden``: (K, Dl)
        """
        rows = self.rows(feed.batch)
        following = feed.embeds[rows + 1].detach().float()
        total = mse_loss(self(hidden).float(), following, reduction="sum")
        return dict(regression=LossTerm(total, following.numel()))

    @property
    def takes_steps(self) -> bool:
        """Whether it writes images."""
        return self.opening is not None

    def on_step(self, step: GenerationStep, tokenizer: Any) -> None:
        """Write ``num_tokens`` embeddings behind an opening mark, said or asked."""
        opening, placeholder = tokenizer.convert_tokens_to_ids(list(self.tokens))
        for row, said in enumerate(step.ids.tolist()):
            said = [*step.prompt_ends[row : row + 1], *said]
            written = next(
                (n for n, one in enumerate(said[::-1]) if one == opening), -1
            )
            if 0 <= written < self.num_tokens:
                step.allow(row, [placeholder])
                step.feed(row, self(step.states[row]).to(step.states.dtype))
