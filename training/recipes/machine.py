"""One line of JSON about the machine: what the figures of a recipe were measured on."""

import json
import os
import platform

import accelerate
import diffusers
import torch
import transformers

if __name__ == "__main__":
    about = {"python": platform.python_version(), "cores": os.cpu_count(), "gpu": None}
    about |= {module.__name__: module.__version__ for module in (torch, diffusers, transformers, accelerate)}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        about |= {"gpu": properties.name, "gpu_memory_gb": round(properties.total_memory / 1e9, 1)}
    print(json.dumps(about))
