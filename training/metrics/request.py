"""What was requested of a clip, in the form that the control metrics take."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Request:
    """The requested properties of a clip; a metric whose property is None (unknown) is left out."""

    bpm: float | None = None  # beats a minute
    # beats_s, downbeats_s: times in seconds
    beats_s: np.ndarray | None = None
    downbeats_s: np.ndarray | None = None
    key: str | None = None  # "A minor", as in `pipelines.pipeline_vivace.KEYS`
    # (beats, 12) of 0 and 1, C first; row k lasts one beat from beats_s[k] on; a row of zeros = unknown
    chroma: np.ndarray | None = None
    instruments: tuple[str, ...] | None = None  # canonical names of all instruments that play, without drums
    drums: bool | None = None  # whether a drum kit plays
    style: str | None = None  # name of the style
    # canonical names of the instruments in the caption; None if it names no instrument
    stated: tuple[str, ...] | None = None


def _array(values: list | None) -> np.ndarray | None:
    return None if not values else np.asarray(values, dtype=np.float64)


def caption_request(row: dict, stated: dict | None) -> dict:
    """The fields of a Request that a caption determines: `instruments` (all that play in the clip), `drums`, `style`,
    `stated`. If the facts that the caption states are None (unknown), it is assumed to state every fact of the row."""
    playing = tuple(row["instruments"]) if row.get("instruments") else None
    if stated is None:
        return {"instruments": playing, "drums": row.get("drums"), "style": row.get("style"), "stated": playing}
    named = tuple(name for name in stated.get("instruments") or [] if name != "drums")
    return {"instruments": playing, "drums": stated.get("drums"), "style": stated.get("style"), "stated": named or None}


def request_of_row(row: dict, stated: dict | None = None) -> Request:
    """The labels of a real clip, at their times in its audio, and the request of its caption (`caption_request`)."""
    return Request(
        bpm=row.get("bpm"),
        beats_s=_array(row.get("beats_s")),
        downbeats_s=_array(row.get("downbeats_s")),
        key=row.get("key"),
        chroma=_array(row.get("chords")),
        **caption_request(row, stated),
    )


def anchored_request(row: dict, duration_s: float, stated: dict | None = None) -> Request:
    """The same labels for a clip that starts on a downbeat at 0 s, as the pipeline's clips do.

    Beat k falls on k * 60 / bpm, and the chords are rotated so that the chord of the row's first downbeat comes first.
    Beats after the last labelled one have no chord.
    """
    plain = request_of_row(row, stated)
    if plain.bpm is None:
        return replace(plain, beats_s=None, downbeats_s=None, chroma=None)
    beats = np.arange(0.0, duration_s - 1e-6, 60.0 / plain.bpm)
    chroma = None
    chords = from_downbeat(row, row.get("chords"))
    if chords is not None:
        chroma = np.zeros((len(beats), 12))
        rows = np.asarray(chords, dtype=np.float64)[: len(beats)]
        chroma[: len(rows)] = rows
    per_bar = row.get("beats_per_bar")
    return replace(plain, beats_s=beats, downbeats_s=beats[::per_bar] if per_bar else None, chroma=chroma)


def anchored_requests(
    rows: list[dict], audios: list[np.ndarray], sampling_rate: int, stated: list[dict | None]
) -> list[Request]:
    """`anchored_request` of generated clips (samples,) at `sampling_rate` Hz; `stated`: facts of their captions."""
    return [
        anchored_request(row, len(audio) / sampling_rate, facts)
        for row, audio, facts in zip(rows, audios, stated, strict=True)
    ]


def from_downbeat(row: dict, per_beat: list | None) -> list | None:
    """Per-beat labels rotated to begin at the row's first downbeat (unchanged if the row has no downbeat).

    None if the row has no beats.
    """
    if not per_beat or not row.get("beats_s"):
        return None
    downbeat_s = row["beats_s"][0] if row.get("downbeat_s") is None else row["downbeat_s"]
    first = int(np.argmin(np.abs(np.asarray(row["beats_s"]) - downbeat_s)))
    return list(per_beat[first:]) + list(per_beat[:first])


def chords_text(row: dict) -> str | None:
    """The chords of a row from its first downbeat on, as the pipeline takes them: "Am:4 F:4"; None if it has none."""
    symbols = from_downbeat(row, row.get("chord_symbols"))
    if symbols is None or not any(symbols):
        return None
    runs: list[list] = []
    for symbol in symbols:
        name = symbol or "N"
        if runs and runs[-1][0] == name:
            runs[-1][1] += 1
        else:
            runs.append([name, 1])
    # "C:7 F:7" could be two seventh chords, so that longer runs end in a count of one.
    counts = [[(name, n)] if n <= 4 else [(name, n - 1), (name, 1)] for name, n in runs]
    return " ".join(f"{name}:{n}" for parts in counts for name, n in parts)
