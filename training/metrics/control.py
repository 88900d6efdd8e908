"""Control metrics: how well a clip follows its request.

Beats, chords, instruments, key and tempo of a `ClipAnalysis` are compared with a `Request`. `control_figures` takes all
figures of one clip, `compare` those of many, and `chance` those of clips against the requests of other clips.
"""

import mir_eval
import numpy as np

from pipelines.vivace_theory import nearest_key
from training.metrics.features import CHROMA_RATE, ONSET_RATE, ClipAnalysis, beats_at_tempo
from training.metrics.request import Request
from training.metrics.summary import summarise
from training.run.streams import Measure, item_rng

# Beats: `beat_f` of a tracker without the request, or given the requested tempo; `beat_contrast` of the requested grid.

WINDOW_S = 0.07  # a tracked beat is a hit within this distance, as in MIREX
PHASES = 48  # shifts within a beat that the contrast compares


def beat_f(tracked_s: np.ndarray, requested_s: np.ndarray) -> float:
    """F-measure of tracked against requested beats at 70 ms (Dixon 2001); 0 if nothing was tracked.

    Nothing is trimmed at the start (mir_eval's convention is 5 s), since clips are short and their first beat counts.
    Times are in seconds, rising.
    """
    if not len(tracked_s) or not len(requested_s):
        return 0.0
    return float(mir_eval.beat.f_measure(np.asarray(requested_s), np.asarray(tracked_s), f_measure_threshold=WINDOW_S))


def beat_contrast(onset: np.ndarray, frame_rate: float, requested_s: np.ndarray, bpm: float) -> float:
    """Onset strength on the requested beats compared with other positions within the beat.

    The grid is shifted by fractions of a beat, and the onset strength at the shifted beats (the largest within 25 ms)
    is averaged. The result is the mean at shift 0 minus the mean over all shifts, in standard deviations of the onset
    strength over the clip: 0 by chance, about 3 for a clip of clicks on the beats.
    """
    reach = max(1, round(0.025 * frame_rate))
    peaks = np.max(np.lib.stride_tricks.sliding_window_view(np.pad(onset, reach), 2 * reach + 1), axis=1)
    shifts = np.arange(PHASES) / PHASES * 60.0 / bpm  # (shifts,) seconds
    times = (np.asarray(requested_s)[None, :] + shifts[:, None]) * frame_rate
    inside = times <= len(onset) - 1
    strength = np.where(inside, np.interp(times, np.arange(len(onset)), peaks), 0.0)
    curve = strength.sum(axis=1) / np.maximum(inside.sum(axis=1), 1)  # (shifts,)
    spread = peaks.std()
    return float((curve[0] - curve.mean()) / spread) if spread > 1e-9 else 0.0


# Chords.


def chord_cosine(
    chroma: np.ndarray, frame_rate: float, beats_s: np.ndarray, bpm: float, requested: np.ndarray
) -> float | None:
    """Mean over beats of the cosine between the chroma of the beat and the requested chord; None without such a beat.

    1 if the chord's notes alone sound, equally strong; about 0.5 for a wrong chord, since energy is never negative.

    Args:
        chroma: (12, frames) energy by pitch class, C first; frame i is centred at i / `frame_rate` seconds.
        beats_s: (beats,) in seconds; each lasts 60 / bpm.
        requested: (beats, 12) of 0 and 1; rows of zeros (no chord) are skipped.
    """
    cosines = []
    for start, wanted in zip(beats_s, requested, strict=True):
        first, last = np.ceil(np.array([start, start + 60.0 / bpm]) * frame_rate).astype(int)
        first = max(first, 0)
        if not first < min(last, chroma.shape[1]) or not np.any(wanted):
            continue
        found = chroma[:, first:last].mean(axis=1)
        size = np.linalg.norm(found) * np.linalg.norm(wanted)
        cosines.append(float(found @ wanted / size) if size > 1e-12 else 0.0)
    return float(np.mean(cosines)) if cosines else None


