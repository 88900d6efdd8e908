"""Requests of `generate` and `edit`: of the command line or of a batch, checked before a model loads."""

import argparse
import difflib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.commands.arguments import MODEL

FORMATS = (".wav", ".flac", ".mp3", ".ogg")
PIPE = "-"  # as out: a WAV on standard output
# Of the command, not of a piece.
OWN = ("at", "out", "batch", "skip_existing", *MODEL, "composer", "json", "midi", "words", "run")
EDITS = ("strength", "mask_s", "extend_s")
TEXTS = (
    "audio", "score", "melody", "rhythm", "sketch_timing", "form", "negative_prompt", "sounds_like", "time_signature",
    "beat_unit", "key", "chords", "out",
)  # fmt: skip
SCORED = ("score", "melody", "rhythm", "compose", "form")  # with these a piece has notes that can be written
# Numbers that are checked before a model is loaded: lowest, highest, whether whole.
NUMBERS = {"num_waveforms_per_prompt": (1, 1000, True), "num_inference_steps": (1, 1000, True),
           "guidance_scale": (0, 100, False), "seed": (0, 2**62, True)}  # fmt: skip


@dataclass
class Job:
    """One call of the pipeline."""

    request: dict  # its arguments; those that are not given have the pipeline's defaults
    path: Path  # the file to write; several pieces get numbers
    name: str = ""  # how to name it in a message: "" on its own, "requests.jsonl, line 3: " in a batch
    midi: bool = False  # whether its notes are written beside it

    @property
    def paths(self) -> list[Path]:
        """One file for each piece."""
        count = self.request.get("num_waveforms_per_prompt", 1)
        return [self.path] if count == 1 else [self.path.with_stem(f"{self.path.stem}_{i + 1}") for i in range(count)]

    @property
    def files(self) -> list[Path]:
        """Every file that it may write: those of `paths`, and beside each its notes and its stems."""
        files = []
        for path in self.paths:
            files += [path] + [path.with_suffix(".mid")] * self.midi
            files += stem_files(path) if self.request.get("stems") else []
        return files

    @property
    def done(self) -> bool:
        """Whether its pieces, and notes and stems beside them, are there; which stems there are decides the score."""
        notes = [path.with_suffix(".mid") for path in self.paths if self.midi]
        stems = not self.request.get("stems") or all(
            any(stem.is_file() for stem in stem_files(path)) for path in self.paths
        )
        return stems and all(path.is_file() for path in self.paths + notes)


def stem_files(path: Path) -> list[Path]:
    """The files beside a piece that its stems may have: song.bass.wav for song.wav."""
    from pipelines.vivace_score import ROLES

    return [path.with_suffix(f".{role}{path.suffix}") for role in ROLES]


