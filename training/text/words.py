"""Word lists of the training texts, in two parts.

The first has further words for the scorebook's instruments, styles and drums, by canonical name; the words of its own
captions stand with the instruments and styles themselves (training/data/scorebook/instruments.py and styles.py). The
short lists fill captions and prompts. The long ones of training/text/lexicon/ (foreign names, makers, players, pieces,
dances, related instruments, misspellings) serve rewording.py and align.py. Their authors had not seen the held-out
words, and entries that contain a held-out word were removed; none may be here (test_text_tags.py), so that tests on
them measure generalisation.

The second part has the words with which people ask for music in general, in groups: the slots of the prompt grammar
(training/text/corpus.py).
"""

from pathlib import Path

from training.text.moods import MOODS

_INSTRUMENTS = """
piano | keys, pianist, piano chords, piano player, pianoforte, concert grand, baby grand, felt piano, ivories
honky-tonk piano | tack piano, honkytonk, western saloon keys, ragtime piano, old out of tune upright, pub piano
electric piano | wurly, wurli, suitcase piano, electric keys, rhodes keys, rhodes chords, electronic piano, dx7 keys
harpsichord | spinet, virginal, baroque keys, plucked keyboard, harpsichordist
clavinet | clavi, funk keys, clavinet riff, wah clav
celesta | celeste bells, sugar plum bells, tinkly keyboard, celestial keyboard
glockenspiel | tinkling bells, glocks, little bells, metal chimes, tiny bells, metallophone
music box | musicbox, jewelry box melody, wind up toy, baby mobile, tinkling music box
vibraphone | vibe, vibraharp, vibist, soft vibraphone, jazzy mallets, metal mallets
marimba | mallets, marimba pattern, african mallets, balafon, warm wooden bars
xylophone | skeleton bones sound, xylo, rosewood bars, toy xylophone
tubular bells | bell tower, tolling bell, carillon, church bell, cathedral bells, tube bells
dulcimer | santur, yangqin, hackbrett, zither, psaltery, hit strings
organ | hammond, b3, jazz organ, rock organ, gospel organ, organist, tonewheel organ, leslie organ, electronic organ
church organ | pipes of a church organ, cathedral pipes, grand organ, liturgical organ, wedding organ, bach organ
reed organ | pedal organ, small chapel organ, indian harmonium, melodeon
accordion | musette, accordionist, french accordion, polka accordion, parisian accordion, squeeze box
harmonica | harp player blues, cowboy harmonica, harmonica solo, campfire harmonica, bob dylan harmonica
bandoneon | argentine accordion, bandoneonist, piazzolla accordion, tango squeeze box
nylon guitar | nylon strings, flamenco strumming, fingerpicked classical guitar, gut-string guitar, latin guitar,
  guitarra
steel guitar | acoustic strumming, folky guitar, strummed guitar, fingerpicked guitar, campfire guitar, dreadnought,
  steel-string guitar, western guitar
ukulele | little hawaiian guitar, beach ukulele, happy ukulele, strummed uke
mandolin | mandolinist, italian mandolin, tremolo mandolin, mando, chopped mandolin
jazz guitar | jazzy guitar, wes montgomery guitar, semi-hollow guitar, smooth guitar, soft electric guitar, jazz
  guitarist
electric guitar | telecaster, guitar licks, guitar riff, undistorted guitar, surf guitar, jangly guitar, twangy
  guitar, guitarist
muted guitar | funky guitar, wah guitar, rhythm guitar scratches, nile rodgers guitar, choppy guitar, palm mute
overdriven guitar | bluesy lead guitar, tube amp guitar, overdrive, rock guitar, crunch guitar, dirty guitar, angus
  young guitar
distorted guitar | power chords, shredding guitar, heavy metal guitar, high gain guitar, fuzzy guitar, wall of
  guitars, electric guitar with distortion, thrash guitar
upright bass | doublebass, walking bass, plucked bass, jazz bass, wooden bass, bass fiddle, slapped upright,
  contrabass pizzicato
electric bass | fender bass, bassist, bass line, bassline, rock bass, fingerstyle bass, precision bass, picked bass,
  jazz bass guitar
fretless bass | jaco bass, mwah bass, jaco pastorius bass, singing bass, sliding bass
slap bass | slap and pop, popping bass, funk bass, thumb bass, larry graham bass
synth bass | sub bass, 808 bass, acid bass, moog, reese bass, wobble bass, tb-303, electro bass, analog bass, 303
violin | violinist, solo fiddle classical, stradivarius, concert violin, bowed violin, violin melody
fiddle | irish fiddle, bluegrass fiddle, cajun fiddle, fiddler, hoedown fiddle, celtic violin, country violin
viola | violist, alto violin, viola melody, mellow viola
cello | cellist, deep strings solo, yo-yo ma, celli, cello melody, low bowed strings
contrabass | bull fiddle bowed, symphonic basses, double basses arco, low orchestra strings, string bass
pizzicato strings | plucked violins, finger plucked orchestra strings, sneaky strings, short plucked strings
harp | harpist, celtic harp, angel harp, glissando harp, lever harp, plucked harp
string ensemble | violins and cellos, orchestra strings, sweeping strings, full strings, big strings, string pad
  orchestra, symphonic strings, string arrangement, cinematic strings
tremolo strings | shivering strings, tense strings, horror strings, shaking bows, nervous strings
synth strings | fake strings, mellotron strings, electronic strings, disco strings machine, polysynth strings,
  keyboard strings
choir | chorus, vocals, singers, singing, choral singing, gregorian voices, people singing, aahs, voices singing ah,
  chorale singers, human voices
voice oohs | humming voices, doo-wop oohs, background vocals, soft vocals, backing vocals, ooh choir
trumpet | trumpeter, cornet, flugelhorn, bugle, trumpet fanfare, mariachi trumpet
trombone | trombonist, bones section, sackbut, sliding brass, low slide horn
tuba | bass horn, tuba player, oompah bass, brass band bass, euphonium, helicon
muted trumpet | harmon mute, mute trumpet, miles davis trumpet, cup mute, smoky trumpet, wah-wah trumpet
french horn | horn player, hunting horn, heroic horn, f horn, noble horns, corno
brass section | big band brass, horn stabs, trumpets and trombones, blaring brass, brass hits, brass stabs, horn
  line
synth brass | brassy synth, jump synth, prophet brass, synth horns, fake brass, oberheim brass
soprano sax | kenny g sax, soprano saxophonist, small straight sax, curved soprano sax
alto sax | charlie parker sax, saxophonist, sax solo, saxes, jazz sax, alto saxophonist
tenor sax | coltrane sax, tenor saxophonist, sexy sax, smoky saxophone, sultry sax, breathy sax
baritone sax | baritone saxophonist, barry sax, deep sax, bass saxophone, honking low sax
oboe | oboist, hautbois, double reed solo, pastoral oboe, snake charmer reed
english horn | coranglais, tenor oboe, dark oboe, lonely shepherd reed
bassoon | bassoonist, contrabassoon, comic bassoon, low double reed, bass reed
clarinet | clarinetist, licorice stick, benny goodman clarinet, bass clarinet, woody clarinet, single reed
piccolo | tiny flute, very high flute, piccolo player, shrill flute, military fife
flute | flautist, flutist, silver flute, airy flute, breathy flute, woodwind melody, jazz flute
recorder | blockflute, school recorder, renaissance flute, sopranino recorder, treble recorder, fipple flute
pan flute | panflute, zamfir, siku, syrinx, inca flute, pan pipe melody
whistle | whistled melody, celtic whistle, someone whistling, low whistle, tinwhistle, human whistle
ocarina | zelda flute, vessel flute, sweet potato flute, clay whistle
square lead | 8-bit synth, gameboy lead, pulse wave, nes pulse, chiptune lead, c64 lead, square synth, bleepy lead
saw lead | sawtooth, lead synth, edm lead, synthesizer lead, supersaws, buzzing synth, trance synth, analog lead,
  synth melody, screaming synth
sine lead | theremin, sine synth, pure tone synth, whistling synth, g-funk lead, portamento sine
calliope | circus organ, carnival organ, merry-go-round organ, steam whistles, street organ, barrel organ
synth voice | vocoder, robot voice, talkbox, synthetic choir voice, electronic voice, formant synth
warm pad | soft synth chords, synth chords, background pad, analog pads, dreamy pad, ambient pad, pads, warm synths
choir pad | ghostly choir synth, ethereal voices pad, heavenly pad, airy vocal pad, ambient voices
glass pad | glass harmonica, wine glasses, icy pad, glassy synth, cold shimmering pad, bowed glasses
sweep pad | swooshing pad, filter pad, swelling synth, morphing pad, phasing pad, resonant sweep
bell synth | glassy bells, dx7 bells, fm synth, sparkling synth, crystal synth, digital chimes, twinkling synth,
  bell pluck, synth pluck
sitar | ravi shankar, raga strings, indian strings, tanpura, veena, sitarist
banjo | banjo picker, banjo roll, dixie banjo, tenor banjo, frailing banjo, banjo picking
koto | guzheng, japanese harp, shamisen, oriental zither, asian plucked strings, gayageum
kalimba | sansa, likembe, lamellophone, plucked tines, thumbpiano
bagpipes | uilleann pipes, pipes and drone, scottish bagpipe, bag pipes, piper, highland piper
steel drums | steel pans, trinidad pans, pan drum, caribbean drum melody, calypso drums, hang drum
timpani | kettle drum, orchestral timpani, symphonic drums, timpanist, booming orchestra drum, timp roll
"""

