"""The word lists of the training texts (training/text/lexicon/).

Further words for the scorebook's instruments, styles and drums go by canonical name; the words of its own captions are
those of the instruments and styles themselves (training/data/scorebook/instruments.py and styles.py). The short lists
fill captions and prompts. The long ones (foreign names, makers, players, pieces, dances, related instruments,
misspellings) serve rewording.py and align.py. Their authors had not seen the held-out words, and entries that contain a
held-out word were removed; none may be here (test_text_tags.py), so that tests on them measure generalisation.

The others are words with which people ask for music in general: the slots of the prompt grammar (corpus.py).
"""

from training.text.lexicon import read_table
from training.text.moods import MOODS

INSTRUMENT_SYNONYMS, INSTRUMENT_LEXICON = read_table("instruments_short"), read_table("instruments")
STYLE_SYNONYMS, STYLE_LEXICON = read_table("styles_short"), read_table("styles")

_GENERAL = read_table("general")
MOOD_WORDS = tuple(dict.fromkeys(MOODS + _GENERAL["moods"]))
DRUMS, SOUNDS, TEMPOS, GENRES = (_GENERAL[name] for name in ("drums", "sounds", "tempos", "genres"))
INSTRUMENT_WORDS, SCENES, DECADES = (_GENERAL[name] for name in ("instruments", "scenes", "decades"))
KEY_NAMES, MODES, METERS = (_GENERAL[name] for name in ("keys", "modes", "meters"))
PROBES = _GENERAL["probes"]  # words whose nearest caption words the report of the text encoder shows
