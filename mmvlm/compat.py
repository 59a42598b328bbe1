"""Shims for the libraries that mmvlm stands on, and their version check.

Importing mmvlm must stay quick, so nothing is imported here: each shim waits
for the module it repairs and acts at that module's import, in whatever file
the import stands. Every shim looks at the fault it repairs and leaves a healthy
library alone. ``MMVLM_DISABLE_SHIMS=name,name`` (or ``all``) switches shims
off, which is how the tests show that each is needed.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib.util
import os
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec

DISABLE_VARIABLE = "MMVLM_DISABLE_SHIMS"
TRUST_VARIABLE = "MMVLM_TRUST_CHECKPOINTS"

#: package -> (oldest release that works, first release line never tried).
VERSION_RANGES = {
    "torch": ((2, 6), (2, 15)),
    "mmengine": ((0, 10, 6), (0, 11)),
    "transformers": ((4, 48), (6,)),
}

# Names of torch operators live as long as the Library object that defined them.
_torch_libraries: list[object] = []

# Depth of trusted_checkpoints() blocks.
_trust_depth = 0


# --------------------------------------------------------------- versions
def _release(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: '2.13.0+cpu' is (2, 13, 0)."""
    numbers = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)


def _installed(package: str) -> tuple[int, ...]:
    """Return the installed release of ``package``; () when it is missing."""
    try:
        return _release(metadata.version(package))
    except metadata.PackageNotFoundError:
        return ()


def check_versions(
    ranges: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] | None = None,
) -> None:
    """Refuse packages that are too old; warn once about those never tried.

    Args:
        ranges (dict | None): package to (minimum, first untested release);
            None means :data:`VERSION_RANGES`.

    Raises:
        ImportError: a package is missing or older than its minimum.
    """
    untested = []
    for package, (oldest, ceiling) in (ranges or VERSION_RANGES).items():
        wanted = ".".join(map(str, oldest))
        found = _installed(package)
        if not found:
            raise ImportError(
                f"mmvlm needs {package} >= {wanted}, but it is not installed in "
                f"{sys.prefix}. Run: pip install -r requirements/runtime.txt"
            )
        if found < oldest:
            raise ImportError(
                f"mmvlm needs {package} >= {wanted}, found "
                f"{metadata.version(package)} in {sys.prefix}. Run: "
                f"pip install -U '{package}>={wanted}'"
            )
        if found[: len(ceiling)] >= ceiling:
            line = ".".join(map(str, ceiling))
            untested.append(f"{package} {metadata.version(package)} (below {line})")
    if untested:
        warnings.warn(
            "mmvlm was not tested with "
            + ", ".join(untested)
            + "; in brackets what was. It goes on.",
            stacklevel=2,
        )


# ------------------------------------------------------------ torchvision
def _run_torchvision(execute: Callable[[], None], module: types.ModuleType) -> None:
    """Import torchvision although its extension does not fit a CPU-only torch.

    The wheel on PyPI is linked to CUDA. With a CPU build of torch its extension
    is not loaded, and registering meta kernels for the missing operators fails.
    Declaring the two operators is enough for transforms, box utilities and
    roi_align; for nms use ``mmcv.ops.nms``.
    """
    try:
        execute()
        return
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [n for n in sys.modules if n.startswith("torchvision.")]:
        del sys.modules[name]
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(
            f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    _torch_libraries.append(library)
    execute()


# ------------------------------------------------------------ checkpoints
@contextlib.contextmanager
def trusted_checkpoints() -> Iterator[None]:
    """Let mmengine unpickle any Python object from checkpoints, inside a block.

    Checkpoints of mmengine 0.10 hold pickled objects of its own, which torch >=
    2.6 refuses to load. Unpickling runs code from the file, so this is for
    files whose origin is trusted. ``MMVLM_TRUST_CHECKPOINTS=1`` does the same
    for a whole process.
    """
    global _trust_depth
    _trust_depth += 1
    try:
        yield
    finally:
        _trust_depth -= 1


def _repair_checkpoint_loader(module: types.ModuleType) -> None:
    """Make mmengine's local loader say what it refuses and how to allow it.

    Upstream: open-mmlab/mmengine issue 1655.
    """

    def load_from_local(filename: str, map_location: object = None) -> object:
        import pickle

        import torch

        path = os.path.expanduser(filename)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"checkpoint '{filename}' does not exist.")
        trusted = _trust_depth > 0 or os.environ.get(TRUST_VARIABLE, "") == "1"
        try:
            return torch.load(path, map_location=map_location, weights_only=not trusted)
        except pickle.UnpicklingError as error:
            if trusted:
                raise
            raise pickle.UnpicklingError(
                f"checkpoint '{filename}' holds more than tensors and plain values "
                "(mmengine's own checkpoints do). Loading it runs code from the "
                f"file; if you trust its origin, set {TRUST_VARIABLE}=1 or load it "
                "inside `with mmvlm.compat.trusted_checkpoints():`. torch said: "
                f"{error}"
            ) from error

    module.CheckpointLoader.register_scheme("", load_from_local, force=True)


