"""What data pipeline and model both know of images: spec, layout, features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MapSpec:
    """A named feature map that an encoder gives beside its hidden states.

    Args:
        name (str): key in ``VisionFeatures.maps``.
        width (int): channels.
        cells (float): its cells per side of a patch; below 1 where a cell lies under
            several patches.
    """

    name: str
    width: int
    cells: float = 1


@dataclass(frozen=True)
class VisionEncoderSpec:
    """The facts of a vision encoder that others would otherwise type again.

    Args:
        width (int): channels of the hidden states (Dv).
        num_layers (int): transformer blocks; ``hidden_states`` has one entry
            more (index 0 is the embedding output).
        patch_size (int): pixels per patch side.
        image_size (int): side in pixels of the square input that the encoder
            was trained on.
        num_prefix_tokens (int): class and register tokens before the patches.
        mean, std (tuple[float, float, float]): normalisation of RGB in 0-1.
        resample (str): filter of the reference preprocessing.
        maps (tuple[MapSpec, ...]): further feature maps of every view.
        stacked (int): patch grids that a view gives, one on top of the other.
        stretched (bool): whether images are stretched to its square, where others get
            the longer side of it (see :class:`SAMViews`).
    """

    width: int
    num_layers: int
    patch_size: int
    image_size: int
    num_prefix_tokens: int = 0
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    resample: str = "bicubic"
    maps: tuple[MapSpec, ...] = ()
    stacked: int = 1
    stretched: bool = False

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the patch grid (H, W) of a view of that many pixels."""
        rows, cols = height // self.patch_size, width // self.patch_size
        return rows * self.stacked, cols

    def layer_index(self, layer: int) -> int:
        """Resolve a possibly negative index into ``hidden_states``.

        Raises:
            ValueError: when it lies outside 0 .. num_layers.
        """
        index = layer + self.num_layers + 1 if layer < 0 else layer
        if not 0 <= index <= self.num_layers:
            raise ValueError(
                f"select_layers has {layer}, but the encoder has hidden states "
                f"0..{self.num_layers} (or -{self.num_layers + 1}..-1)."
            )
        return index


@dataclass(frozen=True)
class ViewLayout:
    """How one original image became views.

    Args:
        original_size (tuple[int, int]): height and width in pixels.
        view_size (tuple[int, int]): height and width of each view in pixels.
        num_views (int): how many views the image gave.
        kind (str): name of the layout (``pad``, ``crop``, ``resize``, ...).
        scale (tuple[float, float]): (sx, sy), original to view pixels, for
            single-view layouts.
        offset (tuple[float, float]): (ox, oy), added after scaling: a point x
            of the original lies at ``x * sx + ox`` in the view.
        extra (tuple): what a richer layout (tiles, crops) must add; hashable.
        grids (tuple[tuple[int, int], ...]): patch rows and columns of every view whose
            patches are packed row by row into a view of ``view_size``, which they
            need not fill; empty when every view fills its own.
    """

    original_size: tuple[int, int]
    view_size: tuple[int, int]
    num_views: int = 1
    kind: str = "single"
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    extra: tuple = ()
    grids: tuple[tuple[int, int], ...] = ()

    @property
    def whole_size(self) -> tuple[int, int]:
        """Height and width of the whole image, resized but neither padded nor cut."""
        (height, width), (sx, sy) = self.original_size, self.scale
        return round(height * sy), round(width * sx)


class LayoutError(ValueError):
    """An image has other views than the connector takes."""


@dataclass(frozen=True)
class InputLayout:
    """What is known of an input that is no image before it is encoded.

    Args:
        modality (str): its kind: ``audio``, ``video``, ``region``, ...
        shape (tuple[int, ...]): of its array.
        num_views (int): 1: it is encoded as a whole.
    """

    modality: str
    shape: tuple[int, ...]
    num_views: int = 1


class TokenCount(Protocol):
    """Picklable answer to "how many tokens does an image of this layout take?"."""

    def __call__(self, layout: ViewLayout | InputLayout) -> int:
        """Return the number of LLM positions of one image or other input."""


@dataclass(frozen=True)
class TokenCounts:
    """Positions of the inputs of a model with several connectors.

    Args:
        counts (dict[str, TokenCount]): by kind of input.
    """

    counts: dict[str, TokenCount]

    def __call__(self, layout: ViewLayout | InputLayout) -> int:
        """Return the count of the layout's own kind; views are those of images."""
        return self.counts[getattr(layout, "modality", "image")](layout)


def count_of_kind(token_count: TokenCount, kind: str) -> TokenCount:
    """Return how a model counts the inputs of one kind.

    Views of images look alike whatever kind of input they are, so their layout alone
    does not tell which connector takes them.
    """
    while isinstance(token_count, TokenCounts):
        token_count = token_count.counts[kind]
    return token_count


