"""All registries of mmvlm: children of mmengine's root nodes, scope ``mmvlm``.

Look-up is exact. A name is registered once; a second registration names both
files. A node imports the module of a name when the name is looked up, and all
modules of its folders when it is listed.
"""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry as _Registry

from mmvlm.utils.imports import RegisteredModules

SCOPE = "mmvlm"


def _where(obj: object) -> str:
    """Return ``file:line`` of a class or function, or its module."""
    try:
        return f"{inspect.getsourcefile(obj)}:{inspect.getsourcelines(obj)[1]}"
    except (OSError, TypeError):
        return getattr(obj, "__module__", "<unknown>")


class Registry(_Registry):
    """mmengine registry whose errors name both places and near names.

    Args:
        name (str): what it holds, for messages.
        modules (RegisteredModules): what the package registers here.
        parent (mmengine.Registry | None): node to search next.
    """

    def __init__(
        self, name: str, modules: RegisteredModules, parent: _Registry | None = None
    ) -> None:
        #: Start of a name -> why such names may be missing, for messages.
        self.hints: dict[str, str] = {}
        super().__init__(name, parent=parent, scope=SCOPE)
        self._module_dict = modules

    def __bool__(self) -> bool:
        """Be true, filled or not: counting the names would import their modules."""
        return True

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


def _node(node: str, name: str, *folders: str, parent: Any = None) -> Registry:
    """Return a registry below mmengine's of the same name, if it has one."""
    parent = parent or getattr(root, node, None)
    return Registry(name, RegisteredModules(node, *folders), parent)


RUNNERS = _node("RUNNERS", "runner", "engine/runner")
LOOPS = _node("LOOPS", "loop", "engine/runner")
HOOKS = _node("HOOKS", "hook", "engine/hooks")
STRATEGIES = _node("STRATEGIES", "strategy", "engine/strategies")
OPTIM_WRAPPERS = _node(
    "OPTIM_WRAPPERS", "optim_wrapper", "engine/optimizers", "engine/strategies"
)
OPTIM_WRAPPER_CONSTRUCTORS = _node(
    "OPTIM_WRAPPER_CONSTRUCTORS", "optimizer wrapper constructor", "engine/optimizers"
)
OPTIMIZERS = _node("OPTIMIZERS", "optimizer", "engine/optimizers")
PARAM_SCHEDULERS = _node("PARAM_SCHEDULERS", "parameter scheduler", "engine/optimizers")
LOG_PROCESSORS = _node("LOG_PROCESSORS", "log_processor", "engine/runner")
MODELS = _node("MODELS", "model", "models")
MODEL_WRAPPERS = _node("MODEL_WRAPPERS", "model_wrapper", "engine/strategies")
DATASETS = _node("DATASETS", "dataset", "datasets")
DATA_SAMPLERS = _node("DATA_SAMPLERS", "data sampler", "datasets/samplers")
TRANSFORMS = _node("TRANSFORMS", "transform", "datasets/transforms")
FUNCTIONS = _node("FUNCTIONS", "function", "datasets")
METRICS = _node("METRICS", "metric", "evaluation")
EVALUATORS = _node("EVALUATORS", "evaluator", "evaluation", parent=root.EVALUATOR)
VISUALIZERS = _node("VISUALIZERS", "visualizer", "visualization")
VISBACKENDS = _node("VISBACKENDS", "vis_backend", "visualization")
INFERENCERS = _node("INFERENCERS", "inferencer", "apis")
# Kinds that mmengine has no root for.
CHAT_TEMPLATES = _node("CHAT_TEMPLATES", "chat template", "text/templates")
TOKENIZERS = _node("TOKENIZERS", "tokenizer", "text")
CODECS = _node("CODECS", "grounding codec", "text")
PROCESSORS = _node("PROCESSORS", "processor", "datasets")
DATA_TASKS = _node("DATA_TASKS", "data task", "datasets/tasks")
SCORERS = _node("SCORERS", "scorer", "evaluation/scorers")
SCENE_WRITERS = _node(
    "SCENE_WRITERS", "tiny scenes writer", "datasets/tiny_scenes/writers"
)
