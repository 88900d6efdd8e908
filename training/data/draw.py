"""What clip k is: a source, a score or a song seed, the piece made of it, its bank and its length, from (seed, k)."""

import math
from dataclasses import dataclass

import numpy as np

from training.data.adapt import METERS, polyphony_piece, score_key, song_piece, tune_piece, usable
from training.data.arrange import METER_SHARES, generated_piece
from training.data.piece import Piece
from training.data.score import Score
from training.data.shards import SPLITS
from training.data.sources import load_scores

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
    settings: Settings, index: int, scores: dict[str, Strata], attempt: int = 0
) -> tuple[Piece, np.random.Generator]:
    """The piece of clip `index` and the generator that goes on from there.

    Args:
        scores: usable scores by source, in a fixed order.
        attempt: another draw for the same clip, where an earlier one turned out silent.
    """
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, index, 0, attempt]))
    clip_s = settings.clip_s * (LONGEST_LOOP if draw_form(settings, index)[1] else 1.0)  # music enough for any loop
    shares = np.array([SOURCES[s] for s in settings.sources])
    source = settings.sources[int(rng.choice(len(shares), p=shares / shares.sum()))]
    if source == "procedural":
        song = int(np.random.SeedSequence([settings.seed, index, 1, attempt]).generate_state(1)[0])
        return generated_piece(song, clip_s, rng), rng
    score = draw_score(scores[source], source == "folk", rng)
    if source == "freedoom":
        return song_piece(score, clip_s, rng), rng
    voices = sum(not part.is_drums for part in score.parts)
    return (tune_piece if voices == 1 else polyphony_piece)(score, clip_s, rng), rng


def draw_form(settings: Settings, index: int) -> tuple[str, bool]:
    """The SoundFont (path) of clip `index`, and whether it is a loop."""
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, index, 3]))
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
