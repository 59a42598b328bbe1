"""Which registry a config position belongs to, and who fills what by itself."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from mmengine import registry as root

from mmvlm import registry as nodes
from mmvlm.registry import Registry

#: Registry of a key, wherever it stands.
BY_KEY: dict[str, Registry] = {
    "pipeline": nodes.TRANSFORMS,
    "transforms": nodes.TRANSFORMS,
    "targets": nodes.TRANSFORMS,
    "dataset": nodes.DATASETS,
    "datasets": nodes.DATASETS,
    "sampler": nodes.DATA_SAMPLERS,
    "batch_sampler": nodes.DATA_SAMPLERS,
    "collate_fn": nodes.FUNCTIONS,
    "worker_init_fn": nodes.FUNCTIONS,
    "optimizer": nodes.OPTIMIZERS,
    "tokenizer": nodes.TOKENIZERS,
    "chat_template": nodes.CHAT_TEMPLATES,
    "template": nodes.CHAT_TEMPLATES,
    "codec": nodes.CODECS,
    "views": nodes.TRANSFORMS,
    "task": nodes.DATA_TASKS,
    "tasks": nodes.DATA_TASKS,
    "writer": nodes.SCENE_WRITERS,
    "vis_backends": nodes.VISBACKENDS,
    "visualizer": nodes.VISUALIZERS,
    "metric": nodes.METRICS,
    "metrics": nodes.METRICS,
    "scorer": nodes.SCORERS,
    "init_cfg": root.WEIGHT_INITIALIZERS,
    "data_preprocessor": nodes.MODELS,
    "adapters": nodes.MODELS,
    "model_wrapper": nodes.MODEL_WRAPPERS,
}


#: Keys of ``BY_KEY`` whose owner fills a ``type`` in.
DEFAULT_TYPE = {"model_wrapper"}


@dataclass(frozen=True)
class Field:
    """A top-level field that holds components.

    Args:
        registry (Registry | None): of the component itself.
        default (str | None): type used by the runner when none is written.
        named (bool): the field is a dict of name to component.
    """

    registry: Registry
    default: str | None = None
    named: bool = False


#: Top-level fields made of components.
FIELDS: dict[str, Field] = {
    "model": Field(nodes.MODELS),
    "tokenizer": Field(nodes.TOKENIZERS),
    "chat_template": Field(nodes.CHAT_TEMPLATES),
    "processor": Field(nodes.PROCESSORS, "VLMProcessor"),
    "optim_wrapper": Field(nodes.OPTIM_WRAPPERS, "OptimWrapper"),
    "param_scheduler": Field(nodes.PARAM_SCHEDULERS),
    "train_cfg": Field(nodes.LOOPS, "EpochBasedTrainLoop"),
    "val_cfg": Field(nodes.LOOPS, "ValLoop"),
    "test_cfg": Field(nodes.LOOPS, "TestLoop"),
    "val_evaluator": Field(nodes.METRICS),
    "test_evaluator": Field(nodes.METRICS),
    "default_hooks": Field(nodes.HOOKS, named=True),
    "custom_hooks": Field(nodes.HOOKS),
    "visualizer": Field(nodes.VISUALIZERS, "Visualizer"),
    "log_processor": Field(nodes.LOG_PROCESSORS, "LogProcessor"),
    "strategy": Field(nodes.STRATEGIES),
    "data_preprocessor": Field(nodes.MODELS),
}
DATALOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")

#: Top-level fields without components; the value is the accepted type(s).
PLAIN_FIELDS: dict[str, tuple[type, ...]] = {
    "default_scope": (str,),
    "custom_imports": (dict,),
    "env_cfg": (dict,),
    "load_from": (str, dict, list, tuple, type(None)),
    "resume": (bool, str),
    "resume_with_changes": (bool,),
    "work_dir": (str, type(None)),
    "randomness": (dict,),
    "launcher": (str,),
    "log_level": (str,),
    "experiment_name": (str, type(None)),
    "runner_type": (str,),
    "auto_scale_lr": (dict, type(None)),
    "base_batch_size": (int, type(None)),
    "benchmarks": (list, tuple, type(None)),
    "sample_prompts": (list, tuple, type(None)),
    "cfg": (dict,),
    "compile": (bool, dict),
}

#: Keys of fields that are plain dicts.
PLAIN_KEYS: dict[str, tuple[str, ...]] = {
    "env_cfg": ("cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"),
    "randomness": ("seed", "diff_rank_seed", "deterministic"),
    "load_from": ("path", "parts", "rename", "strict", "allow_pickle", "grow"),
    "custom_imports": ("imports", "allow_failed_imports"),
    "auto_scale_lr": ("enable", "base_batch_size"),
}

#: Keywords that the machinery consumes before the constructor sees them.
CONSUMED: dict[str, set[str]] = {
    "model": {"random_init"},
    "hook": {"priority"},
    "parameter scheduler": {"convert_to_iter_based", "epoch_length"},
    "optim_wrapper": {"optimizer", "constructor", "paramwise_cfg"},
    "loop": {"by_epoch"},
}

#: Required keywords that the machinery fills in.
FILLED: dict[str, set[str]] = {
    "model": {"vision_spec", "out_width", "in_width", "specs", "media_width", "width"},
    "data sampler": {"dataset", "batch_size", "sampler", "drop_last", "seed"},
    "loop": {"runner", "dataloader", "evaluator"},
    "optimizer": {"params"},
    "parameter scheduler": {"optimizer", "end"},
    "visualizer": {"name"},
    "vis_backend": {"save_dir"},
    "dataset": {"tokenizer"},
    "hook": set(),
}

#: Dicts below these keys belong to other libraries; nothing in them is built.
OPAQUE = {"config_overrides", "meta", "metainfo", "rope_scaling"}

#: Dicts without ``type``, by key: the functions whose keywords they are.
KEYWORDS_OF: dict[str, tuple[str, ...]] = {
    "lora": ("mmvlm.models.language_models.peft.add_lora", "peft.LoraConfig"),
    "new_tokens": ("mmvlm.models.language_models.new_tokens.NewTokens",),
    "quantization": ("mmvlm.models.language_models.peft.quantize_linears",),
    "clip_grad": (
        "torch.nn.utils.clip_grad_norm_",
        "torch.nn.utils.clip_grad_value_",
    ),
    "bad_samples": ("mmvlm.datasets.bad_samples.BadSamplePolicy",),
    "load_images": ("mmvlm.datasets.transforms.loading.LoadImages",),
    "write_regions": ("mmvlm.datasets.transforms.regions.WriteRegions",),
    "encode_conversation": (
        "mmvlm.datasets.transforms.conversation.EncodeConversation",
    ),
    "generation": (
        "mmvlm.models.language_models.base.GenerationOptions",
        "transformers.GenerationConfig",
    ),
}

#: Modules that fill mmengine's root registries, which name no locations.
_ROOT_MODULES = ("mmengine.runner", "mmengine._strategy", "mmengine.dataset")

#: Packages whose registries may be named with a prefix.
SCOPES = ("mmengine", "mmcv", "mmpretrain", "xtuner", "mmdet", "mmseg", "mmvlm")


def _nodes(registry: Registry) -> Iterator[Any]:
    """Yield a registry and those above it, filled."""
    node = registry
    while node is not None:
        node.import_from_location()
        if node.parent is None and node.scope == "mmengine":
            for module in _ROOT_MODULES:
                _importable(module)
        yield node
        node = node.parent


def names_in(registry: Registry) -> dict[str, Any]:
    """Return every name that an unprefixed ``type`` may use at a registry."""
    found: dict[str, Any] = {}
    for node in _nodes(registry):
        found = {**node.module_dict, **found}
    return found


class UnknownName(KeyError):
    """A ``type`` that no registry knows; carries the advice for the user."""

    def __str__(self) -> str:
        return str(self.args[0])


def resolve(registry: Registry, name: str) -> Any:
    """Return the class or function that ``type=name`` means at a registry.

    Raises:
        UnknownName: saying what is unknown, the scope or the name.
    """
    if name in registry.module_dict:
        return registry.module_dict[name]
    if "." not in name:
        for node in _nodes(registry):
            if name in node.module_dict:
                return node.module_dict[name]
        raise UnknownName("unregistered")
    scope, _, rest = name.partition(".")
    if scope == registry.scope:
        if rest in registry.module_dict:
            return registry.module_dict[rest]
        raise UnknownName("unregistered")
    found = _from_scope(registry, scope, rest) or from_path(name)
    if found is None:
        import_ok = _importable(scope)
        reason = (
            f"the package '{scope}' has no such {registry.name}"
            if import_ok
            else f"unknown scope '{scope}': no package of that name is installed"
        )
        raise UnknownName(reason)
    return found


def _from_scope(registry: Registry, scope: str, name: str) -> Any:
    """Look a prefixed name up in another project's registry of the same kind."""
    if scope not in SCOPES or not _importable(f"{scope}.registry"):
        return None
    base = registry.parent
    if base is None:
        return None
    node = base if scope == base.scope else base.children.get(scope)
    if node is None:
        return None
    node.import_from_location()
    return node.module_dict.get(name)


@functools.cache
def _importable(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def from_path(name: str) -> Any:
    """Import ``package.module.Class``."""
    module, _, attribute = name.rpartition(".")
    if not _importable(module):
        return None
    return getattr(import_module(module), attribute, None)
