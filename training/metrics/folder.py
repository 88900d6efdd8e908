"""Read the audio to measure, with its labels if it has any: rows of a data folder, or plain audio files."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr

from training.data.clips import read_audio, read_rows, splits_in

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")


@dataclass(frozen=True)
class Clips:
    """Clips that could be read."""

    rows: list[dict]  # labels of each clip, at least `file_name` and `path`
    audios: list[np.ndarray]  # (channels, samples) float32 of each clip, all at `sampling_rate`
    sampling_rate: int
    unreadable: dict[str, str] = field(default_factory=dict)  # file name -> reason, of the clips that were skipped
    resampled: int = 0  # number of clips that had another sampling rate

    @property
    def mono(self) -> list[np.ndarray]:
        """(samples,) of each."""
        return [audio.mean(axis=0) for audio in self.audios]


def folder_rows(folder: str | Path, split: str = "test") -> list[dict]:
    """Rows of one split of a data folder, of a folder's metadata.jsonl, or else one without labels for each audio file.
    Raises a ValueError for no such folder, a data folder without this split, or no audio."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    found = splits_in(folder)
    if found and split not in found:
        raise ValueError(f"split is {split!r}; {folder} has {', '.join(found)}")
    if found:
        return read_rows(folder, split)
    if (folder / "metadata.jsonl").is_file():
        return read_rows(folder.parent, folder.name)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise ValueError(f"{folder}: no audio in it; looked for metadata.jsonl, data/*.parquet, {' '.join(SUFFIXES)}")
    return [{"file_name": str(path.relative_to(folder)), "path": str(path)} for path in files]


def load_clips(rows: list[dict], sampling_rate: int | None = None) -> Clips:
    """Read the audio of rows at `sampling_rate` Hz (None = their most common rate); clips that cannot be read are
    listed in `unreadable`. Raises a ValueError if no clip can be read."""
    kept, audios, rates, unreadable = [], [], [], {}
    for row in rows:
        try:
            audio = read_audio(row).numpy()
            # A file's own header is more reliable than its row; audio inside Parquet has only the row.
            rate = soundfile.info(row["path"]).samplerate if Path(row["path"]).is_file() else row["sampling_rate"]
            if not audio.size or not np.isfinite(audio).all():
                raise ValueError("empty, or values that are not finite")
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            unreadable[row["file_name"]] = str(error).splitlines()[0]
            continue
        kept.append(row)
        audios.append(audio)
        rates.append(rate)
    if not rows:
        raise ValueError("no clips to read")
    if not kept:
        name, reason = next(iter(unreadable.items()))
        raise ValueError(f"none of {len(rows)} clips can be read; the first is {name}: {reason}")
    wanted = sampling_rate or Counter(rates).most_common(1)[0][0]
    audios = [
        audio if rate == wanted else soxr.resample(audio.T, rate, wanted).T.astype(np.float32)
        for audio, rate in zip(audios, rates, strict=True)
    ]
    return Clips(kept, audios, wanted, unreadable, sum(rate != wanted for rate in rates))
