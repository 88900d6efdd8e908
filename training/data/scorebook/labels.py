"""The row of a clip: everything that is known of what was rendered, as labels and as captions."""

import math
from dataclasses import asdict
import numpy as np
from training.data.scorebook.captions import Facts, captions, heldout_captions
from training.data.scorebook.harmony import Chord, chroma, key_name, symbol
from training.data.scorebook.piece import Piece, Track
from dataclasses import dataclass
from training.data.scorebook.arrange import METERS, polyphony_piece, score_key, song_piece, tune_piece, usable
from training.data.scorebook.arrange import METER_SHARES, generated_piece
from training.data.scorebook.piece import Piece
from training.data.scorebook.piece import Score
from training.data.clips import SPLITS
from training.data.sources import load_scores
from training.run.streams import ClipStream


CAPTIONS, HELDOUT_CAPTIONS = 8, 4  # of a clip


def row_of(
    piece: Piece,
    heard: list[Track],
    audio: np.ndarray,
    sampling_rate: int,
    clip_s: float,
    seed: tuple[int, int],
    loop: bool,
    soundfont: str,
) -> dict:
    """All labels of a rendered clip, but for its audio.

    Args:
        heard: tracks loud enough to be named.
        audio: (channels, samples).
        clip_s: length of the clip in seconds.
        seed: seed of the set and index of the clip; captions are drawn from them.
        loop: whether the clip repeats seamlessly.
        soundfont: name of the bank that it was played with.
    """
    rng = np.random.default_rng(np.random.SeedSequence([*seed, ClipStream.LABELS]))
    beat_s = 60.0 / piece.bpm
    first_bar = math.ceil(piece.start_q / piece.bar_q - 1e-9)
    downbeat_s = float(piece.seconds(first_bar * piece.bar_q))
    bar_s = beat_s * piece.beats_per_bar
    back = math.floor(downbeat_s / beat_s + 1e-9)
    beats = [downbeat_s + k * beat_s for k in range(-back, math.ceil(clip_s / beat_s) + 1)]
    beats = [max(0.0, b) for b in beats if b < clip_s - 1e-6]
    downbeats = [b for b in (downbeat_s + k * bar_s for k in range(math.ceil(clip_s / bar_s) + 1)) if b < clip_s - 1e-6]
    chords = [_chord_at(piece, b) for b in beats]
    named = [t for t in heard if t.name not in ("drums", "percussion")]
    roles = {t.name: t.role for t in reversed(named)}  # of an instrument with several parts, the first
    names = list(dict.fromkeys(t.name for t in named))
    melody = next((t.name for t in heard if t.role == "melody"), None)
    drums = next((t.name for t in heard if t.role in ("drums", "percussion")), None)
    bars = clip_s / bar_s
    key = None if piece.tonic is None else key_name(piece.tonic, piece.minor)
    on_downbeat = downbeat_s < 1e-6
    facts = Facts(
        piece.style, piece.style_words, piece.style_heldout_words, piece.genre, tuple(piece.moods), tuple(names),
        melody, drums, piece.bpm, key, piece.meter,
        round(bars) if abs(bars - round(bars)) < 0.02 and on_downbeat else None, piece.room, piece.dynamics, loop,
    )  # fmt: skip
    texts, heldout = captions(facts, CAPTIONS, rng), heldout_captions(facts, HELDOUT_CAPTIONS, rng)
    return {
        "text": [text for text, _ in texts], "stated": [asdict(said) for _, said in texts],
        "text_heldout": [text for text, _ in heldout], "stated_heldout": [asdict(said) for _, said in heldout],
        "duration_s": clip_s, "sampling_rate": sampling_rate, "bpm": piece.bpm, "time_signature": piece.meter,
        "beats_per_bar": piece.beats_per_bar, "downbeat_s": downbeat_s, "beats_s": [round(b, 6) for b in beats],
        "downbeats_s": [round(b, 6) for b in downbeats], "starts_on_downbeat": on_downbeat, "loop": loop, "key": key,
        "chords": [chroma(c) for c in chords], "chord_symbols": [symbol(c) for c in chords], "instruments": names,
        "roles": [roles[name] for name in names], "melody_instrument": melody, "drums": drums == "drums",
        "percussion": drums is not None, "style": piece.style, "genre": piece.genre, "moods": piece.moods,
        "dynamics": piece.dynamics, "density": _density(piece, heard, clip_s), "room": piece.room,
        "soundfont": soundfont, "work": piece.work, "title": piece.title, "composer": piece.composer,
        "source": piece.source, "license": piece.license, "seed": list(seed),
        "peak": round(float(np.abs(audio).max()), 4),
        "rms_db": round(20.0 * math.log10(float(np.sqrt(np.mean(np.square(audio)))) + 1e-9), 2),
    }  # fmt: skip


