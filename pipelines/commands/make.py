"""What `generate`, `edit` and `replay` do: load the model once, make the pieces, and print what was made."""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.commands.jobs import PIPE, Job, check_job, check_output, read_jobs

keep: dict | None = None  # pipelines by what they were loaded with, where a server keeps them


def load(args: argparse.Namespace, before=None):
    """The pipeline on its device, and the device's name.

    Args:
        args: checkpoint, revision, variant, trust, device, dtype, threads, and lora where a command has it.
        before: called with model_index.json, and whether the network plays notes, before torch is imported and any
            weight is read.
    """
    from pipelines.hub import (
        add_loras,
        check_checkpoint,
        check_trust,
        find_checkpoint,
        find_loras,
        load_pipeline,
        pick_device,
        quiet_libraries,
        read_index,
    )
    from pipelines.scores import plays_notes
    from pipelines.threads import set_threads

    check_trust(args.checkpoint, args.trust)
    folder = find_checkpoint(args.checkpoint, args.revision, args.variant)
    early = read_index(folder)
    if before is not None and early is not None:
        before(early, plays_notes(folder))
    quiet_libraries()
    set_threads(args.threads)
    device = pick_device(args.device)
    loras = find_loras(getattr(args, "lora", None) or [])
    adapters = tuple((path.resolve(), strength, path.stat().st_mtime_ns) for _, path, strength in loras)
    served = () if keep is None else stamp(folder)  # the files are looked at only where pipelines are kept
    loaded_with = (folder.resolve(), args.variant, args.dtype, device, served, adapters)
    if keep is not None and loaded_with in keep and early is not None:
        pipe = keep[loaded_with]
        pipe.set_progress_bar_config(disable=not sys.stderr.isatty(), leave=False)
        return pipe, device
    index = check_checkpoint(folder)
    if before is not None and early is None:
        before(index, plays_notes(folder))
    pipe = add_loras(load_pipeline(folder, args.variant, args.dtype), loras, folder).to(device)
    pipe.set_progress_bar_config(disable=not sys.stderr.isatty(), leave=False)
    if keep is not None:
        keep[loaded_with] = pipe
    return pipe, device


