"""What the network is given: latents with noise by the process of a scheduler, note rolls, the conditions of a batch.

Noisy latents are x = a * data + s * noise. Rectified flow (Liu et al. 2022, https://arxiv.org/abs/2209.03003): a = 1 -
sigma, s = sigma, and the network predicts noise - data. Diffusion (Ho et al. 2020, https://arxiv.org/abs/2006.11239):
a = sqrt(abar), s = sqrt(1 - abar), and it predicts the noise, or v = a * noise - s * data (Salimans and Ho 2022,
https://arxiv.org/abs/2202.00512).
"""

import copy
import inspect
import math
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin
from diffusers.utils import logging
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .vivace_music import Music
from .vivace_request import Request
from .vivace_score import ROLES, Score
from .vivace_theory import GRID_CHANNELS, KEYS, frame_grid, parse_chords, parse_key

# The noise process of each kind of scheduler, in training as in sampling, and whether a scheduler fits a network.


FLOW = "flow_prediction"  # diffusers' name for what a rectified flow predicts


def process_of(scheduler: SchedulerMixin) -> str:
    """What a network predicts that this scheduler samples: "flow_prediction", "epsilon" or "v_prediction"."""
    diffusion = getattr(scheduler, "alphas_cumprod", None) is not None
    return scheduler.config.get("prediction_type", "epsilon") if diffusion else FLOW


def set_timesteps(scheduler: SchedulerMixin, num_steps: int, strength: float, device: torch.device) -> torch.Tensor:
    """Timesteps from noise (or, below strength 1, from data with as much noise as that) to data.

    Flow begins at sigma = strength with its share of the steps, at least one; diffusion skips the first steps of all.
    """
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        steps = max(1, round(num_steps * strength))
        # Equal steps from noise (1) to data (0); the scheduler's own grid spends its last step below 1 / 1000. It
        # shifts them (s -> shift s / (1 + (shift - 1) s)), which must leave the first where `strength` says.
        first = strength / (scheduler.config.shift - (scheduler.config.shift - 1.0) * strength)
        sigmas = np.linspace(first, first / steps, steps)
        scheduler.set_timesteps(sigmas=sigmas.tolist(), device=device)
        return scheduler.timesteps
    scheduler.set_timesteps(num_steps, device=device)
    steps = max(1, round(num_steps * strength))
    first = (num_steps - steps) * getattr(scheduler, "order", 1)
    if first and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return scheduler.timesteps[first:]


def noise_level(scheduler: SchedulerMixin, timestep: torch.Tensor | float) -> tuple[float, float]:
    """(a, s) at a timestep."""
    if process_of(scheduler) == FLOW:
        sigma = float(timestep) / scheduler.config.num_train_timesteps
        return 1.0 - sigma, sigma
    alpha_bars, place = scheduler.alphas_cumprod, float(timestep)
    low = min(int(place), len(alpha_bars) - 1)
    alpha_bar = float(alpha_bars[low])
    if place > low and low + 1 < len(alpha_bars):  # Heun and Euler also take steps between those of training
        ratios = [math.log((1.0 - value) / value) for value in (alpha_bar, float(alpha_bars[low + 1]))]
        alpha_bar = 1.0 / (1.0 + math.exp(ratios[0] + (place - low) * (ratios[1] - ratios[0])))
    return alpha_bar**0.5, (1.0 - alpha_bar) ** 0.5


def data_of(scheduler: SchedulerMixin, noisy: torch.Tensor, prediction: torch.Tensor, timestep) -> torch.Tensor:
    """The clean latents that a prediction implies, fp32; `noisy` as the network saw them."""
    a, s = noise_level(scheduler, timestep)
    if process_of(scheduler) == FLOW:
        return noisy - s * prediction
    if process_of(scheduler) == "epsilon":
        return (noisy - s * prediction) / max(a, 1e-4)
    return a * noisy - s * prediction