@contextmanager
def naming(job: Job) -> Iterator[None]:
    """Put the name of a job before the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{job.name}{error}") from error


def check_output(out: str, formats: tuple[str, ...] = FORMATS) -> Path:
    """The path to write to. Raises a ValueError for another ending than one of `formats`, or a place that cannot be
    written."""
    path = Path(out)
    if path.suffix.lower() not in formats:
        raise ValueError(f"out is {out!r}; allowed: a file name that ends in {', '.join(formats)}")
    check_place(path)
    return path


def check_place(path: Path) -> None:
    """Raise a ValueError unless a file can be written there."""
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"out is {str(path)!r}; its folder must exist and be writable")
    check_file(path)


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


def arguments_of(args: argparse.Namespace) -> dict:
    """The pipeline's arguments that stand on the command line. Raises a ValueError for a timeline without its
    beginning."""
    if getattr(args, "words", None) is not None:
        if args.prompt is not None:
            raise ValueError(f"prompt is given twice: {args.words!r} and {args.prompt!r}")
        args.prompt = sys.stdin.read().strip() if args.words == PIPE else args.words
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


def read_jobs(args: argparse.Namespace, formats: tuple[str, ...] = FORMATS) -> list[Job]:
    """What is to be made, in files of these formats. Raises a ValueError of one line that names the argument, and of a
    batch the line."""
    shared = arguments_of(args)
    if args.batch is None:
        if args.skip_existing:
            raise ValueError("skip_existing needs batch: it leaves out lines whose file is there")
        if args.out == PIPE and formats == FORMATS:
            return [piped(shared, args.midi)]
        job = Job(shared, check_output(args.out or f"out{formats[0]}", formats), midi=args.midi)
        check_numbers(job, "num_waveforms_per_prompt")
        for path in job.files:
            check_file(path)
        return [job]
    if args.out is None or Path(args.out).suffix.lower() in formats:
        raise ValueError(f"out is {args.out!r}; with batch give a folder, as in --out folder")
    nearest = next(folder for folder in (Path(args.out), *Path(args.out).absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(f"out is {args.out!r}; {str(nearest)!r} is no folder that can be written to")
    return read_batch(Path(args.batch), Path(args.out), shared, set(vars(args)) - set(OWN), args.midi, formats)


def piped(request: dict, midi: bool) -> Job:
    """The job of one piece that goes to standard output. Raises a ValueError for more than one file, or a terminal."""
    job = Job(request, Path(tempfile.gettempdir()) / f"vivace-{os.getpid()}.wav", midi=midi)
    if len(job.files) > 1:
        raise ValueError("out is '-', which takes one piece without stems or midi; give a file name")
    if sys.stdout.isatty():
        raise ValueError("out is '-', but standard output is a terminal; redirect it, as in --out - > out.wav")
    return job


def read_batch(
    file: Path, folder: Path, shared: dict, allowed: set[str], midi: bool, formats: tuple[str, ...]
) -> list[Job]:
    """A job for each line of a JSONL file; empty lines are none.

    Args:
        folder: for the files.
        shared: arguments of every line that does not have its own.
        allowed: names that a line may have, beside "out" and "midi".
        midi: whether the notes of a piece are also written, where its line does not set it.
        formats: of the files.

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
        check_row(row, allowed | {"out", "midi"}, name)
        out = row.pop("out", f"{count:04d}{formats[0]}")
        if Path(out).name != out or out.startswith(".") or Path(out).suffix.lower() not in formats:
            ends = ", ".join(formats)
            raise ValueError(f"{name}out is {out!r}; allowed: a name without a folder that ends in {ends}")
        request = {key: value for key, value in row.items() if value is not None}
        if "prompt" in request or "morph" in request:  # these two are one choice
            request = {key: value for key, value in shared.items() if key not in ("prompt", "morph")} | request
        else:
            request = shared | request
        if is_timeline(request.get("prompt")):
            request["prompt"] = [tuple(entry) for entry in request["prompt"]]
        job = Job(request, folder / out, name, request.pop("midi", midi))
        if not isinstance(job.midi, bool):
            raise ValueError(f"{name}midi is {job.midi!r}; allowed: true or false")
        jobs.append(job)
        check_numbers(job, "num_waveforms_per_prompt")
        for path in job.files:
            with naming(job):
                check_file(path)
            if path in taken:
                raise ValueError(f"{name}writes {path.name!r}, as in line {taken[path]}; give each line its own out")
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


def check_numbers(job: Job, *names: str) -> None:
    """Raise a ValueError for a number of the request that is out of range; `names`: those to look at, all if none."""
    from pipelines.vivace_theory import check_number

    for name in names or NUMBERS:
        if name in job.request:
            low, high, whole = NUMBERS[name]
            check_number(f"{job.name}{name}", job.request[name], low, high, whole=whole)


def texts_of(request: dict) -> list[str]:
    """The texts of a request: one, a timeline's or a morph's; none where a score speaks for itself. Raises a ValueError
    for no prompt, an empty one, or two."""
    prompt, morph = request.get("prompt"), request.get("morph")
    if prompt is None and morph is None and "score" in request:
        return []
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


