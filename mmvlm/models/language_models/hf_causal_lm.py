"""Any causal language model of transformers, over one flat token dimension."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from mmengine.logging import print_log

from mmvlm.models.utils.checkpointing import checkpoint_blocks
from mmvlm.models.utils.even_shapes import POSITIONS, few_shapes, round_up
from mmvlm.models.utils.hf_loading import build_language_model
from mmvlm.models.utils.token_context import current_tokens, use_layout
from mmvlm.models.utils.token_types import PAD
from mmvlm.registry import MODELS

from .adapters.base import LanguageModelAdapter
from .attention import (
    FLEX_ATTENTION,
    SEGMENT_ATTENTION,
    record_segment_calls,
    register_segment_attention,
    segment_kwargs,
)
from .base import LanguageModel
from .context_length import PositionGuard, learns_positions, num_positions
from .last_block import LastBlockForward
from .output_head import apply_head, check_head

if TYPE_CHECKING:
    from mmvlm.models.ops.cpu_kernels import RaggedRows

    from .generation_steps import Generation

#: attention -> (padded layout?, transformers' implementation; None = its default)
_ATTENTION = {
    "segment": (False, SEGMENT_ATTENTION),
    "flex": (False, FLEX_ATTENTION),
    "flash_attention_2": (False, "flash_attention_2"),
    "padded": (True, None),
    "sdpa": (True, "sdpa"),
    "eager": (True, "eager"),
    "batched": (True, SEGMENT_ATTENTION),
}
#: Kinds that our own functions compute, sample by sample.
_SEGMENTED = ("segment", "flex", "batched")


@MODELS.register_module()
class HFCausalLM(LanguageModel):
    """A transformers causal LM from a path or from a config (random weights).

    Args:
        name_or_path (str | None): folder, hub name or GGUF file of the weights (also
            ``package://PACKAGE/FILE.gguf`` of an installed package); None builds
            random weights from ``config``.
        config (dict | None): transformers config with ``model_type``. With a
            path it must agree with the widths found there; on the ``meta``
            device it alone is used.
        torch_dtype (str | None): dtype of the weights, ``'bfloat16'``; None
            keeps the dtype of the file, float32 for random weights.
        attention (str): ``segment`` (flat tokens, attention inside each
            sample), ``flex`` (the same as one fused FlexAttention, which trains on
            GPUs only), ``flash_attention_2`` (flat tokens, needs flash-attn),
            ``padded`` (padded batch, the model's default kernel), ``sdpa`` or
            ``eager`` (padded batch, that kernel), ``batched`` (padded batch, our
            functions; the fastest for small models in bfloat16 on a CPU; with
            adapters the same as ``eager``).
        gradient_checkpointing (str | int): ``off``, ``all`` or every k-th block.
        adapters (Sequence[dict | LanguageModelAdapter]): modules inside the decoder,
            put in place in this order; see :class:`LanguageModelAdapter`.
        lora (dict | None): ``r, alpha, dropout, target_modules``; see
            :func:`add_lora`. Named targets may also lie in the adapters.
        quantization (dict | None): ``bits`` 4 or 8; see :func:`quantize_linears`.
        new_tokens (dict | None): tokens that the tokenizer and the tables get; see
            :class:`NewTokens`.
        num_new_tokens (int): former key, rows for tokens that the tokenizer's own
            config adds; they begin as the mean of the old rows.
        trust_remote_code (bool): run model code from the hub.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: unknown ``attention``, neither path nor config, or widths
            that disagree.

    Example:
        >>> model = HFCausalLM.tiny()
        >>> embeds = model.embed(torch.tensor([3, 4, 5]))
        >>> positions, offsets = torch.tensor([0, 1, 0]), torch.tensor([0, 2, 3])
        >>> model(embeds, positions, offsets, (2, 1)).shape
        torch.Size([3, 48])
    """

    def __init__(
        self,
        name_or_path: str | None = None,
        config: dict | None = None,
        *,
        torch_dtype: str | None = None,
        attention: str = "segment",
        gradient_checkpointing: str | int = "off",
        adapters: Sequence[dict | LanguageModelAdapter] = (),
        lora: dict | None = None,
        quantization: dict | None = None,
        new_tokens: dict | None = None,
        num_new_tokens: int = 0,
        trust_remote_code: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if attention not in _ATTENTION:
            raise ValueError(
                f"language_model.attention={attention!r}: expected one of "
                f"{sorted(_ATTENTION)}."
            )
        register_segment_attention()
        if attention == "flex":
            from .flex_attention import register_flex_attention

            register_flex_attention()
        if attention == "batched" and adapters:
            attention = "eager"  # adapters read and change the mask of the batch
        self.attention = attention
        self.padded, implementation = _ATTENTION[attention]
        self.model = build_language_model(
            "AutoModelForCausalLM",
            name_or_path,
            config,
            torch_dtype=torch_dtype,
            attention=None if attention in _SEGMENTED else implementation,
            trust_remote_code=trust_remote_code,
        )
        if attention in _SEGMENTED:
            self._check_segment_support()
            self.model.config._attn_implementation = implementation
        self._takes_ragged_rows = False
        if attention == "batched":
            from mmvlm.models.ops.cpu_kernels import attach_narrow

            layers = attach_narrow(self.decoder)
            self._takes_ragged_rows = layers == self.config.num_hidden_layers
        check_head(self.model)
        self.grow_tables(new_tokens, num_new_tokens)
        if quantization:
            from .peft import quantize_linears

            quantize_linears(self.decoder, **quantization)
        self.adapters = torch.nn.ModuleDict()
        if adapters:
            from .adapters.running import attach_adapters

            self.adapters = attach_adapters(self, adapters)
        self.lora = dict(lora) if lora else None
        if lora:
            from .peft import add_lora, keep_plain_keys

            named = lora.get("target_modules", "all-linear") != "all-linear"
            add_lora(self if named and self.adapters else self.decoder, **lora)
            keep_plain_keys(self)
            if attention == "batched":
                from mmvlm.models.ops.cpu_lora import attach_narrow_lora

                attach_narrow_lora(self.decoder)
        self.train_new_tokens()
        self.position_guard = PositionGuard(
            num_positions(self.config),
            learns_positions(self.decoder, self.model.get_input_embeddings()),
        )
        checkpoint_blocks(self.blocks, gradient_checkpointing)
        # Adapters may route the MLP by the place of a token in the whole layout.
        last = None if self.adapters else LastBlockForward.attach(self.blocks[-1])
        self._last_block = last

    @property
    def config(self) -> Any:
        """The transformers config."""
        return self.model.config

    @property
    def decoder(self) -> torch.nn.Module:
        """The stack of blocks without the head."""
        model = self.model
        # Some models (Gemma 3) name a prefix that they do not have.
        inner = getattr(model, model.base_model_prefix, None)
        if inner is None and hasattr(model, "get_decoder"):
            inner = model.get_decoder()
        if inner is model:  # Kosmos-2 names neither
            inner = getattr(model, "model", None)
        if inner is None or inner is model:
            raise ValueError(f"{type(model).__name__}: found no decoder to run.")
        return inner

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """Decoder blocks in order."""
        count = self.config.num_hidden_layers
        for module in self.decoder.modules():
            if isinstance(module, torch.nn.ModuleList) and len(module) == count:
                return module
        raise ValueError(
            f"{type(self.model).__name__}: found no list of {count} decoder blocks."
        )

    @property
    def width(self) -> int:
        """Channels of the input embeddings (Dl)."""
        return self.model.get_input_embeddings().embedding_dim

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table."""
        return self.model.get_input_embeddings().num_embeddings

    def init_weights(self) -> None:
        """Do nothing: weights are loaded or drawn in the constructor."""
        self.is_init = True

    def _check_segment_support(self) -> None:
        """Refuse attention patterns that live in masks only."""
        kinds = set(getattr(self.config, "layer_types", None) or ())
        odd = kinds - {"full_attention", "sliding_attention"}
        if odd or getattr(self.config, "use_bidirectional_attention", None):
            raise ValueError(
                f"{type(self.model).__name__} uses {sorted(odd) or 'bidirectional'} "
                "attention, which attention='segment' does not implement; set "
                "language_model.attention='padded'."
            )

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embed ids.

        Shape:
            - ``input_ids``: (T,), int64
            - output: (T, Dl)
        """
        return self.model.get_input_embeddings()(input_ids)

    def train_new_rows(self) -> None:
        """Let the rows of ``num_new_tokens`` learn in the input embeddings alone.

        Raises:
            ValueError: without new rows.
        """
        if self.new_tokens is None:
            raise ValueError("'new_rows' is trained, but num_new_tokens is 0.")
        if self.new_tokens.train is None:
            new = self.new_tokens.with_input_rows(self.model, self.first_new_id)
            self.new_tokens = new

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        position_ids: torch.Tensor,
        cu_seqlens: torch.Tensor,
        seq_lens: tuple[int, ...],
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Run the decoder up to its final norm.

        With ``rows``, the last block's MLP runs on those rows only.

        Shape:
            - ``inputs_embeds``: (T, Dl); ``position_ids``: (T,) or (3, T)
            - ``cu_seqlens``: (B + 1,) int32; ``seq_lens``: B host integers
            - ``rows``: (R,), int64
            - output: (T, Dl), or (R, Dl) with ``rows``

        Raises:
            RuntimeError: when the model's code does not hand the segments to
                every attention layer.
        """
        with self._adapters_prepared(position_ids, seq_lens) as positions:
            self._check_positions(positions, seq_lens)
            return self._run(inputs_embeds, positions, cu_seqlens, seq_lens, rows)

    @contextmanager
    def _adapters_prepared(self, position_ids, seq_lens) -> Iterator[torch.Tensor]:
        """Tell the adapters how the tokens lie; give the position ids they want."""
        if not self.adapters:
            yield position_ids
            return
        tokens = current_tokens(seq_lens, position_ids.device)
        layout = tokens.padded("right") if self.padded else tokens.flat()
        for adapter in self.adapters.values():
            adapter.prepare(self, layout)
            if (wanted := adapter.positions(layout)) is not None:
                real = layout.types != PAD
                position_ids = wanted[real]
        with use_layout(layout):
            yield position_ids

    def _check_positions(self, position_ids, seq_lens) -> None:
        """Warn of samples beyond the positions that the model was made for."""
        guard = self.position_guard
        if guard.limit is None or max(seq_lens) <= guard.limit:
            return
        if not self.adapters:
            guard.check(seq_lens)
            return
        # Adapters may let many tokens share a position.
        rows = position_ids.split(list(seq_lens))
        guard.check([int(row.max()) + 1 for row in rows], "positions")

    def _run(
        self, inputs_embeds, position_ids, cu_seqlens, seq_lens, rows
    ) -> torch.Tensor:
        """Run the decoder in the layout that the attention wants."""
        one_axis = position_ids.dim() == 1
        if self._takes_ragged_rows and one_axis and few_shapes(inputs_embeds):
            from mmvlm.models.ops.cpu_kernels import RaggedRows

            layout = RaggedRows.of(seq_lens)
            if layout is not None:
                return self._forward_ragged(inputs_embeds, position_ids, layout, rows)
        if self.padded:
            return self._forward_padded(inputs_embeds, position_ids, seq_lens, rows)
        kwargs = segment_kwargs(cu_seqlens, seq_lens)
        if self.attention in _SEGMENTED:
            # A prepared 4-D mask keeps every version from building its own.
            kwargs["attention_mask"] = inputs_embeds.new_zeros(1, 1, 1, 1)
        else:
            del kwargs["segment_lengths"]
        kwargs.update(
            inputs_embeds=inputs_embeds[None], position_ids=position_ids[..., None, :]
        )
        if self.attention in _SEGMENTED:
            hidden = self._decode_segments(kwargs, rows)
        else:
            hidden = self._decode(kwargs, rows)
        return hidden[0] if rows is None else hidden[0].index_select(0, rows)

    def _decode(
        self, kwargs: dict[str, Any], rows: torch.Tensor | None
    ) -> torch.Tensor:
        """Run the decoder; ``rows`` (flat positions) are all that is read."""
        last = self._last_block
        if last is not None:
            last.rows = rows
        try:
            return self.decoder(use_cache=False, **kwargs)[0]
        finally:
            if last is not None:
                last.rows = None

    def _decode_segments(self, kwargs, rows) -> torch.Tensor:
        """Run the decoder and check that every layer kept samples apart."""
        with record_segment_calls() as calls:
            try:
                hidden = self._decode(kwargs, rows)
            except (TypeError, ValueError) as error:
                raise self._unsupported(str(error)) from error
        if not torch.compiler.is_compiling():
            expected = self.config.num_hidden_layers
            if len(calls) != expected:
                raise self._unsupported(
                    f"{len(calls)} of {expected} attention layers got the segments"
                )
        return hidden

    def _unsupported(self, why: str) -> RuntimeError:
        return RuntimeError(
            f"{type(self.model).__name__} cannot run with attention='segment' under "
            f"this transformers version ({why}); samples would see each other. Set "
            "language_model.attention='padded'."
        )

    def _forward_ragged(
        self, inputs_embeds, position_ids, layout: RaggedRows, rows
    ) -> torch.Tensor:
        """Run the decoder on rows that are padded inside attention only."""
        kwargs = layout.decoder_inputs(inputs_embeds, position_ids)
        hidden = self._decode_segments(kwargs, rows)[0]
        if rows is None:
            return hidden[: len(inputs_embeds)]
        return hidden.index_select(0, rows)

    def _forward_padded(
        self, inputs_embeds, position_ids, seq_lens, rows
    ) -> torch.Tensor:
        """Lay the samples out as a right-padded batch and back."""
        from .padding import RightPadding

        longest = None
        if self.attention == "batched" and few_shapes(inputs_embeds):
            longest = round_up(max(seq_lens), POSITIONS)
        layout = RightPadding.of(seq_lens, inputs_embeds.device, longest)
        kwargs = dict(
            inputs_embeds=layout.pad(inputs_embeds),
            attention_mask=layout.mask.long(),
            position_ids=position_ids[..., layout.source] * layout.mask,
        )
        decode = self._decode
        if self.attention == "batched":
            # What is filled up lies behind all that counts: causality is mask enough.
            kwargs["attention_mask"] = inputs_embeds.new_zeros(1, 1, 1, 1)
            kwargs["segment_lengths"] = (layout.mask.shape[1],) * len(seq_lens)
            decode = self._decode_segments
        wanted = layout.places if rows is None else layout.places[rows]
        hidden = decode(kwargs, None if rows is None else wanted)
        return hidden.flatten(0, 1).index_select(0, wanted)

    def logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Apply the head with the model's own scaling and soft cap.

        Shape:
            - ``hidden_states``: (R, Dl)
            - output: (R, vocab)
        """
        return apply_head(self.model, hidden_states)

    def complete_state(self, state: dict[str, torch.Tensor], prefix: str) -> list[str]:
        """Add the start of new rows and adapters that a checkpoint was made without."""
        if not any(key.startswith(f"{prefix}model.") for key in state):
            return []
        added = super().complete_state(state, prefix)
        for name, adapter in self.adapters.items():
            head = f"{prefix}adapters.{name}."
            if not any(key.startswith(head) for key in state):
                start = adapter.start_state(state, prefix)
                state.update({f"{head}{key}": value for key, value in start.items()})
                added.append(f"adapters.{name}")
        return added

    @torch.no_grad()
    def generate(
        self, inputs_embeds: torch.Tensor, seq_lens: tuple[int, ...], **kwargs: Any
    ) -> list[Generation]:
        """Continue every sample; return B replies (no prompt).

        Args:
            inputs_embeds (torch.Tensor): (T, Dl) flat prompts.
            seq_lens (tuple[int, ...]): their lengths.
            **kwargs: see :func:`generate_from_embeds`.
        """
        from .generation import generate_from_embeds

        if self.adapters:
            if kwargs.pop("share_prefix", False):
                raise ValueError(
                    "share_prefix: adapters see every prompt as a whole; set it False."
                )
            from .adapters.running import adapted_generation

            tokens = current_tokens(seq_lens, inputs_embeds.device)
            with adapted_generation(self, tokens):
                return generate_from_embeds(
                    *(self.model, inputs_embeds, seq_lens),
                    decoder=self.decoder,
                    **kwargs,
                )
        replies: dict[int, Generation] = {}
        pieces = inputs_embeds.split(list(seq_lens))
        for rows, options in self._within(seq_lens, kwargs):
            some = (torch.cat([pieces[n] for n in rows]), [seq_lens[n] for n in rows])
            found = generate_from_embeds(
                self.model, *some, decoder=self.decoder, **options
            )
            replies.update(zip(rows, found, strict=True))
        self.position_guard.check(
            [n + len(replies[row]) for row, n in enumerate(seq_lens)],
            "tokens of prompt and reply",
        )
        return [replies[row] for row in range(len(seq_lens))]

    def _within(
        self, seq_lens: tuple[int, ...], options: dict
    ) -> Iterator[tuple[list[int], dict]]:
        """Yield rows that reply together; learned positions end some before others.

        What has a hand in the steps counts the rows of the whole batch: all then end
        with the first.
        """
        guard, rows = self.position_guard, list(range(len(seq_lens)))
        if guard.limit is None or not guard.learned:
            yield rows, options
            return
        places = options.get("position_ids")
        if places is not None and places.dim() > 1:
            raise ValueError(
                f"{type(self.model).__name__}: its positions are learned, one for each "
                f"token, but those of the prompts have {len(places)} axes; take a "
                "language model whose positions have as many."
            )
        guard.check([n + 1 for n in seq_lens], "tokens of prompt and reply")
        wanted = options.get("max_new_tokens", 128)
        rooms = [min(wanted, guard.limit - n) for n in seq_lens]
        if options.get("on_step") is not None:
            rooms = [min(rooms)] * len(rooms)
        if cut := sum(room < wanted for room in rooms):
            print_log(
                f"{cut} of {len(rows)} replies end before max_new_tokens={wanted}, the "
                f"first after {min(rooms)}: the language model's {guard.limit} learned "
                "positions end there.",
                "current",
                logging.WARNING,
            )
        for room in sorted(set(rooms)):
            own = dict(options, max_new_tokens=room, position_ids=None)
            yield [row for row in rows if rooms[row] == room], own

    @classmethod
    def tiny(cls, **overrides: Any) -> HFCausalLM:
        """Build a random Llama of two layers, 48 wide, 128 tokens."""
        config = dict(
            model_type="llama",
            vocab_size=128,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=False,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=None,
        )
        options = {k: overrides.pop(k) for k in list(overrides) if k in _OPTIONS}
        return cls(config={**config, **overrides}, **options)


_OPTIONS = frozenset(
    "torch_dtype attention gradient_checkpointing adapters lora quantization "
    "new_tokens num_new_tokens".split()
)
