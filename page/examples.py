"""Requests to begin with. Each has a seed, so that its piece is made once, when first asked for, and then kept."""

EXAMPLES = [
    ("Slow piano", {"prompt": "slow solo piano", "key": "A minor", "bpm": 72, "length": 4, "seed": 7}),
    (
        "Jazz trio",
        {"prompt": "calm jazz trio with piano, upright bass and drums", "chords": "Am F C G", "bpm": 96, "length": 4,
         "seed": 11},
    ),
    (
        "Folk in 6/8",
        {"prompt": "lively folk dance for flute and guitar", "key": "G major", "time_signature": "6/8", "bpm": 100,
         "length": 8, "seed": 3},
    ),
    ("Funk loop", {"prompt": "funk groove with electric bass and drums", "key": "E minor", "bpm": 104, "length": 4,
                   "loop": True, "seed": 21}),
]  # fmt: skip
