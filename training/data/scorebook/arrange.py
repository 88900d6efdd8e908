"""Arranging: from a style and chords, or from a score, to a `Piece` with all its tracks and labels.

`generated_piece` invents chords and a tune by rule. `tune_piece` puts an accompaniment under a tune, `polyphony_piece`
plays a score of several voices on an ensemble, and `song_piece` keeps the parts of a multi-track song; these three take
an excerpt, or with `whole` the score from its first bar to its last, transpose it and change its tempo. All draws come
from the generator that the caller gives.
"""

from dataclasses import dataclass

import numpy as np

from pipelines.vivace_theory import KEYS, PROGRAM_NAMES, parse_key
from training.data.scorebook import grooves
from training.data.scorebook.harmony import Chord, chord_per_beat, estimate_key, harmonise, progression
from training.data.scorebook.instruments import INSTRUMENTS, KITS, Instrument, with_role
from training.data.scorebook.piece import (
    Piece,
    Score,
    Track,
    as_notes,
    bar_q,
    beat_q,
    choose_start,
    clip_bars,
    fit_range,
    pick_preset,
)
from training.data.scorebook.styles import STYLES, Style


@dataclass(frozen=True)
class Ensemble:
    """Instruments that play polyphony, from high to low. The words name it in captions, as those of a style do."""

    name: str
    players: tuple[str, ...]
    words: tuple[str, ...]
    heldout_words: tuple[str, ...]
    genre: str = "classical"


ENSEMBLES = (
    Ensemble("string quartet", ("violin", "violin", "viola", "cello"),
        ("string quartet", "chamber strings"), ("four string players", "quartet of strings")),
    Ensemble("string orchestra", ("string ensemble", "string ensemble", "string ensemble", "contrabass"),
        ("string orchestra", "classical strings"), ("large string section", "strings orchestra")),
    Ensemble("woodwind quartet", ("flute", "oboe", "clarinet", "bassoon"),
        ("woodwind quartet", "woodwinds"), ("wind quartet", "chamber winds")),
    Ensemble("brass quartet", ("trumpet", "french horn", "trombone", "tuba"),
        ("brass quartet", "brass ensemble"), ("brass players", "brass chamber group")),
    Ensemble("saxophone quartet", ("soprano sax", "alto sax", "tenor sax", "baritone sax"),
        ("saxophone quartet", "sax quartet"), ("four saxophones", "saxophone ensemble")),
    Ensemble("recorder consort", ("recorder", "recorder", "flute", "bassoon"),
        ("recorder consort", "early music"), ("renaissance music", "medieval recorders")),
    Ensemble("choir", ("choir", "choir", "choir", "choir"),
        ("choir music", "choral music", "chorale"), ("hymn", "a cappella choir"), "choral"),
    Ensemble("church organ", ("church organ",) * 4,
        ("church organ music", "organ chorale", "organ music"), ("church music on the organ", "organ prelude")),
    Ensemble("piano", ("piano",) * 4,
        ("classical piano", "piano music", "piano piece"), ("piano recital", "solo piano classics")),
    Ensemble("harpsichord", ("harpsichord",) * 4,
        ("baroque harpsichord", "baroque", "harpsichord music"), ("baroque keyboard music", "early keyboard music"),
        "baroque"),
    Ensemble("classical guitar", ("nylon guitar",) * 4,
        ("classical guitar", "guitar ensemble"), ("spanish guitar music", "guitar quartet")),
    Ensemble("mallets", ("vibraphone", "marimba", "marimba", "marimba"),
        ("mallet ensemble", "marimba ensemble"), ("tuned percussion", "percussion ensemble of mallets")),
    Ensemble("baroque trio", ("oboe", "violin", "harpsichord", "cello"),
        ("baroque ensemble", "baroque chamber music"), ("baroque chamber group", "continuo group"), "baroque"),
    Ensemble("orchestra", ("violin", "french horn", "string ensemble", "bassoon"),
        ("orchestral", "symphonic", "classical orchestra"), ("full orchestra", "philharmonic"), "orchestral"),
    Ensemble("synth quartet", ("saw lead", "square lead", "warm pad", "synth bass"),
        ("synth classical", "switched-on classical", "electronic classical"),
        ("moog classics", "synthesized classical"), "electronic"),
    Ensemble("8-bit classical", ("square lead", "square lead", "saw lead", "synth bass"),
        ("8-bit classical", "chiptune"), ("game console classics", "retro game classical"), "game music"),
    Ensemble("accordion", ("accordion", "accordion", "bandoneon", "bandoneon"),
        ("accordion ensemble", "accordion music"), ("accordion orchestra", "accordion group")),
    Ensemble("music box", ("music box", "music box", "celesta", "celesta"),
        ("music box", "music box tune"), ("musical box melody", "toy box melody"), "children"),
    Ensemble("pizzicato", ("pizzicato strings", "pizzicato strings", "pizzicato strings", "upright bass"),
        ("pizzicato strings", "plucked string ensemble"), ("pizzicato orchestra", "plucked orchestra")),
    Ensemble("harp and flute", ("flute", "clarinet", "harp", "harp"),
        ("chamber music with harp", "flute and harp music"), ("salon music", "flute and harp duo")),
    Ensemble("jazz group", ("vibraphone", "electric piano", "jazz guitar", "upright bass"),
        ("third stream jazz", "jazz bach", "cool jazz"), ("jazz chamber group", "jazzed-up classical"), "jazz"),
    Ensemble("folk group", ("fiddle", "mandolin", "accordion", "upright bass"),
        ("folk ensemble", "acoustic folk group"), ("village band", "acoustic roots band"), "folk"),
)  # fmt: skip


