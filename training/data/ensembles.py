"""Ensembles for polyphony."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ensemble:
    """Players for polyphony, from high to low; the words name it like a style."""

    name: str
    players: tuple[str, ...]
    words: tuple[str, ...]
    heldout_words: tuple[str, ...]
    genre: str = "classical"


ENSEMBLES = (
    Ensemble("string quartet", ("violin", "violin", "viola", "cello"), ("string quartet", "chamber strings"),
        ("foursome of bowed strings",)),
    Ensemble("string orchestra", ("string ensemble", "string ensemble", "string ensemble", "contrabass"),
        ("string orchestra", "classical strings"), ("massed bowed strings",)),
    Ensemble("woodwind quartet", ("flute", "oboe", "clarinet", "bassoon"), ("woodwind quartet", "woodwinds"),
        ("chamber winds",)),
    Ensemble("brass quartet", ("trumpet", "french horn", "trombone", "tuba"), ("brass quartet",
        "brass ensemble"), ("tower brass",)),
    Ensemble("saxophone quartet", ("soprano sax", "alto sax", "tenor sax", "baritone sax"),
        ("saxophone quartet", "sax quartet"), ("foursome of saxes",)),
    Ensemble("recorder consort", ("recorder", "recorder", "flute", "bassoon"), ("recorder consort",
        "early music"), ("tudor-era pipes",)),
    Ensemble("choir", ("choir", "choir", "choir", "choir"), ("choir music", "choral music", "chorale"),
        ("sung hymn",), "choral"),
    Ensemble("church organ", ("church organ",) * 4, ("church organ music", "organ chorale", "organ music"),
        ("chapel voluntary",)),
    Ensemble("piano", ("piano",) * 4, ("classical piano", "piano music", "piano piece"),
        ("keyboard recital",)),
    Ensemble("harpsichord", ("harpsichord",) * 4, ("baroque harpsichord", "baroque", "harpsichord music"),
        ("rococo keyboard",), "baroque"),
    Ensemble("classical guitar", ("nylon guitar",) * 4, ("classical guitar", "guitar ensemble"),
        ("gut-string ensemble",)),
    Ensemble("mallets", ("vibraphone", "marimba", "marimba", "marimba"), ("mallet ensemble",
        "marimba ensemble"), ("tuned percussion group",)),
    Ensemble("baroque trio", ("oboe", "violin", "harpsichord", "cello"), ("baroque ensemble",
        "baroque chamber music"), ("continuo band",), "baroque"),
    Ensemble("orchestra", ("violin", "french horn", "string ensemble", "bassoon"), ("orchestral",
        "symphonic", "classical orchestra"), ("philharmonic",), "orchestral"),
    Ensemble("synth quartet", ("saw lead", "square lead", "warm pad", "synth bass"), ("synth classical",
        "switched-on classical", "electronic classical"), ("moog-style classics",), "electronic"),
    Ensemble("8-bit classical", ("square lead", "square lead", "saw lead", "synth bass"), ("8-bit classical",
        "chiptune"), ("console-cartridge classics",), "game music"),
    Ensemble("accordion", ("accordion", "accordion", "bandoneon", "bandoneon"), ("accordion ensemble",
        "accordion music"), ("squeezed-reed group",)),
    Ensemble("music box", ("music box", "music box", "celesta", "celesta"), ("music box", "music box tune"),
        ("toy-like mechanism",), "children"),
    Ensemble("pizzicato", ("pizzicato strings", "pizzicato strings", "pizzicato strings", "upright bass"),
        ("pizzicato strings", "plucked string ensemble"), ("fingered orchestra strings",)),
    Ensemble("harp and flute", ("flute", "clarinet", "harp", "harp"), ("chamber music with harp",
        "flute and harp music"), ("salon chamber group",)),
    Ensemble("jazz group", ("vibraphone", "electric piano", "jazz guitar", "upright bass"),
        ("third stream jazz", "jazz bach", "cool jazz"), ("swingle-like jazz",), "jazz"),
    Ensemble("folk group", ("fiddle", "mandolin", "accordion", "upright bass"), ("folk ensemble",
        "acoustic folk group"), ("village band",), "folk"),
)  # fmt: skip
