"""The options of a run of `prepare`, checked before anything is read."""

import dataclasses
import math
import os
from dataclasses import dataclass

from training.config import option


@dataclass(frozen=True)
class Settings:
    """Everything that decides what comes out; `key()` names it, so that a rerun goes on only with the same."""

    sampling_rate: int = option(24000, "of the clips, Hz: 8000 to 96000; files of another rate are resampled")
    channels: int = option(1, "of the clips: 1 (mono) or 2 (stereo)")
    clip_s: float = option(
        10.0, "longest clip, seconds: 1 to 600; where the downbeats are known a clip is the most whole bars that fit"
    )
    min_s: float = option(3.0, "shortest clip and shortest file, seconds: 0.5 to clip_s")
    loudness_lufs: float = option(-18.0, "LUFS of each file (ITU-R BS.1770-4): -60 to -5; nan leaves levels")
    trim: bool = option(True, "cut silence (below -60 dB of full scale) off both ends of a file")
    denoise: bool = option(False, "noise reduction by ffmpeg's afftdn")
    max_clipped: float = option(0.01, "largest share of clipped samples (flat tops at full scale) in a file: 0 to 1")
    labels: bool = option(True, "estimate tempo, beats, downbeats, key and chords where the source has none")
    beat_tracker: str = option("checkpoints/beat_tracker", "folder of the trained beat tracker, needed with labels")
    key_network: str = option("checkpoints/key", "folder of the trained key network, needed with labels")
    captions: tuple[str, ...] = option(
        ("sidecar", "tags", "names"), "where to look, in this order: sidecar (text files), tags, names (of files)"
    )
    license: str | None = option(None, "of files whose row names none")
    validation_share: float = option(0.05, "share of files in the validation split: 0 to 0.5")
    test_share: float = option(0.05, "share of files in the test split: 0 to 0.4")
    shard_clips: int = option(512, "clips of a parquet file: 1 to 100000")

    def __post_init__(self) -> None:
        """Raise a ValueError that names the first argument that is wrong."""
        for name, low, high, unit in (
            ("sampling_rate", 8000, 96000, " Hz"),
            ("channels", 1, 2, ""),
            ("clip_s", 1.0, 600.0, " seconds"),
            ("min_s", 0.5, self.clip_s, " seconds (clip_s at most)"),
            ("max_clipped", 0.0, 1.0, ""),
            ("validation_share", 0.0, 0.5, ""),
            ("test_share", 0.0, 0.4, ""),
            ("shard_clips", 1, 100_000, ""),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{name} is {value}; allowed: {low} to {high}{unit}")
        if not (math.isnan(self.loudness_lufs) or -60.0 <= self.loudness_lufs <= -5.0):
            raise ValueError(f"loudness_lufs is {self.loudness_lufs}; allowed: -60 to -5 LUFS, or nan to leave levels")
        unknown = [place for place in self.captions if place not in ("sidecar", "tags", "names")]
        if unknown:
            raise ValueError(f"captions is {','.join(self.captions)!r}; allowed: out of sidecar, tags, names")
        for name, module in (("beat_tracker", "beat_tracker"), ("key_network", "key")):
            folder = getattr(self, name)
            if self.labels and not os.path.isdir(folder):
                raise ValueError(
                    f"{name} {folder}: no such folder; train one (training.listeners.{module}) or give --no-labels"
                )

    def key(self) -> dict:
        """As JSON keeps it."""
        values = dataclasses.asdict(self) | {"captions": list(self.captions)}
        return values | {"loudness_lufs": None if math.isnan(self.loudness_lufs) else self.loudness_lufs}
