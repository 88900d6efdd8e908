"""The wheel: with the shipped checkpoint in it, it plays from any folder, offline, with nothing of the source near."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import ROOT

PLAY = """
import sys
import vivace
light = [name for name in ("torch", "numpy", "diffusers") if name in sys.modules]
out = vivace.generate("slow piano", bars=1, bpm=100, seed=7, num_inference_steps=2)
out.save("song.wav")
print(light, out.audios.shape, vivace.Score.__name__, sys.modules["pipelines"].__file__)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, built from the files of the repository, unpacked as pip does it."""
    root = tmp_path_factory.mktemp("wheel")
    source, folder = root / "source", root / "site"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if not (ROOT / name).is_file() or name.startswith(("docs/", "tests/")):
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", root, source]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = root.glob("vivace_music-*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_it_holds_what_it_needs_and_no_tests(installed):
    for name in (
        "checkpoints/small/unet/config.json",
        "checkpoints/small/restorer/pytorch_lora_weights.safetensors",
        "training/configs/small/unet.yaml",
        "page/static/page.js",
        "training/data/scorebook/instruments.txt",
        "training/text/lexicon/general.txt",
        "app.py",
    ):
        assert (installed / name).is_file(), name
    assert not (installed / "tests").exists() and not (installed / "checkpoints" / "tagger").exists()


def test_it_plays_from_anywhere(installed, tmp_path):
    surroundings = {**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", PLAY], cwd=tmp_path, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[] (1, 2, 105840) Score ") and str(installed) in done.stdout
    command = [sys.executable, "-m", "pipelines.commands.main", "info", "song.wav"]
    done = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0 and "slow piano" in done.stdout
