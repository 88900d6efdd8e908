"""Pieces for the page: the pipeline's output into a session, uploads into a session, and what the player shows."""

import math
import os
import shutil
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import soundfile

from pipelines.pipeline_vivace import find_beats, parse_time_signature, write_audio
from pipelines.scores import LONGEST
from pipelines.vivace_files import find_ffmpeg, find_recipe, read_file
from pipelines.vivace_music import Music
from pipelines.vivace_request import recipe_grid

from .notes import roll_value
from .request import MAX_SECONDS, file_name, read_sections, short_title
from .sessions import Session, Take

MAX_UPLOAD_BYTES = 30 * 2**20
MIN_UPLOAD_S = 0.5
MAX_CHORDS = 60  # characters of a progression in the line on a piece; the piano roll has all of it
LOSSY = [kind for kind in ("mp3", "ogg") if kind.upper() in soundfile.available_formats()]  # of this libsndfile
KINDS = ("WAV", "FLAC", "OGG", "MP3", "AIFF")  # as libsndfile names what it finds inside, whatever the file's ending
NAMES = {"loop": "loop", "made": "piece", "anew": "region made anew", "extended": "extended", "varied": "varied",
         "notes": "notes changed", "uploaded": "uploaded"}  # fmt: skip


def grid_of(conditions: dict, downbeat_s: float = 0.0) -> dict | None:
    """The beats of a piece whose tempo is known."""
    if conditions["bpm"] is None:
        return None
    beats = parse_time_signature(conditions["time_signature"] or "4/4")
    return {"bpm": float(conditions["bpm"]), "beats_per_bar": beats, "downbeat_s": downbeat_s}


def describe(conditions: dict, seed: int | None) -> str:
    """What was understood, as one line."""
    words = []
    if conditions["bpm"] is not None:
        chosen = f" ({conditions['bpm_reason']})" if conditions["bpm_reason"] is not None else ""
        words.append(f"{float(conditions['bpm']):g} bpm{chosen}")
    words += [conditions[name] for name in ("key", "time_signature") if conditions[name] is not None]
    words += [f"{conditions['bars']} bar{'s' * (conditions['bars'] != 1)}"] if conditions["bars"] is not None else []
    if conditions["chords"] is not None:
        words.append(textwrap.shorten(str(conditions["chords"]), MAX_CHORDS, placeholder=" ..."))
    words += [f"{conditions['duration_s']:.2f} s"] + ([f"seed {seed}"] if seed is not None else [])
    return ", ".join(words)


def keep_output(
    session: Session,
    output,
    settings: dict,
    task: str | None = None,
    grid: dict | None = None,
    made=(),
    loop: bool = False,
) -> list[Take]:
    """Write the pieces of an output into the session, as WAV and FLAC with their recipes.

    Args:
        session: whose they are.
        output: of the pipeline.
        settings: of the fields, for `Restore`; each piece gets its own seed.
        task: kind of an edit, see `Take`; None = made from words.
        grid: beats of what was edited; None = those that were asked for, from 0 s on.
        made: stretches in seconds that were made anew.
        loop: whether it is a circle, where the output does not tell.
    """
    takes = []
    for index, (conditions, seed) in enumerate(zip(output.conditions, output.seeds, strict=True)):
        score, stems = (
            values and values[index] for values in (getattr(output, name, None) for name in ("scores", "stems"))
        )
        title = settings["prompt"] or ", ".join(score.instruments if score else ()) or "score"
        name = file_name(title, seed, {take.name for take in session.takes.values()})
        take_id, path = session.new_path(name)
        output.save(path, index, **({"midi": True} if score else {}), **({"stems": True} if stems else {}))
        output.save(path.with_suffix(".flac"), index)
        own = settings | {"seed": seed, "num_waveforms_per_prompt": 1}
        if stems:
            pack(path.with_suffix(".zip"), [path.with_suffix(f".{role}.wav") for role in stems])
        if isinstance(settings.get("score"), str):  # what was uploaded stays as long as the piece
            own["score"] = str(shutil.copyfile(settings["score"], path.with_name("score.mid")))
        elif settings.get("score"):  # of the piano roll
            own["score"] = str(path.with_suffix(".mid"))
        for field, kept in (("hum", "melody"), ("sounds_like", "sound")):
            if settings.get(field):
                given = Path(settings[field])
                own[field] = str(shutil.copyfile(given, path.with_name(f"{kept}{given.suffix}")))
        circle = bool(conditions.get("loop", loop))
        kind = task or ("loop" if circle else "made")
        take = Take(
            take_id, kind, title, name, path, output.audios[index].shape[-1] / output.sampling_rate, own, conditions,
            seed, grid or grid_of(conditions), list(made), circle,
        )  # fmt: skip
        session.add(take)
        takes.append(take)
    return takes