@dataclass(frozen=True)
class PatchTokenCount:
    """One token per patch (times ``factor``), plus ``extra`` per view.

    Args:
        patch_size (int): pixels per patch side.
        extra (int): tokens per view besides the patches (a kept class token).
        shrink (int): patches merged per side into one token.
    """

    patch_size: int
    extra: int = 0
    shrink: int = 1

    def grid(self, view_size: tuple[int, int]) -> tuple[int, int]:
        """Return rows and columns of the tokens of one view of that many pixels."""
        height, width = (
            -(-(side // self.patch_size) // self.shrink) for side in view_size
        )
        return height, width

    def __call__(self, layout: ViewLayout) -> int:
        """Return ``num_views * (ceil(H / shrink) * ceil(W / shrink) + extra)``."""
        rows, cols = self.grid(layout.view_size)
        return layout.num_views * (rows * cols + self.extra)


@dataclass(frozen=True)
class FixedTokenCount:
    """A fixed number of tokens per view (resamplers, Q-Formers)."""

    tokens_per_view: int

    def __call__(self, layout: ViewLayout | InputLayout) -> int:
        """Return ``num_views * tokens_per_view``."""
        return layout.num_views * self.tokens_per_view


@dataclass
class Instructions:
    """What is asked about each image, as ids of a connector's own tokenizer.

    Shape:
        - ``input_ids``, ``attention_mask``: (I, L), int64, one row per image,
          padded on the right; the mask is 1 where there is text
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor

    def per_view(self, layouts: Sequence[ViewLayout], num_views: int) -> Instructions:
        """Repeat every image's row for its views.

        Args:
            layouts (Sequence[ViewLayout]): one per image; empty when every view
                is an image of its own.
            num_views (int): V, views of all images.

        Raises:
            ValueError: when rows and images are not as many.
        """
        counts = [layout.num_views for layout in layouts] or [1] * num_views
        if len(counts) != len(self.input_ids) or sum(counts) != num_views:
            raise ValueError(
                f"{len(self.input_ids)} instructions for {len(counts)} images of "
                f"{sum(counts)} views; the encoder saw {num_views} views."
            )
        if set(counts) <= {1}:
            return self
        rows = [row for row, count in enumerate(counts) for _ in range(count)]
        return Instructions(self.input_ids[rows], self.attention_mask[rows])


@dataclass
class VisionFeatures:
    """Hidden states of the layers that a connector selected.

    Args:
        hidden_states (tuple[torch.Tensor, ...]): one (V, P + N, Dv) tensor per
            selected layer in the order asked for, P prefix tokens still on.
        layers (tuple[int, ...]): resolved layer indices, 0 = embeddings.
        grid (tuple[int, int]): patch rows and columns of every view.
        num_prefix_tokens (int): P.
        layouts (Sequence[ViewLayout]): one per image, views in order; empty
            when every view is an image of its own.
        instructions (Instructions | None): one per image, for connectors that
            read the question.
        modality (str): what was encoded.
        maps (dict[str, torch.Tensor]): (V, C, p*H, p*W) each, with p cells per side
            of a patch, as ``VisionEncoderSpec.maps`` names them.
        grids (Sequence[tuple[int, int]]): patch rows and columns of every view by
            itself; the first of its N tokens are these, the others nothing. Empty
            when ``grid`` is that of all.
    """

    hidden_states: tuple[torch.Tensor, ...]
    layers: tuple[int, ...]
    grid: tuple[int, int]
    num_prefix_tokens: int = 0
    layouts: Sequence[ViewLayout] = field(default_factory=tuple)
    instructions: Instructions | None = None
    modality: str = "image"
    maps: dict[str, torch.Tensor] = field(default_factory=dict)
    grids: Sequence[tuple[int, int]] = ()

    def patches(self, position: int = -1) -> torch.Tensor:
        """Return (V, N, Dv) of the selected layer at ``position``, prefix off."""
        return self.hidden_states[position][:, self.num_prefix_tokens :]

    def patch_map(self, position: int = -1) -> torch.Tensor:
        """Return (V, Dv, H, W) of the selected layer at ``position``."""
        return self.patches(position).transpose(1, 2).unflatten(-1, tuple(self.grid))

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> VisionFeatures:
        """Return a copy with ``function`` applied to hidden states and maps."""
        return replace(
            self,
            hidden_states=tuple(function(state) for state in self.hidden_states),
            maps={name: function(one) for name, one in self.maps.items()},
        )

    def select(self, layers: Sequence[int]) -> VisionFeatures:
        """Return the features of some of the layers, by resolved index."""
        places = [self.layers.index(layer) for layer in layers]
        states = tuple(self.hidden_states[place] for place in places)
        return replace(self, hidden_states=states, layers=tuple(layers))

    def of_image(self, number: int) -> VisionFeatures:
        """Return the features of the views of one image."""
        counts = [layout.num_views for layout in self.layouts]
        views = slice(sum(counts[:number]), sum(counts[: number + 1]))
        one = self.map(lambda tensor: tensor[views])
        grids = self.grids[views] if self.grids else ()
        return replace(one, layouts=(self.layouts[number],), grids=grids)


def grids_of(layouts: Sequence[ViewLayout], patch: int) -> list[tuple[int, int]]:
    """Return the patch grid of every view; none when all views fill theirs.

    Args:
        layouts (Sequence[ViewLayout]): one per image.
        patch (int): pixels per patch side.
    """
    if not any(layout.grids for layout in layouts):
        return []
    grids: list[tuple[int, int]] = []
    for layout in layouts:
        whole = tuple(side // patch for side in layout.view_size)
        grids += layout.grids or (whole,) * layout.num_views
    return grids
