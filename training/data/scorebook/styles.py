"""Accompaniment styles: the drums, bass and chord patterns of each meter, their instruments, tempos and words.

A pattern is a string with one character per sixteenth (16 in a bar of 4/4, 12 in 3/4 and 6/8, 8 in 2/4); patterns of
several bars repeat as a whole. "." is a rest in all of them.
    drums   X accent, x hit, o soft
    bass    r root, 3 third, 5 fifth, 6 sixth, 8 octave, a leads into the next root, w walks, - releases
    chords  X accent, x short, o held until the next character, - releases
"""

from dataclasses import dataclass, field

Patterns = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Style:
    """One style. `words` name it in training captions, `heldout_words` only in held-out captions."""

    name: str
    words: tuple[str, ...]
    heldout_words: tuple[str, ...]
    genre: str
    tempo: tuple[int, int]  # lowest and highest bpm
    moods: tuple[str, ...]
    melody: tuple[str, ...]
    comp_on: tuple[str, ...]
    bass_on: tuple[str, ...]
    kits: tuple[str, ...]
    # meter -> lane -> alternative patterns. Lanes: K kick, S snare, R rim, C clap, H closed hat, O open hat, P pedal
    # hat, D ride, T tambourine, A shaker, G L high and low conga, W woodblock, E claves, M low tom, B bodhran-like tom,
    # Y cymbal.
    drums: dict[str, Patterns] = field(default_factory=dict)
    bass: Patterns = field(default_factory=dict)
    comp: Patterns = field(default_factory=dict)
    pads: tuple[str, ...] = ("string ensemble", "warm pad")
    minor: float = 0.5  # probability of a minor key in generated pieces
    sevenths: float = 0.2  # probability of chords with sevenths
    swing: float = 0.5  # how late the second half of a beat (or, for `swing16`, of a half beat) comes: 0.5 is straight
    swing16: float = 0.5
    drum_share: float = 0.9  # probability of drums
    # pad_share, arpeggio_share: probability of a held pad and of an arpeggio
    pad_share: float = 0.25
    arpeggio_share: float = 0.15
    density: float = 0.5  # notes of a generated melody, 0 sparse to 1 busy
    gate: float = 0.9  # share of its length that a bass note sounds

    @property
    def meters(self) -> tuple[str, ...]:
        """Meters for which the style has an accompaniment."""
        return tuple(self.comp)


