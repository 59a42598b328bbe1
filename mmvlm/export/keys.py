"""Names of the same weight in each checkpoint layout, as tables of prefixes.

Every layout maps its keys to one canonical name, ours included, so that two
layouts meet without a table per pair: ``vision_encoder.<tower key>``,
``connector.<linear number>.<weight|bias>``, ``connector.fuser.<key>`` for what
stands before the linear layers, ``connector.image_newline``,
``language_model.<causal LM key>``.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from mmvlm.registry import MODELS

PARTS = ("vision_encoder", "connector", "language_model")
#: Values that a model computes from its config; older files hold them.
DERIVED = (".rotary_emb.inv_freq", "embeddings.position_ids")
#: Linear layers of an MLP connector that the tables name.
MAX_DEPTH = 8
_VISION, _LM = "vision_encoder.", "language_model."


def _sequential(prefix: str, first: int = 0) -> dict[str, str]:
    """Linear layers of ``Sequential(Linear, GELU, Linear, ...)``: 0, 2, 4, ..."""
    return {f"{prefix}{first + 2 * i}.": f"connector.{i}." for i in range(MAX_DEPTH)}


@dataclass(frozen=True)
class Layout:
    """Key prefixes of one kind of checkpoint; the longest that fits wins.

    Args:
        name (str): for messages.
        prefixes (dict[str, str]): prefix in the file -> canonical prefix.
        marks (tuple[str, ...]): prefixes of which a file of this layout holds
            at least one, and a file of another layout none.
        needed (tuple[str, ...]): canonical names that every such file has.
        parts (str): attribute by which registered classes without marks of their
            own add prefixes.
    """

    name: str
    prefixes: Mapping[str, str]
    marks: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    parts: str = ""

    @functools.cached_property
    def table(self) -> dict[str, str]:
        """The prefixes, those of parts first."""
        kinds = MODELS.module_dict.values() if self.parts else ()
        added = [
            getattr(kind, self.parts, {})
            for kind in kinds
            if not hasattr(kind, "official_marks")
        ]
        own = {k: v for table in added for k, v in table.items()}
        return {**own, **self.prefixes}

    def canonical(self, key: str) -> str | None:
        """Return the canonical name of ``key``, None when no prefix fits."""
        fitting = [prefix for prefix in self.table if key.startswith(prefix)]
        if not fitting:
            return None
        prefix = max(fitting, key=len)
        return self.table[prefix] + key[len(prefix) :]

    def fit(self, name: str) -> int:
        """Return how much of a canonical name the layout's prefixes tell."""
        fitting = [ours for ours in self.table.values() if name.startswith(ours)]
        return max(map(len, fitting), default=0)

    def key(self, name: str) -> str | None:
        """Return the key of a canonical name, None when the layout has none.

        Where several prefixes fit, the first of the table is written.
        """
        for prefix, ours in self.table.items():
            if name.startswith(ours):
                return prefix + name[len(ours) :]
        return None


_LM_KEYS = {
    f"{part}.": f"{_LM}{part}."
    for part in ("model.embed_tokens", "model.layers", "model.norm", "lm_head")
}
#: Official LLaVA: a causal LM with the tower and the projector inside. Parts that
#: other members of its family add say their own names (``official_keys``).
LLAVA = Layout(
    "official LLaVA",
    {
        "model.vision_tower.vision_tower.vision_model.": _VISION,
        "model.vision_tower.vision_tower.": _VISION,
        **_LM_KEYS,
        **_sequential("model.mm_projector."),
        "model.mm_projector.weight": "connector.0.weight",
        "model.mm_projector.bias": "connector.0.bias",
        "model.image_newline": "connector.image_newline",
    },
    marks=("model.mm_projector.", "model.vision_tower.vision_tower."),
    parts="official_keys",
)
#: transformers up to 4.51, and what later versions still write to disk.
HF_NESTED = Layout(
    "transformers LLaVA (4.48 layout)",
    {
        "vision_tower.vision_model.": _VISION,
        "vision_tower.": _VISION,
        "multi_modal_projector.linear_1.": "connector.0.",
        "multi_modal_projector.linear_2.": "connector.1.",
        "image_newline": "connector.image_newline",
        "language_model.": _LM,
    },
    marks=("vision_tower.", "multi_modal_projector.", "language_model.model."),
)
#: transformers from 4.52 in memory.
HF_FLAT = Layout(
    "transformers LLaVA (4.52 layout)",
    {
        "model.vision_tower.vision_model.": _VISION,
        "model.vision_tower.": _VISION,
        "model.multi_modal_projector.linear_1.": "connector.0.",
        "model.multi_modal_projector.linear_2.": "connector.1.",
        "model.image_newline": "connector.image_newline",
        "model.language_model.": f"{_LM}model.",
        "lm_head.": f"{_LM}lm_head.",
    },
    marks=("model.multi_modal_projector.", "model.language_model."),
)
#: A bare causal LM of transformers, the base of a LoRA checkpoint.
CAUSAL_LM = Layout(
    "transformers causal LM", {"model.": f"{_LM}model.", "lm_head.": f"{_LM}lm_head."}
)
#: Ours.
OURS = Layout(
    "mmvlm",
    {
        "vision_encoder.vision_model.": _VISION,
        "vision_encoder.encoder.vision_model.": _VISION,  # inside S2
        "vision_encoder.low.vision_model.": _VISION,  # beside a ConvNeXt
        **{f"{_VISION}{n}.": f"{_VISION}{n}." for n in ("high", "adapters", "align")},
        **{f"{_VISION}encoder.{n}.": f"{_VISION}{n}." for n in ("stem", "stages")},
        **_sequential("connector.proj."),
        "connector.proj.weight": "connector.0.weight",
        "connector.proj.bias": "connector.0.bias",
        **_sequential("connector.projector.proj."),
        "connector.projector.proj.weight": "connector.0.weight",
        "connector.projector.proj.bias": "connector.0.bias",
        "connector.fuser.": "connector.fuser.",
        # Inside AnyResConnector.
        **_sequential("connector.connector.proj."),
        "connector.connector.proj.weight": "connector.0.weight",
        "connector.connector.proj.bias": "connector.0.bias",
        "connector.image_newline": "connector.image_newline",
        "language_model.model.": _LM,
    },
    marks=("vision_encoder.", "connector.", "language_model.model.model."),
)


