"""OneLLM's connector: projection experts that all modalities share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mmvlm.models.utils.observing import RoutingWeights, report
from mmvlm.registry import MODELS
from mmvlm.structures import FixedTokenCount, VisionEncoderSpec, VisionFeatures

from .base import Connector

#: How the experts' outputs are weighted.
ROUTERS = ("soft_sigmoid", "softmax", "constant", "sparse")


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32.

    Args:
        width (int): channels.
        eps (float): added to the mean square.
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Norm the last dimension.

        Shape:
            - ``hidden``: (..., D)
            - output: the same
        """
        wide = hidden.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * scale).to(hidden.dtype) * self.weight


class ExpertBlock(nn.Module):
    """A LLaMA block without rotary positions and without a causal mask.

    Args:
        width (int): channels.
        num_heads (int): of attention.
        multiple_of (int): the hidden layer, 8/3 of ``width``, is rounded up to it.
    """

    def __init__(self, width: int, num_heads: int, multiple_of: int) -> None:
        super().__init__()
        inner = -(-(8 * width // 3) // multiple_of) * multiple_of
        self.num_heads = num_heads
        self.attention_norm = RMSNorm(width)
        self.wq, self.wk, self.wv, self.wo = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.ffn_norm = RMSNorm(width)
        self.w1 = nn.Linear(width, inner, bias=False)
        self.w2 = nn.Linear(inner, width, bias=False)
        self.w3 = nn.Linear(width, inner, bias=False)
        for layer in (self.wq, self.wk, self.wv, self.wo, self.w1, self.w2, self.w3):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply the block; every token sees every other.

        Shape:
            - ``hidden``: (V, N, D)
            - output: the same
        """
        normed = self.attention_norm(hidden)
        query, key, value = (
            layer(normed).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.wq, self.wk, self.wv)
        )
        seen = F.scaled_dot_product_attention(query, key, value)
        hidden = hidden + self.wo(seen.transpose(1, 2).flatten(2))
        normed = self.ffn_norm(hidden)
        return hidden + self.w2(F.silu(self.w1(normed)) * self.w3(normed))


class Router(nn.Module):
    """Score the experts for every token.

    Args:
        width (int): channels.
        num_experts (int): scores per token.
    """

    def __init__(self, width: int, num_experts: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, num_experts)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return raw scores.

        Shape:
            - ``tokens``: (V, N, D)
            - output: (V, N, K)
        """
        return self.fc2(F.gelu(self.fc1(tokens)))


@MODELS.register_module()
class UniversalProjectionConnector(Connector):
    """A mixture of small transformers reads features into a few learned tokens.

    Learned tokens of the modality stand in front of the projected features; every
    expert transforms the whole sequence; the learned positions of all experts are
    summed with a router's weights and projected to the language model, between a
    learned start and end tag. Experts are shared by all modalities, everything
    else is the modality's own.

    Paper: Han et al., "OneLLM: One Framework to Align All Modalities with
    Language", CVPR 2024, arXiv 2312.03700. Deviations: none from the released
    code with ``soft_sigmoid``; the paper's equation reads ``softmax``, its ablation
    ``constant`` (1 / K, no router) and ``sparse`` (each token takes its best
    expert, times that expert's weight). With one expert there is no router.

    Args:
        modalities (Sequence[str]): what the connector takes.
        num_experts (int): K.
        num_layers (int): blocks per expert (L).
        num_heads (int): of the experts' attention.
        num_tokens (int): learned tokens per input (Q).
        router (str): ``soft_sigmoid``, ``softmax``, ``constant`` or ``sparse``.
        multiple_of (int): the blocks' hidden width is rounded up to it.
        tags (bool): put start and end tag around the tokens.
        **kwargs: see :class:`Connector`.

    Raises:
        ValueError: for an unknown router, more than one layer, no modality, or
            heads that do not divide the width.

    Trainable parameters: K * L * (4 * Dv**2 + 3 * Dv * I + 2 * Dv) with the hidden
    width I; per modality Q * Dv + (Dv**2 + 3 * Dv) + (Dv * Dl + 3 * Dl) + 2 * Dl,
    and (4 * Dv**2 + 4 * Dv) + (4 * Dv + 1) * K for its router. At Dv = 1024 an expert
    of 8 layers has 102.8 M (the paper says 88 M).

    Example:
        >>> spec = VisionEncoderSpec(64, 2, 14, 224, num_prefix_tokens=1)
        >>> upm = UniversalProjectionConnector(vision_spec=spec, out_width=96)
        >>> upm.token_count.tokens_per_view
        32
    """

    default_layers = (-1,)

    def __init__(
        self,
        *,
        modalities: Sequence[str] = ("image",),
        num_experts: int = 3,
        num_layers: int = 8,
        num_heads: int = 16,
        num_tokens: int = 30,
        router: str = "soft_sigmoid",
        multiple_of: int = 256,
        tags: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        width, name = self.vision_spec.width, type(self).__name__
        self.fills = tuple(modalities)
        if router not in ROUTERS:
            raise ValueError(
                f"{name}: router={router!r}, expected one of {list(ROUTERS)}."
            )
        if len(self.select_layers) != 1 or not self.fills or width % num_heads:
            raise ValueError(
                f"{name}: select_layers={list(self.select_layers)} (expected one), "
                f"modalities={list(self.fills)} (at least one), num_heads="
                f"{num_heads} (must divide the width {width})."
            )
        self.num_tokens, self.router, self.tags = num_tokens, router, tags
        self.experts = nn.ModuleList(
            nn.ModuleList(
                ExpertBlock(width, num_heads, multiple_of) for _ in range(num_layers)
            )
            for _ in range(num_experts)
        )
        self.resample_tokens = self._parameters_per_modality(1, num_tokens, width)
        for tokens in self.resample_tokens.values():
            nn.init.normal_(tokens, std=0.02)
        self.proj_in = self._projections(width, width)
        self.proj_out = self._projections(width, self.out_width)
        routed = num_experts > 1 and router != "constant"
        self.routers = nn.ModuleDict(
            {m: Router(width, num_experts) for m in self.fills if routed}
        )
        if tags:
            self.start_tag = self._parameters_per_modality(1, 1, self.out_width)
            self.end_tag = self._parameters_per_modality(1, 1, self.out_width)
            for tag in (*self.start_tag.values(), *self.end_tag.values()):
                nn.init.uniform_(tag)

    def _parameters_per_modality(self, *shape: int) -> nn.ParameterDict:
        return nn.ParameterDict(
            {m: nn.Parameter(torch.empty(*shape)) for m in self.fills}
        )

    def _projections(self, width: int, out_width: int) -> nn.ModuleDict:
        return nn.ModuleDict(
            {
                m: nn.Sequential(nn.Linear(width, out_width), nn.LayerNorm(out_width))
                for m in self.fills
            }
        )

    @property
    def reads(self) -> tuple[str, ...]:
        """One hidden state of every kind that it fills."""
        return tuple(f"{kind}:{self.select_layers[0]}" for kind in self.fills)

    @property
    def token_count(self) -> FixedTokenCount:
        """The learned tokens, and the two tags when there are any."""
        return FixedTokenCount(self.num_tokens + 2 * self.tags)

    def grown(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what this connector begins with after an earlier stage.

        Every expert begins as the single one of an image-only stage (or as its own
        of a stage with as many). Tokens, projections and tags of new modalities
        begin as those of images; their routers, and all routers after a stage
        with one expert, stay as they were initialised.

        Args:
            state (Mapping): of a connector with fewer experts or modalities.

        Raises:
            ValueError: when the stage has no images, or another number of experts
                than one and this connector's.
        """
        old = {int(key.split(".")[1]) for key in state if key.startswith("experts.")}
        if len(old) not in (1, len(self.experts)):
            raise ValueError(
                f"an earlier stage has {len(old)} experts; {len(self.experts)} can "
                "begin as one expert, or as as many."
            )
        result = {}
        for key, own in self.state_dict().items():
            source = key
            if key.startswith("experts.") and len(old) == 1:
                source = f"experts.0.{key.split('.', 2)[2]}"
            elif source not in state and not key.startswith(("experts.", "routers.")):
                kind, _, rest = key.partition(".")
                source = ".".join([kind, "image", *rest.split(".")[1:]])
            if source not in state and not key.startswith("routers."):
                raise ValueError(
                    f"an earlier stage has no '{source}' that '{key}' could begin as."
                )
            result[key] = state[source].clone() if source in state else own
        strays = {k: v for k, v in state.items() if k not in result}
        return {**result, **strays}

    def with_learned_tokens(self, states: torch.Tensor, modality: str) -> torch.Tensor:
        """Project features and put the modality's learned tokens in front.

        Shape:
            - ``states``: (V, P + N, Dv)
            - output: (V, Q + P + N, Dv)
        """
        learned = self.resample_tokens[modality].expand(len(states), -1, -1)
        return torch.cat([learned, self.proj_in[modality](states)], 1)

    def routing_weights(self, tokens: torch.Tensor, modality: str) -> torch.Tensor:
        """Weigh the experts for every token; a sum is 1 but with ``sparse``.

        Shape:
            - ``tokens``: (V, N, Dv)
            - output: (V, N, K)
        """
        if modality not in self.routers:
            count = len(self.experts)
            return tokens.new_full((*tokens.shape[:2], count), 1 / count)
        scores = self.routers[modality](tokens)
        if self.router == "softmax":
            return scores.softmax(-1)
        weights = scores.sigmoid()
        weights = weights / weights.sum(-1, keepdim=True)
        if self.router == "sparse":
            best = weights.argmax(-1, keepdim=True)
            keep = torch.zeros_like(weights).scatter(-1, best, 1)
            weights = weights * keep
        return weights

    def project(self, states: torch.Tensor, modality: str) -> torch.Tensor:
        """Return the learned tokens without tags.

        Shape:
            - ``states``: (V, P + N, Dv)
            - output: (V, Q, Dl)
        """
        tokens = self.with_learned_tokens(states, modality)
        weights = self.routing_weights(tokens[:, : self.num_tokens], modality)
        report(RoutingWeights(self, weights))
        mixed = torch.zeros_like(tokens[:, : self.num_tokens])
        for number, expert in enumerate(self.experts):
            hidden = tokens
            for block in expert:
                hidden = block(hidden)
            weight = weights[..., number : number + 1]
            mixed = mixed + hidden[:, : self.num_tokens] * weight
        return self.proj_out[modality](mixed)

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Project the inputs of one modality.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, Dv), V may be 0
            - output: (V, Q + 2, Dl), or (V, Q, Dl) without tags

        Raises:
            ValueError: for a modality that the connector does not have.
        """
        modality = features.modality
        if modality not in self.fills:
            raise ValueError(
                f"UniversalProjectionConnector: got '{modality}', it takes "
                f"{list(self.fills)}."
            )
        embeds = self.project(features.hidden_states[0], modality)
        if not self.tags:
            return embeds
        tags = (self.start_tag[modality], self.end_tag[modality])
        start, end = (tag.expand(len(embeds), -1, -1).to(embeds.dtype) for tag in tags)
        return torch.cat([start, embeds, end], 1)

    @classmethod
    def tiny(
        cls, vision_spec: VisionEncoderSpec | None = None, out_width: int = 48
    ) -> UniversalProjectionConnector:
        """Build one of three experts with two layers each."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(
            vision_spec=spec,
            out_width=out_width,
            num_layers=2,
            num_heads=4,
            num_tokens=5,
            multiple_of=16,
        )
