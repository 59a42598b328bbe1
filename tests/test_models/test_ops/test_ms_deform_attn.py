"""Deformable attention as a module, against the official one."""

import numpy as np
import pytest
import torch

from mmvlm.models.ops import compiled
from mmvlm.models.ops.grid_attention import GridAttention
from mmvlm.models.ops.ms_deform_attn import MSDeformAttention

BACKENDS = ("cpp", "bag", "grid")


@pytest.fixture
def golden(goldens):
    with np.load(goldens / "msdeform_attn.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def state(golden, prefix):
    return {
        key.removeprefix(prefix): value
        for key, value in golden.items()
        if key.startswith(prefix)
    }


def build(golden, backend=None):
    if backend == "cpp" and (reason := compiled.load_ops()):
        pytest.skip(f"backend 'cpp' is off: {reason}")
    return MSDeformAttention(
        golden["in/query"].shape[-1],
        int(golden["in/heads"]),
        len(golden["in/spatial_shapes"]),
        int(golden["in/points"]),
        backend=backend,
    )


def shapes_of(golden):
    return [tuple(shape) for shape in golden["in/spatial_shapes"].tolist()]


@pytest.mark.golden
def test_keys_and_initialisation_are_the_official_ones(golden):
    wanted = state(golden, "sd_init/")

    own = build(golden).state_dict()

    assert own.keys() == wanted.keys()
    for key, value in wanted.items():
        assert own[key].shape == value.shape
        if key in ("value_proj.weight", "output_proj.weight"):
            bound = (6 / sum(value.shape)) ** 0.5  # xavier, random
            assert own[key].abs().max() <= bound and own[key].std() > bound / 3
        else:
            torch.testing.assert_close(own[key], value, atol=1e-6, rtol=0)


@pytest.mark.golden
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["ref2", "ref4", "ref2_masked"])
def test_outputs_equal_the_official_ones(golden, case, backend):
    module = build(golden, backend)
    module.load_state_dict(state(golden, "sd/"))

    out = module(
        golden["in/query"],
        golden[f"in/{case.removesuffix('_masked')}"],
        golden["in/value"],
        shapes_of(golden),
        golden["in/padding_mask"] if case.endswith("masked") else None,
    )

    torch.testing.assert_close(out, golden[f"out/{case}"], atol=1e-5, rtol=0)
    assert not torch.allclose(golden["out/ref2"], golden["out/ref2_masked"])


@pytest.mark.golden
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_equal_the_official_ones(golden, backend):
    module = build(golden, backend)
    module.load_state_dict(state(golden, "sd/"))
    inputs = {n: golden[f"in/{n}"].requires_grad_() for n in ("query", "value", "ref2")}

    out = module(inputs["query"], inputs["ref2"], inputs["value"], shapes_of(golden))
    (out * golden["in/grad_weight"]).sum().backward()

    found = {f"in/{name}": x.grad for name, x in inputs.items()}
    found.update({f"sd/{n}": p.grad for n, p in module.named_parameters()})
    wanted = state(golden, "grad/")
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, atol=1e-4, rtol=0, msg=key)


def test_points_of_a_head_step_out_in_its_direction():
    module = MSDeformAttention(32, num_heads=4, num_levels=2, num_points=3)

    start = module.sampling_offsets.bias.view(4, 2, 3, 2)

    wanted = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    for point in range(3):
        for level in range(2):
            found = start[:, level, point]
            torch.testing.assert_close(
                found, wanted * (point + 1), atol=1e-6, rtol=1e-6
            )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(embed_dims=30, num_heads=4), "num_heads=4 does not divide embed_dims=30"),
        (dict(embed_dims=32, backend="fast"), "backend='fast', expected one of"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MSDeformAttention(**arguments)


def test_wrong_inputs_are_refused():
    module = MSDeformAttention(16, num_heads=2, num_levels=2)
    query, value = torch.zeros(1, 3, 16), torch.zeros(1, 8, 16)
    with pytest.raises(ValueError, match=r"has 2 levels, got \[\(2, 4\)\]"):
        module(query, torch.zeros(1, 3, 1, 2), value, [(2, 4)])
    with pytest.raises(ValueError, match="reference_points end in 3 numbers"):
        module(query, torch.zeros(1, 3, 1, 3), value, [(2, 2), (2, 2)])


# ---------------------------------------------------------- dense attention
def test_grid_attention_equals_torchs():
    torch.manual_seed(0)
    module = GridAttention(24, num_heads=3)
    other = torch.nn.MultiheadAttention(24, 3, batch_first=True)
    parts = (module.query_proj, module.key_proj, module.value_proj)
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        other.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        other.out_proj.load_state_dict(module.output_proj.state_dict())
    query, value = torch.randn(2, 5, 24), torch.randn(2, 12, 24)

    out = module(query, None, value, [(2, 3), (3, 2)])

    torch.testing.assert_close(out, other(query, value, value)[0], atol=1e-6, rtol=1e-5)


def test_pooled_attention_sees_every_level_at_the_same_size():
    torch.manual_seed(0)
    module = GridAttention(8, num_heads=2, pool=2)
    value = torch.randn(1, 4 * 6 + 5 * 3, 8)

    reduced = module._reduce(value, [(4, 6), (5, 3)])

    assert reduced.shape == (1, 8, 8)
    corner = value[0, :24].view(4, 6, 8)[:2, :3].mean((0, 1))
    wanted = torch.nn.functional.gelu(module.reduction_norm(module.reduction(corner)))
    torch.testing.assert_close(reduced[0, 0], wanted, atol=1e-6, rtol=1e-5)


def test_grid_attention_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="num_heads=5 does not divide embed_dims=24"):
        GridAttention(24, num_heads=5)
