"""Deformable sampling: every backend against mmcv's, and how one is chosen."""

import pytest
import torch

from mmvlm.models.ops import compiled
from mmvlm.models.ops import deform_attn as ops

CPU_BACKENDS = ("cpp", "bag", "grid")
#: batch, shapes, heads, channels per head, queries, points
CASES = {
    "ragged levels": (2, ((5, 7), (3, 4), (2, 2)), 4, 8, 9, 3),
    "equal levels": (1, ((6, 6),) * 4, 16, 4, 36, 4),
    "one level, wide head": (2, ((4, 3),), 2, 64, 7, 2),
    "one cell": (3, ((1, 1), (2, 9)), 2, 16, 2, 1),
    "odd channels": (1, ((3, 3),), 1, 5, 4, 2),
}


def make(batch, shapes, heads, channels, queries, points, dtype=torch.float32):
    """Inputs of which a third of the points lie outside, some far away."""
    generator = torch.Generator().manual_seed(0)
    count = sum(height * width for height, width in shapes)
    sizes = (batch, queries, heads, len(shapes), points)
    value = torch.randn(batch, count, heads, channels, generator=generator)
    locations = torch.rand(*sizes, 2, generator=generator) * 1.6 - 0.3
    locations[0, 0, 0, 0, 0] = torch.tensor([1e9, 0.5])
    locations[-1, -1, -1, -1, -1] = torch.tensor([0.5, -40.0])
    weights = torch.rand(*sizes, generator=generator).flatten(-2).softmax(-1)
    grad = torch.randn(batch, queries, heads * channels, generator=generator)
    leaves = (value, locations, weights.view(sizes))
    leaves = [x.to(dtype).requires_grad_() for x in leaves]
    return leaves, tuple(shapes), grad.to(dtype)


def mmcv(value, shapes, locations, weights):
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(
        value, torch.tensor(shapes), locations, weights
    )