@functools.cache
def layout_of(kind: type) -> Layout:
    """Return the official layout of models with a part that marks their files.

    Args:
        kind (type): a registered class with ``official_marks``.
    """
    own = kind.official_keys
    shared = {k: v for k, v in LLAVA.prefixes.items() if v not in own.values()}
    needed = getattr(kind, "official_weights", ())
    name = f"official {kind.__name__}"
    return Layout(name, {**own, **shared}, kind.official_marks, needed=needed)


def official_layouts() -> list[Layout]:
    """Return the layouts of LLaVA's family, the plain one first."""
    kinds = MODELS.module_dict.values()
    return [LLAVA, *(layout_of(k) for k in kinds if hasattr(k, "official_marks"))]


def official_layout(keys: Iterable[str]) -> Layout:
    """Return which layout of LLaVA's family official keys are in."""
    keys = list(keys)
    for layout in official_layouts()[1:]:
        if any(key.startswith(layout.marks) for key in keys):
            return layout
    return LLAVA


def detect_layout(keys: Iterable[str], source: str = "checkpoint") -> Layout:
    """Find the layout that a checkpoint was written in.

    Raises:
        ValueError: when no layout, or more than one, has its marks in ``keys``.
    """
    keys = list(keys)
    found = [
        layout
        for layout in (LLAVA, HF_NESTED, HF_FLAT, OURS)
        if any(key.startswith(layout.marks) for key in keys)
    ]
    if len(found) != 1:
        known = "; ".join(f"{x.name}: {x.marks}" for x in (LLAVA, HF_NESTED, HF_FLAT))
        raise ValueError(
            f"{source}: its keys fit {[x.name for x in found] or 'no known layout'}, "
            f"expected exactly one of {known}. First keys: {keys[:5]}."
        )
    return found[0]


def to_canonical(
    state: Mapping[str, torch.Tensor], layout: Layout, source: str = "checkpoint"
) -> dict[str, torch.Tensor]:
    """Rename a state dict to canonical names.

    Tensors that a model derives from its config (``DERIVED``) are left out.

    Raises:
        ValueError: listing the keys that the layout does not know, or two keys
            that mean the same weight.
    """
    renamed: dict[str, torch.Tensor] = {}
    origin: dict[str, str] = {}
    unknown = []
    for key, tensor in state.items():
        if key.endswith(DERIVED):
            continue
        name = layout.canonical(key)
        if name is None:
            unknown.append(key)
        elif name in renamed:
            raise ValueError(
                f"{source}: '{origin[name]}' and '{key}' are the same weight "
                f"'{name}' of the layout '{layout.name}'."
            )
        else:
            renamed[name], origin[name] = tensor, key
    if unknown:
        raise ValueError(
            f"{source}: {len(unknown)} keys that the layout '{layout.name}' does not "
            f"know: {_some(unknown)}. Expected prefixes: {sorted(layout.table)}."
        )
    return renamed


