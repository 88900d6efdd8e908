"""The options of a run of `prepare`, checked before anything is read."""

import dataclasses
import math
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Everything that decides what comes out; `key()` names it, so that a rerun goes on only with the same."""

    sampling_rate: int = 24000
    """Hz"""
    channels: int = 1
    """1 or 2"""
    clip_s: float = 10.0
    """longest clip, seconds; on known downbeats a clip is the most whole bars that fit"""
    min_s: float = 3.0
    """shortest clip and shortest file, seconds"""
    loudness_lufs: float = -18.0
    """integrated loudness of a file (ITU-R BS.1770-4); NaN leaves levels as they are"""
    trim: bool = True
    """cut silence (below -60 dB) off both ends of a file"""
    denoise: bool = False
    """ffmpeg's afftdn filter"""
    max_clipped: float = 0.01
    """share of samples on flat tops at full scale above which a file is left out"""
    labels: bool = True
    """find tempo, beats, downbeats, key and chords where the source does not tell them"""
    beat_tracker: str = "checkpoints/beat_tracker"
    """folder of the trained tracker"""
    key_network: str = "checkpoints/key"
    """folder of the trained key network"""
    captions: tuple[str, ...] = ("sidecar", "tags", "names")
    """where captions are looked for, the first that has one wins"""
    license: str | None = None
    """of files whose row does not name one"""
    validation_share: float = 0.05
    test_share: float = 0.05
    shard_clips: int = 512
    """clips of a parquet shard"""

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            ValueError: naming the first argument that is wrong.
        """
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
