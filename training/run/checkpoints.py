"""Files that are whole or absent, and what a run was made with and on."""

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from accelerate import Accelerator

from training.config import RunConfig, about


def write_text(path: Path, text: str) -> None:
    """Write to a temporary file, then rename: the file is whole or absent."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def recover_folder(final: Path) -> None:
    """Bring back what `replace_folder` had put aside when it was killed before the new folder was in its place.

    To be called before `final` is looked at, or what replaces it is written.
    """
    old = final.with_name(final.name + ".old")
    if old.exists() and not final.exists():
        old.rename(final)


def replace_folder(partial: Path, final: Path) -> None:
    """Make `partial` the folder `final`; what stood there goes only when the new one is complete.

    Killed at any moment, the old or the new one is left whole, as `final` or, to be brought back by `recover_folder`,
    as `final` + ".old".
    """
    for path in [*partial.rglob("*"), partial]:
        sync(path)
    old = final.with_name(final.name + ".old")
    recover_folder(final)
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Have the disk hold a file's contents, or a folder's list of names, before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def provenance(data_dir: str | None) -> dict:
    """What a run was made with and on: enough to repeat it."""
    packages = ("torch", "numpy", "diffusers", "transformers", "accelerate")
    return {
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
        "data": data_fingerprint(data_dir),
    }


def data_fingerprint(data_dir: str | None) -> str | None:
    """Hash of the names and sizes of a folder's files and of the contents of its JSON descriptions; None without one.

    Not of all contents, which would be read for minutes at every start; the descriptions that stages write
    (info.json, latents.json) name what made the files.
    """
    if data_dir is None:
        return None
    digest, folder = hashlib.sha256(), Path(data_dir)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name.startswith(".") or name.endswith(".partial"):
            continue
        digest.update(f"{name} {path.stat().st_size}\n".encode())
        if path.suffix == ".json":
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def git_commit(folder: Path = Path(__file__).parent) -> str | None:
    """Commit of the code, 12 digits, with "+" where tracked files differ from it; None outside a git checkout."""
    # No tag in place of the digits: one that is moved, or not fetched, would name another commit or none.
    words = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


# Checkpoints of a run: whole folders, and exactly where to go on from.


def checkpoints(output_dir: str) -> list[Path]:
    """Complete checkpoints, oldest first."""
    folder = Path(output_dir) / "checkpoints"
    return sorted(p for p in folder.glob("step_*") if p.name[5:].isdigit() and (p / "run.json").is_file())


def data_dir_of(config: RunConfig) -> str | None:
    """The folder of data that a run reads; None for one that reads none."""
    return getattr(config, "data_dir", None)


def save_checkpoint(accelerator: Accelerator, config: RunConfig, step: int) -> None:
    """Weights, EMA, optimiser, schedule and scaler of `step`, in a folder that appears only when it is complete.

    Raises:
        OSError: if it cannot be written, as on a full disk; the checkpoints before it are untouched.
    """
    final = Path(config.output_dir) / "checkpoints" / f"step_{step:08d}"
    partial = final.with_name(final.name + ".partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(partial))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            about = {"step": step, "config": dataclasses.asdict(config), "data": data_fingerprint(data_dir_of(config))}
            write_json(partial / "run.json", about)
            replace_folder(partial, final)
    except Exception as error:  # torch and safetensors each raise an error of their own for a full disk
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(
            f"the checkpoint of step {step} could not be written to {final.parent} ({error}); earlier ones are kept"
        ) from error
    if accelerator.is_main_process:
        for stale in checkpoints(config.output_dir)[: -config.keep_checkpoints]:
            shutil.rmtree(stale)
    accelerator.wait_for_everyone()


def resume(accelerator: Accelerator, config: RunConfig) -> int:
    """Load the newest complete checkpoint; return the step to go on from (0 for a new run).

    Raises:
        ValueError: if that checkpoint was made with other settings that change the result, or on other data, and
            `config.force` is not set.
    """
    found = checkpoints(config.output_dir)
    if not found:
        return 0
    saved = json.loads((found[-1] / "run.json").read_text())
    now = dataclasses.asdict(config)
    # A setting that came after the checkpoint was made had no effect then, which its default stands for.
    before = dataclasses.asdict(type(config)()) | saved["config"]
    differing = [name for name in now if before[name] != now[name] and not about(type(config), name)["free"]]
    changed = [f"{name} was {before[name]!r}, is {now[name]!r}" for name in differing]
    data = data_fingerprint(data_dir_of(config))
    if saved.get("data", data) != data:
        changed.append(f"the data was {saved['data']} ({saved['config'].get('data_dir')}), is {data} in data_dir")
    if changed and not config.force:
        raise ValueError(
            f"output_dir {config.output_dir} holds a run with other settings ({'; '.join(changed)}); choose another "
            "output_dir, the same settings, or --force to go on all the same"
        )
    accelerator.load_state(str(found[-1]))
    return int(saved["step"])