def from_canonical(
    state: Mapping[str, torch.Tensor],
    target: Mapping[str, torch.Tensor],
    layout: Layout,
    *,
    parts: Iterable[str] = PARTS,
    only: Callable[[str], bool] | None = None,
    optional: Iterable[str] = (),
    source: str = "checkpoint",
) -> dict[str, torch.Tensor]:
    """Rename canonical weights to the keys of a model, strict both ways.

    Args:
        state (dict): canonical weights.
        target (dict): the model's own state dict (its tensors may be on
            ``meta``); gives key names and shapes.
        layout (Layout): the layout of ``target``.
        parts (Iterable[str]): parts that must be complete; others must be absent.
        only (Callable | None): narrows further which canonical names count, such
            as adapters without their base.
        optional (Iterable[str]): canonical names that ``state`` may lack, such
            as a head that is tied to the embedding.
        source (str): for messages.

    Returns:
        dict[str, torch.Tensor]: key of ``target`` -> tensor of ``state``.

    Raises:
        ValueError: listing what is missing, what the model does not have, or the
            shapes that differ.
    """
    parts, optional = tuple(parts), set(optional)
    expected = {
        name: key
        for name, key in _canonical_keys(target, layout).items()
        if name.partition(".")[0] in parts and (only is None or only(name))
    }
    missing = [n for n in expected if n not in state and n not in optional]
    unexpected = [name for name in state if name not in expected]
    if missing or unexpected:
        near = {
            name: difflib.get_close_matches(name, missing, n=1, cutoff=0.8)
            for name in unexpected[:3]
        }
        hints = [f"'{a}' looks like '{b[0]}'" for a, b in near.items() if b]
        raise ValueError(
            f"{source}: weights do not match the model ({', '.join(parts)}). "
            f"{len(missing)} missing: {_some(missing)}; {len(unexpected)} "
            f"unexpected: {_some(unexpected)}. {'; '.join(hints)}"
        )
    shapes = [
        f"{key} {tuple(state[name].shape)} != {tuple(target[key].shape)}"
        for name, key in expected.items()
        if name in state and state[name].shape != target[key].shape
    ]
    if shapes:
        raise ValueError(f"{source}: shapes differ from the model's: {_some(shapes)}.")
    return {key: state[name] for name, key in expected.items() if name in state}


def _canonical_keys(target: Mapping[str, torch.Tensor], layout: Layout) -> dict:
    """Return canonical name -> key of a model, which must hold known keys only."""
    probe = {key: torch.empty(0, device="meta") for key in target}
    known = to_canonical(probe, layout, source=f"model ({layout.name})")
    keys = {layout.canonical(key): key for key in target}
    return {name: keys[name] for name in known}


def to_hf_disk(
    state: Mapping[str, torch.Tensor], tower_prefix: str
) -> dict[str, torch.Tensor]:
    """Rename canonical weights to the layout that every transformers version reads.

    That is the one of 4.48: later versions still read it, while towers written by
    5.x (without ``vision_model.``) are lost on 4.x.

    Args:
        state (Mapping): canonical weights, connector of two layers.
        tower_prefix (str): ``vision_model.`` for CLIP and SigLIP, else empty.
    """
    table = {
        _VISION: f"vision_tower.{tower_prefix}",
        "connector.0.": "multi_modal_projector.linear_1.",
        "connector.1.": "multi_modal_projector.linear_2.",
        _LM: "language_model.",
    }
    renamed = {}
    for name, tensor in state.items():
        (prefix,) = [p for p in table if name.startswith(p)]
        renamed[table[prefix] + name[len(prefix) :]] = tensor
    return renamed


def grow_rows(
    weight: torch.Tensor, rows: int, pad_to_multiple: int | None = None
) -> torch.Tensor:
    """Grow a (vocab, Dl) table to at least ``rows`` rows.

    New rows are the mean of the old ones (in float32), so a head never prefers
    them. A table that has enough rows is returned as it is.

    Args:
        weight (torch.Tensor): (vocab, Dl).
        rows (int): rows that are needed.
        pad_to_multiple (int | None): grow on to the next multiple of it.
    """
    if rows <= len(weight):
        return weight
    if pad_to_multiple:
        rows = -(-rows // pad_to_multiple) * pad_to_multiple
    mean = weight.float().mean(0, keepdim=True).to(weight.dtype)
    return torch.cat([weight, mean.expand(rows - len(weight), -1)])


def cut_rows(
    state: Mapping[str, torch.Tensor], rows: int, source: str = "checkpoint"
) -> dict[str, torch.Tensor]:
    """Cut the embedding and head of canonical weights to ``rows`` rows.

    Undoes :func:`grow_rows`: the image token and the padding behind the
    vocabulary, which our models do not have, go away.

    Raises:
        ValueError: when a table has fewer rows.
    """
    result = dict(state)
    for name in (f"{_LM}model.embed_tokens.weight", f"{_LM}lm_head.weight"):
        if name not in state:
            continue
        if len(state[name]) < rows:
            raise ValueError(
                f"{source}: '{name}' has {len(state[name])} rows, {rows} are asked for."
            )
        result[name] = state[name][:rows].clone()
    return result


def connector_depth(state: Mapping[str, torch.Tensor]) -> int:
    """Count the linear layers of the connector in canonical weights."""
    pattern = re.compile(r"connector\.(\d+)\.weight")
    return len([name for name in state if pattern.fullmatch(name)])


def _some(items: list[str], limit: int = 10) -> str:
    """Join the first items and count the rest."""
    more = f" ... and {len(items) - limit} more" if len(items) > limit else ""
    return f"{items[:limit]}{more}"
