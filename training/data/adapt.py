"""From a real score to a piece: an excerpt, transposed, re-timed, re-orchestrated.

Three ways: a tune gets chords and an accompaniment in a style; polyphony is given to an ensemble; a
multi-track MIDI song keeps its parts, now and then on other instruments of the same families.
"""

import numpy as np

from training.data import grooves
from training.data.arrange import accompany, draw_bpm, draw_moods, drum_track, finish, percussion_track, pick
from training.data.ensembles import ENSEMBLES
from training.data.harmony import chord_per_beat, estimate_key, harmonise, parse_key
from training.data.instruments import INSTRUMENTS, of_program, with_role
from training.data.piece import Piece, Track, as_notes, choose_start, clip_bars, fit_range, pick_preset
from training.data.score import Score
from training.data.style import Style
from training.data.styles import STYLES

METERS = {"4/4": "4/4", "2/2": "4/4", "C": "4/4", "C|": "4/4", "3/4": "3/4", "2/4": "2/4", "6/8": "6/8"}
_MAX_RATE = 9.5  # notes a second of a tune; faster is a blur
_DRUM_STYLES = ("rock", "lo-fi", "trap", "house", "march", "bossa nova", "jazz swing", "chiptune", "reggae",
    "ballad", "waltz",
                "cinematic", "folk", "disco")  # fmt: skip
_MODES_MINOR = ("minor", "dorian", "aeolian", "phrygian", "locrian")


_TUNE_WORDS = ("folk tune", "traditional tune", "folk melody"), ("old traditional air", "country dance tune")
_GAME_WORDS = ("game soundtrack", "video game music", "shooter game music"), ("video game score", "level music")
_ROCK_GAME_WORDS = ("game rock", "rock game soundtrack", "hard rock"), ("heavy video game music", "boss fight music")


def usable(score: Score) -> bool:
    """Whether clips can be made of a score: a meter that is known here, a few bars, notes."""
    meter = METERS.get(score.time_signature)
    if meter is None or not score.parts:
        return False
    return score.length_q - score.pickup_q >= 4 * grooves.BAR_Q[meter] and sum(len(p.notes) for p in score.parts) >= 12


def score_key(score: Score) -> tuple[int, bool]:
    """Tonic and mode, from the score or, where it does not say, from its notes."""
    if score.key:
        letter, _, mode = score.key.partition(" ")
        try:
            return parse_key(f"{letter} {'minor' if mode.lower() in _MODES_MINOR else 'major'}")
        except ValueError:
            pass  # an unusual spelling: the notes decide
    tonic, minor, _ = estimate_key(np.concatenate([p.notes for p in score.parts if not p.is_drums]))
    return tonic, minor


