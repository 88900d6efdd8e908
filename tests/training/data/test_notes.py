"""Notes: the UNet that plays them, latents that carry them, and what training drops of them."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from pipelines.vivace_process import ROLL_CHANNELS, note_roll
from pipelines.vivace_score import ROLES, Score, Track
from tests.conftest import encode_arguments
from tests.helpers.latent_sets import contents, read_shard
from tests.helpers.runs import log_lines, same, weights
from tests.pipelines.test_unet import close, differ, make_inputs, make_unet
from training import encode_latents, train_unet
from training.config import UNetRun
from training.data.latents import LatentCrops, TrainingCrops
from training.data.notes import bar_numbers, drop_notes, frames_roll, note_rows, notes_by_role, role_channels
from training.objective import keep_roles

NOTES = {"note_channels": 12, "note_dim": 32, "instruments": ["piano", "violin"]}
TINY = Path("training/configs/tiny/unet.json")
SOUNDING = {"note_channels": ROLL_CHANNELS, "note_dim": 32, "instruments": ["piano", "synth bass", "drums"]}


def make_notes(batch: int = 3, frames: int = 13) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    roll = torch.rand(batch, 12, frames, generator=generator)
    return {"note_roll": roll, "role_instruments": torch.tensor([[0, 1, -1, 0]] * batch)}


# ---- the network -------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("levels", [1, 3])
def test_a_network_that_gains_notes_predicts_the_same_bits(levels):
    shape = {
        "block_out_channels": [16, 24, 32][:levels],
        "layers_per_block": [1] * levels,
        "attention": [True] * levels,
    }
    plain, grown = make_unet(**shape), make_unet(randomise=False, **shape, **NOTES)
    missing, unexpected = grown.load_state_dict(plain.state_dict(), strict=False)
    assert missing and not unexpected and all(name.startswith("note_path.") for name in missing)
    inputs = make_inputs()
    expected = plain(**inputs).sample
    assert torch.equal(grown(**inputs).sample, expected)
    assert torch.equal(grown(**inputs, **make_notes()).sample, expected)


@torch.no_grad()
def test_notes_and_instruments_of_every_role_matter_and_none_is_a_roll_of_zeros():
    unet, inputs, notes = make_unet(**NOTES), make_inputs(), make_notes()
    given = unet(**inputs, **notes).sample
    for role in range(4):
        other = notes["role_instruments"].clone()
        other[:, role] = 1 - other[:, role].clamp(min=0)
        differ(unet(**inputs, **{**notes, "role_instruments": other}).sample, given)
    moved = notes["note_roll"].roll(1, dims=2)
    differ(unet(**inputs, **{**notes, "note_roll": moved}).sample, given)
    nothing = {"note_roll": torch.zeros_like(moved), "role_instruments": torch.full((3, 4), -1)}
    assert torch.equal(unet(**inputs).sample, unet(**inputs, **nothing).sample)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 7, 13])
def test_padding_of_notes_changes_nothing(frames):
    unet, inputs, notes = make_unet(**NOTES), make_inputs(frames=frames), make_notes(frames=frames)
    expected = unet(**inputs, **notes).sample
    padded = inputs | notes
    for name in ("sample", "frame_cond", "note_roll"):
        rubbish = torch.full((*padded[name].shape[:2], 5), math.nan)
        padded[name] = torch.cat([padded[name], rubbish], dim=2)
    result = unet(**padded, frame_mask=torch.arange(frames + 5).expand(3, -1) < frames).sample
    close(result[..., :frames], expected)
    assert (result[..., frames:] == 0).all()


@torch.no_grad()
def test_an_item_has_the_same_bits_in_any_batch():
    shape = {"block_out_channels": [32, 64], "layers_per_block": [1, 1], "attention": [False, True]}
    sizes = {"attention_head_dim": 16, "context_dim": 32, "embedding_dim": 32, **SOUNDING}
    unet = make_unet(**shape, **sizes)
    inputs = make_inputs(5, 40)
    notes = {"note_roll": torch.rand(5, ROLL_CHANNELS, 40), "role_instruments": torch.tensor([[0, 1, 2, -1]] * 5)}
    together = unet(**inputs, **notes).sample
    for row in range(5):
        one = {name: value[row : row + 1] for name, value in (inputs | notes).items() if name != "added_cond_kwargs"}
        one["added_cond_kwargs"] = {name: v[row : row + 1] for name, v in inputs["added_cond_kwargs"].items()}
        assert torch.equal(unet(**one).sample[0], together[row])


def test_bad_notes_are_refused():
    unet, plain, inputs = make_unet(**NOTES), make_unet(), make_inputs()
    with pytest.raises(ValueError, match=r"note_roll must have shape \(3, 12, 13\), got \(3, 11, 13\)"):
        unet(**inputs, note_roll=torch.zeros(3, 11, 13))
    with pytest.raises(ValueError, match=r"role_instruments must have shape \(3, 4\), got \(3, 3\)"):
        unet(**inputs, role_instruments=torch.zeros(3, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"note_roll must have shape \(3, 0, 13\)"):
        plain(**inputs, **make_notes())
    with pytest.raises(ValueError, match="instruments has 'piano' twice"):
        make_unet(**{**NOTES, "instruments": ["piano", "flute", "piano"]})
    with pytest.raises(ValueError, match="instruments has 1 names; allowed: none where note_channels is 0"):
        make_unet(instruments=["piano"])


# ---- rolls --------------------------------------------------------------------------------------------------------


def test_channels_of_the_roles_are_all_channels_once():
    channels = [channel for role in ROLES for channel in role_channels(role)]
    assert sorted(channels) == list(range(ROLL_CHANNELS))
    with pytest.raises(ValueError, match="role is 'voice'; allowed: lead, harmony, bass, drums"):
        role_channels("voice")
    score = Score((Track("bass", [[0, 1, 40, 0.5]]), Track("drums", [[0, 1, 36, 1.0]])), bpm=100)
    whole = note_roll(score, 50, 25.0)
    free = note_roll(score, 50, 25.0, free=("lead", "harmony", "drums"))
    assert torch.equal(whole[role_channels("bass")], free[role_channels("bass")])
    assert whole[role_channels("lead")].sum() == 50 and not free[role_channels("lead")].any()  # silent, and free


def test_onsets_of_a_roll_are_where_the_sound_begins():
    """Tones rendered at known times, found again in the sound and in the roll of a crop, to a millisecond."""
    rate, frame_rate, offset = 24000, 25.0, 30
    rng = np.random.default_rng(0)
    onsets = np.cumsum(rng.uniform(0.2, 0.4, 12)) + 0.5
    time = np.arange(6 * rate) / rate
    audio = np.zeros_like(time)
    for onset in onsets:
        since = time - onset
        audio += (since >= 0) * np.sin(2 * np.pi * 300 * since) * np.exp(-60 * since.clip(0))
    row = {
        "file_name": "a", "parts": [{"role": "lead", "instrument": "piano", "program": 0}],
        "notes": {"part": [0] * 12, "onset_s": onsets, "duration_s": [0.1] * 12, "pitch": range(60, 72),
                  "velocity": [0.5] * 12},
    }  # fmt: skip
    roll = frames_roll(notes_by_role(row, note_rows(row)), offset, 120, frame_rate).double()
    for number, onset in enumerate(onsets):
        near = (time > onset - 0.05) & (time < onset + 0.05)
        level = np.abs(audio[near])
        audible = time[near][np.argmax(level > 0.1 * level.max())]  # the tone before has decayed by far
        if number and onset - onsets[number - 1] > 0.15:
            line = roll[88 + 60 - 21 + number]
            place = float((line * (torch.arange(120) + 0.5)).sum() / line.sum())
            if 1 < place < 119:
                assert (place + offset) / frame_rate == pytest.approx(audible, abs=1e-3)
                assert float(line.sum()) == pytest.approx(0.5)


# ---- latents with notes -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noted_data(tiny_data, tmp_path_factory):
    """The tiny clips, of which the training split has notes but for the last clip."""
    folder = tmp_path_factory.mktemp("noted") / "data"
    shutil.copytree(tiny_data, folder)
    for split in ("train", "validation"):
        place = folder / split / "metadata.jsonl"
        rows = [json.loads(line) for line in place.read_text().splitlines()]
        for number, row in enumerate(rows[: 5 if split == "train" else 2]):
            row["parts"] = [
                {"role": "lead", "instrument": "piano", "program": 0},
                {"role": "bass", "instrument": "kazoo", "program": 38},
                {"role": "drums", "instrument": "drums", "program": 0},
            ]
            row["notes"] = {
                "part": [0, 1, 2, 0], "onset_s": [-0.1, 0.0, 0.5, 1.0 + 0.04 * number],
                "duration_s": [0.5, 1.0, 0.1, 0.4], "pitch": [60, 36, 38, 64], "velocity": [0.5, 1.0, 0.25, 0.75],
            }  # fmt: skip
        place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def noted_latents(noted_data, tiny_latents, tiny_text_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("noted_run")
    shutil.copytree(tiny_latents.parent / "ae", folder / "ae")
    encode_latents.main(encode_arguments(folder, noted_data, tiny_text_encoder))
    return folder / "latents"


def test_a_shard_keeps_the_notes_as_arrays(noted_latents, tiny_latents):
    arrays, about = read_shard(noted_latents / "train" / "00000.safetensors")
    assert arrays["note_offsets"].tolist() == [0, 4, 8, 12, 16, 20, 20]
    assert arrays["notes"][4].tolist() == [0.0, pytest.approx(-0.1), 0.5, 60.0, 0.5]
    rows = json.loads(about["rows"])
    assert all("notes" not in row for row in rows) and rows[5].get("parts") is None
    plain, labels = read_shard(tiny_latents / "train" / "00000.safetensors")
    assert "notes" not in plain and "notes" not in labels  # data without notes is as it was
    for name, array in plain.items():
        assert torch.equal(arrays[name], array)


def test_other_notes_make_other_shards_and_encode_nothing(noted_data, noted_latents, tiny_text_encoder, tmp_path):
    shutil.copytree(noted_latents.parent, tmp_path / "run")
    shutil.copytree(noted_data, tmp_path / "data")
    place = tmp_path / "data" / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in place.read_text().splitlines()]
    rows[2]["notes"]["pitch"][0] = 61
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = encode_arguments(tmp_path / "run", tmp_path / "data", tiny_text_encoder)
    counts = encode_latents.main(words)
    assert counts["train"] == {"audio kept": 6, "text kept": 6}
    arrays, _ = read_shard(tmp_path / "run" / "latents" / "train" / "00000.safetensors")
    assert arrays["notes"][8, 3] == 61
    before = contents(tmp_path / "run" / "latents")
    encode_latents.main(words)
    assert contents(tmp_path / "run" / "latents") == before


def test_a_crop_has_its_notes_and_without_a_list_of_instruments_it_is_as_it_was(noted_latents, tiny_latents):
    names = ["piano", "synth bass", "drums"]
    crops = LatentCrops(str(noted_latents), "train", 16, names)
    assert crops.about_notes() == "5 of 6 clips have notes; unknown to the network: kazoo"
    old = LatentCrops(str(tiny_latents), "train", 16)
    for index in range(6):
        item, bars = crops.read_at(index, np.random.default_rng(7))
        plain = old.read(index, np.random.default_rng(7))
        assert {*item} - {*plain} == {"note_roll", "role_instruments"}
        for name, value in plain.items():
            assert torch.equal(item[name].nan_to_num(), value.nan_to_num())
        assert item["note_roll"].shape == (ROLL_CHANNELS, 16) and len(bars) == 16
        if index == 5:  # unknown: all free
            assert not item["note_roll"].any() and item["role_instruments"].tolist() == [-1] * 4
            continue
        assert item["role_instruments"].tolist() == [0, -1, -1, 2]
        states = item["note_roll"][-8:, 0].tolist()  # given and silent of lead, harmony, bass, drums
        assert states == [1, 0, 0, 1, 1, 0, 1, 0]
        offset = int(np.random.default_rng(7).integers(0, 50 - 16 + 1))
        whole = frames_roll(notes_by_role(crops.rows[index], crops.note_values(index)), 0, 50, 25.0)
        assert torch.allclose(item["note_roll"], whole[:, offset : offset + 16], atol=1e-6)


def test_what_rings_over_the_end_of_a_loop_sounds_at_its_beginning():
    row = {
        "file_name": "a", "loop": True, "duration_s": 2.0, "parts": [{"role": "bass", "instrument": None}],
        "notes": {"part": [0, 0], "onset_s": [0.5, 1.8], "duration_s": [0.5, 0.6], "pitch": [40, 41],
                  "velocity": [1.0, 1.0]},
    }  # fmt: skip
    roll = frames_roll(notes_by_role(row, note_rows(row)), 0, 50, 25.0)
    first = role_channels("bass")[0]
    assert roll[first + 41 - 21, :10].tolist() == pytest.approx([1.0] * 10) and roll[first + 41 - 21, 45:].all()
    assert roll[first + 88 + 41 - 21, 44:46].sum() == pytest.approx(1.0) and not roll[first + 88 + 41 - 21, :40].any()
    cut = frames_roll(notes_by_role({**row, "loop": False}, note_rows(row)), 0, 50, 25.0)
    assert not cut[first + 41 - 21, :10].any()


GOOD = {"part": [0], "onset_s": [0.0], "duration_s": [1.0], "pitch": [60], "velocity": [0.5]}


@pytest.mark.parametrize(
    "notes, parts, message",
    [
        ({**GOOD, "pitch": None}, None, "notes of x.flac lack pitch; needed: part, onset_s"),
        ({**GOOD, "pitch": []}, None, "notes of x.flac are lists of unequal length: 1 of part, 1 of onset_s"),
        ({**GOOD, "part": [1]}, None, "notes of x.flac have a part outside the list at place 0; allowed: 0 to 0"),
        ({**GOOD, "onset_s": [math.nan]}, None, "notes of x.flac have a number that is not finite at place 0"),
        ({**GOOD, "velocity": [64]}, None, "notes of x.flac have a velocity out of range at place 0; allowed: 0 to 1"),
        ({**GOOD, "pitch": [128]}, None, "notes of x.flac have a pitch outside MIDI at place 0; allowed: 0 to 127"),
        (GOOD, [{"role": "voice"}], "parts of x.flac has the role 'voice'; allowed: lead, harmony, bass, drums"),
    ],
)
def test_bad_notes_are_named_with_their_clip(notes, parts, message):
    row = {"file_name": "x.flac", "parts": parts or [{"role": "lead", "instrument": "piano"}], "notes": notes}
    with pytest.raises(ValueError, match=message):
        note_rows(row)


# ---- what training drops ------------------------------------------------------------------------------------------


def full_item(frames: int = 40) -> dict[str, torch.Tensor]:
    """Every channel is 1, so that what is dropped is seen."""
    return {"note_roll": torch.ones(ROLL_CHANNELS, frames), "role_instruments": torch.arange(4)}


def dropped(seeds: int = 400, drop_all: bool = False, **shares: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each seed: what is left of each role in each frame (4, frames) bool, and the instruments."""
    none = {"note_dropout": 0.0, "role_dropout": 0.0, "span_dropout": 0.0, "instrument_dropout": 0.0}
    found = []
    for seed in range(seeds):
        item = full_item()
        bars = bar_numbers({"bpm": 120.0, "beats_per_bar": 1, "downbeat_s": 0.1}, 0, 40, 25.0)
        drop_notes(item, bars, UNetRun(**{**none, **shares}), drop_all, np.random.default_rng(seed))
        lines = [item["note_roll"][role_channels(role)] for role in ROLES]
        assert all(torch.equal(line, line[:1].expand_as(line)) for line in lines)  # a role's states go with its notes
        found.append((torch.stack([line[0] > 0 for line in lines]), item["role_instruments"]))
    return found


