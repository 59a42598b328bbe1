"""Causal language models of decoders that transformers ships without a head alone."""

from __future__ import annotations

import functools
from typing import Any, ClassVar


def text_config(config: Any) -> Any:
    """Return the text half of the config of a vision-language model."""
    own = getattr(config, "text_config", None)
    if own is None:
        return config
    own.tie_word_embeddings = config.tie_word_embeddings
    return own


@functools.cache
def headed_class(config_class: type) -> type:
    """Return a causal LM around the decoder of a config.

    Its weights have the names that they have in the whole model, whose checkpoints so
    fit; those of a vision tower are left out.
    """
    import torch
    from transformers import MODEL_MAPPING, GenerationMixin, LlamaForCausalLM
    from transformers.modeling_outputs import CausalLMOutputWithPast

    decoder_class = MODEL_MAPPING[config_class]

    class HeadedDecoder(decoder_class.__bases__[0], GenerationMixin):
        base_model_prefix = "model"
        # The same names, in the form of this transformers version.
        _tied_weights_keys = LlamaForCausalLM._tied_weights_keys
        _keys_to_ignore_on_load_unexpected: ClassVar = [r"^(model\.)?visual\."]

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.model = decoder_class(config)
            self.lm_head = torch.nn.Linear(
                config.hidden_size, config.vocab_size, bias=False
            )
            self.post_init()

        def get_output_embeddings(self) -> torch.nn.Module:
            return self.lm_head

        def set_output_embeddings(self, head: torch.nn.Module) -> None:
            self.lm_head = head

        def forward(
            self,
            input_ids: torch.Tensor | None = None,
            attention_mask: torch.Tensor | None = None,
            position_ids: torch.Tensor | None = None,
            inputs_embeds: torch.Tensor | None = None,
            logits_to_keep: int = 0,
            **kwargs: Any,
        ) -> CausalLMOutputWithPast:
            out = self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                inputs_embeds=inputs_embeds,
                **kwargs,
            )
            logits = self.lm_head(out[0][:, -logits_to_keep:])
            return CausalLMOutputWithPast(
                logits=logits, past_key_values=out.get("past_key_values")
            )

    HeadedDecoder.__name__ = f"{decoder_class.__name__}ForCausalLM"
    return HeadedDecoder