def excerpt(score: Score, bars: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Notes of each part over `bars` bars from a bar with music in it; a shorter score is repeated, as tunes
    are."""
    bar_q = grooves.BAR_Q[METERS[score.time_signature]]
    total = max(1, int((score.length_q - score.pickup_q) / bar_q + 1e-6))
    parts = []
    for part in score.parts:
        notes = part.notes.copy()
        notes[:, 0] -= score.pickup_q
        notes = notes[notes[:, 0] < total * bar_q - 1e-6]
        copies = 1 + -(-bars // total) if total <= bars else 1
        parts.append(np.concatenate([notes + np.array([k * total * bar_q, 0, 0, 0]) for k in range(copies)]))
        total_bars = total * copies
    best, chosen = -1.0, 0
    for _ in range(6):
        first = int(rng.integers(0, max(1, total_bars - bars + 1)))
        onsets = np.concatenate([p[:, 0] for p in parts])
        inside = onsets[(onsets >= first * bar_q) & (onsets < (first + bars) * bar_q)]
        filled = len(np.unique(np.floor(inside / bar_q))) / bars
        if filled > best:
            best, chosen = filled, first
        if filled > 0.85:
            break
    result = []
    for notes in parts:
        shifted = notes - [chosen * bar_q, 0.0, 0.0, 0.0]
        result.append(shifted[(shifted[:, 0] + shifted[:, 1] > -bar_q) & (shifted[:, 0] < bars * bar_q)])
    return result


def _limit(bpm: float, notes: np.ndarray, piece_beat_q: float, rng: np.random.Generator) -> float:
    """Slow a tempo down until the busiest bars of a part have at most `_MAX_RATE` notes a second."""
    onsets = np.unique(np.round(notes[:, 0], 3))
    if len(onsets) < 8:
        return bpm
    per_beat = (
        np.percentile(
            np.histogram(onsets, np.arange(onsets[0], onsets[-1] + 2 * piece_beat_q, 2 * piece_beat_q))[0], 85
        )
        / 2.0
    )
    most = 60.0 * _MAX_RATE / max(per_beat, 1e-3)
    return bpm if bpm <= most else float(max(48, int(rng.uniform(0.75, 1.0) * most)))


def _blank(
    score: Score, style: Style | None, meter: str, bpm: float, rng: np.random.Generator, source: str
) -> tuple[Piece, int]:
    """A piece with the labels of a score in a key drawn evenly, and the transposition that leads to it."""
    tonic, minor = score_key(score)
    target = int(rng.integers(12))
    shift = (target - tonic + 5) % 12 - 5
    piece = Piece(
        meter=meter, bpm=bpm, tonic=target, minor=minor, style=style.name if style else "",
        genre=style.genre if style else "", moods=draw_moods(style, bpm, minor, rng) if style else [],
        work=score.work_id, title=score.title, composer=score.composer,
        source=source, license=score.license, style_words=style.words if style else (),
        style_heldout_words=style.heldout_words if style else (),
    )  # fmt: skip
    return piece, shift


def tune_piece(score: Score, clip_s: float, rng: np.random.Generator) -> Piece:
    """A tune over an accompaniment in a style (or, one in ten, nearly alone)."""
    meter = METERS[score.time_signature]
    choices = [s for s in STYLES.values() if meter in s.meters]
    style = choices[int(rng.integers(len(choices)))]
    lead = max(range(len(score.parts)), key=lambda k: len(score.parts[k].notes) * (not score.parts[k].is_drums))
    bpm = _limit(draw_bpm(style, meter, rng), score.parts[lead].notes, grooves.BEAT_Q[meter], rng)
    bars = clip_bars(meter, bpm, clip_s) + 2
    piece, shift = _blank(score, style, meter, bpm, rng, "folk")
    notes = excerpt(score, bars, rng)[lead] + [0.0, 0.0, shift, 0.0]
    notes[:, 3] = np.clip(0.85 + rng.normal(0.0, 0.04, len(notes)), 0.6, 1.0)
    alone = rng.random() < 0.1
    player = pick(style.melody, rng) if rng.random() < 0.7 and not alone else _any(rng)
    piece.tracks.append(Track(player.name, pick_preset(player, rng), "melody", fit_range(notes, player)))
    if alone:
        piece.style, piece.genre = "folk tune", "folk"
        piece.style_words, piece.style_heldout_words = _TUNE_WORDS
        piece.moods = draw_moods(STYLES["folk"], bpm, piece.minor, rng)
        if rng.random() < 0.5:
            piece.tracks.append(percussion_track(meter, bars, rng, 0.75))
        finish(piece, None, rng)
    else:
        unit = piece.bar_q / 2.0 if meter == "4/4" and rng.random() < 0.4 else piece.bar_q
        line = harmonise(notes, 0.0, unit, round(bars * piece.bar_q / unit), piece.tonic, piece.minor)
        if rng.random() < style.sevenths * 0.6:
            line = [(r, {"": "maj7" if r != (piece.tonic + 7) % 12 else "7", "m": "m7"}.get(q, q)) for r, q in line]
        piece.chords = [(k * unit, chord) for k, chord in enumerate(line)]
        accompany(piece, style, bars, piece.chords, rng, {player.name})
        finish(piece, style, rng)
    choose_start(piece, clip_s, 2, rng)
    return piece


def _any(rng: np.random.Generator):
    """Any instrument that plays tunes."""
    players = with_role("m")
    return players[int(rng.integers(len(players)))]


def _label_chords(piece: Piece, bars: int) -> None:
    """Chords per beat out of the notes of the pitched tracks."""
    pitched = [t.notes for t in piece.tracks if t.preset[0] != 128 and len(t.notes)]
    if pitched:
        line = chord_per_beat(np.concatenate(pitched), 0.0, piece.beat_q, round(bars * piece.bar_q / piece.beat_q))
        piece.chords = [(k * piece.beat_q, chord) for k, chord in enumerate(line)]


def polyphony_piece(score: Score, clip_s: float, rng: np.random.Generator) -> Piece:
    """Polyphony for an ensemble, in most clips with drums or percussion that mark the beat."""
    meter = METERS[score.time_signature]
    ensemble = ENSEMBLES[int(rng.integers(len(ENSEMBLES)))]
    parts = [k for k, p in enumerate(score.parts) if not p.is_drums and len(p.notes)]
    bpm = float(rng.integers(48, 161)) if meter != "6/8" else float(rng.integers(48, 116))
    for k in parts:
        bpm = _limit(bpm, score.parts[k].notes, grooves.BEAT_Q[meter], rng)
    bars = clip_bars(meter, bpm, clip_s) + 2
    piece, shift = _blank(score, None, meter, bpm, rng, "classical")
    piece.style, piece.genre = ensemble.name, ensemble.genre
    piece.style_words, piece.style_heldout_words = ensemble.words, ensemble.heldout_words
    cut = excerpt(score, bars, rng)
    parts.sort(key=lambda k: -float(score.parts[k].notes[:, 2].mean()))
    for place, k in enumerate(parts):
        # The n-th of m parts goes to the player at the same relative height.
        seat = round(place * (len(ensemble.players) - 1) / max(1, len(parts) - 1))
        player = INSTRUMENTS[ensemble.players[seat]]
        notes = cut[k] + [0.0, 0.0, shift, 0.0]
        notes[:, 3] = np.clip(0.8 + rng.normal(0.0, 0.03, len(notes)), 0.5, 1.0)
        if len(notes):
            piece.tracks.append(Track(player.name, pick_preset(player, rng), "voice", fit_range(notes, player)))
    mood_style = STYLES[str(rng.choice(["folk", "waltz", "cinematic", "ballad"]))]
    piece.moods = draw_moods(mood_style, bpm, piece.minor, rng)
    _label_chords(piece, bars)
    draw = rng.random()
    drummers = [STYLES[n] for n in _DRUM_STYLES if meter in STYLES[n].meters]
    if draw < 0.4 and drummers:
        piece.tracks.append(drum_track(drummers[int(rng.integers(len(drummers)))], meter, bars, rng, 0.75))
    elif draw < 0.68:
        piece.tracks.append(percussion_track(meter, bars, rng, 0.75))
    finish(piece, None, rng)
    choose_start(piece, clip_s, 2, rng)
    return piece


def song_piece(score: Score, clip_s: float, rng: np.random.Generator) -> Piece:
    """A multi-track song with its own parts; in a third of the clips on other instruments of the same
    families."""
    meter = METERS[score.time_signature]
    if score.bpm and rng.random() < 0.5:
        bpm = float(np.clip(round(score.bpm * rng.uniform(0.8, 1.25)), 48, 200))
    else:
        bpm = float(rng.integers(60, 191)) if meter != "6/8" else float(rng.integers(52, 121))
    for part in score.parts:
        if not part.is_drums:
            bpm = _limit(bpm, part.notes, grooves.BEAT_Q[meter], rng)
    bars = clip_bars(meter, bpm, clip_s) + 2
    piece, shift = _blank(score, None, meter, bpm, rng, "freedoom")
    remap = rng.random() < 0.33
    for part, notes in zip(score.parts, excerpt(score, bars, rng), strict=True):
        if not len(notes):
            continue
        if part.is_drums:
            piece.tracks.append(Track("drums", (128, 0), "drums", as_notes([tuple(n) for n in notes])))
            continue
        player = of_program(part.program or 0)
        if remap:
            family = [i for i in INSTRUMENTS.values() if i.family == player.family]
            player = family[int(rng.integers(len(family)))]
        notes = notes + np.array([0.0, 0.0, shift, 0.0])
        role = "bass" if player.family == "bass" else "pad" if player.family in ("pad", "choir") else "chords"
        preset = pick_preset(player, rng) if remap or (0, part.program) not in player.presets else (0, part.program)
        piece.tracks.append(Track(player.name, preset, role, fit_range(notes, player)))
    names = {t.name for t in piece.tracks}
    rock = bool(names & {"distorted guitar", "overdriven guitar"}) and "drums" in names
    piece.style, piece.genre = ("game rock", "rock") if rock else ("game soundtrack", "game music")
    piece.style_words, piece.style_heldout_words = _ROCK_GAME_WORDS if rock else _GAME_WORDS
    piece.moods = draw_moods(STYLES["rock" if rock else "cinematic"], bpm, piece.minor, rng)
    _label_chords(piece, bars)
    finish(piece, None, rng)
    choose_start(piece, clip_s, 2, rng)
    return piece