def test_nothing_is_dropped_at_shares_of_zero():
    assert all(kept.all() and names.tolist() == [0, 1, 2, 3] for kept, names in dropped())


def test_all_roles_are_dropped_as_often_as_asked_and_where_there_is_no_condition_at_all():
    found = dropped(note_dropout=0.3)
    assert all(kept.all() == kept.any() and (names == -1).all() != kept.all() for kept, names in found)
    assert np.mean([not kept.any() for kept, _ in found]) == pytest.approx(0.3, abs=0.06)
    assert not any(kept.any() for kept, _ in dropped(20, drop_all=True))


def test_single_roles_are_dropped_whole_with_their_instrument():
    found = dropped(role_dropout=1.0)
    assert all((kept.all(1) == kept.any(1)).all() for kept, _ in found)
    assert all(((names >= 0) == kept.all(1)).all() for kept, names in found)
    share = torch.stack([kept.all(1) for kept, _ in found]).double().mean(0)
    assert torch.allclose(share, torch.full((4,), 0.5, dtype=torch.double), atol=0.08)
    alone = np.mean([kept.all(1).tolist() == [True, False, False, False] for kept, _ in found])
    assert 0.03 < alone < 0.1  # the lead alone, the others free


def test_spans_are_of_whole_bars_and_keep_the_instruments():
    bars = bar_numbers({"bpm": 120.0, "beats_per_bar": 1, "downbeat_s": 0.1}, 0, 40, 25.0)
    assert (np.flatnonzero(np.diff(bars)) + 1).tolist() == [2, 15, 27, 40][:3]  # bars of half a second, 12.5 frames
    spans, lines = 0, set()
    for kept, names in dropped(span_dropout=1.0):
        assert names.tolist() == [0, 1, 2, 3]
        for role in kept:
            edges = set((np.flatnonzero(np.diff(role.numpy().astype(int))) + 1).tolist())
            assert edges <= {2, 15, 27}
            lines |= edges
        spans += not kept.all()
    assert spans > 300 and lines == {2, 15, 27}


