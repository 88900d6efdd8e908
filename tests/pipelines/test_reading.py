"""Many spellings of tempo, key, meter, length, loop and chords: each is read right, or said not to be understood."""

import itertools
import time
from fractions import Fraction

import numpy as np
import pytest

from pipelines.pipeline_vivace import KEYS, parse_chord, parse_chords, parse_key, read_music, spell_key, understand
from pipelines.vivace_theory import BEAT_UNITS, beat_length, parse_beat_unit, read_chord, read_progression


def said(prompt: str) -> dict:
    """What was read, without what was not said."""
    music = vars(read_music(prompt))
    return {name: value for name, value in music.items() if value is not None and name not in ("notes", "prompt")}


def settled(prompt="piano", loop=None, beat_unit=None, default_duration_s=10.0, **given):
    names = ("bpm", "key", "time_signature", "bars", "duration_s", "chords")
    values = [given.get(name) for name in names]
    return understand(prompt, *values, default_duration_s, 600.0, loop=loop, beat_unit=beat_unit)


KEY_SPELLINGS = [  # as an argument, a label or, but for the last column, in words; how it is shown; the network's name
    ("C Minor", "C minor", "C minor"), ("c MINOR", "C minor", "C minor"), ("C-minor", "C minor", "C minor"),
    ("C:min", "C minor", "C minor"), ("Cmin", "C minor", "C minor"), ("F#m", "F# minor", "Gb minor"),
    ("F sharp Minor", "F# minor", "Gb minor"), ("F\u266f minor", "F# minor", "Gb minor"),
    ("Gb minor", "Gb minor", "Gb minor"), ("A#maj", "A# major", "Bb major"), ("c# maj", "C# major", "Db major"),
    ("B\u266d Major", "Bb major", "Bb major"), ("E flat major", "Eb major", "Eb major"),
    ("E-Flat Major", "Eb major", "Eb major"), ("Cb major", "Cb major", "B major"), ("E# minor", "E# minor", "F minor"),
    ("a-Moll", "A minor", "A minor"), ("H moll", "B minor", "B minor"), ("h-Moll", "B minor", "B minor"),
    ("B-Dur", "Bb major", "Bb major"), ("Fis-Dur", "F# major", "Gb major"), ("es-Moll", "Eb minor", "Eb minor"),
    ("As-Dur", "Ab major", "Ab major"), ("gis-moll", "G# minor", "Ab minor"), ("C# moll", "C# minor", "Db minor"),
    ("D dorian", "D dorian", "D minor"), ("E Phrygian", "E phrygian", "E minor"), ("F lydian", "F lydian", "F major"),
    ("G mixolydian", "G mixolydian", "G major"), ("C# harmonic minor", "C# harmonic minor", "Db minor"),
    ("E phrygian dominant", "E phrygian dominant", "E major"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "shown", "network"), KEY_SPELLINGS)
def test_a_key_is_read_in_any_spelling_and_shown_as_spelled(text, shown, network):
    assert spell_key(text) == shown and parse_key(text) == network
    assert spell_key(shown) == shown and parse_key(shown) == network
    for prompt in (f"slow piano in {text}, 90 bpm", f"Key: {text}", f"key of {text}, strings", f"{text}, 8 bars"):
        assert read_music(prompt).key == shown, prompt
    known = settled(f"slow piano in {text}")
    assert known.key == shown == settled(key=text).key and parse_key(known.key) in KEYS


@pytest.mark.parametrize(
    ("text", "shown"),
    [("Am", "A minor"), ("am", "A minor"), ("AM", "A major"), ("f#", "F# major"), ("Bb", "Bb major"),
     ("EB MINOR", "Eb minor"), ("BB MAJOR", "Bb major"), ("key of C", "C major"), ("Key: Am", "A minor"),
     ("in Eb", "Eb major"), ("key=F#m", "F# minor"), ("8A", "A minor"), ("8b", "C major"), ("1A", "Ab minor"),
     ("12B", "E major"), ("11A", "Gb minor"), ("C minor scale", "C minor")],
)  # fmt: skip
def test_keys_as_arguments(text, shown):
    assert spell_key(text) == shown


