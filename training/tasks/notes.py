"""Notes: whether the requested notes are played, and whether words still choose the sound when notes are given."""

from dataclasses import replace

import numpy as np
import soxr

from pipelines.vivace_files import sixteen_bit
from pipelines.vivace_notes import changed_regions
from pipelines.vivace_process import PITCHED
from pipelines.vivace_score import Score
from pipelines.vivace_theory import PROGRAMS
from training.data.clips import read_audio
from training.data.notes import has_notes, score_of
from training.generate import meter_of, reconstruct
from training.metrics.features import CHROMA_RATE, LISTEN_RATE, chroma
from training.metrics.reconstruction import log_mel_distance
from training.metrics.transcriber import Transcriber, match, note_figures
from training.tasks.common import Bench, Figure, arguments_for, least, make, mono, most, outputs, progression, share

NEAR_S = 0.1  # between onsets of one pitch that cannot be told apart
LONGEST_S = 12.0  # of the clips whose notes are played
NAMED = (
    "piano", "flute", "violin", "music box", "trumpet", "accordion", "nylon guitar", "distorted guitar", "organ",
    "square lead", "harp", "clarinet",
)  # fmt: skip


def chosen(bench: Bench, count: int) -> dict[str, list]:
    """Arguments of the pipeline, with scores, for the first rows of the bench that have pitched notes and are of a
    length that training saw; `rows` are these rows."""
    rows = [row for row in bench.rows if has_notes(row) and row["duration_s"] <= LONGEST_S]
    rows = [row for row in rows if any(part["role"] in PITCHED for part in row["parts"]) and whole_bars(row)][:count]
    bars = [whole_bars(row) for row in rows]
    captions = [bench.captions[bench.rows.index(row)] for row in rows]
    scores = [
        score_of(row, n, meter_of(row), progression(row, n * row["beats_per_bar"]))
        for row, n in zip(rows, bars, strict=True)
    ]
    return arguments_for(rows, captions, bars) | {"score": scores, "rows": rows}


def whole_bars(row: dict) -> int:
    """Whole bars of a clip from its first downbeat on."""
    return int((row["duration_s"] - row["downbeat_s"]) * row["bpm"] / 60.0 / row["beats_per_bar"] + 1e-3)


def without(arguments: dict[str, list], *names: str) -> dict[str, list]:
    return {name: values for name, values in arguments.items() if name not in names}


def in_seconds(score: Score) -> dict[str, np.ndarray]:
    """Notes of each pitched role, (n, 4): onset and end in seconds, pitch, velocity."""
    notes = {role: score.notes(role).copy() for role in PITCHED}
    for values in notes.values():
        values[:, 1] += values[:, 0]
        values[:, :2] *= score.quarter_s
    return notes


def mean(values: list[float | None]) -> float | None:
    """Mean of those that are not None."""
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None


def melody_accuracy(audio: np.ndarray, sampling_rate: int, lead: np.ndarray) -> float | None:
    """Share of the time of a lead in which its pitch class is the strongest in the chroma of the audio; None without a
    lead. MusicGen compares melodies much like this (Copet et al. 2023, https://arxiv.org/abs/2306.05284).

    Args:
        audio: (samples,).
        sampling_rate: Hz.
        lead: (n, 4) onset and end in seconds, pitch, velocity; of several notes at once the highest counts.
    """
    strongest = chroma(soxr.resample(audio.astype(np.float32), sampling_rate, LISTEN_RATE)).argmax(axis=0)
    times, wanted = np.arange(len(strongest)) / CHROMA_RATE, np.full(len(strongest), -1)
    for onset, end, pitch in lead[np.argsort(lead[:, 2]), :3]:
        wanted[(times >= onset) & (times < end)] = int(pitch) % 12
    sounding = wanted >= 0
    return float((strongest == wanted)[sounding].mean()) if sounding.any() else None


