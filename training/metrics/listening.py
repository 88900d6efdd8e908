"""Everything that is heard in a clip: signal features, and what the small networks of this project make of it."""

from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from training.metrics.beat_tracker import BeatTracker, Tracked, load_beat_tracker
from training.metrics.features import ClipFeatures, all_features
from training.metrics.tagger import Tagger, load_tagger


@dataclass(frozen=True)
class Heard:
    """One clip: `features`, and what the tracker and the tagger (probability a tag) say where there is one."""

    features: ClipFeatures
    tracked: Tracked | None = None
    tags: dict[str, float] | None = None


@dataclass(frozen=True)
class Listeners:
    """The networks that listen; None = the figures that need it are left out.

    Attributes:
        thresholds: of the tagger's tags.
        cards: what is known of each network, for the report.
        absent: folders that are not there.
    """

    tagger: Tagger | None = None
    tracker: BeatTracker | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    cards: dict[str, dict] = field(default_factory=dict)
    absent: tuple[str, ...] = ()


def load_listeners(tagger: str, beat_tracker: str) -> Listeners:
    """The networks in these folders, as far as they are there.

    Raises:
        ValueError: a folder is there but unreadable.
    """
    networks: dict = {}
    cards, absent = {}, []
    for name, folder, load in (("tagger", tagger, load_tagger), ("tracker", beat_tracker, load_beat_tracker)):
        if Path(folder).is_dir():
            networks[name], cards[name] = load(folder)
        else:
            absent.append(f"{name} {folder}")
    return Listeners(
        **networks, thresholds=cards.get("tagger", {}).get("thresholds", {}), cards=cards, absent=tuple(absent)
    )


def listen(audios: list[np.ndarray], sampling_rate: int, listeners: Listeners, pool: Executor | None) -> list[Heard]:
    """Hear each clip (samples,); signal features in the processes of `pool` if there is one.

    Raises:
        ValueError: a clip is empty or not finite.
    """
    features = all_features(audios, sampling_rate, pool)
    tags: list = [None] * len(audios)
    if listeners.tagger is not None:
        tags = listeners.tagger.probabilities(audios, sampling_rate)
    tracked: list = [None] * len(audios)
    if listeners.tracker is not None:
        tracked = [listeners.tracker.track(audio, sampling_rate) for audio in audios]
    return [Heard(*parts) for parts in zip(features, tracked, tags, strict=True)]
