"""The page over HTTP, on the tiny pipeline: endpoints, privacy, limits, and what hostile input comes to."""

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import soundfile
from gradio_client import Client, handle_file

from page.build import launch_options, make_app
from page.desk import Desk
from page.sessions import Sessions
from pipelines.pipeline_vivace import read_recipe
from tests.conftest import make_pipeline

RATE = 8000


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A page that is being served, and its desk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        desk = Desk(make_pipeline(), "tiny", Sessions(tmp_path_factory.mktemp("sessions")))
        page = make_app(desk).queue(default_concurrency_limit=None)
        options = launch_options(desk) | {"prevent_thread_lock": True, "quiet": True, "max_file_size": 200_000}
        _, address, _ = page.launch(**options)
        yield desk, address.rstrip("/")
        page.close()
        desk.sessions.close()


@pytest.fixture
def client(running):
    return Client(running[1], verbose=False)


def plain(address: str, endpoint: str, **asked) -> tuple[str, object]:
    """What an endpoint answers to a program without gradio_client: the last event and its data."""
    answer = httpx.post(f"{address}/gradio_api/call/v2/{endpoint}", json=asked)
    assert answer.status_code == 200, answer.text
    event = answer.json()["event_id"]
    lines = httpx.get(f"{address}/gradio_api/call/{endpoint}/{event}", timeout=60).text.splitlines()
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return names[-1], json.loads(data[-1])


def test_generate_takes_the_pipelines_arguments(running, client):
    files, about = client.predict(
        prompt="slow piano", bars=2, bpm=120, key="A minor", seed=5, num_waveforms_per_prompt=2, api_name="/generate"
    )
    assert about["seeds"] == [5, 6] and len(files) == 2
    assert about["conditions"][0]["bpm"] == 120 and about["conditions"][0]["key"] == "A minor"
    first = soundfile.read(files[0], dtype="int16")[0]
    expected = (
        running[0].pipe("slow piano", bars=2, bpm=120, key="A minor", seed=5, num_waveforms_per_prompt=2).audios[0, 0]
    )
    assert np.array_equal(first, np.clip(np.round(expected.astype(np.float64) * 32768), -32768, 32767))
    assert read_recipe(files[1])["arguments"]["seed"] == 6


def test_edit_keeps_what_it_is_told_to(client, tmp_path):
    t = np.arange(2 * RATE) / RATE
    given = np.round(9000 * np.sin(2 * np.pi * 220 * t)).astype("int16")
    soundfile.write(tmp_path / "tone.wav", given, RATE)
    files, _ = client.predict(
        prompt="drums", audio=handle_file(tmp_path / "tone.wav"), mask_s=[[0.5, 1.0]], seed=1, audio_format="flac",
        api_name="/edit",
    )  # fmt: skip
    made = soundfile.read(files[0], dtype="int16")[0]
    assert files[0].endswith(".flac") and np.array_equal(
        np.delete(made, np.s_[4000:8000]), np.delete(given, np.s_[4000:8000])
    )
    assert not np.array_equal(made[4000:8000], given[4000:8000])
    files, _ = client.predict(
        prompt="drums", audio=handle_file(tmp_path / "tone.wav"), extend_s=[0, 1], seed=1, api_name="/edit"
    )
    assert len(soundfile.read(files[0])[0]) == 3 * RATE


def test_curl_gets_a_piece(running):
    """Two plain requests, as the About tab says."""
    name, data = plain(running[1], "generate", prompt="calm jazz", bars=1, bpm=120)
    assert name == "complete"
    assert httpx.get(data[0][0]["url"]).content[:4] == b"RIFF"


def refused(client, endpoint="/generate", **asked) -> str:
    with pytest.raises(Exception) as told:
        client.predict(**asked, api_name=endpoint)
    message = str(told.value)
    assert len(message) < 400 and "Traceback" not in message, message
    return message


def test_bad_input_is_refused_in_one_line(client):
    assert "2000 characters" in refused(client, prompt="piano " * 17000)  # 100,000 characters
    assert "prompt is empty" in refused(client, prompt=" \x00\n")
    assert "bpm is 1000" in refused(client, prompt="piano", bpm=1000)
    assert "duration_s" in refused(client, prompt="piano", duration_s=100000)
    assert "bars" in refused(client, prompt="piano", bars=999, bpm=60)
    assert "num_waveforms_per_prompt" in refused(client, prompt="piano", num_waveforms_per_prompt=5)
    assert "num_inference_steps" in refused(client, prompt="piano", num_inference_steps=100000)
    assert "audio_format" in refused(client, prompt="piano", audio_format="../../x")
    assert "seed" in refused(client, prompt="piano", seed=2**40)
    assert "chords" in refused(client, prompt="piano", bpm=90, chords="<script>")
    refused(client, prompt="piano", bpm="many")