def with_data(
    scheduler: SchedulerMixin, prediction: torch.Tensor, change: torch.Tensor, timestep: torch.Tensor | float
) -> torch.Tensor:
    """The prediction whose clean latents (`data_of`) differ by `change` from those of `prediction`."""
    a, s = noise_level(scheduler, timestep)
    return prediction - change * (max(a, 1e-4) if process_of(scheduler) == "epsilon" else 1.0) / s


def at_level(scheduler: SchedulerMixin, clean: torch.Tensor, noise: torch.Tensor, timestep) -> torch.Tensor:
    """Clean latents with the noise of a timestep, as the scheduler's `step` takes them; after the last step (None) the
    clean latents themselves."""
    if timestep is None:
        return clean
    a, s = noise_level(scheduler, timestep)
    mixed = a * clean + s * noise
    explodes = float(getattr(scheduler, "init_noise_sigma", 1.0)) > 1.0  # x = data + sigma * noise, as Euler's
    return mixed / a if explodes else mixed


# Whether a scheduler that was put into a pipeline samples what its network was trained for.

TRIAL: dict[str, Any] = {"steps": 20, "values": 256, "mean": 0.5, "std": 0.5}  # see `try_out`
TRIED: dict[tuple, str | None] = {}  # scheduler and process -> what is wrong with it
# Settings that make a scheduler unfit, as they should be; with each of them and then with all it is tried again.
REMEDIES = (
    {"use_dynamic_shifting": False}, {"invert_sigmas": False}, {"stochastic_sampling": False}, {"skip_prk_steps": True},
    {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False},
)  # fmt: skip


def try_out(scheduler: SchedulerMixin, trained: SchedulerMixin) -> str | None:
    """Sample a normal distribution with the best possible network for it; what is wrong, or None.

    For normal data the expectation of the data given a noisy value is a linear function of it, so no network is needed.
    Steps for another noise process, or in another order, miss the mean or the spread of the data by far; those that are
    right in the limit of many steps stay within the bounds. From noise as well as from given audio (strength 0.6).
    """
    mean, std = TRIAL["mean"], TRIAL["std"]
    noise, clean = torch.randn(
        2, 1, 1, TRIAL["values"], generator=torch.Generator().manual_seed(0), dtype=torch.float32
    )
    clean = mean + std * clean
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    options = {"generator": [torch.Generator().manual_seed(1)]} if takes_generator else {}
    before = torch.get_rng_state()
    for strength in (1.0, 0.6):
        own = copy.deepcopy(scheduler)
        timesteps = set_timesteps(own, TRIAL["steps"], strength, torch.device("cpu"))
        latents = noise * getattr(own, "init_noise_sigma", 1.0)
        if strength < 1.0:
            latents = at_level(own, clean, noise, timesteps[0])
        for timestep in timesteps:
            inputs = own.scale_model_input(latents, timestep) if hasattr(own, "scale_model_input") else latents
            a, s = noise_level(trained, timestep)
            data = mean + a * std**2 / (a**2 * std**2 + s**2) * (inputs - a * mean)
            drawn = (inputs - a * data) / max(s, 1e-4)
            targets = {FLOW: drawn - data, "epsilon": drawn, "v_prediction": a * drawn - s * data}
            latents = own.step(targets[process_of(trained)], timestep, latents, **options, return_dict=False)[0]
        if not (abs(latents.mean() - mean) < 0.3 * std and 0.5 < latents.std() / std < 1.36):
            return "its steps do not lead from noise to the data"
    return None if torch.equal(before, torch.get_rng_state()) else "it draws noise that no seed decides"


def fault_of(scheduler: SchedulerMixin, trained: SchedulerMixin) -> str | None:
    """Why a scheduler cannot sample what was trained for another one, or None."""
    taken, predicts = process_of(scheduler), process_of(trained)
    if taken != predicts:
        return f"is for prediction_type={taken!r}, but the network predicts {predicts!r}"
    steps, trained_steps = (one.config.get("num_train_timesteps") for one in (scheduler, trained))
    if steps != trained_steps:
        return f"has num_train_timesteps={steps}, but the network was trained with {trained_steps}"
    key = tuple((type(one), repr(sorted(one.config.items(), key=str))) for one in (scheduler, trained))
    if key not in TRIED:
        try:
            TRIED[key] = try_out(scheduler, trained)
        except Exception as error:  # whatever a class does that is made for something else
            TRIED[key] = f"it cannot take these steps: {type(error).__name__} {error}"
    return None if TRIED[key] is None else f"does not fit the network ({TRIED[key]})"


