"""Rewards rise over rounds, runs resume bit for bit, an adapter leaves the network alone, choices are learnt."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.hub import load_native, load_published
from tests.helpers.interrupted import run_in_two
from tests.helpers.runs import WEIGHTS, log_lines, same
from training import export, lora, preferences, reward, rewards

FULL, ADAPTER = WEIGHTS, lora.WEIGHTS


@pytest.fixture
def channel(monkeypatch):
    """A reward: the mean of the first channel of the latents."""
    monkeypatch.setitem(rewards.REWARDS, "channel", lambda pieces: pieces.latents[:, :, 0].mean(dim=2).cpu())


@pytest.fixture
def arguments(teacher, tiny_latents):
    return ["--config", "training/configs/tiny/reward.yaml", "--init_from", str(teacher), "--rewards", "channel",
            "--data_dir", str(tiny_latents)]  # fmt: skip


@pytest.mark.parametrize("method", ["nft", "expert"])
def test_a_reward_rises_over_rounds(arguments, teacher, channel, tmp_path, method):
    more = ["--method", method, "--max_steps", "32", "--learning_rate", "3e-3", "--validate_every", "8"]
    reward.main([*arguments, *more, "--output_dir", str(tmp_path / "run")])
    gains = [line["validation/reward"] for line in log_lines(tmp_path / "run", "validation/reward")]
    errors = [line["validation/reward_error"] for line in log_lines(tmp_path / "run", "validation/reward")]
    assert gains[-1] > gains[0] and gains[-1] > 0.3 and gains[-1] > 3 * errors[-1]
    logged = log_lines(tmp_path / "run", "train/reward_channel")
    assert all(line["train/best_channel"] > line["train/reward_channel"] for line in logged)
    best = json.loads((tmp_path / "run" / "best" / "best.json").read_text())
    assert best["reward"] == max(gains) and best["base_reward"] == 0.0 and best["step"] % 8 == 0
    export.main(["--run", str(tmp_path / "run"), "--output_dir", str(tmp_path / "better")])
    made = load_published(tmp_path / "better")
    kept = load_file(tmp_path / "run" / "best" / FULL)
    for name, value in made.unet.state_dict().items():  # a checkpoint holds half precision
        torch.testing.assert_close(value, kept[name], rtol=1e-3, atol=1e-4)
    assert made.config.default_num_inference_steps == 12
    assert made("slow piano", duration_s=1.0, seed=1, num_inference_steps=2).audios.shape[0] == 1


@pytest.mark.parametrize("more", [[], ["--lora_rank", "2"]])
def test_a_run_that_goes_on_ends_with_the_same_bits(arguments, channel, tmp_path, more):
    arguments = [*arguments, *more, "--max_steps", "7", "--round_steps", "4", "--checkpoint_every", "6"]
    reward.main([*arguments, "--output_dir", str(tmp_path / "whole")])
    parts = [*arguments, "--output_dir", str(tmp_path / "parts")]
    run_in_two(reward.main, parts, 6)  # within the second round
    for name in ("final", "best"):
        file = f"{name}/{ADAPTER if more else FULL}"
        assert same(load_file(tmp_path / "whole" / file), load_file(tmp_path / "parts" / file))
    about = [(tmp_path / name / "best" / "best.json").read_bytes() for name in ("whole", "parts")]
    assert about[0] == about[1]
    with pytest.raises(ValueError, match=r"beta was 1\.0, is 0\.5"):
        reward.main([*parts, "--beta", "0.5", "--max_steps", "9"])


def test_an_adapter_leaves_the_network_alone(arguments, teacher, channel, tmp_path):
    before = (teacher / "unet" / FULL).read_bytes()
    more = ["--lora_rank", "4", "--learning_rate", "2e-2", "--max_steps", "16", "--validate_every", "4"]
    reward.main([*arguments, *more, "--anchor_weight", "0.1", "--output_dir", str(tmp_path / "run")])
    assert (teacher / "unet" / FULL).read_bytes() == before
    assert {path.name for path in (tmp_path / "run" / "best").iterdir()} == {ADAPTER, "best.json"}
    export.main(["--run", str(tmp_path / "run"), "--output_dir", str(tmp_path / "mine")])
    assert (
        "trained on 6 clips; the step is that with the best held-out reward"
        in (tmp_path / "mine" / "README.md").read_text()
    )
    pipe = load_published(teacher)
    request = {"prompt": "slow piano", "duration_s": 1.0, "seed": 3, "output_type": "latent"}
    plain = pipe(**request).audios
    pipe.load_lora_weights(tmp_path / "mine")
    assert float((pipe(**request).audios - plain).abs().max()) > 1e-3
    gains = log_lines(tmp_path / "run", "validation/reward")
    assert max(line["validation/reward"] - 3 * line["validation/reward_error"] for line in gains) > 0.0


def test_every_reward_rates_and_a_dry_run_writes_nothing(arguments, tmp_path, capsys, monkeypatch):
    class Labelled(reward.Rounds):
        def __init__(self, config, ways, policy, accelerator):
            fit = reward.fit_classifier

            def labelled(crops, others, seed):
                for row in [*crops.rows, *others.rows]:
                    row |= {"instruments": ["piano"] if row["bpm"] > 100 else [], "drums": True}
                return fit(crops, others, seed)

            monkeypatch.setattr(reward, "fit_classifier", labelled)
            super().__init__(config, ways, policy, accelerator)

    monkeypatch.setattr(reward, "Rounds", Labelled)
    names = [*rewards.REWARDS]
    reward.main([*arguments, "--rewards", *names, "--max_steps", "2", "--output_dir", str(tmp_path / "run")])
    (first, *_) = log_lines(tmp_path / "run", "train/reward_grid")
    assert {f"train/reward_{name}" for name in names} - set(first) == {"train/reward_notes"}  # no clip has notes
    cost = reward.main([*arguments, "--rewards", *names, "--dry_run", "--output_dir", str(tmp_path / "dry")])
    assert cost["seconds"] > 0.0 and not (tmp_path / "dry").exists()
    assert "s to make and rate its candidates" in capsys.readouterr().out


@pytest.mark.parametrize("changes, message", [
    (["--init_from", "null"], "init_from is None; allowed: a checkpoint folder"),
    (["--rewards", "melody"], "rewards has 'melody'; allowed: notes,"),
    (["--rewards", "instruments"], "rewards has 'instruments', but the clips of data_dir have no labels"),
    (["--preferences", "none.jsonl"], "preferences none.jsonl: no such file"),
])  # fmt: skip
def test_bad_settings_are_one_line(arguments, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        reward.main([*arguments, *changes, "--output_dir", str(tmp_path / "run")])
    assert len(str(error.value).splitlines()) == 1


# A user's choices.


@pytest.fixture(scope="module")
def pairs(teacher, tmp_path_factory):
    """Eight pairs of pieces with recipes, of which the one with the higher mean of the first channel is chosen."""
    folder = tmp_path_factory.mktemp("pairs")
    pipe = load_native(str(teacher))
    pipe.set_progress_bar_config(disable=True)
    rows = []
    for number in range(8):
        prompt = ("slow piano", "fast drums")[number % 2]
        made = []
        for seed in (2 * number, 2 * number + 1):
            out = pipe(prompt, duration_s=1.28, bpm=100, seed=seed, num_inference_steps=2)
            out.save(folder / f"{seed}.flac")
            latents = preferences.piece_of(pipe, folder / f"{seed}.flac", {"where": "here"})["latents"]
            made.append((float(latents[0].mean()), f"{seed}.flac"))
        (_, rejected), (_, chosen) = sorted(made)
        rows.append({"prompt": prompt, "seed": 2 * number, "chosen": chosen, "rejected": rejected})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "pairs.jsonl"


def test_choices_enlarge_the_margin_on_other_pairs(arguments, teacher, pairs, tmp_path):
    rows, file, generator = [json.loads(pairs.read_text().splitlines()[0])], tmp_path / "pairs.jsonl", torch.Generator()
    rows[0] |= {side: str(pairs.with_name(rows[0][side])) for side in ("chosen", "rejected")}
    for number in range(9):  # the user likes what has more of the first channel
        for side, shift in (("chosen", 1.0), ("rejected", -1.0)):
            latents = torch.randn(4, 40, generator=generator)
            latents[0] += shift
            save_file({"latents": latents}, tmp_path / f"{number}_{side}.safetensors")
        names = {side: f"{number}_{side}.safetensors" for side in ("chosen", "rejected")}
        rows.append({"prompt": "slow piano", "seed": number} | names)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = ["--preferences", str(file), "--lora_rank", "4", "--learning_rate", "1e-2", "--max_steps", "24",
            "--validate_every", "6", "--holdout_share", "0.3"]  # fmt: skip
    reward.main([*arguments, *more, "--output_dir", str(tmp_path / "run")])
    found = log_lines(tmp_path / "run", "validation/margin")
    assert found[-1]["validation/margin"] > max(found[0]["validation/margin"], 0.0)
    assert found[-1]["validation/loss"] < found[0]["validation/loss"] < 0.6932
    assert found[-1]["validation/accuracy"] == 1.0
    export.main(["--run", str(tmp_path / "run"), "--output_dir", str(tmp_path / "mine")])
    pipe = load_published(teacher)
    request = {"prompt": "slow piano", "duration_s": 1.28, "seed": 100, "output_type": "latent"}
    plain = pipe(**request).audios
    pipe.load_lora_weights(tmp_path / "mine")
    assert float((pipe(**request).audios - plain)[:, 0].mean()) > 0.1
    again = [*arguments, *more, "--output_dir", str(tmp_path / "run"), "--max_steps", "30"]
    file.write_text(file.read_text() + file.read_text())
    with pytest.raises(ValueError, match="the data was"):
        reward.main([*again, "--max_steps", "24"])


def test_conditions_are_those_of_the_piece(teacher, pairs):
    pipe = load_native(str(teacher))
    pipe.set_progress_bar_config(disable=True)
    piece = preferences.piece_of(pipe, pairs.with_name("0.flac"), {"where": "here"})
    assert piece["latents"].shape == (4, 32) and piece["grid"].shape == (22, 32) and float(piece["bpm"]) == 100.0
    assert piece["grid"][20].all() and piece["text_mask"].any() and not piece["note_roll"].any()
    latents = pipe("fast drums", bars=1, bpm=120, loop=True, seed=2, output_type="latent").audios[0]
    out = pipe("fast drums", bars=1, bpm=120, loop=True, seed=2)
    out.save(pairs.with_name("loop.wav"))
    looped = preferences.piece_of(pipe, pairs.with_name("loop.wav"), {"where": "here"})
    assert looped["latents"].shape == (4, 50) and looped["grid"].shape == (22, 50)
    phase = torch.cos(2 * torch.pi * (torch.arange(50) + 0.5) / 12.5)
    torch.testing.assert_close(looped["grid"][1], phase, atol=1e-4, rtol=0)
    save_file({"latents": latents.contiguous()}, pairs.with_name("loop.safetensors"))
    row = {"where": "here", "prompt": "fast drums", "seed": 2}
    found = preferences.piece_of(pipe, pairs.with_name("loop.safetensors"), row)
    torch.testing.assert_close(found["latents"], latents.float())


@pytest.mark.parametrize("row, message", [
    ({"chosen": "0.flac"}, "line 1 lacks chosen or rejected"),
    ({"chosen": "0.flac", "rejected": "none.flac"}, "none.flac does not exist"),
    ({"chosen": "0.flac", "rejected": "1.flac", "prompt": "jazz"}, "prompt is 'jazz', but that of the recipe is 'slow"),
    ({"chosen": "0.flac", "rejected": "pairs.jsonl"}, "line 1: pairs.jsonl: "),
])  # fmt: skip
def test_bad_pairs_name_their_line(arguments, pairs, tmp_path, row, message):
    file = pairs.with_name("bad.jsonl")
    file.write_text(json.dumps(row) + "\n" + pairs.read_text())
    with pytest.raises(ValueError, match=message) as error:
        reward.main([*arguments, "--preferences", str(file), "--output_dir", str(tmp_path / "run")])
    assert len(str(error.value).splitlines()) == 1 and "bad.jsonl, line 1" in str(error.value)
