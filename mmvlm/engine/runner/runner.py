"""The runner: what a config trains, validates and tests, under any strategy."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

from mmengine.logging import print_log
from mmengine.runner import FlexibleRunner
from torch import nn

from mmvlm.config.work_dir import CONFIG
from mmvlm.registry import LOOPS, MODELS, RUNNERS, STRATEGIES

from ..optimizers.float32_weights import train_in_float32
from ..optimizers.optim_wrapper import wrapper_dtype
from ..optimizers.part_constructor import record_part_sizes
from ..optimizers.schedulers import schedulers_by_step
from .checkpoint import omitted_keys
from .dataloader import build_dataloader
from .setup import (
    accumulation_of,
    batch_size_of,
    check_batch_size,
    default_hooks,
    load_trained,
    make_processor,
    start_weights,
    tell_model_about_ranks,
    warn_random_weights,
)
from .state import save_training_state


@RUNNERS.register_module()
class VLMRunner(FlexibleRunner):
    """mmengine's runner with our loaders, context, checkpoints and exact resume.

    The model gets its weights before the strategy spreads it over ranks, so that
    whole files serve every strategy.

    Args:
        model (dict | nn.Module): the model.
        strategy (dict | None): how the model is spread over devices. None takes
            ``VLMDDPStrategy`` under a launcher, else ``VLMSingleDeviceStrategy``.
        load_from (str | dict | list | None): weights of a new run, see
            :func:`mmvlm.engine.runner.setup.load_initial_weights`.
        resume (bool | str): ``'auto'`` or True for the newest checkpoint of
            ``work_dir``, or a path.
        param_scheduler (dict | list | None): see mmengine.
        env_cfg (dict | None): without a ``dist_cfg`` the backend is NCCL, or gloo
            without a GPU.
        launcher (str | None): ``pytorch``, ``slurm``, or None and ``none`` for one
            process.
        randomness (dict): see mmengine.
        compile (bool | dict | None): arguments of ``torch.compile`` for the train
            step; None takes the config's ``compile``.
        cfg (mmengine.Config | None): what the run was made from.
        **kwargs: see :class:`mmengine.runner.FlexibleRunner`.
    """

    def __init__(
        self,
        model: dict | nn.Module,
        *,
        strategy: Any = None,
        load_from: Any = None,
        resume: Any = False,
        param_scheduler: Any = None,
        env_cfg: dict | None = None,
        launcher: str | None = None,
        randomness: dict | None = None,
        compile: bool | dict | None = None,
        cfg: Any = None,
        **kwargs: Any,
    ) -> None:
        self.processor = None
        self.frozen_fingerprint: dict | None = None
        self.known_identity: dict | None = None
        settings = dict(kwargs, model=model, param_scheduler=param_scheduler)
        self.settings = cfg or settings
        if _brings_data(kwargs.get("val_cfg")):
            # mmengine wants the three together.
            kwargs = {**kwargs, "val_dataloader": {}, "val_evaluator": {}}
        if compile is None:
            compile = (cfg or {}).get("compile", False)
        randomness = dict(randomness or dict(seed=None))
        self._deterministic = bool(randomness.get("deterministic", False))
        super().__init__(
            model,
            strategy=strategy,
            param_scheduler=schedulers_by_step(param_scheduler),
            env_cfg=dict(env_cfg or {}),
            launcher=launcher or "none",
            randomness=randomness,
            compile=compile,
            cfg=cfg,
            **kwargs,
        )
        self._log_dir = self.log_dir  # what mmengine's LoggerHook asks for
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
    def launcher(self) -> str:
        """What started the processes of this run."""
        return self.strategy.launcher

    @property
    def state_io(self) -> Any:
        """Reads and writes weights and optimizer state."""
        return self.strategy.state_io(self.model, self.optim_wrapper)

    # Building -----------------------------------------------------------------

    def build_strategy(
        self, strategy: Any = None, *, launcher: str = "none", **kwargs: Any
    ) -> Any:
        """Build the strategy from our registry; no scope is set yet at this time."""
        if strategy is None and launcher == "none":
            strategy = dict(type="VLMSingleDeviceStrategy")
        elif strategy is None:
            options = dict(model_wrapper=self.cfg.get("model_wrapper_cfg"))
            options["sync_bn"] = self.cfg.get("sync_bn")
            strategy = dict(type="VLMDDPStrategy", **options)
        if isinstance(strategy, dict) and isinstance(strategy["type"], str):
            found = STRATEGIES.get(strategy["type"])
            if found is None or not hasattr(found, "state_io"):
                raise KeyError(
                    f"strategy.type='{strategy['type']}': no such strategy. "
                    f"Registered: {sorted(STRATEGIES.module_dict)}."
                )
            strategy = dict(strategy, type=found)
        return super().build_strategy(strategy, launcher=launcher, **kwargs)

    def build_train_loop(self, loop: Any) -> Any:
        """Build the train loop, ours unless the config names one."""
        return super().build_train_loop(_with_loop_type(loop, "VLMTrainLoop"))

    def build_val_loop(self, loop: Any) -> Any:
        """Build the validation loop, ours unless the config names one."""
        return super().build_val_loop(_with_loop_type(loop, "VLMValLoop"))

    def build_test_loop(self, loop: Any) -> Any:
        """Build the test loop, ours unless the config names one."""
        return super().build_test_loop(_with_loop_type(loop, "VLMTestLoop"))

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

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register our default hooks under those of the config."""
        super().register_default_hooks(default_hooks(hooks))

    def get_hooks_info(self) -> str:
        """Return the names of the hooks, in order."""
        return ", ".join(type(hook).__name__ for hook in self.hooks)

    def dump_config(self) -> None:
        """Write the config, but for ``config.py``: ProvenanceHook's, of a training."""
        if os.path.basename(self.cfg.filename or "") != CONFIG:
            super().dump_config()

    # Running ------------------------------------------------------------------

    def train(self) -> nn.Module:
        """Train; returns the wrapped model."""
        if self._train_loop is None:
            raise RuntimeError(
                "train() needs train_cfg, train_dataloader, optim_wrapper."
            )
        loop = self._train_loop = self.build_train_loop(self._train_loop)
        if self._val_loop is not None:
            self._val_loop = self.build_val_loop(self._val_loop)
        compile = self._compile
        if compile:
            compile = dict(target="train_step", **({} if compile is True else compile))
        resume = self._prepare(
            dict(
                epoch_length=len(loop.dataloader),
                max_epochs=loop.max_epochs,
                max_iters=loop.max_iters,
                # For auto_scale_lr.
                train_micro_batch_size_per_gpu=batch_size_of(self._train_dataloader),
            ),
            optim_wrapper=self.optim_wrapper,
            param_scheduler=self.param_schedulers,
            compile=compile,
        )
        self.optim_wrapper = self.strategy.optim_wrapper
        if self.param_schedulers is not None:
            self.param_schedulers = self.strategy.param_schedulers
        if resume is not None:
            resume(self)
        return self._run(loop)

    def val(self) -> dict:
        """Validate; returns the metrics."""
        if self._val_loop is None:
            raise RuntimeError("val() needs val_cfg, val_dataloader, val_evaluator.")
        self._val_loop = self.build_val_loop(self._val_loop)
        self._prepare({})
        return self._run(self._val_loop)

    def test(self) -> dict:
        """Test; returns the metrics."""
        if self._test_loop is None:
            raise RuntimeError(
                "test() needs test_cfg, test_dataloader, test_evaluator."
            )
        self._test_loop = self.build_test_loop(self._test_loop)
        self._prepare({})
        return self._run(self._test_loop)

    def _run(self, loop: Any) -> Any:
        self.call_hook("before_run")
        result = loop.run()
        self.call_hook("after_run")
        return result

    def _prepare(self, lengths: dict, **training: Any) -> Callable[[Any], None] | None:
        """Give the bare model its weights, then let the strategy spread it.

        Only a run that trains needs its weights in float32.

        Returns:
            Callable | None: see :func:`start_weights`.
        """
        resume = None
        self.model = self.strategy.place(self.model)
        if training:
            dtype = wrapper_dtype(self.optim_wrapper)
            train_in_float32(self.model, dtype, self.strategy.keeps_masters)
        sharded = self.strategy.shards_weights
        tell_model_about_ranks(self.model, self.world_size, sharded)
        if not self._has_loaded:
            self.strategy._init_model_weights(self.model)
            resume = start_weights(
                self.model, self._load_from, self._resume, self.work_dir
            )
            if resume is None:
                warn_random_weights(self.cfg, self.model)
            self._has_loaded = True
        # The strategy must not initialise again what was just loaded.
        self.strategy.dispatch_kwargs["init_weights_for_test_or_val"] = False
        self.strategy.prepare(self.model, dispatch_kwargs=lengths, **training)
        self.model = self.strategy.model
        return resume

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
        """Write a whole checkpoint, see :func:`save_training_state`.

        Other keywords of mmengine's method (``by_epoch`` ...) change nothing.
        """
        save_training_state(
            self,
            os.path.join(out_dir, filename),
            save_optimizer=save_optimizer,
            trainable_only=trainable_only,
            meta=meta,
        )