def test_velocities_of_each_role_are_scaled_on_their_own_and_states_are_not():
    config = UNetRun(note_dropout=0.0, role_dropout=0.0, span_dropout=0.0, velocity_spread=0.5)
    factors = []
    for seed in range(200):
        item = full_item()
        drop_notes(item, np.zeros(40, dtype=int), config, False, np.random.default_rng(seed))
        lines = [item["note_roll"][role_channels(role)] for role in ROLES]
        assert all(bool((line[-2:] == 1.0).all()) for line in lines)
        assert all(torch.equal(line[:-2], line[:1].expand_as(line[:-2])) for line in lines)
        factors.append([float(line[0, 0]) for line in lines])
    powers = np.log2(factors)
    assert np.abs(powers).max() <= 0.5 and np.abs(powers.mean(0)).max() < 0.1 and powers.std() > 0.25
    assert np.abs(np.corrcoef(powers.T) - np.eye(4)).max() < 0.25


def test_instruments_are_unknown_as_often_as_asked():
    found = dropped(instrument_dropout=0.3)
    assert all(kept.all() for kept, _ in found)
    assert torch.stack([names == -1 for _, names in found]).double().mean() == pytest.approx(0.3, abs=0.05)


def test_bars_that_are_unknown_last_two_seconds():
    assert bar_numbers({"bpm": None}, 25, 60, 25.0).tolist() == [0] * 25 + [1] * 35


