"""Parts of the page without a server: turns, cancelling, sessions, requests, grids, and the exported Space."""

import asyncio
import itertools
import shutil
import subprocess
import sys
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
import soundfile

from page.about_tab import card
from page.desk import refusal
from page.edit_tab import chosen, edit_arguments, in_seconds
from page.examples import EXAMPLES
from page.gate import Gate, Refused
from page.generate_tab import arguments_of, blank
from page.jobs import PIPES, Cancelled, News, Remaining, run_job
from page.model import load_model
from page.request import file_name, overridden, pipeline_arguments
from page.sessions import MAX_TAKES, Sessions, Take, takes_folder
from page.takes import check_upload, deck_value, grid_of, history_value, keep_output, keep_upload, rename, zip_takes
from space.export import export_space, main, requirements


def make_take(session, title="song", grid=None, **more) -> Take:
    take_id, path = session.new_path(title)
    for target in (path, path.with_suffix(".flac")):
        soundfile.write(target, np.zeros(800), 8000)
    return Take(take_id, "made", title, title, path, 4.0, grid=grid, **more)


def test_sessions_take_turns_and_too_many_are_refused():
    async def scene():
        gate, order = Gate(max_waiting=6, max_per_session=4), []

        async def job(key: str):
            async with gate.turn(key) as turn:
                while not await turn.wait(0.01):
                    pass
                order.append(key)
                await asyncio.sleep(0.005)

        tasks = []
        for key in ("greedy", "greedy", "greedy", "greedy", "a", "b"):
            tasks.append(asyncio.create_task(job(key)))
            await asyncio.sleep(0)
        with pytest.raises(Refused, match="4 at a time"):
            await job("greedy")
        tasks.append(asyncio.create_task(job("c")))
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="6 jobs are waiting"):
            await job("d")
        tasks[1].cancel()  # one who waits goes away
        await asyncio.gather(*tasks, return_exceptions=True)
        assert gate.running is None and not gate.waiting
        return order

    order = asyncio.run(scene())
    assert order[0] == "greedy" and sorted(order) == ["a", "b", "c", "greedy", "greedy", "greedy"]
    assert max(order.index(key) for key in "abc") <= 4  # two of the greedy one's jobs still come after most of theirs
    assert order[-1] == "greedy"


def test_places_in_the_queue_are_told():
    async def scene():
        gate = Gate()
        async with gate.turn("x") as first:
            assert await first.wait(0) and first.before == 0
            async with gate.turn("x") as second, gate.turn("y") as third:
                assert (second.before, third.before) == (1, 2)
                async with gate.turn("x") as fourth:
                    assert fourth.before == 3  # after y's
        assert gate.running is None

    asyncio.run(scene())


def collect(pipe, cancel, after: int | None, **arguments) -> list[News]:
    PIPES["pipe"] = pipe

    async def scene():
        news = []
        async for item in run_job(Gate(), "me", arguments, cancel):
            news.append(item)
            if item.step == after:
                cancel.touch()
        return news

    return asyncio.run(scene())


def test_a_job_tells_its_steps_and_gives_the_same_as_a_call(tiny_pipeline, tmp_path):
    asked = {"prompt": "slow piano", "duration_s": 1.0, "seed": 3, "num_inference_steps": 4}
    news = collect(tiny_pipeline, tmp_path / "stop", None, **asked)
    assert [item.step for item in news[:-1]] == [1, 2, 3, 4] and all(item.steps == 4 for item in news[:-1])
    assert np.array_equal(news[-1].output.audios, tiny_pipeline(**asked).audios)


def test_cancel_stops_the_denoising_at_the_next_step(tiny_pipeline, tmp_path):
    calls, forward = [], tiny_pipeline.unet.forward
    tiny_pipeline.unet.forward = lambda *a, **k: (calls.append(1), time.sleep(0.02), forward(*a, **k))[2]
    with pytest.raises(Cancelled):
        collect(tiny_pipeline, tmp_path / "stop", 3, prompt="piano", duration_s=1.0, num_inference_steps=200)
    done = len(calls)
    assert done < 20
    time.sleep(0.2)
    assert len(calls) == done  # and nothing goes on behind the scenes


