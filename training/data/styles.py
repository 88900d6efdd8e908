"""Accompaniment styles as tables: for each meter what drums, bass and chords play, on which instruments, how fast.

A pattern is a string with one character per sixteenth (16 in a bar of 4/4, 12 in 3/4 and 6/8, 8 in 2/4); a string of
several bars is played through. Drums: X accent, x hit, o soft. Bass: r root, 5 fifth, 8 octave, 3 third, a leads into
the next root, w walks, - releases. Chords: X accent, x short, o held until the next character, - releases.
"""

from dataclasses import dataclass, field

Patterns = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Style:
    """One style; `words` name it in training captions, `heldout_words` in no training caption.

    Attributes:
        tempo: lowest and highest bpm.
        minor: probability of a minor key in generated pieces.
        sevenths: probability of chords with sevenths.
        swing: how late the second half of a beat (or, for `swing16`, of a half beat) comes: 0.5 is straight.
        drums: meter -> lane -> alternatives. Lanes: K kick, S snare, R rim, C clap, H closed hat, O open hat, P pedal hat,
            D ride, T tambourine, A shaker, G L high and low conga, W woodblock, E claves, M low tom, B bodhran-like tom,
            Y cymbal.
        drum_share: how often drums play.
        pad_share, arpeggio_share: how often a held pad or an arpeggio is added.
        density: notes of a generated melody, 0 sparse to 1 busy.
        gate: share of its length that a bass note sounds.
    """

    name: str
    words: tuple[str, ...]
    heldout_words: tuple[str, ...]
    genre: str
    tempo: tuple[int, int]
    moods: tuple[str, ...]
    melody: tuple[str, ...]
    comp_on: tuple[str, ...]
    bass_on: tuple[str, ...]
    kits: tuple[str, ...]
    drums: dict[str, Patterns] = field(default_factory=dict)
    bass: Patterns = field(default_factory=dict)
    comp: Patterns = field(default_factory=dict)
    pads: tuple[str, ...] = ("string ensemble", "warm pad")
    minor: float = 0.5
    sevenths: float = 0.2
    swing: float = 0.5
    swing16: float = 0.5
    drum_share: float = 0.9
    pad_share: float = 0.25
    arpeggio_share: float = 0.15
    density: float = 0.5
    gate: float = 0.9
    rooms: tuple[str, ...] = ("dry", "room", "room")

    @property
    def meters(self) -> tuple[str, ...]:
        """Meters for which the style has an accompaniment."""
        return tuple(self.comp)


