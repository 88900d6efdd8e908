"""More captions of training clips, in many words: they teach the UNet the synonyms that the text encoder has learned.

The scorebook names each thing in two to four words. A network trained on those alone learns three points of the text
encoder's space, and other words for the same thing lie beside them. The captions made here state the clip's labels in
the words of training/text/words.py and its lexicon, half of them in the grammar of the scorebook's captions, half in
the templates of prompts as users write them. None has a word that the held-out captions reserve for tests.
"""

import numpy as np

from training.data.scorebook.captions import Facts, Speaker, captions, tempo_words
from training.data.scorebook.instruments import DRUM_WORDS, INSTRUMENTS
from training.text.corpus import PromptGrammar
from training.text.tags import AFFIRMING, STYLE_WORDS, mood_words
from training.text.words import DRUMS, INSTRUMENT_LEXICON, INSTRUMENT_SYNONYMS, STYLE_LEXICON, STYLE_SYNONYMS

_NEEDED = ("style", "genre", "moods", "instruments", "bpm", "time_signature", "room", "dynamics")
_OWN_SHARE = 0.3  # probability of one of the scorebook's own words
_LONG_SHARE = 0.5  # probability that another word is from the lexicon
_ABSENT_SHARE = 0.25  # of prompts for music without drums that say so
ABSENT = (
    "{} without drums", "{}, no drums", "no drums, {}", "drumless {}", "{}, without any drums", "{} with no percussion",
    "{} without a beat", "{} but no drums", "{} (no drums)", "beatless {}", "no percussion, just {}",
)  # fmt: skip
# Slots that a clip's labels can fill.
_FILLED = set("MGITBKR")
# Half of the prompts are put inside one of these requests.
REQUESTS = (
    "could you write {}", "i need {}", "looking for {}", "compose {}", "create {}", "generate {}", "make me {}",
    "we need {} for a video", "a track: {}", "{}, thanks", "{} for my game", "{} for a short film", "i'd love {}",
    "do you have {}", "think of {}", "how about {}", "{} would be great", "music like this: {}", "{}, instrumental",
    "my idea is {}", "{} as a backing track", "record {}", "try {}", "{} for a podcast", "it should be {}",
)  # fmt: skip
# Templates with these words are left out, because they state more than the labels do.
_UNSURE = (
    "vibes", "lullaby", "dance", "orchestral", "ensemble", "intro", "bassline", "chords", "loop", "banger",
    "soundtrack",
)  # fmt: skip


def _moods() -> dict[str, tuple[str, ...]]:
    """The words for each mood of the scorebook, its own name first."""
    out: dict[str, list[str]] = {}
    for word, moods in mood_words().items():
        for mood in moods:
            out.setdefault(mood, [mood]).append(word)
    return {mood: tuple(dict.fromkeys(words)) for mood, words in out.items()}


MOOD_SYNONYMS = _moods()

# Other words than the scorebook's by canonical name: the few of words.py, and the many of its lexicon.
Tables = tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]
OF_INSTRUMENTS: Tables = ({**INSTRUMENT_SYNONYMS, "drums": DRUMS}, {**INSTRUMENT_LEXICON, "drums": DRUMS})
OF_STYLES: Tables = (STYLE_SYNONYMS, STYLE_LEXICON)


def other_words(tables: Tables, name: str, rare: float) -> tuple[str, ...]:
    """Other words for a canonical name, of the lexicon if `rare` (0 to 1) is below `_LONG_SHARE`; may be empty."""
    few, many = tables
    return (many if rare < _LONG_SHARE else few).get(name, ())


class SynonymSpeaker(Speaker):
    """Fills the grammar of the training captions with synonyms."""

    def instrument(self, name: str) -> str:
        own = super().instrument(name)  # records it as stated
        synonyms = other_words(OF_INSTRUMENTS, name, self.rng.random())
        return own if not synonyms or self.chance(_OWN_SHARE) else self.pick(synonyms)

    def style(self) -> str:
        own = super().style()
        synonyms = other_words(OF_STYLES, self.facts.style, self.rng.random())
        return own if not synonyms or self.chance(_OWN_SHARE) else self.pick(synonyms)

    def mood(self) -> str:
        own = super().mood()
        return own if self.chance(_OWN_SHARE) else self.pick(MOOD_SYNONYMS.get(own, (own,)))


