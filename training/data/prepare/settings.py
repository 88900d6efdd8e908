"""The options of a run of `prepare`, checked before anything is read."""

import dataclasses
import math
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Everything that decides what comes out; `key()` names it, so that a rerun goes on only with the same."""

    sampling_rate: int = 24000
    """sampling rate of the clips, Hz: 8,000 to 96,000; files of another rate are resampled"""
    channels: int = 1
    """channels of the clips: 1 (mono) or 2 (stereo)"""
    clip_s: float = 10.0
    """longest clip, seconds: 1 to 600; where the downbeats are known a clip is the most whole bars that fit"""
    min_s: float = 3.0
    """shortest clip and shortest file, seconds: 0.5 to `clip_s`"""
    loudness_lufs: float = -18.0
    """integrated loudness that each file is brought to, LUFS (ITU-R BS.1770-4): -60 to -5, or NaN to leave levels"""
    trim: bool = True
    """whether silence (below -60 dB of full scale) is cut off both ends of a file"""
    denoise: bool = False
    """whether noise is reduced, by ffmpeg's afftdn filter"""
    max_clipped: float = 0.01
    """a file is left out if a larger share of its samples is clipped (on flat tops at full scale): 0 to 1"""
    labels: bool = True
    """whether tempo, beats, downbeats, key and chords are estimated from the audio where the source has none"""
    beat_tracker: str = "checkpoints/beat_tracker"
    """folder of the trained beat tracker, needed with `labels`"""
    key_network: str = "checkpoints/key"
    """folder of the trained key network, needed with `labels`"""
    captions: tuple[str, ...] = ("sidecar", "tags", "names")
    """where captions are looked for, in this order, out of sidecar (text files), tags and names (of files)"""
    license: str | None = None
    """licence of files whose row names none; None = unknown"""
    validation_share: float = 0.05
    """share of files in the validation split: 0 to 0.5"""
    test_share: float = 0.05
    """share of files in the test split: 0 to 0.4"""
    shard_clips: int = 512
    """clips in a Parquet file: 1 to 100,000"""

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