def _density(piece: Piece, heard: list[Track], clip_s: float) -> float:
    """Notes that begin in the clip, of all heard parts together, a second."""
    starts = np.concatenate([piece.seconds(track.notes[:, 0]) for track in heard])
    return round(float(((starts >= 0.0) & (starts < clip_s)).sum() / clip_s), 2)


def _chord_at(piece: Piece, seconds: float) -> Chord | None:
    """The chord that sounds at a time after the start of the clip; None where unknown."""
    onset_q = piece.start_q + piece.quarters(seconds) + 1e-6
    chord = None
    for start, candidate in piece.chords:
        if start > onset_q:
            break
        chord = candidate
    return chord


# What clip k is: a source, a score or a song seed, the piece made of it, its bank and its length, from (seed, k).

# Shares of the clips.
SOURCES = {"procedural": 0.40, "folk": 0.40, "classical": 0.15, "freedoom": 0.05}
LOOP_SHARE = 0.1
LONGEST_LOOP = 1.3  # of a clip


@dataclass(frozen=True)
class Settings:
    """What a clip depends on besides its index, where it goes, and the splits that are wanted."""

    seed: int
    sources: tuple[str, ...]
    sampling_rate: int
    channels: int
    clip_s: float
    soundfonts: tuple[str, ...]
    output_dir: str
    splits: tuple[str, ...] = SPLITS


Strata = dict[tuple[str, bool], list[Score]]


def scores_of(sources: tuple[str, ...]) -> dict[str, Strata]:
    """Usable scores by source, then by meter and mode, in the fixed order of the loader.

    Raises:
        ValueError: if a source cannot be had or holds nothing that can be used.
    """
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
    """One score; `even` draws its meter and mode first, because most tunes are major and few are in three."""
    groups = sorted(strata)
    sizes = np.array([float(len(strata[g])) for g in groups])
    if even:
        sizes = np.array([METER_SHARES[meter] * (0.4 if minor else 0.6) for meter, minor in groups])
    group = strata[groups[int(rng.choice(len(groups), p=sizes / sizes.sum()))]]
    return group[int(rng.integers(len(group)))]


def draw_piece(
    settings: Settings, index: int, scores: dict[str, Strata], attempt: int = 0, shares: dict[str, float] = SOURCES
) -> tuple[Piece, np.random.Generator]:
    """The piece of clip `index` and the generator that goes on from there.

    Args:
        scores: usable scores by source, in a fixed order.
        attempt: another draw for the same clip, where an earlier one turned out silent.
        shares: of the sources among the pieces.
    """
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, index, ClipStream.PIECE, attempt]))
    clip_s = settings.clip_s * (LONGEST_LOOP if draw_form(settings, index)[1] else 1.0)  # music enough for any loop
    weights = np.array([shares[s] for s in settings.sources])
    source = settings.sources[int(rng.choice(len(weights), p=weights / weights.sum()))]
    if source == "procedural":
        song = int(np.random.SeedSequence([settings.seed, index, ClipStream.SONG, attempt]).generate_state(1)[0])
        return generated_piece(song, clip_s, rng), rng
    score = draw_score(scores[source], source == "folk", rng)
    if source == "freedoom":
        return song_piece(score, clip_s, rng), rng
    voices = sum(not part.is_drums for part in score.parts)
    return (tune_piece if voices == 1 else polyphony_piece)(score, clip_s, rng), rng


def draw_form(settings: Settings, index: int) -> tuple[str, bool]:
    """The SoundFont (path) of clip `index`, and whether it is a loop."""
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, index, ClipStream.FORM]))
    return settings.soundfonts[int(rng.integers(len(settings.soundfonts)))], bool(rng.random() < LOOP_SHARE)


def loop_s(piece: Piece, clip_s: float, sampling_rate: int) -> float:
    """Length of a loop of a piece: of 1, 2, 4, 8, ... bars the number that comes nearest to `clip_s`, in seconds.

    Where that is longer than `LONGEST_LOOP` clips, which the piece may not fill, it is halved; a bar is the least.
    The length is a whole number of samples, which moves the tempo by less than one part in a hundred thousand.
    """
    bar_s = 60.0 / piece.bpm * piece.beats_per_bar
    doublings = max(0, round(math.log2(clip_s / bar_s)))
    if bar_s * 2**doublings > LONGEST_LOOP * clip_s and doublings:
        doublings -= 1
    return round(bar_s * 2**doublings * sampling_rate) / sampling_rate