def advice(scheduler: SchedulerMixin, trained: SchedulerMixin) -> str:
    """Settings with which a scheduler fits, tried, or else classes that do."""
    predicts = process_of(trained)
    process = {"prediction_type": predicts, "use_flow_sigmas": predicts == FLOW}
    process["num_train_timesteps"] = trained.config.get("num_train_timesteps")
    settings = {name: value for one in REMEDIES for name, value in one.items()}
    hopeless = predicts == FLOW and "prediction_type" in scheduler.config and "use_flow_sigmas" not in scheduler.config
    for remedy in () if hopeless else (process, *REMEDIES, process | settings):
        change = {name: value for name, value in remedy.items() if scheduler.config.get(name, value) != value}
        try:
            if change and fault_of(type(scheduler).from_config(scheduler.config, **change), trained) is None:
                words = ", ".join(f"{name}={value!r}" for name, value in change.items())
                return f"{type(scheduler).__name__}.from_config(scheduler.config, {words})"
        except Exception:  # a class that does not know the setting, or refuses it
            continue
    if predicts == FLOW:
        return (
            "the checkpoint's, FlowMatchHeunDiscreteScheduler(), or DPMSolverMultistepScheduler or "
            f"UniPCMultistepScheduler with prediction_type={FLOW!r}, use_flow_sigmas=True"
        )
    return (
        "the checkpoint's, or DDIMScheduler, EulerDiscreteScheduler or DPMSolverMultistepScheduler made by from_config "
        "of the checkpoint's"
    )


def check_process(scheduler: SchedulerMixin, trained: SchedulerMixin) -> None:
    """Raise a ValueError if a scheduler was put in that does not sample the process that the network was trained for.

    Args:
        scheduler: to sample with.
        trained: the one that came with the network.
    """
    fault = fault_of(scheduler, trained)
    if fault is not None:
        name = type(scheduler).__name__
        raise ValueError(f"scheduler is a {name}, which {fault}; allowed: {advice(scheduler, trained)}")


# Notes -> the note roll that the network reads, and the instruments that it knows.

LOWEST, HIGHEST = 21, 108  # pitches of a note roll, those of a piano
# General MIDI drum keys by class; keys that stand nowhere are "other".
DRUM_CLASSES = {
    "kick": (35, 36), "snare": (38, 40), "clap": (37, 39), "closed hat": (42, 44), "open hat": (46,),
    "low tom": (41, 43, 45), "high tom": (47, 48, 50), "crash": (49, 52, 55, 57), "ride": (51, 53, 59),
    "shaker": (54, 69, 70, 82), "other": (),
}  # fmt: skip
DRUM_CLASS = {key: row for row, keys in enumerate(DRUM_CLASSES.values()) for key in keys}
PITCHED = ROLES[:3]
PITCH_COUNT = HIGHEST - LOWEST + 1
STATE_CHANNELS = 2 * len(ROLES)
ROLL_CHANNELS = 2 * PITCH_COUNT * len(PITCHED) + len(DRUM_CLASSES) + STATE_CHANNELS