_STYLES = """
lo-fi | lofi, chill beats, study beats, lo fi hip hop, chillhop beats, mellow hip hop beat, jazzhop, bedroom beats
house | tech house, progressive house, edm, dance club, four to the floor, ibiza, club beat, nightclub music,
  chicago house
techno | detroit techno, berlin techno, acid techno, hard techno, underground club, industrial techno
drum and bass | d&b, liquid dnb, jungle dnb, fast breakbeats, neurofunk, drum n bass, amen break
trap | trap rap, atlanta trap, drill, hip-hop beat, boom bap, rap, 808 beat, hip-hop instrumental, southern rap
rock | rock band, alternative rock, hard rock, rock and roll, grunge, britpop, punk rock, rock anthem, stadium rock
funk | james brown, funk groove, slap bass groove, jam band funk, funky soul, parliament
disco | studio 54, nu disco, bee gees, saturday night fever, abba, dancefloor strings, retro dance
bossa nova | bossa, jobim, rio de janeiro, girl from ipanema, samba jazz, latin lounge, bossanova
salsa | son cubano, latin dance, rumba, latin percussion party, havana, mambo night, cuban, latin
reggae | ska, dub, bob marley, rocksteady, offbeat skank, kingston, dancehall, roots reggae
jazz swing | big band, swing jazz, jazz club, hard bop, cool jazz, jazz combo, jazzy, jazz trio, duke ellington
blues | chicago blues, shuffle blues, slow blues, blues bar, muddy waters, bb king, blues jam, electric blues
ballad | pop ballad, power ballad, romantic ballad, pop song, slow dance, tearjerker, adele
waltz | viennese waltz, strauss, ballroom, three-four dance, slow waltz, waltzing
march | military march, sousa, parade, marching, military band, brass band march, drumline
ambient | drone, soundscape, brian eno, meditation music, space music, background atmosphere, spa music, yoga music,
  atmospheric pads
chiptune | 8 bit, video game retro, gameboy music, nintendo, 16-bit, super mario, pixel game, arcade
folk | indie folk, folk guitar song, americana, folksy, acoustic singer, bob dylan, acoustic ballad
celtic | irish, scottish, jig, reel, irish folk, pub tune, celtic dance, gaelic
polka | bavarian, oktoberfest, beer hall, oompah, czech dance, german folk dance
lullaby | cradle song, nursery, goodnight song, baby sleep music, bedtime, soothing children's song
cinematic | epic trailer, film score, hans zimmer, soundtrack, orchestral epic, movie music, trailer, film music
folk tune | folk song, traditional folk song, old tune, country dance, ballad tune, traditional melody
game rock | doom metal soundtrack, shooter rock, heavy game music, fps soundtrack
game soundtrack | game music, rpg music, level theme, dungeon theme, video game background
string quartet | chamber quartet, violins viola and cello, haydn quartet, beethoven quartet
string orchestra | orchestra of strings, string serenade, chamber orchestra, adagio for strings
woodwind quartet | woodwind ensemble, wind quintet, chamber woodwinds, reeds and flutes
brass quartet | brass quintet, brass choir, brass band, ensemble of brass
saxophone quartet | saxophone group, sax ensemble, saxes together
recorder consort | medieval, renaissance, early music ensemble, renaissance dance, tudor
choir | choral, motet, anthem, a capella, mass, gregorian, church choir
church organ | organ fugue, bach chorale on organ, liturgical music, organ toccata
piano | piano solo, classical piano solo, chopin, sonata, etude, concert pianist
harpsichord | bach keyboard, scarlatti, couperin, rococo, harpsichord suite
classical guitar | spanish classical guitar, segovia, guitar etude, solo nylon guitar piece
mallets | marimba band, vibraphone and marimba, percussion mallets
baroque trio | baroque, trio sonata, telemann, basso continuo, corelli
orchestra | orchestral music, symphony, symphony orchestra, concert music, classical orchestral
synth quartet | wendy carlos, synthesizer classical, moog bach, electronic bach
8-bit classical | chiptune classical, 8-bit bach, nes classical
accordion | accordion band, parisian street music, musette waltz
music box | music box melody, ballerina box, tinkling lullaby box
pizzicato | plucked strings music, sneaky cartoon strings, pizzicato polka
harp and flute | flute with harp, harp duet, gentle chamber duo
jazz group | jazz quartet, modern jazz quartet, cool jazz chamber, vibes jazz
folk group | folk band, village musicians, barn dance band, country fair band
"""

