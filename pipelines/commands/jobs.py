"""Requests of `generate` and `edit`: of the command line or of a batch, checked before a model loads."""

import argparse
import difflib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

FORMATS = (".wav", ".flac")
# Of the command, not of a piece.
OWN = ("at", "out", "batch", "skip_existing", "checkpoint", "revision", "variant", "trust", "device", "dtype",
       "threads", "json", "run")  # fmt: skip
EDITS = ("strength", "mask_s", "extend_s")
TEXTS = ("audio", "negative_prompt", "time_signature", "beat_unit", "key", "chords", "out")
UNDERSTOOD = ("bpm", "beat_unit", "key", "time_signature", "bars", "duration_s", "chords", "downbeat_s")


@dataclass
class Job:
    """One call of the pipeline.

    Attributes:
        request: its arguments; what was not said is left to it.
        path: the file to write; several pieces get numbers.
        name: how to name it in a message: "" on its own, "requests.jsonl, line 3: " in a batch.
    """

    request: dict
    path: Path
    name: str = ""

    @property
    def paths(self) -> list[Path]:
        """One file for each piece."""
        count = self.request.get("num_waveforms_per_prompt", 1)
        return [self.path] if count == 1 else [self.path.with_stem(f"{self.path.stem}_{i + 1}") for i in range(count)]


def check_output(out: str) -> Path:
    """The path to write to.

    Raises:
        ValueError: another ending than .wav or .flac, or a place that cannot be written.
    """
    path = Path(out)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"out is {out!r}; allowed: a file name that ends in .wav or .flac")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"out is {out!r}; its folder must exist and be writable")
    check_file(path)
    return path


def check_file(path: Path) -> None:
    """Raise a ValueError unless the disk takes a file of that name; its folder may be still to be made."""
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        if stat.S_ISDIR((nearest / path.name).stat().st_mode):
            raise ValueError("it is a folder")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise ValueError(f"out is {path.name!r}, which cannot be written ({cause})") from error


def said(args: argparse.Namespace) -> dict:
    """The pipeline's arguments that stand on the command line.

    Raises:
        ValueError: a timeline without its beginning.
    """
    request = {name: value for name, value in vars(args).items() if name not in OWN and value is not None}
    if args.at:
        if args.prompt is None:
            raise ValueError("at needs prompt: what the piece begins with")
        request["prompt"] = [(0, args.prompt), *((read_start(start), text) for start, text in args.at)]
    return request


def read_start(start: str) -> float | str:
    """Seconds, or "bar 5" as it stands."""
    try:
        return start if "bar" in start else float(start)
    except ValueError as error:
        raise ValueError(f"at is {start!r}; allowed: seconds, or a bar, as in 'bar 5'") from error