def note_roll(
    score: Score | None,
    frames: int,
    frame_rate: float,
    start_s: float = 0.0,
    stretch: float = 1.0,
    free: Iterable[str] = (),
    circle: bool = False,
) -> torch.Tensor:
    """What sounds in each latent frame, for the network.

    Channels: for lead, harmony and bass each 88 of sustain (velocity x the share of the frame in which the pitch
    sounds) and 88 of onset (velocity, split over the two nearest frames by distance, so that times finer than a frame
    survive), for drums 11 classes of onset; then two for each of the four roles: its notes are given; it is silent.
    Where a role is free to play what fits, both are 0, as all channels of its notes.

    Args:
        score: the notes; None = all roles are free.
        frames: how many.
        frame_rate: frames a second; frame i lasts from i / frame_rate to (i + 1) / frame_rate seconds.
        start_s: time of the score's beginning, seconds; may lie outside the frames.
        stretch: how many times faster than at its own tempo the score is played.
        free: roles that may play what fits, whatever notes they have.
        circle: the frames are a loop: what rings beyond the last sounds in the first.

    Returns:
        (`ROLL_CHANNELS`, frames) float32.
    """
    notes: dict[str, np.ndarray] = {}
    if score is None:
        return events_roll(notes, frames, circle)
    free = set(free)
    for role in ROLES:
        if role not in free:
            notes[role] = score.notes(role)
            scale = score.quarter_s / stretch * frame_rate  # frames a quarter
            onset = start_s * frame_rate + notes[role][:, 0] * scale
            end = start_s * frame_rate + notes[role][:, :2].sum(1) * scale
            notes[role] = np.column_stack([onset, end, notes[role][:, 2:]])
    return events_roll(notes, frames, circle)


def events_roll(notes: dict[str, np.ndarray], frames: int, circle: bool = False) -> torch.Tensor:
    """The roll of `note_roll` from notes whose times are in frames.

    Args:
        notes: for each role (n, 4): first and last moment in frames, MIDI pitch, velocity; a role without notes is
            silent, one that is not there is free.
        frames: how many.
        circle: as in `note_roll`.

    Returns:
        (`ROLL_CHANNELS`, frames) float32.
    """
    roll = np.zeros((ROLL_CHANNELS, frames), dtype=np.float64)
    for place, role in enumerate(ROLES):
        if role not in notes:
            continue
        onset, end, pitch, velocity = np.asarray(notes[role], dtype=np.float64).reshape(-1, 4).T
        roll[2 * place - STATE_CHANNELS + (not len(onset))] = 1.0
        if role == "drums":
            classes = [DRUM_CLASS.get(int(key), len(DRUM_CLASSES) - 1) for key in pitch]
            rows = 2 * PITCH_COUNT * len(PITCHED) + np.array(classes, int)
            _add_onsets(roll, rows, onset, velocity, circle)
            continue
        inside = (pitch >= LOWEST) & (pitch <= HIGHEST)
        rows = 2 * PITCH_COUNT * place + pitch[inside].astype(int) - LOWEST
        onset, end, velocity = onset[inside], end[inside], velocity[inside]
        _add_sustain(roll, rows, onset, end, velocity, circle)
        _add_onsets(roll, rows + PITCH_COUNT, onset, velocity, circle)
    return torch.from_numpy(roll.clip(0.0, 1.0)).float()


def _add_sustain(
    roll: np.ndarray, rows: np.ndarray, first: np.ndarray, last: np.ndarray, level: np.ndarray, circle: bool
) -> None:
    """Add notes that sound from frame position `first` to `last`, (n,) each: level x the share of each frame."""
    frames = roll.shape[1]
    begin, stop = np.floor(first).astype(int), np.ceil(last).astype(int)
    if circle:
        last = np.minimum(last, first + frames)
        stop = np.ceil(last).astype(int)
    else:
        begin, stop = begin.clip(0), stop.clip(max=frames)
    count = (stop - begin).clip(0)
    note = np.repeat(np.arange(len(rows)), count)  # of each pair of a note and a frame
    index = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count) + begin[note]
    share = np.minimum(index + 1, last[note]) - np.maximum(index, first[note])
    np.add.at(roll, (rows[note], index % frames), level[note] * share.clip(0.0, 1.0))


def _add_onsets(roll: np.ndarray, rows: np.ndarray, onset: np.ndarray, level: np.ndarray, circle: bool) -> None:
    """Add onsets at frame positions: each is shared by the two frames whose centres are nearest."""
    frames = roll.shape[1]
    place = onset - 0.5
    first = np.floor(place).astype(int)
    late = place - first
    for index, share in ((first, 1.0 - late), (first + 1, late)):
        index, inside = (
            (index % frames, np.ones(len(index), bool)) if circle else (index, (index >= 0) & (index < frames))
        )
        np.add.at(roll, (rows[inside], index[inside]), (level * share)[inside])