def test_the_camelot_wheel_goes_in_fifths():
    for mode in "AB":
        classes = [KEYS.index(parse_key(f"{hour}{mode}")) for hour in (*range(1, 13), 1)]
        assert {(b - a) % 24 for a, b in itertools.pairwise(classes)} == {14}  # seven semitones up, the same mode
        assert len(set(classes)) == 12
    for text in ("0A", "13A", "8C", "s-dur", "Fs-dur", "key", "in", "minor", "H", "AA", "Am7"):
        with pytest.raises(ValueError, match=r"key is .*allowed"):
            spell_key(text)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        # keys
        ("Lofi in C Minor, 90 BPM", {"key": "C minor", "bpm": 90}), ("A MINOR, 90 BPM", {"key": "A minor", "bpm": 90}),
        ("LOFI IN A MINOR, 90 BPM", {"key": "A minor", "bpm": 90}), ("In Am", {"key": "A minor"}),
        ("piano, key of C, slow", {"key": "C major"}), ("piano in Eb", {"key": "Eb major"}),
        ("140 BPM, F#m", {"key": "F# minor", "bpm": 140}), ("lofi 90 bpm Am", {"key": "A minor", "bpm": 90}),
        ("8 bar loop, 96 bpm, Am", {"key": "A minor", "bpm": 96, "bars": 8, "loop": True}),
        ("dubstep F#m 140 bpm", {"key": "F# minor", "bpm": 140}), ("A Dorian", {"key": "A dorian"}),
        ("C minor/90 bpm", {"key": "C minor", "bpm": 90}), ("music in A, slow", {"key": "A major"}),
        # tempos
        ("ninety-six bpm", {"bpm": 96}), ("a hundred and twenty-eight bpm", {"bpm": 128}),
        ("one hundred bpm", {"bpm": 100}), ("one twenty bpm", {"bpm": 120}), ("90,5 bpm", {"bpm": 90.5}),
        ("1,200 bpm", {"bpm": 1200}), ("Beats per Minute (BPM): 100", {"bpm": 100}), ("(BPM): 100", {"bpm": 100}),
        ("BPM (120)", {"bpm": 120}), ("BPM - 140", {"bpm": 140}), ("120 b.p.m.", {"bpm": 120}),
        ("tempo: around 120", {"bpm": 120}), ("M.M. 84", {"bpm": 84}),
        ("in 4/4,120 bpm", {"bpm": 120, "time_signature": "4/4"}),
        ("Genre: Pop\nMood: happy\nBeats per Minute (BPM): 100", {"bpm": 100}),
        ("tempo 4/4", {"time_signature": "4/4"}),
        ("\u2669=120", {"bpm": 120, "beat_unit": "quarter"}), ("\u266a = 160", {"bpm": 160, "beat_unit": "eighth"}),
        ("\u2669. = 60", {"bpm": 60, "beat_unit": "dotted quarter"}),
        ("tempo 1/4 = 90", {"bpm": 90, "beat_unit": "quarter"}),
        ("dotted quarter = 60, 6/8", {"bpm": 60, "beat_unit": "dotted quarter", "time_signature": "6/8"}),
        ("eighth note = 160", {"bpm": 160, "beat_unit": "eighth"}),
        ("crotchet = 90", {"bpm": 90, "beat_unit": "quarter"}),
        ("UK drill 140 BPM half-time", {"bpm": 140}), ("120-128 bpm", {"bpm": 124}), ("90 to 95 bpm", {"bpm": 92.5}),
        ("between 120 and 128 bpm", {"bpm": 124}), ("BPM: 120\u2013128", {"bpm": 124}),
        # meters
        ("piano in 1/16 hi-hats style, 120 bpm", {"bpm": 120}), ("1/4 note delay", {}), ("3/16 delay", {}),
        ("1/2 dozen", {}), ("track 2/8", {}), ("six-eight time", {"time_signature": "6/8"}),
        ("common time", {"time_signature": "4/4"}), ("5/8 + 7/8", {"time_signature": "5/8"}),
        # lengths
        ("thirty-two bars of piano, 120 bpm", {"bars": 32, "bpm": 120}), ("twenty four bars", {"bars": 24}),
        ("4 Takte", {"bars": 4}), ("8 to 16 bars", {"bars": 8}), ("1 minute and 30 seconds", {"duration_s": 90.0}),
        ("1 min 30 s", {"duration_s": 90.0}), ("1m30s", {"duration_s": 90.0}), ("1:30 long", {"duration_s": 90.0}),
        ("1'30\"", {"duration_s": 90.0}), ("two minutes", {"duration_s": 120.0}), ("90 s", {"duration_s": 90.0}),
        ("a minute and a half", {"duration_s": 90.0}), ("half a minute", {"duration_s": 30.0}),
        ("2,5 minutes", {"duration_s": 150.0}), ("10-20 seconds", {"duration_s": 15.0}),
        # loops
        ("8-bar loop at 96 bpm in A minor", {"bars": 8, "bpm": 96, "key": "A minor", "loop": True}),
        ("seamless techno", {"loop": True}), ("loopable pad", {"loop": True}), ("a looping pad", {"loop": True}),
        ("no loop", {"loop": False}), ("not a loop", {"loop": False}), ("non-looping", {"loop": False}),
        ("chopped drum loops", {}), ("rap over a drum loop", {}), ("loop pedal guitar", {}), ("stay in the loop", {}),
    ],
)  # fmt: skip
def test_words_and_numbers(prompt, expected):
    assert said(prompt) == expected