# ---------------------------------------- packages that are slow and noisy to import
@contextlib.contextmanager
def _without(package: str, importer: str, stand_in: object = None) -> Iterator[None]:
    """Let the import of a package fail in one module, or give it a stand-in there."""
    found = builtins.__import__

    def import_others(
        name: str, scope: dict | None = None, *args: object, **kwargs: object
    ) -> types.ModuleType:
        if name == package and scope and scope.get("__name__") == importer:
            if stand_in is not None:
                return stand_in
            raise ImportError(f"{package} is imported when it is needed")
        return found(name, scope, *args, **kwargs)

    builtins.__import__ = import_others
    try:
        yield
    finally:
        builtins.__import__ = found


class _ImportedAtUse(types.ModuleType):
    """Stands for a package until something of it is asked for."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def _delay_deepspeed(execute: Callable[[], None], module: types.ModuleType) -> None:
    """Import DeepSpeed when a strategy uses it: it takes seconds and prints lines."""
    with _without("deepspeed", module.__name__):
        execute()
    if importlib.util.find_spec("deepspeed") is not None:
        module.deepspeed = _ImportedAtUse("deepspeed")


def _delay_sklearn(execute: Callable[[], None], module: types.ModuleType) -> None:
    """Import scikit-learn, SciPy and pandas when assisted generation draws a curve."""

    def roc_curve(*args: object, **kwargs: object) -> object:
        return importlib.import_module("sklearn.metrics").roc_curve(*args, **kwargs)

    stand_in = types.SimpleNamespace(roc_curve=roc_curve)
    with _without("sklearn.metrics", module.__name__, stand_in):
        execute()


def _delay_bitsandbytes(execute: Callable[[], None], module: types.ModuleType) -> None:
    """Register bitsandbytes' optimizers when an optimizer is asked for in vain."""
    with _without("bitsandbytes", module.__name__):
        execute()
    kind, waiting = type(module.OPTIMIZERS), [module.register_bitsandbytes_optimizers]
    find = kind.get

    # Of the class: registries of other scopes look for a name by themselves.
    def get(self: object, key: str) -> object:
        known = find(self, key)
        if known is None and waiting and self.name == module.OPTIMIZERS.name:
            module.BITSANDBYTES_OPTIMIZERS += waiting.pop()()
            known = find(self, key)
        return known

    kind.get = get


# ------------------------------------------------------------- mmpretrain
def _restore_transformers_names() -> None:
    """Put five names back into transformers.modeling_utils for mmpretrain.

    mmpretrain 1.2 imports them from there; transformers >= 4.56 keeps them in
    other modules.
    """
    from transformers import generation, modeling_utils, pytorch_utils

    for home, name in (
        (pytorch_utils, "apply_chunking_to_forward"),
        (pytorch_utils, "find_pruneable_heads_and_indices"),
        (pytorch_utils, "prune_linear_layer"),
        (generation, "GenerationMixin"),
        (generation, "GenerationConfig"),
    ):
        if not hasattr(modeling_utils, name) and hasattr(home, name):
            setattr(modeling_utils, name, getattr(home, name))


def _disable_mmpretrain_multimodal(module: types.ModuleType) -> None:
    """Turn mmpretrain's OFA, BLIP, Flamingo ... into placeholders on 5.x.

    transformers 5 removed what they need. Backbones, datasets and metrics of
    mmpretrain work; building one of those models names the missing package.
    """
    if _installed("transformers") >= (5,):
        module.WITH_MULTIMODAL = False


# ----------------------------------------------------------------- xtuner
def _repair_safetensors_probe() -> None:
    """Give transformers 5 the probe that xtuner 0.2 imports."""
    import transformers.utils

    if not hasattr(transformers.utils, "is_safetensors_available"):
        transformers.utils.is_safetensors_available = lambda: True


