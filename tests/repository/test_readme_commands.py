"""The commands of README.md and docs/, run page by page in an empty folder with a tiny checkpoint as the shipped one.

What is left out is named with its reason; a command that is neither run nor left out fails.
"""

import json
import os
import re
import shlex
import shutil

import pytest
import soundfile
import torch

from pipelines import hub
from pipelines.commands import compose
from pipelines.commands.main import main as vivace
from pipelines.composer_vivace import ComposerVivace
from pipelines.hub import save_checkpoint
from pipelines.pipeline_vivace import VivacePipeline
from tests.conftest import ROOT, make_pipeline
from tests.helpers.voice import RATE, beatbox, seconds, sing, tune

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")),
]
LEAST = {  # commands that run
    "README.md": 5,
    "docs/control.md": 5,
    "docs/editing.md": 4,
    "docs/scores.md": 6,
    "docs/composing.md": 4,
    "docs/samples/README.md": 8,
}
LEFT_OUT = {  # first words -> why
    "python3 -m venv": "makes an environment: minutes and a network; CI does it by `make test`",
    "pip install": "needs a network",
    "make": "installs first; what its targets run is tested as itself",
    "python -m training": "the training stages have tests of their own (test_training.py, test_own_music.py)",
    "python -m pytest": "is what runs this",
    "python -m benchmarks": "minutes; test_benchmarks.py",
    "python -m training.data.sources.fetch": "needs a network",
    "python -m space.export": "test_app_parts.py exports and starts it",
    "ruff": "style; `make quality`",
    "accelerate launch": "test_training.py runs two processes",
    "python app.py": "does not end; test_app.py talks to it",
    "vivace app": "likewise",
    "vivace serve": "does not end; test_serve.py",
    "vivace finetune": "minutes, and needs music; test_finetune.py",
    "vivace generate --lora": "needs its adapter; test_lora.py",
    "vivace edit --audio song.wav --score": "needs a note that was changed; test_score_commands.py",
    "vivace restore demo.wav --to less noise": "needs a restorer; test_restorer.py, test_train_restorer.py",
    "vivace publish": "needs a Hub; test_hub.py has one",
    "hf auth login": "asks a person",
    "cd": "of commands that are left out",
    "git clone": "needs a network",
}
RUN = {"vivace": vivace}


def blocks(text: str, language: str = "") -> list[str]:
    """Fenced blocks of a language, "" = none; in those, a tree of files is no command."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [body for kind, body in found if kind == language and not body.startswith("app.py ")]


def commands(text: str) -> list[list[str]]:
    """Words of each command, without comments and the folder of the environment."""
    lines = [line for body in blocks(text) for line in body.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line.replace(".venv/bin/", ""), comments=True) for line in lines]
    return [each for line in words if line for each in split_chain(line)]


def split_chain(words: list[str]) -> list[list[str]]:
    """The commands of `one && two`, without assignments of the environment before them."""
    chain: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            chain.append([])
        elif chain[-1] or not re.fullmatch(r"[A-Z_]+=.*", word):
            chain[-1].append(word)
    return chain


def starts(words: list[str], prefixes: dict) -> str | None:
    """The longest of the prefixes that a command begins with."""
    fitting = [one for one in prefixes if " ".join(words).startswith(one)]
    return max(fitting, key=len, default=None)


@pytest.fixture(scope="module")
def composing_checkpoint(tmp_path_factory):
    """A tiny checkpoint with the parts of the shipped one."""
    folder = tmp_path_factory.mktemp("published") / "composing"
    torch.manual_seed(0)
    composer = ComposerVivace(width=24, layers=1, heads=2, kernel=3, text_dim=16, instruments=("flute", "piano"))
    pipe = make_pipeline(instruments=("piano", "flute", "drums"), reference=True)
    save_checkpoint(VivacePipeline.from_pipe(pipe, composer=composer.eval()), folder)
    return folder


@pytest.fixture
def newcomer(composing_checkpoint, tmp_path, monkeypatch):
    """A folder with the checkpoint where README has it, of two steps a piece, and the empty one for the samples."""
    shutil.copytree(composing_checkpoint, tmp_path / "checkpoints" / "small")
    index = tmp_path / "checkpoints" / "small" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"default_num_inference_steps": 2}))
    (tmp_path / "docs" / "samples").mkdir(parents=True)
    _, bpm, notes = tune("twinkle")
    hits = beatbox([(0.6 * k, ("kick", "snare")[k % 2]) for k in range(8)], 0)[0]
    for name, audio in (("hum", sing(seconds(notes, bpm), 0)[0]), ("tap", hits), ("demo", hits)):
        soundfile.write(tmp_path / f"{name}.wav", audio, RATE)
    soundfile.write(tmp_path / "reference.flac", hits, RATE)
    monkeypatch.chdir(tmp_path)
    # A random composer may write no lead, which `vivace arrange` needs: the same pieces in every run.
    monkeypatch.setattr(compose.secrets, "randbelow", lambda limit: 7)
    monkeypatch.setattr(hub, "ROOT", tmp_path)  # where the commands look for it first
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_every_command_runs_or_is_left_out_for_a_reason(newcomer, page):
    run = 0
    for words in commands((ROOT / page).read_text()):
        if starts(words, LEFT_OUT):
            continue
        program = starts(words, RUN)
        assert program, f"{page} has {' '.join(words)!r}, which is neither run here nor left out"
        rest = words[len(program.split()) :]
        assert RUN[program](rest) == 0, words
        run += 1
        if "--out" in rest and "--batch" not in rest and not rest[rest.index("--out") + 1].endswith(".mid"):
            assert soundfile.info(rest[rest.index("--out") + 1]).frames > 1000, words
    assert run >= LEAST.get(page, 0)


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(newcomer, capsys, page):
    ran = 0
    for body in blocks((ROOT / page).read_text(), "python"):
        if "user/" in body or "gradio_client" in body:  # need the Hub (test_hub.py has one), the page (test_app.py)
            continue
        if "tune.mid" in body or "runs/" in body or "jam(" in body:  # need a file or weights, or do not end
            continue
        exec(compile(body, page, "exec"), {"__name__": "readme"})
        ran += 1
    assert page != "README.md" or (ran and "[7]" in capsys.readouterr().out)
    assert not any(name.endswith(".partial") for name in os.listdir(newcomer))


def test_commands_are_taken_apart():
    lines = ["A=1 vivace generate --prompt 'a b' && cd x  # why", ".venv/bin/python -m y \\", "    --z"]
    text = "\n".join(["```", *lines, "```", "```", "app.py   tree", "```", ""])
    assert commands(text) == [["vivace", "generate", "--prompt", "a b"], ["cd", "x"], ["python", "-m", "y", "--z"]]