# ---- accompaniments and generated pieces ----------------------------------------------------------------------------

# Relative probability of each meter among those that a style has.
METER_SHARES = {"4/4": 0.58, "3/4": 0.19, "6/8": 0.15, "2/4": 0.08}
# Styles that can be played by one instrument, and instruments that can play melody, chords and bass together.
_SOLO_STYLES = frozenset({
    "ballad", "waltz", "folk", "lullaby", "ambient", "jazz swing", "blues", "bossa nova", "lo-fi", "celtic", "march",
    "cinematic",
})  # fmt: skip
_SOLO_PLAYERS = (
    "piano", "piano", "piano", "nylon guitar", "steel guitar", "harp", "electric piano", "organ", "accordion",
    "harpsichord", "music box", "marimba",
)  # fmt: skip
_GENERATED_LICENSE = "CC0-1.0 (generated by this project)"


def pick(names: tuple[str, ...], rng: np.random.Generator) -> Instrument:
    """One instrument of a list of names."""
    return INSTRUMENTS[names[int(rng.integers(len(names)))]]


def draw_bpm(style: Style, meter: str, rng: np.random.Generator) -> float:
    """A whole number of bpm in the style's range, in 15 % of the draws a wider one, within 48 to 200. In 6/8, where the
    beat is a dotted quarter, the range is slower."""
    low, high = style.tempo
    if rng.random() < 0.15:  # so that unusual tempos are trained too
        low, high = low * 0.8, high * 1.2
    if meter == "6/8":
        low, high = low * 0.8, min(140, high * 0.95)
    low, high = max(low, 48), min(high, 200)
    return float(rng.integers(int(low), int(max(high, low + 15)) + 1))


def drum_track(style: Style, meter: str, bars: int, rng: np.random.Generator, level: float) -> Track:
    """The style's drums on one of its kits."""
    kit = KITS[style.kits[int(rng.integers(len(style.kits)))]]
    notes = as_notes(grooves.drum_notes(style, meter, bars, rng, level))
    # A part of shaker, soft kick and woodblock alone counts as percussion.
    name = "drums" if set(style.drums[meter]) - set("KAW") else "percussion"
    return Track(name, (128, int(kit[int(rng.integers(len(kit)))])), "drums", notes)


def percussion_track(meter: str, bars: int, rng: np.random.Generator, level: float) -> Track:
    """Light percussion that marks the beat."""
    return Track("percussion", (128, 0), "percussion", as_notes(grooves.light_percussion(meter, bars, rng, level)))


