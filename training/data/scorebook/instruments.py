"""The instruments of the scorebook: canonical name, presets in a General MIDI bank, range, roles and words in captions.

Programs and names follow General MIDI level 1 and the preset list of FluidR3Mono, whose banks 8 and 16 hold variants.
The table is instruments.txt. Its words are those of the scorebook's captions; further words for training texts stand in
training/text/words.py, what prompts are read by in pipelines/vivace_theory.py, under the same canonical names.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Instrument:
    """One instrument."""

    name: str  # canonical name, the one that stands in labels
    presets: tuple[tuple[int, int], ...]  # (bank, program) pairs that sound like it
    family: str  # keys, mallets, organ, guitar, bass, strings, choir, brass, reed, pipe, synth, pad, folk
    # low, high: comfortable range in MIDI pitches
    low: int
    high: int
    roles: str  # letters out of m melody, c chords, a arpeggio, p pad, b bass, e voice of an ensemble
    words: tuple[str, ...]  # names used in training captions, the canonical one first
    heldout_words: tuple[str, ...]  # names used in no training caption


def _read() -> dict[str, Instrument]:
    """The instruments of instruments.txt by name."""
    found = {}
    for line in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()[1:]:
        name, presets, family, span, roles, words, heldout = (part.strip() for part in line.split("|"))
        pairs = tuple(tuple(map(int, p.split(":"))) if ":" in p else (0, int(p)) for p in presets.split())
        low, high = map(int, span.split())
        found[name] = Instrument(
            name, pairs, family, low, high, roles,
            (name, *(w.strip() for w in words.split(","))), tuple(w.strip() for w in heldout.split(",")),
        )  # fmt: skip
    return found


INSTRUMENTS = _read()
DRUM_WORDS = ("drums", "drum kit", "a drum kit", "percussion", "a beat")
DRUM_HELDOUT_WORDS = ("a drummer", "a drum set", "a drum beat", "drumming")

# Kits of bank 128 by character.
KITS = {
    "standard": (0, 1, 2, 3), "room": (8, 9, 10, 11), "power": (16, 17), "electronic": (24,), "808": (25,),
    "jazz": (32, 33), "brush": (40, 41), "orchestra": (48,),
}  # fmt: skip


def with_role(role: str) -> list[Instrument]:
    """All instruments that can play a role (one letter, see `Instrument.roles`)."""
    return [i for i in INSTRUMENTS.values() if role in i.roles]
