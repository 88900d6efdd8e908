"""Analyse clips: signal features, and the estimates of this project's listener networks."""

from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from training.listeners.beat_tracker import BeatTracker, load_beat_tracker
from training.listeners.key import KeyNetwork, load_key_network
from training.listeners.tagger import Tagger, load_tagger
from training.metrics.features import ClipAnalysis, clip_features


@dataclass(frozen=True)
class Listeners:
    """The listener networks; figures that need a missing one (None) are left out."""

    tagger: Tagger | None = None
    tracker: BeatTracker | None = None
    key: KeyNetwork | None = None
    thresholds: dict[str, float] = field(default_factory=dict)  # decision threshold of each of the tagger's tags
    cards: dict[str, dict] = field(default_factory=dict)  # the card of each network, for the report
    absent: tuple[str, ...] = ()  # names and folders of the networks that were not found


def load_listeners(tagger: str, beat_tracker: str, key: str) -> Listeners:
    """Load the networks whose folders exist. Raises a ValueError if a folder exists but cannot be read."""
    networks: dict = {}
    cards, absent = {}, []
    loaders = (
        ("tagger", tagger, load_tagger),
        ("tracker", beat_tracker, load_beat_tracker),
        ("key", key, load_key_network),
    )
    for name, folder, load in loaders:
        if Path(folder).is_dir():
            networks[name], cards[name] = load(folder)
        else:
            absent.append(f"{name} {folder}")
    return Listeners(
        **networks, thresholds=cards.get("tagger", {}).get("thresholds", {}), cards=cards, absent=tuple(absent)
    )


def analyse(
    audios: list[np.ndarray], sampling_rate: int, listeners: Listeners, pool: Executor | None
) -> list[ClipAnalysis]:
    """Analyse clips, each (channels, samples) or (samples,).

    Signal features are computed in the processes of `pool`, if there is one, while the networks run in this process.
    Raises a ValueError if a clip is empty or not finite.
    """
    run = map if pool is None else pool.map
    features = run(clip_features, audios, [sampling_rate] * len(audios))
    mono = [np.atleast_2d(audio).mean(axis=0) for audio in audios]
    empty: list = [None] * len(audios)
    tags = empty if listeners.tagger is None else listeners.tagger.probabilities(mono, sampling_rate)
    rhythms = empty if listeners.tracker is None else [listeners.tracker.track(a, sampling_rate) for a in mono]
    keys = empty if listeners.key is None else [listeners.key.listen(a, sampling_rate) for a in mono]
    return [
        ClipAnalysis(sound, rhythm, named, key and key.name, listeners.key is not None)
        for sound, rhythm, named, key in zip(features, rhythms, tags, keys, strict=True)
    ]
