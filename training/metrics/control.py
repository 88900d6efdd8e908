"""Was it done as asked? All control figures of one clip against one request."""

from training.metrics import beats, chords, instruments, key, tempo
from training.metrics.features import CHROMA_RATE, ONSET_RATE
from training.metrics.listening import Heard
from training.metrics.request import Request

NAMES = {
    "tempo_4pct": "tempo within 4 %",
    "tempo_4pct_octaves": "tempo within 4 %, octaves forgiven",
    "beat_f": "beat F, 70 ms",
    "downbeat_f": "downbeat F, 70 ms",
    "tempo_4pct_librosa": "tempo within 4 %, by librosa",
    "tempo_4pct_octaves_librosa": "tempo, octaves forgiven, by librosa",
    "beat_f_librosa": "beat F, by librosa",
    "beat_f_guided": "beat F, by librosa told the tempo",
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
    heard: Heard, request: Request, thresholds: dict[str, float] | None = None
) -> dict[str, float | None]:
    """One figure per name in `NAMES`; None where the request lacks the label or no network listened.

    Tempo, beats, downbeats and key are the learned networks' where no other is named; neither they nor librosa's
    trackers know the request, but for those of which the name says so.

    Args:
        heard: the clip.
        request: what was asked for.
        thresholds: of the tags, 0.5 where absent.
    """
    figures: dict[str, float | None] = dict.fromkeys(NAMES)
    bpm, grid, sound, tracked, tags = request.bpm, request.beats_s, heard.features, heard.tracked, heard.tags
    if bpm is not None:
        figures["tempo_4pct_librosa"] = tempo.tempo_right(sound.tempo_bpm, bpm)
        figures["tempo_4pct_octaves_librosa"] = tempo.tempo_right_octaves(sound.tempo_bpm, bpm)
        if tracked is not None:
            figures["tempo_4pct"] = tempo.tempo_right(tracked.tempo_bpm, bpm)
            figures["tempo_4pct_octaves"] = tempo.tempo_right_octaves(tracked.tempo_bpm, bpm)
    if grid is not None:
        figures["beat_f_librosa"] = beats.beat_f(sound.beats_s, grid)
        if tracked is not None:
            figures["beat_f"] = beats.beat_f(tracked.beats_s, grid)
    if tracked is not None and request.downbeats_s is not None:
        figures["downbeat_f"] = beats.beat_f(tracked.downbeats_s, request.downbeats_s)
    if bpm is not None and grid is not None:
        guided = beats.guided_beats(sound.onset, ONSET_RATE, bpm)
        figures["beat_f_guided"] = beats.beat_f(guided, grid)
        figures["beat_contrast"] = beats.beat_contrast(sound.onset, ONSET_RATE, grid, bpm)
        if request.chroma is not None:
            figures["chord_cosine"] = chords.chord_cosine(sound.chroma, CHROMA_RATE, grid, bpm, request.chroma)
    if request.key is not None:
        estimate = key.estimate_key(sound.chroma)
        figures["key_exact_profile"] = key.key_right(estimate, request.key)
        figures["key_mirex_profile"] = key.key_mirex(estimate, request.key)
        if heard.key_listened:
            figures["key_exact"] = key.key_right(heard.key, request.key)
            figures["key_mirex"] = key.key_mirex(heard.key, request.key)
    if tags is not None:
        thresholds = thresholds or {}
        if request.instruments is not None:
            figures["instrument_f1"] = instruments.instrument_f1(tags, request.instruments, thresholds)
            figures["instrument_ranking"] = instruments.instrument_ranking(tags, request.instruments)
        if request.stated is not None:
            figures["stated_heard"] = instruments.stated_heard(tags, request.stated, thresholds)
            playing = request.instruments or ()
            figures["stated_above_absent"] = instruments.stated_above_absent(tags, request.stated, playing)
        if request.drums is not None:
            figures["drums"] = instruments.drums_right(tags, request.drums, thresholds)
        if request.style is not None:
            figures["style"] = instruments.style_right(tags, request.style)
    return figures