# ---- runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noted_config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "unet.json"
    path.write_text(json.dumps({**json.loads(TINY.read_text()), **SOUNDING, "reference_channels": 8}))
    return path


def run(folder: Path, config: Path | None, latents: Path, *more: str) -> list[dict]:
    words = ["--config", "training/configs/tiny/unet.yaml", "--data_dir", str(latents), "--output_dir", str(folder)]
    train_unet.main([*words, *(["--model_config", str(config)] if config else []), *more])
    return log_lines(folder)


def test_a_run_with_notes_goes_on_bit_for_bit_and_reports_each_role(noted_latents, noted_config, tmp_path, capsys):
    lines = run(tmp_path / "whole", noted_config, noted_latents)
    assert "5 of 6 clips have notes; unknown to the network: kazoo" in capsys.readouterr().out
    names = {name for line in lines for name in line}
    assert {f"validation/{name}" for name in ("all", "no_notes", *(f"only_{role}" for role in ROLES))} <= names
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "step_00000006")
    shutil.rmtree(tmp_path / "parts" / "final")
    run(tmp_path / "parts", noted_config, noted_latents)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert same(whole, parts)
    assert whole["reference_embedding.2.weight"].any() and "validation/reference" in names
    assert whole["note_path.ways.0.weight"].any() and whole["note_path.ways.1.weight"].any()


