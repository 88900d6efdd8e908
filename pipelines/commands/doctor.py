"""Devices, versions, memory and disk of this machine; what is missing and how to get it."""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
from pathlib import Path

from pipelines.commands import arguments
from pipelines.hub import DEFAULT, ROOT, local_folder
from pipelines.threads import busy_cores, choose_threads, usable_cores

EXAMPLES = """examples:
  vivace doctor
  vivace doctor --json

exit code 1 if something is missing that `vivace generate` needs"""
DISTRIBUTION = "vivace-music"
EXTRAS = ("train", "app", "sketch", "dev")
SOURCE = (ROOT / "pyproject.toml").is_file()  # of an installed package there is none
GIB = 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_json(parser)


def memory_gib() -> tuple[float, float] | None:
    """Total and free physical memory, or None where the system does not state it."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_PHYS_PAGES") * page / GIB, os.sysconf("SC_AVPHYS_PAGES") * page / GIB
    except (AttributeError, OSError, ValueError):
        return None


def row(name: str, value: str, remedy: str | None = None, needed: bool = False) -> dict:
    """One line of the answer; with `remedy`, something is missing or old, and `needed` for generating."""
    return {"name": name, "value": value, "remedy": remedy, "needed": needed}


def machine() -> list[dict]:
    """System, processor, memory and disk."""
    memory = memory_gib()
    cache = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    nearest = next(path for path in (cache, *cache.absolute().parents) if path.exists())
    return [
        row("system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"),
        row("processor", f"{os.cpu_count()} cores"),
        row("memory", "unknown" if memory is None else f"{memory[0]:.1f} GiB, {memory[1]:.1f} free"),
        row("disk here", f"{shutil.disk_usage('.').free / GIB:.1f} GiB free"),
        row("Hub cache", f"{cache}, {shutil.disk_usage(nearest).free / GIB:.1f} GiB free"),
    ]


def libraries() -> list[dict]:
    """Each library that generating needs, then each extra of the project: there, too old, or missing."""
    try:
        from packaging.requirements import Requirement

        wanted = [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or []]
    except ImportError:  # PackageNotFoundError is one as well
        remedy = "pip install -e ." if SOURCE else "install it from where you have it"
        return [row(DISTRIBUTION, "not installed", remedy, needed=True)]
    rows, lacks = [], {}
    for requirement in wanted:
        extra = next((name for name in EXTRAS if f'extra == "{name}"' in str(requirement.marker)), None)
        if requirement.marker is not None and extra is None:
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = None
        fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        if extra is not None:
            lacks.setdefault(extra, []).extend([] if fits else [requirement])
            continue
        remedy = None if fits else f'pip install "{requirement.name}{requirement.specifier}"'
        value = f"{version or 'missing'} (needs {requirement.specifier})"
        rows.append(row(requirement.name, value, remedy, needed=not fits))
    for extra, missing in lacks.items():
        value = f"lacks {', '.join(one.name for one in missing)}" if missing else "complete"
        each = " ".join(f'"{one.name}{one.specifier}"' for one in missing)
        remedy = f'pip install -e ".[{extra}]"' if SOURCE else f"pip install {each}"
        rows.append(row(f"extra {extra}", value, remedy if missing else None))
    return rows


def devices() -> list[dict]:
    """What torch can compute on."""
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return [row("devices", f"torch cannot be loaded ({error})", "pip install torch", needed=True)]
    number, reason = choose_threads(torch.get_num_threads(), usable_cores(), busy_cores())
    threads = f"{number} thread{'s' * (number > 1)} ({reason}; torch takes {torch.get_num_threads()} by itself)"
    rows = [row("device cpu", f"torch {torch.__version__}, {threads}")]
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        rows.append(row(f"device cuda:{index}", f"{about.name}, {about.total_memory / GIB:.1f} GiB"))
    if torch.backends.mps.is_available():
        rows.append(row("device mps", "Apple GPU"))
    if len(rows) == 1:
        rows.append(row("device cuda", "none that this torch can use", "not needed; else pytorch.org/get-started"))
    return rows


def files() -> list[dict]:
    """Audio files and the shipped model."""
    try:
        formats = importlib.import_module("soundfile").available_formats()
        rows = [row("audio files", ", ".join(name for name in ("WAV", "FLAC", "OGG", "MP3") if name in formats))]
    except (ImportError, OSError) as error:
        rows = [row("audio files", f"soundfile cannot be loaded ({error})", "pip install soundfile", needed=True)]
    if shutil.which("ffmpeg") is None and importlib.util.find_spec("imageio_ffmpeg") is None:
        need = "missing; only M4A, WebM and files without a length need it"
        rows.append(row("ffmpeg", need, "pip install imageio-ffmpeg"))
    folder = local_folder(None)
    if folder is not None and (folder / "model_index.json").is_file():
        return [*rows, row("checkpoint", str(folder))]
    remedy = "start in a copy of the repository, or give each command --checkpoint"
    return [*rows, row("checkpoint", f"{DEFAULT} is neither here nor in the source", remedy, needed=True)]


def hub() -> list[dict]:
    """Whether publishing could work; the token is not shown, and no server is contacted."""
    try:
        library, constants = map(importlib.import_module, ("huggingface_hub", "huggingface_hub.constants"))
    except ImportError:
        return []  # listed among the libraries, since diffusers needs it
    token = library.get_token() is not None
    remedy = None if token else "to publish, or for private ones: hf auth login"
    return [row("Hub", f"{constants.ENDPOINT}, {'logged in' if token else 'no token'}", remedy)]


def run(args: argparse.Namespace) -> int:
    rows = [*machine(), *libraries(), *devices(), *files(), *hub()]
    lacking = [one["name"] for one in rows if one["needed"]]
    if args.json:
        print(json.dumps({"rows": rows, "lacking": lacking}))
    else:
        for one in rows:
            print(f"{one['name']:<14} {one['value']}{'   -> ' + one['remedy'] if one['remedy'] else ''}")
        print(f"lacking: {', '.join(lacking)}" if lacking else "ready to generate")
    return 1 if lacking else 0
