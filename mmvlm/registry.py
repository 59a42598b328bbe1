"""All registries of mmvlm: children of mmengine's root nodes, scope ``mmvlm``.

Look-up is exact. A name is registered once; a second registration names both
files. Each node imports its own folders (``locations``) at the first look-up.
"""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry as _Registry

SCOPE = "mmvlm"


def _where(obj: object) -> str:
    """Return ``file:line`` of a class or function, or its module."""
    try:
        return f"{inspect.getsourcefile(obj)}:{inspect.getsourcelines(obj)[1]}"
    except (OSError, TypeError):
        return getattr(obj, "__module__", "<unknown>")


class Registry(_Registry):
    """mmengine registry whose errors name both places and near names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Start of a name -> why such names may be missing, for messages.
        self.hints: dict[str, str] = {}
        super().__init__(*args, **kwargs)

    def build(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """Build ``cfg``.

        Raises:
            KeyError: naming the nearest registered names, when ``cfg['type']`` is
                unknown.

        """
        name = cfg.get("type") if isinstance(cfg, dict) else None
        if isinstance(name, str) and self.get(name) is None:
            close = difflib.get_close_matches(name, self.module_dict, 3, 0.5)
            hints = [why for start, why in self.hints.items() if name.startswith(start)]
            near = f"Did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise KeyError(
                " ".join([f"no {self.name} is named '{name}'.", near, *hints]).strip()
            )
        if self.name == "model" and isinstance(cfg, dict) and "random_init" in cfg:
            # Said to the doctor and to the reader; see mmvlm.config.sources.
            cfg = {key: value for key, value in cfg.items() if key != "random_init"}
        return super().build(cfg, *args, **kwargs)

    def _register_module(self, module, module_name=None, force=False):
        names = module_name or module.__name__
        for name in [names] if isinstance(names, str) else names:
            known = self._module_dict.get(name)
            if known is not None and known is not module and not force:
                raise KeyError(
                    f"'{name}' is registered twice in '{self.name}': "
                    f"{_where(known)} and {_where(module)}. Rename one of them."
                )
        return super()._register_module(module, module_name, force)


def _node(name: str, parent: _Registry | None, *locations: str) -> Registry:
    return Registry(
        name,
        parent=parent,
        scope=SCOPE,
        locations=[f"mmvlm.{location}" for location in locations],
    )


RUNNERS = _node("runner", root.RUNNERS, "engine.runner")
LOOPS = _node("loop", root.LOOPS, "engine.runner")
HOOKS = _node("hook", root.HOOKS, "engine.hooks")
STRATEGIES = _node("strategy", root.STRATEGIES, "engine.strategies")
OPTIM_WRAPPERS = _node("optim_wrapper", root.OPTIM_WRAPPERS, "engine.optimizers")
OPTIM_WRAPPER_CONSTRUCTORS = _node(
    "optimizer wrapper constructor",
    root.OPTIM_WRAPPER_CONSTRUCTORS,
    "engine.optimizers",
)
OPTIMIZERS = _node("optimizer", root.OPTIMIZERS, "engine.optimizers")
PARAM_SCHEDULERS = _node(
    "parameter scheduler", root.PARAM_SCHEDULERS, "engine.optimizers"
)
LOG_PROCESSORS = _node("log_processor", root.LOG_PROCESSORS, "engine.runner")
MODELS = _node("model", root.MODELS, "models")
MODEL_WRAPPERS = _node("model_wrapper", root.MODEL_WRAPPERS, "engine.strategies")
DATASETS = _node("dataset", root.DATASETS, "datasets")
DATA_SAMPLERS = _node("data sampler", root.DATA_SAMPLERS, "datasets.samplers")
TRANSFORMS = _node("transform", root.TRANSFORMS, "datasets.transforms")
FUNCTIONS = _node("function", root.FUNCTIONS, "datasets")
METRICS = _node("metric", root.METRICS, "evaluation")
EVALUATORS = _node("evaluator", root.EVALUATOR, "evaluation")
VISUALIZERS = _node("visualizer", root.VISUALIZERS, "visualization")
VISBACKENDS = _node("vis_backend", root.VISBACKENDS, "visualization")
INFERENCERS = _node("inferencer", root.INFERENCERS, "apis")
# Kinds that mmengine has no root for.
CHAT_TEMPLATES = _node("chat template", None, "text.templates")
TOKENIZERS = _node("tokenizer", None, "text")
CODECS = _node("grounding codec", None, "text")
DATA_TASKS = _node("data task", None, "datasets.tasks")
SCENE_WRITERS = _node("tiny scenes writer", None, "datasets.tiny_scenes.writers")
