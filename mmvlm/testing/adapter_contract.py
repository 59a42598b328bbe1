"""What every adapter of a language model promises, as checks that run on any class.

``tests/`` runs them on all registered adapters; an extension package may run them
on its own::

    for check in ADAPTER_CHECKS.values():
        check(MyAdapter)
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

from mmvlm.models.language_models.adapters.base import LanguageModelAdapter
from mmvlm.models.language_models.adapters.running import adapted_generation
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.language_models.padding import left_pad
from mmvlm.models.utils.token_context import FlatTokens, use_tokens
from mmvlm.models.utils.token_types import IMAGE, TEXT
from mmvlm.registry import MODELS

MEDIA_WIDTH = 32
#: 1 text, 2 image: one image, no image, two images, an image first.
SAMPLES = (
    (1, 1, 2, 2, 2, 1, 1),
    (1, 1, 1),
    (1, 2, 2, 1, 2, 2, 2, 1, 1),
    (2, 2, 1, 1, 1),
)
#: The same for systems whose images take one position each.
SINGLE = ((1, 1, 2, 1, 1), (1, 1, 1), (1, 2, 1, 2, 1, 1), (2, 1, 1))


def adapter_classes() -> dict[str, type[LanguageModelAdapter]]:
    """All registered adapters by name, also those of the current test."""
    return {
        name: cls
        for name, cls in MODELS.module_dict.items()
        if isinstance(cls, type) and issubclass(cls, LanguageModelAdapter)
    }


def build(
    cls: type[LanguageModelAdapter], adapter: Any = None, **options: Any
) -> HFCausalLM:
    """Build a tiny language model with the adapter, no parameter left at zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        adapter = adapter or cls.tiny()
        model = HFCausalLM.tiny(adapters=[adapter], **options)
        shake(model)
    return model.eval()


def shake(model: HFCausalLM, scale: float = 0.1) -> None:
    """Move the adapters' parameters, so that closed gates open."""
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)


def make_tokens(
    cls: type[LanguageModelAdapter], samples: Any = None, seed: int = 1
) -> tuple[FlatTokens, torch.Tensor]:
    """Return tokens of a batch, with media for adapters that take them, and ids."""
    samples = samples or (SINGLE if cls.takes_media else SAMPLES)
    generator = torch.Generator().manual_seed(seed)
    types = torch.tensor([kind for sample in samples for kind in sample])
    ids = torch.randint(3, 100, types.shape, generator=generator)
    media = owner = None
    if cls.takes_media:
        owner = torch.tensor(
            [n for n, sample in enumerate(samples) for kind in sample if kind == IMAGE],
            dtype=torch.int64,
        )
        media = torch.randn(len(owner), 3, MEDIA_WIDTH, generator=generator)
    return FlatTokens(types, tuple(len(s) for s in samples), media, owner), ids


def run(model: HFCausalLM, tokens: FlatTokens, embeds: torch.Tensor) -> torch.Tensor:
    """Run the decoder on flat embeddings: (T, Dl)."""
    lengths = torch.tensor(tokens.seq_lens)
    positions = torch.cat([torch.arange(n) for n in tokens.seq_lens])
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()
    with use_tokens(tokens):
        return model(embeds, positions, offsets, tokens.seq_lens)


def _one(tokens: FlatTokens, sample: int) -> FlatTokens:
    types = tokens.types.split(tokens.seq_lens)[sample]
    media = owner = None
    if tokens.media is not None:
        mine = tokens.media_owner == sample
        media, owner = tokens.media[mine], tokens.media_owner[mine] * 0
    return FlatTokens(types, (len(types),), media, owner)


def _longer(tokens: FlatTokens, extra: int) -> FlatTokens:
    pieces = tokens.types.split(tokens.seq_lens)
    more = torch.full((extra,), TEXT)
    types = torch.cat([torch.cat([piece, more]) for piece in pieces])
    lengths = tuple(n + extra for n in tokens.seq_lens)
    return FlatTokens(types, lengths, tokens.media, tokens.media_owner)


def _expect(condition: Any, cls: type, message: str) -> None:
    if not condition:
        raise AssertionError(f"{cls.__name__}: {message}")


def _close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-4)


def check_is_found_by_name(cls: type[LanguageModelAdapter]) -> None:
    """The registry knows the class, and its name says what it is."""
    _expect(MODELS.get(cls.__name__) is cls, cls, "registered name is not class name")
    _expect(cls.__name__.endswith("Adapter"), cls, "name must end in 'Adapter'")


def check_images_matter(cls: type[LanguageModelAdapter]) -> None:
    """The adapter changes what the model says of samples with images."""
    model, (tokens, ids) = build(cls), make_tokens(cls)
    plain = HFCausalLM.tiny()
    plain.model.load_state_dict(model.model.state_dict())
    with torch.no_grad():
        embeds = model.embed(ids)
        changed = run(model, tokens, embeds) - run(plain.eval(), tokens, embeds)
    _expect(changed[: tokens.seq_lens[0]].abs().max() > 1e-3, cls, "changes nothing")


def check_layouts_agree(cls: type[LanguageModelAdapter]) -> None:
    """Flat, padded, and each sample alone give the same hidden states."""
    model, (tokens, ids) = build(cls), make_tokens(cls)
    padded = build(cls, attention="padded")
    padded.load_state_dict(model.state_dict())
    with torch.no_grad():
        embeds = model.embed(ids)
        flat = run(model, tokens, embeds)
        _close(run(padded, tokens, embeds), flat)
        for sample, piece in enumerate(embeds.split(tokens.seq_lens)):
            alone = run(model, _one(tokens, sample), piece)
            _close(alone, flat.split(tokens.seq_lens)[sample])