def test_a_browser_that_goes_away_ends_its_job(tiny_pipeline, tmp_path):
    calls, forward = [], tiny_pipeline.unet.forward
    tiny_pipeline.unet.forward = lambda *a, **k: (calls.append(1), time.sleep(0.02), forward(*a, **k))[2]
    PIPES["pipe"] = tiny_pipeline

    async def scene():
        gate = Gate()
        arguments = {"prompt": "piano", "duration_s": 1.0, "num_inference_steps": 500}
        job = run_job(gate, "me", arguments, tmp_path / "stop")
        await anext(job)
        await job.aclose()
        assert gate.running is None
        return len(calls)

    done = asyncio.run(scene())
    time.sleep(0.2)
    assert len(calls) <= done + 1 < 20


def test_no_job_begins_beside_one_that_is_being_stopped(tiny_pipeline, tmp_path):
    """Even when the session's folder is gone and the waiting task is cancelled again while the old job ends."""
    forward = tiny_pipeline.unet.forward
    tiny_pipeline.unet.forward = lambda *a, **k: (time.sleep(0.1), forward(*a, **k))[1]
    PIPES["pipe"] = tiny_pipeline
    (tmp_path / "gone").mkdir()

    async def scene():
        gate = Gate()
        arguments = {"prompt": "piano", "duration_s": 1.0, "num_inference_steps": 6}

        async def job():
            async for _ in run_job(gate, "me", arguments, tmp_path / "gone" / "stop"):
                pass

        task = asyncio.create_task(job())
        while not [thread for thread in threading.enumerate() if thread.name == "vivace-job"]:
            await asyncio.sleep(0.01)
        shutil.rmtree(tmp_path / "gone")
        while not task.done():
            task.cancel()
            await asyncio.sleep(0.02)
            working = [thread for thread in threading.enumerate() if thread.name == "vivace-job"]
            assert not working or gate.running == "me"
        assert gate.running is None

    asyncio.run(scene())


def test_a_session_stays_while_it_works(tmp_path, monkeypatch):
    sessions = Sessions(tmp_path, max_sessions=2)
    visitor = sessions.of("visitor", "tab")
    with visitor.job("tab") as stop:
        for key in "abcd":
            sessions.of(key).add(make_take(sessions.of(key)))
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 10000.0)
        sessions.of("e")
        assert sessions.of("visitor") is visitor and visitor.folder.is_dir()
        sessions.of("visitor").cancel("another tab")
        assert not stop.exists()
        sessions.of("visitor").cancel("tab")
        assert stop.exists()
    monkeypatch.setattr(time, "monotonic", lambda: now + 30000.0)
    sessions.of("f")
    assert list(sessions.known) == ["f"]


def test_tabs_share_a_session_and_the_last_one_closes_it(tmp_path, monkeypatch):
    sessions = Sessions(tmp_path)
    session = sessions.of("browser", "one")
    assert sessions.of("browser", "two") is session
    with session.job("one") as first, session.job("two") as second:
        sessions.leave("browser", "one")
        assert first.exists() and not second.exists()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 700.0)
    sessions.of("other")
    assert "browser" in sessions.known
    sessions.leave("browser", "two")
    monkeypatch.setattr(time, "monotonic", lambda: now + 1400.0)
    sessions.of("other")
    assert "browser" not in sessions.known


def test_on_ones_own_machine_pieces_stay(tmp_path, monkeypatch):
    sessions = Sessions(tmp_path, own=True)
    session = sessions.of("browser", "tab")
    for number in range(MAX_TAKES + 5):
        session.add(make_take(session, f"song {number}"))
    sessions.leave("browser", "tab")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 1e6)
    assert len(sessions.of("browser", "tab").takes) == MAX_TAKES + 5


