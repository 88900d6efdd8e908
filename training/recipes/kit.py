"""What a machine without a network needs to train: wheels, one SoundFont, and the scores as read from their sources.

    python -m training.recipes.kit --output_dir .cache/gpu        # about 34 MB, once, where there is a network

The folder goes along with the working tree (both together may be 64 MiB on the machines that are lent here).
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from training.config import command, parse_config
from training.data.sources.fetch import cache_dir, find_soundfont
from training.data.sources.load import SOURCES, load_scores

WHEELS = Path(__file__).with_name("wheels.txt")
# Of CPython wheels pip takes those whose platform tag is given, word for word.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (39, 35, 34, 31, 28, 27, 24, 17)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux1_x86_64"]


@dataclass(frozen=True)
class KitRun:
    """One kit."""

    output_dir: str = ".cache/gpu"
    python_version: str = "3.12"
    """of the other machine"""
    soundfont: str | None = None
    """an .sf2 or .sf3 file; null = Fluid R3 Mono"""


def download_wheels(folder: Path, python_version: str) -> list[Path]:
    """The wheels of wheels.txt for another Python, without what they require (the list is complete).

    Raises:
        OSError: pip does not get them.
    """
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    words += ["--only-binary=:all:", "--python-version", python_version, "--implementation", "cp"]
    words += [word for platform in PLATFORMS for word in ("--platform", platform)]
    done = subprocess.run([*words, "--dest", str(folder), "--requirement", str(WHEELS)], capture_output=True, text=True)
    if done.returncode:
        problems = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr[-300:]]
        raise OSError(f"pip cannot download the wheels: {problems[0]}")
    return sorted(folder.glob("*.whl"))


def main(argv: list[str] | None = None) -> None:
    config = parse_config(KitRun, argv)
    output = Path(config.output_dir)
    shutil.rmtree(output, ignore_errors=True)
    for part in ("wheels", "sources"):
        (output / part).mkdir(parents=True)
    font = find_soundfont(config.soundfont)
    wheels = download_wheels(output / "wheels", config.python_version)
    shutil.copy(font, output / "sources" / font.name)
    load_scores(SOURCES)  # reads what has not been read yet into banks, which are small
    banks = sorted(cache_dir().glob("scores-*.npz"))
    for bank in banks:
        shutil.copy(bank, output / "sources" / bank.name)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print(f"{output}: {len(wheels)} wheels, {font.name}, {len(banks)} banks of scores; {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    command(main)
