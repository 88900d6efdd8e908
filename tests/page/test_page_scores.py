"""Scores on the page: MIDI files in, notes and stems out, for programs and in the form; uploads of our own files."""

import subprocess
import zipfile

import numpy as np
import pytest
import soundfile
from gradio_client import Client, handle_file

from page import generate_tab
from page.build import launch_options, make_app
from page.desk import Desk
from page.edit_tab import edit_arguments
from page.sessions import Sessions
from page.takes import deck_value, history_value, keep_output, keep_upload
from pipelines.composer_vivace import ComposerVivace
from pipelines.pipeline_vivace import Score, Track, VivacePipeline, read_recipe
from pipelines.vivace_files import find_ffmpeg
from tests.conftest import make_pipeline

RATE = 8000


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A desk whose model plays notes."""
    own = Desk(make_pipeline(instruments=("flute", "drums")), "tiny", Sessions(tmp_path_factory.mktemp("sessions")))
    yield own
    own.sessions.close()


def tune(pitch: int = 72) -> Score:
    lead = [(q, 0.5, pitch if q == 5 else 72, 0.9) for q in range(8)]
    return Score((Track("lead", lead, "flute"), Track("drums", [(0, 1, 36, 0.8), (4, 1, 38, 0.8)])), 120)


def samples(path) -> np.ndarray:
    return soundfile.read(path, dtype="int16")[0].astype(int)


def test_programs_send_notes_and_get_notes_and_stems(desk, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    tune().save(tmp_path / "tune.mid")
    tune(60).save(tmp_path / "other.mid")
    (tmp_path / "bad.mid").write_text("do re mi")
    page = make_app(desk).queue(default_concurrency_limit=None)
    _, address, _ = page.launch(**launch_options(desk) | {"prevent_thread_lock": True, "quiet": True})
    try:
        client = Client(address, verbose=False)
        score = handle_file(tmp_path / "tune.mid")
        files, about = client.predict(
            prompt="", score=score, stems=True, midi=True, seed=1, api_name="/generate"
        )  # fmt: skip
        kinds = [name.rpartition("vivace-1-0.")[2] for name in files]
        assert kinds == ["wav", "drums.wav", "lead.wav", "mid"] and about["conditions"][0]["bpm"] == 120
        assert np.array_equal(samples(files[0]), samples(files[1]) + samples(files[2]))
        assert Score.load(files[3]) == tune()
        only, _ = client.predict(prompt="", score=score, parts=["drums"], midi=True, seed=1, api_name="/generate")
        assert len(only) == 2 and Score.load(only[1]) == tune().only("drums")
        edited, _ = client.predict(
            prompt="slow piano", audio=handle_file(files[0]), score=handle_file(tmp_path / "other.mid"), seed=2,
            api_name="/edit",
        )  # fmt: skip
        before, after = samples(files[0]), samples(edited[0])
        assert len(edited) == 1 and np.array_equal(before[: 2 * RATE], after[: 2 * RATE])
        assert (before[2 * RATE :] != after[2 * RATE :]).any()
        for asked, words in (
            ({"score": handle_file(tmp_path / "bad.mid")}, "score 'bad.mid': no MIDI file"),
            ({"score": score, "parts": ["bass"]}, "the score has: lead, drums"), ({"stems": True}, "stems needs score"),
        ):  # fmt: skip
            with pytest.raises(Exception, match=words):
                client.predict(prompt="piano", **asked, api_name="/generate")
    finally:
        page.close()


def test_a_model_without_notes_shows_nothing_of_them(desk, tmp_path):
    other = Desk(make_pipeline(), "tiny", Sessions(tmp_path))
    page = make_app(other)
    assert not {"score", "parts", "stems", "midi"} & {name for names in other.endpoints.values() for name in names}
    shown = {block.elem_id: block.visible for block in page.blocks.values() if getattr(block, "elem_id", None)}
    assert shown["notes"] is False
    desk.__post_init__()  # the jobs of the other tests have their model again


def test_the_form_makes_a_piece_with_notes_and_stems(desk, tmp_path):
    tune().save(tmp_path / "my tune.mid")
    config = desk.pipe.config
    settings = generate_tab.blank(config) | {"score": str(tmp_path / "my tune.mid"), "stems": True, "seed": 3}
    output = desk.pipe(**generate_tab.arguments_of(settings, config))
    session = desk.sessions.of("somebody")
    (take,) = keep_output(session, output, settings)
    (tmp_path / "my tune.mid").unlink()
    assert take.title == "flute, drums" and Score.load(take.midi) == tune()
    with zipfile.ZipFile(take.stems) as zipped:
        assert zipped.namelist() == [f"{take.name}.lead.wav", f"{take.name}.drums.wav"]
        stems = [samples(zipped.open(name)) for name in zipped.namelist()]
    assert np.array_equal(samples(take.path), sum(stems))
    row, track = history_value(session)["takes"][0], deck_value([take])["tracks"][0]
    assert row["mid"] == track["mid"] and row["zip"].endswith(".zip") and track["zip"] == row["zip"]
    again = desk.pipe(**generate_tab.arguments_of(take.settings, config))  # restored, though the upload is gone
    assert np.array_equal(again.audios, output.audios)
    plain = desk.pipe("slow piano", duration_s=1, seed=1)
    (take,) = keep_output(session, plain, generate_tab.blank(config) | {"prompt": "slow piano"})
    assert take.midi is None and take.stems is None


def test_notes_are_changed_in_the_edit_tab(desk, tmp_path):
    """The MIDI of a piece comes back with one note changed: its bar alone is made anew, and is shown so."""
    config = desk.pipe.config
    session = desk.sessions.of("an editor")
    made = desk.pipe("slow piano", score=tune(), seed=3)
    (take,) = keep_output(session, made, generate_tab.blank(config) | {"prompt": "slow piano"})
    settings = dict.fromkeys(("negative_prompt", "guidance_scale")) | {
        "task": "notes", "prompt": "slow piano", "num_waveforms_per_prompt": 1, "seed": 4, "score": None,
    }  # fmt: skip
    with pytest.raises(ValueError, match="score is missing"):
        edit_arguments(settings, take, None, config)
    with pytest.raises(ValueError, match="score has the notes of the audio; nothing is to be made anew"):
        edit_arguments(settings | {"score": str(take.midi)}, take, None, config)
    tune(60).save(tmp_path / "changed.mid")
    arguments, _, stretches = edit_arguments(settings | {"score": str(tmp_path / "changed.mid")}, take, None, config)
    edited = desk.pipe(**arguments)
    ((first, last),) = stretches
    assert first == 2.0 and last >= take.seconds  # the second bar, at 120 bpm
    (kept,) = keep_output(session, edited, settings | {"score": str(tmp_path / "changed.mid")}, "notes", made=stretches)
    before, after = samples(take.path), samples(kept.path)
    assert np.array_equal(before[: 2 * RATE], after[: 2 * RATE]) and (before[2 * RATE :] != after[2 * RATE :]).any()
    assert Score.load(kept.midi) == tune(60)


def test_stems_need_a_score_or_a_composer(desk):
    settings = generate_tab.blank(desk.pipe.config) | {"prompt": "piano", "stems": True, "length": 2}
    with pytest.raises(ValueError, match="stems needs score"):
        generate_tab.arguments_of(settings, desk.pipe.config)
    composer = ComposerVivace(width=24, layers=1, heads=2, kernel=3, text_dim=16)
    config = VivacePipeline.from_pipe(desk.pipe, composer=composer).config
    arguments = generate_tab.arguments_of(settings, config)
    assert arguments["stems"] is True and arguments["bars"] == 2


def test_an_upload_of_ours_keeps_its_recipe_and_its_grid(desk, tmp_path):
    out = desk.pipe("slow piano", bars=2, bpm=97, key="A minor", loop=True, seed=1)
    out.save(tmp_path / "loop.flac")
    take = keep_upload(desk.sessions.of("me"), tmp_path / "loop.flac", "loop.flac")
    assert read_recipe(take.path) == read_recipe(take.flac) == read_recipe(tmp_path / "loop.flac")
    assert take.grid == {"bpm": 97.0, "beats_per_bar": 4, "downbeat_s": 0.0} and take.loop
    settings = dict.fromkeys(("negative_prompt", "seed", "guidance_scale")) | {
        "task": "anew", "prompt": "slow piano", "num_waveforms_per_prompt": 1,
    }  # fmt: skip
    arguments, _, _ = edit_arguments(settings, take, [1.0, 2.0], desk.pipe.config)
    edited = desk.pipe(**arguments)
    assert edited.conditions[0]["key"] == "A minor" and edited.conditions[0]["loop"]


@pytest.mark.skipif(find_ffmpeg() is None, reason="needs ffmpeg")
def test_uploads_that_only_ffmpeg_reads(desk, tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.3 * np.sin(np.arange(2 * 16000) * 0.1), 16000)
    subprocess.run(
        [find_ffmpeg(), "-v", "error", "-i", str(tmp_path / "a.wav"), "-c:a", "aac", str(tmp_path / "a.m4a")],
        check=True,
    )
    take = keep_upload(desk.sessions.of("me"), tmp_path / "a.m4a", "a.m4a")
    assert take.seconds == pytest.approx(2.0, abs=0.1) and soundfile.info(take.path).samplerate == 16000
    (tmp_path / "c.m4a").write_bytes((tmp_path / "a.m4a").read_bytes()[:300])
    with pytest.raises(ValueError, match="audio cannot be read, or is too long"):
        keep_upload(desk.sessions.of("me"), tmp_path / "c.m4a", "c.m4a")
