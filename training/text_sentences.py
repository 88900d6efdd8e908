"""Sentences of many forms around the same facts, for the text encoder's second tellings.

None has the nouns, the connecting words or the templates of the held-out captions (training/data/captions.py).
"""

from collections.abc import Sequence

import numpy as np

from training.text_words import TEMPOS

_NOUNS = (
    "music", "track", "piece", "instrumental", "song", "tune", "thing", "number", "theme", "work", "sketch", "idea",
    "jingle", "bit", "arrangement", "production", "demo", "backdrop", "bed", "score", "record", "sound", "one", "loop",
    "intro", "clip", "part", "session", "interlude", "study", "version", "file", "sample", "mix", "excerpt",
)  # fmt: skip
_PLAIN_NOUNS = _NOUNS[:6]
_WITH = (
    " with ", " featuring ", " having ", " and also ", " plus ", ", played on ", " played by ", " led by ",
    " built on ", ", there is ", " including ", " backed by ", " together with ", " carried by ", " on ", ", i hear ",
    ", bring in ", ", add ", " mixed with ", " starring ", " accompanied by ", " supported by ", ", instruments: ",
    " made with ", " performed by ", ", some ", " over ", " that has ", " containing ", ", mostly ", " where ",
    " which has ",
)  # fmt: skip
_DETAILS = (
    "{} bpm", "at {} bpm", "{} beats per minute", "tempo {}", "in A minor", "in C major", "key of G minor", "in 3/4",
    "4/4 time", "in 6/8", "8 bars", "in D major", "about {} bpm", "around {}", "at tempo {}", "F minor", "{} seconds",
    "with reverb", "4 bars long",
)  # fmt: skip
_THAT_IS = (" that feels ", " which is ", ", ", " and it is ", ", make it ", " sounding ", " - ")
_LIKE = (
    " like ", ", kind of ", ", think ", " inspired by ", " of type ", ", genre: ", " close to ", " in ",
    " influenced by ", ", ",
)  # fmt: skip
_PLAYING = (" playing ", " doing ", " carrying ", " over ", " leading ", " for ", " on top of ", ", ")


def free_form(
    rng: np.random.Generator, style: str | None, moods: Sequence[str], players: Sequence[str]
) -> tuple[str, str]:
    """Two sentences that say the same.

    Args:
        rng: draws the forms, a tempo word and up to three details.
        style: what the style is called; None = not named.
        moods: words.
        players: instruments; may be empty if there is a style.

    Returns:
        A plain sentence, and one of many forms.
    """

    def pick(options):
        return options[int(rng.integers(len(options)))]

    def words(*parts: str | None) -> str:
        return " ".join(part for part in parts if part)

    def listed(names: list[str]) -> str:
        return (
            names[0] if len(names) == 1 else ", ".join(names[:-1]) + pick((" and ", ", ", " & ", " plus ")) + names[-1]
        )

    tempo = pick(TEMPOS) if rng.random() < 0.4 else None
    many = int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1)))
    details = [pick(_DETAILS).format(int(rng.integers(45, 200))) for _ in range(many)]
    plain = words(", ".join(moods), tempo, style, pick(_PLAIN_NOUNS))
    if players:
        plain += " with " + (players[0] if len(players) == 1 else ", ".join(players[:-1]) + " and " + players[-1])
    plain = ", ".join([plain, *details])

    shuffled = [players[place] for place in rng.permutation(len(players))]
    adjectives = [*moods, tempo] if tempo else list(moods)
    adjectives = [adjectives[place] for place in rng.permutation(len(adjectives))]
    noun, article, described = pick(_NOUNS), pick(("a ", "a ", "", "some ", "the ", "one ")), ""
    if adjectives:
        described = pick((" ", ", ", " and ")).join(adjectives)
    form = int(rng.integers(6))
    if form > 3 and shuffled:
        text = listed(shuffled) + pick(_PLAYING) + article + words(described, noun if rng.random() < 0.5 else "")
        if style:
            text += (pick((" of ", ", ", " like ", " - ", ", some ", " as ")) if rng.random() < 0.5 else " ") + style
        shuffled = []
    elif style is None or form in (0, 4, 5):
        text = article + words(described, style, noun if style is None or rng.random() < 0.7 else "")
    elif form == 1:
        text = f"{article}{style} {noun}" + (pick(_THAT_IS) + described if described else "")
    elif form == 2:
        text = article + words(described, noun) + pick(_LIKE) + style
    else:
        text = pick((", ", "; ", " / ", " ")).join([style, *adjectives])
    if shuffled:
        text += pick(_WITH) + listed(shuffled)
    parts = [text, *details] if rng.random() < 0.7 else [*details, text]
    return plain, " ".join(pick((", ", ", ", "; ", " ")).join(parts).split())
