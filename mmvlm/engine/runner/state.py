"""The whole state of a training run: to a checkpoint and back."""

from __future__ import annotations

import copy
import time
from itertools import chain
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import nn

from mmvlm.models.language_models.table_states import divide_optim_state
from mmvlm.utils.dist import barrier, gather_objects
from mmvlm.version import __version__

from .checkpoint import (
    FORMAT,
    fingerprint,
    part_of,
    save_atomic,
    unwrap,
)
from .identity import run_identity
from .rng import get_rng_state


def to_cpu(value: Any) -> Any:
    """Return nested containers with every tensor detached on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: to_cpu(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_cpu(one) for one in value)
    return value


class PlainStateIO:
    """Reads and writes state where every process holds whole tensors (one, DDP).

    Strategies that shard have a class with the same methods. Optimizer state is
    kept by parameter name, so that a file does not depend on the strategy or on
    the number of processes that wrote it.

    Args:
        model (nn.Module): wrapped or not.
        optim_wrapper (OptimWrapper | None): None when only weights are wanted.
    """

    def __init__(self, model: nn.Module, optim_wrapper: OptimWrapper | None) -> None:
        self.model = unwrap(model)
        self.optim_wrapper = optim_wrapper

    def whole(self, value: Any) -> Any:
        """Return nested containers with whole tensors on the CPU."""
        return to_cpu(value)

    def own_state(self, state: dict, param: nn.Parameter) -> dict:
        """Return a parameter's saved state as this process holds it."""
        return own_copy(state, param.device)

    def model_state(self) -> dict[str, torch.Tensor]:
        """Return the weights on the CPU; every rank calls, rank 0 gets them."""
        return self.whole(dict(self.model.state_dict()))

    def optim_state(self) -> dict:
        """Return the optimizer's state by parameter name; as :meth:`model_state`."""
        optimizer = self.optim_wrapper.optimizer
        names = {id(param): name for name, param in self.model.named_parameters()}
        state = {
            names[id(param)]: self.whole(dict(value))
            for param, value in optimizer.state.items()
        }
        groups = [
            dict(
                {k: v for k, v in group.items() if k != "params"},
                names=[names[id(param)] for param in group["params"]],
            )
            for group in optimizer.param_groups
        ]
        return dict(state=state, groups=groups, **wrapper_state(self.optim_wrapper))

    def load_optim_state(self, saved: dict) -> None:
        """Restore what :meth:`optim_state` returned.

        Raises:
            ValueError: when other parameters were trained.
        """
        saved = divide_optim_state(self.model, saved)
        optimizer = self.optim_wrapper.optimizer
        params = dict(self.model.named_parameters())
        names = {id(param): name for name, param in params.items()}
        own = [[names[id(p)] for p in group["params"]] for group in _groups(optimizer)]
        check_groups(own, saved["groups"])
        state, groups, count = {}, [], 0
        for group, members in zip(saved["groups"], own, strict=True):
            indices = list(range(count, count + len(members)))
            count += len(members)
            kept = {key: value for key, value in group.items() if key != "names"}
            groups.append(dict(copy.deepcopy(kept), params=indices))
            for index, name in zip(indices, members, strict=True):
                if name in saved["state"]:
                    state[index] = self.own_state(saved["state"][name], params[name])
        optimizer.load_state_dict(dict(state=state, param_groups=groups))
        load_wrapper_state(self.optim_wrapper, saved)


def own_copy(state: dict, device: torch.device) -> dict:
    """Return the saved state of a parameter, apart from the file that holds it.

    The optimizer copies to another device itself, but would keep CPU tensors.
    """
    return {
        key: value.clone() if torch.is_tensor(value) and device.type == "cpu" else value
        for key, value in state.items()
    }


def _groups(optimizer: Any) -> list[dict]:
    return optimizer.param_groups


def wrapper_state(optim_wrapper: Any) -> dict:
    """Return the state of an optimizer wrapper besides its optimizer's."""
    state = {}
    base = getattr(optim_wrapper, "base_param_settings", None)
    if base is not None:
        state["base"] = {key: value for key, value in base.items() if key != "params"}
    if getattr(optim_wrapper, "scaler", None) is not None:
        state["scaler"] = optim_wrapper.scaler.state_dict()
    return state