def check_generation_equals_the_full_sequence(cls: type[LanguageModelAdapter]) -> None:
    """Logits of cached, left-padded generation are those of the whole sequence."""
    for attention in ("segment", "padded"):
        model, (tokens, ids) = build(cls, attention=attention), make_tokens(cls)
        with torch.no_grad():
            embeds = model.embed(ids)
            batch, mask = left_pad(embeds, tokens.seq_lens)
            with use_tokens(tokens), adapted_generation(model, tokens):
                out = model.model.generate(
                    inputs_embeds=batch, attention_mask=mask, max_new_tokens=4,
                    do_sample=False, output_logits=True, eos_token_id=None,
                    return_dict_in_generate=True, pad_token_id=0,
                )  # fmt: skip
            new = model.embed(out.sequences)
            pieces = zip(embeds.split(tokens.seq_lens), new, strict=True)
            whole = torch.cat([torch.cat(pair) for pair in pieces])
            longer = _longer(tokens, 4)
            hidden = run(model, longer, whole).split(longer.seq_lens)
        for sample, length in enumerate(tokens.seq_lens):
            wanted = model.logits(hidden[sample][length - 1 : length + 3])
            _close(torch.stack([step[sample] for step in out.logits]), wanted)


def check_beams_are_the_sample_s_own(cls: type[LanguageModelAdapter]) -> None:
    """Beam search of a batch gives what each sample gives alone."""
    model, (tokens, ids) = build(cls), make_tokens(cls)
    options = dict(num_beams=3, max_new_tokens=3, stop_ids=())
    embeds = model.embed(ids)
    with use_tokens(tokens):
        together = model.generate(embeds, tokens.seq_lens, **options)
    for sample, piece in enumerate(embeds.split(tokens.seq_lens)):
        one = _one(tokens, sample)
        with use_tokens(one):
            alone = model.generate(piece, one.seq_lens, **options)[0]
        _expect(
            torch.equal(alone.ids, together[sample].ids),
            cls,
            f"sample {sample} differs",
        )


def check_later_tokens_change_nothing(cls: type[LanguageModelAdapter]) -> None:
    """A position's output does not depend on what follows it."""
    model, (tokens, ids) = build(cls), make_tokens(cls)
    tokens, ids = _one(tokens, 2), ids.split(tokens.seq_lens)[2]
    with torch.no_grad():
        embeds = model.embed(ids)
        before = run(model, tokens, embeds)
        for cut in range(1, len(ids)):
            changed = embeds.clone()
            changed[cut:] = torch.randn_like(changed[cut:])
            _close(run(model, tokens, changed)[:cut], before[:cut])


def check_gradients_and_checkpointing(cls: type[LanguageModelAdapter]) -> None:
    """Every parameter learns; recomputed blocks give the same gradients."""
    grads = []
    for mode in ("off", "all"):
        model = build(cls, gradient_checkpointing=mode)
        _no_dropout(model.train())
        tokens, ids = make_tokens(cls)
        out = run(model, tokens, model.embed(ids))
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        grads.append({n: p.grad for n, p in model.adapters.named_parameters()})
        for name, grad in grads[-1].items():
            _expect(grad is not None and grad.any(), cls, f"no gradient to '{name}'")
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, msg=lambda m, n=name: n + m)


def _no_dropout(model: torch.nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def check_text_only_batches(cls: type[LanguageModelAdapter]) -> None:
    """Without images every parameter stays in the graph (for sharded training)."""
    model = build(cls).train()
    samples = ((1, 1, 1), (1, 1))
    tokens, ids = make_tokens(cls, samples)
    run(model, tokens, model.embed(ids)).sum().backward()
    for name, parameter in model.adapters.named_parameters():
        _expect(parameter.grad is not None, cls, f"'{name}' left the graph")


def check_keys_of_the_model_stay(cls: type[LanguageModelAdapter]) -> None:
    """The decoder keeps its keys; the adapter's are below its own name."""
    model, plain = build(cls), HFCausalLM.tiny()
    adapter = next(iter(model.adapters))
    extra = set(model.state_dict()) - set(plain.state_dict())
    _expect(set(plain.state_dict()) <= set(model.state_dict()), cls, "keys are lost")
    odd = [key for key in extra if not key.startswith(f"adapters.{adapter}.")]
    _expect(not odd, cls, f"keys elsewhere: {odd[:3]}")


def check_copies_are_independent(cls: type[LanguageModelAdapter]) -> None:
    """A deep copy computes with its own parameters."""
    model, (tokens, ids) = build(cls), make_tokens(cls)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        embeds = model.embed(ids)
        before = run(model, tokens, embeds)
        _expect(torch.equal(run(twin, tokens, embeds), before), cls, "copy differs")
        if not list(model.adapters.parameters()):
            return
        shake(twin, 0.5)
        _expect(torch.equal(run(model, tokens, embeds), before), cls, "copy is tied")
        _expect(not torch.equal(run(twin, tokens, embeds), before), cls, "copy is dead")


def check_bfloat16(cls: type[LanguageModelAdapter]) -> None:
    """bfloat16 works and stays near float32."""
    model, (tokens, ids) = build(cls), make_tokens(cls)
    with torch.no_grad():
        wanted = run(model, tokens, model.embed(ids))
        half = model.to(torch.bfloat16)
        got = run(half, tokens, half.embed(ids))
    _expect(got.dtype == torch.bfloat16, cls, f"output is {got.dtype}")
    error = (got.float() - wanted).abs().max() / wanted.abs().max()
    _expect(error < 0.06, cls, f"bfloat16 is off by {error.item():.3f}")


ADAPTER_CHECKS: dict[str, Callable[[type[LanguageModelAdapter]], Any]] = {
    name.removeprefix("check_"): function
    for name, function in list(globals().items())
    if name.startswith("check_")
}
