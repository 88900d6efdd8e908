"""What clip k is: a source, a score or a song seed, and the piece made of it, drawn from (seed, k)."""

from dataclasses import dataclass

import numpy as np

from training.data.adapt import METERS, polyphony_piece, score_key, song_piece, tune_piece, usable
from training.data.arrange import METER_SHARES, generated_piece
from training.data.piece import Piece
from training.data.score import Score
from training.data.sources import load_scores

# Shares of the clips.
SOURCES = {"procedural": 0.35, "folk": 0.45, "classical": 0.15, "freedoom": 0.05}


@dataclass(frozen=True)
class Settings:
    """What a clip depends on besides its index."""

    seed: int
    sources: tuple[str, ...]
    sampling_rate: int
    channels: int
    clip_s: float
    soundfont: str
    output_dir: str


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
    shares = np.array([SOURCES[s] for s in settings.sources])
    source = settings.sources[int(rng.choice(len(shares), p=shares / shares.sum()))]
    if source == "procedural":
        song = int(np.random.SeedSequence([settings.seed, index, 1, attempt]).generate_state(1)[0])
        return generated_piece(song, settings.clip_s, rng), rng
    score = draw_score(scores[source], source == "folk", rng)
    if source == "freedoom":
        return song_piece(score, settings.clip_s, rng), rng
    voices = sum(not part.is_drums for part in score.parts)
    return (tune_piece if voices == 1 else polyphony_piece)(score, settings.clip_s, rng), rng