@pytest.mark.parametrize("prompt", [
    "a minor detail", "A major hit", "A Minor Detail", "A MINOR DETAIL OF A MAJOR WORK", "used in a major film",
    "in the 80s", "80s synth pop", "12-bar blues", "I am calm", "I Am the drummer", "I Am A Rock", "in a minor mood",
    "songs in the key of life", "in A big room", "in AM radio style", "FM synth", "in G funk style", "in D-beat style",
    "vitamin D and B", "Bb clarinet and Eb alto", "four on the floor", "one man band", "24/7 party", "A B A form",
    "two-step garage", "party at 90 degrees", "12:30 pm", "D'n'B", "C++ soundtrack", "a",
])  # fmt: skip
def test_ordinary_words_say_nothing_and_nothing_is_said_of_them(prompt):
    assert said(prompt) == {} and read_music(prompt).notes == []


@pytest.mark.parametrize(
    ("prompt", "kind", "words"),
    [
        ("H minor", "key", "'H minor' is no key"), ("in a minor key", "key", "names no note"),
        ("Key: upbeat", "key", "'Key: upbeat' is no key"), ("key of H", "key", "is no key"),
        ("piano Am slow", "key", "'Am' may be a key or a chord"), ("140 bpm, Eb", "key", "'Eb' may be a key"),
        ("clarinet in A", "key", "'in A' may name the instrument"),
        ("from A minor to C major", "key", "'C major' is not used beside 'A minor'"),
        ("D dorian", "key", "'D dorian' is followed as minor"), ("house at 124, dark", "tempo",
        "'at 124' may be a tempo"),
        ("bpm: fast", "tempo", "'bpm' has no number"), ("90 bpm, later 120 bpm", "tempo", "'120 bpm' is not used"),
        ("120-128 bpm", "tempo", "its middle, 124, is taken"), ("5/8 + 7/8", "meter", "'7/8' is not used beside '5/8'"),
        ("in 1/4 time", "meter", "'1/4' is taken for the value of a note"), ("in 31/16", "meter", "is no meter"),
        ("8-16 bars", "length", "its first number is taken"), ("1.5 bars", "length", "no whole number of bars"),
        ("an 8-bar intro", "length", "a part or a place"), ("drums enter after 8 bars", "length", "a part or a place"),
        ("3 second reverb", "length", "'3 second reverb' is taken for a part"), ("at 23:59", "length",
        "a part or a place"),
        ("23:59", "length", "a time of day"), ("Am F C G on guitar", "chords",
        "'Am F C G' in the words are not followed"),
        ("chords: Am - F - C - G", "chords", "not followed"), ("Db:maj7 F:7", "chords", "not followed"),
    ],
)  # fmt: skip
def test_what_is_not_used_is_said(prompt, kind, words):
    notes = read_music(prompt).notes
    assert any(note.startswith(f"{kind}: ") and words in note for note in notes), notes
    assert settled(prompt).notes[: len(notes)] == notes


def test_every_number_in_words():
    units = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    for (value, ten), (more, unit) in itertools.product(enumerate(tens, 2), enumerate(["", *units])):
        for joint in ("-", " "):
            words = f"{ten}{joint}{unit}" if unit else ten
            assert said(f"piano at {words} bpm") == {"bpm": 10 * value + more}
            assert said(f"{words.title()} bars") == {"bars": 10 * value + more}
        assert said(f"one hundred and {words} beats per minute") == {"bpm": 100 + 10 * value + more}