class ClipPrompts(PromptGrammar):
    """The templates of users' prompts, filled with labels of one clip; no prompt has an instrument twice."""

    def __init__(self, facts: Facts, seed: int):
        super().__init__(seed)
        self.facts = facts
        self.players = [*facts.instruments, *(["drums"] if facts.drums == "drums" else [])]
        alone = len(self.players) == 1 and facts.drums is None
        filled = _FILLED if facts.key else _FILLED - {"K"}
        self.templates = [
            text for text in AFFIRMING
            if {part for part in text.replace("}", "{").split("{")[1::2]} <= filled
            and text.count("{I}") <= len(self.players) and text.count("{M}") <= len(facts.moods)
            and (alone or "solo" not in text) and not any(word in text for word in _UNSURE)
        ]  # fmt: skip
        self.left: list[str] = []

    def slot(self, name: str) -> str:
        facts, choice = self.facts, self.random.choice
        if name == "I":
            player = self.left.pop(self.random.randrange(len(self.left)))
            own = DRUM_WORDS if player == "drums" else INSTRUMENTS[player].words
            more = other_words(OF_INSTRUMENTS, player, self.random.random())
            return choice(own if self.random.random() < _OWN_SHARE else more)
        if name == "G":
            own, more = facts.style_words, other_words(OF_STYLES, facts.style, self.random.random())
            return choice(own if self.random.random() < _OWN_SHARE else more)
        if name == "M":
            mood = choice(facts.moods)
            return choice(MOOD_SYNONYMS.get(mood, (mood,)))
        texts = {"T": choice(tempo_words(facts.bpm)), "B": f"{facts.bpm:g}", "K": facts.key, "R": facts.time_signature}
        return str(texts[name])

    def prompt(self) -> str:
        self.left = list(self.players)
        text = self.fill(self.random.choice(self.templates))
        if self.facts.drumless and self.random.random() < _ABSENT_SHARE:
            text = self.random.choice(ABSENT).format(text)
        return text if self.random.random() < 0.5 else self.random.choice(REQUESTS).format(text)


def facts_of(row: dict) -> Facts | None:
    """The labels of a scorebook row as `Facts`; None for a row with missing labels or unlisted names."""
    if any(row.get(name) is None for name in _NEEDED) or not set(row["instruments"]) <= set(INSTRUMENTS):
        return None
    if row["style"] not in STYLE_SYNONYMS or not row["moods"]:
        return None
    words = STYLE_WORDS.get(row["style"], STYLE_SYNONYMS[row["style"]])
    drums = "drums" if row.get("drums") else "percussion" if row.get("percussion") else None
    return Facts(
        style=row["style"], style_words=words, style_heldout_words=(), genre=row["genre"],
        moods=tuple(row["moods"]), instruments=tuple(row["instruments"]), melody=row.get("melody_instrument"),
        drums=drums, bpm=float(row["bpm"]), key=row.get("key"), time_signature=row["time_signature"], bars=None,
        room=row["room"], dynamics=row["dynamics"], loop=bool(row.get("loop")), complete=bool(row.get("complete")),
        production=row.get("production") or "", sidechain=bool(row.get("sidechain")),
    )  # fmt: skip


def reworded_captions(row: dict, count: int, rng: np.random.Generator) -> list[str]:
    """At most `count` more captions of a clip (a row of training/data/clips.py), each once, half of them prompts as
    users write them; none for a clip without the scorebook's labels."""
    facts = facts_of(row)
    if facts is None or count == 0:
        return []
    texts = [text for text, _ in captions(facts, count - count // 2, rng, SynonymSpeaker)]
    prompts = ClipPrompts(facts, int(rng.integers(2**31)))
    texts += [prompts.prompt() for _ in range(count // 2)] if prompts.templates else []
    return list(dict.fromkeys(texts))