def rolls(
    score: Score | None, parts: tuple[str, ...] | None, music: Music, frames: int, frame_rate: float
) -> torch.Tensor | None:
    """The note roll (`ROLL_CHANNELS`, frames) of a piece; None where all roles are free to play what fits.

    Roles outside `parts` are silent. Before and after its score, a piece is free in what is played.
    """
    if score is None:
        if parts is None:
            return None
        return note_roll(Score(()), frames, frame_rate, free=parts)
    roll = note_roll(score, frames, frame_rate, music.downbeat_s / music.stretch, music.stretch, circle=music.loop)
    if not music.loop:
        first = music.downbeat_s * frame_rate
        times = np.arange(frames) + 0.5
        roll[:, np.flatnonzero((times < first) | (times > first + score.duration_s * frame_rate))] = 0.0
    return roll


def instruments_of(score: Score | None, prompt: str, instruments: Sequence[str]) -> list[int]:
    """What plays each role, as places in the network's list `instruments`; -1 = unknown.

    Where the prompt names instruments of that list, it decides: the score's count only where the prompt names them too,
    and a single instrument plays a single pitched part. Else the instruments of the score's tracks count.
    """
    named = [name for name in instruments if re.search(rf"(?<![\w-]){re.escape(name)}s?(?![\w-])", prompt.lower())]
    named = [name for name in named if not any(name != longer and name in longer for longer in named)]
    players: dict[str, str] = {}
    for track in () if score is None else score.tracks:
        if track.instrument is not None and (not named or track.instrument in named):
            players.setdefault(track.role, track.instrument)
    pitched = [] if score is None else [role for role in score.roles if role != "drums"]
    if len(pitched) == 1 and len(named) == 1 and named[0] != "drums":
        players.setdefault(pitched[0], named[0])
    return [instruments.index(players[role]) if players.get(role) in instruments else -1 for role in ROLES]


# Conditions of a batch of pieces: text states and their shares in time, beat grid, notes, scalars.


TOKENS = 16  # a text is padded to a multiple
ABSENT = {"duration_s": math.nan, "bpm": math.nan, "key": -1, "beats_per_bar": -1}


