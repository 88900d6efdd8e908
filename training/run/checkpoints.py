"""Checkpoints of a run, atomic writing of files and folders, and the provenance of a run."""

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
    """Write to a temporary file, then rename it, so that the file is never incomplete."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def recover_folder(final: Path) -> None:
    """Restore the old folder after `replace_folder` was killed between its two renames.

    Call this before reading or replacing `final`.
    """
    old = final.with_name(final.name + ".old")
    if old.exists() and not final.exists():
        old.rename(final)


def replace_folder(partial: Path, final: Path) -> None:
    """Rename the folder `partial` to `final`, replacing a folder there.

    If the process is killed, either the old or the new folder is complete: as `final`, or as `final` + ".old", which
    `recover_folder` restores.
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
    """Flush a file's contents, or a folder's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def provenance(data_dir: str | None) -> dict:
    """Commit, versions and data of a run, enough to repeat it."""
    packages = ("torch", "numpy", "diffusers", "transformers", "accelerate")
    return {
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
        "data": data_fingerprint(data_dir),
    }


def data_fingerprint(data_dir: str | None) -> str | None:
    """Hash of the names and sizes of a folder's files and of the contents of its JSON files, or of a file; None for no
    folder.

    Hashing all contents would take minutes at every start; the JSON files that stages write (info.json, latents.json)
    identify what made the other files.
    """
    if data_dir is None:
        return None
    digest, folder = hashlib.sha256(), Path(data_dir)
    if folder.is_file():
        return hashlib.sha256(folder.read_bytes()).hexdigest()[:16]
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name.startswith(".") or name.endswith(".partial"):
            continue
        digest.update(f"{name} {path.stat().st_size}\n".encode())
        if path.suffix == ".json":
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def git_commit(folder: Path = Path(__file__).parent) -> str | None:
    """Commit of the code, 12 digits, with "+" if tracked files differ from it; None outside a git checkout."""
    # Without tags, since a moved or missing tag would give another name to the same commit.
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


# Checkpoints of a run.


def checkpoints(output_dir: str) -> list[Path]:
    """Folders of the complete checkpoints, oldest first."""
    folder = Path(output_dir) / "checkpoints"
    return sorted(p for p in folder.glob("step_*") if p.name[5:].isdigit() and (p / "run.json").is_file())


def data_dir_of(config: RunConfig) -> str | None:
    """The data folder of a run; None if it has none."""
    return getattr(config, "data_dir", None)


def save_checkpoint(accelerator: Accelerator, config: RunConfig, step: int) -> None:
    """Save weights, EMA, optimiser, schedule and scaler of `step`; the folder appears when it is complete. Raises an
    OSError if it cannot be written, for example on a full disk; earlier checkpoints are unchanged."""
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
    except Exception as error:  # torch and safetensors raise different errors for a full disk
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(
            f"the checkpoint of step {step} could not be written to {final.parent} ({error}); earlier ones are kept"
        ) from error
    if accelerator.is_main_process:
        for stale in checkpoints(config.output_dir)[: -config.keep_checkpoints]:
            shutil.rmtree(stale)
    accelerator.wait_for_everyone()


def resume(accelerator: Accelerator, config: RunConfig) -> int:
    """Load the newest complete checkpoint; return its step (0 for a new run). Raises a ValueError if that checkpoint
    was made with other settings that affect the result, or with other data, and `config.force` is not set."""
    found = checkpoints(config.output_dir)
    if not found:
        return 0
    saved = json.loads((found[-1] / "run.json").read_text())
    now = dataclasses.asdict(config)
    # A setting that is newer than the checkpoint had the effect of its default.
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