def notes(bench: Bench, count: int) -> list[Figure]:
    """How the notes that a transcriber finds match the requested ones, in pieces made with these notes; beside them
    real clips, these through the autoencoder, pieces made without notes, and chance: pieces made with another clip's
    notes. And how the notes that the composer wrote are heard in the pieces made with these."""
    arguments = chosen(bench, count)
    rows, scores = arguments["rows"], arguments["score"]
    if not rows:
        return [Figure("notes: no clip of the data has notes", None, 0)]
    try:
        transcriber = Transcriber()
    except ValueError as error:
        return [Figure(f"left out: {error}", None, 0)]
    real = []
    for row, score in zip(rows, scores, strict=True):
        first, rate = round(row["downbeat_s"] * row["sampling_rate"]), int(row["sampling_rate"])
        real.append(read_audio(row).mean(dim=0).numpy()[first : first + round(score.duration_s * rate)])
    clips, rates = {"real clips": real}, [int(row["sampling_rate"]) for row in rows]
    if set(rates) == {bench.rate}:
        clips["autoencoder"] = reconstruct(bench.pipe, real)
    wanted = {}
    if bench.pipe.unet.config.get("note_channels", 0):
        clips["given"] = make(bench, without(arguments, "rows"))
        if bench.pipe.composer is not None:
            made = outputs(bench, without(arguments, "rows", "score"))
            clips["composed"] = [np.asarray(audio) for out in made for audio in out.audios]
            wanted["composed"] = [in_seconds(score) for out in made for score in out.scores]
    clips["without notes"] = make(bench, without(arguments, "rows", "score"), compose=False)
    sounds = {
        source: [(mono(audio), rates[k] if source == "real clips" else bench.rate) for k, audio in enumerate(audios)]
        for source, audios in clips.items()
    }
    transcribed = {source: [transcriber.notes(*sound) for sound in every] for source, every in sounds.items()}
    requested = [in_seconds(score) for score in scores]
    wanted = dict.fromkeys(sounds, requested) | wanted
    if len(rows) > 1 and "given" in sounds:
        sounds["chance"], transcribed["chance"] = sounds["given"], transcribed["given"]
        wanted["chance"] = [*requested[1:], requested[0]]
    compared = {
        source: [
            note_figures(*one, score.duration_s) for *one, score in zip(every, wanted[source], scores, strict=True)
        ]
        for source, every in transcribed.items()
    }
    melodies = {
        source: [melody_accuracy(*sound, one["lead"]) for sound, one in zip(pairs, wanted[source], strict=True)]
        for source, pairs in sounds.items()
    }
    figures = [figure("onset and pitch within 50 ms, F1", compared, lambda one: one.f1)]
    figures.append(figure("pitch class of the lead is the strongest, share of its time", melodies, lambda one: one))
    figures += [
        figure(f"notes of {role} that are heard, share", compared, lambda one, role=role: one.recall[role])
        for role in PITCHED
    ]
    figures.append(figure("velocity: rank correlation with strength heard", compared, lambda one: one.velocity))
    figures.append(figure("onset heard after onset asked, ms, mean of medians", compared, lambda one: one.late_ms))
    return figures


def parts(bench: Bench, count: int) -> list[Figure]:
    """One role alone, stems against the mix, and bars whose notes are changed.

    Notes of other roles are those of the piece that the role which plays alone has not at that time and pitch.
    """
    if not bench.pipe.unet.config.get("note_channels", 0):
        return [Figure("left out: the network plays no notes", None, 0)]
    try:
        transcriber = Transcriber()
    except ValueError as error:
        return [Figure(f"left out: {error}", None, 0)]
    found = chosen(bench, len(bench.rows))
    several = [place for place, score in enumerate(found["score"]) if len(set(score.roles) & set(PITCHED)) > 1][:count]
    pieces = {name: [values[place] for place in several] for name, values in without(found, "rows").items()}
    if not several:
        return [Figure("parts: no clip of the data has notes of several roles", None, 0)]
    figures = []
    for role in PITCHED:
        places = [place for place, score in enumerate(pieces["score"]) if role in score.roles]
        own, others = [], []
        arguments = {name: [values[place] for place in places] for name, values in pieces.items()}
        for score, audio in zip(arguments["score"], make(bench, arguments, parts=[role]), strict=True):
            transcribed, requested = transcriber.notes(mono(audio), bench.rate), in_seconds(score)
            mine = requested[role]
            unwanted = np.concatenate([notes for name, notes in requested.items() if name != role])
            near = np.abs(unwanted[:, None, 0] - mine[None, :, 0]) < NEAR_S
            unwanted = unwanted[~(near & (unwanted[:, None, 2] == mine[None, :, 2])).any(axis=1)]
            own.append(len(match(transcribed, mine)) / len(mine))
            others += [len(match(transcribed, unwanted)) / len(unwanted)] if len(unwanted) else []
        figures.append(Figure(f"{role} alone: its notes that are heard, share", mean(own), len(own)))
        figures.append(
            most(f"{role} alone: notes of other roles that are heard, share", mean(others), len(others), 0.05)
        )
    return figures + stems(bench, pieces) + changes(bench, pieces)


