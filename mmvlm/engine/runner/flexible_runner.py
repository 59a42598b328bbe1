"""The runner of configs with a strategy: DDP, FSDP, DeepSpeed."""

from __future__ import annotations

import functools
import os
from typing import Any

import torch
from mmengine.runner import FlexibleRunner
from torch import nn

from mmvlm.config.work_dir import CONFIG
from mmvlm.registry import MODELS, RUNNERS, STRATEGIES

from ..optimizers.float32_weights import train_in_float32
from ..optimizers.optim_wrapper import wrapper_dtype
from ..optimizers.part_constructor import record_part_sizes
from ..optimizers.schedulers import schedulers_by_step
from .checkpoint import omitted_keys
from .dataloader import build_dataloader
from .eval_loops import with_loop_type
from .setup import (
    accumulation_of,
    check_batch_size,
    default_hooks,
    hooks_summary,
    init_process_group,
    load_trained,
    make_processor,
    start_weights,
    tell_model_about_ranks,
    warn_random_weights,
)
from .state import resume_training_state, save_training_state


@RUNNERS.register_module()
class VLMFlexibleRunner(FlexibleRunner):
    """mmengine's runner for strategies, with what :class:`VLMRunner` adds.

    The model gets its weights before the strategy spreads it over ranks, so that
    whole files serve every strategy.

    Args:
        model (dict | nn.Module): the model.
        load_from, resume, param_scheduler: see :class:`VLMRunner`.
        env_cfg (dict | None): without a ``dist_cfg`` the backend is NCCL, or gloo
            without a GPU.
        launcher (str | None): None or ``none`` starts a group of one process.
        **kwargs: see :class:`mmengine.runner.FlexibleRunner`.

    """

    def __init__(
        self,
        model: dict | nn.Module,
        *,
        load_from: Any = None,
        resume: Any = False,
        param_scheduler: Any = None,
        env_cfg: dict | None = None,
        launcher: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.processor = None
        self.frozen_fingerprint: dict | None = None
        self.known_identity: dict | None = None
        settings = dict(kwargs, model=model, param_scheduler=param_scheduler)
        self.settings = kwargs.get("cfg") or settings
        env_cfg = dict(env_cfg or {})
        gpu = torch.cuda.is_available()
        dist_cfg = dict(env_cfg.get("dist_cfg") or {})
        backend = dist_cfg.setdefault("backend", "nccl") if gpu else "gloo"
        env_cfg["dist_cfg"] = dict(dist_cfg, backend=backend)
        init_process_group(launcher, backend, alone=True)
        super().__init__(
            model,
            param_scheduler=schedulers_by_step(param_scheduler),
            env_cfg=env_cfg,
            launcher=launcher or "none",
            **kwargs,
        )
        self._load_from, self._resume = load_from, resume
        self.accumulation = accumulation_of(self.optim_wrapper)
        if isinstance(self.model, dict):
            self.model = MODELS.build(self.model)
        self._model_name = type(self.model).__name__
        self.processor = make_processor(self.cfg, self.model)
        self.omitted_keys = omitted_keys(self.model)
        record_part_sizes(self.model)
        check_batch_size(
            self.cfg, self._train_dataloader, self.accumulation, self.world_size
        )

    @functools.cached_property
    def config_text(self) -> str:
        """The resolved config as text; formatting it takes a while."""
        return self.cfg.pretty_text

    @property
    def state_io(self) -> Any:
        """Reads and writes weights and optimizer state."""
        return self.strategy.state_io(self.model, self.optim_wrapper)

    def build_strategy(self, strategy: Any = None, **kwargs: Any) -> Any:
        """Build the strategy from our registry; no scope is set yet at this time."""
        if isinstance(strategy, dict) and isinstance(strategy["type"], str):
            found = STRATEGIES.get(strategy["type"])
            if found is None:
                raise KeyError(
                    f"strategy.type='{strategy['type']}': no such strategy. "
                    f"Registered: {sorted(STRATEGIES.module_dict)}."
                )
            strategy = dict(strategy, type=found)
        return super().build_strategy(strategy, **kwargs)

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

    def train(self) -> nn.Module:
        """Train; returns the wrapped model."""
        if self._train_loop is None:
            raise RuntimeError(
                "train() needs train_cfg, train_dataloader, optim_wrapper."
            )
        self._train_loop = self.build_train_loop(self._train_loop)
        if self._val_loop is not None:
            self._val_loop = self.build_val_loop(self._val_loop)
        resumed = self._prepare(
            optim_wrapper=self.optim_wrapper,
            param_scheduler=self.param_schedulers,
            compile=self._compile_options(),
        )
        self.optim_wrapper = self.strategy.optim_wrapper
        if self.param_schedulers is not None:
            self.param_schedulers = self.strategy.param_schedulers
        if resumed is not None:
            resume_training_state(self, *resumed)
        self.call_hook("before_run")
        model = self.train_loop.run()
        self.call_hook("after_run")
        return model

    def val(self) -> dict:
        """Validate; returns the metrics."""
        self._val_loop = self.build_val_loop(self._val_loop)
        return self._evaluate(self._val_loop)

    def test(self) -> dict:
        """Test; returns the metrics."""
        self._test_loop = self.build_test_loop(self._test_loop)
        return self._evaluate(self._test_loop)

    def _evaluate(self, loop: Any) -> dict:
        self._prepare()
        self.call_hook("before_run")
        metrics = loop.run()
        self.call_hook("after_run")
        return metrics

    def _compile_options(self) -> Any:
        if isinstance(self._compile, bool):
            return dict(target="train_step") if self._compile else False
        return dict(dict(target="train_step"), **self._compile)

    def _prepare(self, **components: Any) -> Any:
        """Give the bare model its weights, then let the strategy spread it."""
        resumed = None
        tell_model_about_ranks(
            self.model, self.world_size, getattr(self.strategy, "shards_weights", False)
        )
        if components:
            dtype = wrapper_dtype(components["optim_wrapper"])
            masters = getattr(self.strategy, "keeps_masters", False)
            train_in_float32(self.model, dtype, masters)
        if not self._has_loaded:
            self.strategy._init_model_weights(self.model)
            resumed = start_weights(
                self.model, self._load_from, self._resume, self.work_dir
            )
            if resumed is None:
                warn_random_weights(self.cfg, self.model)
            self._has_loaded = True
        # The strategy must not initialise again what was just loaded.
        self.strategy.dispatch_kwargs["init_weights_for_test_or_val"] = False
        loop = self.train_loop if components else None
        lengths = {}
        if loop is not None:
            lengths = dict(
                epoch_length=len(loop.dataloader),
                max_epochs=loop.max_epochs,
                max_iters=loop.max_iters,
            )
        self.strategy.prepare(self.model, dispatch_kwargs=lengths, **components)
        self.model = self.strategy.model
        return resumed

    def load_trained(self, path: str) -> None:
        """Load a trained checkpoint instead of what the config says, for tests."""
        self.strategy._init_model_weights(self.model)
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
        """Write a whole checkpoint, see :func:`save_training_state`."""
        save_training_state(
            self,
            os.path.join(out_dir, filename),
            save_optimizer=save_optimizer,
            trainable_only=trainable_only,
            meta=meta,
        )
