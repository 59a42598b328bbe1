"""What every connector promises, as checks that run on any class.

``tests/`` runs them on all registered connectors; an extension package may run
them on its own::

    for check in CONNECTOR_CHECKS.values():
        check(MyConnector)

A fuser runs through the same checks with an MLP behind it: ``FuserCase(MyFuser)``.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from mmvlm.models.connectors.base import Connector
from mmvlm.models.connectors.fused import FusedConnector
from mmvlm.models.fusers.base import Fuser
from mmvlm.registry import MODELS
from mmvlm.structures import (
    Instructions,
    ViewLayout,
    VisionEncoderSpec,
    VisionFeatures,
)

#: Views of 4 x 4, 5 x 3 and 2 x 6 patches.
GRIDS = ((4, 4), (5, 3), (2, 6))
_SPEC = VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
_WIDTH = 48


def connector_classes() -> dict[str, type[Connector]]:
    """All registered connectors of views by name, also those of the current test.

    Region encoders have a suite of their own.
    """
    return {
        name: cls
        for name, cls in MODELS.module_dict.items()
        if isinstance(cls, type)
        and issubclass(cls, Connector)
        and "region" not in cls.fills
        and not getattr(cls, "native_resolution", False)
    }


class FuserCase:
    """A fuser with an MLP behind it, in the place of a connector class.

    Args:
        fuser (type[Fuser]): the class to check.
    """

    def __init__(self, fuser: type[Fuser]) -> None:
        self.fuser = fuser
        self.__name__ = fuser.__name__

    def tiny(self, vision_spec: VisionEncoderSpec, out_width: int) -> FusedConnector:
        """Build the fuser's miniature and the MLP."""
        return FusedConnector.around(self.fuser.tiny(vision_spec), out_width)


def fuser_cases() -> dict[str, FuserCase]:
    """All registered fusers by name, also those of the current test."""
    return {
        name: FuserCase(cls)
        for name, cls in MODELS.module_dict.items()
        if isinstance(cls, type) and issubclass(cls, Fuser)
    }


def build(cls: type[Connector] | FuserCase, seed: int = 0) -> Connector:
    """Build the class's miniature in eval mode, no parameter left at zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        connector = cls.tiny(vision_spec=_SPEC, out_width=_WIDTH)
        with torch.no_grad():  # zero-initialised gates would hide their inputs
            for parameter in connector.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return connector.eval()


def make_features(
    connector: Connector,
    grid: tuple[int, int] = GRIDS[0],
    images: int = 3,
    dtype: torch.dtype = torch.float32,
    requires_grad: bool = False,
) -> VisionFeatures:
    """Random hidden states of the layers that the connector selects."""
    spec = connector.vision_spec
    generator = torch.Generator().manual_seed(7)
    tokens = spec.num_prefix_tokens + grid[0] * grid[1]
    layers = tuple(spec.layer_index(layer) for layer in connector.select_layers)
    layout = _layout(connector, grid)
    shape = (images * layout.num_views, tokens, spec.width)
    states = tuple(
        torch.randn(shape, generator=generator).to(dtype).requires_grad_(requires_grad)
        for _ in layers
    )
    maps = {}
    for one in spec.maps:
        sides = (int(side * one.cells) for side in grid)
        shape = (shape[0], one.width, *sides)
        maps[one.name] = torch.randn(shape, generator=generator).to(dtype)
    return VisionFeatures(
        states,
        layers,
        grid,
        spec.num_prefix_tokens,
        (layout,) * images,
        instructions=_questions(images, generator)
        if "question" in connector.reads
        else None,
        maps=maps,
    )


def _questions(images: int, generator: torch.Generator) -> Instructions:
    """Random questions of 5 words and fewer, padded."""
    ids = torch.randint(4, 32, (images, 5), generator=generator)
    mask = (torch.arange(5) < 5 - torch.arange(images)[:, None] % 3).long()
    return Instructions(ids * mask, mask)


def _only(features: VisionFeatures, image: int) -> VisionFeatures:
    """Keep one image of three."""
    views = len(features.hidden_states[0]) // 3
    span = slice(image * views, (image + 1) * views)
    row = slice(image, image + 1)
    texts = features.instructions
    if texts is not None:
        texts = Instructions(texts.input_ids[row], texts.attention_mask[row])
    one = features.map(lambda tensor: tensor[span])
    return replace(one, layouts=features.layouts[row], instructions=texts)


def _layout(connector: Connector, grid: tuple[int, int]) -> ViewLayout:
    size = tuple(side * connector.vision_spec.patch_size for side in grid)
    return connector.views_of(size)


def _expect(condition: bool, cls: type, message: str) -> None:
    if not condition:
        raise AssertionError(f"{cls.__name__}: {message}")


def check_is_found_by_name(cls: type[Connector]) -> None:
    """The registry builds the class from a config dict."""
    if isinstance(cls, FuserCase):
        _expect(MODELS.get(cls.__name__) is cls.fuser, cls, "not the registered name")
        _expect(cls.__name__.endswith("Fuser"), cls, "name must end in 'Fuser'")
        return
    _expect(MODELS.get(cls.__name__) is cls, cls, "registered name is not class name")
    _expect(cls.__name__.endswith("Connector"), cls, "name must end in 'Connector'")


def check_shapes_on_three_grids(cls: type[Connector]) -> None:
    """Output is (V', N', Dl) and its rows keep the promise of ``token_count``."""
    connector = build(cls)
    for grid in GRIDS:
        features = make_features(connector, grid)
        out = connector(features)
        promised = connector.num_output_tokens(_layout(connector, grid))
        rows = connector.merge_views(out, features.layouts)
        _expect(
            out.ndim == 3 and tuple(rows.shape) == (3 * promised, _WIDTH),
            cls,
            f"grid {grid} gives {tuple(out.shape)}, merged {tuple(rows.shape)}; "
            f"token_count promises {promised} per image",
        )


def check_rows_of_merged_views(cls: type[Connector]) -> None:
    """``merge_views`` gives as many rows as all images' slots have."""
    connector = build(cls)
    features = make_features(connector)
    rows = connector.merge_views(connector(features), features.layouts)
    wanted = sum(connector.num_output_tokens(layout) for layout in features.layouts)
    _expect(tuple(rows.shape) == (wanted, _WIDTH), cls, f"rows {tuple(rows.shape)}")


