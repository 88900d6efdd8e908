"""What runs in a child of `generation` and `growth`: our pipeline, or a peer, timed pass by pass."""

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.harness import pick_device, synchronise
from benchmarks.peers import PEERS, PROMPT, Generate
from benchmarks.random_weights import cheap_weights


def default_steps(checkpoint: str) -> int:
    """Steps of a checkpoint where a call names none; all are compared at this number, too."""
    return json.loads(Path(checkpoint, "model_index.json").read_text())["default_num_inference_steps"]


class PassClock:
    """Notes when each pass of a network begins."""

    def __init__(self, network: torch.nn.Module):
        self.times: list[float] = []
        network.register_forward_pre_hook(self._note)

    def _note(self, *_: object) -> None:
        synchronise()
        self.times.append(time.perf_counter())

    def take(self) -> list[float]:
        """Seconds from each pass to the next since the last call."""
        taken, self.times = self.times, []
        return [after - before for before, after in itertools.pairwise(taken)]


def timed(generate: Generate, network: torch.nn.Module) -> Callable[..., dict]:
    """Wrap `generate` into the `run` of a child: wall seconds, seconds between passes, length of what came out."""
    clock = PassClock(network)

    def run(steps: int, duration_s: float) -> dict:
        synchronise()
        began = time.perf_counter()
        audio, rate = generate(steps, duration_s)
        synchronise()
        seconds = time.perf_counter() - began
        if audio.ndim != 2 or not audio.size:
            raise ValueError(f"audio has shape {audio.shape}; expected (channels, samples)")
        return {
            "seconds": seconds,
            "between_passes": clock.take(),
            "audio_s": audio.shape[1] / rate,
            "sampling_rate": rate,
            "channels": audio.shape[0],
        }

    return run


def ours(checkpoint: str = "checkpoints/small") -> Callable[..., dict]:
    from pipelines.hub import load_pipeline

    pipe = load_pipeline(checkpoint).to(pick_device())
    pipe.set_progress_bar_config(disable=True)

    def generate(steps: int, duration_s: float):
        out = pipe(PROMPT, duration_s=duration_s, num_inference_steps=steps, seed=0)
        return out.audios[0], out.sampling_rate

    return timed(generate, pipe.unet)


def peer(name: str, tiny: bool = False) -> Callable[..., dict]:
    chosen = PEERS[name]
    with cheap_weights():
        parts = chosen.parts(tiny)
    parts = {part: module.eval().requires_grad_(False).to(pick_device()) for part, module in parts.items()}
    return timed(chosen.pipeline(parts), parts["network"])
