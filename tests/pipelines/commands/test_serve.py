"""`vivace serve`: one process keeps the model, other commands hand their work to it and print what it says."""

import json
import os
import stat
import subprocess
import sys
import time

import pytest
import soundfile

from pipelines.commands import serve
from pipelines.commands.main import main as vivace

COMMAND = [sys.executable, "-m", "pipelines.commands.main"]
UNTIL_S = 180.0


@pytest.fixture
def server(tiny_checkpoint, tmp_path, monkeypatch):
    """A server with a place of its own."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VIVACE_NO_SERVER")
    words = [*COMMAND, "serve", "--checkpoint", str(tiny_checkpoint)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    begin = time.monotonic()
    while not serve.place().is_file():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() - begin < UNTIL_S
        time.sleep(0.1)
    yield process
    process.kill()
    process.communicate()


def test_commands_are_handed_over_until_it_is_stopped(server, tiny_checkpoint, tmp_path, monkeypatch, capsys):
    assert stat.S_IMODE(serve.place().stat().st_mode) == 0o600
    given = ["--checkpoint", str(tiny_checkpoint), "--bars", "1", "--bpm", "100", "--seed", "7"]
    monkeypatch.chdir(tmp_path)
    light = "import sys, pipelines.commands.main as main\ncode = main.main(sys.argv[1:])\n"
    light += "assert code == 0 and 'torch' not in sys.modules and 'numpy' not in sys.modules"
    words = [sys.executable, "-c", light, "generate", "slow piano", *given, "--out", "served.wav", "--json"]
    root = os.pathsep.join(sys.path)
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["seed"] == 7
    monkeypatch.setenv("VIVACE_NO_SERVER", "1")
    assert vivace(["generate", "slow piano", *given, "--out", "own.wav"]) == 0
    monkeypatch.delenv("VIVACE_NO_SERVER")
    assert soundfile.info("served.wav").frames == soundfile.info("own.wav").frames
    assert (tmp_path / "served.wav").read_bytes() == (tmp_path / "own.wav").read_bytes()
    capsys.readouterr()
    assert vivace(["generate", "slow piano", *given, "--key", "H"]) == 2  # told as without a server
    assert capsys.readouterr().err.startswith("error: key is 'H'")
    with pytest.raises(SystemExit):
        vivace(["serve"])
    assert "a server runs already" in capsys.readouterr().err
    assert vivace(["serve", "--stop"]) == 0
    assert server.wait(UNTIL_S) == 0 and not serve.place().exists()
    with pytest.raises(SystemExit):
        vivace(["serve", "--stop"])
    assert "stop: no server runs" in capsys.readouterr().err


def test_a_file_of_a_server_that_died_is_no_server(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("VIVACE_NO_SERVER")
    for text in ("", "{}", '{"host": "127.0.0.1", "port": 1, "key": "00"}'):
        serve.place().write_text(text)
        assert serve.hand_over(["generate", "piano"]) is None
    assert serve.hand_over(["generate", "-"]) is None and serve.hand_over(["info", "a.wav"]) is None


def test_it_stops_when_nobody_has_work(tiny_checkpoint, tmp_path):
    surroundings = {**os.environ, "HF_HOME": str(tmp_path)}
    words = [*COMMAND, "serve", "--checkpoint", str(tiny_checkpoint), "--idle_minutes", "0.005"]
    done = subprocess.run(words, capture_output=True, text=True, env=surroundings, timeout=UNTIL_S)
    assert done.returncode == 0 and done.stdout.startswith("ready on 127.0.0.1:"), done.stderr
    assert not (tmp_path / "vivace-serve.json").exists()
