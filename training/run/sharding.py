"""Averaged weights, also for models whose parameters FSDP has sharded over the processes.

    accelerate launch --config_file training/recipes/fsdp.yaml -m training.train_unet --config ...

Accelerate saves the shards of weights and optimiser, but of averaged weights only those of process 0.
"""

from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from accelerate import Accelerator
from accelerate.utils import DistributedType
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule


def is_sharded(accelerator: Accelerator) -> bool:
    return accelerator.distributed_type == DistributedType.FSDP


def make_average(model: torch.nn.Module, decay: float) -> EMAModel:
    """Exponential average of the parameters after `accelerator.prepare`; its decay warms up over the steps."""
    return EMAModel(model.parameters(), decay=decay, use_ema_warmup=True, power=0.75)


def keep_average(accelerator: Accelerator, ema: EMAModel) -> None:
    """Save the average in checkpoints, sharded if the model is. Raises a ValueError for FSDP version 1, whose flattened
    parameters have no separate names."""
    if not is_sharded(accelerator):
        accelerator.register_for_checkpointing(ema)
        return
    if not accelerator.is_fsdp2:
        raise ValueError("fsdp_version is 1; allowed: 2 (fsdp_version: 2 in the file that accelerate is given)")

    def save(_models: list, _weights: list, folder: str) -> None:
        dcp.save(_state(ema), checkpoint_id=Path(folder) / "averages")

    def load(_models: list, folder: str) -> None:
        state = _state(ema)
        dcp.load(state, checkpoint_id=Path(folder) / "averages")  # into the shards, in place
        ema.optimization_step = int(state["step"])

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def _state(ema: EMAModel) -> dict[str, torch.Tensor]:
    shards = {str(index): shard for index, shard in enumerate(ema.shadow_params)}
    return shards | {"step": torch.tensor(ema.optimization_step)}


def reshard(model: torch.nn.Module) -> None:
    """Shard the parameters again that a forward pass without a backward pass has gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole_model(accelerator: Accelerator, model: ModelMixin) -> ModelMixin | None:
    """The model itself or, if it is sharded, an unsharded copy in the main process and None in the others.

    All processes must call it, since each contributes its shards.
    """
    if not is_sharded(accelerator):
        return model
    reshard(model)
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if not accelerator.is_main_process:
        return None
    # FSDP derives the model's class from the original one.
    kind = next(base for base in type(model).__mro__ if FSDPModule not in base.__mro__)
    copy = kind.from_config(model.config)
    copy.load_state_dict(state)
    return copy.to(accelerator.device).train(model.training)