_STYLES = (
    # ---- popular music ----
    Style(
        name="lo-fi", genre="hip hop", tempo=(60, 98),
        words=("lo-fi", "lofi hip hop", "lo-fi beats", "chillhop"),
        heldout_words=("lo-fi study beats", "chill study music"),
        moods=("chill", "mellow", "relaxed", "nostalgic"),
        melody=("vibraphone", "electric piano", "flute", "piano", "jazz guitar", "muted trumpet", "alto sax"),
        comp_on=("electric piano", "piano", "jazz guitar", "nylon guitar"),
        bass_on=("electric bass", "upright bass", "synth bass"),
        kits=("standard", "808", "brush"),
        drums={
            "4/4": {"K": ("X.....x...x.....", "X......x..x.....", "X..x......x...x.", "X.........xx...."),
                "S": ("....X.......X...", "....X.......X..o"), "H": ("x.x.x.x.x.x.x.x.", "x.o.x.o.x.oox.o."),
                "A": ("................", "..x...x...x...x.")},
        },
        bass={"4/4": ("r.....r...5.....", "r......rr...a...", "r...........5.a.")},
        comp={"4/4": ("o.......o.......", "o.....o.........", "x..o......x.o...")},
        minor=0.6, sevenths=0.95, swing16=0.58, pad_share=0.35, density=0.35,
    ),
    Style(
        name="house", genre="electronic", tempo=(112, 134),
        words=("house", "deep house", "house music", "club house"),
        heldout_words=("four-on-the-floor club music", "garage house"),
        moods=("danceable", "energetic", "upbeat", "groovy"),
        melody=("saw lead", "piano", "synth brass", "square lead", "bell synth", "synth voice"),
        comp_on=("piano", "organ", "saw lead", "electric piano"),
        bass_on=("synth bass",),
        kits=("808", "electronic"),
        drums={
            "4/4": {"K": ("X...X...X...X...",), "C": ("....X.......X...",),
                "H": ("x.xxx.xxx.xxx.xx", "x...x...x...x..."), "O": ("..X...X...X...X.",),
                "A": ("................", "xoxoxoxoxoxoxoxo")},
        },
        bass={"4/4": ("..r...r...r...r.", "r..r..r.r..r..8.", "r.8.r.8.r.8.r.8.")},
        comp={"4/4": ("x..x..x...x..x..", "..x...x...x...x.", "x..x...x..x.....")},
        pads=("synth strings", "warm pad", "sweep pad"),
        minor=0.65, sevenths=0.5, pad_share=0.5, arpeggio_share=0.3,
    ),
    Style(
        name="techno", genre="electronic", tempo=(122, 150),
        words=("techno", "minimal techno", "driving techno"),
        heldout_words=("warehouse rave", "rave music"),
        moods=("hypnotic", "driving", "dark", "energetic"),
        melody=("square lead", "saw lead", "bell synth", "sine lead"),
        comp_on=("saw lead", "square lead", "clavinet"),
        bass_on=("synth bass",),
        kits=("808", "electronic"),
        drums={
            "4/4": {"K": ("X...X...X...X...",),
                "C": ("............X...", "....X.......X...", "................"),
                "H": ("..x...x...x...x.", "xxxxxxxxxxxxxxxx"), "O": ("................", "..X...X...X...X."),
                "R": ("...x..x....x..x.", "................"), "M": ("................", "..........x..x..")},
        },
        bass={"4/4": (".rrr.rrr.rrr.rrr", "r.r.r.r.r.r.r.r.", "..r...r...r..r8.")},
        comp={"4/4": ("x..x..x..x..x.x.", "......x.......x.", "x.....x.....x...")},
        pads=("sweep pad", "synth strings", "warm pad"),
        minor=0.85, pad_share=0.4, arpeggio_share=0.55,
    ),
    Style(
        name="drum and bass", genre="electronic", tempo=(155, 180),
        words=("drum and bass", "dnb", "drum & bass"),
        heldout_words=("jungle", "breakbeat"),
        moods=("fast", "energetic", "driving"),
        melody=("saw lead", "synth voice", "electric piano", "bell synth"),
        comp_on=("electric piano", "synth strings", "saw lead"),
        bass_on=("synth bass",),
        kits=("electronic", "standard"),
        drums={
            "4/4": {"K": ("X.........x.....", "X..x......x....."),
                "S": ("....X..o.o..X...", "....X.......X..o"), "H": ("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx")},
        },
        bass={"4/4": ("r.......r.......", "r..r......5.....", "r.....8...r.5...")},
        comp={"4/4": ("o...............", "x.....x.....x...")},
        pads=("warm pad", "sweep pad", "synth strings"),
        minor=0.75, sevenths=0.5, pad_share=0.6, density=0.4,
    ),
    Style(
        name="trap", genre="hip hop", tempo=(62, 90),
        words=("trap", "hip hop", "trap beat"),
        heldout_words=("rap beat", "808 hip-hop"),
        moods=("dark", "moody", "heavy"),
        melody=("bell synth", "piano", "square lead", "flute", "synth voice"),
        comp_on=("bell synth", "piano", "synth strings"),
        bass_on=("synth bass",),
        kits=("808",),
        drums={
            "4/4": {"K": ("X......x..x.....", "X.....x....x..x."), "C": ("....X.......X...",),
                "S": ("....x.......x...",),
                "H": ("x.x.x.xxx.x.x.xx", "xxxxxxxxxxxxxxxx", "x.xxx.x.xxx.x.xx")},
        },
        bass={"4/4": ("r......r..r.....", "r.....r....r....")},
        comp={"4/4": ("o...............", "x...x...x...x...")},
        minor=0.9, pad_share=0.4, arpeggio_share=0.35, density=0.4,
    ),
    Style(
        name="rock", genre="rock", tempo=(88, 168),
        words=("rock", "indie rock", "classic rock", "guitar rock"),
        heldout_words=("garage rock", "arena rock"),
        moods=("energetic", "powerful", "bold", "driving"),
        melody=("electric guitar", "overdriven guitar", "distorted guitar", "organ", "saw lead", "piano"),
        comp_on=("overdriven guitar", "distorted guitar", "electric guitar", "steel guitar"),
        bass_on=("electric bass",),
        kits=("standard", "power", "room"),
        drums={
            "4/4": {"K": ("X.......X.......", "X.....x.X.......", "X.......X.x.....", "X..x..x.X......."),
                "S": ("....X.......X...",), "H": ("x.x.x.x.x.x.x.x.", "x...x...x...x..."),
                "D": ("................", "x.x.x.x.x.x.x.x.")},
            "2/4": {"K": ("X.......", "X.....x."), "S": ("....X...",), "H": ("x.x.x.x.", "x...x...")},
            "3/4": {"K": ("X...........", "X.....x....."), "S": ("....X...X...", "........X..."),
                "H": ("x.x.x.x.x.x.",)},
            "6/8": {"K": ("X.........x.", "X..........."), "S": ("......X.....",), "H": ("x.x.x.x.x.x.",)},
        },
        bass={"4/4": ("r.r.r.r.r.r.r.r.", "r.......r...r.5.", "r...r...r...r.a."),
            "2/4": ("r.r.r.r.", "r...5..."), "3/4": ("r.r.r.r.r.r.", "r...r...5..."),
            "6/8": ("r.....r...5.", "r.r.r.r.r.r.")},
        comp={"4/4": ("x.x.x.x.x.x.x.x.", "o.......o.......", "X...x.x...x.x..."),
            "2/4": ("x.x.x.x.", "o...o..."), "3/4": ("o...x.x.x.x.", "o..........."),
            "6/8": ("o.....o.....", "x.x.x.x.x.x.")},
        minor=0.45, drum_share=0.97, pad_share=0.1,
    ),
    Style(
        name="funk", genre="funk", tempo=(88, 124),
        words=("funk", "funky", "groovy funk"),
        heldout_words=("70s funk jam", "p-funk"),
        moods=("groovy", "funky", "danceable", "playful"),
        melody=("alto sax", "tenor sax", "organ", "trumpet", "electric guitar", "synth brass"),
        comp_on=("muted guitar", "clavinet", "electric piano", "electric guitar"),
        bass_on=("slap bass", "electric bass"),
        kits=("standard", "room"),
        drums={
            "4/4": {"K": ("X..x..x...x..x..", "X.x.......x..x..", "X.....x..xx....."),
                "S": ("....X..o.o..X..o", "....X..o....X..o"), "H": ("xxxxxxxxxxxxxxxx", "x.xxx.xxx.xxx.xx"),
                "O": ("................", "..............x.")},
        },
        bass={"4/4": ("r..r..8...r..5a.", "r.-r.-..8.r.-.5.", "r...-.8.r.-..r8a")},
        comp={"4/4": ("..x..x.x..x..xx.", "x..x..x...x.x..x", ".xx..xx..xx..xx.")},
        minor=0.6, sevenths=0.9, pad_share=0.1, density=0.55, gate=0.6,
    ),
    Style(
        name="disco", genre="disco", tempo=(108, 132),
        words=("disco", "seventies disco", "dance pop"),
        heldout_words=("boogie", "70s dance floor"),
        moods=("danceable", "happy", "bright", "upbeat"),
        melody=("string ensemble", "trumpet", "synth brass", "piano", "flute", "saw lead"),
        comp_on=("electric guitar", "piano", "muted guitar", "electric piano"),
        bass_on=("electric bass", "slap bass", "synth bass"),
        kits=("standard", "electronic"),
        drums={
            "4/4": {"K": ("X...X...X...X...",), "S": ("....X.......X...",), "H": ("xx.xxx.xxx.xxx.x",),
                "O": ("..X...X...X...X.",)},
        },
        bass={"4/4": ("r.8.r.8.r.8.r.8.", "r.8.r.85r.8.r.8a")},
        comp={"4/4": ("..x...x...x...x.", "..xx..xx..xx..xx")},
        pads=("string ensemble", "synth strings"),
        sevenths=0.6, pad_share=0.5, gate=0.7,
    ),
    Style(
        name="bossa nova", genre="latin", tempo=(100, 150),
        words=("bossa nova", "bossa", "brazilian bossa nova"),
        heldout_words=("brazilian jazz", "brazilian lounge"),
        moods=("relaxed", "sunny", "smooth", "warm"),
        melody=("flute", "tenor sax", "nylon guitar", "piano", "vibraphone", "clarinet"),
        comp_on=("nylon guitar", "electric piano", "piano", "jazz guitar"),
        bass_on=("upright bass", "electric bass"),
        kits=("jazz", "brush", "standard"),
        drums={
            "4/4": {"K": ("X.....x.X.....x.",),
                "R": ("x.....x.....x...x...x.....x.....", "x.....x.....x.......x.....x....."),
                "H": ("x.x.x.x.x.x.x.x.",), "A": ("................", "xoxoxoxoxoxoxoxo")},
        },
        bass={"4/4": ("r.....5.5.....r.", "r.....5.5.......")},
        comp={"4/4": ("x...x..x...x..x...x...x...x...x.", "x..x..x...x..x..", "o.....o.....o...")},
        sevenths=1.0, pad_share=0.15,
    ),
    Style(
        name="salsa", genre="latin", tempo=(85, 112),
        words=("salsa", "latin", "afro-cuban"),
        heldout_words=("cuban dance music", "mambo"),
        moods=("lively", "danceable", "festive", "sunny"),
        melody=("trumpet", "flute", "brass section", "piano", "trombone"),
        comp_on=("piano",),
        bass_on=("upright bass", "electric bass"),
        kits=("standard",),
        drums={
            "4/4": {"E": ("x.....x.....x.......x...x.......", "....x...x.......x.....x.....x..."),
                "G": ("x.xx..xxx.xx..xx", "..xx..xx..xx..xx"), "L": ("......x.......x.",),
                "T": ("x...x.x.x...x.x.", "................"), "K": ("X.......X.......",)},
        },
        bass={"4/4": ("r.....5.....8...", "......5.....r...")},
        comp={"4/4": ("x.xx.x.xx.x.x.x.", "x..x.xx..x.xx.x.")},
        minor=0.7, sevenths=0.5, pad_share=0.1, density=0.6,
    ),
    Style(
        name="reggae", genre="reggae", tempo=(66, 96),
        words=("reggae", "roots reggae", "laid-back reggae"),
        heldout_words=("jamaican music", "roots dub"),
        moods=("laid-back", "sunny", "relaxed", "warm"),
        melody=("organ", "trombone", "alto sax", "harmonica", "electric guitar", "steel drums"),
        comp_on=("electric guitar", "organ", "piano"),
        bass_on=("electric bass",),
        kits=("standard", "room"),
        drums={
            "4/4": {"K": ("........X.......", "X.......X......."), "R": ("........X.......",),
                "H": ("x.x.x.x.x.x.x.x.", "..x...x...x...x."), "S": ("................", "........X.......")},
        },
        bass={"4/4": ("r..r....5..r8...", "r...r.5.....r.3.", "....r.r.5...3...")},
        comp={"4/4": ("....x.......x...", "..x...x...x...x.")},
        minor=0.45, swing=0.55, gate=0.8,
    ),
    Style(
        name="jazz swing", genre="jazz", tempo=(92, 178),
        words=("jazz", "swing", "swing jazz", "jazz combo"),
        heldout_words=("bebop", "straight-ahead jazz"),
        moods=("swinging", "cool", "smooth", "lively"),
        melody=("tenor sax", "alto sax", "trumpet", "muted trumpet", "vibraphone", "clarinet", "jazz guitar",
            "piano"),
        comp_on=("piano", "jazz guitar", "vibraphone"),
        bass_on=("upright bass",),
        kits=("jazz", "brush"),
        drums={
            "4/4": {"D": ("x...x.x.x...x.x.", "X...x.x.x...x.xo"), "P": ("....x.......x...",),
                "K": ("o...o...o...o...", "x.............x."),
                "S": ("......o.........", "..............o.", "................")},
            "3/4": {"D": ("x...x.x.x...", "x...x.x.x.x."), "P": ("....x...x...",), "K": ("x...........",)},
        },
        bass={"4/4": ("w...w...w...w...",), "3/4": ("w...w...w...", "r.......5...")},
        comp={"4/4": ("......x.......x.", "x.....x.........", "..x.......x.....", "x..........x...."),
            "3/4": ("x.....x.....", "....x.....x.")},
        minor=0.4, sevenths=1.0, swing=0.64, pad_share=0.03, density=0.6,
    ),
    Style(
        name="blues", genre="blues", tempo=(66, 136),
        words=("blues", "blues shuffle", "slow blues"),
        heldout_words=("twelve-bar blues", "delta blues"),
        moods=("bluesy", "soulful", "raw", "laid-back"),
        melody=("harmonica", "overdriven guitar", "tenor sax", "organ", "piano", "electric guitar"),
        comp_on=("piano", "organ", "electric guitar", "honky-tonk piano"),
        bass_on=("electric bass", "upright bass"),
        kits=("standard", "room"),
        drums={
            "4/4": {"K": ("X.......X.......", "X.....x.X......."), "S": ("....X.......X...",),
                "H": ("x.x.x.x.x.x.x.x.",), "D": ("................", "x.x.x.x.x.x.x.x.")},
        },
        bass={"4/4": ("r...3...5...6...", "r.r.3.3.5.5.3.3.", "w...w...w...w...")},
        comp={"4/4": ("x.x.x.x.x.x.x.x.", "......x.......x.", "o.......o.....x.")},
        minor=0.3, sevenths=0.9, swing=0.66, pad_share=0.05,
    ),
    Style(
        name="ballad", genre="pop", tempo=(55, 92),
        words=("ballad", "pop ballad", "slow ballad"),
        heldout_words=("love song", "slow love song"),
        moods=("tender", "romantic", "emotional", "gentle"),
        melody=("piano", "violin", "cello", "flute", "alto sax", "electric guitar", "oboe", "pan flute"),
        comp_on=("piano", "electric piano", "steel guitar", "nylon guitar"),
        bass_on=("electric bass", "fretless bass", "upright bass"),
        kits=("standard", "room", "brush"),
        drums={
            "4/4": {"K": ("X.......x.......", "X.....x.x......."), "S": ("....X.......X...",),
                "R": ("................",), "H": ("x.x.x.x.x.x.x.x.", "x...x...x...x...")},
            "3/4": {"K": ("X...........",), "S": ("........X...", "....x...x..."),
                "H": ("x.x.x.x.x.x.", "x...x...x...")},
            "6/8": {"K": ("X.........x.", "X..........."), "S": ("......X.....",), "H": ("x.x.x.x.x.x.",)},
        },
        bass={"4/4": ("r.......r.......", "r.......5.....r.", "r..............."),
            "3/4": ("r...........", "r.......5..."), "6/8": ("r.....5.....", "r.........5.")},
        comp={"4/4": ("o...o...o...o...", "o.......o.......", "x.x.x.x.x.x.x.x."),
            "3/4": ("o...o...o...", "x.x.x.x.x.x."), "6/8": ("x.x.x.x.x.x.", "o.....o.....")},
        minor=0.45, sevenths=0.35, drum_share=0.6, pad_share=0.5, arpeggio_share=0.4, density=0.35,
    ),
    # ---- dances, games, films and folk music ----
    Style(
        name="waltz", genre="classical", tempo=(84, 178),
        words=("waltz", "viennese waltz", "waltz in three"),
        heldout_words=("ballroom dance in three", "valse"),
        moods=("elegant", "graceful", "romantic", "charming"),
        melody=("violin", "flute", "accordion", "clarinet", "piano", "oboe", "string ensemble"),
        comp_on=("string ensemble", "piano", "accordion", "pizzicato strings", "harp", "bandoneon"),
        bass_on=("contrabass", "upright bass", "tuba", "bassoon"),
        kits=("orchestra", "standard", "brush"),
        drums={
            "3/4": {"K": ("X...........",), "S": ("....o...o...",), "Y": ("............", "....o...o..."),
                "T": ("............", "....x...x...")},
        },
        bass={"3/4": ("r...........", "r...-.......")},
        comp={"3/4": ("....x...x...", "....X...x...")},
        minor=0.4, drum_share=0.45,
    ),
    Style(
        name="march", genre="march", tempo=(92, 132),
        words=("march", "military march", "parade march"),
        heldout_words=("parade music", "marching band"),
        moods=("proud", "bold", "triumphant", "festive"),
        melody=("trumpet", "piccolo", "brass section", "clarinet", "flute", "french horn"),
        comp_on=("brass section", "french horn", "trombone"),
        bass_on=("tuba", "contrabass"),
        kits=("orchestra", "standard"),
        drums={
            "4/4": {"K": ("X.......X.......",),
                "S": ("X..xx...X..xx.x.", "x.xxx.xxx.xxx.x.", "X...x.xxX...x..."),
                "Y": ("x.......x.......", "................")},
            "2/4": {"K": ("X...x...", "X......."), "S": ("..x...xx", "X.xxX.x.", "..x...x."),
                "Y": ("x.......", "........")},
            "6/8": {"K": ("X.....x.....",), "S": ("x...x.x...x.", "x.x.x.x...x."),
                "Y": ("............", "X...........")},
        },
        bass={"4/4": ("r...5...r...5...",), "2/4": ("r...5...",), "6/8": ("r.....5.....",)},
        comp={"4/4": ("..x...x...x...x.", "....x.......x..."), "2/4": ("..x...x.",),
            "6/8": ("....x.....x.",)},
        minor=0.2, density=0.6, gate=0.6,
    ),
    Style(
        name="ambient", genre="ambient", tempo=(55, 110),
        words=("ambient", "atmospheric", "ambient soundscape"),
        heldout_words=("floating soundscape", "drone music"),
        moods=("calm", "dreamy", "ethereal", "peaceful"),
        melody=("bell synth", "sine lead", "flute", "piano", "kalimba", "synth voice"),
        comp_on=("choir pad", "glass pad", "warm pad", "sweep pad"),
        bass_on=("synth bass", "fretless bass"),
        kits=("brush", "808"),
        drums={
            "4/4": {"A": ("x...x...x...x...", "..x...x...x...x."),
                "K": ("X...............", "................")},
            "3/4": {"A": ("x...x...x...",)},
            "6/8": {"A": ("x.....x.....",)},
        },
        bass={"4/4": ("r...............",), "3/4": ("r...........",), "6/8": ("r...........",)},
        comp={"4/4": ("o...............",), "3/4": ("o...........",), "6/8": ("o...........",)},
        pads=("warm pad", "choir pad", "string ensemble"),
        sevenths=0.5, drum_share=0.3, pad_share=0.5, arpeggio_share=0.85, density=0.2,
    ),
    Style(
        name="chiptune", genre="game music", tempo=(90, 178),
        words=("chiptune", "8-bit", "retro video game music"),
        heldout_words=("arcade game music", "NES music"),
        moods=("playful", "bright", "energetic", "quirky"),
        melody=("square lead",),
        comp_on=("square lead", "saw lead"),
        bass_on=("synth bass", "square lead"),
        kits=("electronic", "808"),
        drums={
            "4/4": {"K": ("X...x...X...x...", "X.....x.X......."), "S": ("....X.......X...",),
                "H": ("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx")},
            "2/4": {"K": ("X.......",), "S": ("....X...",), "H": ("x.x.x.x.",)},
            "3/4": {"K": ("X...........",), "S": ("....x...x...",), "H": ("x.x.x.x.x.x.",)},
            "6/8": {"K": ("X...........",), "S": ("......X.....",), "H": ("x.x.x.x.x.x.",)},
        },
        bass={"4/4": ("r.8.r.8.r.8.r.8.", "r.r.8.r.r.r.8.r."), "2/4": ("r.8.r.8.",), "3/4": ("r.8.5.8.5.8.",),
            "6/8": ("r...8.r...8.",)},
        comp={"4/4": ("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx"), "2/4": ("x.x.x.x.",), "3/4": ("x.x.x.x.x.x.",),
            "6/8": ("x.x.x.x.x.x.",)},
        pad_share=0.0, arpeggio_share=0.6, density=0.75, gate=0.6,
    ),
    Style(
        name="folk", genre="folk", tempo=(72, 152),
        words=("folk", "acoustic folk", "country folk"),
        heldout_words=("campfire song", "singer-songwriter"),
        moods=("warm", "simple", "cheerful", "earthy"),
        melody=("fiddle", "harmonica", "flute", "whistle", "mandolin", "accordion", "violin", "recorder",
            "banjo", "steel guitar"),
        comp_on=("steel guitar", "nylon guitar", "banjo", "accordion", "piano", "ukulele"),
        bass_on=("upright bass", "electric bass"),
        kits=("standard", "brush"),
        drums={
            "4/4": {"K": ("X.......X.......",), "S": ("....x.......x...",),
                "T": ("....x.......x...", "x.x.x.x.x.x.x.x."), "A": ("................", "x.x.x.x.x.x.x.x.")},
            "2/4": {"K": ("X.......", "X...x..."), "S": ("....x...",), "T": ("..x...x.", "....x...")},
            "3/4": {"K": ("X...........",), "T": ("....x...x...",), "A": ("............", "x.x.x.x.x.x.")},
            "6/8": {"K": ("X.....x.....",), "T": ("....x.....x.", "x.x.x.x.x.x.")},
        },
        bass={"4/4": ("r.......5.......", "r...5...r...5..."), "2/4": ("r...5...",), "3/4": ("r...........",),
            "6/8": ("r.....5.....",)},
        comp={"4/4": ("....x.x.....x.x.", "x...x.x...x.x...", "....x.......x..."),
            "2/4": ("..x...x.", "....x..."), "3/4": ("....x...x...", "x.x.x.x.x.x."),
            "6/8": ("....x.....x.", "x...x.x...x.")},
        minor=0.3, drum_share=0.45, arpeggio_share=0.2, density=0.55,
    ),
    Style(
        name="celtic", genre="folk", tempo=(84, 132),
        words=("celtic", "irish jig", "irish dance"),
        heldout_words=("ceilidh music", "irish pub session"),
        moods=("lively", "merry", "danceable", "bouncy"),
        melody=("fiddle", "whistle", "flute", "bagpipes", "accordion", "dulcimer", "banjo", "harp"),
        comp_on=("steel guitar", "mandolin", "accordion", "harp"),
        bass_on=("upright bass", "cello"),
        kits=("standard", "orchestra"),
        drums={
            "6/8": {"B": ("X.x.x.X.x.x.", "X...x.X...x."), "K": ("X.....x.....", "............")},
            "4/4": {"B": ("X.x.x.x.X.x.x.x.", "X..xx.x.X..xx.x."),
                "K": ("X.......X.......", "................")},
            "2/4": {"B": ("X.x.x.x.", "X..xx.x."), "K": ("X.......", "........")},
        },
        bass={"6/8": ("r.....5.....", "r.....r....."), "4/4": ("r.......5.......",), "2/4": ("r...5...",)},
        comp={"6/8": ("x...x.x...x.", "o.....o....."), "4/4": ("x...x.x.x...x.x.", "o.......o......."),
            "2/4": ("x...x.x.", "..x...x.")},
        minor=0.35, drum_share=0.75, density=0.8,
    ),
    Style(
        name="polka", genre="folk", tempo=(104, 150),
        words=("polka", "oompah polka", "beer-hall polka"),
        heldout_words=("bohemian dance", "oom-pah music"),
        moods=("merry", "cheerful", "bouncy", "festive"),
        melody=("accordion", "clarinet", "trumpet", "fiddle", "xylophone"),
        comp_on=("accordion", "piano", "banjo"),
        bass_on=("tuba", "upright bass"),
        kits=("standard",),
        drums={
            "2/4": {"K": ("X...x...",), "S": ("..x...x.",), "Y": ("........", "x.......")},
            "4/4": {"K": ("X...x...X...x...",), "S": ("..x...x...x...x.",)},
        },
        bass={"2/4": ("r...5...",), "4/4": ("r...5...r...5...",)},
        comp={"2/4": ("..x...x.",), "4/4": ("..x...x...x...x.",)},
        minor=0.15, density=0.7, gate=0.6,
    ),
    Style(
        name="lullaby", genre="children", tempo=(55, 96),
        words=("lullaby", "music box lullaby", "cradle song"),
        heldout_words=("bedtime song", "berceuse"),
        moods=("gentle", "sweet", "sleepy", "innocent"),
        melody=("music box", "celesta", "glockenspiel", "kalimba", "flute", "ocarina"),
        comp_on=("music box", "harp", "celesta", "nylon guitar"),
        bass_on=("cello", "fretless bass"),
        kits=("brush",),
        drums={
            "4/4": {"W": ("................",), "A": ("o...o...o...o...",)},
            "3/4": {"A": ("o...o...o...",)},
            "6/8": {"A": ("o.....o.....",)},
        },
        bass={"4/4": ("r.......5.......",), "3/4": ("r...........",), "6/8": ("r...........",)},
        comp={"4/4": ("x...x...x...x...", "x.x.x.x.x.x.x.x."), "3/4": ("x...x...x...",),
            "6/8": ("x.x.x.x.x.x.", "x.....x.....")},
        minor=0.3, drum_share=0.12, arpeggio_share=0.6, density=0.4,
    ),
    Style(
        name="cinematic", genre="orchestral", tempo=(60, 140),
        words=("cinematic", "film score", "orchestral film music"),
        heldout_words=("movie trailer music", "symphonic score"),
        moods=("epic", "dramatic", "heroic", "majestic"),
        melody=("french horn", "string ensemble", "violin", "choir", "trumpet", "oboe", "cello"),
        comp_on=("string ensemble", "pizzicato strings", "brass section", "harp"),
        bass_on=("contrabass", "cello", "timpani"),
        kits=("orchestra",),
        drums={
            "4/4": {"M": ("X.....x.X...x...", "X..x..x.X..x..x.", "X.......X......."),
                "Y": ("................", "X..............."), "S": ("................", "x.xxx.xxx.xxx.xx")},
            "3/4": {"M": ("X...x...x...", "X.....x.x..."), "Y": ("............", "X...........")},
            "6/8": {"M": ("X...x.X...x.", "X.....x....."), "Y": ("............",)},
        },
        bass={"4/4": ("r.......r.......", "r.r.r.r.r.r.r.r."), "3/4": ("r...........", "r.r.r.r.r.r."),
            "6/8": ("r.....r.....",)},
        comp={"4/4": ("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx", "o.......o......."),
            "3/4": ("x.x.x.x.x.x.", "o..........."), "6/8": ("x.x.x.x.x.x.", "o.....o.....")},
        pads=("string ensemble", "choir", "french horn", "tremolo strings"),
        minor=0.7, drum_share=0.7, pad_share=0.6, arpeggio_share=0.3, density=0.35,
    ),
)  # fmt: skip

STYLES: dict[str, Style] = {style.name: style for style in _STYLES}