def accompany(
    piece: Piece, style: Style, bars: int, chords: list[tuple[float, Chord]], rng: np.random.Generator, used: set[str]
) -> None:
    """Add accompaniment tracks in a style to a piece: chords, bass, pad, arpeggio, drums.

    Chords are (onset_q, chord) over all bars. `used` holds the names of instruments that already play and are avoided;
    the added ones are put in.
    """
    meter = piece.meter
    if style.name in _SOLO_STYLES and rng.random() < 0.16:
        _play_alone(piece, style, bars, chords, rng)
        return

    def choose(names: tuple[str, ...]) -> Instrument:
        free = tuple(n for n in names if n not in used)
        chosen = pick(free or names, rng)
        used.add(chosen.name)
        return chosen

    comp = choose(style.comp_on)
    plays_comp = rng.random() < 0.9
    if plays_comp:
        notes = as_notes(grooves.comp_notes(style, meter, bars, chords, comp, rng))
        piece.tracks.append(Track(comp.name, pick_preset(comp, rng), "chords", fit_range(notes, comp)))
    if rng.random() < 0.88 or not plays_comp:
        bass = choose(style.bass_on)
        notes = as_notes(grooves.bass_notes(style, meter, bars, chords, bass, rng))
        piece.tracks.append(Track(bass.name, pick_preset(bass, rng), "bass", notes))
    if rng.random() < style.pad_share:
        pad = choose(style.pads)
        whole = "o" + "." * (int(piece.bar_q / grooves.STEP_Q) - 1)
        notes = as_notes(grooves.comp_notes(style, meter, bars, chords, pad, rng, whole, 64.0))
        piece.tracks.append(Track(pad.name, pick_preset(pad, rng), "pad", fit_range(notes, pad)))
    if rng.random() < style.arpeggio_share:
        arpeggio = choose(tuple(n for n in style.comp_on + style.melody if "a" in INSTRUMENTS[n].roles) or ("piano",))
        notes = as_notes(grooves.arpeggio_notes(meter, bars, chords, arpeggio, rng))
        piece.tracks.append(Track(arpeggio.name, pick_preset(arpeggio, rng), "arpeggio", fit_range(notes, arpeggio)))
    if rng.random() < style.drum_share * 0.85:
        piece.tracks.append(drum_track(style, meter, bars, rng, rng.uniform(0.75, 0.95)))
    elif rng.random() < 0.35:
        piece.tracks.append(percussion_track(meter, bars, rng, 0.7))


def _play_alone(
    piece: Piece, style: Style, bars: int, chords: list[tuple[float, Chord]], rng: np.random.Generator
) -> None:
    """Tune, chords and bass on one instrument without drums: solo piano and the like."""
    player = pick(_SOLO_PLAYERS, rng)
    preset = pick_preset(player, rng)
    for track in piece.tracks:
        track.name, track.preset, track.notes = player.name, preset, fit_range(track.notes, player)
    notes = as_notes(grooves.comp_notes(style, piece.meter, bars, chords, player, rng))
    piece.tracks.append(Track(player.name, preset, "chords", fit_range(notes, player)))
    low = as_notes(grooves.bass_notes(style, piece.meter, bars, chords, INSTRUMENTS["cello"], rng))
    piece.tracks.append(Track(player.name, preset, "bass", fit_range(low, player)))


def finish(piece: Piece, style: Style | None, rng: np.random.Generator) -> None:
    """Draw the dynamics and apply them and the swing to all tracks."""
    draw = rng.random()
    piece.dynamics = "soft" if draw < 0.2 else "loud" if draw > 0.78 else "medium"
    scale = {"soft": 0.68, "medium": 0.85, "loud": 1.0}[piece.dynamics]
    for track in piece.tracks:
        if style is not None:
            ends = grooves.swing(track.notes[:, 0] + track.notes[:, 1], style, piece.meter)
            track.notes[:, 0] = grooves.swing(track.notes[:, 0], style, piece.meter)
            track.notes[:, 1] = np.maximum(ends - track.notes[:, 0], 0.05)
        track.notes[:, 3] = np.clip(track.notes[:, 3] * scale, 0.1, 1.0)