# Instruments, drums and style, from the probabilities of a tagger. A figure is None if the tagger has no such tag.

STYLE = "style:"
DRUMS = "drums"


def instrument_tags(probabilities: dict[str, float]) -> list[str]:
    """The tags of a tagger that are instruments: all except drums and styles."""
    return [name for name in probabilities if name != DRUMS and not name.startswith(STYLE)]


def instrument_f1(
    probabilities: dict[str, float], requested: tuple[str, ...], thresholds: dict[str, float]
) -> float | None:
    """F1 of the instruments whose probability reaches their threshold against the requested ones."""
    tags = instrument_tags(probabilities)
    wanted = {name for name in requested if name in tags}
    if not wanted:
        return None
    found = {name for name in tags if probabilities[name] >= thresholds.get(name, 0.5)}
    return 2.0 * len(wanted & found) / (len(wanted) + len(found))


def instrument_ranking(probabilities: dict[str, float], requested: tuple[str, ...]) -> float | None:
    """Label-ranking average precision (Tsoumakas et al. 2010): over requested instruments, the mean share of requested
    ones among those ranked at least as high. 1 if all requested ones come first."""
    tags = instrument_tags(probabilities)
    scores = np.array([probabilities[name] for name in tags])
    wanted = np.array([name in requested for name in tags])
    if not wanted.any():
        return None
    above = scores[None, :] >= scores[wanted][:, None]  # (wanted, tags)
    return float(np.mean((above & wanted).sum(axis=1) / above.sum(axis=1)))


def stated_recall(
    probabilities: dict[str, float], stated: tuple[str, ...], thresholds: dict[str, float]
) -> float | None:
    """Share of the instruments in the caption whose probability reaches their threshold.

    Other instruments may play as well, so this is a recall. A tagger that reports every instrument everywhere is
    revealed by its chance level and by `stated_above_absent`.
    """
    wanted = [name for name in stated if name in instrument_tags(probabilities)]
    if not wanted:
        return None
    return float(np.mean([probabilities[name] >= thresholds.get(name, 0.5) for name in wanted]))


def stated_above_absent(
    probabilities: dict[str, float], stated: tuple[str, ...], playing: tuple[str, ...]
) -> float | None:
    """How often an instrument of the caption (`stated`) is likelier than one that does not play: 1 if always, 0.5 by
    chance. Instruments that play and are not in the caption are not compared."""
    tags = instrument_tags(probabilities)
    wanted = np.array([probabilities[name] for name in tags if name in stated])
    absent = np.array([probabilities[name] for name in tags if name not in stated and name not in playing])
    if not len(wanted) or not len(absent):
        return None
    return float(np.mean(wanted[:, None] > absent[None, :]))


def style_right(probabilities: dict[str, float], requested: str) -> float | None:
    """1 if the likeliest style is the requested one, else 0."""
    styles = {name: value for name, value in probabilities.items() if name.startswith(STYLE)}
    if STYLE + requested not in styles:
        return None
    return float(max(styles, key=styles.get) == STYLE + requested)


def drums_right(probabilities: dict[str, float], requested: bool, thresholds: dict[str, float]) -> float | None:
    """1 if drums are detected exactly when they were requested, else 0."""
    if DRUMS not in probabilities:
        return None
    return float((probabilities[DRUMS] >= thresholds.get(DRUMS, 0.5)) == requested)


# Key: chroma against key profiles.

QUIET = 0.02  # of the loudest frame


def estimate_key(chroma: np.ndarray) -> str | None:
    """Key, such as "A minor", whose profile correlates best with the clip's pitch classes, from the energy (12, frames)
    by pitch class, C first; None for silence."""
    chroma = np.asarray(chroma, dtype=np.float64)
    # Each frame counts the same, so that loud notes do not decide; near-silent ones count less.
    loudest = chroma.max(axis=0, keepdims=True)
    total = (chroma / (loudest + QUIET * chroma.max() + 1e-12)).mean(axis=1)  # (12,)
    if total.std() < 1e-12:
        return None
    return nearest_key(total)