def load_wrapper_state(optim_wrapper: Any, saved: dict) -> None:
    """Restore what :func:`wrapper_state` returned."""
    base = getattr(optim_wrapper, "base_param_settings", None)
    if base is not None and "base" in saved:
        base.update(saved["base"])
    if getattr(optim_wrapper, "scaler", None) is not None and "scaler" in saved:
        optim_wrapper.scaler.load_state_dict(saved["scaler"])


def check_groups(own: list[list[str]], saved: list[dict]) -> None:
    """Check that a checkpoint trained the same parameters in the same groups.

    Raises:
        ValueError: naming the first differences.
    """
    then = [list(group["names"]) for group in saved]
    if own == then:
        return
    flat_own, flat_then = (set(chain.from_iterable(names)) for names in (own, then))
    raise ValueError(
        "cannot resume the optimizer, its parameter groups differ: "
        f"{len(own)} groups now, {len(then)} in the checkpoint; only now: "
        f"{sorted(flat_own - flat_then)[:5]}; only then: "
        f"{sorted(flat_then - flat_own)[:5]}. Restore model.train_parts and "
        "optim_wrapper.paramwise_cfg, or start a new run with load_from."
    )


# The message hub ---------------------------------------------------------------


def hub_state(hub: MessageHub) -> dict:
    """Return the logged scalars of a message hub as tensors."""
    state = {}
    for name, buffer in hub.log_scalars.items():
        values, counts = buffer.data
        state[name] = dict(
            values=torch.as_tensor(values, dtype=torch.float64),
            counts=torch.as_tensor(counts, dtype=torch.int64),
        )
    return state


# The run -----------------------------------------------------------------------


def save_training_state(
    runner: Any,
    path: str,
    *,
    save_optimizer: bool = True,
    trainable_only: bool = False,
    meta: dict | None = None,
) -> None:
    """Write a checkpoint; every rank calls, rank 0 writes.

    Args:
        runner (Runner): one of ours.
        path (str): of the file.
        save_optimizer (bool): False writes weights that cannot be resumed.
        trainable_only (bool): leave out frozen parameters; a resumed run makes
            them again from their sources, and their fingerprint is compared.
        meta (dict | None): more plain values for ``meta``.
    """
    io = runner.state_io
    weights = io.model_state()
    optimizer = io.optim_state() if save_optimizer else None
    rng = gather_objects(get_rng_state()) if save_optimizer else None
    identity = run_identity(runner) if save_optimizer else None
    if is_main_process():
        omitted = sorted(runner.omitted_keys) if trainable_only else []
        if trainable_only:
            if runner.frozen_fingerprint is None:
                frozen = {key: weights[key] for key in omitted}
                runner.frozen_fingerprint = fingerprint(frozen)
            weights = {k: v for k, v in weights.items() if k not in set(omitted)}
        content = dict(
            meta=dict(
                format=FORMAT,
                mmvlm_version=__version__,
                torch_version=str(torch.__version__),
                time=time.strftime("%Y-%m-%d %H:%M:%S"),
                experiment_name=runner.experiment_name,
                seed=runner.seed,
                config=runner.config_text,
                parts=sorted(set(map(part_of, weights))),
                omitted=omitted,
                frozen=runner.frozen_fingerprint if trainable_only else {},
                **_progress(runner),
                **(meta or {}),
            ),
            state_dict=weights,
        )
        if save_optimizer:
            content.update(
                optimizer=optimizer,
                param_schedulers=scheduler_states(runner.param_schedulers),
                message_hub=hub_state(runner.message_hub),
                loop=runner.train_loop.state_dict(),
                identity=identity,
                rng=rng,
                hooks={
                    type(hook).__name__: hook.state_dict()
                    for hook in runner.hooks
                    if hasattr(hook, "state_dict")
                },
            )
        runner.call_hook("before_save_checkpoint", checkpoint=content)
        save_atomic(content, path)
    barrier()


def _progress(runner: Any) -> dict:
    loop = runner.train_loop
    return dict(iter=loop.completed_steps, epoch=loop.state_dict()["epoch"])


def scheduler_states(schedulers: Any) -> list:
    """Return the state of all parameter schedulers in plain values."""
    return [to_cpu(dict(one.state_dict())) for one in schedulers or []]
