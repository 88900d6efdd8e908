"""What clip k of a scorebook is, drawn from (seed, k): its source, piece, SoundFont and length; and its row of labels.

`draw_piece`, `draw_form` and `loop_s` decide what is rendered, `row_of` describes it once it is rendered: the exact
labels and the captions written from them.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np

from pipelines.vivace_theory import KEYS
from training.data.clips import SPLITS
from training.data.scorebook.arrange import (
    METER_SHARES,
    METERS,
    generated_piece,
    polyphony_piece,
    score_key,
    song_piece,
    tune_piece,
    usable,
)
from training.data.scorebook.captions import Facts, captions, heldout_captions
from training.data.scorebook.drumkits import draw_kit
from training.data.scorebook.harmony import Chord, chroma, symbol
from training.data.scorebook.instruments import INSTRUMENTS, Instrument, with_role
from training.data.scorebook.piece import Piece, Score, Track, fit_range, pick_preset
from training.data.scorebook.production import draw_production, kicks_of
from training.data.sources import load_scores
from training.run.streams import ClipStream, clip_rng

# Probability of each source of pieces.
SOURCES = {"procedural": 0.40, "folk": 0.40, "classical": 0.15, "freedoom": 0.05}
LOOP_SHARE = 0.1  # probability that a clip is a loop
SAMPLED_DRUMS_SHARE = 0.45  # of the clips with drums, if their kit has a match among the samples
SINGLE_SHARE = 0.27  # probability that only one or two roles of a piece with more play
ALONE_WEIGHTS = {"lead": 0.4, "harmony": 0.25, "bass": 0.2, "drums": 0.15}  # which role is left
ROLE_LETTERS = {"melody": "m", "voice": "e", "chords": "c", "arpeggio": "a", "pad": "p", "bass": "b"}
LONGEST_LOOP = 1.3  # longest loop, in units of `Settings.clip_s`
CAPTIONS, HELDOUT_CAPTIONS = 8, 4  # captions of a clip


@dataclass(frozen=True)
class Settings:
    """Everything that a clip depends on besides its index, and the folder and splits that are written."""

    seed: int
    sources: tuple[str, ...]
    sampling_rate: int
    channels: int
    clip_s: float
    soundfonts: tuple[str, ...]
    output_dir: str
    drum_samples: str = ""  # folder of drum samples; "" for the drums of the SoundFonts alone
    splits: tuple[str, ...] = SPLITS


Strata = dict[tuple[str, bool], list[Score]]


def scores_of(sources: tuple[str, ...]) -> dict[str, Strata]:
    """Usable scores by source, then by meter and mode, in the fixed order of the loader. Raises a ValueError if a
    source cannot be read or has no usable score."""
    scores: dict[str, Strata] = {}
    for source in sources:
        if source == "procedural":
            continue
        strata: Strata = {}
        for score in load_scores((source,)):
            if usable(score):
                strata.setdefault((METERS[score.time_signature], score_key(score)[1]), []).append(score)
        if not strata:
            raise ValueError(f"sources: {source!r} holds no usable score")
        scores[source] = strata
    return scores


def draw_score(strata: Strata, even: bool, rng: np.random.Generator) -> Score:
    """A random score. `even` draws meter and mode first, by fixed shares, because most tunes are major and in four."""
    groups = sorted(strata)
    sizes = np.array([float(len(strata[g])) for g in groups])
    if even:
        sizes = np.array([METER_SHARES[meter] * (0.4 if minor else 0.6) for meter, minor in groups])
    group = strata[groups[int(rng.choice(len(groups), p=sizes / sizes.sum()))]]
    return group[int(rng.integers(len(group)))]


def draw_piece(
    settings: Settings,
    index: int,
    scores: dict[str, Strata],
    attempt: int = 0,
    shares: dict[str, float] = SOURCES,
    whole: bool = False,
) -> tuple[Piece, np.random.Generator]:
    """The piece of clip `index`, and the generator to go on with for its rendering.

    Args:
        scores: usable scores by source, in a fixed order.
        attempt: number of the draw, for a clip whose earlier draws were silent.
        shares: of the sources among the pieces.
        whole: scores from their first bar to their last, in place of excerpts; for the composer, not for clips.
    """
    rng = clip_rng(settings.seed, index, ClipStream.PIECE, attempt)
    clip_s = settings.clip_s * (LONGEST_LOOP if draw_form(settings, index)[1] else 1.0)  # enough for any loop
    weights = np.array([shares[s] for s in settings.sources])
    source = settings.sources[int(rng.choice(len(weights), p=weights / weights.sum()))]
    if source == "procedural":
        song = int(np.random.SeedSequence([settings.seed, index, ClipStream.SONG, attempt]).generate_state(1)[0])
        return generated_piece(song, clip_s, rng), rng
    score = draw_score(scores[source], source == "folk", rng)
    if source == "freedoom":
        return song_piece(score, clip_s, rng, whole), rng
    voices = sum(not part.is_drums for part in score.parts)
    return (tune_piece if voices == 1 else polyphony_piece)(score, clip_s, rng, whole), rng


def draw_form(settings: Settings, index: int) -> tuple[str, bool]:
    """The SoundFont (path) of clip `index`, and whether it is a loop."""
    rng, own = (clip_rng(settings.seed, number, ClipStream.FORM) for number in (first_setting(index), index))
    return settings.soundfonts[int(own.integers(len(settings.soundfonts)))], bool(rng.random() < LOOP_SHARE)


def setting_of(index: int) -> int:
    """Number of the setting that clip `index` has: of five clips two have the same notes, and so have three."""
    return index % 5 if index % 5 < 2 else index % 5 - 2


def first_setting(index: int) -> int:
    """The clip whose notes clip `index` has, played by other instruments."""
    return index - setting_of(index)


def other_players(role: str, setting: int, rng: np.random.Generator) -> list[Instrument]:
    """Instruments that may play a role in the second setting of the same notes or in the third.

    In the second they can play the role; in a third of the cases they are any that play tunes. In the third they are
    any that reach two octaves, and for the bass low enough.
    """
    letter = ROLE_LETTERS[role]
    if setting == 2:
        return [i for i in INSTRUMENTS.values() if i.high - i.low >= 24 and (letter != "b" or i.low <= 43)]
    return with_role("m") if letter in "mca" and rng.random() < 1.0 / 3.0 else with_role(letter)


def set_players(piece: Piece, settings: Settings, index: int) -> None:
    """Choose who plays, in place: later settings of the same notes have other instruments, the third unusual ones, and
    some clips have one or two roles."""
    rng = clip_rng(settings.seed, index, ClipStream.PLAYERS)
    setting = setting_of(index)
    if setting:
        changed: dict[tuple[str, str], tuple[str, tuple[int, int]]] = {}
        for track in piece.tracks:
            if track.name not in INSTRUMENTS:
                continue
            if (track.name, track.role) not in changed:
                players = [i for i in other_players(track.role, setting, rng) if i.name != track.name]
                player = players[int(rng.integers(len(players)))]
                changed[track.name, track.role] = player.name, pick_preset(player, rng)
            track.name, track.preset = changed[track.name, track.role]
            track.notes = fit_range(track.notes, INSTRUMENTS[track.name])
    for track in piece.tracks:
        if track.role == "drums" and settings.drum_samples and rng.random() < SAMPLED_DRUMS_SHARE:
            track.kit = draw_kit(track.preset[1], rng)
    roles = sorted({NOTE_ROLES[track.role] for track in piece.tracks})
    if len(roles) > 1 and rng.random() < SINGLE_SHARE:
        size = 2 if len(roles) > 2 and rng.random() < 0.35 else 1
        weights = np.array([ALONE_WEIGHTS[role] for role in roles])
        kept = set(rng.choice(roles, size, replace=False, p=weights / weights.sum()).tolist())
        piece.tracks = [track for track in piece.tracks if NOTE_ROLES[track.role] in kept]


def set_production(piece: Piece, settings: Settings, index: int) -> None:
    """Draw the profile and the room of a clip, in place; clips of the same notes may differ in them."""
    rng = clip_rng(settings.seed, index, ClipStream.PRODUCTION)
    piece.production, piece.room = draw_production(piece.style, piece.genre, rng)


def loop_s(piece: Piece, clip_s: float, sampling_rate: int) -> float:
    """Length of a loop of a piece in seconds: 1, 2, 4, 8, ... bars, the power of two nearest to `clip_s`.

    More than `LONGEST_LOOP` clips, which the piece may not fill, are halved. The length is rounded to whole samples,
    which changes the tempo by less than one part in a hundred thousand.
    """
    bar_s = 60.0 / piece.bpm * piece.beats_per_bar
    doublings = max(0, round(math.log2(clip_s / bar_s)))
    if bar_s * 2**doublings > LONGEST_LOOP * clip_s and doublings:
        doublings -= 1
    return round(bar_s * 2**doublings * sampling_rate) / sampling_rate


# ---- the row of a rendered clip -------------------------------------------------------------------------------------


def row_of(
    piece: Piece,
    audible: list[Track],
    audio: np.ndarray,
    sampling_rate: int,
    clip_s: float,
    seed: tuple[int, int],
    loop: bool,
    soundfont: str,
) -> dict:
    """The row of a rendered clip without its audio: labels and captions (columns of training/data/clips.py).

    Args:
        audible: tracks loud enough to be named in labels.
        audio: (channels, samples), `clip_s` seconds long.
        seed: seed of the set and index of the clip; captions are drawn from them.
        loop: whether the clip repeats seamlessly.
        soundfont: name of the bank that it was played with.
    """
    rng = clip_rng(*seed, ClipStream.LABELS)
    beat_s = 60.0 / piece.bpm
    first_bar = math.ceil(piece.start_q / piece.bar_q - 1e-9)
    downbeat_s = float(piece.seconds(first_bar * piece.bar_q))
    bar_s = beat_s * piece.beats_per_bar
    back = math.floor(downbeat_s / beat_s + 1e-9)
    beats = [downbeat_s + k * beat_s for k in range(-back, math.ceil(clip_s / beat_s) + 1)]
    beats = [max(0.0, b) for b in beats if b < clip_s - 1e-6]
    downbeats = [b for b in (downbeat_s + k * bar_s for k in range(math.ceil(clip_s / bar_s) + 1)) if b < clip_s - 1e-6]
    pitched = any(track.preset[0] != 128 for track in piece.tracks)  # drums alone have neither key nor chords
    chords = [_chord_at(piece, b) if pitched else None for b in beats]
    named = [t for t in audible if t.name not in ("drums", "percussion")]
    roles = {t.name: t.role for t in reversed(named)}  # of an instrument with several parts, the first
    names = list(dict.fromkeys(t.name for t in named))
    melody = next((t.name for t in audible if t.role == "melody"), None)
    drums = next((t.name for t in audible if t.role in ("drums", "percussion")), None)
    bars = clip_s / bar_s
    key = None if piece.tonic is None or not pitched else KEYS[2 * piece.tonic + piece.minor]
    on_downbeat = downbeat_s < 1e-6
    facts = Facts(
        piece.style, piece.style_words, piece.style_heldout_words, piece.genre, tuple(piece.moods), tuple(names),
        melody, drums, piece.bpm, key, piece.meter,
        round(bars) if abs(bars - round(bars)) < 0.02 and on_downbeat else None, piece.room, piece.dynamics, loop,
        complete=len(audible) == len(piece.tracks),
        absent=_absent(piece),
        production=piece.production, sidechain=_pumps(piece, audible, clip_s),
    )  # fmt: skip
    texts, heldout = captions(facts, CAPTIONS, rng), heldout_captions(facts, HELDOUT_CAPTIONS, rng)
    return {
        "text": [text for text, _ in texts], "stated": [asdict(stated) for _, stated in texts],
        "text_heldout": [text for text, _ in heldout], "stated_heldout": [asdict(stated) for _, stated in heldout],
        "duration_s": clip_s, "sampling_rate": sampling_rate, "bpm": piece.bpm, "time_signature": piece.meter,
        "beats_per_bar": piece.beats_per_bar, "downbeat_s": downbeat_s, "beats_s": [round(b, 6) for b in beats],
        "downbeats_s": [round(b, 6) for b in downbeats], "starts_on_downbeat": on_downbeat, "loop": loop, "key": key,
        "chords": [chroma(c) for c in chords], "chord_symbols": [symbol(c) for c in chords], "instruments": names,
        "roles": [roles[name] for name in names], "melody_instrument": melody, "drums": drums == "drums",
        "percussion": drums is not None, "complete": facts.complete, "style": piece.style, "genre": piece.genre,
        "moods": piece.moods,
        "dynamics": piece.dynamics, "density": _density(piece, audible, clip_s), "room": piece.room,
        "production": piece.production, "sidechain": facts.sidechain,
        "soundfont": soundfont, "drum_kit": next((t.kit for t in audible if t.kit), None),
        "work": piece.work, "title": piece.title, "composer": piece.composer,
        "source": piece.source, "license": piece.license, "seed": list(seed),
        "peak": round(float(np.abs(audio).max()), 4),
        "rms_db": round(20.0 * math.log10(float(np.sqrt(np.mean(np.square(audio)))) + 1e-9), 2),
    }  # fmt: skip


NOTE_ROLES = {
    "melody": "lead", "voice": "lead", "chords": "harmony", "arpeggio": "harmony", "pad": "harmony", "bass": "bass",
    "drums": "drums", "percussion": "drums",
}  # fmt: skip


def note_columns(audible: list[Track], notes: list[np.ndarray]) -> dict:
    """The columns `parts` and `notes` of training/data/clips.py, of the audible tracks and their notes."""
    parts = [
        {"role": NOTE_ROLES[t.role], "instrument": "drums" if t.preset[0] == 128 else t.name, "program": t.preset[1]}
        for t in audible
    ]
    rows = np.concatenate([np.column_stack([np.full(len(own), k), own]) for k, own in enumerate(notes)])
    part, onset, length, pitch, velocity = rows[np.lexsort((rows[:, 3], rows[:, 1]))].T
    return {
        "parts": parts,
        "notes": {
            "part": part.astype(int).tolist(), "onset_s": onset.tolist(), "duration_s": length.tolist(),
            "pitch": pitch.astype(int).tolist(), "velocity": velocity.tolist(),
        },
    }  # fmt: skip


def _density(piece: Piece, audible: list[Track], clip_s: float) -> float:
    """Note onsets a second in the clip, of all audible parts together."""
    starts = np.concatenate([piece.seconds(track.notes[:, 0]) for track in audible])
    return round(float(((starts >= 0.0) & (starts < clip_s)).sum() / clip_s), 2)


def _pumps(piece: Piece, audible: list[Track], clip_s: float) -> bool:
    """Whether kicks, one in two seconds at least, turn other parts down."""
    kicks = [piece.seconds(kicks_of(t.notes)) for t in audible if t.role == "drums"]
    others = any(t.role not in ("drums", "percussion") for t in audible)
    strokes = sum(int(((times >= 0.0) & (times < clip_s)).sum()) for times in kicks)
    return piece.production == "club" and others and strokes >= clip_s / 2.0


def _absent(piece: Piece) -> tuple[str, ...]:
    """Of bass, chords and melody, what no track plays, nor plays what could be called so.

    The parts of songs carry no role of their own, so nothing is certain of their melodies.
    """
    roles = {track.role for track in piece.tracks}
    present = {
        "bass": bool(roles & {"bass", "voice"}) or any(_is_bass(track) for track in piece.tracks),
        "chords": bool(roles & {"chords", "arpeggio", "pad", "voice"}),
        "melody": bool(roles & {"melody", "voice", "arpeggio"}) or (piece.source == "freedoom" and "chords" in roles),
    }
    return tuple(name for name, there in present.items() if not there)


def _is_bass(track: Track) -> bool:
    return track.name in INSTRUMENTS and "b" in INSTRUMENTS[track.name].roles and track.name != "piano"


def _chord_at(piece: Piece, seconds: float) -> Chord | None:
    """The chord at a time in seconds after the start of the clip; None where unknown."""
    onset_q = piece.start_q + piece.quarters(seconds) + 1e-6
    chord = None
    for start, candidate in piece.chords:
        if start > onset_q:
            break
        chord = candidate
    return chord
