"""Words of a prompt that the text encoder does not know."""

import json

import pytest
from transformers import AutoTokenizer

from pipelines.vocabulary import known_words, unknown_text, unknown_words
from tests.conftest import ROOT, make_tokenizer


@pytest.fixture(scope="module")
def known():
    return known_words(AutoTokenizer.from_pretrained(ROOT / "checkpoints/small/tokenizer"))


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("8-bar loop at ninety-six bpm in A minor, lo-fi hip hop with electric piano", []),
        ("slow solo piano in F#m, D dorian, Cm7 Bbmaj7, 808 kick, from bar 5 on", []),
        ("don't play drums; I'm sad, and it's raining. An étude for my two violins", []),
        ("dubstep with kazoo, kazoo and a didgeridoo", ["kazoo", "didgeridoo"]),
        ("slow pinao and violn for my daughter", ["pinao (piano?)", "violn (violin?)", "daughter"]),
        ("canción <b>qawwali</b>", ["canción", "qawwali"]),
    ],
)
def test_words_that_the_encoder_was_not_given_are_found(known, prompt, unknown):
    assert unknown_text(prompt, known) == unknown


def test_each_found_word_is_spelled_in_pieces_and_each_whole_one_is_a_token(known):
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "checkpoints/small/tokenizer")
    assert len(known) > 5000 and all(len(tokenizer.tokenize(word)) == 1 for word in sorted(known)[:300])
    for word in unknown_words("kazoo didgeridoo qawwali zither mellotron moog krautrock", known):
        assert len(tokenizer.tokenize(word)) > 1


def test_a_vocabulary_of_pieces_marks_nothing():
    own = make_tokenizer()
    assert unknown_words("slow kazoo", known_words(own)) == ["kazoo"]
    pieces = json.loads(own.backend_tokenizer.to_str())
    pieces["model"] = {"type": "BPE", "vocab": {"a": 0}, "merges": []}

    class Other:
        class backend_tokenizer:
            to_str = staticmethod(lambda: json.dumps(pieces))

    assert unknown_words("slow kazoo", known_words(Other)) == []
