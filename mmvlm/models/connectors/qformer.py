"""The Q-Former: learned queries that read the image (and the question)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import FixedTokenCount, VisionEncoderSpec, VisionFeatures

from .base import Connector


@MODELS.register_module()
class QFormerConnector(Connector):
    """Learned queries read all image tokens through a BERT with cross attention.

    Post-norm BERT blocks; every ``cross_attention_frequency``-th also attends to
    the image. The outputs at the queries are projected to the language model.
    With ``instruction_aware`` the question's tokens share the self-attention, so
    that the queries look for what is asked; the batch must bring it
    (``TokenizeInstructions``).

    The blocks are transformers' own (Blip2QFormerModel, InstructBlipQFormerModel);
    :mod:`mmvlm.export.qformer_keys` names the weights of LAVIS, MiniGPT-4 and
    transformers.

    Paper: Li et al., "BLIP-2: Bootstrapping Language-Image Pre-training with Frozen
    Image Encoders and Large Language Models", ICML 2023, arXiv 2301.12597; Dai et
    al., "InstructBLIP: Towards General-purpose Vision-Language Models with
    Instruction Tuning", NeurIPS 2023, arXiv 2305.06500. Deviations: the last
    block's feed-forward for text, which no output depends on, is kept as buffers
    and never trained.

    Args:
        num_queries (int): tokens per view (Q).
        hidden_size (int): width of the Q-Former (D).
        num_layers (int): blocks (L).
        num_heads (int): attention heads.
        intermediate_size (int): width of the feed-forwards (F).
        cross_attention_frequency (int): blocks 0, f, 2f, ... see the image.
        instruction_aware (bool): read the question.
        vocab_size (int): words that it knows (BERT's and one more).
        max_position_embeddings (int): most tokens of a question.
        dropout (float): of attention and feed-forward, in training.
        vision_norm (bool): LayerNorm on the image tokens first (``ln_vision``).
        **kwargs: see :class:`Connector`.

    Raises:
        ValueError: not exactly one layer.

    Trainable parameters: with K = ceil(L / f) blocks that see the image,
        L*(4*D*D + 2*D*F + 9*D + F) + K*(2*D*D + 2*D*Dv + 6*D) + 2*D + Q*D
        + D*Dl + Dl, and 2*Dv for ``vision_norm``; reading questions adds
        (vocab_size + max_position_embeddings)*D + (L - 1)*(2*D*F + 3*D + F).
    """

    default_layers = (-1,)
    one_layer = True

    def __init__(
        self,
        *,
        num_queries: int = 32,
        hidden_size: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        intermediate_size: int = 3072,
        cross_attention_frequency: int = 2,
        instruction_aware: bool = False,
        vocab_size: int = 30523,
        max_position_embeddings: int = 512,
        dropout: float = 0.1,
        vision_norm: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.instruction_aware = instruction_aware
        self.num_queries = num_queries
        width = self.vision_spec.width
        self.ln_vision = nn.LayerNorm(width) if vision_norm else nn.Identity()
        self.query_tokens = nn.Parameter(torch.zeros(1, num_queries, hidden_size))
        nn.init.normal_(self.query_tokens, std=0.02)
        self.qformer = _build_qformer(
            instruction_aware,
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            intermediate_size=intermediate_size,
            cross_attention_frequency=cross_attention_frequency,
            encoder_hidden_size=width,
            vocab_size=vocab_size,
            max_position_embeddings=max_position_embeddings,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        if instruction_aware:
            last = self.qformer.encoder.layer[-1]
            for unused in (last.intermediate, last.output):
                _keep_as_buffers(unused)
        self.proj = nn.Linear(hidden_size, self.out_width)

    @property
    def reads(self) -> tuple[str, ...]:
        """One hidden state, and the question with ``instruction_aware``."""
        return (*super().reads, *(["question"] if self.instruction_aware else []))

    @property
    def token_count(self) -> FixedTokenCount:
        """As many tokens per view as queries."""
        return FixedTokenCount(self.num_queries)

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Let the queries read every view.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, Dv), V may be 0
            - ``features.instructions``: I questions, with ``instruction_aware``
            - output: (V, Q, Dl)

        Raises:
            ValueError: with ``instruction_aware``, when there is no question.
        """
        image = self.ln_vision(features.hidden_states[0])
        views = len(image)
        if not views:  # transformers 5 cannot reshape nothing
            blank = torch.cat([image, image.new_zeros(1, *image.shape[1:])])
            unasked = dict(input_ids=None) if self.instruction_aware else {}
            out = self.qformer(
                query_embeds=self.query_tokens, encoder_hidden_states=blank, **unasked
            )
            return self.proj(out[0][:0, : self.num_queries])
        queries = self.query_tokens.expand(views, -1, -1)
        extra = {}
        if self.instruction_aware:
            if features.instructions is None:
                raise ValueError(
                    "QFormerConnector(instruction_aware=True) got no instructions."
                )
            texts = features.instructions.per_view(features.layouts, views)
            seen = texts.attention_mask
            ones = torch.ones(queries.shape[:2], dtype=seen.dtype, device=seen.device)
            extra = dict(
                input_ids=texts.input_ids, attention_mask=torch.cat([ones, seen], 1)
            )
        out = self.qformer(query_embeds=queries, encoder_hidden_states=image, **extra)
        return self.proj(out[0][:, : self.num_queries])

    def init_weights(self) -> None:
        """Do nothing: weights are drawn in the constructor, as BERT's are."""
        self.is_init = True

    #: What ``--tiny`` makes of the sizes.
    tiny_fields = dict(  # noqa: RUF012
        hidden_size=32, num_layers=2, num_heads=4, intermediate_size=48
    )

    @classmethod
    def tiny(
        cls,
        vision_spec: VisionEncoderSpec | None = None,
        out_width: int = 48,
        instruction_aware: bool = True,
    ) -> QFormerConnector:
        """Build a miniature of 3 blocks and 5 queries that reads questions."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(
            vision_spec=spec,
            out_width=out_width,
            num_queries=5,
            instruction_aware=instruction_aware,
            vocab_size=40,
            max_position_embeddings=16,
            **{**cls.tiny_fields, "num_layers": 3},
        )


def _build_qformer(instruction_aware: bool, **sizes: object) -> nn.Module:
    """Build transformers' Q-Former, with or without its text half."""
    if instruction_aware:
        from transformers import InstructBlipQFormerConfig, InstructBlipQFormerModel

        return InstructBlipQFormerModel(InstructBlipQFormerConfig(**sizes))
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    return Blip2QFormerModel(Blip2QFormerConfig(**sizes))


def _keep_as_buffers(module: nn.Module) -> None:
    """Turn parameters into buffers: saved and loaded, never trained."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