def check_zero_views(cls: type[Connector]) -> None:
    """No view gives no token, and no error."""
    connector = build(cls)
    out = connector(make_features(connector, images=0))
    width = connector.memory_width or _WIDTH
    _expect(out.shape[0] == 0 and out.shape[-1] == width, cls, f"{tuple(out.shape)}")
    rows = connector.merge_views(out, ())
    _expect(tuple(rows.shape) == (0, _WIDTH), cls, f"merged {tuple(rows.shape)}")


def check_views_are_independent(cls: type[Connector]) -> None:
    """An image's tokens do not depend on its neighbours."""
    connector = build(cls)
    features = make_features(connector)
    together = connector(features).chunk(3)
    for image in range(3):
        alone = connector(_only(features, image))
        torch.testing.assert_close(alone, together[image], atol=1e-5, rtol=1e-5)


def check_gradients(cls: type[Connector]) -> None:
    """Gradient reaches every selected layer and every parameter."""
    connector = build(cls).train()
    features = make_features(connector, requires_grad=True)
    out = connector(features)
    rows = connector.merge_views(out, features.layouts)
    total = sum(
        (x * torch.linspace(-1, 2, x.numel()).view_as(x)).sum() for x in (out, rows)
    )
    total.backward()
    for layer, state in zip(features.layers, features.hidden_states, strict=True):
        reached = state.grad is not None and bool(state.grad.abs().sum() > 0)
        _expect(reached, cls, f"no gradient to layer {layer}")
    for name, parameter in connector.named_parameters():
        if parameter.requires_grad:
            reached = parameter.grad is not None and bool(parameter.grad.any())
            _expect(reached, cls, f"no gradient to parameter '{name}'")


def check_determinism_in_eval(cls: type[Connector]) -> None:
    """Two runs in eval mode agree to the last bit and consume no randomness."""
    connector = build(cls)
    features = make_features(connector)
    state = torch.random.get_rng_state()
    first, second = connector(features), connector(features)
    _expect(torch.equal(first, second), cls, "two runs differ")
    same = torch.equal(state, torch.random.get_rng_state())
    _expect(same, cls, "eval mode draws random numbers")


def check_bfloat16(cls: type[Connector]) -> None:
    """bfloat16 works and stays near float32."""
    connector = build(cls)
    expected = connector(make_features(connector))
    half = connector.to(torch.bfloat16)
    got = half(make_features(half, dtype=torch.bfloat16))
    _expect(got.dtype == torch.bfloat16, cls, f"output is {got.dtype}")
    error = (got.float() - expected).detach().abs().max() / expected.abs().max()
    _expect(bool(error < 0.06), cls, f"bfloat16 is off by {error.item():.3f}")


def check_state_dict_round_trip(cls: type[Connector]) -> None:
    """Another instance with the same state gives the same output."""
    connector, other = build(cls, seed=0), build(cls, seed=1)
    buffer = io.BytesIO()
    torch.save(connector.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    features = make_features(connector)
    _expect(torch.equal(connector(features), other(features)), cls, "outputs differ")


def check_pickling(cls: type[Connector]) -> None:
    """Module and token count survive pickling (workers get the latter)."""
    connector = build(cls)
    features = make_features(connector)
    twin = pickle.loads(pickle.dumps(connector))
    _expect(torch.equal(twin(features), connector(features)), cls, "outputs differ")
    layout = _layout(connector, GRIDS[1])
    count = pickle.loads(pickle.dumps(connector.token_count))
    _expect(count(layout) == connector.token_count(layout), cls, "counts differ")


def check_input_is_left_alone(cls: type[Connector]) -> None:
    """The hidden states are not changed in place."""
    connector = build(cls)
    features = make_features(connector)
    before = [state.clone() for state in features.hidden_states]
    connector(features)
    for state, copy in zip(features.hidden_states, before, strict=True):
        _expect(torch.equal(state, copy), cls, "changes its input in place")


CONNECTOR_CHECKS: dict[str, Callable[[type[Connector]], Any]] = {
    name.removeprefix("check_"): function
    for name, function in list(globals().items())
    if name.startswith("check_")
}