def check_notes(job: Job, notes: bool, composes: bool):
    """The score, or the melody and the rhythm of a job, or None. Raise a ValueError for what is wrong with them and
    with the parts, of a checkpoint that plays `notes` and `composes`, or does not."""
    from pipelines.scores import is_composed, load_score, load_sketches
    from pipelines.vivace_score import load_mido, read_parts

    request = job.request
    for name in ("score", "parts"):
        if name in request and not notes:
            raise ValueError(f"{name} needs a network that plays notes; this checkpoint's has no note channels")
    for name in ("compose", "melody", "rhythm", "sketch_timing", "form"):
        if request.get(name) and not composes:
            raise ValueError(f"{name} needs a composer and a network that plays notes; this checkpoint has none")
    roles = request.get("roles")
    if roles is not None and "score" not in request and "melody" not in request:
        raise ValueError("roles needs score or melody: they are those of its tracks")
    check_kept(job, "melody", "rhythm")
    sketch = load_sketches(request, ". ".join(texts_of(request)), roles)
    score = load_score(request["score"], "score", roles) if "score" in request else None
    read_parts(request.get("parts"), score)
    if not isinstance(request.get("stems", False), bool):
        raise ValueError(f"stems is {request['stems']!r}; allowed: true or false")
    written = is_composed(request, composes)
    if request.get("stems") and not written and not any(name in request for name in SCORED):
        raise ValueError("stems needs score: stems are its parts")
    if job.midi:
        load_mido()
        own = Path(request.get("audio", "")).is_file() and has_score(request["audio"])
        if not own and not written and not any(name in request for name in SCORED):
            raise ValueError("midi needs score: no other notes are known")
        for path in job.files:
            if score is not None and path.is_file() and path.samefile(request["score"]):
                raise ValueError(f"midi would write over score {request['score']!r}; give out another name")
    if request.pop("roles", None) is not None:
        request |= {} if score is None else {"score": score}
    return sketch if score is None else score


def check_kept(job: Job, *names: str) -> None:
    """Raise a ValueError where a file of a job would be written over one that it is made from."""
    for name in names:
        file = job.request.get(name)
        there = isinstance(file, str) and Path(file).exists()
        if there and any(path.exists() and path.samefile(file) for path in job.files):
            raise ValueError(f"out would write over {name} {file!r}; give out another name")


def has_score(path: str) -> bool:
    """Whether an audio file was made from a score, by its recipe."""
    from pipelines.vivace_files import find_recipe

    try:
        return (find_recipe(path) or {"arguments": {}})["arguments"].get("score") is not None
    except ValueError:  # no file that libsndfile reads
        return False


def check_job(job: Job, edit: bool, index: dict, notes: bool) -> None:
    """Raise a ValueError for what can be refused before the model is loaded, of a job that starts from audio (`edit`)
    or not; `index` is the checkpoint's model_index.json, and `notes` says whether it plays notes."""
    from pipelines.scores import has_composer, is_composed, music_of
    from pipelines.vivace_music import Lengths

    request = job.request
    with naming(job):
        texts = texts_of(request)
        if edit and "audio" not in request:
            raise ValueError("audio is missing: the file to start from, as in --audio loop.wav")
        for name in ("sounds_like", *(["audio"] if edit else [])):
            if name in request and not Path(request[name]).is_file():
                raise ValueError(f"{name} is {request[name]!r}: no such file")
        composes = notes and has_composer(index)
        score = check_notes(job, notes, composes)
        lengths = Lengths(index["default_duration_s"], index["max_duration_s"])
        if not edit:
            written = is_composed(request, composes)
            music_of(". ".join(texts), request, score, lengths.default_s, lengths.longest_s, written)
        elif not any(name in request for name in EDITS):
            if score is None:
                raise ValueError(f"{', '.join(EDITS)}: give one of them to say what is to be done to audio")
            from pipelines.vivace_request import open_source, regions_of_score  # loads torch

            regions_of_score(score, *open_source(request["audio"], None), lengths)
    check_numbers(job)
