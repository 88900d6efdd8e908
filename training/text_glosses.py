"""Words that a general sentence encoder does not know as music, spelled out for it.

The teacher reads "8-bit" as a word of computing and "allegro" as a name; so it is given the explanation in its place,
while the student reads what the user wrote. A reader's own glossary may be as long as it likes: only training has it.
"""

import re

_GLOSSES: dict[str, str] = {
    # slang and styles
    "banger": "energetic dance party song", "bop": "catchy happy song", "jam": "groovy music", "vibes": "mood",
    "chill": "calm relaxed", "chillhop": "relaxed lo-fi hip hop", "chillout": "calm relaxed electronic",
    "chillwave": "relaxed dreamy synth pop", "lofi": "relaxed lo-fi", "lo-fi": "relaxed lo-fi",
    "8-bit": "chiptune video game music", "16-bit": "chiptune video game music",
    "8bit": "chiptune video game music", "chiptune": "chiptune video game music", "nes": "chiptune video game",
    "gameboy": "chiptune video game", "edm": "electronic dance music", "idm": "experimental electronic music",
    "dnb": "drum and bass", "rnb": "rhythm and blues", "r&b": "rhythm and blues", "hiphop": "hip hop",
    "psytrance": "psychedelic trance music", "phonk": "dark trap music",
    "synthwave": "retro eighties synthesizer music", "retrowave": "retro eighties synthesizer music",
    "vaporwave": "slow dreamy retro synthesizer music", "outrun": "retro eighties synthesizer music",
    "dubstep": "heavy electronic bass music", "downtempo": "slow electronic", "uptempo": "fast",
    "up-tempo": "fast", "hardstyle": "hard fast electronic dance music", "gabber": "very fast hard techno",
    "grunge": "rough nineties rock", "shoegaze": "dreamy noisy guitar rock",
    "boom bap": "old-school hip hop beat", "muzak": "elevator background music",
    "lullaby": "gentle bedtime lullaby for a sleeping baby", "shanty": "sailor folk song",
    "bossa": "bossa nova", "nocturne": "quiet night piano piece", "requiem": "solemn mass for the dead",
    "dirge": "slow sad funeral song", "elegy": "sad mournful piece", "minuet": "elegant baroque dance in three",
    "gigue": "lively baroque dance", "jig": "lively irish folk dance", "reel": "fast irish folk dance",
    "hornpipe": "lively sailor folk dance", "strathspey": "scottish folk dance",
    "gavotte": "elegant baroque dance", "sarabande": "slow solemn baroque dance",
    "bourree": "lively baroque dance", "fugue": "baroque polyphonic fugue", "chorale": "church hymn for choir",
    "polka": "lively bohemian folk dance", "mazurka": "polish folk dance in three",
    "scherzo": "playful quick piece", "valse": "waltz", "bass line": "bass", "bassline": "bass",
    "808": "electronic drum machine", "909": "techno drum machine",
    # tempo and dynamics
    "largo": "very slow", "larghetto": "slow", "lento": "slow", "adagio": "slow", "adagietto": "slow",
    "andante": "moderately slow walking", "andantino": "moderate walking", "moderato": "moderate",
    "allegretto": "moderately fast", "allegro": "fast", "vivace": "lively and fast",
    "vivacissimo": "very lively and fast", "presto": "very fast", "prestissimo": "extremely fast",
    "rubato": "free flexible tempo", "pianissimo": "very quiet", "fortissimo": "very loud", "forte": "loud",
    "mezzo forte": "moderately loud", "mezzo piano": "moderately quiet", "crescendo": "getting louder",
    "diminuendo": "getting quieter", "bpm": "beats per minute", "staccato": "short detached notes",
    "legato": "smooth connected notes", "pizzicato": "plucked strings",
    # instruments
    "rhodes": "electric piano", "wurlitzer": "electric piano", "cembalo": "harpsichord",
    "celeste": "celesta bells", "celesta": "celesta bells", "vibes solo": "vibraphone solo", "sax": "saxophone",
    "uke": "ukulele", "synth": "synthesizer", "pad": "synthesizer background chords",
    "saw lead": "bright synthesizer melody", "square lead": "chiptune synthesizer melody",
    "sine lead": "soft synthesizer melody", "bell synth": "synthesizer bells",
    "warm pad": "warm synthesizer chords", "choir pad": "synthesizer choir", "toms": "tom drums",
    "hi-hat": "cymbals", "hi-hats": "cymbals", "kick": "bass drum", "keys": "piano keyboard",
    "strings": "violins and string orchestra", "winds": "flutes and woodwind instruments",
    "horn": "french horn", "horns": "brass instruments", "bass": "bass guitar",
}  # fmt: skip
_PATTERN = re.compile(
    r"(?<![\w-])(" + "|".join(re.escape(word) for word in sorted(_GLOSSES, key=len, reverse=True)) + r")(?![\w-])",
    re.IGNORECASE,
)


def spelled_out(text: str) -> str:
    """The text with every word of the glossary explained, as the teacher reads it."""
    return _PATTERN.sub(lambda match: _GLOSSES[match.group(1).lower()], text)
