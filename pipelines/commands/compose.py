"""Words, tempo, key and chords -> notes: a MIDI file, and what it sounds like."""

import argparse
import secrets
from pathlib import Path

from pipelines.commands import arguments
from pipelines.commands.jobs import Job, check_file, check_kept, check_numbers, naming, read_jobs, texts_of

EXAMPLES = """examples:
  vivace compose "slow waltz for accordion and double bass" --bars 16 --seed 7 --out waltz.mid
  vivace compose "jazz trio, 96 bpm" --chords "Am7 D7 Gmaj7 Cmaj7" --form "AA'BA'" --bars 32 --out tune.mid
  vivace compose "funk" --bars 8 --parts bass drums --loop --audio --out groove.mid
  vivace compose --batch requests.jsonl --out folder --json
      requests.jsonl: {"prompt": "solo flute", "bars": 4, "bpm": 90, "seed": 1, "out": "flute.mid"}

it needs a checkpoint with a composer; --audio one that plays notes, too"""
FORMATS = (".mid", ".midi")


def add_piece(parser: argparse.ArgumentParser) -> None:
    """What `compose` and `arrange` share: who plays, the seed, and what is written."""
    add = parser.add_argument_group("notes").add_argument
    arguments.add_parts(add)
    arguments.add_roles(add)
    add("--seed", type=int, help="the same seed gives the same notes; default: at random, and printed")
    add("--num_waveforms_per_prompt", type=int, help="pieces to make, with the seeds seed, seed + 1, ...; default 1")
    add(
        "--audio", nargs="?", const="wav", choices=("wav", "flac"), help="also play the notes, and write that beside "
        "them: tune.mid has tune.wav; with 'vivace generate --score tune.mid' you can say how they are played",
    )  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_prompt(parser)
    add = parser.add_argument_group("words").add_argument
    add("--prompt", help="style, instruments, what is left out; tempo, key, meter and length are read from it")
    add("--at", nargs=2, action="append", metavar=("START", "PROMPT"), help="from there on: seconds, or 'bar 5'")
    arguments.add_grid(parser, length=True)
    add_piece(parser)
    add = parser.add_argument_group("form").add_argument
    add("--form", help="sections: AABA, AA'BA'")
    arguments.add_sketch(add)
    arguments.add_batch(parser)
    add_model(parser)
    parser.add_argument("--out", help="file to write, .mid; default out.mid")
    arguments.add_json(parser)


def add_model(parser: argparse.ArgumentParser) -> None:
    arguments.add_checkpoint(parser)
    parser.add_argument("--composer", metavar="FOLDER", help="weights of training.train_composer to use in its place")


def run(args: argparse.Namespace) -> int:
    args.midi = False  # the notes are the file
    jobs = read_jobs(args, FORMATS)
    for job in jobs:
        for path in audio_files(job):
            check_file(path)
    if args.skip_existing:
        jobs = [job for job in jobs if not (job.done and all(path.is_file() for path in audio_files(job)))]
    return write_scores(args, jobs)


def audio_files(job: Job) -> list[Path]:
    kind = job.request.get("audio")
    return [path.with_suffix(f".{kind}") for path in job.paths] if kind in ("wav", "flac") else []


def check(job: Job, index: dict, notes: bool, own: bool) -> None:
    """Raise a ValueError for what can be refused before a model is loaded; load the melody. `index` and `notes` are as
    in `check_job`; `own` says whether another composer is given."""
    from pipelines.scores import has_composer, load_sketches, music_of
    from pipelines.vivace_score import load_mido, read_parts

    request = job.request
    with naming(job):
        load_mido()
        if not own and not has_composer(index):
            raise ValueError("compose needs a checkpoint with a composer; this one has none: give checkpoint")
        if request.get("audio") not in (None, "wav", "flac"):
            raise ValueError(f"audio is {request['audio']!r}; allowed: wav, flac")
        if "audio" in request and not notes:
            raise ValueError("audio needs a network that plays notes; this checkpoint's has no note channels")
        roles = request.pop("roles", None)
        if roles is not None and "melody" not in request:
            raise ValueError("roles needs melody: they are those of its tracks")
        check_kept(job, "melody", "rhythm")
        text = ". ".join(texts_of(request))
        sketch = load_sketches(request, text, roles)
        read_parts(request.get("parts"), None)
        lengths = index["default_duration_s"], index["max_duration_s"]
        music_of(text, request | {"audio": None}, sketch, *lengths, True)
    check_numbers(job)


def write_scores(args: argparse.Namespace, jobs: list[Job]) -> int:
    """Compose and write the scores of the jobs; returns the exit code of `make_all`."""
    from pipelines.commands.make import load, make_all

    def check_all(index: dict, notes: bool) -> None:
        for job in jobs:
            check(job, index, notes, args.composer is not None)

    pipe, device = load(args, check_all)
    if args.composer is not None:
        from pipelines.scores import load_composer

        pipe = pipe.from_pipe(pipe, composer=load_composer(pipe, args.composer).to(device))
        pipe.set_progress_bar_config(disable=True)
    return make_all(args, jobs, pipe, lambda job: call(pipe, job), report, report)


def call(pipe, job: Job) -> list[dict]:
    """Make and write the pieces of one request; what was made, as JSON can hold it."""
    from pipelines.scores import about_score

    request = {"seed": secrets.randbelow(2**31)} | job.request
    kind, seed = request.pop("audio", None), request["seed"]
    if kind is None:
        scores = pipe.compose(**request)
    else:
        out = pipe(**request, compose=True)
        scores = out.scores
    pieces = []
    for index, (path, score) in enumerate(zip(job.paths, scores, strict=True)):
        score.save(path)
        files = {"file": str(path)}
        if kind is not None:
            files["audio"] = str(path.with_suffix(f".{kind}"))
            out.save(files["audio"], index)
        pieces.append(files | {"seed": seed + index, "score": about_score(score)})
    return pieces


def report(piece: dict) -> str:
    held = piece["score"]
    words = [f"{held['bars']} bars", f"{held['bpm']:g} bpm", held["time_signature"], held["key"]]
    words.append(f"seed {piece['seed']}")
    parts = [part["role"] + (f" ({part['instrument']})" if part["instrument"] else "") for part in held["parts"]]
    notes = "".join(f"; note: {remark}" for remark in held["remarks"])
    files = "  ".join(piece[name] for name in ("file", "audio") if name in piece)
    return f"{files}  {', '.join(word for word in words if word)}: {', '.join(parts) or 'no notes'}{notes}"