DRUMS = (
    "drums", "drum kit", "drum groove", "drum machine", "beats", "snare and kick", "live drums", "drum pattern",
    "808 drums", "breakbeats", "backbeat", "cymbals and drums", "electronic drums", "brushed drums", "kick and snare",
    "punchy drums", "percussion", "a beat", "drum loop",
)  # fmt: skip


def _table(text: str) -> dict[str, tuple[str, ...]]:
    """Words by name of "name | word, word" lines; an indented line continues the one above."""
    lines = (line.split("|") for line in text.strip().replace("\n  ", " ").splitlines())
    return {name.strip(): tuple(word.strip() for word in words.split(",")) for name, words in lines}


def _read(name: str) -> dict[str, tuple[str, ...]]:
    """A table in training/text/lexicon/, in which lines that begin with # are comments."""
    lines = Path(__file__).with_name("lexicon").joinpath(f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return _table("\n".join(line for line in lines if not line.startswith("#")))


INSTRUMENT_SYNONYMS = _table(_INSTRUMENTS)
STYLE_SYNONYMS = _table(_STYLES)
INSTRUMENT_LEXICON = _read("instruments")
STYLE_LEXICON = _read("styles")


# ---- words for music in general -------------------------------------------------------------------------------------


def _entries(text: str) -> tuple[str, ...]:
    """Split a comma-separated list that may run over several lines.

    Args:
        text: entries separated by commas; line breaks count as spaces.

    Returns:
        The entries in order, each once.
    """
    return tuple(dict.fromkeys(" ".join(entry.split()) for entry in text.split(",") if entry.strip()))


MOOD_WORDS = tuple(
    dict.fromkeys(
        MOODS
        + _entries("""
sexy, seductive, blissful, ironic, folksy, earthy, vast, honest, weird, bizarre, robotic, painful, hesitant,
curious, surprised, awestruck, forgiving, sleepless, feverish, drunk, windy, sunlit, sparkling, glittering,
twinkling, rosy, golden, silver, crimson
""")
    )
)

SOUNDS = _entries("""
loud, noisy, hushed, muted, muffled, distant, close, dry, wet, reverberant, echoing, resonant, booming, thick,
thin, dense, sparse, minimal, minimalist, busy, simple, complex, intricate, ornate, plain, bare, full, rich,
lush, layered, clean, crisp, clear, pure, polished, lofi, lo-fi, hi-fi, vintage, retro, old-fashioned,
old-school, modern, futuristic, contemporary, classic, traditional, ancient, medieval, archaic, primitive,
acoustic, electric, electronic, digital, analog, synthetic, distorted, fuzzy, crunchy, crackling, dusty, grainy,
glitchy, percussive, plucked, bowed, blown, strummed, picked, sung, whispered, hummed, whistled, clapping,
stomping, tapping, ringing, buzzing, droning, humming, pulsing, throbbing, pounding, punchy, heavy, light, hard,
deep, low, high, shrill, piercing, sharp, harsh, abrasive, metallic, wooden, glassy, silky, velvety, creamy,
sweetened, mellowed, nasal, breathy, hollow, round, fat, huge, massive, tiny, small, big, short, long, flowing,
fluid, legato, staccato, pizzicato, tremolo, vibrato, arpeggiated, syncopated, swung, straight, steady, regular,
irregular, broken, choppy, jerky, stuttering, repetitive, looping, evolving, building, rising, soaring,
climbing, falling, descending, fading, swelling, crescendo, diminuendo, fortissimo, forte, mezzo forte, mezzo
piano, pianissimo, melodic, melodious, tuneful, lyrical, singing, harmonic, harmonious, consonant, dissonant,
atonal, tonal, modal, chromatic, polyphonic, contrapuntal, monophonic, homophonic, orchestral, symphonic, solo,
unison, unaccompanied, instrumental, vocal, wordless, rhythmic, polyrhythmic, ambient, experimental, improvised,
virtuosic, beautiful, lovely, pretty, gorgeous, ugly, perfect, awesome, amazing, great, good, bad, terrible,
boring, interesting, unusual, original, typical, familiar, famous, unknown, beginner, amateur, professional,
easy, difficult, slow, fast, quick, rapid, speedy, moderate, medium, leisurely, unhurried, lazy, dragging,
sluggish, brisk, hurried, rushing, racing, breakneck, walking, running, galloping, marching, dancing, strolling,
skipping, rocking, rolling, driving, cruising
""")

TEMPOS = _entries("""
slow, very slow, extremely slow, slowish, fast, very fast, extremely fast, fastish, quick, rapid, moderate,
mid-tempo, midtempo, medium tempo, medium, downtempo, uptempo, up-tempo, half-time, double-time, leisurely,
unhurried, lively, brisk, steady, relaxed, easy, frantic, breakneck, largo, larghetto, lento, grave, adagio,
adagietto, andante, andantino, moderato, allegretto, allegro, vivace, vivacissimo, presto, prestissimo, rubato,
walking pace, at a walking tempo, at a gentle pace, at a fast tempo, at a slow tempo, at a moderate tempo,
high-speed, tempo moderato, in no hurry
""")

GENRES = _entries("""
classical, baroque, renaissance, medieval, romantic, impressionist, modernist, minimalism, chamber music, opera,
oratorio, choral, hymn, chorale, gospel, spiritual, gregorian chant, plainchant, mass, requiem, motet, madrigal,
lied, aria, cantata, fugue, canon, prelude, toccata, sonata, sonatina, symphony, concerto, overture, suite,
partita, etude, nocturne, ballade, rhapsody, scherzo, intermezzo, impromptu, fantasia, variations, rondo,
minuet, waltz, polka, mazurka, polonaise, gavotte, bourree, sarabande, gigue, allemande, courante, march,
fanfare, serenade, divertimento, string quartet, brass band, big band, swing, jazz, cool jazz, bebop, hard bop,
free jazz, smooth jazz, latin jazz, acid jazz, gypsy jazz, dixieland, ragtime, stride, boogie-woogie, blues,
delta blues, rhythm and blues, soul, motown, funk, disco, rock, classic rock, hard rock, punk, punk rock,
post-punk, new wave, grunge, indie, indie rock, alternative, britpop, shoegaze, post-rock, progressive rock,
psychedelic rock, surf rock, rockabilly, rock and roll, metal, heavy metal, thrash metal, death metal, black
metal, doom metal, metalcore, industrial, folk, folk song, indie folk, irish folk, celtic, jig, reel, hornpipe,
strathspey, air, shanty, sea shanty, ballad, country, bluegrass, americana, western, honky-tonk, cajun, zydeco,
klezmer, balkan, flamenco, fado, tango, bossa nova, samba, salsa, mambo, rumba, cha-cha, bolero, merengue,
bachata, cumbia, reggaeton, reggae, ska, dub, dancehall, calypso, soca, afrobeat, afrobeats, highlife, amapiano,
kwaito, bhangra, bollywood, raga, indian classical, gamelan, chinese traditional, japanese traditional, arabic,
turkish, persian, hawaiian, pop, synthpop, electropop, dream pop, power pop, teen pop, k-pop, j-pop, city pop,
europop, ballroom, hip hop, hip-hop, rap, boom bap, trap, drill, phonk, grime, lofi hip hop, trip hop, chillhop,
r&b, neo soul, electronic, electronica, ambient, dark ambient, drone, new age, downtempo, chillout, chillwave,
vaporwave, synthwave, retrowave, outrun, house, deep house, tech house, progressive house, acid house, future
bass, tropical house, techno, minimal techno, detroit techno, trance, psytrance, hardstyle, gabber, drum and
bass, jungle, breakbeat, breakcore, garage, uk garage, dubstep, edm, electro, idm, glitch, noise, chiptune,
8-bit, 16-bit, video game music, game soundtrack, film score, film music, trailer music, soundtrack, musical
theatre, cabaret, circus music, carnival music, nursery rhyme, lullaby, children's song, christmas carol,
christmas music, holiday music, wedding march, anthem, national anthem, elevator music, muzak, easy listening,
lounge, exotica, world music, library music, stock music, jingle, ringtone, theme song, intro, outro, interlude,
loop, beat, groove, riff, jam, banger, bop, tune, track, mixtape, instrumental, backing track, pastiche, mashup,
remix
""")

INSTRUMENT_WORDS = _entries("""
piano, grand piano, upright piano, honky-tonk piano, electric piano, rhodes, wurlitzer, harpsichord, clavinet,
clavichord, celesta, glockenspiel, music box, vibraphone, marimba, xylophone, tubular bells, bells, church
bells, chimes, dulcimer, organ, pipe organ, church organ, hammond organ, reed organ, accordion, harmonica,
bandoneon, melodica, concertina, guitar, acoustic guitar, classical guitar, nylon guitar, nylon-string guitar,
steel guitar, steel-string guitar, electric guitar, jazz guitar, clean guitar, muted guitar, distorted guitar,
overdriven guitar, slide guitar, twelve-string guitar, bass, acoustic bass, electric bass, bass guitar, fretless
bass, slap bass, synth bass, upright bass, double bass, contrabass, violin, fiddle, viola, cello, violoncello,
strings, string ensemble, string section, string orchestra, orchestra, harp, timpani, choir, voices, vocals,
singer, soprano, alto, tenor, baritone, choir aahs, trumpet, cornet, flugelhorn, muted trumpet, trombone, tuba,
euphonium, french horn, horn, horns, brass, brass section, brass ensemble, saxophone, sax, soprano sax, alto
sax, tenor sax, baritone sax, oboe, english horn, bassoon, clarinet, bass clarinet, piccolo, flute, alto flute,
recorder, pan flute, ocarina, shakuhachi, whistle, tin whistle, bagpipes, woodwinds, winds, wind quintet, synth,
synthesizer, synth lead, lead synth, square lead, saw lead, synth pad, pad, warm pad, synth strings,
arpeggiator, arpeggio, pluck, theremin, vocoder, turntables, sampler, sitar, banjo, mandolin, ukulele, lute,
oud, bouzouki, shamisen, koto, guzheng, erhu, pipa, kalimba, thumb piano, steel drum, steel drums, steelpan,
hang drum, tabla, djembe, taiko, bodhran, drums, drum kit, drum set, drum machine, 808, 909, kick, kick drum,
bass drum, snare, snare drum, hi-hat, hi-hats, cymbal, cymbals, ride cymbal, crash cymbal, toms, tom-tom,
rimshot, claps, handclaps, finger snaps, percussion, hand percussion, shaker, tambourine, triangle, cowbell,
woodblock, castanets, maracas, guiro, claves, bongos, congas, timbales, cajon, gong, brushes, jazz trio, piano
trio, string quartet, rock band, marching band, chamber ensemble, ensemble, combo, quartet, trio, duo, duet,
quintet, square lead, saw lead, sine lead, bell synth, synth voice, synth brass, choir pad, glass pad, sweep
pad, bowed pad, pizzicato strings, e-piano, cembalo, celeste, harmonium, squeezebox, drawbar organ, palm-muted
guitar, crunchy guitar, heavy guitar, stand-up bass, nes, gameboy, keys, solo violin, solo cello, solo piano,
melody, chords, bassline, bass line, lead, accompaniment, counterpoint, harmony
""")

SCENES = _entries("""
a rainy day, a sunny morning, a summer evening, a winter night, a snowy village, a foggy street, a quiet lake,
the sea, the ocean, waves on the beach, a tropical beach, a desert, a forest, an enchanted forest, a jungle, a
mountain, a valley, a river, a waterfall, a garden, a meadow, a farm, the countryside, a village fair, a castle,
a ruined castle, a dungeon, a haunted house, a graveyard, a cave, a church, a cathedral, a temple, a monastery,
a ballroom, a palace, a theatre, a concert hall, a coffee shop, a cafe in paris, a smoky bar, a jazz club, a
nightclub, a dance floor, a festival, a party, a birthday, a wedding, a funeral, a parade, a circus, a carnival,
a casino, a saloon, a pub, a tavern, a campfire, a road trip, a highway at night, a city at night, a big city, a
subway, a train ride, an airport, a flight, outer space, a space station, a distant planet, the moon, the stars,
a sunrise, a sunset, a storm, thunder and lightning, a battlefield, a war, a duel, a boss fight, a final boss, a
battle, a chase, a car chase, a heist, a spy mission, a murder mystery, a detective story, a horror movie, a
monster, zombies, vampires, ghosts, witches, dragons, knights, pirates, cowboys, samurai, ninjas, robots,
aliens, superheroes, a hero's journey, a quest, an adventure, a treasure hunt, a fairy tale, a love story, a
first kiss, a breakup, a goodbye, a reunion, a childhood memory, a lost friend, an old photograph, a dream, a
nightmare, a daydream, falling asleep, waking up, studying, reading, working, coding, cooking, dinner, cleaning,
driving, walking, running, a workout, the gym, yoga, meditation, a massage, a spa, a baby, a bedtime story,
kids, children playing, a playground, a school, a puppy, a cat, a horse, birds, butterflies, a clock, a machine,
a factory, a computer, a puzzle, a puzzle game, a platform game, a role-playing game, a racing game, an arcade,
a shop, a menu screen, a title screen, a level, game over, victory, defeat, a podcast, a vlog, a documentary, a
commercial, an advert, a news report, a trailer, a slideshow, credits, a phone call, a waiting room, an
elevator, a hotel lobby, a restaurant, a shopping mall, christmas, halloween, new year's eve, easter,
valentine's day, carnival in rio, a tea ceremony, an irish pub, an old western, old vienna, medieval times,
ancient rome, ancient egypt, the renaissance, the roaring twenties, the fifties, the sixties, the seventies, the
eighties, the nineties, the future, the past, a royal court, a coronation, a procession, a prayer, a dirge, an
elegy, heaven, hell, the underworld, the deep sea, an underwater world, the ice age, the savanna, a market in
morocco, a dance
""")

KEY_NAMES = _entries(
    "C, C sharp, Db, D, D sharp, Eb, E, F, F sharp, Gb, G, G sharp, Ab, A, A sharp, Bb, B, C#, F#, G#, E flat, B flat"
)
MODES = _entries("major, minor")
METERS = _entries("4/4, 3/4, 2/4, 6/8, 12/8, 5/4, 7/8, 2/2, 9/8, common time, waltz time, cut time")
DECADES = _entries(
    "50s, 60s, 70s, 80s, 90s, 2000s, 1920s, 1950s, 1980s, eighties, nineties, eighteenth-century, baroque-era"
)

# Words whose nearest caption words the report of the text encoder shows.
PROBES = _entries("""
peaceful, haunting, spooky, gloomy, groovy, banger, lullaby, 8-bit, chill, furious, joyful, eerie, cozy,
heartbroken, majestic, sleepy, sassy, creepy, uplifting, frantic, graveyard, zombie, thunder, kitten, prayer,
victory, warfare, sunset
""")