def _with_loop_type(loop: Any, kind: str) -> Any:
    """Return a loop's config with our type where it names none."""
    if isinstance(loop, dict) and not {"type", "by_epoch"} & set(loop):
        return dict(loop, type=kind)
    return loop


def _brings_data(loop: Any) -> bool:
    """Whether a validation loop needs no dataloader and no evaluator."""
    kind = loop.get("type") if isinstance(loop, dict) else None
    kind = LOOPS.get(kind) if isinstance(kind, str) else kind
    return getattr(kind, "brings_data", False)


#: What ``runner_type`` may say for :class:`VLMRunner`.
_NAMES = ("VLMRunner", "VLMFlexibleRunner", "Runner", "FlexibleRunner")


def build_runner(cfg: Any) -> FlexibleRunner:
    """Build the runner of a config.

    Args:
        cfg (mmengine.Config): ``runner_type`` may name another registered runner.
    """
    name = cfg.get("runner_type", "VLMRunner")
    if name not in _NAMES:
        found = RUNNERS.get(name)
        if found is None:
            raise KeyError(
                f"runner_type='{name}': no such runner. Registered: "
                f"{sorted(RUNNERS.module_dict)}."
            )
        return found.from_cfg(cfg)
    if name == "VLMFlexibleRunner":
        text = "is VLMRunner now, which serves every strategy; leave the key out."
        print_log(f"runner_type='{name}' {text}", "current", logging.WARNING)
    return VLMRunner.from_cfg(cfg)
