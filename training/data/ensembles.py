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
        ("four string players", "quartet of strings")),
    Ensemble("string orchestra", ("string ensemble", "string ensemble", "string ensemble", "contrabass"),
        ("string orchestra", "classical strings"), ("large string section", "strings orchestra")),
    Ensemble("woodwind quartet", ("flute", "oboe", "clarinet", "bassoon"), ("woodwind quartet", "woodwinds"),
        ("wind quartet", "chamber winds")),
    Ensemble("brass quartet", ("trumpet", "french horn", "trombone", "tuba"), ("brass quartet",
        "brass ensemble"), ("brass players", "brass chamber group")),
    Ensemble("saxophone quartet", ("soprano sax", "alto sax", "tenor sax", "baritone sax"),
        ("saxophone quartet", "sax quartet"), ("four saxophones", "saxophone ensemble")),
    Ensemble("recorder consort", ("recorder", "recorder", "flute", "bassoon"), ("recorder consort",
        "early music"), ("renaissance music", "medieval recorders")),
    Ensemble("choir", ("choir", "choir", "choir", "choir"), ("choir music", "choral music", "chorale"),
        ("hymn", "a cappella choir"), "choral"),
    Ensemble("church organ", ("church organ",) * 4, ("church organ music", "organ chorale", "organ music"),
        ("church music on the organ", "organ prelude")),
    Ensemble("piano", ("piano",) * 4, ("classical piano", "piano music", "piano piece"),
        ("piano recital", "solo piano classics")),
    Ensemble("harpsichord", ("harpsichord",) * 4, ("baroque harpsichord", "baroque", "harpsichord music"),
        ("baroque keyboard music", "early keyboard music"), "baroque"),
    Ensemble("classical guitar", ("nylon guitar",) * 4, ("classical guitar", "guitar ensemble"),
        ("spanish guitar music", "guitar quartet")),
    Ensemble("mallets", ("vibraphone", "marimba", "marimba", "marimba"), ("mallet ensemble",
        "marimba ensemble"), ("tuned percussion", "percussion ensemble of mallets")),
    Ensemble("baroque trio", ("oboe", "violin", "harpsichord", "cello"), ("baroque ensemble",
        "baroque chamber music"), ("baroque chamber group", "continuo group"), "baroque"),
    Ensemble("orchestra", ("violin", "french horn", "string ensemble", "bassoon"), ("orchestral",
        "symphonic", "classical orchestra"), ("full orchestra", "philharmonic"), "orchestral"),
    Ensemble("synth quartet", ("saw lead", "square lead", "warm pad", "synth bass"), ("synth classical",
        "switched-on classical", "electronic classical"), ("moog classics", "synthesized classical"), "electronic"),
    Ensemble("8-bit classical", ("square lead", "square lead", "saw lead", "synth bass"), ("8-bit classical",
        "chiptune"), ("game console classics", "retro game classical"), "game music"),
    Ensemble("accordion", ("accordion", "accordion", "bandoneon", "bandoneon"), ("accordion ensemble",
        "accordion music"), ("accordion orchestra", "accordion group")),
    Ensemble("music box", ("music box", "music box", "celesta", "celesta"), ("music box", "music box tune"),
        ("musical box melody", "toy box melody"), "children"),
    Ensemble("pizzicato", ("pizzicato strings", "pizzicato strings", "pizzicato strings", "upright bass"),
        ("pizzicato strings", "plucked string ensemble"), ("pizzicato orchestra", "plucked orchestra")),
    Ensemble("harp and flute", ("flute", "clarinet", "harp", "harp"), ("chamber music with harp",
        "flute and harp music"), ("salon music", "flute and harp duo")),
    Ensemble("jazz group", ("vibraphone", "electric piano", "jazz guitar", "upright bass"),
        ("third stream jazz", "jazz bach", "cool jazz"), ("jazz chamber group", "jazzed-up classical"), "jazz"),
    Ensemble("folk group", ("fiddle", "mandolin", "accordion", "upright bass"), ("folk ensemble",
        "acoustic folk group"), ("village band", "acoustic roots band"), "folk"),
)  # fmt: skip