def test_numbers_are_not_rounded_and_wrong_types_are_told_what_is_allowed(client):
    for name, value in (("bars", 1.5), ("bars", "four"), ("seed", 1.5), ("num_inference_steps", 2.5),
                        ("num_waveforms_per_prompt", 1.5)):  # fmt: skip
        message = refused(client, prompt="piano", bpm=120, **{name: value})
        assert re.search(f"{name} is '?{value}'?;", message) and "allowed: whole numbers from" in message
    assert "bpm is 'many'; allowed: a number" in refused(client, prompt="piano", bpm="many")
    assert "key is 5; allowed: a text" in refused(client, prompt="piano", key=5)
    assert "loop is 'yes'; allowed: true or false" in refused(client, prompt="piano", loop="yes")


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("v2/generate", {"tempo": 5}, 422, ["'tempo' is no argument of /generate", "bpm"]),
        ("v2/generate", {"bars": 4}, 422, ["prompt is missing"]),
        ("v2/generate", {"prompt": "piano", "bars": "four"}, 422, ["bars is", "four", "allowed: whole numbers from 1"]),
        ("v2/generate", {"prompt": "piano", "bars": 1.5}, 422, ["bars is 1.5; allowed: whole numbers"]),
        ("v2/generate", {"prompt": "piano", "audio_format": "aac"}, 422, ["audio_format is 'aac'; allowed: wav, flac"]),
        ("v2/edit", {"prompt": "piano"}, 422, ["audio is missing"]),
        ("v2/make", {"prompt": "piano"}, 404, ["/generate", "/edit"]),
        ("make", {"data": []}, 404, ["/generate", "/edit"]),
        ("v2/generate", ["piano"], 400, ["no JSON object"]),
        ("v2/generate", b"tempo=5", 400, ["no JSON object"]),
        ("generate", {"dates": []}, 422, []),
        ("generate", {"data": 5}, 422, []),
        ("v2/generate", {"prompt": "x" * 2_000_000}, 413, ["bytes"]),
    ],
)
def test_a_call_that_cannot_be_is_answered_in_words_with_4xx(running, path, body, status, words, capfd):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = httpx.post(f"{running[1]}/gradio_api/call/{path}", content=content,
                        headers={"content-type": "application/json"})  # fmt: skip
    assert answer.status_code == status, answer.text
    assert all(word in answer.text for word in words), answer.text
    assert "Traceback" not in answer.text and "Traceback" not in "".join(capfd.readouterr())


def test_each_argument_is_described(running, client):
    info = client.view_api(return_format="dict")["named_endpoints"]
    for endpoint in ("/generate", "/edit"):
        for parameter in info[endpoint]["parameters"]:
            assert len(parameter["python_type"]["description"]) > 10, parameter
            assert "Hello" not in str(parameter["example_input"])
            optional = parameter["parameter_name"] not in ("prompt", "audio")
            assert parameter["parameter_has_default"] == optional, parameter
    whole = {p["parameter_name"]: p["python_type"]["type"] for p in info["/generate"]["parameters"]}
    assert whole["bars"] == whole["seed"] == "int" and whole["bpm"] == "float"


def test_the_page_describes_itself_and_its_links_are_there(running):
    text = httpx.get(running[1]).text
    assert "Click to try out" not in text and 'og:description" content="Text to music' in text
    assert "gradio_api/docs" not in text and "(gradio_api/info)" in text
    assert "/generate" in httpx.get(f"{running[1]}/gradio_api/info").json()["named_endpoints"]


def test_a_browser_is_known_by_its_secret_and_no_other(running):
    desk, address = running
    secret, other = "0123456789abcdef" * 2, "f" * 32
    for cookie in (secret, secret, other, "guess"):
        own = Client(address, verbose=False, headers={"cookie": f"a=b; vivace={cookie}"})
        own.predict(prompt="piano", duration_s=0.5, api_name="/generate")
    assert len(desk.sessions.known[secret].answers) == 2 and len(desk.sessions.known[other].answers) == 1
    assert "guess" not in desk.sessions.known


