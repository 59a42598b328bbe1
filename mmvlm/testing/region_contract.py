"""What every region encoder promises, as checks that run on any class.

``tests/`` runs them on all registered region encoders; an extension package may run
them on its own::

    for check in REGION_CHECKS.values():
        check(MyRegionEncoder)
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from mmvlm.models.region_encoders.base import RegionEncoder
from mmvlm.models.utils.feed import Feed
from mmvlm.registry import MODELS
from mmvlm.structures import (
    Boxes,
    Inputs,
    Region,
    ViewLayout,
    VisionEncoderSpec,
    VisionFeatures,
    VLMBatch,
)
from mmvlm.structures.region_pixels import (
    draw_points,
    region_pixels,
    to_view,
    view_mask,
)
from mmvlm.structures.regions import (
    RegionInputs,
    RegionLayout,
    covered_cells,
    join_regions,
)

_SPEC = VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
_WIDTH = 48
_SIZE = (60, 80)
#: Boxes of the five regions that checks ask about, in pixels, and their images.
_BOXES = (
    *((2, 3, 30, 40), (40, 10, 79, 59), (0, 0, 79, 59)),
    *((60, 44, 70, 55), (5, 30, 45, 58)),
)
_PARENTS = (0, 2, 0, 1, 2)


def region_classes() -> dict[str, type[RegionEncoder]]:
    """All registered region encoders by name, also those of the current test."""
    return {
        name: cls
        for name, cls in MODELS.module_dict.items()
        if isinstance(cls, type) and issubclass(cls, RegionEncoder)
    }


def build(cls: type[RegionEncoder], seed: int = 0) -> RegionEncoder:
    """Build the class's miniature in eval mode, no parameter left at zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = cls.tiny(vision_spec=_SPEC, out_width=_WIDTH)
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return encoder.eval()


def make_features(
    encoder: RegionEncoder,
    images: int = 3,
    dtype: torch.dtype = torch.float32,
    requires_grad: bool = False,
) -> VisionFeatures:
    """Random hidden states of the layers that the encoder selects."""
    spec = encoder.vision_spec
    generator = torch.Generator().manual_seed(7)
    side = spec.image_size // spec.patch_size
    shape = (images, spec.num_prefix_tokens + side**2, spec.width)
    layers = tuple(spec.layer_index(layer) for layer in encoder.select_layers)
    states = tuple(
        torch.randn(shape, generator=generator).to(dtype).requires_grad_(requires_grad)
        for _ in layers
    )
    layout = _layout(spec)
    return VisionFeatures(
        states, layers, (side, side), spec.num_prefix_tokens, (layout,) * images
    )


def _layout(spec: VisionEncoderSpec) -> ViewLayout:
    side = spec.image_size
    scale = (side / _SIZE[1], side / _SIZE[0])
    return ViewLayout(_SIZE, (side, side), kind="resize", scale=scale)


def make_inputs(encoder: RegionEncoder, rows: Sequence[int] = range(5)) -> Inputs:
    """Return some of five regions as the data side prepares them."""
    needs, layout = encoder.needs, _layout(encoder.vision_spec)
    arrays, layouts = [], []
    for row in rows:
        rng = np.random.default_rng(row)
        region = Region(0, Boxes(np.array(_BOXES[row], float), _SIZE))
        pixels = region_pixels(region)
        corners = np.reshape(_BOXES[row], (2, 2)).astype(float)
        one = dict(boxes=to_view(corners, layout, _SIZE).reshape(4).astype(np.float32))
        if needs.points:
            points, distinct = draw_points(pixels, needs.points, rng)
            one["points"] = to_view(points, layout, _SIZE).astype(np.float32)
            one["num_points"] = np.int64(distinct)
        if needs.draws:
            one["draws"] = rng.random(needs.draws, np.float32)
        if needs.mask:
            one["masks"] = view_mask(pixels, layout, _SIZE, needs.mask)
        arrays.append(one)
        cells = int(covered_cells(one["masks"]).sum()) if needs.mask else 0
        layouts.append(RegionLayout(cells=cells))
    parents = tuple(_PARENTS[row] for row in rows)
    joined = join_regions(arrays, layouts, parents)
    lengths = tuple(encoder.token_count(one) for one in layouts)
    return Inputs(
        joined.values,
        owner=parents,
        layouts=joined.layouts,
        slot_index=torch.arange(sum(lengths)),
        slot_lens=lengths,
        parent=parents,
        extra=joined.extra,
    )


