"""Captions say what is true in words that are kept apart: those of training and those that are held back."""

import numpy as np
import pytest

from pipelines.vivace_notes import named_instruments
from pipelines.vivace_reading import read_exclusion
from pipelines.vivace_theory import PROGRAMS
from training.data.scorebook.arrange import ENSEMBLES
from training.data.scorebook.captions import (
    MOOD_HELDOUT,
    NO_DRUMS,
    NO_DRUMS_HELDOUT,
    Facts,
    captions,
    heldout_captions,
    tempo_words,
)
from training.data.scorebook.instruments import DRUM_HELDOUT_WORDS, DRUM_WORDS, INSTRUMENTS
from training.data.scorebook.styles import STYLES


def facts(**changes):
    values = dict(
        style="house", style_words=("house", "deep house"), style_heldout_words=("club groove",), genre="electronic",
        moods=("happy", "driving"),
        instruments=("piano", "synth bass"), melody="piano", drums="drums", bpm=124.0, key="A minor",
        time_signature="4/4",
        bars=4, room="room", dynamics="medium",
    )  # fmt: skip
    return Facts(**(values | changes))


def test_captions_say_numbers_now_and_then_and_keep_paraphrases_apart():
    texts, held = [], []
    for seed in range(150):
        texts += [text for text, _ in captions(facts(), 6, np.random.default_rng(seed))]
        held += [text for text, _ in heldout_captions(facts(), 3, np.random.default_rng(seed))]
    share = lambda word: sum(word in t for t in texts) / len(texts)  # noqa: E731
    assert 0.25 < share("124") < 0.55 and 0.12 < share("A minor") < 0.4 and 0.05 < share("4/4") + share("4 bars") < 0.35
    assert not set(texts) & set(held) and len(set(texts)) > 300
    assert all("club groove" not in t for t in texts) and all("house" not in t for t in held)
    solo = captions(facts(instruments=("harp",), melody="harp", drums=None), 6, np.random.default_rng(0))
    assert len(solo) == 6 and not any("drum" in t or "percussion" in t for t, _ in solo)
    assert any(said.drums is False for _, said in solo)


@pytest.mark.parametrize("heldout", [False, True])
def test_what_is_stated_is_what_the_words_say(heldout):
    """Every canonical name stands for one of its words in the text, and no word of another fact is there unstated."""
    known = facts(instruments=("piano", "slap bass", "harp"), melody="harp", bpm=131.0, loop=True)
    write = heldout_captions if heldout else captions
    drums = DRUM_HELDOUT_WORDS if heldout else DRUM_WORDS
    style = known.style_heldout_words if heldout else known.style_words
    seen = 0
    for seed in range(150):
        for text, said in write(known, 3, np.random.default_rng(seed)):
            low = text.lower()
            for name in known.instruments:
                words = INSTRUMENTS[name].heldout_words if heldout else INSTRUMENTS[name].words
                assert (name in said.instruments) == any(word.lower() in low for word in words), (text, said)
            assert (said.drums is True) == any(word in low for word in drums), (text, said)
            assert (said.style == "house") == any(word in low for word in style), (text, said)
            assert said.bpm == ("131" in low) and said.key == ("a minor" in low) and said.bars == ("4 bars" in low)
            spoken = {mood: MOOD_HELDOUT[mood] if heldout else mood for mood in known.moods}
            assert {mood for mood, word in spoken.items() if word in low} == set(said.moods), (text, said)
            seen += len(said.instruments)
    assert seen > 300


def test_heldout_words_are_disjoint():
    for instrument in INSTRUMENTS.values():
        assert not set(instrument.words) & set(instrument.heldout_words) and instrument.low < instrument.high
    trained = (
        {w for i in INSTRUMENTS.values() for w in i.words}
        | {w for s in (*STYLES.values(), *ENSEMBLES) for w in s.words}
        | set(DRUM_WORDS)
    )
    held = {w for i in INSTRUMENTS.values() for w in i.heldout_words} | {
        w for s in (*STYLES.values(), *ENSEMBLES) for w in s.heldout_words
    }
    assert not trained & (held | set(DRUM_HELDOUT_WORDS))
    moods = {mood for style in STYLES.values() for mood in style.moods}
    assert moods <= set(MOOD_HELDOUT) and not moods & set(MOOD_HELDOUT.values())
    for bpm in (60, 90, 110, 130, 170):
        assert not set(tempo_words(bpm)) & set(tempo_words(bpm, heldout=True))


def test_absence_is_stated_where_it_is_true_in_words_that_the_pipeline_reads():
    """ "No drums" only of clips of which all is known, that have none; and "only" with all that plays."""
    for drums, complete in ((None, True), (None, False), ("drums", True), ("percussion", True)):
        known = facts(drums=drums, complete=complete, loop=True)
        absent = only = total = 0
        for seed in range(100):
            for text, said in captions(known, 8, np.random.default_rng(seed)):
                read = read_exclusion(text)
                assert not any(word in text for word in NO_DRUMS_HELDOUT)
                absent += "drums" in read.excluded
                only += bool(read.exclusive)
                total += 1
                if read.drumless:
                    assert drums is None and complete and said.drums is False, text
                if read.exclusive:
                    assert set(said.instruments) == set(known.instruments), text
                    assert said.drums is {None: False, "drums": True, "percussion": None}[drums], text
                assert (said.drums is False) == read.drumless, text
        assert (absent > 0) == (drums is None and complete) and (only > 0) == complete
        assert absent / total < 0.35 and only / total < 0.2
    held = [t for seed in range(40) for t in heldout_captions(facts(drums=None, complete=True), 4,
                                                             np.random.default_rng(seed))]  # fmt: skip
    assert {said.drums for _, said in held} == {None, False}
    assert not any(word in text for text, _ in held for word in NO_DRUMS)
    assert all(read_exclusion(text).drumless == (said.drums is False) for text, said in held)


def test_unaccompanied_is_said_of_one_alone():
    alone = facts(instruments=("harp",), melody="harp", drums=None, complete=True)
    texts = [text for seed in range(60) for text, _ in captions(alone, 8, np.random.default_rng(seed))]
    others = [text for seed in range(60) for text, _ in captions(facts(complete=True), 8, np.random.default_rng(seed))]
    assert any("unaccompanied" in text for text in texts) and not any("unaccompanied" in text for text in others)


# Words of captions that prompts use for something else, or for more than this instrument.
OPEN_WORDS = {
    "EP", "bells", "vibes", "voices", "miles-style trumpet", "horns", "eighties brass", "sax", "whistling",
    "soft synth lead", "moving pad",
}  # fmt: skip


def test_prompts_are_read_by_the_captions_words():
    """The two tables of instruments have the same names, and a caption's word means the same in a prompt."""
    assert set(PROGRAMS) == set(INSTRUMENTS)
    for name, instrument in INSTRUMENTS.items():
        for word in set(instrument.words) - OPEN_WORDS:
            assert list(named_instruments(f"tune for {word}, soft")) == [name]