def stamp(folder: Path) -> tuple:
    """What changes when a file of a checkpoint does."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files)


def make(args: argparse.Namespace) -> int:
    """Make every piece of the request or the batch; returns the exit code of `make_all`. Raises a ValueError for bad
    input, before anything is made."""
    jobs, edit = read_jobs(args), "audio" in vars(args)
    if args.skip_existing:
        jobs = [job for job in jobs if not job.done]
        if not jobs:
            return 0

    def check(index: dict, notes: bool) -> None:
        for job in jobs:
            check_job(job, edit, index, notes)

    pipe, device = load(args, check)
    return make_all(args, jobs, pipe, lambda job: call(pipe, job, device), report, line)


def make_all(args: argparse.Namespace, jobs: list[Job], pipe, call: Callable, report: Callable, line: Callable) -> int:
    """Make the pieces of one job or of a batch and print what was made; the exit code is 1 if some of a batch failed.

    Args:
        args: out, batch and json of the command.
        jobs: one, or those of the batch; one that fails is reported, and the others are made.
        pipe: the pipeline.
        call: makes and writes the pieces of a job; returns what was made, as JSON can hold it.
        report, line: the text of a piece that is made alone, and in a batch.
    """
    if args.batch is None:
        for piece in call(jobs[0]):
            if args.out == PIPE:
                send(Path(piece["file"]))
                piece["file"] = PIPE
            print(json.dumps(piece) if args.json else report(piece), file=sys.stderr if args.out == PIPE else None)
        return 0
    from tqdm import tqdm

    Path(args.out).mkdir(parents=True, exist_ok=True)
    pipe.set_progress_bar_config(disable=True)
    failed = 0
    bar = tqdm(jobs, unit="request", disable=not sys.stderr.isatty())
    for job in bar:
        try:
            for piece in call(job):
                bar.write(json.dumps(piece) if args.json else line(piece))
        except Exception as error:  # whatever it is, the others are made all the same
            failed += 1
            cause = str(error) if isinstance(error, (ValueError, OSError, RuntimeError)) else repr(error)
            bar.write(f"error: {job.name}{' '.join(cause.split())}", file=sys.stderr)
    return 1 if failed else 0


def send(path: Path) -> None:
    """Hand a file on to standard output and remove it."""
    try:
        with open(path, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    finally:
        path.unlink()


def call(pipe, job: Job, device: str) -> list[dict]:
    """Make and write the pieces of one request; what was made, as JSON can hold it."""
    from pipelines.vocabulary import known_words, unknown_text

    begin = time.perf_counter()
    out = pipe(**job.request)
    took_s = time.perf_counter() - begin
    made = [write(out, index, path, took_s, device, job.midi) for index, path in enumerate(job.paths)]
    prompt = job.request.get("prompt")
    words = unknown_text(prompt, known_words(pipe.tokenizer)) if isinstance(prompt, str) else []
    return [piece | ({"unknown_words": words} if words else {}) for piece in made]


def write(out, index: int, path: Path, took_s: float, device: str, midi: bool = False) -> dict:
    """Write one piece, with the stems that it was made with, and its notes. Raises an OSError if it cannot be
    written."""
    stems = getattr(out, "stems", None)  # an older checkpoint's output has none
    beside = {"midi": midi, "stems": bool(stems)}
    try:
        out.save(path, index, **{name: True for name, wanted in beside.items() if wanted})
    except ValueError as error:
        raise OSError(str(error)) from error
    files = {"midi": str(path.with_suffix(".mid"))} if midi else {}
    if stems:
        files["stems"] = {role: str(path.with_suffix(f".{role}{path.suffix}")) for role in stems[index]}
    channels, samples = out.audios[index].shape
    return {
        "file": str(path),
        **files,
        "seed": out.seeds[index],
        "duration_s": samples / out.sampling_rate,
        "sampling_rate": out.sampling_rate,
        "channels": channels,
        "understood": out.conditions[index],
        "took_s": round(took_s, 3),
        "device": device,
    }


def conditions_text(conditions: dict) -> str:
    """What was understood, in words. An older checkpoint gives no beat unit, loop or notes."""
    words = [f"{conditions['bpm']:g} bpm"] if conditions["bpm"] is not None else []
    if conditions.get("beat_unit") not in (None, "quarter"):
        words[-1] += f" ({conditions['beat_unit']} notes)"
    words += [f"({conditions['bpm_reason']})"] if conditions["bpm_reason"] is not None else []
    words += [conditions[name] for name in ("key", "time_signature") if conditions[name] is not None]
    words += [f"{conditions['bars']} bars"] if conditions["bars"] is not None else []
    words += ["loop"] if conditions.get("loop") else []
    words += [f"chords {conditions['chords']}"] if conditions["chords"] is not None else []
    return ", ".join(words) if words else "no tempo, key, meter or bars"


def report(piece: dict) -> str:
    speed = piece["duration_s"] / piece["took_s"]
    return (
        "".join(f"{name:<12}{file}\n" for name, file in files_of(piece))
        + f"length      {piece['duration_s']:.3f} s, {piece['sampling_rate']} Hz, {piece['channels']} channel(s)\n"
        f"seed        {piece['seed']}\n"
        f"understood  {conditions_text(piece['understood'])}\n"
        + "".join(f"note        {note}\n" for note in piece["understood"].get("notes", ()))
        + (f"unknown     {', '.join(piece['unknown_words'])}\n" if piece.get("unknown_words") else "")
        + f"speed       {piece['took_s']:.1f} s on {piece['device']}, {speed:.1f} x real time"
    )


def files_of(piece: dict) -> list[tuple[str, str]]:
    """What was written, with the kind of each file."""
    files = [(name, piece[name]) for name in ("file", "midi") if name in piece]
    return files + [("stem", file) for file in piece.get("stems", {}).values()]


def line(piece: dict) -> str:
    words = conditions_text(piece["understood"])
    words += "".join(f"; note: {note}" for note in piece["understood"].get("notes", ()))
    return f"{Path(piece['file']).name}  {piece['duration_s']:.3f} s  seed {piece['seed']}  {words}"


def make_again(args: argparse.Namespace) -> int:
    """Make the piece in a file again and compare; exit code 1 if a sample differs. Raises a ValueError for a file
    without a recipe, or other audio than was edited."""
    path = None if args.out is None else check_output(args.out)
    from pipelines.threads import usable_cores
    from pipelines.vivace_files import read_recipe, replay_arguments

    recipe = read_recipe(args.file)
    replay_arguments(recipe, args.audio)
    threads = recipe.get("made_with", {}).get("threads")
    if args.threads is None and isinstance(threads, int) and 1 <= threads <= usable_cores():
        args.threads = threads  # with another number the last bits can differ
    pipe, device = load(args)
    begin = time.perf_counter()
    out = pipe.replay(args.file, args.audio)
    took_s = time.perf_counter() - begin
    piece = {} if path is None else write(out, 0, path, took_s, device)
    if args.json:
        print(json.dumps({"replayed": args.file, "equal": not out.differences, "differences": out.differences} | piece))
    else:
        if piece:
            print(report(piece))
        print(f"replay      {'; '.join(out.differences) if out.differences else 'equal to the file, bit for bit'}")
    return 1 if out.differences else 0
