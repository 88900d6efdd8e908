"""README promises, run: the Python quickstart, the command that makes the first sound, and the file tree."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import soundfile

from training.checkpoint_code import stale_files

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKED = "import sys\nfor name in ('autoencoder', 'pipelines', 'training', 'app'): sys.modules[name] = None\n"


def test_python_quickstart_runs_without_the_repository_importable():
    block = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0]
    done = subprocess.run([sys.executable, "-c", BLOCKED + block], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    # 4 bars of 4 beats at 96 bpm are exactly 10 s of 24 kHz mono.
    assert "(1, 1, 240000) 24000 [7]" in done.stdout
    assert "'bpm': 96" in done.stdout


def test_first_command_writes_the_same_file_twice(tmp_path):
    command = re.findall(r"^\.venv/bin/(?:vivace|python -m pipelines\.)\s?generate (.*)$", README, flags=re.MULTILINE)[
        0
    ]
    files = []
    for name in ("first.wav", "second.wav"):
        arguments = shlex.split(command)
        arguments[arguments.index("--out") + 1] = str(tmp_path / name)
        run = [sys.executable, "-m", "pipelines.commands.main", "generate", *arguments, "--seed", "7"]
        done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert "A minor" in done.stdout and "72" in done.stdout
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    audio, rate = soundfile.read(tmp_path / "first.wav")
    assert len(audio) == 4 * 4 * 60 * rate // 72  # four bars at 72 bpm
    assert abs(audio).max() > 0.01


def test_python_files_named_in_the_tree_exist():
    (tree,) = re.findall(r"```\n(app\.py .*?)```", README, flags=re.DOTALL)
    folder = ROOT
    for line in tree.splitlines():
        if not line.startswith(" "):
            folder = ROOT / line.split()[0]
            assert folder.exists(), line
            continue
        named = re.findall(r"\w+\.py", line)
        assert named or (folder / line.split()[0]).exists(), line
        assert [name for name in named if not (folder / name).is_file()] == [], line


def test_shipped_code_is_the_code_of_this_commit():
    stale = stale_files(ROOT / "checkpoints" / "small")
    assert not stale, f"run `make checkpoint-code`: {', '.join(stale)}"


def test_shipped_files_are_small():
    assert sum(path.stat().st_size for path in (ROOT / "checkpoints" / "small").rglob("*")) < 32e6