def draw_moods(style: Style, bpm: float, minor: bool, rng: np.random.Generator) -> list[str]:
    """One to three mood words: of the style, without any that contradicts the mode, and by mode and tempo."""
    moods = list(rng.permutation(np.array(style.moods))[: int(rng.integers(1, 3))])
    if minor:
        extra = ("melancholic", "sad", "wistful") if bpm < 95 else ("dark", "tense", "dramatic")
        against = {"happy", "sunny", "cheerful", "merry", "festive", "bright"}
    else:
        extra = ("peaceful", "warm", "hopeful") if bpm < 95 else ("happy", "bright", "joyful")
        against = {"dark", "moody", "melancholic"}
    moods = [str(m) for m in moods if m not in against]
    if rng.random() < 0.6 or not moods:
        moods.append(str(rng.choice(extra)))
    return list(dict.fromkeys(moods))


def generated_piece(song_seed: int, clip_s: float, rng: np.random.Generator) -> Piece:
    """A piece made by rule: style, meter, key, tempo, chords, tune, accompaniment. `song_seed` is part of the name of
    the work, so that each generated song is a work of its own."""
    style = list(STYLES.values())[int(rng.integers(len(STYLES)))]
    shares = np.array([METER_SHARES[m] for m in style.meters])
    meter = style.meters[int(rng.choice(len(style.meters), p=shares / shares.sum()))]
    tonic, minor = int(rng.integers(12)), bool(rng.random() < style.minor)
    bpm = draw_bpm(style, meter, rng)
    spare = 3
    bars = clip_bars(meter, bpm, clip_s) + spare
    hold = 2 if bpm > 140 and rng.random() < 0.5 and meter in ("2/4", "3/4", "6/8") else 1
    line = progression(rng, tonic, minor, (bars + hold - 1) // hold + 1, style.sevenths)
    chords = [(k * hold * bar_q(meter), chord) for k, chord in enumerate(line)]
    piece = Piece(
        meter=meter, bpm=bpm, tonic=tonic, minor=minor, style=style.name, genre=style.genre,
        moods=draw_moods(style, bpm, minor, rng), work=f"generated/{song_seed}",
        title=f"Generated {song_seed}", composer="Vivace scorebook", source="procedural", license=_GENERATED_LICENSE,
        style_words=style.words, style_heldout_words=style.heldout_words, chords=list(chords),
    )  # fmt: skip
    used: set[str] = set()
    if rng.random() < (0.55 if style.name in ("ambient", "techno", "trap", "lo-fi") else 0.8):
        player = pick(style.melody, rng)
        used.add(player.name)
        notes = as_notes(grooves.melody_notes(style, meter, bars, chords, tonic, minor, player, rng))
        piece.tracks.append(Track(player.name, pick_preset(player, rng), "melody", fit_range(notes, player)))
    accompany(piece, style, bars, chords, rng, used)
    finish(piece, style, rng)
    choose_start(piece, spare, rng)
    return piece


# ---- pieces from scores ---------------------------------------------------------------------------------------------

# Time signatures of scores, and the meter in which their clips are labelled.
METERS = {"4/4": "4/4", "2/2": "4/4", "C": "4/4", "C|": "4/4", "3/4": "3/4", "2/4": "2/4", "6/8": "6/8"}
LONGEST = 48  # bars of a whole score that a piece takes
_MAX_RATE = 9.5  # notes a second, the most of any part
_DRUM_STYLES = (
    "rock", "lo-fi", "trap", "house", "march", "bossa nova", "jazz swing", "chiptune", "reggae", "ballad", "waltz",
    "cinematic", "folk", "disco",
)  # fmt: skip
# Words of the three styles that only scores have, for training captions and for held-out ones.
_TUNE_WORDS = ("folk tune", "traditional tune", "folk melody"), ("old traditional air", "country dance tune")
_GAME_WORDS = ("game soundtrack", "video game music", "shooter game music"), ("video game score", "level music")
_ROCK_GAME_WORDS = ("game rock", "rock game soundtrack", "hard rock"), ("heavy video game music", "boss fight music")


def usable(score: Score) -> bool:
    """Whether clips can be made of a score: one of `METERS`, at least four bars and twelve notes."""
    meter = METERS.get(score.time_signature)
    if meter is None or not score.parts:
        return False
    return score.length_q - score.pickup_q >= 4 * bar_q(meter) and sum(len(p.notes) for p in score.parts) >= 12


def score_key(score: Score) -> tuple[int, bool]:
    """Tonic (pitch class) and whether it is minor: as the score states them, else estimated from its notes."""
    if score.key:
        try:
            tonic, minor = divmod(KEYS.index(parse_key(score.key)), 2)
            return tonic, bool(minor)
        except ValueError:
            pass  # not a key that can be read: estimate it
    return estimate_key(np.concatenate([p.notes for p in score.parts if not p.is_drums]))[:2]


def bars_of(score: Score) -> int:
    """How many bars a score has from its first downbeat on."""
    return max(1, int((score.length_q - score.pickup_q) / bar_q(METERS[score.time_signature]) + 1e-6))


def span_of(score: Score, bpm: float, clip_s: float, whole: bool, rng: np.random.Generator) -> tuple[int, int | None]:
    """How many bars a piece takes of a score, and from which bar on, None = left to `excerpt`.

    With `whole` all of it. A score of more than `LONGEST` bars gives so many from the beginning of a phrase of eight
    bars on, or what is left there.
    """
    if not whole:
        return clip_bars(METERS[score.time_signature], bpm, clip_s) + 2, None
    total = bars_of(score)
    first = 8 * int(rng.integers(0, 1 + max(0, -(-(total - LONGEST) // 8))))
    return min(LONGEST, total - first), first


def excerpt(
    score: Score, bars: int, rng: np.random.Generator, first: int | None = None
) -> tuple[list[np.ndarray], tuple[int, int]]:
    """Notes of each part over `bars` bars, from bar `first` on, or of six random places one with notes in most bars,
    where short scores repeat; and `Piece.place`."""
    length_q = bar_q(METERS[score.time_signature])
    total = bars_of(score)
    parts = []
    for part in score.parts:
        notes = part.notes.copy()
        notes[:, 0] -= score.pickup_q
        notes = notes[notes[:, 0] < total * length_q - 1e-6]
        copies = 1 + -(-bars // total) if total <= bars and first is None else 1
        parts.append(np.concatenate([notes + np.array([k * total * length_q, 0, 0, 0]) for k in range(copies)]))
        total_bars = total * copies
    best, chosen = -1.0, first or 0
    for _ in range(6 if first is None else 0):
        tried = int(rng.integers(0, max(1, total_bars - bars + 1)))
        onsets = np.concatenate([p[:, 0] for p in parts])
        inside = onsets[(onsets >= tried * length_q) & (onsets < (tried + bars) * length_q)]
        filled = len(np.unique(np.floor(inside / length_q))) / bars
        if filled > best:
            best, chosen = filled, tried
        if filled > 0.85:
            break
    result = []
    for notes in parts:
        shifted = notes - [chosen * length_q, 0.0, 0.0, 0.0]
        result.append(shifted[(shifted[:, 0] + shifted[:, 1] > -length_q) & (shifted[:, 0] < bars * length_q)])
    return result, (chosen % total, total)


def _limit(bpm: float, notes: np.ndarray, unit_q: float, rng: np.random.Generator) -> float:
    """A tempo slowed down until the busiest beats (`unit_q` long) of a part have at most `_MAX_RATE` notes a second."""
    onsets = np.unique(np.round(notes[:, 0], 3))
    if len(onsets) < 8:
        return bpm
    counts, _ = np.histogram(onsets, np.arange(onsets[0], onsets[-1] + 2 * unit_q, 2 * unit_q))  # of two beats each
    per_beat = np.percentile(counts, 85) / 2.0
    most = 60.0 * _MAX_RATE / max(per_beat, 1e-3)
    return bpm if bpm <= most else float(max(48, int(rng.uniform(0.75, 1.0) * most)))


def _transposed(
    score: Score, style: Style | None, meter: str, bpm: float, rng: np.random.Generator, source: str
) -> tuple[Piece, int]:
    """A piece without tracks that has the labels of a score in a random key, and the transposition in semitones."""
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


def tune_piece(score: Score, clip_s: float, rng: np.random.Generator, whole: bool = False) -> Piece:
    """A tune over an accompaniment in a style; one in ten alone, or with light percussion only."""
    meter = METERS[score.time_signature]
    choices = [s for s in STYLES.values() if meter in s.meters]
    style = choices[int(rng.integers(len(choices)))]
    lead = max(range(len(score.parts)), key=lambda k: len(score.parts[k].notes) * (not score.parts[k].is_drums))
    bpm = _limit(draw_bpm(style, meter, rng), score.parts[lead].notes, beat_q(meter), rng)
    bars, first = span_of(score, bpm, clip_s, whole, rng)
    piece, shift = _transposed(score, style, meter, bpm, rng, "folk")
    cut, piece.place = excerpt(score, bars, rng, first)
    notes = cut[lead] + [0.0, 0.0, shift, 0.0]
    notes[:, 3] = np.clip(0.85 + rng.normal(0.0, 0.04, len(notes)), 0.6, 1.0)
    alone = rng.random() < 0.1
    player = pick(style.melody, rng) if rng.random() < 0.7 and not alone else _any_lead(rng)
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
    choose_start(piece, 2, rng)
    return piece


def _any_lead(rng: np.random.Generator) -> Instrument:
    """An instrument that can play melodies."""
    players = with_role("m")
    return players[int(rng.integers(len(players)))]


def _label_chords(piece: Piece, bars: int) -> None:
    """Set the chord of each beat, as recognised in the notes of the pitched tracks."""
    pitched = [t.notes for t in piece.tracks if t.preset[0] != 128 and len(t.notes)]
    if pitched:
        line = chord_per_beat(np.concatenate(pitched), 0.0, piece.beat_q, round(bars * piece.bar_q / piece.beat_q))
        piece.chords = [(k * piece.beat_q, chord) for k, chord in enumerate(line)]


def polyphony_piece(score: Score, clip_s: float, rng: np.random.Generator, whole: bool = False) -> Piece:
    """Polyphony for an ensemble, in most clips with drums or percussion that mark the beat."""
    meter = METERS[score.time_signature]
    ensemble = ENSEMBLES[int(rng.integers(len(ENSEMBLES)))]
    parts = [k for k, p in enumerate(score.parts) if not p.is_drums and len(p.notes)]
    bpm = float(rng.integers(48, 161)) if meter != "6/8" else float(rng.integers(48, 116))
    for k in parts:
        bpm = _limit(bpm, score.parts[k].notes, beat_q(meter), rng)
    bars, first = span_of(score, bpm, clip_s, whole, rng)
    piece, shift = _transposed(score, None, meter, bpm, rng, "classical")
    piece.style, piece.genre = ensemble.name, ensemble.genre
    piece.style_words, piece.style_heldout_words = ensemble.words, ensemble.heldout_words
    cut, piece.place = excerpt(score, bars, rng, first)
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
    choose_start(piece, 2, rng)
    return piece


def song_piece(score: Score, clip_s: float, rng: np.random.Generator, whole: bool = False) -> Piece:
    """A multi-track song with its own parts; in a third of the clips other instruments of the same families play."""
    meter = METERS[score.time_signature]
    if score.bpm and rng.random() < 0.5:
        bpm = float(np.clip(round(score.bpm * rng.uniform(0.8, 1.25)), 48, 200))
    else:
        bpm = float(rng.integers(60, 191)) if meter != "6/8" else float(rng.integers(52, 121))
    for part in score.parts:
        if not part.is_drums:
            bpm = _limit(bpm, part.notes, beat_q(meter), rng)
    bars, first = span_of(score, bpm, clip_s, whole, rng)
    piece, shift = _transposed(score, None, meter, bpm, rng, "freedoom")
    remap = rng.random() < 0.33
    cut, piece.place = excerpt(score, bars, rng, first)
    for part, notes in zip(score.parts, cut, strict=True):
        if not len(notes):
            continue
        if part.is_drums:
            piece.tracks.append(Track("drums", (128, 0), "drums", as_notes([tuple(n) for n in notes])))
            continue
        player = INSTRUMENTS[PROGRAM_NAMES[part.program or 0]]
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
    choose_start(piece, 2, rng)
    return piece