def pack(path: Path, files: list[Path]) -> None:
    """A zip of files, which are then removed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in files:
            zipped.write(file, file.name)
            file.unlink()


def check_upload(path: str | Path, name: str = "audio") -> None:
    """Refuse what is no short piece of audio, by its size and its header, before it is read.

    Args:
        path: of the file.
        name: as what it was sent.

    Raises:
        ValueError: one line that says what is allowed.
    """
    more = ", M4A, WebM" if find_ffmpeg() else ""
    allowed = f"allowed: {', '.join(KINDS)}{more} of up to {MAX_UPLOAD_BYTES / 2**20:g} MB and {MAX_SECONDS:g} s"
    if not os.path.isfile(path):
        raise ValueError(f"{name} is not there any more; upload it again ({allowed})")
    size = os.path.getsize(path)
    if size > MAX_UPLOAD_BYTES:
        raise ValueError(f"{name} has {size / 2**20:.1f} MB; {allowed}")
    try:
        about = soundfile.info(str(path))
        kind, rate, channels, seconds = about.format, about.samplerate, about.channels, about.duration
    except (OSError, RuntimeError):  # what ffmpeg reads is decoded to see how long it is
        try:
            samples, rate = read_file(path, MAX_SECONDS)
        except ValueError as error:
            raise ValueError(f"{name} cannot be read, or is too long; {allowed}") from error
        kind, channels, seconds = KINDS[0], samples.shape[0], samples.shape[1] / rate
    if kind not in KINDS:
        raise ValueError(f"{name} is a {kind} file; {allowed}")
    if not MIN_UPLOAD_S <= seconds <= MAX_SECONDS:
        raise ValueError(f"{name} lasts {seconds:.2f} s; {allowed}, and at least {MIN_UPLOAD_S:g} s")
    if not 8000 <= rate <= 96000 or channels > 2:
        raise ValueError(f"{name} has {rate} Hz and {channels} channels; allowed: 8000 to 96000, 1 or 2")


def keep_upload(session: Session, path: str | Path, name: str) -> Take:
    """A copy of an uploaded file in the session, in 16 bit, with the beats heard in it. A file of ours keeps its
    recipe, and has the beats that this says.

    Raises:
        ValueError: a file that will not do.
    """
    check_upload(path)
    try:
        samples, rate = read_file(path, MAX_SECONDS)
    except ValueError as error:
        raise ValueError("audio is damaged: its header can be read, its samples cannot") from error
    audio = samples.numpy()
    if not np.isfinite(audio).all():
        raise ValueError("audio has samples that are not finite numbers")
    recipe, grid, loop = recipe_of(path, audio.shape[1] / rate)
    if grid is None:
        beats = find_beats(samples, rate, None, 4)
        grid = None if beats is None else {"bpm": round(beats[0], 2), "beats_per_bar": 4, "downbeat_s": beats[1]}
    title = short_title(Path(name).stem) or "upload"
    stem = file_name(title, None, {take.name for take in session.takes.values()})
    take_id, target = session.new_path(stem)
    for file in (target, target.with_suffix(".flac")):
        write_audio(file, audio, rate, recipe)
    take = Take(take_id, "uploaded", title, stem, target, audio.shape[1] / rate, grid=grid, loop=loop)
    session.add(take)
    return take


def recipe_of(path: str | Path, seconds: float) -> tuple[dict | None, dict | None, bool]:
    """Recipe, beats and whether it is a loop, of a file of ours; of another one None, None and False."""
    try:
        recipe = find_recipe(path)
    except (ValueError, RecursionError):  # none that can be read
        return None, None, False
    found = recipe_grid(recipe, seconds, LONGEST)
    if not {"bpm", "downbeat_s"} <= set(found):
        return recipe, None, False
    beats = parse_time_signature(found["time_signature"])
    grid = {"bpm": float(found["bpm"]), "beats_per_bar": beats, "downbeat_s": float(found["downbeat_s"])}
    return recipe, grid, bool(found["loop"])


def about(take: Take) -> str:
    """One line on a piece."""
    if take.conditions is not None:
        return describe(take.conditions, take.seed)
    tempo = "no steady beat heard" if take.grid is None else f"{take.grid['bpm']:g} bpm heard"
    return f"{take.seconds:.2f} s, {tempo}"


def link(path: Path) -> str:
    """Where the browser gets a file, beside the page wherever that is mounted."""
    return f"./gradio_api/file={path}"


def track(take: Take, label: str, roll: bool = False) -> dict:
    """What the player needs of a piece, with its notes where there is a piano `roll`."""
    grid = take.grid or {"bpm": None, "beats_per_bar": None, "downbeat_s": None}
    return {
        "id": take.id, "label": label, "name": take.name, "url": link(take.path), "flac": link(take.flac),
        "mid": take.midi and link(take.midi), "zip": take.stems and link(take.stems),
        **{kind: link(take.path.with_suffix(f".{kind}")) for kind in LOSSY}, "roll": roll_value(take) if roll else None,
        "about": f"{take.called}: {about(take)}", "loop": take.loop, "made": take.made, **grid,
        "sections": section_names((take.settings or {}).get("sections")),
    }  # fmt: skip


def section_names(lines: object) -> dict[str, str]:
    """The bars, counted from 0, in which the sections of a piece begin, and what they are called."""
    rows, names, bar = read_sections(lines or ""), {}, 0
    for bars, words in rows:
        names[str(bar)] = words.split(",")[0]
        bar += bars
    return names


def make_lossy(path: Path) -> bool:
    """Write the MP3 or OGG file of a piece when it is first asked for; whether there is such a piece."""
    source = path.with_suffix(".wav")
    if path.suffix.removeprefix(".") not in LOSSY or not source.is_file():
        return False
    if not path.is_file():
        samples, rate = read_file(source, math.inf)
        write_audio(path, samples.numpy(), rate, find_recipe(source))
    return True


def beginning(folder: Path, chunks: list[np.ndarray], rate: int, music: Music, settings: dict) -> dict:
    """The value of a player for a piece that is still being made: what there is of it, at its place in the whole.

    Args:
        folder: of its files.
        chunks: (channels, samples) each.
        rate: their sampling rate.
        music: of the whole piece.
        settings: of the fields.
    """
    path, seconds = folder / f"{len(chunks)}.wav", sum(chunk.shape[1] for chunk in chunks) / rate
    write_audio(path, np.concatenate(chunks, axis=1), rate)
    grid = grid_of({"bpm": music.bpm, "time_signature": music.time_signature})
    title = settings["prompt"] or "score"
    take = Take("", "made", title, "beginning", path, seconds, settings, grid=grid)
    whole = float(music.duration_s)
    more = {"coming": whole, "about": f"{title}: {seconds:.0f} of {whole:.0f} s can be played, the rest is being made"}
    return {"tracks": [track(take, "1") | more], "current": 0, "region": None, "selectable": False}


def deck_value(
    takes: list[Take], labels: list[str] | None = None, selectable: bool = False, roll: bool = False
) -> dict:
    """The value of a player with these pieces; with a piano `roll` bars can be chosen for it."""
    labels = labels or [str(number + 1) for number in range(len(takes))]
    tracks = [track(take, label, roll) for take, label in zip(takes, labels, strict=True)]
    selectable = selectable or any(one["roll"] for one in tracks)
    return {"tracks": tracks, "current": 0, "region": None, "selectable": selectable}


def history_value(session: Session, search: str = "") -> dict:
    """What the list shows, newest first; every word of the search must be in the title, the kind or the line."""
    rows, words = [], str(search or "").lower().split()[:20]
    for take in reversed(session.takes.values()):
        row = {
            "id": take.id, "title": take.called, "about": about(take), "name": take.name, "star": take.star,
            "kind": f"{'favourite ' * take.star}{NAMES[take.kind]}",
            "wav": link(take.path), "flac": link(take.flac), "mid": take.midi and link(take.midi),
            "zip": take.stems and link(take.stems), "restore": take.settings is not None,
            "more": take.settings is not None and "task" not in take.settings,
            "slot": next((slot for slot, other in session.pair.items() if other == take.id), None),
        }  # fmt: skip
        text = f"{row['kind']} {row['title']} {take.title} {row['about']}".lower()
        if all(word in text for word in words):
            rows.append(row)
    return {"takes": rows, "total": len(session.takes)}


def rename(session: Session, take: Take, text: object) -> None:
    """Give a piece a name; an empty one, or its title, takes it away. Its files keep theirs: players link to them."""
    label = short_title(text)
    session.change(take, label="" if label == take.title else label)


def zip_takes(session: Session, takes: list[Take]) -> Path:
    """A zip of the FLAC files, in the session's folder; FLAC is stored as it is."""
    path = session.folder / "vivace.zip"
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as file:
        for take in takes:
            file.write(take.flac, f"{take.name}.flac")
    os.replace(partial, path)
    return path