def test_on_ones_own_machine_pieces_outlive_the_page(tmp_path):
    kept, browser = tmp_path / "takes", "0123456789abcdef" * 2
    sessions = Sessions(own=True, kept=kept)
    session = sessions.of(browser)
    takes = [make_take(session, name) for name in "abc"]
    takes[0].conditions, takes[0].made = {"duration_s": Fraction(1, 2), "bpm": 96.0}, [(0.0, 0.25)]
    for take in takes:
        session.add(take)
    session.remove(takes[1].id)
    program = sessions.of("a program")
    program.add(make_take(program))
    second = Sessions(own=True, kept=kept)  # another page at the same time has its own folder
    assert second.kept is None and second.root != kept
    second.close()
    sessions.close()
    assert not takes[1].path.exists() and not program.folder.exists() and takes[0].path.is_file()
    again = Sessions(own=True, kept=kept)
    found = list(again.of(browser).takes.values())
    assert [(take.title, take.path) for take in found] == [("a", takes[0].path), ("c", takes[2].path)]
    assert found[0].conditions == {"duration_s": 0.5, "bpm": 96.0} and found[0].made == [[0.0, 0.25]]
    assert not again.of("f" * 32).takes
    found[1].path.unlink()
    again.close()
    assert [take.title for take in Sessions(own=True, kept=kept).of(browser).takes.values()] == ["a"]
    (tmp_path / "file").write_text("")
    assert Sessions(own=True, kept=tmp_path / "file").kept is None


def test_names_and_favourites_stay_with_the_pieces(tmp_path):
    browser = "0123456789abcdef" * 2
    sessions = Sessions(own=True, kept=tmp_path / "takes")
    session = sessions.of(browser)
    one, two = (make_take(session, title, settings={}, seed=7) for title in ("calm piano", "loud piano"))
    session.add(one)
    session.add(two)
    rename(session, one, "  Intro \n <b>of</b> the film ")
    session.change(two, star=True)
    rename(session, two, "Finale")
    sessions.close()
    again = Sessions(own=True, kept=tmp_path / "takes").of(browser)
    rows = history_value(again)["takes"]
    assert [row["title"] for row in rows] == ["Finale", "Intro <b>of</b> the film"]
    assert [row["star"] for row in rows] == [True, False]
    assert [row["id"] for row in history_value(again, "favourite")["takes"]] == [two.id]
    assert len(history_value(again, "calm piano")["takes"]) == 1  # the words are still found
    kept = again.find(one.id)
    rename(again, kept, "")
    assert kept.called == kept.title == "calm piano"
    assert deck_value([again.find(two.id)])["tracks"][0]["about"].startswith("Finale")


def test_the_folder_of_pieces(monkeypatch, tmp_path):
    monkeypatch.setenv("VIVACE_TAKES", str(tmp_path))
    assert takes_folder() == tmp_path
    monkeypatch.setenv("VIVACE_TAKES", "")
    assert takes_folder() is None
    monkeypatch.delenv("VIVACE_TAKES")
    assert takes_folder().name == "takes"


def test_a_removed_piece_comes_back_to_its_place(tmp_path):
    session = Sessions(tmp_path).of("me")
    takes = [make_take(session, name) for name in "abc"]
    for take in takes:
        session.add(take)
    session.pair["a"] = takes[1].id
    session.remove(takes[1].id)
    session.remove(takes[0].id)
    session.remove("unknown")
    assert [take.title for take in session.takes.values()] == ["c"] and not session.pair
    assert session.undo() is takes[0] and session.undo() is takes[1] and session.undo() is None
    assert [take.title for take in session.takes.values()] == ["a", "b", "c"] and takes[1].flac.is_file()
    many = [make_take(session, str(number)) for number in range(25)]
    for take in many:
        session.add(take)
        session.remove(take.id)
    assert len(session.removed) == 20 and not many[0].path.exists() and many[-1].path.exists()


def test_the_time_that_is_left_does_not_jump():
    even, told = Remaining(), []
    for step in range(1, 41):  # a slow first step, then 0.5 s each
        told.append(even.after(5.0 + 0.5 * step, step, 40))
    assert told[:2] == [None, None] and all(abs(left - 0.5 * (40 - i)) < 1e-6 for i, left in enumerate(told, 1) if left)
    slower, told, now = Remaining(), [], 0.0
    for step in range(1, 97):
        now += 0.4 if step < 12 else 2.0  # other work begins on the machine
        told.append(slower.after(now, step, 96))
    told = [left for left in told if left is not None]
    assert max(b - a for a, b in itertools.pairwise(told)) < 0.25 * told[0]
    assert told[-1] < 2.0