def key_right(estimate: str | None, requested: str) -> float:
    """1 if the same key, else 0."""
    return float(estimate == requested)


def key_mirex(estimate: str | None, requested: str) -> float:
    """MIREX weights: 1 same, 0.5 a fifth above, 0.3 relative, 0.2 parallel, else 0."""
    if estimate is None:
        return 0.0
    return float(mir_eval.key.weighted_score(requested, estimate))


# Tempo.

TOLERANCE = 0.04  # of the requested tempo, as in MIREX
OCTAVES = (1.0, 2.0, 0.5, 3.0, 1.0 / 3.0)


def tempo_right(estimate_bpm: float, requested_bpm: float) -> float:
    """1 if the estimate is within 4 % of the request, else 0 (Gouyon et al. 2006, accuracy 1)."""
    return float(abs(estimate_bpm - requested_bpm) <= TOLERANCE * requested_bpm)


def tempo_right_octaves(estimate_bpm: float, requested_bpm: float) -> float:
    """The same, also accepting twice, half, three times or a third of the tempo (accuracy 2)."""
    return max(tempo_right(estimate_bpm, factor * requested_bpm) for factor in OCTAVES)


# All figures of one clip.

NAMES = {
    "tempo_4pct": "tempo within 4 %",
    "tempo_4pct_octaves": "tempo within 4 %, octaves forgiven",
    "beat_f": "beat F, 70 ms",
    "downbeat_f": "downbeat F, 70 ms",
    "tempo_4pct_librosa": "tempo within 4 %, by librosa",
    "tempo_4pct_octaves_librosa": "tempo, octaves forgiven, by librosa",
    "beat_f_librosa": "beat F, by librosa",
    "beat_f_guided": "beat F, by librosa given the tempo",
    "beat_contrast": "onset contrast on the requested grid",
    "key_exact": "key, exact",
    "key_mirex": "key, MIREX weights",
    "key_exact_profile": "key, exact, by chroma profile",
    "key_mirex_profile": "key, MIREX weights, by chroma profile",
    "chord_cosine": "chord chroma cosine per beat",
    "stated_heard": "stated instruments, share heard",
    "stated_above_absent": "stated instruments, ranked above absent ones",
    "instrument_f1": "instruments of all that play, F1",
    "instrument_ranking": "instruments of all that play, ranking precision",
    "drums": "drums present or not",
    "style": "style, top 1",
}