def make_regions(encoder: RegionEncoder, rows: Sequence[int] = range(5)) -> Any:
    """Return some of five regions as ``forward`` takes them."""
    inputs = make_inputs(encoder, list(rows) or [0])
    keep = range(len(list(rows)))
    parents = [inputs.parent[number] for number in keep]
    views = torch.tensor(parents, dtype=torch.int64)
    return RegionInputs.of(inputs, keep, views)


def _run(encoder: RegionEncoder, rows: Sequence[int] = range(5), **options: Any) -> Any:
    return encoder(make_features(encoder, **options), make_regions(encoder, rows))


def _pieces(encoder: RegionEncoder, rows: torch.Tensor, which: Sequence[int]) -> tuple:
    """Split rows by region."""
    return rows.split(list(make_inputs(encoder, which).slot_lens))


def _expect(condition: bool, cls: type, message: str) -> None:
    if not condition:
        raise AssertionError(f"{cls.__name__}: {message}")


def check_is_found_by_name(cls: type[RegionEncoder]) -> None:
    """The registry builds the class from a config dict."""
    _expect(MODELS.get(cls.__name__) is cls, cls, "registered name is not class name")
    _expect("region" in cls.fills, cls, f"fills {cls.fills}, not 'region'")
    _expect("region" in build(cls).reads, cls, "does not read 'region'")


def check_rows_keep_the_promise(cls: type[RegionEncoder]) -> None:
    """As many rows as ``token_count`` promises, and none without regions."""
    encoder = build(cls)
    promised = sum(make_inputs(encoder).slot_lens)
    rows = _run(encoder)
    _expect(
        tuple(rows.shape) == (promised, _WIDTH),
        cls,
        f"gives {tuple(rows.shape)}; token_count promises {promised}",
    )
    none = _run(encoder, ())
    _expect(tuple(none.shape) == (0, _WIDTH), cls, f"no region: {tuple(none.shape)}")


def check_regions_are_independent(cls: type[RegionEncoder]) -> None:
    """A region's rows depend neither on its neighbours nor on the order."""
    encoder = build(cls)
    order = (3, 0, 4, 2, 1)
    together = _pieces(encoder, _run(encoder), range(5))
    shuffled = _pieces(encoder, _run(encoder, order), order)
    for place, row in enumerate(order):
        alone = _run(encoder, [row])
        for other in (alone, shuffled[place]):
            torch.testing.assert_close(other, together[row], atol=1e-5, rtol=1e-5)


def check_images_are_told_apart(cls: type[RegionEncoder]) -> None:
    """Rows come from the region's own image, and from what lies in the region."""
    encoder = build(cls)
    features, regions = make_features(encoder), make_regions(encoder)
    before = _pieces(encoder, encoder(features, regions), range(5))
    for state in features.hidden_states:
        state[2] += torch.randn(state[2].shape, generator=torch.Generator())
    after = _pieces(encoder, encoder(features, regions), range(5))
    for parent, one, other in zip(_PARENTS, before, after, strict=True):
        same = torch.equal(one, other)
        _expect(same == (parent != 2), cls, f"image {parent}: same is {same}")
    alike = torch.allclose(before[1].mean(0), before[4].mean(0))
    _expect(not alike, cls, "two regions of an image look alike")


def check_fill_reads_the_batch(cls: type[RegionEncoder]) -> None:
    """``fill`` gives the rows of all regions of a batch, packed samples included."""
    encoder = build(cls)
    features, order = make_features(encoder), (3, 0, 4, 2, 1)
    inputs = make_inputs(encoder, order)

    def encode(*_: Any) -> list:
        # Two sizes of images, as far as the feed is concerned.
        return [([2, 0], _only(features, [2, 0])), ([1], _only(features, [1]))]

    batch = VLMBatch({}, dict(region=inputs))
    feed = Feed(batch, encode, lambda kind: (kind, kind, encoder.vision_spec))
    rows = encoder.fill("region", feed).rows
    torch.testing.assert_close(rows, _run(encoder, order), atol=1e-5, rtol=1e-5)


