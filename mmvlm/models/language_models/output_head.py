"""The head of transformers' causal language models, with its own arithmetic."""

from __future__ import annotations

import torch

# Head arithmetic that apply_head implements; any other field of this kind is refused.
_HEAD_FIELDS = {"logit_scale", "logits_scaling", "final_logit_softcapping"}
_HEAD_WORDS = ("logit_", "logits_", "lm_head_mult", "output_mult", "mup_")


def check_head(model: torch.nn.Module) -> None:
    """Refuse a model whose config names head arithmetic that we do not apply."""
    odd = [
        name
        for name, value in model.config.to_dict().items()
        if any(word in name for word in _HEAD_WORDS)
        and name not in _HEAD_FIELDS | {"attn_logit_softcapping", "logits_to_keep"}
        and value not in (None, 1, 1.0, False)
    ]
    if odd:
        raise ValueError(
            f"{type(model).__name__}: config fields {odd} change the logits in a way "
            "that HFCausalLM.logits does not implement."
        )
    if model.get_output_embeddings() is None:
        raise ValueError(f"{type(model).__name__} has no language-model head.")


def apply_head(model: torch.nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
    """Apply the head with the model's own scaling and soft cap.

    Shape:
        - ``hidden_states``: (R, Dl)
        - output: (R, vocab)
    """
    config = model.config
    logits = model.get_output_embeddings()(hidden_states)
    if (scale := getattr(config, "logit_scale", None)) is not None:
        logits = logits * scale
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / divisor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits
