"""Requests to begin with, all in words. Each has a seed of its own, so that its piece is made once and then kept."""

EXAMPLES = [
    ("Slow piano", "slow solo piano in A minor, 72 bpm, 4 bars", 7),
    ("Jazz trio", "calm jazz trio with piano, upright bass and drums, 96 bpm, 4 bars", 11),
    ("Folk in 6/8", "lively folk dance for flute and guitar in G major, 6/8, 100 bpm, 8 bars", 3),
    ("Funk loop", "funk loop with electric bass and drums in E minor, 104 bpm, 4 bars", 21),
]
