"""Our C++ operators: built once per machine, at first use."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

SOURCE = Path(__file__).with_name("csrc") / "deform_attn.cpp"
#: Set to 0 to never build, to a folder to keep the builds there.
BUILD_VARIABLE = "MMVLM_BUILD_OPS"
_FLAGS = ["-O3", "-fno-math-errno", "-g0"]
_VECTOR_FLAGS = {
    "AVX2": ["-mavx2", "-mfma"],
    "AVX512": ["-mavx2", "-mfma", "-mavx512f", "-mavx512dq", "-mavx512vl"],
}


def build_folder() -> Path:
    """Return where builds are kept between runs."""
    chosen = os.environ.get(BUILD_VARIABLE, "")
    if chosen not in ("", "0", "1"):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "mmvlm" / "ops"


def compiler_flags() -> list[str]:
    """Return the flags that suit this processor."""
    threads = ["-fopenmp"] if sys.platform == "linux" else ["-fopenmp-simd"]
    vectors = _VECTOR_FLAGS.get(torch.backends.cpu.get_cpu_capability(), [])
    return [*_FLAGS, *threads, *vectors]


def library_path() -> Path:
    """Return the file of the built operators; its name tells what it was made of."""
    flags = (flag.encode() for flag in compiler_flags())
    text = b"\0".join([SOURCE.read_bytes(), *flags])
    return build_folder() / f"deform_attn-{hashlib.sha256(text).hexdigest()[:16]}.so"


def why_not() -> str | None:
    """Return what hinders a build (None: nothing does)."""
    if os.environ.get(BUILD_VARIABLE) == "0":
        return f"{BUILD_VARIABLE}=0"
    if library_path().is_file():
        return None
    compiler = os.environ.get("CXX", "c++")
    for program in (compiler, "ninja"):
        if shutil.which(program) is None:
            return f"no {program}"
    return None


@functools.cache
def load_ops() -> str | None:
    """Load the operators into ``torch.ops.mmvlm``, building them when needed.

    Returns:
        str | None: why they cannot be had; None when they are loaded.
    """
    reason = why_not()
    if reason is not None:
        return reason
    path = library_path()
    try:
        if not path.is_file():
            _build(path)
        library = ctypes.CDLL(str(path))
    except (OSError, RuntimeError) as error:
        message = str(error).strip() or type(error).__name__
        print_log(f"{SOURCE.name} cannot be used: {message}", "current", 30)
        return f"build failed: {message.splitlines()[0]}"
    _register(library)
    return None


def _build(path: Path) -> None:
    """Compile; the library moves into its place when it is whole.

    Processes that start together build side by side instead of waiting for a
    lock, which a killed one would leave behind; the files are equal.
    """
    from torch.utils import cpp_extension

    print_log(
        f"building {SOURCE.name} for {path}; some seconds, once per machine "
        f"({BUILD_VARIABLE}=0 forbids it).",
        "current",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = cpp_extension.load(
            name=path.stem.replace("-", "_"),
            sources=[str(SOURCE)],
            extra_cflags=compiler_flags(),
            build_directory=folder,
            is_python_module=False,
        )
        os.replace(built, path)


def _register(library: ctypes.CDLL) -> None:
    """Make the library's functions operators that autograd and compilers know."""

    def call(name: str, tensors: list, shapes: list[int], locations: Any) -> None:
        value, kind = tensors[0], str(tensors[0].dtype).removeprefix("torch.")
        levels, points = locations.shape[3:5]
        sizes = (*value.shape, locations.shape[1], levels, points)
        getattr(library, f"{name}_{kind}")(
            *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors),
            _int64s(shapes),
            _int64s((*sizes, torch.get_num_threads())),
        )

    def forward(value, shapes, locations, weights):
        inputs = [x.contiguous() for x in (value, locations, weights)]
        out = fake_forward(value, shapes, locations, weights)
        call("deform_attn", [*inputs, out], shapes, locations)
        return out

    def fake_forward(value, shapes, locations, weights):
        batch, _, heads, channels = value.shape
        return value.new_empty(batch, locations.shape[1], heads * channels)

    def backward(value, shapes, locations, weights, grad):
        inputs = [x.contiguous() for x in (value, locations, weights, grad)]
        grads = tuple(torch.zeros_like(x) for x in inputs[:3])
        call("deform_attn_backward", [*inputs, *grads], shapes, locations)
        return grads

    def fake_backward(value, shapes, locations, weights, grad):
        return tuple(x.new_empty(x.shape) for x in (value, locations, weights))

    def save(ctx, inputs, output) -> None:
        value, ctx.shapes, locations, weights = inputs
        ctx.save_for_backward(value, locations, weights)

    def chain(ctx, grad) -> tuple:
        value, locations, weights = ctx.saved_tensors
        grads = torch.ops.mmvlm.deform_attn_backward(
            value, ctx.shapes, locations, weights, grad
        )
        return grads[0], None, grads[1], grads[2]

    inputs = "Tensor value, int[] shapes, Tensor locations, Tensor weights"
    options = dict(mutates_args=(), device_types="cpu")
    operator = torch.library.custom_op(
        "mmvlm::deform_attn", forward, schema=f"({inputs}) -> Tensor", **options
    )
    operator.register_fake(fake_forward)
    operator.register_autograd(chain, setup_context=save)
    torch.library.custom_op(
        "mmvlm::deform_attn_backward",
        backward,
        schema=f"({inputs}, Tensor grad) -> (Tensor, Tensor, Tensor)",
        **options,
    ).register_fake(fake_backward)


def _int64s(numbers: Sequence[int]) -> ctypes.Array:
    return (ctypes.c_int64 * len(numbers))(*numbers)
