"""FSDP: weights, gradients and optimizer state spread over ranks."""

from __future__ import annotations

from typing import Any

import torch
from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.model import BaseDataPreprocessor
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mmvlm.models.language_models.base import LanguageModel
from mmvlm.models.language_models.table_states import join_tables
from mmvlm.models.vision_encoders.base import VisionEncoder
from mmvlm.registry import STRATEGIES

from ..optimizers.optim_wrapper import precision, wrapper_dtype
from ..runner.state import PlainStateIO, own_copy, to_cpu
from .base import VLMStrategy


def tower_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the transformer blocks of a model's encoders and language model.

    Their weights are used inside of their own forward only. That does not hold for
    the layers of connectors and adapters, which read each other's weights, nor in
    backward for blocks that an adapter runs ahead.
    """
    found: list[nn.Module] = []
    for tower in model.modules():
        if isinstance(tower, VisionEncoder | LanguageModel):
            if not any(getattr(m, "runs_ahead", False) for m in tower.modules()):
                found += getattr(tower, "blocks", ())
    return list(dict.fromkeys(found))


@STRATEGIES.register_module()
class VLMFSDPStrategy(VLMStrategy, DDPStrategy):
    """Fully sharded data parallelism (FSDP2, ``fully_shard``), on any device.

    Each transformer block of a tower is a unit of its own, frozen ones too;
    embeddings, head, connector and adapters form the rest. Parts may differ in dtype
    and in what is trained. Trained weights are float32 shards; they are gathered in
    the dtype of ``optim_wrapper`` and their gradients summed in float32, after every
    micro-batch: gradients kept whole until the last would take what sharding saves.
    Checkpoints are gathered to rank 0 and look as those of one process.

    Args:
        reshard_after_forward (bool): free a block's gathered weights after its
            forward and gather them again for backward. False keeps them between:
            faster, but only gradients and optimizer state are spread all the time.
        mixed_precision (str | None): dtype in which weights are gathered; None takes
            ``optim_wrapper.dtype``, ``float32`` gathers every weight in its own.
        **kwargs: see :class:`mmengine._strategy.DDPStrategy`.

    Raises:
        ValueError: for ``model_wrapper``, which FSDP2 has not, or a model with
            quantised weights or parameters without dimensions.
    """

    shards_weights = True

    def __init__(
        self,
        *,
        reshard_after_forward: bool = True,
        mixed_precision: str | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("model_wrapper") is not None:
            raise ValueError(
                f"strategy.model_wrapper={kwargs['model_wrapper']}: FSDP has none. "
                "For sharding_strategy='SHARD_GRAD_OP' set "
                "reshard_after_forward=False, else remove it."
            )
        precision(mixed_precision)
        super().__init__(**kwargs)
        self.reshard_after_forward = reshard_after_forward
        self.mixed_precision = mixed_precision

    def prepare(self, model: nn.Module, *, optim_wrapper: Any = None, **kwargs: Any):
        """Shard the model, then build what trains it; see mmengine."""
        if self.mixed_precision is None:
            self._dtype = wrapper_dtype(optim_wrapper)
        else:
            self._dtype = precision(self.mixed_precision)
        return super().prepare(model, optim_wrapper=optim_wrapper, **kwargs)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        _check_parameters(model)
        device = get_device().split(":")[0]
        for module in model.modules():
            if isinstance(module, BaseDataPreprocessor):
                module.to(get_device())
        options = dict(
            mesh=init_device_mesh(device, (torch.distributed.get_world_size(),)),
            # Autocast gives every operation the dtype that it wants.
            mp_policy=MixedPrecisionPolicy(
                param_dtype=self._dtype,
                reduce_dtype=torch.float32,
                cast_forward_inputs=False,
            ),
            reshard_after_forward=self.reshard_after_forward,
        )
        model = self.convert_model(model)
        for block in tower_blocks(model):
            fully_shard(block, **options)
        model = fully_shard(model, **options)
        # Ranks whose batches reach other weights must reduce the same ones.
        model.set_reduce_scatter_unused_params(True)
        return model

    def build_optim_wrapper(
        self, optim_wrapper: Any, model: nn.Module | None = None
    ) -> Any:
        """Build the optimizer over shards; the scaler sees all of them."""
        built = super().build_optim_wrapper(optim_wrapper, model)
        if getattr(built, "scaler", None) is not None:
            from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

            built.scaler = ShardedGradScaler()
        return built

    def state_io(self, model: nn.Module, optim_wrapper: Any) -> FSDPStateIO:
        """Return what reads and writes weights and optimizer state."""
        return FSDPStateIO(model, optim_wrapper)


def _check_parameters(model: nn.Module) -> None:
    """Refuse what FSDP2 cannot spread."""
    ddp = "use configs/_base_/strategies/ddp.py"
    for name, param in model.named_parameters():
        if not _is_floating(param):
            raise ValueError(
                f"VLMFSDPStrategy cannot spread quantised weights ({name}); {ddp} or "
                "leave 'quantization' out."
            )
        if not param.dim():
            raise ValueError(
                "VLMFSDPStrategy cannot spread a parameter without dimensions "
                f"({name}); {ddp}, or give it the shape (1,)."
            )


def _is_floating(param: nn.Parameter) -> bool:
    return param.is_floating_point() and getattr(param, "quant_state", None) is None


class FSDPStateIO(PlainStateIO):
    """Gathers whole tensors from shards, and spreads them again."""

    def whole(self, value: Any) -> Any:
        """Return a value with whole tensors on the CPU, on rank 0 only."""
        if isinstance(value, dict):
            return {key: self.whole(one) for key, one in value.items()}
        if isinstance(value, DTensor):
            value = value.detach().full_tensor()  # every rank takes part
        return to_cpu(value) if is_main_process() else None

    def reshard(self) -> None:
        """Free what a validation has gathered: only shards have names."""
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def model_state(self) -> dict[str, torch.Tensor]:
        """Return the weights on the CPU; every rank calls, rank 0 gets them."""
        self.reshard()
        state = super().model_state()
        if not is_main_process():
            return {}
        join_tables(self.model, state)
        return state

    def optim_state(self) -> dict:
        """Return the optimizer's state by parameter name; as :meth:`model_state`."""
        self.reshard()
        state = super().optim_state()
        return state if is_main_process() else {}

    def own_state(self, state: dict, param: nn.Parameter) -> dict:
        """Return this rank's shards of the saved state of a parameter."""
        own = own_copy(state, torch.device("cpu"))
        for key, value in own.items():
            if torch.is_tensor(value) and value.shape == param.shape:
                value = value.to(param.device)
                own[key] = distribute_tensor(
                    value, param.device_mesh, param.placements, src_data_rank=None
                )
        return own