_ALL = (
    Style("lo-fi", ("lo-fi", "lofi hip hop", "lo-fi beats", "chillhop"), ("lo-fi study beat", "dusty chill beat"),
          "hip hop", (60, 98), ("chill", "mellow", "relaxed", "nostalgic"),
          ("vibraphone", "electric piano", "flute", "piano", "jazz guitar", "muted trumpet", "alto sax"),
          ("electric piano", "piano", "jazz guitar", "nylon guitar"), ("electric bass", "upright bass", "synth bass"),
          ("standard", "808", "brush"),
          {"4/4": {"K": ("X.....x...x.....", "X......x..x.....", "X..x......x...x.", "X.........xx...."),
                   "S": ("....X.......X...", "....X.......X..o"), "H": ("x.x.x.x.x.x.x.x.", "x.o.x.o.x.oox.o."),
                   "A": ("................", "..x...x...x...x.")}},
          {"4/4": ("r.....r...5.....", "r......rr...a...", "r...........5.a.")},
          {"4/4": ("o.......o.......", "o.....o.........", "x..o......x.o...")},
          minor=0.6, sevenths=0.95, swing16=0.58, pad_share=0.35, density=0.35),
    Style("house", ("house", "deep house", "house music", "club house"), ("four-to-the-floor club groove", "garage house"),
          "electronic", (112, 134), ("danceable", "energetic", "upbeat", "groovy"),
          ("saw lead", "piano", "synth brass", "square lead", "bell synth", "synth voice"),
          ("piano", "organ", "saw lead", "electric piano"), ("synth bass",), ("808", "electronic"),
          {"4/4": {"K": ("X...X...X...X...",), "C": ("....X.......X...",), "H": ("x.xxx.xxx.xxx.xx", "x...x...x...x..."),
                   "O": ("..X...X...X...X.",), "A": ("................", "xoxoxoxoxoxoxoxo")}},
          {"4/4": ("..r...r...r...r.", "r..r..r.r..r..8.", "r.8.r.8.r.8.r.8.")},
          {"4/4": ("x..x..x...x..x..", "..x...x...x...x.", "x..x...x..x.....")},
          pads=("synth strings", "warm pad", "sweep pad"), minor=0.65, sevenths=0.5, pad_share=0.5, arpeggio_share=0.3),
    Style("techno", ("techno", "minimal techno", "driving techno"), ("warehouse rave track", "peak-time club track"),
          "electronic", (122, 150), ("hypnotic", "driving", "dark", "energetic"),
          ("square lead", "saw lead", "bell synth", "sine lead"), ("saw lead", "square lead", "clavinet"), ("synth bass",),
          ("808", "electronic"),
          {"4/4": {"K": ("X...X...X...X...",), "C": ("............X...", "....X.......X...", "................"),
                   "H": ("..x...x...x...x.", "xxxxxxxxxxxxxxxx"), "O": ("................", "..X...X...X...X."),
                   "R": ("...x..x....x..x.", "................"), "M": ("................", "..........x..x..")}},
          {"4/4": (".rrr.rrr.rrr.rrr", "r.r.r.r.r.r.r.r.", "..r...r...r..r8.")},
          {"4/4": ("x..x..x..x..x.x.", "......x.......x.", "x.....x.....x...")},
          pads=("sweep pad", "synth strings", "warm pad"), minor=0.85, sevenths=0.2, pad_share=0.4, arpeggio_share=0.55),
    Style("drum and bass", ("drum and bass", "dnb", "drum & bass"), ("jungle breaks", "fast breakbeat track"),
          "electronic", (155, 180), ("fast", "energetic", "driving"),
          ("saw lead", "synth voice", "electric piano", "bell synth"), ("electric piano", "synth strings", "saw lead"),
          ("synth bass",), ("electronic", "standard"),
          {"4/4": {"K": ("X.........x.....", "X..x......x....."), "S": ("....X..o.o..X...", "....X.......X..o"),
                   "H": ("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx")}},
          {"4/4": ("r.......r.......", "r..r......5.....", "r.....8...r.5...")}, {"4/4": ("o...............", "x.....x.....x...")},
          pads=("warm pad", "sweep pad", "synth strings"), minor=0.75, sevenths=0.5, pad_share=0.6, density=0.4),
    Style("trap", ("trap", "hip hop", "trap beat"), ("808 hip-hop instrumental", "rap beat"),
          "hip hop", (62, 90), ("dark", "moody", "heavy"),
          ("bell synth", "piano", "square lead", "flute", "synth voice"), ("bell synth", "piano", "synth strings"),
          ("synth bass",), ("808",),
          {"4/4": {"K": ("X......x..x.....", "X.....x....x..x."), "C": ("....X.......X...",), "S": ("....x.......x...",),
                   "H": ("x.x.x.xxx.x.x.xx", "xxxxxxxxxxxxxxxx", "x.xxx.x.xxx.x.xx")}},
          {"4/4": ("r......r..r.....", "r.....r....r....")}, {"4/4": ("o...............", "x...x...x...x...")},
          minor=0.9, pad_share=0.4, arpeggio_share=0.35, density=0.4),
    Style("rock", ("rock", "indie rock", "classic rock", "guitar rock"), ("garage band tune", "stadium rock"),
          "rock", (88, 168), ("energetic", "powerful", "bold", "driving"),
          ("electric guitar", "overdriven guitar", "distorted guitar", "organ", "saw lead", "piano"),
          ("overdriven guitar", "distorted guitar", "electric guitar", "steel guitar"), ("electric bass",), ("standard", "power", "room"),
          {"4/4": {"K": ("X.......X.......", "X.....x.X.......", "X.......X.x.....", "X..x..x.X......."),
                   "S": ("....X.......X...",), "H": ("x.x.x.x.x.x.x.x.", "x...x...x...x..."), "D": ("................", "x.x.x.x.x.x.x.x.")},
           "2/4": {"K": ("X.......", "X.....x."), "S": ("....X...",), "H": ("x.x.x.x.", "x...x...")},
           "3/4": {"K": ("X...........", "X.....x....."), "S": ("....X...X...", "........X..."), "H": ("x.x.x.x.x.x.",)},
           "6/8": {"K": ("X.........x.", "X..........."), "S": ("......X.....",), "H": ("x.x.x.x.x.x.",)}},
          {"4/4": ("r.r.r.r.r.r.r.r.", "r.......r...r.5.", "r...r...r...r.a."), "2/4": ("r.r.r.r.", "r...5..."),
           "3/4": ("r.r.r.r.r.r.", "r...r...5..."), "6/8": ("r.....r...5.", "r.r.r.r.r.r.")},
          {"4/4": ("x.x.x.x.x.x.x.x.", "o.......o.......", "X...x.x...x.x..."), "2/4": ("x.x.x.x.", "o...o..."),
           "3/4": ("o...x.x.x.x.", "o..........."), "6/8": ("o.....o.....", "x.x.x.x.x.x.")},
          minor=0.45, pad_share=0.1, drum_share=0.97),
    Style("funk", ("funk", "funky", "groovy funk"), ("get-down groove", "p-funk"),
          "funk", (88, 124), ("groovy", "funky", "danceable", "playful"),
          ("alto sax", "tenor sax", "organ", "trumpet", "electric guitar", "synth brass"),
          ("muted guitar", "clavinet", "electric piano", "electric guitar"), ("slap bass", "electric bass"), ("standard", "room"),
          {"4/4": {"K": ("X..x..x...x..x..", "X.x.......x..x..", "X.....x..xx....."), "S": ("....X..o.o..X..o", "....X..o....X..o"),
                   "H": ("xxxxxxxxxxxxxxxx", "x.xxx.xxx.xxx.xx"), "O": ("................", "..............x.")}},
          {"4/4": ("r..r..8...r..5a.", "r.-r.-..8.r.-.5.", "r...-.8.r.-..r8a")},
          {"4/4": ("..x..x.x..x..xx.", "x..x..x...x.x..x", ".xx..xx..xx..xx.")},
          minor=0.6, sevenths=0.9, pad_share=0.1, gate=0.6, density=0.55),
    Style("disco", ("disco", "seventies disco", "dance pop"), ("boogie night dance", "studio-fifty-four groove"),
          "disco", (108, 132), ("danceable", "happy", "bright", "upbeat"),
          ("string ensemble", "trumpet", "synth brass", "piano", "flute", "saw lead"),
          ("electric guitar", "piano", "muted guitar", "electric piano"), ("electric bass", "slap bass", "synth bass"), ("standard", "electronic"),
          {"4/4": {"K": ("X...X...X...X...",), "S": ("....X.......X...",), "H": ("xx.xxx.xxx.xxx.x",), "O": ("..X...X...X...X.",)}},
          {"4/4": ("r.8.r.8.r.8.r.8.", "r.8.r.85r.8.r.8a")}, {"4/4": ("..x...x...x...x.", "..xx..xx..xx..xx")},
          pads=("string ensemble", "synth strings"), minor=0.5, sevenths=0.6, pad_share=0.5, gate=0.7),
    Style("bossa nova", ("bossa nova", "bossa", "brazilian bossa nova"), ("ipanema-like beach tune", "brazilian lounge"),
          "latin", (100, 150), ("relaxed", "sunny", "smooth", "warm"),
          ("flute", "tenor sax", "nylon guitar", "piano", "vibraphone", "clarinet"),
          ("nylon guitar", "electric piano", "piano", "jazz guitar"), ("upright bass", "electric bass"), ("jazz", "brush", "standard"),
          {"4/4": {"K": ("X.....x.X.....x.",), "R": ("x.....x.....x...x...x.....x.....", "x.....x.....x.......x.....x....."),
                   "H": ("x.x.x.x.x.x.x.x.",), "A": ("................", "xoxoxoxoxoxoxoxo")}},
          {"4/4": ("r.....5.5.....r.", "r.....5.5.......")}, {"4/4": ("x...x..x...x..x...x...x...x...x.", "x..x..x...x..x..", "o.....o.....o...")},
          minor=0.5, sevenths=1.0, pad_share=0.15),
    Style("salsa", ("salsa", "latin", "afro-cuban"), ("havana dance band", "mambo"),
          "latin", (85, 112), ("lively", "danceable", "festive", "sunny"),
          ("trumpet", "flute", "brass section", "piano", "trombone"), ("piano",), ("upright bass", "electric bass"), ("standard",),
          {"4/4": {"E": ("x.....x.....x.......x...x.......", "....x...x.......x.....x.....x..."), "G": ("x.xx..xxx.xx..xx", "..xx..xx..xx..xx"),
                   "L": ("......x.......x.",), "T": ("x...x.x.x...x.x.", "................"), "K": ("X.......X.......",)}},
          {"4/4": ("r.....5.....8...", "......5.....r...")}, {"4/4": ("x.xx.x.xx.x.x.x.", "x..x.xx..x.xx.x.")},
          minor=0.7, sevenths=0.5, pad_share=0.1, density=0.6),
    Style("reggae", ("reggae", "roots reggae", "laid-back reggae"), ("jamaican one-drop", "ska-like island groove"),
          "reggae", (66, 96), ("laid-back", "sunny", "relaxed", "warm"),
          ("organ", "trombone", "alto sax", "harmonica", "electric guitar", "steel drums"),
          ("electric guitar", "organ", "piano"), ("electric bass",), ("standard", "room"),
          {"4/4": {"K": ("........X.......", "X.......X......."), "R": ("........X.......",), "H": ("x.x.x.x.x.x.x.x.", "..x...x...x...x."),
                   "S": ("................", "........X.......")}},
          {"4/4": ("r..r....5..r8...", "r...r.5.....r.3.", "....r.r.5...3...")}, {"4/4": ("....x.......x...", "..x...x...x...x.")},
          minor=0.45, swing=0.55, gate=0.8),
    Style("waltz", ("waltz", "viennese waltz", "waltz in three"), ("ballroom three-step", "valse"),
          "classical", (84, 178), ("elegant", "graceful", "romantic", "charming"),
          ("violin", "flute", "accordion", "clarinet", "piano", "oboe", "string ensemble"),
          ("string ensemble", "piano", "accordion", "pizzicato strings", "harp", "bandoneon"), ("contrabass", "upright bass", "tuba", "bassoon"), ("orchestra", "standard", "brush"),
          {"3/4": {"K": ("X...........",), "S": ("....o...o...",), "Y": ("............", "....o...o..."), "T": ("............", "....x...x...")}},
          {"3/4": ("r...........", "r...-.......")}, {"3/4": ("....x...x...", "....X...x...")},
          minor=0.4, drum_share=0.45, rooms=("room", "hall", "dry")),
    Style("march", ("march", "military march", "parade march"), ("regimental parade piece", "marching-band number"),
          "march", (92, 132), ("proud", "bold", "triumphant", "festive"),
          ("trumpet", "piccolo", "brass section", "clarinet", "flute", "french horn"),
          ("brass section", "french horn", "trombone"), ("tuba", "contrabass"), ("orchestra", "standard"),
          {"4/4": {"K": ("X.......X.......",), "S": ("X..xx...X..xx.x.", "x.xxx.xxx.xxx.x.", "X...x.xxX...x..."), "Y": ("x.......x.......", "................")},
           "2/4": {"K": ("X...x...", "X......."), "S": ("..x...xx", "X.xxX.x.", "..x...x."), "Y": ("x.......", "........")},
           "6/8": {"K": ("X.....x.....",), "S": ("x...x.x...x.", "x.x.x.x...x."), "Y": ("............", "X...........")}},
          {"4/4": ("r...5...r...5...",), "2/4": ("r...5...",), "6/8": ("r.....5.....",)},
          {"4/4": ("..x...x...x...x.", "....x.......x..."), "2/4": ("..x...x.",), "6/8": ("....x.....x.",)},
          minor=0.2, gate=0.6, rooms=("room", "hall", "dry"), density=0.6),
    Style("jazz swing", ("jazz", "swing", "swing jazz", "jazz combo"), ("bebop club number", "small-band swing"),
          "jazz", (92, 178), ("swinging", "cool", "smooth", "lively"),
          ("tenor sax", "alto sax", "trumpet", "muted trumpet", "vibraphone", "clarinet", "jazz guitar", "piano"),
          ("piano", "jazz guitar", "vibraphone"), ("upright bass",), ("jazz", "brush"),
          {"4/4": {"D": ("x...x.x.x...x.x.", "X...x.x.x...x.xo"), "P": ("....x.......x...",), "K": ("o...o...o...o...", "x.............x."),
                   "S": ("......o.........", "..............o.", "................")},
           "3/4": {"D": ("x...x.x.x...", "x...x.x.x.x."), "P": ("....x...x...",), "K": ("x...........",)}},
          {"4/4": ("w...w...w...w...",), "3/4": ("w...w...w...", "r.......5...")},
          {"4/4": ("......x.......x.", "x.....x.........", "..x.......x.....", "x..........x...."), "3/4": ("x.....x.....", "....x.....x.")},
          minor=0.4, sevenths=1.0, swing=0.64, pad_share=0.03, density=0.6),
    Style("blues", ("blues", "blues shuffle", "slow blues"), ("twelve-bar shuffle", "juke-joint tune"),
          "blues", (66, 136), ("bluesy", "soulful", "raw", "laid-back"),
          ("harmonica", "overdriven guitar", "tenor sax", "organ", "piano", "electric guitar"),
          ("piano", "organ", "electric guitar", "honky-tonk piano"), ("electric bass", "upright bass"), ("standard", "room"),
          {"4/4": {"K": ("X.......X.......", "X.....x.X......."), "S": ("....X.......X...",), "H": ("x.x.x.x.x.x.x.x.",), "D": ("................", "x.x.x.x.x.x.x.x.")}},
          {"4/4": ("r...3...5...6...", "r.r.3.3.5.5.3.3.", "w...w...w...w...")}, {"4/4": ("x.x.x.x.x.x.x.x.", "......x.......x.", "o.......o.....x.")},
          minor=0.3, sevenths=0.9, swing=0.66, pad_share=0.05),
    Style("ambient", ("ambient", "atmospheric", "ambient soundscape"), ("floating sound bed", "drone-like background"),
          "ambient", (55, 110), ("calm", "dreamy", "ethereal", "peaceful"),
          ("bell synth", "sine lead", "flute", "piano", "kalimba", "synth voice"), ("choir pad", "glass pad", "warm pad", "sweep pad"),
          ("synth bass", "fretless bass"), ("brush", "808"),
          {"4/4": {"A": ("x...x...x...x...", "..x...x...x...x."), "K": ("X...............", "................")},
           "3/4": {"A": ("x...x...x...",)}, "6/8": {"A": ("x.....x.....",)}},
          {"4/4": ("r...............",), "3/4": ("r...........",), "6/8": ("r...........",)},
          {"4/4": ("o...............",), "3/4": ("o...........",), "6/8": ("o...........",)},
          pads=("warm pad", "choir pad", "string ensemble"), sevenths=0.5, drum_share=0.3, pad_share=0.5, arpeggio_share=0.85,
          density=0.2, rooms=("hall", "cathedral")),
    Style("chiptune", ("chiptune", "8-bit", "retro video game music"), ("pixel arcade music", "NES-style music"),
          "game music", (90, 178), ("playful", "bright", "energetic", "quirky"),
          ("square lead",), ("square lead", "saw lead"), ("synth bass", "square lead"), ("electronic", "808"),
          {"4/4": {"K": ("X...x...X...x...", "X.....x.X......."), "S": ("....X.......X...",), "H": ("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx")},
           "2/4": {"K": ("X.......",), "S": ("....X...",), "H": ("x.x.x.x.",)}, "3/4": {"K": ("X...........",), "S": ("....x...x...",), "H": ("x.x.x.x.x.x.",)},
           "6/8": {"K": ("X...........",), "S": ("......X.....",), "H": ("x.x.x.x.x.x.",)}},
          {"4/4": ("r.8.r.8.r.8.r.8.", "r.r.8.r.r.r.8.r."), "2/4": ("r.8.r.8.",), "3/4": ("r.8.5.8.5.8.",), "6/8": ("r...8.r...8.",)},
          {"4/4": ("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx"), "2/4": ("x.x.x.x.",), "3/4": ("x.x.x.x.x.x.",), "6/8": ("x.x.x.x.x.x.",)},
          minor=0.5, pad_share=0.0, arpeggio_share=0.6, gate=0.6, density=0.75, rooms=("dry",)),
    Style("ballad", ("ballad", "pop ballad", "slow ballad"), ("love song", "torch song"),
          "pop", (55, 92), ("tender", "romantic", "emotional", "gentle"),
          ("piano", "violin", "cello", "flute", "alto sax", "electric guitar", "oboe", "pan flute"),
          ("piano", "electric piano", "steel guitar", "nylon guitar"), ("electric bass", "fretless bass", "upright bass"), ("standard", "room", "brush"),
          {"4/4": {"K": ("X.......x.......", "X.....x.x......."), "S": ("....X.......X...",), "R": ("................",), "H": ("x.x.x.x.x.x.x.x.", "x...x...x...x...")},
           "3/4": {"K": ("X...........",), "S": ("........X...", "....x...x..."), "H": ("x.x.x.x.x.x.", "x...x...x...")},
           "6/8": {"K": ("X.........x.", "X..........."), "S": ("......X.....",), "H": ("x.x.x.x.x.x.",)}},
          {"4/4": ("r.......r.......", "r.......5.....r.", "r..............."), "3/4": ("r...........", "r.......5..."), "6/8": ("r.....5.....", "r.........5.")},
          {"4/4": ("o...o...o...o...", "o.......o.......", "x.x.x.x.x.x.x.x."), "3/4": ("o...o...o...", "x.x.x.x.x.x."), "6/8": ("x.x.x.x.x.x.", "o.....o.....")},
          minor=0.45, sevenths=0.35, drum_share=0.6, pad_share=0.5, arpeggio_share=0.4, density=0.35, rooms=("room", "hall")),
    Style("folk", ("folk", "acoustic folk", "country folk"), ("campfire song", "singer-songwriter strumming"),
          "folk", (72, 152), ("warm", "simple", "cheerful", "earthy"),
          ("fiddle", "harmonica", "flute", "whistle", "mandolin", "accordion", "violin", "recorder", "banjo", "steel guitar"),
          ("steel guitar", "nylon guitar", "banjo", "accordion", "piano", "ukulele"), ("upright bass", "electric bass"), ("standard", "brush"),
          {"4/4": {"K": ("X.......X.......",), "S": ("....x.......x...",), "T": ("....x.......x...", "x.x.x.x.x.x.x.x."), "A": ("................", "x.x.x.x.x.x.x.x.")},
           "2/4": {"K": ("X.......", "X...x..."), "S": ("....x...",), "T": ("..x...x.", "....x...")},
           "3/4": {"K": ("X...........",), "T": ("....x...x...",), "A": ("............", "x.x.x.x.x.x.")},
           "6/8": {"K": ("X.....x.....",), "T": ("....x.....x.", "x.x.x.x.x.x.")}},
          {"4/4": ("r.......5.......", "r...5...r...5..."), "2/4": ("r...5...",), "3/4": ("r...........",), "6/8": ("r.....5.....",)},
          {"4/4": ("....x.x.....x.x.", "x...x.x...x.x...", "....x.......x..."), "2/4": ("..x...x.", "....x..."), "3/4": ("....x...x...", "x.x.x.x.x.x."),
           "6/8": ("....x.....x.", "x...x.x...x.")},
          minor=0.3, drum_share=0.45, arpeggio_share=0.2, density=0.55),
    Style("celtic", ("celtic", "irish jig", "irish dance"), ("ceilidh tune", "pub session tune"),
          "folk", (84, 132), ("lively", "merry", "danceable", "bouncy"),
          ("fiddle", "whistle", "flute", "bagpipes", "accordion", "dulcimer", "banjo", "harp"),
          ("steel guitar", "mandolin", "accordion", "harp"), ("upright bass", "cello"), ("standard", "orchestra"),
          {"6/8": {"B": ("X.x.x.X.x.x.", "X...x.X...x."), "K": ("X.....x.....", "............")},
           "4/4": {"B": ("X.x.x.x.X.x.x.x.", "X..xx.x.X..xx.x."), "K": ("X.......X.......", "................")},
           "2/4": {"B": ("X.x.x.x.", "X..xx.x."), "K": ("X.......", "........")}},
          {"6/8": ("r.....5.....", "r.....r....."), "4/4": ("r.......5.......",), "2/4": ("r...5...",)},
          {"6/8": ("x...x.x...x.", "o.....o....."), "4/4": ("x...x.x.x...x.x.", "o.......o......."), "2/4": ("x...x.x.", "..x...x.")},
          minor=0.35, drum_share=0.75, density=0.8),
    Style("polka", ("polka", "oompah polka", "beer-hall polka"), ("bohemian dance", "oom-pah band"),
          "folk", (104, 150), ("merry", "cheerful", "bouncy", "festive"),
          ("accordion", "clarinet", "trumpet", "fiddle", "xylophone"), ("accordion", "piano", "banjo"), ("tuba", "upright bass"), ("standard",),
          {"2/4": {"K": ("X...x...",), "S": ("..x...x.",), "Y": ("........", "x.......")}, "4/4": {"K": ("X...x...X...x...",), "S": ("..x...x...x...x.",)}},
          {"2/4": ("r...5...",), "4/4": ("r...5...r...5...",)}, {"2/4": ("..x...x.",), "4/4": ("..x...x...x...x.",)},
          minor=0.15, gate=0.6, density=0.7),
    Style("lullaby", ("lullaby", "music box lullaby", "cradle song"), ("bedtime tune", "nursery berceuse"),
          "children", (55, 96), ("gentle", "sweet", "sleepy", "innocent"),
          ("music box", "celesta", "glockenspiel", "kalimba", "flute", "ocarina"), ("music box", "harp", "celesta", "nylon guitar"),
          ("cello", "fretless bass"), ("brush",),
          {"4/4": {"W": ("................",), "A": ("o...o...o...o...",)}, "3/4": {"A": ("o...o...o...",)}, "6/8": {"A": ("o.....o.....",)}},
          {"4/4": ("r.......5.......",), "3/4": ("r...........",), "6/8": ("r...........",)},
          {"4/4": ("x...x...x...x...", "x.x.x.x.x.x.x.x."), "3/4": ("x...x...x...",), "6/8": ("x.x.x.x.x.x.", "x.....x.....")},
          minor=0.3, drum_share=0.12, arpeggio_share=0.6, density=0.4, rooms=("room", "hall")),
    Style("cinematic", ("cinematic", "film score", "orchestral film music"), ("movie-trailer underscore", "symphonic soundtrack"),
          "orchestral", (60, 140), ("epic", "dramatic", "heroic", "majestic"),
          ("french horn", "string ensemble", "violin", "choir", "trumpet", "oboe", "cello"), ("string ensemble", "pizzicato strings", "brass section", "harp"),
          ("contrabass", "cello", "timpani"), ("orchestra",),
          {"4/4": {"M": ("X.....x.X...x...", "X..x..x.X..x..x.", "X.......X......."), "Y": ("................", "X..............."), "S": ("................", "x.xxx.xxx.xxx.xx")},
           "3/4": {"M": ("X...x...x...", "X.....x.x..."), "Y": ("............", "X...........")}, "6/8": {"M": ("X...x.X...x.", "X.....x....."), "Y": ("............",)}},
          {"4/4": ("r.......r.......", "r.r.r.r.r.r.r.r."), "3/4": ("r...........", "r.r.r.r.r.r."), "6/8": ("r.....r.....",)},
          {"4/4": ("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx", "o.......o......."), "3/4": ("x.x.x.x.x.x.", "o..........."), "6/8": ("x.x.x.x.x.x.", "o.....o.....")},
          pads=("string ensemble", "choir", "french horn", "tremolo strings"), minor=0.7, drum_share=0.7, pad_share=0.6,
          arpeggio_share=0.3, density=0.35, rooms=("hall", "hall", "cathedral")),
)  # fmt: skip

STYLES = {style.name: style for style in _ALL}