def _repair_cpu_bf16_probe() -> None:
    """Answer xtuner's question whether a CPU knows bfloat16: torch's does."""
    import torch

    if not hasattr(torch.cpu, "is_bf16_supported"):
        torch.cpu.is_bf16_supported = lambda: True


# ------------------------------------------------------------------ hooks
#: shim -> (module, when it acts, function); "run" replaces the execution.
_SHIMS: dict[str, tuple[str, str, Callable[..., None]]] = {
    "torchvision": ("torchvision", "run", _run_torchvision),
    "checkpoint": ("mmengine.runner.checkpoint", "after", _repair_checkpoint_loader),
    "deepspeed": ("mmengine._strategy.deepspeed", "run", _delay_deepspeed),
    "sklearn": ("transformers.generation.candidate_generator", "run", _delay_sklearn),
    "bitsandbytes": ("mmengine.optim.optimizer.builder", "run", _delay_bitsandbytes),
    "transformers_names": (
        "mmpretrain.models.multimodal",
        "before",
        _restore_transformers_names,
    ),
    "mmpretrain_multimodal": (
        "mmpretrain.utils.dependency",
        "after",
        _disable_mmpretrain_multimodal,
    ),
    "xtuner_safetensors": ("xtuner.utils", "before", _repair_safetensors_probe),
    "xtuner_bf16": ("xtuner.model", "before", _repair_cpu_bf16_probe),
}


class _ShimFinder(MetaPathFinder):
    """Let the other finders find a module, then add its shim to its loader."""

    def __init__(self, shims: dict[str, tuple[str, Callable[..., None]]]) -> None:
        self.shims = shims
        self._searching: set[tuple[int, str]] = set()

    def find_spec(
        self,
        fullname: str,
        path: object = None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the module's ordinary spec, its execution wrapped."""
        search = (threading.get_ident(), fullname)
        # A finder may itself ask for the spec, which leads back to here.
        if fullname not in self.shims or search in self._searching:
            return None
        self._searching.add(search)
        try:
            for finder in sys.meta_path:
                if _is_shim_finder(finder) or not hasattr(finder, "find_spec"):
                    continue
                spec = finder.find_spec(fullname, path, target)
                if spec is not None and spec.loader is not None:
                    self._wrap(spec, *self.shims[fullname])
                    return spec
        finally:
            self._searching.discard(search)
        return None

    @staticmethod
    def _wrap(spec: ModuleSpec, when: str, shim: Callable[..., None]) -> None:
        execute = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            if when == "run":
                shim(lambda: execute(module), module)
                return
            if when == "before":
                shim()
            execute(module)
            if when == "after":
                shim(module)

        # On the instance: the loader keeps its class, which tools look at.
        spec.loader.exec_module = exec_module


def _is_shim_finder(finder: object) -> bool:
    """Whether a finder is ours, also when mmvlm was imported anew since.

    Tools that take modules out of ``sys.modules`` (coverage does) make the next
    import define the class again; the old finder is no instance of the new one.
    """
    kind = type(finder)
    return (kind.__module__, kind.__qualname__) == (__name__, _ShimFinder.__qualname__)


def disabled_shims() -> set[str]:
    """Return the shims that the environment switches off.

    Raises:
        ValueError: the variable names a shim that does not exist.
    """
    wanted = {n.strip() for n in os.environ.get(DISABLE_VARIABLE, "").split(",")}
    wanted.discard("")
    if "all" in wanted:
        return set(_SHIMS)
    if unknown := wanted - set(_SHIMS):
        raise ValueError(
            f"{DISABLE_VARIABLE}: unknown shim {sorted(unknown)}; "
            f"there are {sorted(_SHIMS)} and 'all'."
        )
    return wanted


def apply() -> None:
    """Check versions and install the shims; the second call does nothing.

    Shims of modules that were imported before mmvlm act at once where that
    still helps. The finder of an earlier import of mmvlm is replaced.
    """
    if any(isinstance(finder, _ShimFinder) for finder in sys.meta_path):
        return
    check_versions()
    off = disabled_shims()
    waiting = {}
    for name, (target, when, shim) in _SHIMS.items():
        if name in off:
            continue
        if target not in sys.modules:
            waiting[target] = (when, shim)
        elif when == "before":
            shim()
        elif when == "after":
            shim(sys.modules[target])
    others = [finder for finder in sys.meta_path if not _is_shim_finder(finder)]
    sys.meta_path[:] = [_ShimFinder(waiting), *others]