def test_uploads_are_limited_in_size_length_and_kind(running, client, tmp_path):
    noise = np.random.default_rng(0).integers(-3000, 3000, 130 * RATE).astype("int16")
    soundfile.write(tmp_path / "large.wav", noise, RATE)
    soundfile.write(tmp_path / "long.ogg", np.zeros(125 * RATE), RATE)  # seconds; a few kilobytes
    soundfile.write(tmp_path / "good.wav", noise[:RATE], RATE)
    (tmp_path / "fake.wav").write_bytes(b"MZ" + bytes(5000))
    for name, words in (("long.ogg", "lasts 125"), ("fake.wav", "cannot be read")):
        message = refused(client, "/edit", prompt="piano", audio=handle_file(tmp_path / name), strength=0.5)
        assert words in message and "allowed" in message
    with (tmp_path / "large.wav").open("rb") as file:
        answer = httpx.post(f"{running[1]}/gradio_api/upload", files={"files": ("large.wav", file)})
    assert answer.status_code == 413
    hostile = "../../../etc/cron.d/x;$(touch pwned)<img src=x>\u202e.wav"
    with (tmp_path / "good.wav").open("rb") as file:
        answer = httpx.post(f"{running[1]}/gradio_api/upload", files={"files": (hostile, file)})
    (path,) = answer.json()
    assert "/../" not in path and "cron.d/" not in path and path.endswith(".wav")
    file = {"path": path, "orig_name": hostile, "meta": {"_type": "gradio.FileData"}}
    name, data = plain(running[1], "edit", prompt="piano", audio=file, strength=0.5)
    assert name == "complete" and soundfile.info(data[0][0]["path"]).frames == RATE
    for outside in ("/etc/passwd", str(tmp_path / "good.wav"), "pyproject.toml", "../../etc/passwd"):
        file = {"path": outside, "meta": {"_type": "gradio.FileData"}}
        name, data = plain(running[1], "edit", prompt="piano", audio=file, strength=0.5)
        assert name == "error", outside


def test_nobody_gets_another_sessions_files(running, client):
    desk, address = running
    client.predict(prompt="secret song", bars=1, bpm=120, api_name="/generate")
    mine = desk.sessions.known[client.session_hash]
    theirs = desk.sessions.of("somebody else")
    assert len(mine.folder.name) >= 32 and mine.folder.name != theirs.folder.name
    root = desk.sessions.root
    (root / "outside.txt").write_text("x")
    own = next(mine.folder.rglob("*.wav"))
    assert httpx.get(f"{address}/gradio_api/file={own}").status_code == 200  # whoever knows the whole name
    for path in (root, mine.folder, f"{theirs.folder}/..", "/etc/passwd", f"{own}/../../../../../../etc/passwd",
                 root.parent / "gradio0", "app.py", "page/build.py", ".git/config"):  # fmt: skip
        answer = httpx.get(f"{address}/gradio_api/file={path}")
        assert answer.status_code in (403, 404), (path, answer.status_code)
    with pytest.raises(ValueError, match="not in this session"):
        theirs.find(next(iter(mine.takes), "0123456789abcdef"))


def test_private_handlers_are_not_endpoints(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {"/generate", "/edit"}


def test_many_at_once_all_end_and_the_memory_of_files_is_bounded(running):
    desk, address = running

    def one(number: int) -> str:
        own = Client(address, verbose=False)
        try:
            files, _ = own.predict(prompt="fast drums", duration_s=0.5, seed=number, api_name="/generate")
            return "audio" if len(soundfile.read(files[0])[0]) == RATE // 2 else "wrong"
        except Exception as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(one, range(16)))
    assert ends == ["audio"] * 16
    assert desk.gate.running is None and not desk.gate.waiting


def test_a_session_with_too_many_jobs_is_told_so(client):
    jobs = [client.submit(prompt="slow piano", duration_s=20, num_inference_steps=30, seed=i, api_name="/generate")
            for i in range(8)]  # fmt: skip
    outcomes = []
    for job in jobs:
        try:
            job.result(timeout=120)
            outcomes.append("audio")
        except Exception as error:
            outcomes.append(str(error))
    assert "audio" in outcomes and all(item == "audio" or "4 at a time" in item for item in outcomes), outcomes


def test_threads_end_with_their_jobs():
    time.sleep(0.2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vivace-job")]
