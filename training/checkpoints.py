"""Checkpoints of a run: whole folders, and exactly where to go on from."""

import dataclasses
import json
import shutil
from pathlib import Path

from accelerate import Accelerator

from training.config import RunConfig
from training.files import data_fingerprint, replace_folder, write_json


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


# Settings that may differ between a run and its continuation: they change when and where, not what is computed.
FREE = frozenset({
    "max_minutes", "num_threads", "num_workers", "log_every", "checkpoint_every", "checkpoint_minutes",
    "keep_checkpoints", "tracker", "validate_every", "evaluate_every", "evaluate_clips",
    "evaluate_steps", "evaluate_guidance", "best_metric", "text_encoder", "tagger", "beat_tracker", "key_network",
    "demo_clips", "demo_guidance", "compile", "output_dir", "data_dir", "force", "dry_run",
})  # fmt: skip


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
    changed = [f"{k} was {before[k]!r}, is {now[k]!r}" for k in now if k not in FREE and before[k] != now[k]]
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
