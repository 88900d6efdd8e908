"""How near our networks come to the matrix rate of the machine.

    python -m benchmarks.roofline [--quick] [--threads 2]

The UNet at the default request (both rows of guidance in one pass) and the autoencoder's decoder, counted with
torch's FlopCounterMode: it counts matrix products, convolutions and attention; the decoder's Fourier transforms are
not in its count. The ceiling is the rate of a large square matrix product in fp32, measured in turn with them.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import alternate, machine, pick_device, save, summary, synchronise
from benchmarks.peers import PROMPT

SIZE = 2048


def counted(work: Callable[[], object]) -> int:
    """Floating-point operations of one call (a multiply-add counts two)."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return counter.get_total_flops()


def rate(work: Callable[[], object], flops: int, least_s: float) -> Callable[[], float]:
    """A side for `alternate`: FLOP/s over as many calls as fill `least_s`."""

    def measured() -> float:
        calls, began = 0, time.perf_counter()
        while calls == 0 or time.perf_counter() - began < least_s:
            work()
            synchronise()
            calls += 1
        return flops * calls / (time.perf_counter() - began)

    return measured


def captured(pipe, duration_s: float) -> tuple[Callable[[], object], Callable[[], object]]:
    """The last pass of the UNet and the decoding of a real request, to be repeated as often as wanted."""
    inputs: dict[str, tuple] = {}

    def note(_module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        inputs["unet"] = (args, kwargs)

    handle = pipe.unet.register_forward_pre_hook(note, with_kwargs=True)
    latents = pipe(PROMPT, duration_s=duration_s, num_inference_steps=1, seed=0, output_type="latent").audios
    handle.remove()
    args, kwargs = inputs["unet"]
    latents = torch.as_tensor(latents).to(pipe.device)

    def network() -> object:
        with torch.no_grad():
            return pipe.unet(*args, **kwargs)

    return network, lambda: list(pipe.decode_latents([latents], False))


def run(options: argparse.Namespace) -> dict:
    from pipelines.hub import load_pipeline

    torch.set_num_threads(options.threads)
    pipe = load_pipeline(options.checkpoint).to(pick_device())
    pipe.set_progress_bar_config(disable=True)
    network, decoder = captured(pipe, options.duration_s)
    left, right = (torch.randn(options.size, options.size, device=pick_device()) for _ in range(2))
    works = {"gemm": lambda: left @ right, "unet": network, "decoder": decoder}
    flops = {"gemm": 2 * options.size**3, "unet": counted(network), "decoder": counted(decoder)}
    for work in works.values():
        work()
    least_s = 0.3 if options.quick else 1.5
    rates = alternate(
        {name: rate(work, flops[name], least_s) for name, work in works.items()}, 2 if options.quick else 5
    )
    result = {"machine": machine(options.threads), "duration_s": options.duration_s, "parts": {}}
    for name, values in rates.items():
        middle = summary(values)
        result["parts"][name] = {
            "gflop": flops[name] / 1e9,
            "gflop_per_s": {k: v / 1e9 if k != "runs" else v for k, v in middle.items()},
            "calls_per_s": middle["median"] / flops[name],
            "share_of_gemm": summary([v / g for v, g in zip(values, rates["gemm"], strict=True)])["median"],
        }
    save("roofline", result)
    return result


def table(result: dict) -> str:
    lines = ["| | GFLOP a pass | passes a second | GFLOP/s | share of the matrix rate |", "|---|---|---|---|---|"]
    for name, part in result["parts"].items():
        lines.append(
            f"| {name} | {part['gflop']:.2f} | {part['calls_per_s']:.2f} | {part['gflop_per_s']['median']:.1f} "
            f"| {part['share_of_gemm']:.0%} |"
        )
    return "\n".join(lines)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="checkpoints/small", help="published folder")
    parser.add_argument("--duration_s", type=float, default=10.0, help="seconds of music a request")
    parser.add_argument("--size", type=int, default=SIZE, help="side of the matrices")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    return parser.parse_args(argv)


if __name__ == "__main__":
    print(table(run(parse())))