def _only(features: VisionFeatures, images: list[int]) -> VisionFeatures:
    one = features.map(lambda state: state[images])
    one.layouts = tuple(features.layouts[n] for n in images)
    return one


def check_gradients(cls: type[RegionEncoder]) -> None:
    """Gradient reaches every selected layer and every parameter."""
    encoder = build(cls).train()
    features = make_features(encoder, requires_grad=True)
    rows = encoder(features, make_regions(encoder))
    (rows * torch.linspace(-1, 2, rows.numel()).view_as(rows)).sum().backward()
    for layer, state in zip(features.layers, features.hidden_states, strict=True):
        reached = state.grad is not None and bool(state.grad.abs().sum() > 0)
        _expect(reached, cls, f"no gradient to layer {layer}")
    for name, parameter in encoder.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        _expect(reached, cls, f"no gradient to parameter '{name}'")


def check_no_region_keeps_the_graph(cls: type[RegionEncoder]) -> None:
    """Without regions backward runs, and gives no gradient but zero."""
    encoder = build(cls).train()
    features = make_features(encoder, requires_grad=True)
    rows = encoder(features, make_regions(encoder, ()))
    total = rows.sum() + sum(state.sum() for state in features.hidden_states)
    total.backward()
    used = [p.grad for p in encoder.parameters() if p.grad is not None]
    _expect(not any(bool(grad.any()) for grad in used), cls, "a gradient of nothing")


def check_determinism(cls: type[RegionEncoder]) -> None:
    """Two runs agree to the last bit and consume no randomness, also in training."""
    encoder = build(cls).train()
    state = torch.random.get_rng_state()
    _expect(torch.equal(_run(encoder), _run(encoder)), cls, "two runs differ")
    same = torch.equal(state, torch.random.get_rng_state())
    _expect(same, cls, "draws random numbers; use the regions' draws")


def check_bfloat16(cls: type[RegionEncoder]) -> None:
    """bfloat16 works and stays near float32."""
    encoder = build(cls)
    expected = _run(encoder)
    got = _run(encoder.to(torch.bfloat16), dtype=torch.bfloat16)
    _expect(got.dtype == torch.bfloat16, cls, f"output is {got.dtype}")
    error = (got.float() - expected).detach().abs().max() / expected.abs().max()
    _expect(bool(error < 0.06), cls, f"bfloat16 is off by {error.item():.3f}")


def check_state_dict_round_trip(cls: type[RegionEncoder]) -> None:
    """Another instance with the same state gives the same output."""
    encoder, other = build(cls, seed=0), build(cls, seed=1)
    buffer = io.BytesIO()
    torch.save(encoder.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    _expect(torch.equal(_run(encoder), _run(other)), cls, "outputs differ")


def check_pickling(cls: type[RegionEncoder]) -> None:
    """Module, needs and token count survive pickling (workers get the latter)."""
    encoder = build(cls)
    twin, needs, count = pickle.loads(
        pickle.dumps((encoder, encoder.needs, encoder.token_count))
    )
    _expect(torch.equal(_run(twin), _run(encoder)), cls, "outputs differ")
    layouts = make_inputs(encoder).layouts
    same = [count(one) for one in layouts] == [*map(encoder.token_count, layouts)]
    _expect(same and needs == encoder.needs, cls, "counts or needs differ")


def check_input_is_left_alone(cls: type[RegionEncoder]) -> None:
    """Hidden states and regions are not changed in place."""
    encoder = build(cls)
    features, regions = make_features(encoder), make_regions(encoder)
    tensors = [*features.hidden_states, regions.boxes, regions.points, regions.masks]
    tensors = [one for one in tensors if one is not None]
    before = [one.clone() for one in tensors]
    encoder(features, regions)
    for one, copy in zip(tensors, before, strict=True):
        _expect(torch.equal(one, copy), cls, "changes its input in place")


REGION_CHECKS: dict[str, Callable[[type[RegionEncoder]], Any]] = {
    name.removeprefix("check_"): function
    for name, function in list(globals().items())
    if name.startswith("check_")
}
