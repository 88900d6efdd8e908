"""Retold captions: true of the clip, in many words, none of them held out, the same at every run."""

import numpy as np
import pytest

from pipelines.vivace_reading import read_exclusion
from training.data.scorebook.instruments import INSTRUMENTS
from training.text.rewording import facts_of, reworded_captions
from training.text.tags import STYLE_WORDS, heldout_phrases
from training.text.words import INSTRUMENT_LEXICON, INSTRUMENT_SYNONYMS, STYLE_LEXICON, STYLE_SYNONYMS

ROW = {
    "style": "folk", "genre": "folk", "moods": ["calm", "warm"], "instruments": ["harmonica", "steel guitar"],
    "melody_instrument": "harmonica", "drums": False, "percussion": False, "bpm": 84.0, "key": "D major",
    "time_signature": "3/4", "room": "dry", "dynamics": "soft", "loop": False,
}  # fmt: skip


def many(row: dict, count: int = 400) -> list[str]:
    return [text for seed in range(count // 8) for text in reworded_captions(row, 8, np.random.default_rng(seed))]


def words_of(name: str) -> tuple[str, ...]:
    return (*INSTRUMENTS[name].words, *INSTRUMENT_SYNONYMS[name])


def says(text: str, words: tuple[str, ...]) -> bool:
    return any(f" {word.lower()} " in f" {text.lower().replace(',', ' ').replace('.', ' ')} " for word in words)


def test_nothing_is_said_that_the_labels_do_not_say():
    others = [name for name in INSTRUMENTS if name not in ROW["instruments"]]
    own = set(words_of("harmonica")) | set(words_of("steel guitar")) | set(STYLE_SYNONYMS["folk"])
    own |= {*INSTRUMENT_LEXICON["harmonica"], *INSTRUMENT_LEXICON["steel guitar"], *STYLE_LEXICON["folk"]}
    strange = tuple(
        word for name in others for word in words_of(name) if len(word) > 4 and not any(word in known for known in own)
    )
    for text in many(ROW):
        assert not says(text, strange), text
        assert not any(word in text for word in ("drum", "minor", "4/4", "bars")), text


def test_absence_is_retold_where_all_is_known():
    known = many(ROW | {"complete": True})
    absent = [text for text in known if any(word in text for word in ("drum", "percussion", "beatless", "a beat"))]
    assert 0.1 < len(absent) / len(known) < 0.4 and all(read_exclusion(text).drumless for text in absent)
    for row in (
        ROW | {"complete": True, "drums": True, "percussion": True},
        ROW | {"complete": True, "percussion": True},
    ):
        assert not any(read_exclusion(text).drumless for text in many(row))


def test_most_words_of_an_instrument_are_used():
    texts = many(ROW, 1600)
    for name in ROW["instruments"]:
        used = [word for word in words_of(name) if any(says(text, (word,)) for text in texts)]
        assert len(used) > 0.8 * len(words_of(name)), name


def test_rare_words_are_used_too():
    texts = many(ROW, 800)
    for known in (INSTRUMENT_LEXICON["harmonica"], STYLE_LEXICON["folk"]):
        assert len([word for word in known if any(says(text, (word,)) for text in texts)]) > 40


def test_no_held_out_word_is_used():
    """But for those that a template makes of an own word and the word beside it ("toy box" and "melody")."""
    known = {word for name in INSTRUMENTS for word in words_of(name)}
    known |= {word for words in (*STYLE_SYNONYMS.values(), *STYLE_WORDS.values()) for word in words}
    known = {word.lower() for word in known}
    held = {phrase.lower() for phrase in heldout_phrases()}
    held = tuple(phrase for phrase in held if not any(word in phrase or phrase in word for word in known))
    assert len(held) > 60
    for name in INSTRUMENTS:
        row = ROW | {"instruments": [name], "melody_instrument": name, "drums": True}
        for text in many(row, 40):
            assert not says(text, held), text


def test_the_count_is_kept_and_draws_are_the_same_at_every_run():
    first, second = (reworded_captions(ROW, 8, np.random.default_rng(3)) for _ in range(2))
    assert first == second and 4 <= len(first) <= 8 and len(set(first)) == len(first)
    assert reworded_captions(ROW, 0, np.random.default_rng(3)) == []


@pytest.mark.parametrize("change", [{"style": "sea shanty"}, {"moods": []}, {"instruments": ["kazoo"]}, {"bpm": None}])
def test_a_clip_with_other_labels_keeps_its_own_captions(change):
    assert facts_of(ROW | change) is None and reworded_captions(ROW | change, 8, np.random.default_rng(0)) == []


def test_every_style_of_the_scorebook_can_be_retold():
    for style in STYLE_SYNONYMS:
        assert len(reworded_captions(ROW | {"style": style}, 6, np.random.default_rng(0))) >= 3
