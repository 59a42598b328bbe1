"""Emu: next-token prediction on text and on visual embeddings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from mmvlm.models.heads.visual_regression import VisualRegressionHead
from mmvlm.models.utils.token_context import IMAGE, use_tokens
from mmvlm.registry import MODELS
from mmvlm.structures import VLMBatch, VLMDataSample

from .base import VisionLanguageModel


def regression_rows(batch: VLMBatch) -> torch.Tensor:
    """Return the flat positions whose output predicts a visual embedding.

    For a picture of L tokens at s .. s + L - 1 these are s - 1 .. s + L - 1, L + 1
    pairs: the mark before predicts the first token, the last token the mark behind;
    row r predicts the embedding at r + 1.

    Args:
        batch (VLMBatch): with marks around every picture.

    Raises:
        ValueError: when a picture stands at the very start or end of a sample, so
            that a mark is missing.

    Shape:
        - ``batch.slot_index``: (S,)
        - output: (S + I,), I pictures

    """
    slots = batch.slot_index
    lengths = torch.tensor(batch.slot_lens, device=slots.device)
    ends = slots[lengths.cumsum(0) - 1]
    rows = torch.cat([slots - 1, ends])
    # A sample's positions count from 0, so that a pair across two samples shows.
    last = len(batch.input_ids) - 1
    inside = (rows >= 0) & (rows < last)
    ahead = (rows + 1).clamp(0, last)
    steps = batch.position_ids[ahead] - batch.position_ids[rows.clamp(0, last)]
    if not bool((inside & (steps == 1)).all()):
        raise ValueError(
            f"samples {list(batch.sample_ids)}: a picture stands at the very start or "
            "end of a sample; Emu's loss needs a mark before and behind every "
            "picture (chat templates 'emu' and 'emu_plain')."
        )
    return rows


@MODELS.register_module()
class EmuVLM(VisionLanguageModel):
    """A vision-language model that also learns to predict its visual embeddings.

    Besides the text's cross entropy, the hidden state in front of every visual
    token is regressed to that token's input embedding, which gets no gradient
    from it (:func:`regression_rows`).

    Paper: Sun et al., "Emu: Generative Pretraining in Multimodality", ICLR 2024,
    arXiv 2307.05222. Deviations: pictures are not decoded to pixels.

    Args:
        head (dict | VisualRegressionHead): config, which gets ``out_width``, or
            module.
        regression_weight (float): of the regression beside the text's loss.
        train_parts (dict | None): as in :class:`VisionLanguageModel`, ``head`` too.
        **kwargs: see :class:`VisionLanguageModel`.

    """

    def __init__(
        self,
        *,
        head: dict | VisualRegressionHead,
        regression_weight: float = 1.0,
        train_parts: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(head, dict):
            head = MODELS.build(dict(head, out_width=self.language_model.width))
        self.head = head
        self.regression_weight = regression_weight
        self.train_parts = dict(train_parts or {})
        self._freeze()

    def loss(
        self, inputs: VLMBatch, data_samples: list[VLMDataSample] | None = None
    ) -> dict[str, torch.Tensor]:
        """Return the text's loss and the weighted regression.

        The regression is a mean over all pairs of the batch; batches of one
        optimizer step count by their trained text tokens.

        Shape:
            - ``inputs.input_ids``: (T,)
            - outputs ``loss``, ``loss_regression``: (), float32
        """
        embeds, tokens = self._prepare(inputs)
        with use_tokens(tokens):
            hidden = self.language_model(
                embeds, inputs.position_ids, inputs.cu_seqlens, inputs.seq_lens
            )
        trained = inputs.num_target_tokens > 0
        read = hidden.index_select(0, inputs.target_rows) if trained else hidden
        losses = self.text_loss(read, inputs)
        if inputs.slot_lens:
            rows = regression_rows(inputs)
        else:
            rows = inputs.slot_index
        regression = self.head.loss(hidden[rows], embeds[rows + 1])
        share = 1.0
        if inputs.loss_denominator is not None:
            share = inputs.num_target_tokens / inputs.loss_denominator
        losses["loss_regression"] = regression * (self.regression_weight * share)
        return losses

    @torch.no_grad()
    def predict_visual_embeddings(
        self, inputs: VLMBatch, num_tokens: int
    ) -> torch.Tensor:
        """Continue one prompt that ends with the opening mark by visual embeddings.

        Args:
            inputs (VLMBatch): one prompt.
            num_tokens (int): embeddings to write, one after the other.

        Shape:
            - ``inputs.input_ids``: (T,)
            - output: (num_tokens, Dl)

        Raises:
            ValueError: for more than one prompt.

        """
        if len(inputs.seq_lens) != 1:
            raise ValueError(f"expected one prompt, got {len(inputs.seq_lens)}.")
        embeds, tokens = self._prepare(inputs)
        start = len(embeds)
        for _ in range(num_tokens):
            length = len(embeds)
            places = torch.arange(length, device=embeds.device)
            ends = torch.tensor([0, length], dtype=torch.int32, device=embeds.device)
            with use_tokens(tokens):
                hidden = self.language_model(embeds, places, ends, (length,))
            following = self.head(hidden[-1:]).to(embeds.dtype)
            embeds = torch.cat([embeds, following])
            types = torch.cat([tokens.types, tokens.types.new_tensor([IMAGE])])
            tokens = replace(tokens, types=types, seq_lens=(length + 1,))
        return embeds[start:]