def take_frames(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Frames of (batch, channels, frames) at (batch, n) positions -> (batch, channels, n)."""
    return values.gather(2, index[:, None].expand(-1, values.shape[1], -1))


def latent_statistics(latents: torch.Tensor, dim: int) -> torch.Tensor:
    """What `reference` of the network takes: mean and standard deviation of standardised latents over the frames `dim`,
    one after the other along the channels, the last axis of the result."""
    return torch.cat([latents.mean(dim), latents.std(dim, correction=0)], dim=-1)


@dataclass
class Conditions:
    """Arguments of the network for a batch.

    Attributes:
        states, states_mask: (texts + unwanted, tokens, dim) and (texts + unwanted, tokens): the texts of the first
            item, of the second, ..., then the texts that are to be kept out of the items, if any.
        owner: (texts,) the item that each text belongs to.
        weights: (texts, frames), the share of each text in its item's frames; they sum to 1.
        unwanted_owner, unwanted_weights: (unwanted,) and (unwanted, frames), likewise of the texts to be kept out, of
            which an item may have none; 0 to 1.
        grid: (batch, 22, frames).
        edit: (batch, 1 + latent_channels, frames): 1 = to be generated, and the latents of frames that are given.
        scalars: (batch,) each; `ABSENT` has what stands for unknown.
        visible: (batch, frames) bool, False = padding.
        roll: (batch, note_channels, frames), the notes (`note_roll`); None where all roles of all items are free.
        players: (batch, 4) long, what plays each role, see the network's `role_instruments`; None beside `roll` None.
        reference: (batch, reference_channels), what items are to sound like, NaN = anything; None = all anything.
        pull: (batch,), how far the mean of the latents is brought to that of the reference, 0 to 1; None beside it.
    """

    states: torch.Tensor
    states_mask: torch.Tensor
    owner: torch.Tensor
    weights: torch.Tensor
    unwanted_owner: torch.Tensor
    unwanted_weights: torch.Tensor
    grid: torch.Tensor
    edit: torch.Tensor
    scalars: dict[str, torch.Tensor]
    visible: torch.Tensor
    roll: torch.Tensor | None = None
    players: torch.Tensor | None = None
    reference: torch.Tensor | None = None
    pull: torch.Tensor | None = None

    @property
    def scored(self) -> torch.Tensor:
        """(batch,) bool, whether an item has notes, or a role that is silent."""
        if self.roll is None:
            return torch.zeros(len(self.visible), dtype=torch.bool, device=self.visible.device)
        return self.roll.flatten(1).any(1)

    def part(self, rows: list[int], first: int, last: int) -> "Conditions":
        """These items and frames [first, last); texts that are silent there are left out."""
        device = self.visible.device
        chosen = torch.tensor(rows, device=device)
        wanted, kept_out = (
            torch.isin(owner, chosen) & (weights[:, first:last] > 0).any(dim=1)
            for owner, weights in ((self.owner, self.weights), (self.unwanted_owner, self.unwanted_weights))
        )
        new_place = torch.zeros(len(self.visible), dtype=torch.long, device=device)
        new_place[chosen] = torch.arange(len(rows), device=device)
        text = torch.cat([wanted, kept_out]).nonzero()[:, 0]
        states, read = self.states[text], self.states_mask[text]
        longest = int((read.any(0) * torch.arange(1, read.shape[1] + 1, device=device)).max())
        more = TOKENS * max(1, -(-longest // TOKENS)) - read.shape[1]  # whatever texts there are elsewhere
        return Conditions(
            states=torch.nn.functional.pad(states, (0, 0, 0, more)),
            states_mask=torch.nn.functional.pad(read, (0, more)),
            owner=new_place[self.owner[wanted]],
            weights=self.weights[wanted, first:last],
            unwanted_owner=new_place[self.unwanted_owner[kept_out]],
            unwanted_weights=self.unwanted_weights[kept_out, first:last],
            grid=self.grid[chosen, :, first:last],
            edit=self.edit[chosen, :, first:last],
            scalars={name: values[chosen] for name, values in self.scalars.items()},
            visible=self.visible[chosen, first:last],
            roll=None if self.roll is None else self.roll[chosen, :, first:last],
            players=None if self.players is None else self.players[chosen],
            reference=None if self.reference is None else self.reference[chosen],
            pull=None if self.pull is None else self.pull[chosen],
        )

    def at(self, index: torch.Tensor, visible: torch.Tensor) -> "Conditions":
        """The frames at (batch, n) positions, with their own visibility."""
        return replace(
            self,
            weights=take_frames(self.weights[:, None], index[self.owner])[:, 0],
            unwanted_weights=take_frames(self.unwanted_weights[:, None], index[self.unwanted_owner])[:, 0],
            grid=take_frames(self.grid, index),
            edit=take_frames(self.edit, index),
            visible=visible,
            roll=None if self.roll is None else take_frames(self.roll, index),
        )


def music_grid(music: Music, frames: int, frame_rate: float) -> torch.Tensor:
    """The grid (22, frames) of a piece: its tempo, meter, first downbeat and chords."""
    if music.bpm is None:
        return frame_grid(frames, frame_rate)
    bpm, beats, chroma = music.bpm * music.stretch, music.beats_per_bar or 4, None
    if music.chords is not None:
        beats_needed = math.ceil((frames / frame_rate - music.downbeat_s) * bpm / 60.0) + 1
        chroma = parse_chords(music.chords, beats, max(beats_needed, 1))
    return frame_grid(frames, frame_rate, bpm, beats, music.downbeat_s, chroma, first_beat_s=music.downbeat_s)


def make_conditions(
    requests: list[Request],
    states: torch.Tensor,
    states_mask: torch.Tensor,
    latent_channels: int,
    frame_rate: float,
    instruments: Sequence[str],
    device: torch.device,
) -> Conditions:
    """Conditions of requests, whose texts were encoded in the order of `Conditions.states`.

    Everything is to be generated: `edit` has a mask of ones and no latents yet. `instruments` is the network's list.
    """
    batch, frames = len(requests), max(item.frames for item in requests)
    grid = torch.zeros(batch, GRID_CHANNELS, frames, dtype=torch.float32)
    edit = torch.zeros(batch, 1 + latent_channels, frames, dtype=torch.float32)
    edit[:, 0] = 1.0
    owner = torch.tensor([row for row, item in enumerate(requests) for _ in item.texts])
    unwanted_owner = torch.tensor([row for row, item in enumerate(requests) for _ in item.unwanted], dtype=torch.long)
    weights = torch.zeros(len(owner), frames, dtype=torch.float32)
    unwanted_weights = torch.zeros(len(unwanted_owner), frames, dtype=torch.float32)
    kinds = {name: torch.float32 if isinstance(value, float) else torch.long for name, value in ABSENT.items()}
    scalars = {name: torch.full((batch,), value, dtype=kinds[name]) for name, value in ABSENT.items()}
    for row, item in enumerate(requests):
        music = item.music
        weights[owner == row, : item.frames] = item.weights
        unwanted_weights[unwanted_owner == row, : item.frames] = item.unwanted_weights
        grid[row, :, : item.frames] = music_grid(music, item.frames, frame_rate)
        scalars["duration_s"][row] = item.frames / frame_rate
        if music.key is not None:
            scalars["key"][row] = KEYS.index(parse_key(music.key))
        if music.beats_per_bar is not None:
            scalars["beats_per_bar"][row] = music.beats_per_bar
        if music.bpm is not None:
            scalars["bpm"][row] = float(music.bpm)
    lengths = torch.tensor([item.frames for item in requests])
    visible = torch.arange(frames) < lengths[:, None]
    roll = players = None
    played = [rolls(item.score, item.parts, item.music, item.frames, frame_rate) for item in requests]
    if any(one is not None for one in played):
        roll = torch.zeros(batch, ROLL_CHANNELS, frames, dtype=torch.float32)
        players = torch.full((batch, len(ROLES)), -1)
        for row, (item, one) in enumerate(zip(requests, played, strict=True)):
            if one is not None:
                roll[row, :, : item.frames] = one
                words = ". ".join(text for text in item.texts if text is not None)
                players[row] = torch.tensor(instruments_of(item.score, words, instruments))
        roll, players = roll.to(device), players.to(device)
    sounds, reference, pull = [item.sound for item in requests], None, None
    if any(one is not None for one in sounds):
        numbers = max(len(one) for one in sounds if one is not None)
        reference = torch.tensor([[math.nan] * numbers if one is None else one for one in sounds], device=device)
        pull = torch.tensor([item.strengths.sounds_like_strength for item in requests], device=device)
    texts = (one.to(device) for one in (states, states_mask, owner, weights, unwanted_owner, unwanted_weights))
    scalars = {name: values.to(device) for name, values in scalars.items()}
    rest = grid.to(device), edit.to(device), scalars, visible.to(device), roll, players, reference, pull
    return Conditions(*texts, *rest)  # type: ignore[call-arg]


# Prompts -> text states for the network.

MAX_TEXT_TOKENS = 64
TOKENIZING = threading.Lock()  # a fast tokenizer keeps how it cuts and pads: calls in threads must take turns
logger = logging.get_logger(__name__)


def token_limit(tokenizer) -> int:
    """How many tokens of a text the network gets, in training as in use: what the tokenizer states, at most 64."""
    return min(tokenizer.model_max_length, MAX_TEXT_TOKENS)


def encode_texts(
    text_encoder: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase | None,
    prompts: list[str],
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Text states (batch, tokens, dim) and which of them are text (batch, tokens) bool.

    Raises:
        ValueError: if there is no text encoder.
    """
    if text_encoder is None or tokenizer is None:
        raise ValueError("prompt needs a text_encoder and a tokenizer; this pipeline has none, give prompt_embeds")
    limit = token_limit(tokenizer)
    with TOKENIZING:
        inputs = tokenizer(prompts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        lengths = [len(ids) for ids in tokenizer(prompts, verbose=False).input_ids]
    if max(lengths) > limit:
        logger.warning(f"prompt is cut to its first {limit} tokens")
    ids, mask = inputs.input_ids.to(device), inputs.attention_mask.to(device)
    if device.type != "cpu":
        return text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask.bool()
    states = []
    for own, read in zip(ids, mask.bool(), strict=True):  # unpadded: rounding depends on the shape of what is encoded
        few = text_encoder(input_ids=own[read][None]).last_hidden_state[0]
        states.append(few.new_zeros(len(read), few.shape[1]).masked_scatter(read[:, None], few))
    return torch.stack(states), mask.bool()


@dataclass
class GivenStates:
    """Text states that a call was given in place of texts.

    Attributes:
        argument: its name in the call.
        states: (prompts, tokens, dim), or None where texts are given.
        mask: (prompts, tokens), True = text; None = all are.
    """

    argument: str
    states: torch.Tensor | None
    mask: torch.Tensor | None

    def rows(self, places: list[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """States and mask of the prompts at these places.

        Raises:
            ValueError: shapes that do not fit.
        """
        states = self.states
        assert states is not None
        mask = torch.ones(states.shape[:2], dtype=torch.bool) if self.mask is None else self.mask.bool()
        if states.ndim != 3 or mask.shape != states.shape[:2] or len(states) != max(places) + 1:
            raise ValueError(
                f"{self.argument} has shape {tuple(states.shape)} and a mask of {tuple(mask.shape)}; needed: "
                f"(prompts, tokens, dim) and (prompts, tokens) for {max(places) + 1} prompts"
            )
        return states[places].to(device), mask[places].to(device)


def text_states(
    requests: list[Request],
    positive: GivenStates,
    negative: GivenStates,
    encode: Callable[[list[str], torch.device], tuple[torch.Tensor, torch.Tensor]],
    width: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """States (texts + unwanted, tokens, dim) and masks (texts + unwanted, tokens): the texts of all requests, then what
    is to be kept out of them. Every text is encoded once.

    Args:
        requests: the pieces.
        positive, negative: states given in place of the texts.
        encode: texts and a device -> their states and mask.
        width: of the states where there is no text to encode.
        dtype, device: of the result.
    """
    wanted = [text for item in requests for text in item.texts]
    unwanted = [text for item in requests for text in item.unwanted]
    texts = list(dict.fromkeys(text for text in wanted + unwanted if text is not None and text.strip()))
    encoded = encode(texts, device) if texts else None

    def branch(own: list[str | None], given: GivenStates) -> tuple[torch.Tensor, torch.Tensor]:
        if given.states is not None:
            return given.rows([item.place for item in requests], device)
        if encoded is None:
            no_text = torch.zeros(len(own), 1, width, dtype=torch.float32, device=device)
            return no_text, torch.zeros(len(own), 1, dtype=torch.bool, device=device)
        places = [texts.index(text) if text in texts else None for text in own]
        present = torch.tensor([place is not None for place in places], dtype=torch.bool, device=device)
        rows = [place or 0 for place in places]
        return encoded[0][rows], encoded[1][rows] & present[:, None]

    branches = branch(wanted, positive), branch(unwanted, negative)
    tokens = max(mask.shape[1] for _, mask in branches)
    pad = torch.nn.functional.pad
    states = [pad(states.to(dtype), (0, 0, 0, tokens - states.shape[1])) for states, _ in branches]
    return torch.cat(states), torch.cat([pad(mask, (0, tokens - mask.shape[1])) for _, mask in branches])
