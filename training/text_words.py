"""The words that people use to ask for music, in groups: the raw material of the text encoder's training text.

Entries are separated by commas; an entry may have several words. The lists are broad on purpose (the captions of
the scorebook use only a small part of them): what the text encoder has read, a user may write.
"""

from training.text_moods import MOODS as LISTED_MOODS


def _entries(text: str) -> tuple[str, ...]:
    """Split a comma-separated list that may run over several lines.

    Args:
        text: entries separated by commas; line breaks count as spaces.

    Returns:
        The entries in order, each once.
    """
    return tuple(dict.fromkeys(" ".join(entry.split()) for entry in text.split(",") if entry.strip()))


MOODS = tuple(
    dict.fromkeys(
        LISTED_MOODS
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

INSTRUMENTS = _entries("""
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

# Words whose neighbours matter most to a user; the report shows what the encoder puts beside them.
PROBES = _entries("""
peaceful, haunting, spooky, gloomy, groovy, banger, lullaby, 8-bit, chill, furious, joyful, eerie, cozy,
heartbroken, majestic, sleepy, sassy, creepy, uplifting, frantic, graveyard, zombie, thunder, kitten, prayer,
victory, warfare, sunset
""")
