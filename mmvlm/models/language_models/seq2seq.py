"""Any encoder-decoder of transformers: prompts in one stream, answers in the other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from mmvlm.models.utils.checkpointing import checkpoint_blocks
from mmvlm.models.utils.hf_loading import build_language_model
from mmvlm.registry import MODELS

from .base import LanguageModel
from .context_length import PositionGuard, num_positions
from .generation import decoder_start, generate_from_embeds
from .generation_steps import Generation
from .padding import RightPadding
from .peft import add_lora, keep_plain_keys, quantize_linears

if TYPE_CHECKING:
    from mmvlm.structures import TokenStream


@MODELS.register_module()
class Seq2SeqLM(LanguageModel):
    """A transformers encoder-decoder (T5, UL2, BART, ...) from a path or a config.

    Images and questions stand in the encoder's stream, the answer in the decoder's.
    Each sample of the latter begins with a position for the token that opens the
    decoder's input, whose id the model puts in itself, so that as in any stream a
    position predicts the token behind it. Streams are flat outside and right-padded
    inside.

    Args:
        name_or_path (str | None): folder or hub name; None builds random weights from
            ``config``.
        config (dict | None): transformers config with ``model_type``. With a path it
            must agree with the widths found there; on the ``meta`` device it alone is
            used.
        torch_dtype (str | None): dtype of the weights; None keeps that of the file,
            float32 for random weights.
        gradient_checkpointing (str | int): ``off``, ``all`` or every k-th block of
            encoder and decoder.
        lora (dict | None): see :func:`add_lora`.
        quantization (dict | None): see :func:`quantize_linears`.
        new_tokens (dict | None): see :class:`NewTokens`.
        trust_remote_code (bool): run model code from the hub.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for a config that is no encoder-decoder or names no token that
            opens a reply.

    Example:
        >>> model = Seq2SeqLM.tiny()
        >>> question = model.embed(torch.tensor([3, 4, 5, 1]))
        >>> len(model.generate(question, (4,), max_new_tokens=2, stop_ids=[])[0])
        2
    """

    is_encoder_decoder = True

    def __init__(
        self,
        name_or_path: str | None = None,
        config: dict | None = None,
        *,
        torch_dtype: str | None = None,
        gradient_checkpointing: str | int = "off",
        lora: dict | None = None,
        quantization: dict | None = None,
        new_tokens: dict | None = None,
        trust_remote_code: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.model = build_language_model(
            "AutoModelForSeq2SeqLM",
            name_or_path,
            config,
            torch_dtype=torch_dtype,
            trust_remote_code=trust_remote_code,
        )
        self.start_id = decoder_start(self.model)
        self.grow_tables(new_tokens)
        if quantization:
            quantize_linears(self.model, **quantization)
        self.lora = dict(lora) if lora else None
        if lora:
            add_lora(self.model, **lora)
            keep_plain_keys(self)
        self.train_new_tokens()
        limit = num_positions(self.config)
        self.position_guard = PositionGuard(limit, learned=True)
        checkpoint_blocks(self.blocks, gradient_checkpointing)

    @property
    def config(self) -> Any:
        """The transformers config."""
        return self.model.config

    @property
    def encoder(self) -> torch.nn.Module:
        """What reads the prompts."""
        return self.model.get_encoder()

    @property
    def decoder(self) -> torch.nn.Module:
        """What writes the answers, without the head."""
        return self.model.get_decoder()

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """Blocks of the encoder, then of the decoder."""
        stacks = (self.encoder, self.decoder)
        lists = [getattr(s, "block", None) or s.layers for s in stacks]
        return [block for blocks in lists for block in blocks]

    @property
    def width(self) -> int:
        """Channels of the input embeddings (Dl)."""
        return self.encoder.get_input_embeddings().embedding_dim

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table."""
        return self.encoder.get_input_embeddings().num_embeddings

    def init_weights(self) -> None:
        """Do nothing: weights are loaded or drawn in the constructor."""
        self.is_init = True

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embed ids as the encoder does.

        Shape:
            - ``input_ids``: (T,), int64
            - output: (T, Dl)
        """
        return self.encoder.get_input_embeddings()(input_ids)

    def hidden_states(
        self,
        inputs_embeds: torch.Tensor,
        prompt: TokenStream,
        text: TokenStream,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Run encoder and decoder; see :meth:`LanguageModel.hidden_states`."""
        return self(inputs_embeds, prompt, text, rows)

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        prompt: TokenStream,
        text: TokenStream,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Run the encoder over the prompts and the decoder over the answers.

        Shape:
            - ``inputs_embeds``: (Tp, Dl), what the encoder reads
            - ``prompt.seq_lens``, ``text.seq_lens``: B host integers
            - ``text.input_ids``: (T,), the first of every sample is not read
            - ``rows``: (R,), int64, flat positions of the decoder's stream
            - output: (T, Dl), or (R, Dl) with ``rows``

        Raises:
            ValueError: for samples that are longer than the model's positions.
        """
        self.position_guard.check([*prompt.seq_lens, *text.seq_lens])
        device = inputs_embeds.device
        read = RightPadding.of(prompt.seq_lens, device)
        written = RightPadding.of(text.seq_lens, device)
        mask = read.mask.long()
        states = self.encoder(
            inputs_embeds=read.pad(inputs_embeds), attention_mask=mask
        )
        # Some models count positions of what is not padding.
        padding = self.config.pad_token_id or 0
        ids = text.input_ids[written.source].masked_fill(~written.mask, padding)
        ids[:, 0] = self.start_id
        hidden = self.decoder(
            input_ids=ids,
            attention_mask=written.mask.long(),
            encoder_hidden_states=states[0],
            encoder_attention_mask=mask,
            use_cache=False,
        )[0]
        places = written.places if rows is None else written.places[rows]
        return hidden.flatten(0, 1).index_select(0, places)

    def logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Apply the head with the model's own scaling and bias.

        Shape:
            - ``hidden_states``: (R, Dl)
            - output: (R, vocab)
        """
        states = hidden_states[None]
        # Every model has its own arithmetic behind the decoder.
        with _decoder_gives(self.decoder, states):
            return self.model(
                encoder_outputs=(states,), decoder_inputs_embeds=states, use_cache=False
            ).logits[0]

    @torch.no_grad()
    def generate(
        self, inputs_embeds: torch.Tensor, seq_lens: tuple[int, ...], **kwargs: Any
    ) -> list[Generation]:
        """Answer every prompt; return B replies.

        Args:
            inputs_embeds (torch.Tensor): (T, Dl), flat prompts for the encoder.
            seq_lens (tuple[int, ...]): their lengths.
            **kwargs: see :func:`generate_from_embeds`.
        """
        wanted = kwargs.get("max_new_tokens", 128)
        self.position_guard.check(seq_lens, "tokens of a prompt")
        self.position_guard.check([wanted], "max_new_tokens")
        return generate_from_embeds(
            self.model, inputs_embeds, seq_lens, decoder=self.decoder, **kwargs
        )

    @classmethod
    def tiny(cls, **overrides: Any) -> Seq2SeqLM:
        """Build a random T5 of two layers, 48 wide, 128 tokens."""
        config = dict(
            model_type="t5",
            vocab_size=128,
            d_model=48,
            d_kv=12,
            d_ff=96,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
        )
        options = {k: overrides.pop(k) for k in list(overrides) if k in _OPTIONS}
        return cls(config={**config, **overrides}, **options)


_OPTIONS = frozenset(
    "torch_dtype gradient_checkpointing lora quantization new_tokens".split()
)


@contextlib.contextmanager
def _decoder_gives(decoder: torch.nn.Module, states: torch.Tensor) -> Iterator[None]:
    """Let a decoder give these states (1, R, Dl) without computing."""
    from transformers.modeling_outputs import (
        BaseModelOutputWithPastAndCrossAttentions as Output,
    )

    decoder.forward = lambda *args, **kwargs: Output(last_hidden_state=states)
    try:
        yield
    finally:
        del decoder.forward