def control_figures(
    clip: ClipAnalysis, request: Request, thresholds: dict[str, float] | None = None
) -> dict[str, float | None]:
    """One figure for each name in `NAMES`; None if the request lacks the label or the network is missing.

    Tempo, beats, downbeats and key are estimated by the listener networks unless the name states otherwise. Only
    `beat_f_guided` (tempo), `beat_contrast` and `chord_cosine` (beats) use the request for the estimate. Tags without a
    threshold have 0.5.
    """
    figures: dict[str, float | None] = dict.fromkeys(NAMES)
    bpm, grid, sound, rhythm, tags = request.bpm, request.beats_s, clip.features, clip.rhythm, clip.tags
    if bpm is not None:
        figures["tempo_4pct_librosa"] = tempo_right(sound.tempo_bpm, bpm)
        figures["tempo_4pct_octaves_librosa"] = tempo_right_octaves(sound.tempo_bpm, bpm)
        if rhythm is not None:
            figures["tempo_4pct"] = tempo_right(rhythm.tempo_bpm, bpm)
            figures["tempo_4pct_octaves"] = tempo_right_octaves(rhythm.tempo_bpm, bpm)
    if grid is not None:
        figures["beat_f_librosa"] = beat_f(sound.beats_s, grid)
        if rhythm is not None:
            figures["beat_f"] = beat_f(rhythm.beats_s, grid)
    if rhythm is not None and request.downbeats_s is not None:
        figures["downbeat_f"] = beat_f(rhythm.downbeats_s, request.downbeats_s)
    if bpm is not None and grid is not None:
        figures["beat_f_guided"] = beat_f(beats_at_tempo(sound.onset, bpm), grid)
        figures["beat_contrast"] = beat_contrast(sound.onset, ONSET_RATE, grid, bpm)
        if request.chroma is not None:
            figures["chord_cosine"] = chord_cosine(sound.chroma, CHROMA_RATE, grid, bpm, request.chroma)
    if request.key is not None:
        estimate = estimate_key(sound.chroma)
        figures["key_exact_profile"] = key_right(estimate, request.key)
        figures["key_mirex_profile"] = key_mirex(estimate, request.key)
        if clip.has_key_network:
            figures["key_exact"] = key_right(clip.key, request.key)
            figures["key_mirex"] = key_mirex(clip.key, request.key)
    if tags is not None:
        thresholds = thresholds or {}
        if request.instruments is not None:
            figures["instrument_f1"] = instrument_f1(tags, request.instruments, thresholds)
            figures["instrument_ranking"] = instrument_ranking(tags, request.instruments)
        if request.stated is not None:
            figures["stated_heard"] = stated_recall(tags, request.stated, thresholds)
            playing = request.instruments or ()
            figures["stated_above_absent"] = stated_above_absent(tags, request.stated, playing)
        if request.drums is not None:
            figures["drums"] = drums_right(tags, request.drums, thresholds)
        if request.style is not None:
            figures["style"] = style_right(tags, request.style)
    return figures


# Figures of many clips.

SHUFFLES = 8


def compare(clips: list[ClipAnalysis], requests: list[Request], thresholds: dict) -> list[dict[str, float | None]]:
    """Control figures of clip i against request i."""
    pairs = zip(clips, requests, strict=True)
    return [control_figures(clip, request, thresholds) for clip, request in pairs]


def chance(
    clips: list[ClipAnalysis], requests: list[Request], thresholds: dict, seed: int
) -> list[dict[str, float | None]]:
    """Control figures of each clip against the requests of other clips: means over up to 8 shuffles.

    No shuffle pairs a clip with its own request. Empty for a single clip.
    """
    count = len(clips)
    rng = item_rng(seed, Measure.CHANCE)
    order = rng.permutation(count)
    # Rotating a random order by 1 to n - 1 places moves every clip.
    turns = rng.permutation(np.arange(1, count))[:SHUFFLES]
    rounds = []
    for turn in turns:
        other = np.empty(count, dtype=int)
        other[order] = np.roll(order, turn)
        rounds.append(compare(clips, [requests[i] for i in other], thresholds))
    means = []
    for figures in zip(*rounds, strict=True):
        kept = {name: [f[name] for f in figures if f[name] is not None] for name in NAMES}
        means.append({name: float(np.mean(values)) if values else None for name, values in kept.items()})
    return means


def summaries(clips: dict[str, list[dict]], names: dict[str, str], seed: int) -> dict[str, dict[str, dict]]:
    """Figures of clips by source -> name -> source -> mean, interval and count."""
    return {
        name: {source: summarise((f.get(name) for f in figures), seed) for source, figures in clips.items()}
        for name in names
    }


def by_source(figures: list[dict], rows: list[dict], names: tuple[str, ...], seed: int) -> dict[str, dict[str, dict]]:
    """name -> `source` of the rows -> mean, interval and count, to show which kind of music a figure fails on."""
    sources = [row.get("source") or "unknown" for row in rows]
    return {
        name: {
            source: summarise((f[name] for f, s in zip(figures, sources, strict=True) if s == source), seed)
            for source in sorted(set(sources))
        }
        for name in names
    }