def test_why_a_tempo_was_chosen_is_true():
    assert settled("strings", bars=2).bpm_reason == "no word of the prompt tells"
    assert settled("house at 124", bars=2).bpm_reason == "the prompt's tempo was not understood"
    assert settled("allegretto", bars=2).bpm == 112
    assert settled("not too fast", bars=2).bpm_reason == "no word of the prompt tells"


def test_arguments_go_before_words_which_is_said():
    known = settled("72 bpm, 4 bars, 3/4, in C minor", bpm=90, bars=8, time_signature="4/4", key="F#m", loop=False)
    assert (known.bpm, known.bars, known.time_signature, known.key) == (90, 8, "4/4", "F# minor")
    assert [note.partition(":")[0] for note in known.notes] == ["key", "meter", "tempo", "length"]
    assert "72 bpm" in known.notes[2] and "90" in known.notes[2]
    assert settled("72 bpm, 4 bars, in Gb minor", bpm=72, bars=4, key="F#m").notes == []
    assert "30 s" in settled("8 bars at 96 bpm, 30 seconds").notes[0]
    assert settled("8 bars at 96 bpm, 20 seconds").notes == []


def test_the_words_make_a_loop_unless_the_arguments_or_the_length_forbid():
    assert settled("8-bar loop at 96 bpm").loop is True and settled("funk").loop is False
    assert settled("funk loop", bpm=96).bars == 4  # whole bars, as with loop=True
    assert settled("funk loop", bpm=96) == settled("funk loop", bpm=96, loop=True)
    known = settled("funk loop", bpm=100, duration_s=10.0)
    assert known.loop is False and known.duration_s == 10.0 and "whole bars" in known.notes[-1]
    denied, forced = settled("funk loop", loop=False), settled("no loop", loop=True)
    assert denied.loop is False and denied.notes[-1].startswith("loop:")
    assert forced.loop is True and forced.notes[-1].startswith("loop:")
    with pytest.raises(ValueError, match="whole bars"):
        settled("funk", loop=True, bpm=100, duration_s=10.0)
    with pytest.raises(ValueError, match="bpm is 900"):
        settled("funk loop", bpm=900)


def test_what_bpm_counts():
    """The meter's beat unless another note is named; bars then have the length that musicians expect."""
    beats = {"4/4": "quarter", "3/4": "quarter", "2/2": "half", "6/8": "dotted quarter", "12/8": "dotted quarter",
             "7/8": "eighth", "5/8": "eighth", "3/8": "eighth", "9/16": "dotted eighth"}  # fmt: skip
    for meter, beat in beats.items():
        assert settled(bpm=60, time_signature=meter).beat_unit == beat and beat_length(meter) == BEAT_UNITS[beat]
        for unit, length in BEAT_UNITS.items():
            plain = settled(bpm=60, time_signature=meter, bars=4)
            if not 20 <= 60 * length / BEAT_UNITS[beat] <= 300:
                continue
            known = settled(bpm=60, time_signature=meter, bars=4, beat_unit=unit)
            assert known.bpm == pytest.approx(60 * float(length / BEAT_UNITS[beat]))
            assert known.duration_s == plain.duration_s * BEAT_UNITS[beat] / length  # exact: a fraction
            assert bool(known.notes) == (unit != beat)
    assert settled(bpm=140, time_signature="7/8", bars=8, beat_unit="quarter").duration_s == 12  # 28 quarters
    assert settled("quarter = 100, 6/8, 4 bars").duration_s == Fraction(36, 5)  # 12 quarters
    assert settled("dotted quarter = 60 in 6/8, 4 bars").duration_s == 8
    assert settled("quarter = 100, 6/8, 4 bars", bpm=60).duration_s == 8  # the argument counts beats
    assert settled("\u266a=200, 4 bars").bpm == 100
    for text in ("crotchet", "Quarter notes", "1/4", "quarter-note", "quarter"):
        assert parse_beat_unit(text) == Fraction(1, 4)
    with pytest.raises(ValueError, match=r"bpm is 320; allowed: .*160 quarter notes a minute in 7/8"):
        settled(bpm=160, time_signature="7/8", bars=8, beat_unit="quarter")
    with pytest.raises(ValueError, match="beat_unit is 'bar'; allowed: half"):
        settled(bpm=160, beat_unit="bar")


