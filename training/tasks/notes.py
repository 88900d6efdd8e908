"""Notes: whether those that are asked for are heard, and whether words still choose the sound when notes are given."""

import numpy as np

from pipelines.vivace_score import PITCHED, PROGRAMS, ROLES
from training.data.clips import read_audio
from training.data.notes import (
    frames_roll,
    has_notes,
    instrument_index,
    instruments_by_role,
    note_rows,
    notes_by_role,
)
from training.generate import draw, frames_of, reconstruct
from training.metrics.transcriber import NoteFigures, Transcriber, note_figures
from training.tasks.common import Bench, Figure, share

NAMED_TOO = "words and role"
LONGEST_S = 12.0  # of the clips whose notes are played
NAMED = (
    "piano", "flute", "violin", "music box", "trumpet", "accordion", "nylon guitar", "distorted guitar", "organ",
    "square lead", "harp", "clarinet",
)  # fmt: skip


def chosen_rows(bench: Bench, count: int) -> list[dict]:
    """The first rows of the bench with pitched notes, of a length that training saw."""
    rows = [row for row in bench.rows if has_notes(row) and row["duration_s"] <= LONGEST_S]
    return [row for row in rows if any(part["role"] in PITCHED for part in row["parts"])][:count]


def mean(values: list[float | None]) -> float | None:
    """Mean of those that are not None."""
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None


def notes(bench: Bench, count: int) -> list[Figure]:
    """How a transcriber's notes match those asked for, of clips made with these notes; beside them real clips, these
    through the autoencoder, clips made without notes, and chance: clips made with the notes of another clip."""
    rows = chosen_rows(bench, count)
    if not rows:
        return [Figure("notes: no clip of the data has notes", None, 0)]
    try:
        transcriber = Transcriber()
    except ValueError as error:
        return [Figure(f"left out: {error}", None, 0)]
    instruments = list(bench.pipe.unet.config.get("instruments") or ())
    asked = [notes_by_role(row, note_rows(row)) for row in rows]
    clips: dict[str, list[np.ndarray]] = {"real clips": [read_audio(row).mean(dim=0).numpy() for row in rows]}
    rates = {"real clips": [int(row["sampling_rate"]) for row in rows]}
    if set(rates["real clips"]) == {bench.rate}:
        clips["autoencoder"] = reconstruct(bench.pipe, clips["real clips"])
    captions = [bench.captions[bench.rows.index(row)] for row in rows]
    sources = ("given", "without notes") if bench.pipe.unet.config.get("note_channels", 0) else ("without notes",)
    for source in sources:
        clips[source] = []
        for number, (row, caption) in enumerate(zip(rows, captions, strict=True)):
            kept = {}
            if source == "given":
                names = instruments_by_role(row, note_rows(row))
                frames = frames_of(row, bench.pipe.frame_rate)
                kept["note_roll"] = frames_roll(asked[number], 0, frames, bench.pipe.frame_rate)
                kept["role_instruments"] = instrument_index(names, instruments)
            clips[source].append(draw(bench.pipe, row, caption, bench.seed + number, **kept))
    heard = {
        source: [
            transcriber.notes(audio, rate)
            for audio, rate in zip(audios, rates.get(source, [bench.rate] * len(audios)), strict=True)
        ]
        for source, audios in clips.items()
    }
    compared = {
        source: [
            note_figures(found, want, row["duration_s"]) for found, want, row in zip(every, asked, rows, strict=True)
        ]
        for source, every in heard.items()
    }
    if len(rows) > 1 and "given" in heard:
        other = [*asked[1:], asked[0]]
        compared["chance"] = [
            note_figures(found, want, row["duration_s"])
            for found, want, row in zip(heard["given"], other, rows, strict=True)
        ]
    figures = [figure("onset and pitch within 50 ms, F1", compared, lambda one: one.f1)]
    figures += [
        figure(f"notes of {role} that are heard, share", compared, lambda one, role=role: one.recall[role])
        for role in PITCHED
    ]
    figures.append(figure("velocity: rank correlation with strength heard", compared, lambda one: one.velocity))
    figures.append(figure("onset heard after onset asked, ms, mean of medians", compared, lambda one: one.late_ms))
    return figures


def figure(name: str, compared: dict[str, list[NoteFigures]], value) -> Figure:
    """One figure of the clips made with notes, beside the same of the others."""
    values = {source: [value(one) for one in every] for source, every in compared.items()}
    means = {source: mean(found) for source, found in values.items()}
    beside = {source: found for source, found in means.items() if source != "given" and found is not None}
    counted = values.get("given") or values["real clips"]
    return Figure(name, means.get("given"), sum(one is not None for one in counted), beside=beside)


def timbre(bench: Bench, count: int) -> list[Figure]:
    """Whether the instrument that the words name is the tagger's first guess, of clips that play the lead of another
    clip with the other roles silent: with the name at the role as well, by the words alone, and without notes.

    Args:
        bench: with a tagger.
        count: clips of each of `NAMED`.
    """
    if bench.listeners.tagger is None:
        return [Figure("timbre: the tagger is missing", None, 0)]
    config, rate = bench.pipe.unet.config, bench.pipe.frame_rate
    plays = bool(config.get("note_channels", 0))
    rows = [row for row in chosen_rows(bench, len(bench.rows)) if any(part["role"] == "lead" for part in row["parts"])]
    if not rows:
        return [Figure("timbre: no clip of the data has notes of a lead", None, 0)]
    right: dict[str, dict[str, list[bool]]] = {}  # way -> instrument -> clips
    for place, name in enumerate(NAMED):
        for number in range(place * count, (place + 1) * count):
            row = rows[number % len(rows)]
            lead = notes_by_role(row, note_rows(row))["lead"]
            roll = frames_roll(
                {role: lead if role == "lead" else lead[:0] for role in ROLES}, 0, frames_of(row, rate), rate
            )
            ways: dict[str, tuple] = {"without notes": ()}
            if plays:
                ways["words alone"] = (roll,)
                ways[NAMED_TOO] = (roll, instrument_index({"lead": name}, list(config.instruments or ())))
            for way, given in ways.items():
                audio = draw(bench.pipe, row, f"solo {name}", bench.seed + number, *given)
                (tags,) = bench.listeners.tagger.probabilities([audio], bench.rate)
                right.setdefault(way, {}).setdefault(name, []).append(first_guess(tags) == name)

    def line(label: str, names: tuple[str, ...]) -> Figure:
        values = {way: share([flag for name in names for flag in found[name]]) for way, found in right.items()}
        return Figure(label, values.pop(NAMED_TOO, None), count * len(names), beside=values)

    every = line("instrument that the words name is the first guess, share", NAMED)
    return [every, *(line(f"first guess is right: {name}", (name,)) for name in NAMED)]


def first_guess(tags: dict[str, float]) -> str:
    """The likeliest of the tags that are pitched instruments."""
    return max((name for name in tags if name in PROGRAMS), key=lambda name: tags[name])
