"""From noise to latents: the noise process by scheduler, seeds and noise, guidance, windows of long pieces, the loop.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import copy
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin

from .vivace_conditions import ABSENT, Conditions, take_frames
from .vivace_theory import CHORD_CHANNELS, check_number

# The noise process: x = a * data + s * noise. Rectified flow: a = 1 - sigma, s = sigma, and the network predicts
# noise - data. Diffusion: a = sqrt(abar), s = sqrt(1 - abar), and it predicts the noise, or v = a * noise - s * data.

FLOW = "flow_prediction"  # diffusers' name for what a rectified flow predicts
TRIAL = {"steps": 20, "values": 256, "mean": 0.5, "std": 0.5}  # see `try_out`
TRIED: dict[tuple, str | None] = {}  # scheduler and process -> what is wrong with it
# Settings that make a scheduler unfit, as they should be; with each of them and then with all it is tried again.
REMEDIES = (
    {"use_dynamic_shifting": False}, {"invert_sigmas": False}, {"stochastic_sampling": False}, {"skip_prk_steps": True},
    {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False},
)  # fmt: skip


def process_of(scheduler: SchedulerMixin) -> str:
    """What a network predicts that this scheduler samples: "flow_prediction", "epsilon" or "v_prediction"."""
    known = getattr(scheduler, "alphas_cumprod", None) is not None
    return scheduler.config.get("prediction_type", "epsilon") if known else FLOW


def try_out(scheduler: SchedulerMixin, trained: SchedulerMixin) -> str | None:
    """Sample with the best possible network for a distribution that is known; what is wrong, or None.

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
    known, place = scheduler.alphas_cumprod, float(timestep)
    low = min(int(place), len(known) - 1)
    alpha_bar = float(known[low])
    if place > low and low + 1 < len(known):  # Heun and Euler also take steps between those of training
        ratios = [math.log((1.0 - value) / value) for value in (alpha_bar, float(known[low + 1]))]
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


def at_level(scheduler: SchedulerMixin, clean: torch.Tensor, noise: torch.Tensor, timestep) -> torch.Tensor:
    """Clean latents with the noise of a timestep, as the scheduler's `step` takes them; after the last step (None) the
    clean latents themselves."""
    if timestep is None:
        return clean
    a, s = noise_level(scheduler, timestep)
    mixed = a * clean + s * noise
    explodes = float(getattr(scheduler, "init_noise_sigma", 1.0)) > 1.0  # x = data + sigma * noise, as Euler's
    return mixed / a if explodes else mixed


# Seeds and noise: one seed gives the same music alone, in any batch and on any device.

NOISE_BLOCK = 16  # frames; torch's CPU normals begin alike at any length only in multiples of 16 values


