"""Both ends of the supported versions: each in an environment of its own, which then loads the shipped checkpoint.

    python -m tests.versions                        # make versions
    TORCH=torch==2.13.0+cpu python -m tests.versions     # one torch for both ends, where wheels of others are too large

The environments (.cache/versions/) hold torch, diffusers, transformers and what these need, and nothing of this
repository. What must come out is the audio that this environment makes, up to arithmetic.
"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".cache" / "versions"
ENDS = {  # the oldest are the lower bounds of pyproject.toml (a test compares them)
    "oldest": ["torch==2.6.0", "diffusers==0.42.0", "transformers==5.0.0", "safetensors==0.8.0", "numpy==1.26.0"],
    "newest": ["torch", "diffusers", "transformers", "safetensors", "numpy"],
}
TOLERANCE = 1e-3  # kernels differ between versions of torch
PROGRAM = """
import importlib.metadata, json, sys
import numpy as np
import torch
from diffusers import DiffusionPipeline
torch.set_num_threads(1)
pipe = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
pipe.set_progress_bar_config(disable=True)
audio = pipe("calm piano", bars=1, bpm=120, key="A minor", chords="Am", seed=7).audios
pipe.save_pretrained(sys.argv[2])
again = DiffusionPipeline.from_pretrained(sys.argv[2], trust_remote_code=True)
again.set_progress_bar_config(disable=True)
assert (again("calm piano", bars=1, bpm=120, key="A minor", chords="Am", seed=7).audios == audio).all(), "saved again"
np.save(sys.argv[3], audio)
names = ("torch", "diffusers", "transformers", "huggingface_hub", "safetensors", "numpy")
print(json.dumps({name: importlib.metadata.version(name) for name in names}))
"""


def make_environment(end: str, wanted: list[str]) -> Path:
    """The Python of an environment with these packages, made anew where they changed."""
    folder = FOLDER / end
    stamp = folder / "installed.json"
    python = folder / "bin" / "python"
    if not stamp.is_file() or json.loads(stamp.read_text()) != wanted:
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        stamp.write_text(json.dumps(wanted))
    return python


def listen(python: str | Path, name: str) -> dict:
    """Run the program; its versions, and `audio`, the file that it wrote."""
    audio, saved = FOLDER / f"{name}.npy", FOLDER / f"{name}_saved"
    home = FOLDER / f"{name}_home"
    env = {"PATH": os.environ["PATH"], "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [str(python), "-I", "-c", PROGRAM, str(ROOT / "checkpoints" / "small"), str(saved), str(audio)]
    done = subprocess.run(command, cwd=FOLDER, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1]) | {"audio": audio}


def main() -> None:
    import numpy as np

    FOLDER.mkdir(parents=True, exist_ok=True)
    here = listen(sys.executable, "here")
    expected = np.load(here["audio"])
    worst = 0.0
    for end, wanted in ENDS.items():
        torch = os.environ.get("TORCH")
        wanted = [torch if torch and one.split("==")[0] == "torch" else one for one in wanted]
        told = listen(make_environment(end, wanted), end)
        far = float(np.abs(np.load(told.pop("audio")) - expected).max())
        worst = max(worst, far)
        print(f"{end}: {', '.join(f'{k} {v}' for k, v in told.items())}: differs by up to {far:.1e}", flush=True)
    if worst > TOLERANCE:
        raise SystemExit(f"differs by up to {worst:.1e}; allowed: {TOLERANCE:g}")


if __name__ == "__main__":
    main()
