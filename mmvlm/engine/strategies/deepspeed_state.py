"""Whole weights and optimizer states out of ZeRO's partitions, and back."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import is_main_process
from torch import nn

from mmvlm.models.language_models.table_states import (
    divide_optim_state,
    divide_tables,
    join_tables,
)

from ..runner.state import check_groups, load_wrapper_state, to_cpu, wrapper_state


class DeepSpeedStateIO:
    """Gathers whole tensors from ZeRO's partitions; see :class:`PlainStateIO`.

    Trained weights are saved from ZeRO's float32 masters.

    Args:
        model (MMDeepSpeedEngineWrapper): the engine.
        optim_wrapper (VLMDeepSpeedOptimWrapper | None): None for tests.
        group_names (list[list[str]]): parameters per group of the optimizer.
        stage (int): ZeRO stage.
    """

    def __init__(
        self,
        model: Any,
        optim_wrapper: Any,
        group_names: list[list[str]],
        stage: int,
    ) -> None:
        self.module = model.module
        self.optim_wrapper = optim_wrapper
        self.group_names = group_names
        self.stage = stage

    @property
    def _zero(self) -> Any:
        return self.optim_wrapper.optimizer

    def _trained(self) -> dict[str, nn.Parameter]:
        named = dict(self.module.named_parameters())
        return {name: named[name] for names in self.group_names for name in names}

    def model_state(self) -> dict[str, torch.Tensor]:
        """Return the weights on the CPU; every rank calls, rank 0 gets them."""
        import deepspeed
        from deepspeed.utils import safe_get_full_fp32_param

        keep = is_main_process()
        trained = self._trained() if self.optim_wrapper is not None else {}
        state: dict[str, torch.Tensor] = {}
        seen: dict[int, str] = {}  # every rank gathers a tensor of two names once
        named = dict(self.module.named_parameters(remove_duplicate=False))
        for name, value in self.module.state_dict(keep_vars=True).items():
            first = seen.setdefault(id(value), name)
            if first != name:
                if keep:
                    state[name] = state[first]
                continue
            param = named.get(name)
            if param is not None and name in trained and self.stage > 0:
                whole = safe_get_full_fp32_param(param).detach().cpu()
            elif param is not None and hasattr(param, "ds_id"):
                with deepspeed.zero.GatheredParameters([param]):
                    whole = param.detach().cpu().clone() if keep else None
            else:
                whole = value.detach().cpu().clone()
            if keep:
                state[name] = whole.clone()
        join_tables(self.module, state)
        return state

    def optim_state(self) -> dict:
        """Return the optimizer's state by parameter name; as :meth:`model_state`."""
        from deepspeed.utils import safe_get_full_optimizer_state

        keep = is_main_process()
        if self.stage != 3:
            self._link()
        state: dict[str, dict] = {}
        for name, param in self._trained().items():
            flat = self._flat_state(param)
            one = {}
            for key, value in flat.items():
                if torch.is_tensor(value) and value.dim() > 0:
                    whole = safe_get_full_optimizer_state(param, key)
                    one[key] = to_cpu(whole).clone() if keep else None
                else:
                    one[key] = to_cpu(value)
            if one:
                state[name] = one
        groups = [
            dict({k: v for k, v in group.items() if k != "params"}, names=list(names))
            for group, names in zip(
                self._zero.param_groups, self.group_names, strict=True
            )
        ]
        if not keep:
            return {}
        return dict(state=state, groups=groups, **wrapper_state(self.optim_wrapper))

    def load_optim_state(self, saved: dict) -> None:
        """Restore what :meth:`optim_state` returned.

        Raises:
            ValueError: when other parameters were trained.
        """
        saved = divide_optim_state(self.module, saved)
        check_groups(self.group_names, saved["groups"])
        for group, values in zip(self._zero.param_groups, saved["groups"], strict=True):
            group.update({k: v for k, v in values.items() if k != "names"})
        if not saved["state"]:
            return
        self._create_states(saved["state"])
        for name, param in self._trained().items():
            for key, value in saved["state"].get(name, {}).items():
                if torch.is_tensor(value) and value.dim() > 0:
                    self._set(param, key, value)
        load_wrapper_state(self.optim_wrapper, saved)

    def load_masters(self, state_dict: dict[str, torch.Tensor]) -> None:
        """Restore the float32 masters, which the cast to half precision has rounded.

        Args:
            state_dict (dict): whole weights of a checkpoint.
        """
        state_dict = dict(state_dict)
        divide_tables(self.module, state_dict)
        for name, param in self._trained().items():
            if name in state_dict and self.stage > 0:
                self._set(param, None, state_dict[name].float())

    # DeepSpeed's insides (0.16) ----------------------------------------------

    def _flat_tensors(self) -> list[tuple[torch.Tensor, list[nn.Parameter]]]:
        """Return the optimizer's flat tensors and the parameters inside each."""
        zero = self._zero
        if self.stage == 3:
            groups = zip(
                zero.fp32_partitioned_groups_flat, zero.fp16_groups, strict=True
            )
        else:
            groups = zip(
                zero.single_partition_of_fp32_groups, zero.bit16_groups, strict=True
            )
        return list(groups)

    def _flat_state(self, param: nn.Parameter) -> dict:
        """Return the base optimizer's state of the flat tensor with a parameter."""
        for flat, members in self._flat_tensors():
            if any(member is param for member in members):
                return dict(self._zero.optimizer.state.get(flat, {}))
        raise KeyError("a trained parameter is in no group of DeepSpeed's optimizer.")

    def _create_states(self, saved: dict[str, dict]) -> None:
        """Make the state that the optimizer would make at its first step."""
        names = {id(param): name for name, param in self._trained().items()}
        for flat, members in self._flat_tensors():
            example = saved[names[id(members[0])]]
            self._zero.optimizer.state[flat] = {
                key: torch.zeros_like(flat)
                if torch.is_tensor(value) and value.dim() > 0
                else (value.clone() if torch.is_tensor(value) else value)
                for key, value in example.items()
            }
        if self.stage != 3:
            self._link()

    def _link(self) -> None:
        """Let every parameter find its part of the flat states.

        DeepSpeed links once, after the first group's first step, when the states of
        the other groups do not exist yet.
        """
        self._zero._hp_optimizer_states_linked = False
        self._zero._lazy_init_hp_params_optimizer_state()

    def _set(self, param: nn.Parameter, key: str | None, value: torch.Tensor) -> None:
        """Write this rank's part of a whole tensor: a state, or the float32 master."""
        if self.stage != 3:
            param.set_full_hp_param(value, key)
            return
        # DeepSpeed's own setter fails where the last partition is padded.
        part, _ = self._zero._get_fp32_opt_state_partition(param, key)
        start = part.numel() * torch.distributed.get_rank()
        own = value.flatten()[start : start + part.numel()]
        part.data[: own.numel()].copy_(own)
