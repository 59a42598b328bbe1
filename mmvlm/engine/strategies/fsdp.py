"""FSDP: weights, gradients and optimizer state spread over ranks."""

from __future__ import annotations

import functools
import os
from typing import Any

import torch
from mmengine._strategy import FSDPStrategy
from torch import nn
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    MixedPrecision,
    StateDictType,
)
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp.wrap import lambda_auto_wrap_policy

from mmvlm.registry import STRATEGIES

from ..optimizers.optim_wrapper import precision
from ..runner.state import (
    check_groups,
    load_wrapper_state,
    own_copy,
    to_cpu,
    wrapper_state,
)


def repeated_blocks(model: nn.Module) -> set[nn.Module]:
    """Return the transformer blocks of a model: members of its module lists.

    A list counts when it has two members or more, all of one class with weights;
    of nested lists the outermost counts.
    """
    blocks: set[nn.Module] = set()
    inside: set[nn.Module] = set()
    for module in model.modules():
        members = list(module.children()) if isinstance(module, nn.ModuleList) else []
        if len(members) < 2 or module in inside:
            continue
        same = len({type(member) for member in members}) == 1
        if same and all(any(True for _ in m.parameters()) for m in members):
            blocks.update(members)
            for member in members:
                inside.update(member.modules())
    return blocks


@STRATEGIES.register_module()
class VLMFSDPStrategy(FSDPStrategy):
    """mmengine's FSDPStrategy, on any device and with whole checkpoints.

    Each transformer block is a unit of its own; embeddings, head and connector form
    the rest. Checkpoints are gathered to rank 0 and look as those of one process.

    Args:
        model_wrapper (dict | None): of ``MMFullyShardedDataParallel``.
        mixed_precision (str | None): dtype in which weights are gathered, for example
            ``bfloat16``; reductions stay in float32. None keeps theirs.
        **kwargs: see mmengine.

    """

    shards_weights = True

    def __init__(
        self,
        *,
        model_wrapper: dict | None = None,
        mixed_precision: str | None = None,
        **kwargs: Any,
    ) -> None:
        model_wrapper = dict(model_wrapper or {})
        model_wrapper.setdefault("type", "MMFullyShardedDataParallel")
        # Parts differ in what is trained: weights must stay single tensors.
        model_wrapper.setdefault("use_orig_params", True)
        if not torch.cuda.is_available():
            model_wrapper.setdefault("device_id", torch.device("cpu"))
        dtype = precision(mixed_precision)
        if dtype is not None:
            model_wrapper.setdefault(
                "mixed_precision",
                MixedPrecision(
                    param_dtype=dtype,
                    reduce_dtype=torch.float32,
                    cast_forward_inputs=False,
                ),
            )
        # Our own state code gathers; mmengine's only needs a type that it knows.
        kwargs.setdefault("state_dict_cfg", "local")
        super().__init__(model_wrapper=model_wrapper, **kwargs)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        os.environ.setdefault("LOCAL_RANK", "0")
        if "auto_wrap_policy" not in self.model_wrapper:
            blocks = repeated_blocks(model)
            self.model_wrapper["auto_wrap_policy"] = functools.partial(
                lambda_auto_wrap_policy, lambda_fn=lambda module: module in blocks
            )
        return super()._wrap_model(model)

    def build_optim_wrapper(
        self, optim_wrapper: Any, model: nn.Module | None = None
    ) -> Any:
        """Build the optimizer over shards; clipping and scaling see all of them."""
        built = super().build_optim_wrapper(optim_wrapper, model)
        built.clip_over_ranks = model.clip_grad_norm_
        if getattr(built, "scaler", None) is not None:
            from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

            built.scaler = ShardedGradScaler()
        return built

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load by keyword; the order of these arguments changed in torch 2.1."""
        self.optim_wrapper.load_state_dict(
            FSDP.optim_state_dict_to_load(
                model=self.model,
                optim=self.optim_wrapper.optimizer,
                optim_state_dict=state_dict,
            )
        )

    def state_io(self, model: nn.Module, optim_wrapper: Any) -> FSDPStateIO:
        """Return what reads and writes weights and optimizer state."""
        return FSDPStateIO(model, optim_wrapper)


class FSDPStateIO:
    """Gathers whole tensors from shards; see :class:`PlainStateIO`."""

    def __init__(self, model: nn.Module, optim_wrapper: Any) -> None:
        self.model = model
        self.optim_wrapper = optim_wrapper

    def _whole(self, rank0_only: bool) -> Any:
        # Offloading on a CPU crashes in torch, and there is nothing to offload.
        offload = torch.cuda.is_available()
        return FSDP.state_dict_type(
            self.model,
            StateDictType.FULL_STATE_DICT,
            FullStateDictConfig(rank0_only=rank0_only, offload_to_cpu=offload),
            FullOptimStateDictConfig(rank0_only=rank0_only, offload_to_cpu=offload),
        )

    def model_state(self) -> dict[str, torch.Tensor]:
        """Return the weights on the CPU; every rank calls, rank 0 gets them."""
        with self._whole(rank0_only=True):
            return to_cpu(dict(self.model.state_dict()))

    def optim_state(self) -> dict:
        """Return the optimizer's state by parameter name; as :meth:`model_state`."""
        with self._whole(rank0_only=True):
            whole = FSDP.optim_state_dict(self.model, self.optim_wrapper.optimizer)
        if not whole:
            return {}
        groups = [
            dict(
                {k: v for k, v in group.items() if k != "params"},
                names=list(group["params"]),
            )
            for group in whole["param_groups"]
        ]
        state = to_cpu(whole["state"])
        return dict(state=state, groups=groups, **wrapper_state(self.optim_wrapper))

    def load_optim_state(self, saved: dict) -> None:
        """Restore what :meth:`optim_state` returned.

        Raises:
            ValueError: when other parameters were trained.

        """
        optimizer = self.optim_wrapper.optimizer
        names = {
            id(param): name.replace("_fsdp_wrapped_module.", "")
            for name, param in self.model.named_parameters()
        }
        own = [[names[id(p)] for p in group["params"]] for group in _groups(optimizer)]
        check_groups(own, saved["groups"])
        groups = []
        for group in saved["groups"]:
            kept = {key: value for key, value in group.items() if key != "names"}
            groups.append(dict(kept, params=list(group["names"])))
        device = next(self.model.parameters()).device
        state = {name: own_copy(one, device) for name, one in saved["state"].items()}
        with self._whole(rank0_only=False):
            sharded = FSDP.optim_state_dict_to_load(
                model=self.model,
                optim=optimizer,
                optim_state_dict=dict(state=state, param_groups=groups),
            )
        optimizer.load_state_dict(sharded)
        load_wrapper_state(self.optim_wrapper, saved)


def _groups(optimizer: Any) -> list[dict]:
    return optimizer.param_groups
