"""Estimate the cost of a run from one micro-batch of its data through its model.

    python -m training.train_unet --config training/configs/small/unet.yaml --dry_run

Nothing is written and no weight changes. Time and activation memory are measured for the loss and its gradients; the
memory of the optimiser's states and of averaged weights is computed.
"""

import dataclasses
import json
import time
from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from training.config import RunConfig
from training.run.loop import Shuffled, StepSampler


def attention_flops(query, key, value, *_args, out_shape=None, **_settings) -> int:
    return sdpa_flop_count(query, key, value)


def attention_backward_flops(grad_out, query, key, value, *_args, out_shape=None, **_settings) -> int:
    return sdpa_backward_flop_count(grad_out, query, key, value)


# CPU attention, which torch's own table lacks. The arguments are shapes.
ON_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flops,
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of one micro-batch in one process."""

    parameters: int
    trained: int
    state_bytes: int  # weights, gradients, the two moments of Adam, and averaged weights
    activation_bytes: int  # tensors that the forward pass saves for the backward pass
    flops: int  # of matrix products and convolutions, forward and backward
    seconds: float  # forward and backward


def measure(model: torch.nn.Module, loss: Callable[[], torch.Tensor], averages: int = 1) -> Cost:
    """Run `loss` forward and backward twice: once to count operations, once to measure time. Raises a ValueError if the
    micro-batch does not fit into the memory of the GPU."""
    parameters = list(model.parameters())
    own = {p.untyped_storage().data_ptr() for p in parameters}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    device = parameters[0].device
    counter = FlopCounterMode(display=False, custom_mapping=ON_CPU)
    try:
        with counter:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                value = loss()
            value.backward()
        synchronise(device)
        began = time.perf_counter()
        loss().backward()
        synchronise(device)
        seconds = time.perf_counter() - began
    except torch.OutOfMemoryError as error:
        raise ValueError(f"batch_size: a micro-batch does not fit into the memory of {device} ({error})") from None
    finally:
        model.zero_grad(set_to_none=True)
    trained = [p for p in parameters if p.requires_grad]
    weights, moving = (sum(p.numel() * p.element_size() for p in group) for group in (parameters, trained))
    return Cost(
        parameters=sum(p.numel() for p in parameters),
        trained=sum(p.numel() for p in trained),
        state_bytes=weights + 3 * moving + averages * weights,
        activation_bytes=sum(saved.values()),
        flops=counter.get_total_flops(),
        seconds=seconds,
    )


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(
    accelerator: Accelerator,
    config: RunConfig,
    model: torch.nn.Module,
    items,
    loss: Callable[[dict], torch.Tensor],
) -> dict:
    """Measure the run's first micro-batch and print its cost and that of the run; the last line is JSON.

    The model is on its device, before `accelerator.prepare`; `items` are the training items, and `loss` maps a
    micro-batch on the device to a scalar.
    """
    (positions, *_) = StepSampler(config, 0, accelerator.process_index, accelerator.num_processes)
    read = Shuffled(items, config.seed)
    batch = default_collate([read[position] for position in positions])
    batch = {name: value.to(accelerator.device) for name, value in batch.items()}
    cost = measure(model, lambda: loss(batch))

    parts, processes, micro = config.gradient_accumulation_steps, accelerator.num_processes, len(positions)
    step_s = cost.seconds * parts
    steps = config.max_steps
    if config.max_minutes is not None:
        steps = min(steps, int(60.0 * config.max_minutes / step_s))
    limit = f" (max_minutes {config.max_minutes:g})" if config.max_minutes else ""
    result = {
        **dataclasses.asdict(cost),
        "items": len(items),
        "micro_batch": micro,
        "step_s": step_s,
        "steps_in_time": steps,
        "minutes": steps * step_s / 60.0,
        "flops_per_item": cost.flops / micro,
    }
    shapes = "; ".join(f"{name} {tuple(value.shape)}" for name, value in batch.items() if value.ndim > 1)
    lines = [
        "dry run: nothing is trained, nothing is written",
        f"parameters   {cost.parameters / 1e6:.2f} M, {cost.trained / 1e6:.2f} M of them trained",
        f"data         {len(items)} clips; {len(items) / config.batch_size:.1f} steps an epoch, "
        f"{config.max_steps * config.batch_size / len(items):.1f} epochs in {config.max_steps} steps",
        f"batch        {config.batch_size} = {processes} processes x {parts} accumulation steps x {micro}: {shapes}",
        f"memory       {(cost.state_bytes + cost.activation_bytes) / 1e9:.2f} GB a process besides the libraries: "
        f" {cost.state_bytes / 1e9:.2f} weights, gradients, Adam and averages, "
        f"{cost.activation_bytes / 1e9:.2f} activations",
        f"work         {cost.flops / micro / 1e9:.2f} GFLOP an item, forward and backward; "
        f"{cost.flops / cost.seconds / 1e12:.3f} TFLOP/s here",
        f"time         {step_s:.2f} s a step on {accelerator.device}, mixed_precision {config.mixed_precision}, not "
        f"compiled: {steps} steps in {result['minutes']:.0f} minutes{limit}",
        json.dumps(result),
    ]
    accelerator.print("\n".join(lines))
    return result
