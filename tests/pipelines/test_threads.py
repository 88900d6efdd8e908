"""How many CPU threads the commands and the page take, and that options and the environment come first."""

import json

import pytest
import torch

from pipelines import threads
from pipelines.commands.main import main as vivace
from pipelines.threads import choose_threads


@pytest.mark.parametrize(
    ("own", "cores", "busy", "given", "number", "reason"),
    [
        (2, 2, 0.0, {}, 1, "2 cores: a second thread"), (1, 1, None, {}, 1, "1 core: "),
        (8, 16, 0.5, {}, 8, "16 cores"),
        (8, 16, 11.2, {}, 4, "11.2 of 16 cores are busy"), (8, 8, 1.5, {}, 6, "busy"), (8, 8, 40.0, {}, 1, "busy"),
        (8, 8, None, {}, 8, "8 cores"), (4, 4, 4.0, {"asked": 3}, 3, "as asked for"),
        (2, 2, 9.0, {"environment": {"OMP_NUM_THREADS": "2"}}, 2, "OMP_NUM_THREADS is set"),
        (2, 2, 9.0, {"environment": {"OMP_NUM_THREADS": "2"}, "asked": 5}, 5, "as asked for"),
        (8, 4, 0.0, {}, 4, "cores are busy"),  # a container that may use fewer than torch counts
    ],
)  # fmt: skip
def test_choice(own, cores, busy, given, number, reason):
    made = choose_threads(own, cores, busy, **{"environment": {}} | given)
    assert made[0] == number and reason in made[1]


@pytest.fixture
def restored():
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


def test_commands_follow_the_option_and_a_replay_its_recipe(restored, tiny_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(threads, "usable_cores", lambda: 4)
    place, out = ["--checkpoint", str(tiny_checkpoint), "--json"], str(tmp_path / "a.wav")
    assert vivace(["generate", *place, "--prompt", "piano", "--seed", "1", "--threads", "3", "--out", out]) == 0
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    assert vivace(["replay", *place, out]) == 0
    assert torch.get_num_threads() == 3 and json.loads(capsys.readouterr().out.splitlines()[-1])["equal"]
    vivace(["replay", *place, out, "--threads", "2"])
    assert torch.get_num_threads() == 2
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)  # more than this machine has
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    vivace(["replay", *place, out])
    assert torch.get_num_threads() == 1
    with pytest.raises(SystemExit) as stopped:
        vivace(["generate", *place, "--prompt", "piano", "--threads", "0"])
    assert stopped.value.code == 2 and "--threads: 0 is not allowed" in capsys.readouterr().err


def test_the_page_chooses_too(restored, monkeypatch):
    import app

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    torch.set_num_threads(2)
    monkeypatch.setattr(app, "load_model", lambda name: (_ for _ in ()).throw(ValueError(torch.get_num_threads())))
    with pytest.raises(SystemExit, match="error: 1"):
        app.main()


def test_a_piece_hardly_depends_on_threads(restored, tiny_pipeline):
    """The last bits may; more would be a race."""
    made = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        made.append(tiny_pipeline(["piano", "drums"], seed=[1, 2], output_type="latent").audios)
    for other in made[1:]:
        torch.testing.assert_close(other, made[0], atol=1e-4, rtol=1e-4)