def frame_noise(seed: int, num_frames: int, channels: int) -> tuple[torch.Tensor, torch.Generator]:
    """Normal noise (channels, num_frames) of a seed, drawn on the CPU frame by frame, and the generator after it.

    A longer request begins with the noise of a shorter one, and the same seed gives the same noise in any batch.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks = -(-num_frames // NOISE_BLOCK)
    noise = torch.randn((blocks * NOISE_BLOCK, channels), generator=generator, dtype=torch.float32)
    return noise[:num_frames].T.contiguous(), generator


def choose_seeds(
    seed: int | list[int] | None,
    generator: torch.Generator | list[torch.Generator] | None,
    num_prompts: int,
    per_prompt: int,
) -> list[int]:
    """One seed per output, from `seed` or `generator` (one or a list), else from torch's global generator.

    Raises:
        ValueError: both are given, a number of entries that fits neither prompts nor outputs, or no seed.
    """
    total = num_prompts * per_prompt
    if seed is not None and generator is not None:
        raise ValueError("seed and generator: give at most one of them")
    if seed is None:
        many = isinstance(generator, (list, tuple))
        if many and len(generator) != total:
            raise ValueError(f"generator has {len(generator)} entries for {total} outputs; give one or one for each")
        sources = generator if many else [generator] * total
        for source in sources:
            if source is not None and not isinstance(source, torch.Generator):
                raise ValueError(f"generator is a {type(source).__name__}; allowed: a torch.Generator, or one for each")
        return [
            int(torch.randint(2**31, (1,), generator=source, device=None if source is None else source.device))
            for source in sources
        ]
    given = list(seed) if isinstance(seed, (list, tuple, np.ndarray)) else [seed] * num_prompts
    for value in given:
        check_number("seed", value, 0, 2**62, whole=True)
    if len(given) == num_prompts:
        return [int(value) + w for value in given for w in range(per_prompt)]
    if len(given) != total:
        raise ValueError(f"seed has {len(given)} entries for {total} outputs; give one for each, or one")
    return [int(value) for value in given]


# Guidance: how strictly the words and the grid are followed.

SLOW_FRAMES = 121  # of the moving average; half of it is less than the margin that a loop is shown with


def total(values: torch.Tensor) -> torch.Tensor:
    """Sum of each item, (batch, 1, 1); item by item, since the order of adding depends on the shape."""
    return torch.stack([item.sum() for item in values])[:, None, None]


def slow_part(values: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Moving average over the visible frames, at the ends over those that there are.

    Args:
        values: (batch, channels, frames), zero where nothing is visible.
        visible: (batch, frames) bool.
    """
    half = SLOW_FRAMES // 2
    sums, counts = (
        torch.nn.functional.avg_pool1d(x, SLOW_FRAMES, stride=1, padding=half)
        for x in (values, visible[:, None].float())
    )
    return sums / counts.clamp_min(0.5 / SLOW_FRAMES) * visible[:, None]


