"""The instruments of the scorebook: canonical name, presets in a General MIDI bank, range, roles and words in captions.

Programs and names follow General MIDI level 1 and the preset list of FluidR3Mono, whose banks 8 and 16 hold variants.
The words here are those of the scorebook's captions; further words for training texts stand in training/text/words.py,
under the same canonical names.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    """One instrument.

    Attributes:
        name: canonical name, the one that stands in labels.
        presets: (bank, program) pairs that sound like it.
        family: keys, mallets, organ, guitar, bass, strings, choir, brass, reed, pipe, synth, pad, folk.
        low, high: comfortable range in MIDI pitches.
        roles: letters out of m melody, c chords, a arpeggio, p pad, b bass, e voice of an ensemble.
        words: names used in training captions, the canonical one first.
        heldout_words: names used in no training caption.
    """

    name: str
    presets: tuple[tuple[int, int], ...]
    family: str
    low: int
    high: int
    roles: str
    words: tuple[str, ...]
    heldout_words: tuple[str, ...]


# name | presets | family | low high | roles | other words | held-out words
_TABLE = """
piano | 0 1 8:0 | keys | 40 96 | mcaeb | grand piano, acoustic piano | acoustic piano keys, upright piano
honky-tonk piano | 3 | keys | 45 90 | mc | saloon piano, detuned piano | barroom piano, out-of-tune piano
electric piano | 4 5 8:4 | keys | 40 88 | mcap | rhodes, e-piano, EP | fender rhodes, wurlitzer
harpsichord | 6 8:6 | keys | 43 88 | mcae | cembalo | baroque keyboard, clavecin
clavinet | 7 | keys | 40 84 | c | clav, funky clavinet | hohner clavinet, funky keys
celesta | 8 | mallets | 60 103 | ma | celeste | bell-like keyboard
glockenspiel | 9 | mallets | 67 103 | ma | bells, glock | small metal bells, orchestra bells
music box | 10 | mallets | 60 98 | mae | wind-up music box, toy box | musical box, toy music box
vibraphone | 11 | mallets | 53 89 | mcap | vibes | vibes with motor, jazz vibes
marimba | 12 | mallets | 45 91 | maec | wooden marimba | wooden mallets, marimbas
xylophone | 13 | mallets | 60 98 | ma | wooden xylophone | xylophones, bright wooden mallets
tubular bells | 14 | mallets | 55 80 | m | chimes, church bells | orchestral chimes, big bells
dulcimer | 15 | folk | 50 84 | ma | hammered dulcimer | hammered strings, cimbalom
organ | 16 17 18 | organ | 36 91 | mcpe | hammond organ, drawbar organ, electric organ | B3 organ, hammond B3
church organ | 19 8:19 | organ | 36 91 | cpe | pipe organ, cathedral organ | big organ in a church
reed organ | 20 | organ | 40 84 | cpe | harmonium | pump organ, parlor organ
accordion | 21 8:21 | organ | 48 91 | mcpe | squeezebox, piano accordion | button accordion, accordions
harmonica | 22 | reed | 60 93 | m | mouth organ, blues harp | mouth harp, bluesy harmonica
bandoneon | 23 | organ | 48 86 | mce | tango accordion | tango squeezebox, concertina
nylon guitar | 24 | guitar | 40 79 | mcae | classical guitar, nylon-string guitar | spanish guitar, flamenco guitar
steel guitar | 25 8:25 | guitar | 40 81 | mca | acoustic guitar, folk guitar | strummed acoustic
ukulele | 8:24 | guitar | 55 84 | ca | uke | ukuleles, hawaiian ukulele
mandolin | 16:25 | folk | 55 88 | ma | bluegrass mandolin | mandolins, picked mandolin
jazz guitar | 26 | guitar | 40 82 | mca | mellow guitar, hollow-body guitar | archtop guitar, warm jazzy guitar
electric guitar | 27 | guitar | 40 84 | mca | clean guitar, clean electric guitar | clean electric, stratocaster
muted guitar | 28 8:28 | guitar | 40 79 | c | palm-muted guitar, funk guitar | chicken scratch guitar
overdriven guitar | 29 | guitar | 40 82 | mc | crunchy guitar, overdrive guitar | gritty guitar, driven guitar
distorted guitar | 30 | guitar | 36 79 | mc | distortion guitar, heavy guitar | fuzz guitar, metal guitar
upright bass | 32 | bass | 28 55 | b | acoustic bass, double bass, stand-up bass | standup bass, jazz bass player
electric bass | 33 34 37 | bass | 28 55 | b | bass guitar, fingered bass, e-bass | P-bass, bass player on electric
fretless bass | 35 | bass | 28 55 | b | smooth fretless bass | fretless electric, gliding bass
slap bass | 36 | bass | 28 55 | b | slapped bass, funky slap bass | slapping bass, slap and pop bass
synth bass | 38 39 8:38 | bass | 26 55 | b | synthesizer bass, electronic bass | moog bass, bass synth
violin | 40 | strings | 55 96 | me | solo violin | violins, violin solo
fiddle | 110 | folk | 55 93 | m | folk fiddle, country fiddle | fiddles, fiddle player
viola | 41 | strings | 48 84 | me | solo viola | violas, viola solo
cello | 42 | strings | 36 76 | meb | solo cello | violoncello, cellos
contrabass | 43 | strings | 28 55 | be | bowed bass, bowed double bass | orchestral double bass, arco bass
pizzicato strings | 45 | strings | 36 91 | mcae | plucked strings, pizzicato | pizz strings
harp | 46 | strings | 36 100 | mae | concert harp | harps, orchestral harp
string ensemble | 48 1:48 | strings | 36 91 | mpec | strings, string section | orchestral strings, lush strings
tremolo strings | 44 | strings | 40 88 | p | trembling strings | tremolo violins, suspense strings
synth strings | 50 51 8:50 | pad | 40 88 | pc | synthesizer strings, string machine | solina strings, string synth
choir | 52 | choir | 43 81 | pem | choir aahs, voices, vocal choir | choral voices, a chorus
voice oohs | 53 | choir | 46 81 | pme | oohs, ooh voices | backing oohs, soft ooh vocals
trumpet | 56 | brass | 54 84 | me | bright trumpet, solo trumpet | trumpets, trumpet solo
trombone | 57 | brass | 40 72 | me | solo trombone | trombones, slide trombone
tuba | 58 | brass | 28 58 | be | brass bass | sousaphone, tubas
muted trumpet | 59 | brass | 54 82 | m | trumpet with mute, miles-style trumpet | harmon mute trumpet
french horn | 60 | brass | 41 77 | mep | horn, horns | french horns, orchestral horn
brass section | 61 8:61 | brass | 43 82 | mce | brass, brass ensemble, horn section | horns and trumpets
synth brass | 62 63 8:62 | synth | 43 84 | mc | synthesizer brass, eighties brass | analog brass, 80s synth brass
soprano sax | 64 | reed | 56 86 | me | soprano saxophone | high sax, straight soprano saxophone
alto sax | 65 | reed | 49 80 | me | alto saxophone, saxophone, sax | alto, saxophones
tenor sax | 66 | reed | 44 75 | me | tenor saxophone, sax | tenor, smoky tenor saxophone
baritone sax | 67 | reed | 36 68 | eb | baritone saxophone, bari sax | bari, low saxophone
oboe | 68 | reed | 58 90 | me | plaintive oboe | oboes, oboe solo
english horn | 69 | reed | 52 81 | me | cor anglais | english horns, alto oboe
bassoon | 70 | reed | 34 70 | meb | low bassoon | bassoons, fagott
clarinet | 71 | reed | 50 88 | me | solo clarinet | clarinets, klezmer clarinet
piccolo | 72 | pipe | 74 103 | m | piccolo flute, fife | piccolos, high flute
flute | 73 | pipe | 60 94 | me | concert flute, solo flute | flutes, transverse flute
recorder | 74 | pipe | 60 94 | me | wooden recorder | recorders, baroque recorder
pan flute | 75 | pipe | 60 91 | m | panpipes | pan pipes, andean flute
whistle | 78 | pipe | 65 96 | m | tin whistle, whistling | irish whistle, penny whistle
ocarina | 79 | pipe | 60 91 | me | clay flute | ocarinas, zelda-style ocarina
square lead | 80 | synth | 48 96 | mace | square wave, pulse lead, 8-bit lead | NES lead, chip lead
saw lead | 81 90 | synth | 45 93 | mac | sawtooth lead, saw synth, synth lead | supersaw, trance lead
sine lead | 8:80 | synth | 55 93 | ma | sine wave synth, soft synth lead | theremin-like synth, pure sine tone
calliope | 82 | synth | 55 93 | ma | steam organ, calliope lead | carousel organ, fairground organ
synth voice | 54 85 | choir | 48 84 | mp | vox synth, synth vocal | vocoder voice, robot vocals
warm pad | 89 | pad | 40 86 | p | synth pad, soft pad | analog pad, lush synth pad
choir pad | 91 94 | pad | 43 84 | p | space voices, halo pad | angelic pad, choir synth
glass pad | 92 | pad | 43 88 | pa | bowed glass, glassy pad | crystal pad, glass synth
sweep pad | 95 | pad | 40 84 | p | sweeping pad, moving pad | filter sweep pad, evolving pad
bell synth | 96 99 100 | synth | 55 96 | ma | synth bells, shimmering synth | FM bells, digital bells
sitar | 104 | folk | 45 81 | ma | indian sitar | sitars, hindustani sitar
banjo | 105 | folk | 48 86 | mac | five-string banjo, bluegrass banjo | banjos, clawhammer banjo
koto | 107 | folk | 50 88 | ma | japanese koto | kotos, japanese zither
kalimba | 108 | mallets | 55 91 | ma | thumb piano, mbira | african thumb piano, kalimbas
bagpipes | 109 | folk | 58 79 | m | bagpipe, highland pipes | scottish pipes, great highland bagpipe
steel drums | 114 | mallets | 52 86 | mac | steelpan, steel pan | caribbean steel pans, steel drum band
timpani | 47 | mallets | 36 57 | b | kettledrums | timps, orchestral drums
"""


def _parse() -> dict[str, Instrument]:
    """The instruments of `_TABLE` by name."""
    found = {}
    for line in _TABLE.strip().splitlines():
        name, presets, family, span, roles, words, heldout = (part.strip() for part in line.split("|"))
        pairs = tuple(tuple(map(int, p.split(":"))) if ":" in p else (0, int(p)) for p in presets.split())
        low, high = map(int, span.split())
        found[name] = Instrument(
            name, pairs, family, low, high, roles,
            (name, *(w.strip() for w in words.split(","))), tuple(w.strip() for w in heldout.split(",")),
        )  # fmt: skip
    return found


INSTRUMENTS = _parse()
DRUM_WORDS = ("drums", "drum kit", "a drum kit", "percussion", "a beat")
DRUM_HELDOUT_WORDS = ("a drummer", "a drum set", "a drum beat", "drumming")

# Kits of bank 128 by character.
KITS = {
    "standard": (0, 1, 2, 3), "room": (8, 9, 10, 11), "power": (16, 17), "electronic": (24,), "808": (25,),
    "jazz": (32, 33), "brush": (40, 41), "orchestra": (48,),
}  # fmt: skip


def with_role(role: str, family: str | None = None) -> list[Instrument]:
    """All instruments that can play a role (one letter, see `Instrument.roles`), optionally of one family."""
    return [i for i in INSTRUMENTS.values() if role in i.roles and (family is None or i.family == family)]