def test_sessions_are_bounded_and_vanish(tmp_path, monkeypatch):
    sessions = Sessions(tmp_path, max_sessions=3)
    first = sessions.of("a")
    for number in range(MAX_TAKES + 5):
        first.add(make_take(first, f"song {number}"))
    assert len(first.takes) == MAX_TAKES and len(list(first.folder.rglob("*.wav"))) == MAX_TAKES
    for _ in range(20):
        first.answer()
    assert len(list(first.folder.glob("answer-*"))) == 8
    with first.job() as stop:
        first.cancel()
        assert stop.exists()
    assert not stop.exists()
    for key in "bcd":
        sessions.of(key)
    assert list(sessions.known) == ["a", "c", "d"]  # the one that keeps nothing went first
    for key in "cd":
        sessions.of(key).add(make_take(sessions.of(key)))
    sessions.of("b").add(make_take(sessions.of("b")))
    assert not first.folder.exists() and list(sessions.known) == ["c", "d", "b"]
    sessions.leave("b")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 700.0)
    sessions.of("e")
    assert "b" not in sessions.known and "c" in sessions.known
    monkeypatch.setattr(time, "monotonic", lambda: now + 10000.0)
    sessions.of("f")
    assert list(sessions.known) == ["f"] and len(list(tmp_path.iterdir())) == 1
    sessions.close()
    assert not tmp_path.exists()


def test_forms_become_arguments(tiny_pipeline):
    config = tiny_pipeline.config
    settings = blank(config) | {"prompt": "slow piano", "length": 4, "bpm": 90, "chords": " Am  F ", "seed": -1}
    asked = arguments_of(settings, config)
    assert asked["bars"] == 4 and asked["chords"] == "Am F" and "seed" not in asked and "duration_s" not in asked
    assert arguments_of(settings | {"unit": "seconds"}, config)["duration_s"] == 4
    for bad, word in (
        ({"prompt": "x" * 2001}, "prompt"), ({"prompt": ["a"]}, "prompt"), ({"bpm": float("nan")}, "bpm"),
        ({"length": 500}, "bars"), ({"bpm": True}, "bpm"), ({"loop": "yes"}, "loop"), ({"seed": 1.5}, "seed"),
        ({"num_waveforms_per_prompt": 9}, "num_waveforms_per_prompt"), ({"length": 0.5}, "bars"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=word) as told:
            arguments_of(settings | bad, config)
        assert "\n" not in str(told.value) and len(str(told.value)) < 300
    with pytest.raises(ValueError, match="duration_s"):
        pipeline_arguments({"prompt": "a", "duration_s": 121.0}, config)


def test_an_untouched_form_says_nothing_beside_the_words(tiny_pipeline):
    config = tiny_pipeline.config
    words = "8-bar lo-fi hip hop with electric piano at 96 bpm in A minor"
    asked = arguments_of(blank(config) | {"prompt": words}, config)
    assert set(asked) == {"prompt", "num_waveforms_per_prompt", "num_inference_steps", "guidance_scale"}
    assert overridden(asked) == ""
    (known,) = tiny_pipeline(**asked | {"num_inference_steps": 2}).conditions
    assert (known["bpm"], known["key"], known["bars"], float(known["duration_s"])) == (96, "A minor", 8, 20.0)
    for _, prompt, _ in EXAMPLES:
        assert overridden(arguments_of(blank(config) | {"prompt": prompt}, config)) == ""


def test_words_say_loop_and_the_box_may_too(tiny_pipeline, tmp_path):
    config, settings = tiny_pipeline.config, blank(tiny_pipeline.config) | {"prompt": "piano, 120 bpm, 2 bars"}
    assert arguments_of(settings | {"loop": True}, config)["loop"] is True
    assert "loop" not in arguments_of(settings, config)  # left to the words
    assert pipeline_arguments(settings | {"loop": False}, config)["loop"] is False  # a program says so
    session = Sessions(tmp_path).of("me")
    out = tiny_pipeline("piano", bars=1, bpm=120, num_inference_steps=1)
    for loop in (True, False):  # as the pipeline understood the words
        out.conditions[0]["loop"] = loop
        (take,) = keep_output(session, out, settings)
        assert (take.loop, take.kind) == (loop, "loop" if loop else "made")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"bpm": 72}, "72 bpm, not 96 bpm"),
        ({"bpm": 96.0, "key": "Am", "bars": 8}, ""),
        ({"key": "E minor"}, "E minor, not A minor"),
        ({"bars": 4}, "4 bars, not 8 bars"),
        ({"duration_s": 5.0}, "5 s, not 8 bars"),
        ({"time_signature": "3/4", "bpm": 100}, "100 bpm, not 96 bpm; 3/4, not 4/4"),
    ],
)
def test_a_field_against_the_words_counts_and_a_line_says_so(fields, told):
    line = overridden({"prompt": "8 bars of piano, 96 bpm, 4/4, in A minor"} | fields)
    assert line == (f"The fields count before the words: {told}" if told else "")


