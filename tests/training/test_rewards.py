"""Rewards: each is higher where what was asked for is there, and the classifier finds what it was trained on."""

import numpy as np
import pytest
import torch

from pipelines.vivace_process import LOWEST, PITCH_COUNT
from tests.conftest import make_pipeline
from training import rewards
from training.data.latents import LatentCrops

FRAMES, RATE, FRAME_S = 50, 8000, 0.04
PIPE = make_pipeline(instruments=("piano", "drums"))


def pieces_of(audio: list[np.ndarray], roll: torch.Tensor | None = None, grid: torch.Tensor | None = None):
    """Pieces of one group whose audio is given, (samples,) each."""
    items = {"frame_mask": torch.ones(1, FRAMES, dtype=torch.bool)}
    items |= {} if roll is None else {"note_roll": roll[None]}
    items |= {} if grid is None else {"grid": grid[None]}
    found = rewards.Pieces(PIPE, torch.zeros(1, len(audio), 4, FRAMES), items, [{}])
    found.audio = [[torch.from_numpy(one).float()[None] for one in audio]]
    return found


def tones(pitches: list[int], every_s: float = 0.4) -> np.ndarray:
    """Two seconds of decaying tones, one after the other, from quiet noise."""
    time = np.arange(int(2.0 * RATE)) / RATE
    audio = 1e-3 * np.random.default_rng(0).standard_normal(len(time))
    for number, pitch in enumerate(pitches):
        after = time - number * every_s
        hertz = 440.0 * 2.0 ** ((pitch - 69) / 12)
        audio += np.where(after >= 0, 0.3 * np.exp(-4.0 * after.clip(0.0)) * np.sin(2 * np.pi * hertz * after), 0.0)
    return audio


def roll_of(pitches: list[int]) -> torch.Tensor:
    """The lead's notes as a roll, one every 10 frames."""
    roll = torch.zeros(PIPE.unet.config.note_channels, FRAMES)
    for number, pitch in enumerate(pitches):
        roll[pitch - LOWEST, 10 * number : 10 * number + 10] = 1.0
        roll[PITCH_COUNT + pitch - LOWEST, 10 * number] = 1.0
    return roll


def test_notes_are_those_that_sound():
    melody, other = [60, 64, 67, 71, 69], [61, 66, 63, 68, 70]
    shuffled = [67, 60, 69, 64, 71]  # the same notes at other times
    silence = np.zeros(2 * RATE)
    played = [tones(melody), tones(shuffled), tones(other), tones([p + 12 for p in melody]), silence]
    right, late, wrong, octave, nothing = rewards.notes(pieces_of(played, roll_of(melody)))[0].tolist()
    assert right > 0.5 and octave > 0.5 and right > late + 0.3 and late > wrong and nothing == 0.0
    assert rewards.notes(pieces_of(played, roll_of([])))[0].isnan().all()
    assert rewards.notes(pieces_of(played))[0].isnan().all()


def test_onsets_on_the_beats_are_rated_higher():
    def clicks(first_s: float, every_s: float) -> np.ndarray:
        audio = np.zeros(2 * RATE)
        for begin in np.arange(first_s, 2.0, every_s):
            audio[int(begin * RATE) : int(begin * RATE) + 80] = 0.5
        return audio

    grid = torch.zeros(22, FRAMES)
    phase = (torch.arange(FRAMES) + 0.5) * FRAME_S / 0.5  # 120 beats a minute from 0 on
    for place, harmonic in enumerate((1, 2, 4)):
        grid[2 * place + 1] = torch.cos(2 * np.pi * harmonic * phase)
    played = [clicks(0.0, 0.5), clicks(0.18, 0.5), clicks(0.0, 0.37)]
    on, off, other = rewards.grid(pieces_of(played, grid=grid))[0].tolist()
    assert on > 0.4 and on > off + 0.3 and on > other + 0.2
    assert rewards.grid(pieces_of(played, grid=torch.zeros(22, FRAMES)))[0].isnan().all()