def usable(backend):
    reason = compiled.load_ops() if backend == "cpp" else None
    if reason is not None:
        pytest.skip(f"backend 'cpp' is off: {reason}")
    return backend


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_backend_equals_mmcv(case, backend):
    leaves, shapes, grad = make(*CASES[case])
    value, locations, weights = leaves
    expected = mmcv(value, shapes, locations, weights)
    wanted = torch.autograd.grad(expected, leaves, grad)

    out = ops.deform_attn_sample(value, shapes, locations, weights, usable(backend))

    got = torch.autograd.grad(out, leaves, grad)
    torch.testing.assert_close(out, expected, atol=5e-6, rtol=0)
    for name, a, b in zip(("value", "locations", "weights"), got, wanted, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max() + 1e-7, name
    outside = (locations < 0).any(-1) | (locations > 1).any(-1)
    assert outside.any()


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_gradients_are_those_of_finite_differences(backend):
    leaves, shapes, _ = make(*CASES["ragged levels"], dtype=torch.float64)
    value = leaves[0].detach()[:1, :, :2, :2].clone().requires_grad_()
    locations = leaves[1].detach()[:1, :2, :2].clone().requires_grad_()
    weights = leaves[2].detach()[:1, :2, :2].clone().requires_grad_()
    locations.data.clamp_(-1, 2)
    name = usable(backend)

    assert torch.autograd.gradcheck(
        lambda v, p, w: ops.deform_attn_sample(v, shapes, p, w, name),
        (value, locations, weights),
    )


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_nothing_to_sample_gives_nothing(backend):
    shapes = ((2, 3),)
    for batch, queries in ((0, 4), (2, 0)):
        value = torch.zeros(batch, 6, 2, 4, requires_grad=True)
        locations = torch.zeros(batch, queries, 2, 1, 3, 2)
        weights = torch.zeros(batch, queries, 2, 1, 3)

        out = ops.deform_attn_sample(value, shapes, locations, weights, usable(backend))

        assert out.shape == (batch, queries, 8)
        out.sum().backward()
        assert not value.grad.any()


@pytest.mark.parametrize("backend", ["cpp", "bag"])
def test_a_location_that_is_no_number_is_not_hidden(backend):
    leaves, shapes, _ = make(*CASES["equal levels"])
    value, locations, weights = (x.detach() for x in leaves)
    locations[0, 3, 2, 1, 0, 0] = float("nan")

    out = ops.deform_attn_sample(value, shapes, locations, weights, usable(backend))

    rows = out.view(1, 36, 16, 4).isnan()
    assert rows[0, 3, 2].all() and rows.sum() == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_sampled_in_float32(dtype, monkeypatch):
    seen = []

    def spy(value, shapes, locations, weights):
        seen.extend(x.dtype for x in (value, locations, weights))
        return ops._grid(value, shapes, locations, weights)

    monkeypatch.setitem(ops.BACKENDS, "grid", spy)
    (value, locations, weights), shapes, _ = make(*CASES["ragged levels"])

    out = ops.deform_attn_sample(
        value.to(dtype), shapes, locations, weights.to(dtype), "grid"
    )

    assert out.dtype == dtype and seen == [torch.float32] * 3


@pytest.mark.parametrize("backend", ["cpp", "bag"])
def test_the_graph_compiles(backend):
    leaves, shapes, grad = make(*CASES["equal levels"])
    name = usable(backend)

    def sample(value, locations, weights):
        return ops.deform_attn_sample(value, shapes, locations, weights, name)

    compiled_sample = torch.compile(sample, backend="aot_eager")

    out = compiled_sample(*leaves)
    torch.testing.assert_close(out, sample(*leaves))
    got = torch.autograd.grad(out, leaves, grad)
    wanted = torch.autograd.grad(sample(*leaves), leaves, grad)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_the_cpp_operator_keeps_its_rules():
    usable("cpp")
    (value, locations, weights), shapes, _ = make(*CASES["ragged levels"])
    flat = [side for shape in shapes for side in shape]

    torch.library.opcheck(
        torch.ops.mmvlm.deform_attn.default, (value, flat, locations, weights)
    )


def test_the_cpp_operator_gives_the_same_on_several_threads():
    leaves, shapes, grad = make(*CASES["equal levels"])
    name, results = usable("cpp"), []
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            out = ops.deform_attn_sample(leaves[0], shapes, *leaves[1:], name)
            results.append((out, *torch.autograd.grad(out, leaves, grad)))
    finally:
        torch.set_num_threads(threads)

    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


# ------------------------------------------------------------------ choice
@pytest.fixture
def fresh():
    """Forget what was chosen, before and after."""
    caches = (ops._automatic, ops._why_not, compiled.load_ops)
    kept = compiled.load_ops()
    for cache in caches[:2]:
        cache.cache_clear()
    yield
    for cache in caches[:2]:
        cache.cache_clear()
    assert compiled.load_ops() == kept


def _logged(monkeypatch):
    lines = []
    monkeypatch.setattr(ops, "print_log", lambda text, *_: lines.append(text))
    return lines


def test_the_choice_is_told_once(fresh, monkeypatch):
    lines = _logged(monkeypatch)
    monkeypatch.setattr(ops, "load_ops", lambda: None)

    assert [ops.choose_backend("cpu") for _ in range(3)] == ["cpp"] * 3
    assert lines == ["deformable attention on cpu: backend 'cpp'"]


def test_without_a_compiler_the_choice_is_bag_and_says_why(fresh, monkeypatch):
    lines = _logged(monkeypatch)
    monkeypatch.setattr(ops, "load_ops", lambda: "no c++")

    assert ops.choose_backend("cpu") == "bag"
    assert lines == [
        "deformable attention on cpu: backend 'bag' ('cpp' is off: no c++)"
    ]
    with pytest.raises(RuntimeError, match="'cpp' cannot run on cpu: no c"):
        ops.choose_backend("cpu", "cpp")


def test_cuda_is_chosen_on_cuda_only(fresh, monkeypatch):
    import mmcv.ops

    _logged(monkeypatch)
    monkeypatch.setattr(mmcv.ops, "get_compiling_cuda_version", lambda: "12.8")

    assert ops.choose_backend("cuda") == "cuda"
    assert ops.choose_backend("mps") == "bag"
    with pytest.raises(RuntimeError, match="'cuda' cannot run on cpu: it is for CUDA"):
        ops.choose_backend("cpu", "cuda")


def test_an_mmcv_without_cuda_leaves_bag(fresh, monkeypatch):
    import mmcv.ops

    lines = _logged(monkeypatch)
    name = "get_compiling_cuda_version"
    monkeypatch.setattr(mmcv.ops, name, lambda: "not available")

    assert ops.choose_backend("cuda") == "bag"
    assert "'cuda' is off: mmcv was compiled without CUDA" in lines[0]


def test_unknown_backend_is_refused():
    with pytest.raises(ValueError, match=r"backend 'gpu', expected one of \['cuda'"):
        ops.choose_backend("cpu", "gpu")


def test_shapes_must_fit():
    (value, locations, weights), shapes, _ = make(*CASES["ragged levels"])
    with pytest.raises(ValueError, match=r"do not fit levels .* expected \(B, 47,"):
        ops.deform_attn_sample(value, shapes[:2], locations, weights)
    with pytest.raises(ValueError, match="do not fit"):
        ops.deform_attn_sample(value, shapes, locations, weights[..., :1])


# ------------------------------------------------------------------- build
def test_build_can_be_forbidden(monkeypatch):
    monkeypatch.setenv(compiled.BUILD_VARIABLE, "0")
    assert compiled.why_not() == "MMVLM_BUILD_OPS=0"


def test_a_build_needs_a_compiler_unless_it_is_there(monkeypatch, tmp_path):
    monkeypatch.setenv(compiled.BUILD_VARIABLE, str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")

    assert compiled.why_not() == "no no-such-compiler"
    compiled.library_path().touch()
    assert compiled.library_path().parent == tmp_path
    assert compiled.why_not() is None


def test_a_library_that_does_not_load_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv(compiled.BUILD_VARIABLE, str(tmp_path))
    warnings = []
    monkeypatch.setattr(compiled, "print_log", lambda *text: warnings.append(text))
    compiled.library_path().write_text("not a library")

    reason = compiled.load_ops.__wrapped__()

    assert reason.startswith("build failed: ")
    assert "deform_attn.cpp cannot be used" in warnings[0][0]


# -------------------------------------------------------------------- cuda
def test_step_divides_the_batch_and_is_the_largest():
    for batch in range(1, 300):
        step = ops.dividing_step(batch)
        assert batch % step == 0 and 1 <= step <= 64
        assert not any(batch % k == 0 for k in range(step + 1, min(batch, 64) + 1))


@pytest.mark.parametrize("batch", [1, 64, 67, 80])
def test_cuda_hands_mmcv_what_its_kernel_takes(batch, monkeypatch):
    """The kernel itself is replaced; the test below runs it where a GPU is."""
    from mmcv.ops import multi_scale_deform_attn as module

    calls = []

    class Kernel:
        @staticmethod
        def apply(value, sizes, starts, locations, weights, step):
            calls.append((value, sizes, starts, locations, weights, step))
            assert batch % min(batch, step) == 0  # the kernel's own check
            return module.multi_scale_deformable_attn_pytorch(
                value, sizes, locations, weights
            )

    monkeypatch.setattr(module, "MultiScaleDeformableAttnFunction", Kernel)
    (value, locations, weights), shapes, _ = make(batch, ((3, 4), (2, 2)), 2, 4, 5, 2)
    strided = value.transpose(1, 2).contiguous().transpose(1, 2)

    out = ops._cuda(strided, shapes, locations, weights)

    expected = ops._grid(value, shapes, locations, weights)
    torch.testing.assert_close(out, expected, atol=5e-6, rtol=0)
    *tensors, step = calls[0]
    assert all(x.is_contiguous() for x in tensors)
    assert tensors[1].tolist() == [[3, 4], [2, 2]] and tensors[2].tolist() == [0, 12]
    assert {x.dtype for x in tensors[1:3]} == {torch.int64}
    assert step == {1: 1, 64: 64, 67: 1, 80: 40}[batch]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["cuda", "bag", "grid"])
@pytest.mark.parametrize("batch", [2, 67, 80])
def test_gpu_backends_equal_the_cpu(batch, backend):
    leaves, shapes, grad = make(batch, ((5, 7), (3, 4)), 4, 8, 9, 3)
    expected = ops.deform_attn_sample(leaves[0], shapes, *leaves[1:], "grid")
    wanted = torch.autograd.grad(expected, leaves, grad)
    there = [x.detach().to("cuda").requires_grad_() for x in leaves]

    out = ops.deform_attn_sample(there[0], shapes, *there[1:], backend)

    got = torch.autograd.grad(out, there, grad.to("cuda"))
    torch.testing.assert_close(out.cpu(), expected, atol=5e-6, rtol=0)
    for a, b in zip(got, wanted, strict=True):
        assert (a.cpu() - b).abs().max() <= 1e-5 * b.abs().max()