CHORD_SPELLINGS = {
    "C": ("Cmaj", "CM", "c", "Cmajor", "C:maj"), "Am": ("am", "Amin", "A-", "Ami", "A:min", "A\u2212"),
    "Bdim": ("B\u00b0", "bdim", "Bo", "B:dim"), "Cdim7": ("C\u00b07", "Co7", "C:dim7"), "Caug": ("C+", "C:aug"),
    "Cm7b5": ("C\u00f8", "C\u00f87", "Cm7(b5)", "Cm7\u266d5", "Cmin7b5", "C-7b5", "C:hdim7"),
    "Cmaj7": ("C\u03947", "C\u0394", "CM7", "CMaj7", "Cma7", "CMA7", "C^7", "C:maj7"),
    "Cm7": ("Cmi7", "C-7", "Cmin7", "cm7", "C:min7"), "Cmmaj7": ("CmM7", "Cm(maj7)", "C-\u03947", "C:minmaj7"),
    "C6/9": ("C69", "C6(9)"), "C7": ("Cdom7", "C:7"), "Bb7": ("bb7", "B\u266d7", "bb7"),
    "C7#5": ("C7+", "C+7", "Caug7"), "F#m": ("f#m", "F\u266fm"), "C7sus4": ("C7sus",),
}  # fmt: skip


@pytest.mark.parametrize("symbol", CHORD_SPELLINGS)
def test_chord_spellings(symbol):
    for other in CHORD_SPELLINGS[symbol]:
        np.testing.assert_array_equal(parse_chord(other), parse_chord(symbol), err_msg=other)


@pytest.mark.parametrize(
    ("symbol", "notes"),
    [("C13", [0, 2, 4, 7, 9, 10]), ("C7#9", [0, 3, 4, 7, 10]), ("C7(b9,#11)", [0, 1, 4, 6, 7, 10]),
     ("C6/9", [0, 2, 4, 7, 9]), ("C\u00f8", [0, 3, 6, 10]), ("C\u00b07", [0, 3, 6, 9]), ("C11", [0, 2, 5, 7, 10]),
     ("Cm11", [0, 2, 3, 5, 7, 10]), ("Cmaj7#11", [0, 4, 6, 7, 11]), ("C7b5", [0, 4, 6, 10]),
     ("C9sus4", [0, 2, 5, 7, 10]),
     ("Cm(add9)", [0, 2, 3, 7]), ("Cadd11", [0, 4, 5, 7]), ("C5", [0, 7]), ("C7b13", [0, 4, 7, 8, 10]), ("n.c.", [])],
)  # fmt: skip
def test_notes_of_chords(symbol, notes):
    assert np.flatnonzero(parse_chord(symbol)).tolist() == notes
    if notes:
        shifted = parse_chord(symbol.replace("C", "D", 1))
        np.testing.assert_array_equal(shifted, np.roll(parse_chord(symbol), 2))


def test_a_slash_bass_is_kept():
    chord = read_chord("D/F#")
    assert (chord.root, chord.bass, chord.intervals) == (2, 6, (0, 4, 7)) and chord.chroma[6] == 1
    assert read_chord("C6/9/E").bass == 4 and read_chord("Am").bass is None and read_chord("Am/G").chroma[7] == 1
    assert read_chord("A:min/b3").bass == 0 and read_chord("A:min/5").bass == 4
    assert [chord.bass for chord, _ in read_progression("C/E F/A", 4)] == [4, 9]


def roots(chords, beats_per_bar=4):
    return [(chord.root, len(chord.intervals), beats) for chord, beats in read_progression(chords, beats_per_bar)]


@pytest.mark.parametrize("chords", [
    "Am F C G", "am f c g", "Am - F - C - G", "Am-F-C-G", "Am \u2013 F \u2013 C \u2013 G", "Am|F|C|G",
    "| Am | F | C | G |",
    "Am, F, C, G", "Am -> F -> C -> G", "A:min F:maj C:maj G:maj", "Am:4 F:4 C:4 G:4", ["Am", "F", "C", "G"],
])  # fmt: skip
def test_spellings_of_a_progression(chords):
    np.testing.assert_array_equal(parse_chords(chords, 4, 20), parse_chords("Am F C G", 4, 20))