def test_shipped_weights_grow_notes(noted_latents, noted_config, tmp_path):
    """From a checkpoint folder: one step without learning leaves the prediction as it was."""
    run(tmp_path / "plain", None, noted_latents)
    (tmp_path / "checkpoint").mkdir()
    shutil.copytree(tmp_path / "plain" / "final", tmp_path / "checkpoint" / "unet")
    config = tmp_path / "checkpoint" / "unet" / "config.json"
    older = {
        name: value
        for name, value in json.loads(config.read_text()).items()
        if name not in (*train_unet.NOTE_SETTINGS, "reference_channels")
    }
    config.write_text(json.dumps(older))  # as that of checkpoints from before notes
    still = ["--init_from", str(tmp_path / "checkpoint"), "--max_steps", "1", "--learning_rate", "1e-30"]
    run(tmp_path / "grown", noted_config, noted_latents, *still, "--weight_decay", "0")
    plain = UNet1DConditionModel.from_pretrained(tmp_path / "plain" / "final")
    grown = UNet1DConditionModel.from_pretrained(tmp_path / "grown" / "final")
    assert (
        grown.config.reference_channels == 8
        and grown.config.note_channels == ROLL_CHANNELS
        and list(grown.config.instruments) == SOUNDING["instruments"]
    )
    sample, roll = torch.randn(2, 4, 9), torch.rand(2, ROLL_CHANNELS, 9)
    with torch.no_grad():
        assert torch.allclose(
            grown(sample, 500, note_roll=roll, reference=torch.rand(2, 8)).sample, plain(sample, 500).sample, atol=1e-6
        )
    again = run(tmp_path / "again", None, noted_latents, "--init_from", str(tmp_path / "grown" / "final"))
    assert any("validation/no_notes" in line for line in again)  # weights with notes keep them


