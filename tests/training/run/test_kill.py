"""Runs killed with SIGKILL at random moments and started again by the same command, until they are done.

Slow: a start costs seconds. `make slow` runs it; `-s` prints how many kills each run took.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.conftest import encode_arguments
from tests.helpers.runs import same, weights
from training.run import loop

KILLS = 20
# `accelerate launch --cpu --num_processes 2` starts one process unless there is MPI; torchrun starts two.
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
STAGE_1 = ("training.train_autoencoder", "training/configs/tiny/autoencoder.yaml", "tiny_data")
STAGE_3 = ("training.train_unet", "training/configs/tiny/unet.yaml", "tiny_latents")
# name: module, config, fixture of its data, processes, loader workers
RUNS = {
    "autoencoder": (*STAGE_1, 1, 0),
    "autoencoder, loader workers": (*STAGE_1, 1, 2),
    "autoencoder, two processes": (*STAGE_1, 2, 0),
    "unet": (*STAGE_3, 1, 0),
    "unet, loader workers": (*STAGE_3, 1, 2),
    "unet, two processes": (*STAGE_3, 2, 0),
}


def command(name: str, data: Path, output: Path) -> list[str]:
    module, config, _, processes, workers = RUNS[name]
    start = [sys.executable, *(LAUNCH if processes == 2 else ["-m"]), module]
    return [*start, "--config", config, "--data_dir", str(data), "--output_dir", str(output), "--max_steps", "60",
            "--checkpoint_every", "5", "--validate_every", "20", "--num_workers", str(workers)]  # fmt: skip


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    """What `accelerate launch --cpu` tells the processes that it starts."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")


def last_step(output: Path) -> int:
    found = loop.checkpoints(str(output))
    return int(found[-1].name.removeprefix("step_")) if found else 0


def workers(process: subprocess.Popen) -> int:
    """How many processes torchrun has started."""
    module = process.args[process.args.index("--config") - 1]
    return sum(module in child.cmdline() for child in psutil.Process(process.pid).children())


def run_and_kill(words: list[str], output: Path, after_s: float, processes: int) -> bool:
    """Start, wait for the first step and then `after_s` seconds, kill every process. True if it ended before."""
    log = output / "log.jsonl"
    before = log.stat().st_size if log.is_file() else 0
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        began = time.monotonic()
        while process.poll() is None and not (log.is_file() and log.stat().st_size > before):
            assert time.monotonic() - began < 300, "no step was made in five minutes"
            time.sleep(0.01)
        try:
            return process.wait(after_s) == 0
        except subprocess.TimeoutExpired:
            assert processes == 1 or workers(process) == processes
            return False
    finally:
        if process.poll() is None:  # torchrun gives each worker a session of its own, so that no group holds them all
            family = [psutil.Process(process.pid)]
            family += family[0].children(recursive=True)
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()
            psutil.wait_procs(family, 60)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_killed_run_ends_bitwise_like_the_uninterrupted_one(name, request, tmp_path):
    data = request.getfixturevalue(RUNS[name][2])
    subprocess.run(command(name, data, tmp_path / "whole"), check=True, capture_output=True)
    parts, kills, draw = tmp_path / "parts", 0, random.Random(0)
    words, processes = command(name, data, parts), RUNS[name][3]
    while kills < KILLS and not run_and_kill(words, parts, draw.uniform(0.0, 0.35), processes):
        kills += 1
        if last_step(parts) > 40:  # keep kills for the beginning too: the same steps can be lost again
            for stale in loop.checkpoints(str(parts))[1:]:
                shutil.rmtree(stale)
    subprocess.run(words, check=True, capture_output=True)
    whole, again = weights(tmp_path / "whole"), weights(parts)
    differing = [key for key in whole if not torch.equal(whole[key], again[key])]
    print(f"{name}: {kills} kills")
    assert kills == KILLS and differing == []


@pytest.mark.slow
def test_killed_encoding_ends_with_the_same_latents(tiny_data, tiny_latents, tiny_text_encoder, tmp_path):
    """Stage 2 keeps the shards that were whole and makes the others: the kill comes after the first file appears."""
    words = encode_arguments(tiny_latents.parent, tiny_data, tiny_text_encoder)
    words[-1], draw, kills = str(tmp_path / "latents"), random.Random(0), 0
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-m", "training.encode_latents", *words], stderr=subprocess.DEVNULL)
        while process.poll() is None and not list((tmp_path / "latents").rglob("*.*")):
            time.sleep(0.005)
        time.sleep(draw.uniform(0.0, 0.2))
        kills += process.poll() is None
        process.kill()
        process.wait()
        whole = sorted((tmp_path / "latents").rglob("*.safetensors"))
        for path in whole[:1]:  # so that the next one has something to do
            path.unlink()
    subprocess.run([sys.executable, "-m", "training.encode_latents", *words], check=True, capture_output=True)
    print(f"encoding: {kills} kills")
    assert kills > 0
    names = [
        sorted(p.relative_to(folder) for p in folder.rglob("*")) for folder in (tiny_latents, tmp_path / "latents")
    ]
    assert names[0] == names[1]
    for path in tiny_latents.rglob("*.safetensors"):
        again = tmp_path / "latents" / path.relative_to(tiny_latents)
        first, second = load_file(path), load_file(again)
        assert same(first, second)
        with safe_open(path, "pt") as one, safe_open(again, "pt") as two:  # the file has them in no order
            assert one.metadata() == two.metadata()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_a_run_that_is_asked_to_stop_saves_and_leaves(number, code, tiny_latents, tmp_path):
    """The signal goes to the whole group, as a terminal and a scheduler send it: the loader's workers get it too."""
    words = command("unet, loader workers", tiny_latents, tmp_path)
    words[words.index("60")] = "100000"
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not (tmp_path / "log.jsonl").is_file():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in errors, errors[-2000:]
    assert f"stopped after step {last_step(tmp_path)}, saved" in errors
    logged = (tmp_path / "log.jsonl").read_text().splitlines()
    assert last_step(tmp_path) >= len(logged) > 0 and not (tmp_path / "final").exists()


@pytest.mark.slow
def test_ctrl_c_before_the_first_step_is_one_line(tiny_latents, tmp_path):
    process = subprocess.Popen(
        command("unet", tiny_latents, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "config.json").is_file():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors, errors[-2000:]


@pytest.mark.slow
def test_full_disk_stops_with_the_last_good_checkpoint(tiny_latents, tmp_path):
    """RLIMIT_FSIZE makes the write of a file fail as a full disk does."""
    words = command("unet", tiny_latents, tmp_path)
    subprocess.run([*words, "--max_minutes", "0.0001"], check=True, capture_output=True)
    good = last_step(tmp_path)
    before = {p.name: p.read_bytes() for p in (tmp_path / "checkpoints" / f"step_{good:08d}").iterdir() if p.is_file()}
    limited = ["bash", "-c", 'trap "" XFSZ; ulimit -f 40; exec "$@"', "limited", *words]
    done = subprocess.run(limited, capture_output=True, text=True)
    assert done.returncode == 2 and "could not be written" in done.stderr, done.stderr[-2000:]
    assert last_step(tmp_path) == good
    folder = tmp_path / "checkpoints" / f"step_{good:08d}"
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before
