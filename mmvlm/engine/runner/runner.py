"""The runner of one process and of DDP."""

from __future__ import annotations

import functools
import os
from typing import Any

from mmengine.device import get_device
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmvlm.config.work_dir import CONFIG
from mmvlm.registry import MODELS, RUNNERS

from ..optimizers.float32_weights import train_in_float32
from ..optimizers.optim_wrapper import wrapper_dtype
from ..optimizers.schedulers import schedulers_by_step
from .checkpoint import omitted_keys, unwrap
from .dataloader import build_dataloader
from .eval_loops import with_loop_type
from .setup import (
    accumulation_of,
    check_batch_size,
    ddp_options,
    default_hooks,
    hooks_summary,
    init_process_group,
    load_trained,
    make_processor,
    start_weights,
    tell_model_about_ranks,
    warn_random_weights,
)
from .state import PlainStateIO, resume_training_state, save_training_state


@RUNNERS.register_module()
class VLMRunner(Runner):
    """mmengine's runner with our loaders, context, checkpoints and exact resume.

    Args:
        *args: see :class:`mmengine.runner.Runner`.
        load_from (str | dict | list | None): weights of a new run, see
            :func:`mmvlm.engine.runner.setup.load_initial_weights`.
        resume (bool | str): ``'auto'`` or True for the newest checkpoint of
            ``work_dir``, or a path.
        param_scheduler (dict | list | None): see mmengine.
        **kwargs: see :class:`mmengine.runner.Runner`.

    """

    def __init__(
        self,
        *args: Any,
        load_from: Any = None,
        resume: Any = False,
        param_scheduler: Any = None,
        **kwargs: Any,
    ) -> None:
        self.processor = None
        self.frozen_fingerprint: dict | None = None
        self.known_identity: dict | None = None
        settings = dict(kwargs, param_scheduler=param_scheduler)
        self.settings = kwargs.get("cfg") or settings
        super().__init__(
            *args, param_scheduler=schedulers_by_step(param_scheduler), **kwargs
        )
        self._load_from, self._resume = load_from, resume
        self.accumulation = accumulation_of(self.optim_wrapper)
        self.processor = make_processor(self.cfg, self.model)
        self.omitted_keys = omitted_keys(unwrap(self.model))
        check_batch_size(
            self.cfg, self._train_dataloader, self.accumulation, self.world_size
        )

    @functools.cached_property
    def config_text(self) -> str:
        """The resolved config as text; formatting it takes a while."""
        return self.cfg.pretty_text

    @property
    def state_io(self) -> PlainStateIO:
        """Reads and writes weights and optimizer state."""
        return PlainStateIO(self.model, self.optim_wrapper)

    def dump_config(self) -> None:
        """Write the config, but for ``config.py``: ProvenanceHook's, of a training."""
        if os.path.basename(self.cfg.filename or "") != CONFIG:
            super().dump_config()

    def get_hooks_info(self) -> str:
        """Return the names of the hooks, in order."""
        return hooks_summary(self.hooks)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register our default hooks under those of the config."""
        super().register_default_hooks(default_hooks(hooks))

    def setup_env(self, env_cfg: dict) -> None:
        """Start processes also without a GPU, then as mmengine."""
        backend = (env_cfg.get("dist_cfg") or {}).get("backend")
        init_process_group(self._launcher, backend)
        super().setup_env(env_cfg)

    def build_model(self, model: Any) -> Any:
        """Build the model with our registry, which knows what all parts may say."""
        return MODELS.build(model) if isinstance(model, dict) else model

    def wrap_model(self, model_wrapper_cfg: dict | None, model: Any) -> Any:
        """Leave the model bare; it is wrapped when its use is known."""
        return model

    def _place_model(self, training: bool) -> None:
        """Move the model to its device and wrap it for DDP, on the CPU too.

        Only a run that trains needs its weights in float32.
        """
        if is_model_wrapper(self.model):
            return
        model = self.model.to(get_device())
        if training:
            train_in_float32(model, wrapper_dtype(self.optim_wrapper))
        tell_model_about_ranks(model, self.world_size, sharded=False)
        options = self.cfg.get("model_wrapper_cfg")
        if self.distributed:
            options = ddp_options(model, options)
        self.model = super().wrap_model(options, model)

    def train(self) -> nn.Module:
        """Train; returns the wrapped model."""
        self._place_model(training=True)
        return super().train()

    def val(self) -> dict:
        """Validate; returns the metrics."""
        self._place_model(training=False)
        return super().val()

    def test(self) -> dict:
        """Test; returns the metrics."""
        self._place_model(training=False)
        return super().test()

    def build_train_loop(self, loop: Any) -> Any:
        """Build the train loop, ours unless the config names one."""
        return super().build_train_loop(with_loop_type(loop, "VLMTrainLoop"))

    def build_val_loop(self, loop: Any) -> Any:
        """Build the validation loop, ours unless the config names one."""
        return super().build_val_loop(with_loop_type(loop, "VLMValLoop"))

    def build_test_loop(self, loop: Any) -> Any:
        """Build the test loop, ours unless the config names one."""
        return super().build_test_loop(with_loop_type(loop, "VLMTestLoop"))

    def build_dataloader(
        self, dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False
    ) -> Any:
        """Build a loader around our batch samplers and bind the processor."""
        return build_dataloader(
            dataloader,
            seed=seed,
            processor=self.processor,
            accumulation=self.accumulation,
            training=dataloader is self._train_dataloader,
        )

    def load_or_resume(self) -> None:
        """Load the weights of a new run, or restore a run."""
        if self._has_loaded:
            return
        self._has_loaded = True
        resumed = start_weights(
            self.model, self._load_from, self._resume, self.work_dir
        )
        if resumed is None:
            warn_random_weights(self.cfg, self.model)
        elif self._train_loop is not None:
            resume_training_state(self, *resumed)

    def load_trained(self, path: str) -> None:
        """Load a trained checkpoint instead of what the config says, for tests."""
        self._init_model_weights()
        load_trained(self.model, path, self._load_from)
        self._has_loaded = True

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        save_optimizer: bool = True,
        trainable_only: bool = False,
        meta: dict | None = None,
        **kwargs: Any,
    ) -> None:
        """Write a checkpoint, see :func:`save_training_state`.

        Other keywords of mmengine's method (``by_epoch`` ...) change nothing.
        """
        save_training_state(
            self,
            os.path.join(out_dir, filename),
            save_optimizer=save_optimizer,
            trainable_only=trainable_only,
            meta=meta,
        )


def build_runner(cfg: Any) -> Runner:
    """Build the runner that a config asks for.

    Args:
        cfg (mmengine.Config): with ``strategy``, a :class:`VLMFlexibleRunner` is
            built, else a :class:`VLMRunner`.

    """
    if cfg.get("strategy") is not None:
        from .flexible_runner import VLMFlexibleRunner

        return VLMFlexibleRunner.from_cfg(cfg)
    return VLMRunner.from_cfg(cfg)
