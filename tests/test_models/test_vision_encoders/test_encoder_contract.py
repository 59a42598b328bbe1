"""Every registered encoder keeps the contract of its base class."""

import copy
import pickle

import pytest
import torch

import mmvlm.models  # noqa: F401  registers
from mmvlm.models.vision_encoders.base import VisionEncoder
from mmvlm.models.vision_encoders.cached import CachedVisionEncoder
from mmvlm.registry import MODELS
from mmvlm.structures import VisionFeatures


def encoder_classes():
    """All but those of patches, which have no views."""
    return {
        name: cls
        for name, cls in MODELS.module_dict.items()
        if isinstance(cls, type)
        and issubclass(cls, VisionEncoder)
        and not getattr(cls, "native_resolution", False)
    }


@pytest.fixture(params=sorted(encoder_classes()))
def encoder(request):
    torch.manual_seed(0)
    return encoder_classes()[request.param].tiny().eval()


def _views(encoder, images=2, side=None):
    side, count = side or encoder.spec.image_size, encoder.views_together
    generator = torch.Generator().manual_seed(1)
    return torch.randn(images * count, 3, side, side, generator=generator)


def test_encoders_are_found():
    assert {"HFVisionEncoder", "MMPretrainVisionEncoder", "TimmVisionEncoder"} <= set(
        encoder_classes()
    )


def test_spec_tells_shapes(encoder):
    spec = encoder.spec
    layers = tuple(range(spec.num_layers + 1))

    features = encoder(_views(encoder), layers)

    assert isinstance(features, VisionFeatures)
    assert features.layers == layers
    assert features.grid == spec.grid(spec.image_size, spec.image_size)
    tokens = spec.num_prefix_tokens + features.grid[0] * features.grid[1]
    for hidden in features.hidden_states:
        count = 2 * encoder.views_together
        assert hidden.shape == (count, tokens, spec.width)
    assert len(encoder.blocks) == spec.num_layers


def test_selection_gives_the_states_of_a_full_run(encoder):
    views, last = _views(encoder), encoder.spec.num_layers
    everything = encoder(views, tuple(range(last + 1))).hidden_states

    some = encoder(views, (-2, 0, 1))

    assert some.layers == (last - 1, 0, 1)
    for state, layer in zip(some.hidden_states, some.layers, strict=True):
        assert torch.equal(state, everything[layer])


@pytest.mark.parametrize("layer, expected", [(0, 0), (1, 1), (-2, 2), (-1, 3)])
def test_no_block_deeper_than_selected_runs(encoder, layer, expected):
    if encoder.spec.num_layers != 3:
        pytest.skip("sized for towers of three blocks")
    ran = []
    for number, block in enumerate(encoder.blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))

    encoder(_views(encoder), (layer,))

    assert ran == list(range(expected))


def test_zero_views(encoder):
    features = encoder(_views(encoder, 0), (-2, 0))

    grid = features.grid
    tokens = encoder.spec.num_prefix_tokens + grid[0] * grid[1]
    for hidden in features.hidden_states:
        assert hidden.shape == (0, tokens, encoder.spec.width)


def test_images_do_not_see_each_other(encoder):
    views, count = _views(encoder, 3), encoder.views_together
    together = encoder(views, (-2,)).hidden_states[0]

    for number in range(3):
        own = slice(number * count, (number + 1) * count)
        alone = encoder(views[own], (-2,)).hidden_states[0]
        torch.testing.assert_close(alone, together[own], atol=1e-5, rtol=1e-5)


def test_layer_that_does_not_exist_is_refused(encoder):
    with pytest.raises(ValueError, match="select_layers has 9"):
        encoder(_views(encoder), (9,))


def test_state_dict_round_trip_copy_and_pickle(encoder):
    views = _views(encoder)
    expected = encoder(views, (-1,)).hidden_states[0]
    other = type(encoder).tiny().eval()

    other.load_state_dict(encoder.state_dict())

    for twin in (other, copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert torch.equal(twin(views, (-1,)).hidden_states[0], expected)
    names = [name for name, _ in encoder.named_parameters()]
    assert set(names) <= set(encoder.state_dict())


def test_init_weights_leaves_weights_alone(encoder):
    before = {k: v.clone() for k, v in encoder.state_dict().items()}

    encoder.init_weights()

    for key, value in encoder.state_dict().items():
        assert torch.equal(value, before[key])


def test_bfloat16_is_near_float32(encoder):
    views = _views(encoder)
    expected = encoder(views, (-2,)).hidden_states[0]

    got = encoder.to(torch.bfloat16)(views, (-2,)).hidden_states[0]

    assert got.dtype == torch.bfloat16
    scale = expected.abs().max()
    assert (got.float() - expected).abs().max() / scale < 0.05


def test_gradient_reaches_pixels_and_first_block(encoder):
    if isinstance(encoder, CachedVisionEncoder):
        pytest.skip("reads features of a frozen encoder; no gradient by design")
    views = _views(encoder).requires_grad_()
    encoder.train()

    encoder(views, (-2,)).hidden_states[0].square().sum().backward()

    assert views.grad.abs().sum() > 0
    assert all(p.grad is not None for p in encoder.blocks[0].parameters())
