"""Names of a Q-Former's weights: LAVIS (and MiniGPT-4), transformers, ours.

Ours are those of :class:`QFormerConnector`, without the part's name:
``ln_vision.*``, ``query_tokens``, ``qformer.*``, ``proj.*``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import torch

Style = Literal["lavis", "hf"]
STYLES: tuple[Style, ...] = ("lavis", "hf")
#: Name of the projection in LAVIS-style files, by system.
PROJECTIONS = ("llama_proj", "llm_proj", "opt_proj", "t5_proj")

#: (pattern, replacement) from a file's name to ours; the first that fits wins.
_TO_OURS: dict[str, tuple[tuple[str, str], ...]] = {
    "lavis": (
        (r"Qformer\.bert\.embeddings\.LayerNorm\.(.*)", r"qformer.{norm}.\1"),
        (
            r"Qformer\.bert\.(.*\.(?:cross)?attention)\.self\.(.*)",
            r"qformer.\1.attention.\2",
        ),
        (r"Qformer\.bert\.(.*)", r"qformer.\1"),
        (rf"(?:{'|'.join(PROJECTIONS)})\.(.*)", r"proj.\1"),
    ),
    "hf": (
        (r"vision_model\.post_layernorm\.(.*)", r"ln_vision.\1"),
        (r"language_projection\.(.*)", r"proj.\1"),
    ),
}
_FROM_OURS: dict[str, tuple[tuple[str, str], ...]] = {
    "lavis": (
        (
            r"qformer\.(?:embeddings\.)?layernorm\.(.*)",
            r"Qformer.bert.embeddings.LayerNorm.\1",
        ),
        (
            r"qformer\.(.*\.(?:cross)?attention)\.attention\.(.*)",
            r"Qformer.bert.\1.self.\2",
        ),
        (r"qformer\.(.*)", r"Qformer.bert.\1"),
        (r"proj\.(.*)", r"{projection}.\1"),
    ),
    "hf": (
        (r"ln_vision\.(.*)", r"vision_model.post_layernorm.\1"),
        (r"proj\.(.*)", r"language_projection.\1"),
    ),
}
#: What a Q-Former that reads no text does without.
_TEXT = re.compile(
    r"qformer\.(embeddings\.(word|position)_embeddings\.|"
    r"encoder\.layer\.\d+\.(intermediate|output)\.)"
)
#: Derived values, and the heads of stage 1.
_UNUSED = re.compile(r".*\.position_ids$|qformer\.cls\.|Qformer\.cls\.")
_OURS = ("ln_vision.", "query_tokens", "qformer.", "proj.")


def style_of(keys: Iterable[str], source: str = "checkpoint") -> Style:
    """Return which names a file uses.

    Raises:
        ValueError: when it holds no Q-Former and no projection.
    """
    keys = list(keys)
    lavis = ("Qformer.", "ln_vision.", *(f"{name}." for name in PROJECTIONS))
    if any(key.startswith(lavis) for key in keys):
        return "lavis"
    if any(key.startswith(("qformer.", "language_projection.")) for key in keys):
        return "hf"
    raise ValueError(
        f"{source}: neither LAVIS's names (Qformer.bert.*, query_tokens, "
        "llama_proj.*) nor transformers' (qformer.*, query_tokens, "
        f"language_projection.*). First keys: {keys[:5]}."
    )


def to_ours(
    state: Mapping[str, torch.Tensor],
    style: Style,
    *,
    instruction_aware: bool,
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Rename a file's weights to ours.

    Args:
        state (Mapping): weights of a file; what is neither Q-Former, vision norm
            nor projection (towers) is passed over.
        style (str): ``lavis`` or ``hf``.
        instruction_aware (bool): False leaves the text half out.

    Returns:
        tuple: our names to tensors, and the names of what was left out.
    """
    norm = "embeddings.layernorm" if instruction_aware else "layernorm"
    renamed, left_out = {}, []
    for key, tensor in state.items():
        name = _rename(key, _TO_OURS[style]).replace("{norm}", norm)
        text = not instruction_aware and _TEXT.match(name)
        if not name.startswith(_OURS) or _UNUSED.match(name) or text:
            left_out.append(key)
        else:
            renamed[name] = tensor
    return renamed, left_out


def from_ours(
    state: Mapping[str, torch.Tensor], style: Style, projection: str = "llama_proj"
) -> dict[str, torch.Tensor]:
    """Rename our weights to a file's names.

    Args:
        state (Mapping): state dict of a ``QFormerConnector``.
        style (str): ``lavis`` or ``hf``.
        projection (str): name of the projection in LAVIS style.
    """
    return {
        _rename(key, _FROM_OURS[style]).replace("{projection}", projection): tensor
        for key, tensor in state.items()
    }


def _rename(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        found = re.fullmatch(pattern, key)
        if found:
            return found.expand(replacement)
    return key