def test_latents_without_notes_are_named(tiny_latents, noted_config, tmp_path, capsys):
    lines = run(tmp_path / "run", noted_config, tiny_latents)
    assert f"data_dir {tiny_latents}: 0 of 6 clips have notes" in capsys.readouterr().out
    assert any("validation/all" in line for line in lines)


def test_a_roll_of_other_channels_is_refused(noted_latents, tmp_path):
    (tmp_path / "unet.json").write_text(json.dumps({**json.loads(TINY.read_text()), **NOTES}))
    with pytest.raises(ValueError, match=f"note_channels is 12; allowed: 0 or {ROLL_CHANNELS}"):
        run(tmp_path / "run", tmp_path / "unet.json", noted_latents)


def test_keeping_a_role_leaves_the_others_free(noted_latents):
    crops = LatentCrops(str(noted_latents), "train", 16, ["piano", "drums"])
    items = TrainingCrops(crops, UNetRun(note_dropout=0.0, role_dropout=0.0, span_dropout=0.0, all_dropout=0.0))
    batch = {name: value[None] for name, value in items.read(0, np.random.default_rng(0)).items()}
    kept = keep_roles(batch, "lead")
    lead = role_channels("lead")
    assert torch.equal(kept["note_roll"][:, lead], batch["note_roll"][:, lead])
    others = [channel for channel in range(ROLL_CHANNELS) if channel not in lead]
    assert not kept["note_roll"][:, others].any() and kept["role_instruments"][0, 1:].tolist() == [-1, -1, -1]
    assert not keep_roles(batch)["note_roll"].any()