def read_jobs(args: argparse.Namespace) -> list[Job]:
    """What is to be made.

    Raises:
        ValueError: one line that names the argument, and of a batch the line.
    """
    shared = said(args)
    if args.batch is None:
        if args.skip_existing:
            raise ValueError("skip_existing needs batch: it leaves out lines whose file is there")
        job = Job(shared, check_output(args.out or "out.wav"))
        check_count(job)
        for path in job.paths:
            check_file(path)
        return [job]
    if args.out is None or Path(args.out).suffix.lower() in FORMATS:
        raise ValueError(f"out is {args.out!r}; with batch give a folder, as in --out folder")
    nearest = next(folder for folder in (Path(args.out), *Path(args.out).absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(f"out is {args.out!r}; {str(nearest)!r} is no folder that can be written to")
    return read_batch(Path(args.batch), Path(args.out), shared, set(vars(args)) - set(OWN))


def read_batch(file: Path, folder: Path, shared: dict, allowed: set[str]) -> list[Job]:
    """A job for each line of a JSONL file; empty lines are none.

    Args:
        file: to read.
        folder: for the audio files.
        shared: what holds where a line does not say it.
        allowed: names that a line may have, beside "out".

    Raises:
        ValueError: no such file, a line that is no request, or two lines with one file.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")  # a text may hold what else Unicode calls a line end
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"batch is {str(file)!r}, which cannot be read ({error})") from error
    jobs, taken = [], {}
    for count, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name = f"{file.name}, line {count}: "
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{name}no JSON ({error})") from error
        check_row(row, allowed | {"out"}, name)
        out = row.pop("out", f"{count:04d}.wav")
        if Path(out).name != out or out.startswith(".") or Path(out).suffix.lower() not in FORMATS:
            raise ValueError(f"{name}out is {out!r}; allowed: a name without a folder that ends in .wav or .flac")
        request = {key: value for key, value in row.items() if value is not None}
        if "prompt" in request or "morph" in request:  # these two are one choice
            request = {key: value for key, value in shared.items() if key not in ("prompt", "morph")} | request
        else:
            request = shared | request
        if is_timeline(request.get("prompt")):
            request["prompt"] = [tuple(entry) for entry in request["prompt"]]
        job = Job(request, folder / out, name)
        jobs.append(job)
        check_count(job)
        for path in job.paths:
            try:
                check_file(path)
            except ValueError as error:
                raise ValueError(f"{name}{error}") from error
            if path in taken:
                raise ValueError(f"{name}out is {path.name!r}, as in line {taken[path]}; give each line its own")
            taken[path] = count
    if not jobs:
        raise ValueError(f'batch is {str(file)!r}, which has no line; give a JSON object a line, as in {{"bars": 4}}')
    return jobs


def is_timeline(prompt: object) -> bool:
    """Whether it looks like [[0, "calm piano"], ["bar 5", "drums"]]; the pipeline looks closer."""
    return isinstance(prompt, list) and all(isinstance(entry, list) and len(entry) == 2 for entry in prompt)


def check_row(row: object, allowed: set[str], name: str) -> None:
    """Raise a ValueError for a line that is no object of known names."""
    if not isinstance(row, dict):
        raise ValueError(f'{name}no object; give one, as in {{"prompt": "solo flute", "bars": 4}}')
    for key, value in row.items():
        if key not in allowed:
            nearest = difflib.get_close_matches(key, allowed, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; allowed: {', '.join(sorted(allowed))}"
            raise ValueError(f"{name}there is no argument {key!r}{hint}")
        if key in TEXTS and value is not None and not isinstance(value, str):
            raise ValueError(f"{name}{key} is {value!r}; allowed: text")


def check_count(job: Job) -> None:
    from pipelines.vivace_theory import check_number

    check_number(
        f"{job.name}num_waveforms_per_prompt", job.request.get("num_waveforms_per_prompt", 1), 1, 1000, whole=True
    )


def texts_of(request: dict) -> list[str]:
    """The texts of a request: one, a timeline's or a morph's.

    Raises:
        ValueError: no prompt, an empty one, or two.
    """
    prompt, morph = request.get("prompt"), request.get("morph")
    if (prompt is None) == (morph is None):
        raise ValueError("prompt and morph: give exactly one of them, as in --prompt 'slow solo piano'")
    if is_timeline(prompt) or (isinstance(prompt, list) and all(isinstance(entry, tuple) for entry in prompt)):
        texts = [text for _, text in prompt]
    else:
        texts = [prompt] if morph is None else morph
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"prompt is {prompt if morph is None else morph!r}; allowed: text")
    if not texts or not all(text.strip() for text in texts):
        raise ValueError("prompt is empty; describe the music, as in 'slow solo piano'")
    return texts


def check_job(job: Job, edit: bool, index: dict) -> None:
    """Raise a ValueError for what can be refused before the model is loaded.

    Args:
        job: to check.
        edit: whether it starts from audio.
        index: the checkpoint's model_index.json.
    """
    from pipelines.vivace_music import understand
    from pipelines.vivace_theory import check_number

    request = job.request
    try:
        texts = texts_of(request)
        if edit:
            if "audio" not in request:
                raise ValueError("audio is missing: the file to start from, as in --audio loop.wav")
            if not any(name in request for name in EDITS):
                raise ValueError(f"{', '.join(EDITS)}: give one of them to say what is to be done to audio")
            if not Path(request["audio"]).is_file():
                raise ValueError(f"audio is {request['audio']!r}: no such file")
        else:
            understand(
                ". ".join(texts),
                **{name: request.get(name) for name in UNDERSTOOD},
                default_duration_s=index["default_duration_s"],
                max_duration_s=index["max_duration_s"],
                loop=request.get("loop"),
            )
        check_count(job)
        if "num_inference_steps" in request:
            check_number("num_inference_steps", request["num_inference_steps"], 1, 1000, whole=True)
        if "guidance_scale" in request:
            check_number("guidance_scale", request["guidance_scale"], 0, 100)
        if "seed" in request:
            check_number("seed", request["seed"], 0, 2**62, whole=True)
    except ValueError as error:
        raise ValueError(f"{job.name}{error}") from error