@dataclass
class Guidance:
    """Strengths of each item, (batch,) fp32 tensors, and the settings of adaptive projection that all share.

    Attributes:
        text: strength of the text; up to 1 = off.
        grid: strength of tempo, meter, key, length and chords; that of the text where they go together.
        rescale: 0 to 1.
        low, high: noise levels between which guidance is on.
        apg_eta, apg_norm_threshold, apg_momentum: see `project`.
        slow, channels: see `weighed`; channels (latent_channels,) fp32.
        negative: strength of the texts to be kept out, (batch,) fp32; None = 0.
    """

    text: torch.Tensor
    grid: torch.Tensor
    rescale: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    apg_eta: float
    apg_norm_threshold: float | None
    apg_momentum: float
    slow: float = 1.0
    channels: torch.Tensor | None = None
    average: torch.Tensor | None = None
    negative: torch.Tensor | None = None

    def part(self, rows: list[int]) -> "Guidance":
        """The strengths of these items, with no memory of other steps."""
        names = ("text", "grid", "rescale", "low", "high", *(["negative"] if self.negative is not None else []))
        return replace(self, average=None, **{name: getattr(self, name)[rows] for name in names})

    def at(self, level: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Strengths (text, grid) at a noise level, 1 = off, each (batch, 1, 1)."""
        on = (self.low <= level) & (level <= self.high)
        text, grid = (torch.where(on, scale.clamp_min(1.0), 1.0) for scale in (self.text, self.grid))
        return text[:, None, None], grid[:, None, None]

    def weighed(self, extra: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """What guidance adds, (batch, channels, frames), with each part of it in its own strength.

        One strength for all is too much for some parts and too little for others (Sadat et al. 2025, section 4,
        https://arxiv.org/abs/2506.19713, where they are bands of an image): here `slow` multiplies what lasts, as
        timbre and level do, beside what changes from note to note, and `channels` each channel of the latents.
        """
        if self.channels is not None:
            extra = extra * self.channels[:, None]
        return extra if self.slow == 1.0 else extra + (self.slow - 1.0) * slow_part(extra, visible)

    def project(self, prediction: torch.Tensor, extra: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
        """Adaptive projected guidance (Sadat, Hilliges and Weber 2024, https://arxiv.org/abs/2410.02416).

        Data predictions are an affine function of the network's, with one factor for all values, so the directions
        may be compared in either space; the part along the predicted data, which oversaturates, is scaled by eta.

        Args:
            prediction: conditional prediction (batch, channels, frames).
            extra: what guidance would add to it.
            data: the clean latents that `prediction` implies.
        """
        if self.apg_momentum:
            extra = extra if self.average is None else extra + self.apg_momentum * self.average
            self.average = extra
        if self.apg_norm_threshold is not None:  # of the root mean square, in standard deviations of the latents
            rms = (total(extra.square()) / extra[0].numel()).sqrt()
            extra = extra * (self.apg_norm_threshold / rms.clamp_min(1e-12)).clamp_max(1.0)
        along = total(extra * data) / total(data.square()).clamp_min(1e-12)
        return prediction + extra - (1.0 - self.apg_eta) * along * data

    @property
    def projects(self) -> bool:
        return self.apg_eta != 1.0 or self.apg_norm_threshold is not None or self.apg_momentum != 0.0


def run_network(
    pipe, latents: torch.Tensor, timestep: torch.Tensor, told: Conditions, words: bool, free: bool, unwanted: bool
) -> tuple:
    """Predictions of the network, fp32: with everything (texts, channels, frames) and, None if not asked for, without
    any condition (batch, channels, frames), with the words alone (texts, channels, frames), and with unwanted texts,
    tempo, meter and length (unwanted, channels, frames). The last know no key and no chords, so that what leads away
    from them leads into these: led away from a text in its own key, music loses the key too.

    The rows run in one pass, or a few at a time after `enable_guidance_slicing`.
    """
    batch, texts, device = len(latents), len(told.owner), latents.device
    every, each = torch.arange(batch, device=device), torch.arange(texts, device=device)
    others = torch.arange(texts, len(told.states), device=device)
    counts = [texts, batch * free, texts * words, len(others) * unwanted]
    # The item of each row, and its text; that of rows without any is masked.
    item = torch.cat([told.owner] + [every] * free + [told.owner] * words + [told.unwanted_owner] * unwanted)
    text = torch.cat([each] + [0 * every] * free + [each] * words + [others] * unwanted)
    kind = torch.arange(4, device=device).repeat_interleave(torch.tensor(counts, device=device))
    blind = (kind == 1) | (kind == 2)  # to tempo, key, meter, length and grid
    keyless = blind | (kind == 3)
    read = told.states_mask[text] & (kind != 1)[:, None]
    scalars = {
        name: torch.where(
            keyless if name == "key" else blind, torch.full_like(values[item], ABSENT[name]), values[item]
        )
        for name, values in told.scalars.items()
    }
    frame_cond = None
    if pipe.unet.config.frame_cond_channels:
        grid = told.grid[item] * ~blind[:, None, None]
        grid[:, CHORD_CHANNELS] *= ~keyless[:, None, None]
        frame_cond = torch.cat([grid, told.edit[item]], dim=1)
    visible = None if told.visible.all() else told.visible[item]
    rows, out = pipe.guidance_rows or len(item), []
    for first in range(0, len(item), rows):
        part = slice(first, first + rows)
        out.append(
            pipe.unet(
                latents.to(pipe.unet.dtype)[item[part]],
                timestep.float().expand(len(item[part])),
                encoder_hidden_states=told.states[text[part]],
                encoder_attention_mask=read[part],
                frame_cond=None if frame_cond is None else frame_cond[part],
                added_cond_kwargs={name: values[part] for name, values in scalars.items()},
                frame_mask=None if visible is None else visible[part],
                return_dict=False,
            )[0].float()
        )
    made = torch.cat(out).split(counts)
    return made[0], *(part if asked else None for part, asked in zip(made[1:], (free, words, unwanted), strict=True))


def predict(pipe, latents: torch.Tensor, timestep: torch.Tensor, told: Conditions, guidance: Guidance, level) -> tuple:
    """Guided and conditional prediction of the network, each (batch, channels, frames) fp32, and what guidance adds.

    Guidance: Ho and Salimans 2022 (https://arxiv.org/abs/2207.12598). With two strengths as in Brooks, Holynski and
    Efros 2023, equation 3 (https://arxiv.org/abs/2211.09800), the words first and then, given the words, the grid:
    free + text_scale (words - free) + grid_scale (full - words). In this order a strong text does not pull the music
    off its grid. Equal strengths give the former, in two passes. Several texts share a frame by their weights (Bar-Tal
    et al. 2023, https://arxiv.org/abs/2302.08113).

    What is to be kept out is led away from in the same way, given the beats: + negative_scale (full - unwanted), where
    its texts have a weight (the negation of Liu et al. 2022, equation 12, https://arxiv.org/abs/2206.01714, from the
    wanted words instead of from none).
    """
    text_scale, grid_scale = guidance.at(level)
    guided = bool((text_scale > 1.0).any() or (grid_scale > 1.0).any())
    apart = bool((text_scale != grid_scale).any())
    negative = guided and len(told.unwanted_owner) > 0 and guidance.negative is not None
    full, free, words, unwanted = run_network(pipe, latents, timestep, told, guided and apart, guided, negative)

    def together(by_text: torch.Tensor) -> torch.Tensor:
        nothing = torch.zeros(latents.shape, dtype=torch.float32, device=latents.device)
        return nothing.index_add(0, told.owner, by_text * told.weights[:, None])

    full = together(full)
    if not guided:
        return full, full
    out = free + text_scale * (full - free)
    if apart:
        words = together(words)
        two = free + text_scale * (words - free) + grid_scale * (full - words)
        out = torch.where(text_scale == grid_scale, out, two)  # rounded as where no item has two strengths
    if guidance.slow != 1.0 or guidance.channels is not None:
        out = full + guidance.weighed(out - full, told.visible)
    if negative:
        away = (full[told.unwanted_owner] - unwanted) * told.unwanted_weights[:, None]
        away = away * guidance.negative[told.unwanted_owner, None, None]
        nothing = torch.zeros(latents.shape, dtype=torch.float32, device=latents.device)
        out = out + guidance.weighed(nothing.index_add(0, told.unwanted_owner, away), told.visible)
    return full, out


def rescaled(guided: torch.Tensor, full: torch.Tensor, rescale: torch.Tensor) -> torch.Tensor:
    """Bring the level of `guided` towards that of `full`: Lin et al. 2023, section 3.4, arxiv.org/abs/2305.08891.

    Padding frames are zero in both, so they do not enter the ratio.
    """
    ratio = total(full.square()) / total(guided.square()).clamp_min(1e-12)
    rescale = rescale[:, None, None]
    return guided * (rescale * ratio.sqrt() + 1.0 - rescale)


# Pieces of any length in constant memory: window after window, each begun by the end of the one before.

WINDOW = 512  # frames; what is not longer is made in one piece
CONTEXT = 128  # frames that a window is given
REDRAWN = 32  # frames at its end that the next one draws again


def windows(frames: int) -> Iterator[tuple[int, int, int, int]]:
    """(first, last, given, done) of each window, in frames of the piece.

    The window spans [first, last); [first, given) is given; [given, done) is new and final.
    """
    if frames <= WINDOW:
        yield 0, frames, 0, frames
        return
    first, given = 0, 0
    while True:
        last = min(first + WINDOW, frames)
        done = frames if last == frames else last - REDRAWN
        yield first, last, given, done
        if done == frames:
            return
        first, given = done - CONTEXT, done


# From noise to latents: the sampling loop, over whole pieces, circles and pieces of which a part is given.

CIRCLE_MARGIN = 64  # frames of the other end that the network sees beyond each end of a loop


@dataclass
class Batch:
    """Pieces to be denoised together.

    Attributes:
        told: what the network is told.
        guidance: how strictly it follows.
        noise: (batch, latent_channels, frames) fp32; where nothing is visible, zero.
        clean: latents to start from or to keep, likewise.
        keep: (batch, frames) bool, frames whose clean latents stay as they are; None = none.
        strength: noise to begin with where not kept, 1 = all noise.
        loop: whether the last frame is followed by the first.
        generators: one per piece, for schedulers that draw noise.
    """

    told: Conditions
    guidance: Guidance
    noise: torch.Tensor
    clean: torch.Tensor
    keep: torch.Tensor | None
    strength: float
    loop: bool
    generators: list[torch.Generator]


def circle_index(visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions (batch, n) that show each piece with the margin of a circle around it, and which of them to show.

    A piece shorter than the margin goes round more than once. Frame 0 lands at position CIRCLE_MARGIN.
    """
    lengths = visible.sum(dim=1)
    steps = torch.arange(-CIRCLE_MARGIN, visible.shape[1] + CIRCLE_MARGIN, device=visible.device)
    return steps % lengths[:, None], steps < lengths[:, None] + CIRCLE_MARGIN


def guide(pipe, scheduler, inputs: torch.Tensor, timestep, batch: Batch, around: tuple | None, seen: Conditions):
    """The prediction for one step, (batch, channels, frames) fp32."""
    level = float(timestep) / scheduler.config.num_train_timesteps
    if around is None:
        full, guided = predict(pipe, inputs, timestep, seen, batch.guidance, level)
    else:
        full, guided = predict(pipe, take_frames(inputs, around[0]), timestep, seen, batch.guidance, level)
        frames = slice(CIRCLE_MARGIN, CIRCLE_MARGIN + inputs.shape[2])
        shown = batch.told.visible[:, None]
        full, guided = full[:, :, frames] * shown, guided[:, :, frames] * shown
    if guided is full:
        return guided
    if batch.guidance.projects:
        data = data_of(scheduler, inputs, full, timestep) * batch.told.visible[:, None]
        guided = batch.guidance.project(full, guided - full, data)
    if batch.guidance.rescale.any():
        guided = rescaled(guided, full, batch.guidance.rescale)
    strengths = batch.guidance.at(level)
    return torch.where(torch.maximum(*strengths) > 1.0, guided, full)  # other items may be guided where one is not


def denoise(pipe, scheduler, batch: Batch, num_steps: int, on_step: Callable, state) -> torch.Tensor:
    """Clean standardised latents (batch, latent_channels, frames).

    Args:
        pipe: the pipeline, of which nothing is changed.
        scheduler: of this call alone.
        batch: the pieces.
        num_steps: for the whole way from noise to data.
        on_step: called as f(step, timestep, latents, conditions) after each step; gives the latents to go on with.
        state: its `interrupt` ends the loop.
    """
    told = batch.told
    timesteps = set_timesteps(scheduler, num_steps, batch.strength, batch.noise.device)
    latents = batch.noise * getattr(scheduler, "init_noise_sigma", 1.0)
    if batch.strength < 1.0:
        latents = at_level(scheduler, batch.clean, batch.noise, timesteps[0])
    kept = None if batch.keep is None else batch.keep[:, None]
    around = circle_index(told.visible) if batch.loop else None
    seen = told.at(*around) if batch.loop else told
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    step_kwargs = {"generator": batch.generators} if takes_generator else {}
    for step, timestep in enumerate(timesteps):
        if state.interrupt:
            break
        if kept is not None:
            latents = torch.where(kept, at_level(scheduler, batch.clean, batch.noise, timestep), latents)
        inputs = latents
        if hasattr(scheduler, "scale_model_input"):
            inputs = scheduler.scale_model_input(latents, timestep)
        prediction = guide(pipe, scheduler, inputs, timestep, batch, around, seen)
        latents = scheduler.step(prediction, timestep, latents, **step_kwargs, return_dict=False)[0]
        latents = on_step(step, timestep, latents, seen)
    return latents if kept is None else torch.where(kept, batch.clean, latents)
