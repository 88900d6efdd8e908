"""Words of a prompt that the text encoder of a checkpoint was never given whole: it can only guess at them."""

import difflib
import functools
import json
import re
import unicodedata
from collections.abc import Set

from pipelines.vivace_reading import VALUES
from pipelines.vivace_theory import MAJOR_MODES, MINOR_MODES

WORD_SCORE = -1.0  # of a whole word in the vocabulary of the shipped text encoder, see training/text/tokenizer.py
ENDINGS = ("s", "es", "d", "ed", "ing", "ly", "y", "er", "ish")
# Words that say nothing of a sound.
SMALL_WORDS = """
across after again all along also always am and another any anything are aren as be because been before behind being
between both bridge but by can come could day days did didn do does doesn doing don done during each else every
everything far feat featuring few first for from get give gives go goes going had has have having he her here hers him
his hour hours how if into isn it its just kind last least left less let lets like likes looped made make makes making
man many may maybe me might mine more most much must my near need needed needs never next nor not nothing now off
often once only onto or other our out outro over own people person play player please put rather really reminiscent
right same second seconds see shall she should so some someone something sort such sure than that the their them then
there these they thing things this those through today together tomorrow too track under until upon us use used using
very want wanted wants was way we well went were what when where which while who whom whose why will with woman would
yes yesterday yet you your
"""
NOT_MARKED = frozenset(SMALL_WORDS.split()) | {
    word for name in (*VALUES, *MAJOR_MODES, *MINOR_MODES) for word in name.split()
}


def known_words(tokenizer) -> frozenset[str]:
    """The words, lower case, that a tokenizer keeps whole; empty where its vocabulary is not made of words."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if model["type"] == "WordLevel":
        return frozenset(word.lower() for word in model["vocab"])
    if model["type"] != "Unigram":
        return frozenset()
    return frozenset(word[1:] for word, score in model["vocab"] if word.startswith("\u2581") and score >= WORD_SCORE)


def unknown_words(prompt: str, known: Set[str]) -> list[str]:
    """Words of a prompt, lower case and each once, that are not among `known` ones, nor one of them with an ending.

    Words of one or two letters, words with a digit, and `NOT_MARKED` ones are left out. Without known words: none.
    """
    if not known:
        return []
    found = re.findall(r"(?<![\w#'])[^\W\d_]{3,}(?![\w#])", prompt.lower().replace("\u2019", "'"))
    return [word for word in dict.fromkeys(found) if word not in NOT_MARKED and not is_known(word, known)]


def is_known(word: str, known: Set[str]) -> bool:
    """Whether a word, with or without its accents, is a known one or a known one with an ending."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
    stems = [plain, *(plain.removesuffix(end) for end in ENDINGS if len(plain) > len(end) + 2)]
    return not known.isdisjoint({*stems, *(f"{stem}e" for stem in stems), word})


@functools.lru_cache(1000)
def nearest_word(word: str, known: frozenset[str]) -> str | None:
    """The known word that is spelled most like another of five letters or more; None = none is."""
    if len(word) < 5:
        return None
    close = [one for one in known if one[:1] == word[:1] and abs(len(one) - len(word)) <= 2]
    return next(iter(difflib.get_close_matches(word, sorted(close), n=1, cutoff=0.8)), None)


def unknown_text(prompt: str, known: frozenset[str]) -> list[str]:
    """The unknown words of a prompt for reading, with the known one that may be meant: "pinao (piano?)"."""
    words = [(word, nearest_word(word, known)) for word in unknown_words(prompt, known)]
    return [word if near is None else f"{word} ({near}?)" for word, near in words]
