"""Greedy replies to many prompts: a common beginning is run once, finished rows leave.

What transformers' ``generate`` gives for each prompt alone, without what it costs in
batches: its cache is copied whole for every new token, and rows that have ended run on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig

from .generation_steps import Generation
from .output_head import apply_head
from .padding import left_pad
from .prefix_sharing import run_prefixes

#: Rows are taken out of a batch once this share of them has ended: taking them out
#: copies what the others have cached.
_ENDED_SHARE = 0.25
#: Fields that leave a greedy search as it is.
_FIELDS = (
    "max_new_tokens do_sample num_beams eos_token_id pad_token_id temperature top_p "
    "top_k"
).split()
#: Tokens for which a cache makes room at once.
_ROOM = 128


class ReplyCache(DynamicCache):
    """Keys and values of a batch, in tensors with room for tokens to come."""

    def __init__(self) -> None:
        super().__init__()
        self._states: list[list[torch.Tensor]] = []  # per layer keys and values
        self._lengths: list[int] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int,
        *_: Any, **__: Any,
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        """Add keys and values (B, M, n, D) of a layer; return all that it holds."""
        states = key_states, value_states
        if layer_idx == len(self._states):
            self._states.append([one[:, :, :0] for one in states])
            self._lengths.append(0)
        start, own = self._lengths[layer_idx], self._states[layer_idx]
        end = self._lengths[layer_idx] = start + key_states.shape[2]
        for place, new in enumerate(states):
            if end > own[place].shape[2]:
                wide = new.new_empty(*new.shape[:2], end + _ROOM, new.shape[3])
                wide[:, :, :start] = own[place][:, :, :start]
                own[place] = wide
            own[place][:, :, start:end] = new
        return tuple(one[:, :, :end] for one in own)

    def get_seq_length(self, layer_idx: int = 0, *_: Any) -> int:
        """Return how many tokens a row holds, padding included."""
        return self._lengths[layer_idx] if layer_idx < len(self._lengths) else 0

    def get_mask_sizes(self, query: Any, layer_idx: int = 0) -> tuple[int, int]:
        """Return how many tokens are seen once ``query`` is added, and the first."""
        new = query if isinstance(query, int) else len(query)
        return self.get_seq_length(layer_idx) + new, 0

    def crop(self, max_length: int) -> None:
        """Forget all but the first tokens of every row; they may be filled anew."""
        self._lengths = [min(one, max_length) for one in self._lengths]

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keep some rows (R,), which may name one several times."""
        for own in self._states:
            own[:] = [one.index_select(0, beam_idx) for one in own]


def keeps_keys_alone(model: torch.nn.Module) -> bool:
    """Whether all that a model keeps of a text are keys and values of every token."""
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ())
    return not (
        config.is_encoder_decoder
        or getattr(model, "_is_stateful", False)
        or getattr(config, "sliding_window", None)
        or kinds - {"full_attention"}
    )


def _is_greedy(config: GenerationConfig) -> bool:
    """Whether a config asks for the likeliest token of every step and nothing else."""
    usual = GenerationConfig(**{name: getattr(config, name) for name in _FIELDS})
    chosen = config.to_dict()
    return not config.do_sample and all(
        chosen.get(name) == value for name, value in usual.to_dict().items()
    )


def generate_greedily(
    model: torch.nn.Module,
    decoder: torch.nn.Module,
    prompts: Sequence[torch.Tensor],
    config: GenerationConfig,
    texts: Any = None,
) -> list[Generation] | None:
    """Continue prompts as a config says; None where that takes more than this loop.

    Args:
        model (torch.nn.Module): in evaluation mode.
        decoder (torch.nn.Module): its stack of blocks with the final norm.
        prompts (Sequence[torch.Tensor]): embeddings (n, Dl) of every prompt.
        config (GenerationConfig): with the tokens that end a reply.
        texts (StopTexts | None): says whether a reply ends in a stop string.
    """
    if not _is_greedy(config) or not keeps_keys_alone(model):
        return None
    stops = frozenset(config.eos_token_id or ())

    def end_of(ids: list[int]) -> str | None:
        if ids[-1] in stops:
            return "stop_id"
        return "stop_string" if texts is not None and texts.stands_in(ids) else None

    found = greedy_replies(model, decoder, prompts, config.max_new_tokens, end_of)
    none = torch.zeros(0, dtype=torch.int64, device=prompts[0].device)
    nothing = torch.zeros(0, 0)
    return [
        Generation(none.new_tensor(ids), finish, none, nothing) for ids, finish in found
    ]


def greedy_replies(
    model: torch.nn.Module,
    decoder: torch.nn.Module,
    prompts: Sequence[torch.Tensor],
    max_new_tokens: int,
    end_of: Callable[[list[int]], str | None],
) -> list[tuple[list[int], str]]:
    """Reply to every prompt greedily.

    Args:
        model (torch.nn.Module): gives head and embeddings.
        decoder (torch.nn.Module): the stack of blocks with the final norm, in
            evaluation mode.
        prompts (Sequence[torch.Tensor]): embeddings (n, Dl) of every prompt.
        max_new_tokens (int): most tokens of a reply.
        end_of (Callable): ids of a reply to the reason why it ends here, or None.

    Returns:
        list: ids of every reply, and why it ends; ``length`` for the last token.
    """
    cache = ReplyCache()
    hidden, mask = run_first(decoder, prompts, cache)
    replies: list[list[int]] = [[] for _ in prompts]
    ends: dict[int, str] = {}
    rows = list(range(len(prompts)))  # prompts whose rows are in the batch
    for left in reversed(range(max_new_tokens)):
        chosen = apply_head(model, hidden).float().argmax(-1)
        for prompt, token in zip(rows, chosen.tolist(), strict=True):
            if prompt not in ends:
                replies[prompt].append(token)
                if (end := end_of(replies[prompt])) is not None:
                    ends[prompt] = end
        alive = [place for place, prompt in enumerate(rows) if prompt not in ends]
        if not alive or not left:
            break
        if len(alive) <= (1 - _ENDED_SHARE) * len(rows):
            kept = torch.tensor(alive, device=mask.device)
            cache.reorder_cache(kept)
            mask, chosen = mask[kept], chosen[kept]
            rows = [rows[place] for place in alive]
        embeds = model.get_input_embeddings()(chosen)[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        hidden = run_cached(decoder, embeds, mask, cache)[:, -1]
    return [(ids, ends.get(n, "length")) for n, ids in enumerate(replies)]


def run_first(
    decoder: torch.nn.Module, prompts: Sequence[torch.Tensor], cache: ReplyCache
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run prompts (n, Dl) into an empty cache, their common beginnings once.

    Returns:
        tuple: the states of their last tokens, (B, Dl), and the mask of what is
        cached, (B, L).
    """
    start = run_prefixes(decoder, prompts, cache=cache)
    if start is None:
        embeds, mask = left_pad(torch.cat(list(prompts)), list(map(len, prompts)))
    else:
        mask = start["attention_mask"]
        embeds = start["inputs_embeds"][:, cache.get_seq_length() :]
    return run_cached(decoder, embeds, mask, cache)[:, -1], mask


def run_cached(
    decoder: torch.nn.Module,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor,
    cache: ReplyCache,
) -> torch.Tensor:
    """Run what is not cached; return its states.

    Shape:
        - ``inputs_embeds``: (B, n, Dl), padded where the mask says so
        - ``attention_mask``: (B, cached + n)
        - output: (B, n, Dl)
    """
    count = inputs_embeds.shape[1]
    positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, -count:]
    return decoder(
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    )[0]
