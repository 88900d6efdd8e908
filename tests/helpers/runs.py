"""What a training run left: lines of its log and weights, and whether two of them are equal."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

WEIGHTS = "diffusion_pytorch_model.safetensors"


def log_lines(run: Path, name: str = "step") -> list[dict]:
    """The lines of its log that have a figure of this name."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if name in line]


def weights(run: Path, name: str = "final") -> dict[str, torch.Tensor]:
    return load_file(run / name / WEIGHTS)


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
