"""Pipelines, their parts and what they return, in other processes: by pickle, by spawn and through pools."""

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import torch
from diffusers import DiffusionPipeline

from tests.conftest import make_pipeline

REQUEST = "slow piano, 100 bpm, 1 bars"
# Each as a user's script, in a process that has loaded nothing of ours before.
POOL = """
import multiprocessing, sys
import numpy as np

def work(folder):
    global pipe
    from diffusers import DiffusionPipeline
    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe("slow piano, 100 bpm, 1 bars", seed=7)

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        out = pool.map_async(work, [sys.argv[1]]).get(timeout=120)[0]
    assert not any("pipeline_vivace" in name for name in sys.modules)  # no pipeline was loaded here
    np.save(sys.argv[2], out.audios)
    assert out.seeds == [7] and len(out.recipe()["made_with"]["weights"]) == 16
"""
SPAWN = """
import multiprocessing, sys
import numpy as np

def work(pipe, unet, path):
    assert type(pipe.unet) is type(unet)
    pipe.set_progress_bar_config(disable=True)
    np.save(path, pipe("slow piano, 100 bpm, 1 bars", seed=7).audios)
    pipe.save_pretrained(path + ".saved")

if __name__ == "__main__":
    from diffusers import DiffusionPipeline
    pipe = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
    pipe("piano", seed=1)
    process = multiprocessing.get_context("spawn").Process(target=work, args=(pipe, pipe.unet, sys.argv[2]))
    process.start()
    process.join(120)
    sys.exit(process.exitcode)
"""
LOAD = """
import pickle, sys
import numpy as np
with open(sys.argv[1], "rb") as file:
    pipe, out = pickle.load(file), pickle.load(file)
np.testing.assert_array_equal(pipe("slow piano, 100 bpm, 1 bars", seed=7).audios, out.audios)
np.save(sys.argv[2], out.audios)
"""


def run(script, tmp_path, *arguments):
    """Audio that a script writes, run where this repository cannot be imported."""
    (tmp_path / "script.py").write_text(script)
    env = {"HF_HOME": str(tmp_path), "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    env |= {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(tmp_path / "script.py"), *arguments, str(tmp_path / "audio.npy")]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(tmp_path / "audio.npy")


def load(folder):
    pipe = DiffusionPipeline.from_pretrained(str(folder), trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_an_output_comes_back_from_a_pool(tiny_checkpoint, tmp_path):
    audio = run(POOL, tmp_path, str(tiny_checkpoint))
    np.testing.assert_array_equal(audio, load(tiny_checkpoint)(REQUEST, seed=7).audios)


def test_a_pipeline_goes_to_a_spawned_process_and_is_saved_there(tiny_checkpoint, tmp_path):
    audio = run(SPAWN, tmp_path, str(tiny_checkpoint))
    np.testing.assert_array_equal(audio, load(tiny_checkpoint)(REQUEST, seed=7).audios)
    again = load(tmp_path / "audio.npy.saved")
    np.testing.assert_allclose(again(REQUEST, seed=7).audios, audio, atol=1e-6)


def test_a_pickled_pipeline_and_output_are_read_by_a_fresh_process(tiny_checkpoint, tmp_path):
    dump = """
import pickle, sys
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
import numpy as np
with open(sys.argv[2], "wb") as file:
    pickle.dump(pipe, file)
    pickle.dump(pipe("slow piano, 100 bpm, 1 bars", seed=7), file)
np.save(sys.argv[3], np.zeros(1))
"""
    run(dump, tmp_path, str(tiny_checkpoint), str(tmp_path / "pipe.pickle"))
    audio = run(LOAD, tmp_path, str(tmp_path / "pipe.pickle"))
    np.testing.assert_array_equal(audio, load(tiny_checkpoint)(REQUEST, seed=7).audios)


def test_the_same_code_is_loaded_once(tiny_checkpoint):
    first, second = load(tiny_checkpoint), load(tiny_checkpoint)
    for name in ("unet", "vae"):
        assert type(getattr(first, name)) is type(getattr(second, name)), name
        assert type(getattr(first, name)).__module__.startswith("diffusers_modules.vivace_")
    assert type(first) is type(second)
    kinds = {type(module).__module__ for model in (first.unet, first.vae) for module in model.modules()}
    assert not any(name.startswith("diffusers_modules.local") for name in kinds), kinds


def test_pickled_within_the_project(tmp_path):
    pipe = make_pipeline()
    out = pipe(REQUEST, seed=7)
    there = pickle.loads(pickle.dumps(out))
    there.save(tmp_path / "a.wav")
    assert pipe.replay(tmp_path / "a.wav").differences == [] and there.recipes[0] == out.recipe()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pipe))(REQUEST, seed=7).audios, out.audios)
    np.testing.assert_array_equal(copy.copy(pipe)(REQUEST, seed=7).audios, out.audios)
    latents = pipe(REQUEST, seed=7, output_type="latent")
    torch.testing.assert_close(pickle.loads(pickle.dumps(latents)).audios, latents.audios)
    assert os.listdir(tmp_path) == ["a.wav"]
