"""What was asked of a clip, as the control metrics read it."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Request:
    """The labels of a clip; None = unknown, and the metric that needs it is left out.

    Attributes:
        bpm: beats a minute.
        beats_s, downbeats_s: times in seconds.
        key: "A minor", as in `pipelines.pipeline_vivace.KEYS`.
        chroma: (beats, 12) of 0 and 1, C first; row k sounds from beats_s[k] for one beat; a row of zeros = unknown.
        instruments: canonical names of all that play, but for drums.
        drums: whether a drum kit plays.
        style: name of the style.
        stated: canonical names of those that the caption names; None = it names none.
    """

    bpm: float | None = None
    beats_s: np.ndarray | None = None
    downbeats_s: np.ndarray | None = None
    key: str | None = None
    chroma: np.ndarray | None = None
    instruments: tuple[str, ...] | None = None
    drums: bool | None = None
    style: str | None = None
    stated: tuple[str, ...] | None = None


def _array(values: list | None) -> np.ndarray | None:
    return None if not values else np.asarray(values, dtype=np.float64)


def asked_in_words(row: dict, stated: dict | None) -> dict:
    """What a caption asks for: `instruments`, `drums`, `style`, `stated` of a Request.

    Args:
        row: the clip, whose `instruments` are all that play.
        stated: what its caption says, one entry of the row's `stated`; None = not known, then a caption is taken to
            ask for all that the row says.
    """
    playing = tuple(row["instruments"]) if row.get("instruments") else None
    if stated is None:
        return {"instruments": playing, "drums": row.get("drums"), "style": row.get("style"), "stated": playing}
    named = tuple(name for name in stated.get("instruments") or [] if name != "drums")
    return {
        "instruments": playing,
        "drums": stated.get("drums"),
        "style": stated.get("style"),
        "stated": named or None,
    }


def request_of_row(row: dict, stated: dict | None = None) -> Request:
    """The labels of a rendered clip, as they lie in its audio, and what its caption states (`asked_in_words`)."""
    return Request(
        bpm=row.get("bpm"),
        beats_s=_array(row.get("beats_s")),
        downbeats_s=_array(row.get("downbeats_s")),
        key=row.get("key"),
        chroma=_array(row.get("chords")),
        **asked_in_words(row, stated),
    )


def anchored_request(row: dict, duration_s: float, stated: dict | None = None) -> Request:
    """The same labels for a clip that starts on a downbeat at 0 s, as the pipeline's clips do.

    Beat k falls on k * 60 / bpm; the chords are turned so that the one on the row's first downbeat comes first. Beats
    past the last labelled one have no chord.
    """
    plain = request_of_row(row, stated)
    if plain.bpm is None:
        return replace(plain, beats_s=None, downbeats_s=None, chroma=None)
    beats = np.arange(0.0, duration_s - 1e-6, 60.0 / plain.bpm)
    chroma = None
    symbols_turned = turned(row, row.get("chords"))
    if symbols_turned is not None:
        chroma = np.zeros((len(beats), 12))
        rows = np.asarray(symbols_turned, dtype=np.float64)[: len(beats)]
        chroma[: len(rows)] = rows
    per_bar = row.get("beats_per_bar")
    return replace(plain, beats_s=beats, downbeats_s=beats[::per_bar] if per_bar else None, chroma=chroma)


def turned(row: dict, per_beat: list | None) -> list | None:
    """Per-beat labels turned so that those of the first downbeat come first, as they are where the downbeats are not
    known; None where the beats are not known."""
    if not per_beat or not row.get("beats_s"):
        return None
    downbeat_s = row["beats_s"][0] if row.get("downbeat_s") is None else row["downbeat_s"]
    first = int(np.argmin(np.abs(np.asarray(row["beats_s"]) - downbeat_s)))
    return list(per_beat[first:]) + list(per_beat[:first])


def chords_text(row: dict) -> str | None:
    """The chords of a row in the pipeline's words, "Am:4 F:4", from its first downbeat; None where none is known."""
    symbols = turned(row, row.get("chord_symbols"))
    if symbols is None or not any(symbols):
        return None
    runs: list[list] = []
    for symbol in symbols:
        name = symbol or "N"
        if runs and runs[-1][0] == name:
            runs[-1][1] += 1
        else:
            runs.append([name, 1])
    # "C:7 F:7" could be two seventh chords; a count of one tells that all are beats.
    counts = [[(name, n)] if n <= 4 else [(name, n - 1), (name, 1)] for name, n in runs]
    return " ".join(f"{name}:{n}" for parts in counts for name, n in parts)