def test_the_default_model_is_never_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("page.model.ROOT", tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: pytest.fail(f"asked for {name}"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        load_model("checkpoints/small")


def test_a_hub_id_is_loaded_from_the_cache_without_network(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr("page.model.find_checkpoint", lambda name: tiny_checkpoint)
    pipe = load_model("user/name")
    assert pipe("slow piano", duration_s=0.5, seed=0, num_inference_steps=1).audios.shape[-1] == 4000


def test_edits_become_arguments(tmp_path, tiny_pipeline):
    session = Sessions(tmp_path).of("me")
    grid = {"bpm": 120.0, "beats_per_bar": 4, "downbeat_s": 0.5}
    known = {"bpm": 120.0, "bpm_reason": None, "key": "A minor", "time_signature": "4/4", "bars": 2, "chords": "Am F"}
    known["duration_s"] = 4.0
    take = make_take(session, grid=grid, conditions=known)
    session.add(take)
    base = {
        "task": "extended", "prompt": "flute", "negative_prompt": "", "unit": "bars", "before": 1, "after": 0,
        "strength": 0.5, "num_waveforms_per_prompt": 1, "seed": None, "guidance_scale": 2.0,
    }  # fmt: skip
    asked, new_grid, made = edit_arguments(base, take, None, tiny_pipeline.config)
    assert asked["extend_s"] == (2.0, 0.0) and made == [(0.0, 2.0)] and asked["downbeat_s"] == 0.5
    assert new_grid["downbeat_s"] == 0.5 and asked["key"] == "A minor" and "strength" not in asked
    words = edit_arguments(base | {"prompt": "flute in E major, 90 bpm"}, take, None, tiny_pipeline.config)[0]
    assert not {"key", "bpm", "downbeat_s"} & set(words) and words["time_signature"] == "4/4"
    asked, _, made = edit_arguments(base | {"task": "anew"}, take, [1.0, 2.0], tiny_pipeline.config)
    assert asked["mask_s"] == [(1.0, 2.0)] and asked["chords"] == "Am F" and made == [(1.0, 2.0)]
    with pytest.raises(ValueError, match="no region"):
        edit_arguments(base | {"task": "anew"}, take, None, tiny_pipeline.config)
    with pytest.raises(ValueError, match="120 s"):
        edit_arguments(base | {"unit": "seconds", "after": 119}, take, None, tiny_pipeline.config)
    with pytest.raises(ValueError, match="give seconds"):
        in_seconds("after", 2, "bars", make_take(session))
    value = deck_value([take]) | {"region": [1, 2]}
    assert chosen(session, value) == (take, [1.0, 2.0])
    assert chosen(session, value | {"region": ["x", float("inf")]})[1] is None
    for hostile in (None, {}, [], {"tracks": "x"}, {"tracks": [{"id": "../../etc"}]}, {"tracks": [{"id": ["a"]}]}):
        with pytest.raises(ValueError, match="not in this session"):
            chosen(session, hostile)


def test_pieces_are_kept_listed_and_packed(tmp_path, tiny_pipeline):
    session = Sessions(tmp_path).of("me")
    out = tiny_pipeline("slow piano", bars=2, bpm=120, seed=4, num_waveforms_per_prompt=2)
    settings = blank(tiny_pipeline.config) | {"prompt": "slow piano", "seed": None}
    takes = keep_output(session, out, settings)
    assert [take.settings["seed"] for take in takes] == [4, 5] and takes[0].seconds == 4.0
    assert takes[0].grid == {"bpm": 120.0, "beats_per_bar": 4, "downbeat_s": 0.0}
    assert soundfile.info(takes[0].path).frames == soundfile.info(takes[0].flac).frames == 32000
    assert [row["title"] for row in history_value(session, "seed 5 PIANO")["takes"]] == ["slow piano"]
    assert history_value(session, "organ") == {"takes": [], "total": 2}
    assert zip_takes(session, takes).stat().st_size > takes[0].flac.stat().st_size
    assert grid_of(out.conditions[0] | {"time_signature": "6/8"})["beats_per_bar"] == 2


def test_uploads_keep_their_samples_and_lose_their_names(tmp_path):
    session = Sessions(tmp_path).of("me")
    given = (np.random.default_rng(0).standard_normal((16000, 2)) * 3000).astype("int16")
    soundfile.write(tmp_path / "a.flac", given, 16000)
    take = keep_upload(session, tmp_path / "a.flac", "../..\u202e/<b>x\x00.flac")
    assert np.array_equal(soundfile.read(take.path, dtype="int16")[0], given)
    assert take.path.parent.parent == session.folder and "\u202e" not in take.title and take.name == "b-x"
    soundfile.write(tmp_path / "float.wav", np.full(16000, np.nan), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match="not finite"):
        keep_upload(session, tmp_path / "float.wav", "x")
    soundfile.write(tmp_path / "many.wav", np.zeros((16000, 6)), 16000)
    soundfile.write(tmp_path / "short.wav", np.zeros(100), 16000)
    (tmp_path / "cut.flac").write_bytes((tmp_path / "a.flac").read_bytes()[:60])
    for name in ("many.wav", "short.wav", "cut.flac", "missing.wav"):
        with pytest.raises(ValueError, match="audio") as told:
            keep_upload(session, tmp_path / name, name)
        assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match="audio"):
        check_upload(tmp_path)
    assert file_name("../ÄÖ", 3) == "piece-3" and file_name("a b", None, {"a-b"}) == "a-b-2"


def test_about_reads_the_card_without_its_head(tmp_path):
    assert "no card" in card(None)
    (tmp_path / "README.md").write_text("---\nlicense: x\n---\n\n# name\n\nWords")
    assert card(tmp_path) == "name\n\nWords"


def test_a_space_stands_alone(tmp_path, tiny_checkpoint):
    """Imported in a process that sees the exported folder and not this repository."""
    folder = export_space(tmp_path / "space", checkpoint=tiny_checkpoint)
    assert "gradio" not in requirements() and "diffusers" in requirements()
    front = (folder / "README.md").read_text().split("---")[1]
    for line in ("sdk: gradio", "sdk_version: ", "app_file: app.py", "license: apache-2.0"):
        assert line in front
    code = (
        "import sys, page, pipelines; from pathlib import Path; from page.model import load_model, model_name;"
        "from page.build import launch_options, make_app; from page.desk import Desk;"
        "desk = Desk(load_model(model_name()), model_name()); make_app(desk); launch_options(desk);"
        "out = desk.pipe('slow piano', duration_s=1.0, seed=0); desk.sessions.close();"
        "print(model_name(), out.audios.shape[-1], Path(page.__file__).resolve().parent.parent)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300,
                         env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == ["checkpoints/tiny", "8000", str(folder.resolve())]
    export_space(folder, model="user/name")  # over an earlier export
    assert (folder / "MODEL").read_text() == "user/name\n" and not (folder / "checkpoints").exists()
    assert "models:\n- user/name" in (folder / "README.md").read_text()


def test_a_space_is_written_whole_or_not_at_all(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    for arguments in (
        [str(tmp_path / "mine")], [str(tmp_path / "a" / "b")], [str(tmp_path / "new"), "--model", "../x"],
        [str(tmp_path / "new"), "--checkpoint", str(tmp_path)], [str(tmp_path / "new"), "--title", "a: b"],
    ):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            main(arguments)
        told = capsys.readouterr().err
        assert end.value.code == 2 and told.startswith("error: ") and told.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_an_unforeseen_error_ends_the_job_and_is_logged(caplog):
    line = refusal(RuntimeError("a secret path"))
    assert "RuntimeError" in line and "secret" not in line and "busy" not in line and "error" in line
    assert "a secret path" in caplog.text
    assert "bpm is 900" in refusal(ValueError("bpm is 900"))
