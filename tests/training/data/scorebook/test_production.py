"""Production profiles: levels, loops without a seam, notes in time, effects that do what they say, true words."""

import dataclasses

import numpy as np
import pytest

from pipelines.vivace_reading import read_exclusion, read_prompt
from tests.helpers.note_timing import lag_s, note_rows, outside_at_the_seam
from training.data.scorebook import build, production
from training.data.scorebook.captions import (
    ROOM_HELDOUT,
    ROOM_WORDS,
    SIDECHAIN_HELDOUT,
    SIDECHAIN_WORDS,
    SOUND_HELDOUT,
    SOUND_WORDS,
    Facts,
    captions,
    heldout_captions,
)
from training.data.scorebook.drumkits import SAMPLE_KITS, play_kit
from training.data.scorebook.labels import loop_s, note_columns, row_of, set_production
from training.data.scorebook.production import PROFILES, draw_production, duck, kicks_of
from training.data.scorebook.styles import STYLES
from training.data.sources.fetch import (
    DRUM_SAMPLES_LICENSE,
    SOUNDFONT_LICENSES,
    SOUNDFONTS,
    find_drum_samples,
    find_soundfont,
)
from training.data.sources.licences import forbidden_words

RATE = 24000


@pytest.fixture(scope="module")
def settings():
    return build.Settings(7, ("procedural",), RATE, 2, 6.0, (str(find_soundfont()),), "none")


def rendered(settings, profile, index, loop=False, room=None):
    """A piece that drums accompany, with the profile: piece, audio, tracks, notes, seconds."""
    renderer = build.renderer_of(settings.soundfonts[0], RATE, 2)
    piece, rng = build.draw_piece(settings, 2 * index, {})
    piece.production = profile
    piece.room = room or ("hall" if profile == "arena" else PROFILES[profile].rooms[-1])
    clip_s = settings.clip_s
    if loop:
        piece.start_q = piece.start_q // piece.bar_q * piece.bar_q
        clip_s = loop_s(piece, clip_s / 2, RATE)
    audio, tracks, notes = renderer.render(piece, clip_s, rng, loop)
    return piece, audio, tracks, notes, clip_s


@pytest.fixture(scope="module")
def dry_lags(settings):
    return [own_lag(*rendered(settings, "dry", index)[1:]) for index in range(3)]


def own_lag(audio, tracks, notes, clip_s):
    rows = note_rows(note_columns(tracks, notes))
    return lag_s(audio.mean(axis=0), rows[rows[:, 1] >= 0, 1], RATE)


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "dry"])
def test_effects_leave_notes_in_time_and_levels_sound(settings, dry_lags, profile):
    """Notes begin when they do in the dry mix, whose own lag test_scorebook.py measures."""
    differences = []
    for index, dry_s in enumerate(dry_lags):
        _, audio, tracks, notes, clip_s = rendered(settings, profile, index)
        differences.append(own_lag(audio, tracks, notes, clip_s) - dry_s)
        assert audio.shape == (2, round(clip_s * RATE)) and audio.dtype == np.float32
        assert np.abs(audio).max() <= 0.7 and -26 < 20 * np.log10(audio.std()) < -12
    assert abs(np.median(differences)) <= 0.002


@pytest.mark.parametrize("profile", PROFILES)
def test_loops_have_no_seam(settings, profile):
    outside = []
    for index in range(4):
        outside += outside_at_the_seam(rendered(settings, profile, index, loop=True)[1])
    assert np.mean(outside) <= 0.1


def test_the_same_draws_make_the_same_bits_and_one_channel_sounds_alike(settings):
    for profile in ("club", "lo-fi"):
        first, again = (rendered(settings, profile, 1)[1] for _ in range(2))
        assert (first == again).all()
        mono = build.renderer_of(settings.soundfonts[0], RATE, 1)
        piece, rng = build.draw_piece(settings, 2, {})
        piece.production, piece.room = profile, "room"
        one = mono.render(piece, 6.0, rng)[0]
        assert one.shape == (1, 6 * RATE) and 20 * abs(np.log10(one.std() / first.std())) < 1


def spectrum(audio):
    return np.square(np.abs(np.fft.rfft(audio.mean(axis=0))))