def stems(bench: Bench, pieces: dict[str, list]) -> list[Figure]:
    """Whether stems add up to their piece, and how far that is from the mix made in one go."""
    sums, far, seeds = [], [], []
    for place in range(len(pieces["prompt"])):
        arguments = {name: values[place] for name, values in pieces.items()} | {"loop": False}
        whole, other = (bench.pipe(**arguments, seed=bench.seed + place + step).audios[0] for step in (0, 1000))
        apart = bench.pipe(**arguments, seed=bench.seed + place, stems=True)
        total = sum(sixteen_bit(stem).astype(int) for stem in apart.stems[0].values())
        sums.append(bool(np.array_equal(total, sixteen_bit(apart.audios[0]))))
        for values, made in ((far, apart.audios[0]), (seeds, other)):
            values.append(log_mel_distance(mono(np.asarray(made)), mono(np.asarray(whole)), bench.rate))
    between = mean(seeds)
    return [
        least("stems add up to the piece in every 16-bit sample, share", share(sums), len(sums), 1),
        most("log-mel distance of the sum of stems from the mix", mean(far), len(far), between or 0.0),
        Figure("log-mel distance between two seeds", between, len(seeds)),
    ]


def changes(bench: Bench, pieces: dict[str, list]) -> list[Figure]:
    """A note of the last bar is moved by a tone: what changes elsewhere in the piece."""
    outside = []
    for place, score in enumerate(pieces["score"]):
        track = next(track for track in score.tracks if track.role in PITCHED)
        notes = track.notes.copy()
        notes[-1, 2] += 2 if notes[-1, 2] < 126 else -2
        tracks = tuple(replace(one, notes=notes) if one is track else one for one in score.tracks)
        arguments = {name: values[place] for name, values in pieces.items()} | {"loop": False}
        made = bench.pipe(**arguments, seed=bench.seed + place)
        edited = bench.pipe(arguments["prompt"], audio=made, score=replace(score, tracks=tracks), seed=bench.seed)
        before, after = (np.asarray(out.audios[0]) for out in (made, edited))
        kept = np.ones(before.shape[1], dtype=bool)
        for first, last in changed_regions(score, replace(score, tracks=tracks), 0.0, score.duration_s, False):
            kept[round(first * bench.rate) : round(last * bench.rate)] = False
        outside.append(int((before != after)[:, kept].sum()))
    return [
        most("samples that a changed note changes outside its bar and its tail", float(sum(outside)), len(outside), 0)
    ]


def figure(name: str, compared: dict[str, list], value) -> Figure:
    """One figure of the clips made with notes, beside the same of the others."""
    values = {source: [value(one) for one in every] for source, every in compared.items()}
    means = {source: mean(found) for source, found in values.items()}
    beside = {source: found for source, found in means.items() if source != "given" and found is not None}
    counted = values.get("given") or values["real clips"]
    return Figure(name, means.get("given"), sum(one is not None for one in counted), beside=beside)


def timbre(bench: Bench, count: int) -> list[Figure]:
    """Whether the instrument that the words name is the tagger's first guess, of pieces that play the lead of another
    clip alone; beside them pieces made from the words without notes. `count` is that of each of `NAMED`."""
    if bench.listeners.tagger is None:
        return [Figure("timbre: the tagger is missing", None, 0)]
    found = chosen(bench, len(bench.rows))
    leads = [place for place, score in enumerate(found["score"]) if "lead" in score.roles]
    if not leads:
        return [Figure("timbre: no clip of the data has notes of a lead", None, 0)]
    places = [leads[number % len(leads)] for number in range(count * len(NAMED))]
    arguments = {name: [values[place] for place in places] for name, values in without(found, "rows").items()}
    names = [name for name in NAMED for _ in range(count)]
    arguments["prompt"] = [f"solo {name}" for name in names]
    arguments["score"] = [score.only("lead") for score in arguments["score"]]
    audios = {"without notes": make(bench, without(arguments, "score"), compose=False)}
    if bench.pipe.unet.config.get("note_channels", 0):
        audios["given"] = make(bench, arguments)
    right = {
        source: [
            first_guess(bench.listeners.tagger.probabilities([mono(audio)], bench.rate)[0]) == name
            for name, audio in zip(names, every, strict=True)
        ]
        for source, every in audios.items()
    }

    def line(label: str, first: int, last: int) -> Figure:
        values = {source: share(flags[first:last]) for source, flags in right.items()}
        return Figure(label, values.pop("given", None), last - first, beside=values)

    return [
        line("instrument that the words name is the first guess, share", 0, len(names)),
        *(line(f"first guess is right: {name}", i * count, (i + 1) * count) for i, name in enumerate(NAMED)),
    ]


def first_guess(tags: dict[str, float]) -> str:
    """The likeliest of the tags that are pitched instruments."""
    return max((name for name in tags if name in PROGRAMS), key=lambda name: tags[name])
