"""The piano roll's side of the server: notes to the browser and back, what its buttons make, chips of what is read."""

import zipfile
from dataclasses import replace

import httpx
import numpy as np
import pytest
import soundfile
import torch

from page import generate_tab
from page.build import launch_options, make_app
from page.desk import Desk
from page.front import chords_fault
from page.jobs import call_arguments
from page.notes import bars_in, notes_of, read_bars, read_notes, roll_value
from page.request import pipeline_arguments
from page.roll import make_job
from page.sessions import Sessions
from page.takes import deck_value, history_value, keep_output, link
from page.understood import understood
from pipelines.composer_vivace import ComposerVivace
from pipelines.pipeline_vivace import Score, Track, VivacePipeline, read_recipe
from tests.conftest import make_pipeline

RATE = 8000
WORDS = "slow piano and drums, 4 bars, 120 bpm"


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A desk whose model plays notes and composes."""
    torch.manual_seed(0)
    composer = ComposerVivace(width=24, layers=1, heads=2, kernel=3, text_dim=16).eval()
    pipe = VivacePipeline.from_pipe(make_pipeline(instruments=("piano", "flute", "drums")), composer=composer)
    pipe.set_progress_bar_config(disable=True)
    own = Desk(pipe, "tiny", Sessions(tmp_path_factory.mktemp("sessions")))
    yield own
    own.sessions.close()


def tune(pitch: int = 72) -> Score:
    lead = [(4 * bar + q, 1, pitch + q, 0.8) for bar in range(4) for q in range(3)]
    beats = [(q, 1, 36 if q % 2 else 38, 0.7) for q in range(16)]
    return Score((Track("lead", lead, "flute"), Track("drums", beats)), 120, bars=4, key="A minor", chords="Am F")


@pytest.fixture(scope="module", params=[False, True], ids=["mix", "stems"])
def take(desk, request):
    return made(desk, tune(), request.param)


def made(desk, score, stems: bool = False, **more):
    config, session = desk.pipe.config, desk.sessions.of("me")
    settings = generate_tab.blank(config) | {"prompt": WORDS, "seed": 3, "score": score, "stems": stems} | more
    output = desk.pipe(**generate_tab.arguments_of(settings, config))
    return keep_output(session, output, settings)[0]


def work(desk, job):
    """What a job makes, as `jobs.work` and the tab do it."""
    output = desk.pipe(**call_arguments(desk.pipe, job.arguments))
    return keep_output(desk.sessions.of("me"), output, job.settings, job.task, job.grid, job.made)[0]


def tracks(score: Score) -> list[dict]:
    """Its notes as the browser sends them."""
    return [
        {"role": one.role, "notes": np.round(one.notes * (960, 960, 1, 127)).astype(int).tolist()}
        for one in score.tracks
    ]


def samples(path) -> np.ndarray:
    return soundfile.read(path, dtype="int16")[0].astype(int)


def test_notes_go_to_the_browser_and_come_back(take):
    score, begin = notes_of(take)
    value = roll_value(take)
    assert score == tune() and begin == 0
    assert (value["bars"], value["bar"], value["beat"], value["tick_s"]) == (4, 3840, 960, 0.5 / 960)
    assert value["chords"] == ["Am", "F", "Am", "F"]
    assert sorted(value["scale"]) == [0, 2, 4, 5, 7, 9, 11] and len(value["drums"]) == 11
    assert [one["role"] for one in value["tracks"]] == ["lead", "drums"]
    assert value["tracks"][0]["notes"][1] == [960, 960, 73, 102]
    assert read_notes(score, value["tracks"]) == score
    more = [*tracks(score), {"role": "bass", "notes": [[0, 1920, 40, 100]]}]
    assert read_notes(score, more).notes("bass").tolist() == [[0, 2, 40, 100 / 127]]
    shown = deck_value([take], roll=True)
    assert shown["tracks"][0]["roll"] == value and shown["selectable"]
    assert deck_value([take])["tracks"][0]["roll"] is None


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (None, "notes is None"), ([], r"notes is \[\]"), ([{"role": "bass", "notes": []}] * 2, "notes has the track"),
        ([{"role": "lead", "notes": [[0, 1, 60]]}, {"role": "drums", "notes": []}], "allowed: onset, duration"),
        ([{"role": "lead", "notes": [["0", 1, 60, 1]]}, {"role": "drums", "notes": []}], "allowed: onset, duration"),
        ([{"role": "lead", "notes": [[0, 960, 900, 64]]}, {"role": "drums", "notes": []}], "a pitch of 900"),
        ([{"role": "lead", "notes": [[9e9, 960, 60, 64]]}, {"role": "drums", "notes": []}], "last note begins in bar"),
        ([{"role": "lead", "notes": [[float("nan"), 1, 60, 64]]}, {"role": "drums", "notes": []}], "not finite"),
        ([{"role": "lead", "notes": []}, {"role": "drums", "notes": []}], "notes is empty"),
        ([{"role": "lead", "notes": [[0, 1, 60, 64]] * 10_001}, {"role": "drums", "notes": []}], "more than 10000"),
        ([*tracks(tune()), {"role": "tuba", "notes": []}], "role is 'tuba'"),
    ],
)  # fmt: skip
def test_what_is_no_notes_is_refused_in_one_line(sent, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_notes(tune(), sent)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_changed_notes_are_played(desk, take):
    score = tune()
    lead = score.tracks[0].notes.copy()
    lead[4, 2] += 5  # in the second bar
    changed = Score((Track("lead", lead, "flute"), score.tracks[1]), 120, bars=4, key="A minor", chords="Am F")
    job = make_job("notes", take, tracks(changed), None, "", desk.pipe.config)
    after = work(desk, job)
    assert notes_of(after)[0] == changed and Score.load(after.midi) == changed and after.seed == take.seed
    assert after.made[0][0] == 2.0 and history_value(desk.sessions.of("me"))["takes"][0]["about"]
    if take.stems:  # the drums, which have the same notes, are what they were, but for the level
        rest = {}
        with zipfile.ZipFile(take.stems) as old, zipfile.ZipFile(after.stems) as new:
            for role in ("lead", "drums"):
                one, two = (samples(z.open(f"{t.name}.{role}.wav")) for z, t in ((old, take), (new, after)))
                rest[role] = np.abs(two - one * (one @ two) / (one @ one)).max()
        assert rest["drums"] <= 2 < 20 < rest["lead"], rest
    else:
        one, two = samples(take.path), samples(after.path)
        assert np.array_equal(one[: 2 * RATE], two[: 2 * RATE]) and np.array_equal(one[5 * RATE :], two[5 * RATE :])
        assert not np.array_equal(one, two) and after.kind == "notes"
    again = work(desk, make_job("notes", after, tracks(score), None, "", desk.pipe.config))  # an edit of an edit
    assert notes_of(again)[0] == score
    with pytest.raises(ValueError, match="score has the notes of the audio"):
        make_job("notes", take, tracks(score), None, "", desk.pipe.config)


def test_new_notes_in_chosen_bars(desk, take):
    job = make_job("rewrite", take, tracks(tune()), [2.1, 3.9], "", desk.pipe.config)
    after = work(desk, job)
    new = notes_of(after)[0]
    assert new != tune() and set(new.changed_bars(tune())) <= {1, 2}  # a new note may ring on
    assert new.instruments == tune().instruments and after.made[0][0] == 2.0
    if not take.stems:
        one, two = samples(take.path), samples(after.path)
        assert np.array_equal(one[: 2 * RATE], two[: 2 * RATE]) and np.array_equal(one[5 * RATE :], two[5 * RATE :])
        assert not np.array_equal(one, two)
    assert bars_in(tune(), 0.0, [1.97, 4.03]) == (1, 2) and bars_in(tune(), 0.5, [0.0, 99.0]) == (0, 4)
    for region, message in ((None, "no bars are chosen"), ([8.0, 9.0], "has no bar")):
        with pytest.raises(ValueError, match=message):
            make_job("rewrite", take, tracks(tune()), region, "", desk.pipe.config)


def full(pitch: int = 57) -> Score:
    """`tune` with chords and a bass."""
    harmony = [(4 * bar, 4, pitch + step, 0.7) for bar in range(4) for step in (0, 3, 7)]
    bass = [(4 * bar, 4, 33, 0.7) for bar in range(4)]
    lead, drums = tune().tracks
    return replace(tune(), tracks=(lead, Track("harmony", harmony, "piano"), Track("bass", bass), drums))


@pytest.mark.parametrize("stems", [False, True], ids=["mix", "stems"])
def test_harmony_and_bass_follow_chords_that_are_typed(desk, stems):
    before, score = made(desk, full(), stems), full()
    assert roll_value(before)["chords"] == ["Am", "F", "Am", "F"]
    job = make_job("notes", before, tracks(score), None, "", desk.pipe.config, ["Am", "F", "Dm7 G7", "F"])
    after = work(desk, job)
    new = notes_of(after)[0]
    assert roll_value(after)["chords"] == ["Am", "F", "Dm7 G7", "F"]
    for role in ("lead", "drums"):
        np.testing.assert_array_equal(new.notes(role), score.notes(role))
    assert new.notes("harmony").tolist() != score.notes("harmony").tolist()
    assert set(new.changed_bars(score)) <= {2, 3} and Score.load(after.midi).chords == new.chords
    inside = new.notes("harmony")[(new.notes("harmony")[:, 0] >= 8) & (new.notes("harmony")[:, 0] < 10)]
    assert {int(pitch) % 12 for pitch in inside[:, 2]} <= {2, 5, 9, 0}
    if not stems:
        one, two = samples(before.path), samples(after.path)
        assert np.array_equal(one[: 4 * RATE], two[: 4 * RATE]) and not np.array_equal(one, two)
    # the same notes in another sound go by the new chords, too
    other = work(desk, make_job("sound", after, tracks(new), None, "jazz", desk.pipe.config, ["Am", "F", "C", ""]))
    assert roll_value(other)["chords"] == ["Am", "F", "C", "C"]


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (["Am", "H", "Am", "F"], r"chord lane, bar 2: chords has 'H'; allowed: a root"),
        (["Am", "F", "Am:3", "F"], "chord lane, bar 3: 'Am:3' does not fill the 4 beats"),
        (["Am", "F", "Am F G", "F"], "chord lane, bar 3: 'Am F G' does not fill"),
        (["Am"], "a text for each of the 4 bars"), ("Am F", "chord lane: 'Am F'"), ([1, 2, 3, 4], "a text for each"),
    ],
)  # fmt: skip
def test_what_is_no_chord_is_refused_in_words(sent, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_bars(sent, tune())
    assert "\n" not in str(caught.value)


def test_chords_of_bars_become_a_progression():
    assert read_bars(["Am", "F", "Am", "F"], tune()) == ("Am F", [])
    assert read_bars(["", "", "C7/E", "F:1 G:3"], tune()) == ("N:4 N:4 C7/E:4 F:1 G:3", [0, 1, 2, 3])
    assert read_bars(["Am", "F", "Dm7:3 G7:1", "F C"], tune())[0] == "Am:4 F:4 Dm7:3 G7:1 F:2 C:2"
    again = replace(tune(), chords="Am:4 F:4 Dm7:3 G7:1 F:2 C:2")
    assert read_bars(["Am", "F", "Dm7:3 G7:1", "F C"], again) == (again.chords, [])
    assert read_bars(["", "", "", ""], tune()) == (None, [0, 1, 2, 3])
    assert chords_fault(b"bar=Dm7+G7&beats=4") == "" == chords_fault(b"bar=C%23m7b5%2FE&beats=3")
    assert "chords has 'Xm'" in chords_fault(b"bar=Xm&beats=4") and "does not fill the 3" in chords_fault(
        b"bar=A+B&beats=3"
    )


def test_other_sounds_and_parts_of_the_same_notes(desk, take):
    config = desk.pipe.config
    other = work(desk, make_job("sound", take, tracks(tune()), None, "loud jazz, 90 bpm", config))
    assert notes_of(other)[0] == tune() and other.title == "loud jazz, 90 bpm"
    assert (
        other.seconds == take.seconds
        and other.seed != take.seed
        and not np.array_equal(*map(samples, (other.path, take.path)))
    )
    split = work(desk, make_job("parts", take, tracks(tune()), None, "", config))
    with zipfile.ZipFile(split.stems) as zipped:
        parts = [samples(zipped.open(name)) for name in zipped.namelist()]
    assert np.array_equal(samples(split.path), sum(parts)) and split.seed == take.seed
    assert np.array_equal(samples(split.path), samples(take.path)) == (take.stems is not None)
    # what the history restores makes the same piece again
    again = desk.pipe(**generate_tab.arguments_of(split.settings, config))
    assert np.array_equal(samples(split.path), np.round(again.audios[0, 0].astype(float) * 32768).astype(int))
    with pytest.raises(ValueError, match="action is 'dance'"):
        make_job("dance", take, tracks(tune()), None, "", config)


def test_a_piece_without_notes_has_no_roll(desk):
    silent = Desk(make_pipeline(), "tiny", desk.sessions)
    output = silent.pipe("slow piano", duration_s=1, seed=1)
    (take,) = keep_output(desk.sessions.of("me"), output, generate_tab.blank(silent.pipe.config) | {"prompt": "piano"})
    assert roll_value(take) is None and not deck_value([take], roll=True)["selectable"]
    page = make_app(silent)
    (player,) = [block for block in page.blocks.values() if getattr(block, "elem_id", None) == "deck"]
    assert "'act'" not in player.js_on_load
    desk.__post_init__()  # the jobs of the other tests have their model again


def test_a_midi_file_is_the_melody(desk, tmp_path):
    tune().save(tmp_path / "tune.mid")
    config = desk.pipe.config
    settings = generate_tab.blank(config) | {"prompt": "slow jazz", "seed": 1, "score": str(tmp_path / "tune.mid")}
    arguments = generate_tab.arguments_of(settings | {"notes_as": "melody"}, config)
    assert arguments["melody"] == tune().only("lead") and "score" not in arguments
    score = desk.pipe(**arguments).scores[0]
    np.testing.assert_array_equal(score.notes("lead"), tune().notes("lead"))
    assert (score.bars, score.bpm) == (4, 120) and len(score.roles) > 1
    with pytest.raises(ValueError, match="melody and score: give one"):
        pipeline_arguments({"prompt": "a", "melody": tune(), "score": tune()}, config)
    (tmp_path / "bad.mid").write_text("do re mi")
    with pytest.raises(ValueError, match=r"melody 'bad.mid': no MIDI file"):
        pipeline_arguments({"prompt": "a", "melody": str(tmp_path / "bad.mid")}, config)


def said(config, prompt: str, **fields) -> str:
    settings = generate_tab.blank(config) | {"prompt": prompt} | fields
    try:
        return understood(settings, generate_tab.arguments_of(settings, config), "", config)
    except ValueError as error:
        return understood(settings, None, str(error), config)


def test_chips_say_what_is_understood_and_what_counts(desk, tmp_path):
    config = desk.pipe.config
    words = "4-bar loop at 96 bpm in A minor, electric piano, no drums"
    html = said(config, words)
    for text in ("4 bars, 10.0 s", "96 bpm", "A minor", "seamless loop", "harmony: electric piano", "no drums"):
        assert f">{text}<" in html
    assert "set by hand" not in html and ">4/4 <small>chosen" in html
    html = said(config, words, bpm=120, key="A minor")
    assert "120 bpm <small>set by hand, not 96 bpm<" in html and 'data-clear="bpm"' in html
    assert "A minor <small>set by hand<" in html
    assert "72 bpm <small>the prompt says &#x27;slow&#x27;<" in said(config, "slow piano")
    assert said(config, "") == "" and "bpm is 1000; allowed" in said(config, "piano", bpm=1000)
    assert "<script>" not in said(config, "<script> | key: <script>, 3 to 4 bars")
    tune().save(tmp_path / "tune.mid")
    html = said(config, "piano", score=str(tmp_path / "tune.mid"))
    assert "120 bpm <small>from the notes" in html and "lead (12 notes), drums (16 notes)" in html


def test_a_recording_is_handed_on_as_the_melody(desk, tmp_path):
    config, path = desk.pipe.config, tmp_path / "hum.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(2 * RATE) / 5), RATE)
    settings = generate_tab.blank(config) | {"prompt": "slow jazz", "hum": str(path), "seed": 1}
    arguments = generate_tab.arguments_of(settings, config)
    assert arguments["melody"] == path and "hum" not in arguments
    assert "lead: your recording <small>" in said(config, "slow jazz", hum=str(path))
    output = desk.pipe("slow jazz", bars=1, seed=1)
    kept = keep_output(desk.sessions.of("me"), output, settings)[0].settings["hum"]
    path.unlink()  # Gradio's own copy goes; that of the piece stays
    assert generate_tab.arguments_of(settings | {"hum": kept}, config)["melody"].is_file()
    for fields, message in (
        ({"hum": str(path)}, "melody is not there any more"),
        ({"hum": kept, "score": kept, "notes_as": "melody"}, "melody is given twice"),
    ):
        with pytest.raises(ValueError, match=message):
            generate_tab.arguments_of(settings | fields, config)


def test_a_recording_is_handed_on_as_the_sound_and_kept_with_the_piece(desk, tmp_path):
    config, path = desk.pipe.config, tmp_path / "clip.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(2 * RATE) / 5), RATE)
    settings = generate_tab.blank(config) | {"prompt": "slow jazz", "sounds_like": str(path), "seed": 1}
    assert generate_tab.arguments_of(settings, config)["sounds_like"] == path
    output = desk.pipe("slow jazz", bars=1, seed=1)
    kept = keep_output(desk.sessions.of("me"), output, settings)[0].settings["sounds_like"]
    path.unlink()
    assert generate_tab.arguments_of(settings | {"sounds_like": kept}, config)["sounds_like"].is_file()
    with pytest.raises(ValueError, match="sounds_like is not there any more"):
        generate_tab.arguments_of(settings, config)
    assert not desk.takes_reference and "sounds_like" not in generate_tab.arguments_of(
        generate_tab.blank(config) | {"prompt": "slow jazz"}, config
    )


def test_sections_become_a_timeline_and_a_form(desk):
    lines = ("2 intro, solo piano", "", "1 bars: verse, loud", " 1 Chorus, jazz", "1 verse 2, fast", "1 chorus, jazz")
    config, words = desk.pipe.config, "\n".join(lines)
    settings = generate_tab.blank(config) | {"prompt": "calm, 120 bpm", "seed": 1, "sections": words}
    arguments = generate_tab.arguments_of(settings, config)
    assert arguments["bars"] == 6 and arguments["form"] == [("A", 2), ("B", 1), ("C", 1), ("B'", 1), ("C", 1)]
    given = call_arguments(desk.pipe, arguments)
    assert given["prompt"][0] == ("bar 1", "calm, 120 bpm, intro, solo piano")
    assert [start for start, _ in given["prompt"]] == ["bar 1", "bar 3", "bar 4", "bar 5", "bar 6"]
    output = desk.pipe(**given)
    take = keep_output(desk.sessions.of("me"), output, settings)[0]
    assert take.seconds == 12 and notes_of(take)[0].bars == 6
    lead = output.scores[0].notes("lead", "harmony", "bass")
    one, two = (
        {(round(on - 4 * bar, 3), pitch) for on, _, pitch, _ in lead if 0 <= on - 4 * bar < 4} for bar in (3, 5)
    )
    assert one == two  # the chorus comes again
    html = said(config, "calm", sections=words)
    assert "6 bars" in html and "of the sections" in html and ">bars 5 to 5: verse 2, fast <small>" in html
    (again,) = [desk.pipe(**call_arguments(desk.pipe, generate_tab.arguments_of(take.settings, config)))]
    assert np.array_equal(again.audios[0], output.audios[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sections": "verse"}, "sections has 'verse'; allowed: bars and words"),
        ({"sections": "0 verse"}, "sections has '0 verse'"),
        ({"sections": "2 verse", "length": 8}, "sections has 2 bars in all, but bars is 8"),
        ({"sections": "2 verse", "unit": "seconds", "length": 8}, "but duration_s is 8"),
        ({"sections": "1 a\n" * 27}, "sections has 27 lines"),
        ({"sections": "400 a\n400 b"}, "bars"),
    ],
)
def test_what_are_no_sections_is_refused_in_one_line(desk, fields, message):
    settings = generate_tab.blank(desk.pipe.config) | {"prompt": "calm, 120 bpm"} | fields
    with pytest.raises(ValueError, match=message) as caught:
        generate_tab.arguments_of(settings, desk.pipe.config)
    assert "\n" not in str(caught.value)


def test_a_word_that_the_model_does_not_know_is_marked(desk):
    assert "piano" in desk.words
    asked = {"prompt": "slow pianno, <kazoo>"}
    html = understood(generate_tab.blank(desk.pipe.config) | asked, asked, "", desk.pipe.config, desk.words)
    assert ">kazoo <small>unknown word<" in html and 'data-swap="pianno" data-near="piano">piano?<' in html
    assert html.count("unknown word<") == 2


def test_mp3_and_ogg_are_written_when_they_are_asked_for(desk, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    take = made(desk, tune())
    page = make_app(desk).queue(default_concurrency_limit=None)
    _, address, _ = page.launch(**launch_options(desk) | {"prevent_thread_lock": True, "quiet": True})
    try:
        shown = deck_value([take])["tracks"][0]
        assert "melody" in desk.endpoints["generate"]
        for kind in ("mp3", "ogg"):
            path = take.path.with_suffix(f".{kind}")
            assert shown[kind] == link(path) and not path.is_file()
            answer = httpx.get(f"{address.rstrip('/')}/{shown[kind]}")
            assert answer.status_code == 200 and answer.content == path.read_bytes()
            about = soundfile.info(path)
            assert abs(about.duration - take.seconds) < 0.1 and read_recipe(path) == read_recipe(take.path)
        soundfile.write(tmp_path / "mine.wav", np.zeros(RATE), RATE)  # not a piece of the page
        for path in (tmp_path / "mine.mp3", take.path.with_name("other.mp3")):
            assert httpx.get(f"{address.rstrip('/')}/{link(path)}").status_code in (403, 404) and not path.exists()
    finally:
        page.close()
