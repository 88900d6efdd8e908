"""What an accompaniment style is: for each meter what drums, bass and chords play, on which instruments, how
fast.

A pattern is a string with one character per sixteenth (16 in a bar of 4/4, 12 in 3/4 and 6/8, 8 in 2/4); a
string of several bars is played through. Drums: X accent, x hit, o soft. Bass: r root, 3 third, 5 fifth, 6
sixth, 8 octave, a leads into the next root, w walks, - releases. Chords: X accent, x short, o held until the
next character, - releases.
"""

from dataclasses import dataclass, field

Patterns = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Style:
    """One style; `words` name it in training captions, `heldout_words` in no training caption.

    Attributes:
        tempo: lowest and highest bpm.
        minor: probability of a minor key in generated pieces.
        sevenths: probability of chords with sevenths.
        swing: how late the second half of a beat (or, for `swing16`, of a half beat) comes: 0.5 is straight.
        drums: meter -> lane -> alternatives. Lanes: K kick, S snare, R rim, C clap, H closed hat, O open hat,
            P pedal hat, D ride, T tambourine, A shaker, G L high and low conga, W woodblock, E claves, M low
            tom, B bodhran-like tom, Y cymbal.
        drum_share: how often drums play.
        pad_share, arpeggio_share: how often a held pad or an arpeggio is added.
        density: notes of a generated melody, 0 sparse to 1 busy.
        gate: share of its length that a bass note sounds.
    """

    name: str
    words: tuple[str, ...]
    heldout_words: tuple[str, ...]
    genre: str
    tempo: tuple[int, int]
    moods: tuple[str, ...]
    melody: tuple[str, ...]
    comp_on: tuple[str, ...]
    bass_on: tuple[str, ...]
    kits: tuple[str, ...]
    drums: dict[str, Patterns] = field(default_factory=dict)
    bass: Patterns = field(default_factory=dict)
    comp: Patterns = field(default_factory=dict)
    pads: tuple[str, ...] = ("string ensemble", "warm pad")
    minor: float = 0.5
    sevenths: float = 0.2
    swing: float = 0.5
    swing16: float = 0.5
    drum_share: float = 0.9
    pad_share: float = 0.25
    arpeggio_share: float = 0.15
    density: float = 0.5
    gate: float = 0.9
    rooms: tuple[str, ...] = ("dry", "room", "room")

    @property
    def meters(self) -> tuple[str, ...]:
        """Meters for which the style has an accompaniment."""
        return tuple(self.comp)