def test_profiles_sound_as_they_say(settings):
    """Lo-fi lacks what is high, an arena is wide and rings on, lo-fi is narrow, a club is louder and denser."""
    made = {name: [rendered(settings, name, index)[1] for index in (0, 1, 3)] for name in PROFILES}
    high = {name: np.mean([(s := spectrum(a))[len(s) // 2 :].sum() / s.sum() for a in found])
            for name, found in made.items()}  # fmt: skip
    side = {name: np.mean([np.var(a[0] - a[1]) / np.var(a) for a in found]) for name, found in made.items()}
    crest = {name: np.mean([np.abs(a).max() / a.std() for a in found]) for name, found in made.items()}
    loudness = {name: np.mean([a.std() for a in found]) for name, found in made.items()}
    assert high["lo-fi"] < 0.5 * high["dry"] and side["arena"] > 2 * side["dry"] and side["lo-fi"] < side["arena"] / 4
    assert crest["club"] < crest["dry"] and loudness["club"] > 1.2 * loudness["dry"]


def test_reverb_rings_and_a_dry_click_stays_a_click():
    click = np.zeros((2, RATE))
    click[:, 100] = 1.0
    wet = production.reverberate(click, click, "hall", RATE, np.random.default_rng(0))
    assert np.abs(wet[:, :100]).max() < 1e-6 and np.abs(wet[:, RATE // 2 :]).max() > 1e-4
    assert not np.allclose(wet[0], wet[1])


def test_the_kick_turns_the_others_down_and_not_itself():
    gain = duck(np.array([0.5]), RATE, RATE, 0.7, 0.5)
    assert gain[: RATE // 4].min() == 1.0 and gain[RATE // 2 : RATE // 2 + 50].max() < 0.35 and gain[-1] > 0.99
    notes = np.array([[0.0, 0.1, 36.0, 1.0], [0.5, 0.1, 38.0, 1.0], [1.0, 0.1, 35.0, 1.0]])
    assert kicks_of(notes).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("name", ["chorus", "echo", "compress", "saturate", "wow"])
def test_effects_repeat_with_the_period_and_do_not_shift(name):
    """The third and the fourth of equal seconds come out equal; peaks stay within a millisecond."""
    period = RATE
    rng = np.random.default_rng(1)
    second = np.zeros((2, period))
    second[:, 6000:] = rng.standard_normal(period - 6000) * np.exp(-np.arange(period - 6000) / 3000)
    sound = np.tile(second, 4)
    made = {
        "chorus": lambda: production.chorus(sound, RATE, period, rng),
        "echo": lambda: production.echo(sound, RATE, 0.25),
        "compress": lambda: production.compress(sound, RATE, 4.0),
        "saturate": lambda: production.saturate(sound, -6.0),
        "wow": lambda: production.wow(sound, RATE, 0.0008, period, rng),
    }[name]()
    assert made.shape == sound.shape and np.abs(made - sound).max() > 1e-3
    passes = made.reshape(2, 4, period)
    assert np.allclose(passes[:, 2, 100:-100], passes[:, 3, 100:-100], atol=1e-3)
    if name in ("compress", "saturate", "wow"):
        lags = np.correlate(made[0, 2 * period : 3 * period], sound[0, 2 * period - 48 : 3 * period + 48], "valid")
        assert abs(np.argmax(lags) - 48) <= 0.001 * RATE


def test_profiles_follow_the_style_and_a_third_is_dry():
    draws = {}
    for name in ("lo-fi", "techno", "cinematic"):
        rng = np.random.default_rng(0)
        draws[name] = [draw_production(name, STYLES[name].genre, rng) for _ in range(600)]
        share = np.mean([profile == "dry" for profile, _ in draws[name]])
        assert 0.27 < share < 0.4 and {profile for profile, _ in draws[name]} == set(PROFILES)
        assert all((profile == "dry") <= (room == "dry") for profile, room in draws[name])
    common = {name: max(set(d), key=d.count) for name, d in
              ((n, [p for p, _ in found if p != "dry"]) for n, found in draws.items())}  # fmt: skip
    assert common == {"lo-fi": "lo-fi", "techno": "club", "cinematic": "hall"}


def test_captions_state_the_production_only_where_it_is_so(settings):
    words = {**SOUND_WORDS, "sidechain": SIDECHAIN_WORDS, "dry": ("dry and close", "unprocessed sound")}
    held = {name: (text,) for name, text in (*SOUND_HELDOUT.items(), ("sidechain", SIDECHAIN_HELDOUT))}
    found = dict.fromkeys(words, 0)
    for index in range(120):
        piece, _ = build.draw_piece(settings, index, {})
        set_production(piece, settings, index)
        row = row_of(piece, piece.tracks, np.full((2, 10), 0.1), RATE, 6.0, (7, index), False, "x")
        assert row["production"] == piece.production and row["room"] == piece.room
        true = {piece.production, *(("sidechain",) if row["sidechain"] else ())}
        assert not row["sidechain"] or (piece.production == "club" and row["drums"] and row["instruments"])
        for table, texts in ((words, row["text"]), (held, row["text_heldout"])):
            for name, phrases in table.items():
                stated = sum(any(phrase in text.lower() for phrase in phrases) for text in texts)
                assert not stated or name in true, (name, texts)
                found[name] += stated
    assert all(found.values()), found


def test_every_profile_can_be_asked_for_and_the_reader_of_prompts_lets_the_words_be():
    phrases = [text for table in (ROOM_WORDS, SOUND_WORDS) for texts in table.values() for text in texts]
    phrases += [*SIDECHAIN_WORDS, *ROOM_HELDOUT.values(), *SOUND_HELDOUT.values(), SIDECHAIN_HELDOUT]
    for phrase in phrases:
        read = read_exclusion(f"warm piano, {phrase}")
        assert not read.excluded and not read.exclusive and read.words == f"warm piano, {phrase}"
        assert read_prompt(f"warm piano, {phrase}") == read_prompt("warm piano"), phrase
    facts = Facts(
        style="house", style_words=("house",), style_heldout_words=("club groove",), genre="electronic",
        moods=("happy",), instruments=("piano",), melody="piano", drums="drums", bpm=124.0, key=None,
        time_signature="4/4", bars=None, room="room", dynamics="medium", sidechain=True,
    )  # fmt: skip
    for name in SOUND_WORDS:
        known = dataclasses.replace(facts, production=name)
        texts = [text for seed in range(60) for text, _ in captions(known, 8, np.random.default_rng(seed))]
        share = np.mean([any(phrase in text.lower() for phrase in SOUND_WORDS[name]) for text in texts])
        assert 0.08 < share < 0.35 and all(any(phrase in text for text in texts) for phrase in SOUND_WORDS[name])
        later = [text for seed in range(60) for text, _ in heldout_captions(known, 4, np.random.default_rng(seed))]
        assert any(SOUND_HELDOUT[name] in text for text in later) and any(SIDECHAIN_HELDOUT in text for text in later)
        assert not any(phrase in text for text in later for phrase in SOUND_WORDS[name])


def test_drum_samples_begin_on_time_and_the_rest_is_left_to_the_soundfont():
    folder = find_drum_samples()
    events = [(1000, True, 36, 127), (5000, True, 46, 100), (9000, True, 42, 100), (12000, True, 70, 90)]
    for kit in SAMPLE_KITS:
        sound, rest = play_kit(folder, kit, events, 2 * RATE, RATE)
        assert sound.shape == (2 * RATE, 2) and rest == [events[3]]
        loud = np.abs(sound).max(axis=1)
        assert loud[:990].max() == 0 and loud[1000:1120].max() > 0.15  # within 5 ms
    silence, _ = play_kit(folder, "real", events[:3], 2 * RATE, RATE)
    ringing, _ = play_kit(folder, "real", events[:2], 2 * RATE, RATE)
    assert (
        np.square(silence[16000:]).sum() < 0.05 * np.square(ringing[16000:]).sum()
    )  # the closed hat ends the open one


def test_every_drum_sample_is_in_the_public_domain():
    folder = find_drum_samples()
    notice = next(folder.parents[1].glob("doc/sonic-pi-samples/copyright")).read_text()
    stated = {block.split("etc/samples/")[1].split(".flac")[0]: block for block in notice.split("\n\n")
              if "Files: etc/samples/" in block}  # fmt: skip
    for name in {sample for kit in SAMPLE_KITS.values() for sample in kit.values()}:
        assert stated[name].rstrip().endswith("License: CC0"), name
        assert (folder / f"{name}.flac").is_file()


def test_the_licence_of_every_bank_is_free():
    assert set(SOUNDFONT_LICENSES) == set(SOUNDFONTS)
    for text in (*SOUNDFONT_LICENSES.values(), DRUM_SAMPLES_LICENSE):
        assert text.startswith(("MIT", "CC0", "CC-BY-")) and not forbidden_words(text)