def test_even_pieces_of_common_loudness_lose_nothing():
    noise = np.random.default_rng(0).standard_normal(2 * RATE) * 10 ** (-18 / 20)
    burst = noise.copy()
    burst[: RATE // 5] *= 8.0
    even, uneven, quiet = rewards.level(pieces_of([noise, burst, 0.05 * noise]))[0].tolist()
    assert even == 0.0 and uneven < -5.0 and quiet == pytest.approx(6.0 - 26.02, abs=0.3)


def test_a_piece_far_from_its_group_is_diverse():
    pieces = pieces_of([np.zeros(2 * RATE)] * 3)
    pieces.latents[0, 2] = 1.0
    assert rewards.diversity(pieces)[0].tolist() == pytest.approx([0.5, 0.5, 1.0])


def test_advantages_are_within_groups():
    scores = {
        "notes": torch.tensor([[1.0, 2.0, 3.0], [30.0, 20.0, 10.0]]),
        "level": torch.tensor([[5.0, 5.0, 5.0], [float("nan")] * 3]),
    }
    found = rewards.advantages(scores, rewards.read_rewards(["notes", "level=3"]))
    assert found.mean(dim=1).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    torch.testing.assert_close(found[0], found[1].flip(0))
    assert float(found[0, 2]) == pytest.approx(1.5**0.5)
    assert rewards.read_rewards(["notes", "level=3"]) == {"notes": 0.25, "level": 0.75}


@pytest.mark.parametrize("words", [["melody"], ["notes", "notes"], ["notes=0"], ["notes=much"], ["notes=nan"]])
def test_bad_rewards_are_one_line(words):
    with pytest.raises(
        ValueError, match=r"rewards has .*; allowed: notes, instruments, level, grid, diversity, each once"
    ):
        rewards.read_rewards(words)


def test_the_classifier_finds_instruments_in_latents(tiny_latents):
    crops = LatentCrops(str(tiny_latents), "train", 16)
    with pytest.raises(ValueError, match="have no labels of instruments"):
        rewards.fit_classifier(crops, crops, 0)

    class Clips:
        """Clips in which a piano raises the first channel and a flute makes the second one vary."""

        mean = torch.zeros(4)

        def __init__(self, count: int):
            self.rows = [
                {"instruments": [name for name, on in (("piano", i % 2), ("flute", i % 3)) if on], "drums": i % 5 == 0}
                for i in range(count)
            ]

        def __len__(self) -> int:
            return len(self.rows)

        def read(self, index: int, rng: np.random.Generator) -> dict:
            row, latents = self.rows[index], torch.from_numpy(rng.standard_normal((4, 16))).float()
            latents[0] += float("piano" in row["instruments"])
            latents[1] *= 1.0 + 2.0 * ("flute" in row["instruments"])
            latents[2] -= float(row["drums"])
            return {"latents": latents, "frame_mask": torch.arange(16) < 14}

    before = torch.get_rng_state()
    classifier, about = rewards.fit_classifier(Clips(200), Clips(60), 0)
    assert torch.equal(before, torch.get_rng_state())
    assert about == {"tags": 3.0, "average_precision": pytest.approx(1.0, abs=0.1)}
    again, _ = rewards.fit_classifier(Clips(200), Clips(60), 0)
    assert all(torch.equal(one, two) for one, two in zip(classifier.parameters(), again.parameters(), strict=True))
    clips, rng = Clips(2), np.random.default_rng(1)
    clips.rows[0], clips.rows[1] = ({"instruments": [name], "drums": False} for name in ("piano", "flute"))
    piano, flute = (clips.read(index, rng) for index in (0, 1))
    pieces = rewards.Pieces(
        PIPE, torch.stack([piano["latents"], flute["latents"]])[None], {"frame_mask": piano["frame_mask"][None]},
        [{"instruments": ["piano"], "drums": False}], classifier,
    )  # fmt: skip
    right, wrong = rewards.instruments(pieces)[0].tolist()
    assert right > wrong + 1.0