def test_harte_notation_is_told_from_beats():
    assert roots("C:7 F:7") == [(0, 4, 4), (5, 4, 4)]  # sevenths
    assert roots("C:7 F:7", 7) == [(0, 3, 7), (5, 3, 7)] and roots("C:6 F:6", 3) == [(0, 3, 6), (5, 3, 6)]  # whole bars
    assert roots("Am:2 F:2") == [(9, 3, 2), (5, 3, 2)] and roots("C:8 F:8") == [(0, 3, 8), (5, 3, 8)]
    assert roots("C:5 F:3") == [(0, 3, 5), (5, 3, 3)]  # one count that is no quality: all are beats
    assert roots("Am:3 C:5") == [(9, 3, 3), (0, 3, 5)]
    assert roots("C:min7 F:7 G:4") == [(0, 4, 4), (5, 4, 4), (7, 3, 4)]  # Harte, and a count that is no quality
    assert roots("C:min7:2 F:7:2 N") == [(0, 4, 2), (5, 4, 2), (None, 0, 4)]
    assert roots("C-7 F-") == [(0, 4, 4), (5, 3, 4)] and roots("C7(b9,#11) F") == [(0, 6, 4), (5, 3, 4)]
    for chords in ("Am:1.5", "Am:0", "Am:x", "C:7:0", "C:foo", "C:1.5", "C:", "- -"):
        with pytest.raises(ValueError, match="chords"):
            read_progression(chords, 4)


@pytest.mark.parametrize("prompt", [
    "90 bpm ", "A minor ", "Am F C G ", "in a loop ", "12:30 ", "1-", "1,", "((bpm ", "twenty one ", "Am", "[C(",
    "key ",
])  # fmt: skip
def test_a_long_prompt_takes_time_in_proportion(prompt):
    def seconds(times: int) -> float:
        begin = time.process_time()
        read_music(prompt * times)
        return time.process_time() - begin

    seconds(100)
    assert seconds(4000) < 40 * max(min(seconds(500) for _ in range(2)), 0.005)


def test_the_pipeline_follows_the_words(tiny_pipeline):
    """The network gets the key's class and the circle's length; the output shows the user's spelling, and notes."""
    seen, fast = [], {"seed": 1, "num_inference_steps": 1}
    hook = tiny_pipeline.unet.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    sharp = tiny_pipeline("piano loop in F#m at 124, quarter = 90 in 6/8, 2 bars", **fast)
    flat = tiny_pipeline("piano", key="Gb minor", bpm=90, beat_unit="quarter", time_signature="6/8", bars=2, **fast)
    hook.remove()
    keys = [call["added_cond_kwargs"]["key"] for call in seen]
    keys = [key[key >= 0] for key in keys]
    assert len(keys) > 1 and all((key == KEYS.index("Gb minor")).all() for key in keys)
    known = sharp.conditions[0]
    assert (known["key"], known["bpm"], known["beat_unit"], known["bars"]) == ("F# minor", 60, "dotted quarter", 2)
    assert known["loop"] is True and flat.conditions[0]["loop"] is False and flat.conditions[0]["key"] == "Gb minor"
    assert sharp.audios.shape == flat.audios.shape == (1, 1, 4 * 8000)
    assert any(note.startswith("tempo: 'at 124'") for note in known["notes"])
    assert sharp.recipes[0]["arguments"]["loop"] is None and flat.recipes[0]["arguments"]["beat_unit"] == "quarter"
    again = tiny_pipeline(**sharp.recipes[0]["arguments"])
    np.testing.assert_array_equal(again.audios, sharp.audios)
    faded = tiny_pipeline("piano loop", duration_s=1.0, fade_out_s=0.5, **fast)
    edited = tiny_pipeline("piano loop", audio=sharp.audios[0], sampling_rate=8000, strength=0.5, **fast)
    assert faded.conditions[0]["loop"] is edited.conditions[0]["loop"] is False
    assert all(out.conditions[0]["notes"][-1].startswith("loop:") for out in (faded, edited))


def test_labels_of_own_music_are_read_alike():
    from training.data.prepare.listing import CHECKS

    for text, _, network in KEY_SPELLINGS:
        assert CHECKS["key"](text) == network
    assert CHECKS["key"]("8A") == "A minor" and CHECKS["chord_symbols"]("C:min7, F:7, N") == ["C:min7", "F:7", "N"]
