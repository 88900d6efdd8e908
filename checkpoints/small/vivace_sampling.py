"""From noise to latents: the noise of a seed, guidance, windows of long pieces, what is kept of audio, the loop."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ModelMixin, SchedulerMixin

from .vivace_audio import Edit, fit_circle, mix_channels, resample
from .vivace_process import ABSENT, Conditions, at_level, data_of, set_timesteps, take_frames, with_data
from .vivace_request import Request
from .vivace_theory import CHORD_CHANNELS, check_number

# Noise: one seed gives the same music alone, in any batch and on any device.

NOISE_BLOCK = 16  # frames; torch's CPU normals begin alike at any length only in multiples of 16 values


def frame_noise(seed: int, num_frames: int, channels: int) -> tuple[torch.Tensor, torch.Generator]:
    """Normal noise (channels, num_frames) of a seed, drawn on the CPU frame by frame, and the generator after it.

    A longer request begins with the noise of a shorter one, and the same seed gives the same noise in any batch.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks = -(-num_frames // NOISE_BLOCK)
    noise = torch.randn((blocks * NOISE_BLOCK, channels), generator=generator, dtype=torch.float32)
    return noise[:num_frames].T.contiguous(), generator


# Guidance: how strictly the words and the grid are followed.

SOUNDING_LEVEL = 0.6  # noise level above which the mean sound is set to that of a reference; below, notes would suffer


def total(values: torch.Tensor) -> torch.Tensor:
    """Sum of each item, (batch, 1, 1); item by item, since the order of adding depends on the shape."""
    return torch.stack([item.sum() for item in values])[:, None, None]


@dataclass
class Guidance:
    """Strengths of each item, (batch,) fp32 tensors, and the settings of adaptive projection that all share.

    Attributes:
        text: strength of the text; up to 1 = off.
        grid: strength of tempo, meter, key, length and chords; that of the text where they go together.
        rescale: 0 to 1.
        low, high: noise levels between which guidance is on.
        apg_eta, apg_norm_threshold, apg_momentum: see `project`.
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
    average: torch.Tensor | None = None
    negative: torch.Tensor | None = None

    @classmethod
    def of(
        cls, requests: list[Request], eta: float, threshold: float | None, momentum: float, device: torch.device
    ) -> "Guidance":
        """The strengths of requests, with the settings that they share."""
        rows = [item.strengths for item in requests]
        text = [row.guidance_scale for row in rows]
        grid = [row.guidance_scale if row.grid_guidance_scale is None else row.grid_guidance_scale for row in rows]
        low, high = zip(*(row.guidance_interval for row in rows), strict=True)
        rescale, negative = zip(*((row.guidance_rescale, row.negative_guidance_scale) for row in rows), strict=True)
        words, beats, blend, below, above, kept_out = (
            torch.tensor(column, dtype=torch.float32, device=device)
            for column in (text, grid, rescale, low, high, negative)
        )
        return cls(words, beats, blend, below, above, eta, threshold, momentum, negative=kept_out)

    def with_scale(self, scale: float, together: list[bool]) -> "Guidance":
        """Another strength of the text; also of the grid for items where they go `together`."""
        text = torch.full_like(self.text, scale)
        both = torch.tensor(together, device=text.device)
        return replace(self, text=text, grid=torch.where(both, text, self.grid))

    def part(self, rows: list[int]) -> "Guidance":
        """The strengths of these items, with no memory of other steps."""
        names = ("text", "grid", "rescale", "low", "high", *(["negative"] if self.negative is not None else []))
        return replace(self, average=None, **{name: getattr(self, name)[rows] for name in names})

    def at(self, level: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Strengths (text, grid) at a noise level, 1 = off, each (batch, 1, 1)."""
        on = (self.low <= level) & (level <= self.high)
        text, grid = (torch.where(on, scale.clamp_min(1.0), 1.0) for scale in (self.text, self.grid))
        return text[:, None, None], grid[:, None, None]

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


@dataclass(eq=False)
class CallState:
    """What a callback reads and changes of its call through the pipeline's properties.

    Attributes:
        guidance_scale: the largest of the call's pieces; what a callback sets holds for the rest of its batch.
        grid_guidance_scale: the largest that was given, 0 = none.
        scheduler: a copy of the pipeline's, so that calls in several threads do not share its step counter.
        num_timesteps: steps that the call will take.
        interrupt: whether to take no further step.
    """

    guidance_scale: float
    grid_guidance_scale: float = 0.0
    scheduler: SchedulerMixin | None = None
    num_timesteps: int = 0
    interrupt: bool = False


@dataclass
class Batch:
    """Pieces to be denoised together.

    Attributes:
        conditions: of the network.
        guidance: how strictly it follows.
        noise: (batch, latent_channels, frames) fp32; where nothing is visible, zero.
        clean: latents to start from or to keep, likewise.
        keep: (batch, frames) bool, frames whose clean latents stay as they are; None = none.
        strength: noise to begin with where not kept, 1 = all noise.
        loop: whether the last frame is followed by the first.
        generators: one per piece, for schedulers that draw noise.
    """

    conditions: Conditions
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


@dataclass
class Denoiser:
    """The network and how it is stepped through.

    Attributes:
        unet: the network.
        scheduler: of this call alone.
        num_steps: for the whole way from noise to data.
        max_rows: rows of the network's batch in one pass; None = all.
        jump: how far the present step of a distilled network goes, in timesteps; 0 with other networks and schedulers.
    """

    unet: ModelMixin
    scheduler: SchedulerMixin
    num_steps: int
    max_rows: int | None = None
    jump: float = 0.0

    def strengths(self, guidance: Guidance, level: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Strengths (text, grid), and for which items (batch,) a distilled network jumps, with guidance within: for
        those without a strength of the text."""
        text, grid = guidance.at(level)
        jumps = (guidance.text <= 1.0) & (self.jump > 0.0)
        return text, torch.where(jumps[:, None, None], 1.0, grid), jumps

    def run(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        conditions: Conditions,
        apart: bool,
        free: bool,
        unwanted: bool,
        jumps: torch.Tensor,
    ) -> tuple:
        """Predictions of the network, fp32.

        All rows run in one pass, or `max_rows` at a time.

        Returns:
            With all conditions, (texts, channels, frames); and, None unless wanted: without any condition (batch,
            channels, frames); with the words alone, or of a piece with notes without words and instruments (texts,
            channels, frames); with unwanted texts, tempo, meter and length (unwanted, channels, frames). The last have
            no key, chords and notes, so that what leads away from them leads into these: led away from a text in its
            own key, music loses the key too.
        """
        batch, texts, device = len(latents), len(conditions.owner), latents.device
        every, each = torch.arange(batch, device=device), torch.arange(texts, device=device)
        others = torch.arange(texts, len(conditions.states), device=device)
        counts = [texts, batch * free, texts * apart, len(others) * unwanted]
        # The item of each row, and its text; that of rows without any is masked.
        item = torch.cat(
            [conditions.owner] + [every] * free + [conditions.owner] * apart + [conditions.unwanted_owner] * unwanted
        )
        text = torch.cat([each] + [0 * every] * free + [each] * apart + [others] * unwanted)
        kind = torch.arange(4, device=device).repeat_interleave(torch.tensor(counts, device=device))
        wordless = (kind == 2) & conditions.scored[item]
        blind = (kind == 1) | ((kind == 2) & ~wordless)  # to tempo, key, meter, length and grid
        keyless = blind | (kind == 3)
        text_mask = conditions.states_mask[text] & ~((kind == 1) | wordless)[:, None]
        scalars = {
            name: torch.where(
                keyless if name == "key" else blind, torch.full_like(values[item], ABSENT[name]), values[item]
            )
            for name, values in conditions.scalars.items()
        }
        frame_cond = None
        if self.unet.config.frame_cond_channels:
            grid = conditions.grid[item] * ~blind[:, None, None]
            grid[:, CHORD_CHANNELS] *= ~keyless[:, None, None]
            frame_cond = torch.cat([grid, conditions.edit[item]], dim=1)
        notes = {}
        if conditions.roll is not None and conditions.players is not None:
            notes["note_roll"] = conditions.roll[item] * ~keyless[:, None, None]
            notes["role_instruments"] = torch.where((keyless | wordless)[:, None], -1, conditions.players[item])
        if conditions.reference is not None:
            free_of_it = ((kind == 1) | wordless)[:, None]  # it goes with the words
            notes["reference"] = conditions.reference[item].masked_fill(free_of_it, float("nan"))
        if jumps.any():
            notes["jump"] = self.jump * jumps[item]
        visible = None if conditions.visible.all() else conditions.visible[item]
        rows, out = self.max_rows or len(item), []
        for first in range(0, len(item), rows):
            part = slice(first, first + rows)
            out.append(
                self.unet(
                    latents.to(self.unet.dtype)[item[part]],
                    timestep.float().expand(len(item[part])),
                    encoder_hidden_states=conditions.states[text[part]],
                    encoder_attention_mask=text_mask[part],
                    frame_cond=None if frame_cond is None else frame_cond[part],
                    added_cond_kwargs={name: values[part] for name, values in scalars.items()},
                    frame_mask=None if visible is None else visible[part],
                    **{name: values[part] for name, values in notes.items()},
                    return_dict=False,
                )[0].float()
            )
        made = torch.cat(out).split(counts)
        return made[0], *(
            part if wanted else None for part, wanted in zip(made[1:], (free, apart, unwanted), strict=True)
        )

    def predict(
        self, latents: torch.Tensor, timestep: torch.Tensor, conditions: Conditions, guidance: Guidance, level: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Conditional and guided prediction of the network, each (batch, channels, frames) fp32.

        Guidance: Ho and Salimans 2022 (https://arxiv.org/abs/2207.12598). With two strengths as in Brooks, Holynski and
        Efros 2023, equation 3 (https://arxiv.org/abs/2211.09800), the words first and then, given the words, the grid:
        free + text_scale (words - free) + grid_scale (full - words). In this order a strong text does not pull the
        music off its grid. Where notes are given they and the grid come first, and the words say how these notes sound.
        Equal strengths give the former, in two passes. Several texts share a frame by their weights (Bar-Tal et al.
        2023, https://arxiv.org/abs/2302.08113).

        What is to be kept out is led away from in the same way, given the beats: + negative_scale (full - unwanted),
        where its texts have a weight (the negation of Liu et al. 2022, equation 12, https://arxiv.org/abs/2206.01714,
        from the wanted words instead of from none).
        """
        text_scale, grid_scale, jumps = self.strengths(guidance, level)
        guided = bool((text_scale > 1.0).any() or (grid_scale > 1.0).any())
        apart = bool((text_scale != grid_scale).any())
        jumping = jumps[conditions.unwanted_owner]  # of them who keep something out
        negative = (guided or bool(jumping.any())) and len(jumping) > 0 and guidance.negative is not None
        full, free, middle, unwanted = self.run(
            latents, timestep, conditions, guided and apart, guided, negative, jumps
        )

        nothing = torch.zeros(latents.shape, dtype=torch.float32, device=latents.device)

        def together(by_text: torch.Tensor) -> torch.Tensor:
            return nothing.index_add(0, conditions.owner, by_text * conditions.weights[:, None])

        full = out = together(full)
        if guided:
            out = free + text_scale * (full - free)
            if apart:
                middle, scored = together(middle), conditions.scored[:, None, None]
                first, second = torch.where(scored, grid_scale, text_scale), torch.where(scored, text_scale, grid_scale)
                two = free + first * (middle - free) + second * (full - middle)
                out = torch.where(text_scale == grid_scale, out, two)  # rounded as where no item has two strengths
            out = torch.where(jumps[:, None, None], full, out) if jumps.any() else out
        if negative and guidance.negative is not None:
            away = (full[conditions.unwanted_owner] - unwanted) * conditions.unwanted_weights[:, None]
            away = away * guidance.negative[conditions.unwanted_owner, None, None]
            if jumping.any():  # the difference of two jumps has the guidance within
                away = torch.where(jumping[:, None, None], away / max(1.0, self.unet.config.jump_guidance), away)
            out = out + nothing.index_add(0, conditions.unwanted_owner, away)
        return full, out

    def guide(
        self, inputs: torch.Tensor, timestep: torch.Tensor, batch: Batch, around: tuple | None, shown: Conditions
    ):
        """The prediction for one step, (batch, channels, frames) fp32."""
        level = float(timestep) / self.scheduler.config.num_train_timesteps
        if around is None:
            full, guided = self.predict(inputs, timestep, shown, batch.guidance, level)
        else:
            full, guided = self.predict(take_frames(inputs, around[0]), timestep, shown, batch.guidance, level)
            frames = slice(CIRCLE_MARGIN, CIRCLE_MARGIN + inputs.shape[2])
            visible = batch.conditions.visible[:, None]
            full, guided = full[:, :, frames] * visible, guided[:, :, frames] * visible
        if guided is full:
            return guided
        if batch.guidance.projects:
            data = data_of(self.scheduler, inputs, full, timestep) * batch.conditions.visible[:, None]
            guided = batch.guidance.project(full, guided - full, data)
        if batch.guidance.rescale.any():
            guided = rescaled(guided, full, batch.guidance.rescale)
        text, grid, jumps = self.strengths(batch.guidance, level)
        kept_out = torch.zeros_like(jumps).index_fill(0, shown.unwanted_owner, True)
        on = (torch.maximum(text, grid) > 1.0) | (jumps & kept_out)[:, None, None]
        return torch.where(on, guided, full)  # other items may be guided where one is not

    def sounding(
        self, prediction: torch.Tensor, inputs: torch.Tensor, timestep: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        """The prediction for one step whose clean latents have the mean of the reference in each channel, over the
        frames that are made; of items without a reference, and at little noise, the prediction as it is.

        Only the mean, since the deviation is also that of what is played (adaptive instance normalisation, Huang and
        Belongie 2017, https://arxiv.org/abs/1703.06868, sets both).
        """
        conditions, level = batch.conditions, float(timestep) / self.scheduler.config.num_train_timesteps
        if conditions.reference is None or conditions.pull is None or level <= SOUNDING_LEVEL:
            return prediction
        frames = conditions.visible if batch.keep is None else conditions.visible & ~batch.keep
        frames = frames[:, None].to(prediction.dtype)
        data = data_of(self.scheduler, inputs, prediction, timestep)
        sums = torch.stack([item.sum(1) for item in data * frames])  # item by item, as in `total`
        mean = sums / frames.sum(2).clamp_min(1.0)
        change = conditions.pull[:, None] * (conditions.reference[:, : data.shape[1]] - mean).nan_to_num()
        moved = with_data(self.scheduler, prediction, change[:, :, None] * frames, timestep)
        return torch.where(change.any(1)[:, None, None], moved, prediction)

    def denoise(self, batch: Batch, on_step: Callable, state: CallState) -> torch.Tensor:
        """Clean standardised latents (batch, latent_channels, frames).

        Args:
            batch: the pieces.
            on_step: called as f(step, timestep, latents, conditions) after each step; gives the latents to go on with.
            state: its `interrupt` ends the loop.
        """
        conditions, scheduler = batch.conditions, self.scheduler
        timesteps = set_timesteps(scheduler, self.num_steps, batch.strength, batch.noise.device)
        latents = batch.noise * getattr(scheduler, "init_noise_sigma", 1.0)
        if batch.strength < 1.0:
            latents = at_level(scheduler, batch.clean, batch.noise, timesteps[0])
        kept = None if batch.keep is None else batch.keep[:, None]
        around = circle_index(conditions.visible) if batch.loop else None
        shown = conditions if around is None else conditions.at(*around)
        takes_generator = "generator" in inspect.signature(scheduler.step).parameters
        step_kwargs = {"generator": batch.generators} if takes_generator else {}
        straight = isinstance(scheduler, FlowMatchEulerDiscreteScheduler) and not scheduler.config.stochastic_sampling
        for step, timestep in enumerate(timesteps):
            if state.interrupt:
                break
            if kept is not None:
                latents = torch.where(kept, at_level(scheduler, batch.clean, batch.noise, timestep), latents)
            inputs = latents
            if hasattr(scheduler, "scale_model_input"):
                inputs = scheduler.scale_model_input(latents, timestep)
            if straight and self.unet.config.get("jump_guidance") is not None:
                self.jump = float(timestep) - float([*timesteps, 0.0][step + 1])
            prediction = self.sounding(self.guide(inputs, timestep, batch, around, shown), inputs, timestep, batch)
            latents = scheduler.step(prediction, timestep, latents, **step_kwargs, return_dict=False)[0]
            latents = on_step(step, timestep, latents, shown)
        return latents if kept is None else torch.where(kept, batch.clean, latents)


@dataclass
class Sampler:
    """Makes the latents of all pieces of one call: short ones in batches, long ones window after window.

    Attributes:
        denoiser: the network and its scheduler.
        requests: the pieces.
        conditions: of the network, for all pieces.
        guidance: likewise.
        frame_rate: latent frames a second.
        noise: (pieces, latent_channels, frames) fp32.
        generators: one per piece, for schedulers that draw noise.
        clean: latents to start from or to keep, likewise; what is made of a long piece is added.
        keep: (pieces, frames) bool, frames whose clean latents stay as they are.
        state: what callbacks may change.
        callback: called as f(step, timestep, tensors) after each step, or None; may return tensors to replace.
        callback_inputs: names of the tensors that it is given.
    """

    denoiser: Denoiser
    requests: list[Request]
    conditions: Conditions
    guidance: Guidance
    frame_rate: float
    noise: torch.Tensor
    generators: list[torch.Generator]
    clean: torch.Tensor
    keep: torch.Tensor
    state: CallState
    callback: Callable | None = None
    callback_inputs: Sequence[str] = ()
    spans: list[list[tuple[int, int, int, int]]] = field(init=False)  # windows of each piece

    def __post_init__(self):
        self.spans = [
            [(0, item.frames, 0, item.frames)] if item.loop else list(windows(item.frames)) for item in self.requests
        ]

    def batches(self) -> list[list[int]]:
        """Short pieces that are made together: alike in strength and in whether they are circles. A piece of strength 0
        is not made.

        On a CPU also alike in length and in that of their texts: an item of a batch then has the bits that it has
        alone, since nothing is padded for it. On a GPU fewer, larger batches matter more than the last bits.
        """
        alike: dict[tuple, list[int]] = {}
        for row, item in enumerate(self.requests):
            if len(self.spans[row]) == 1 and item.strength > 0.0:
                shape: tuple = ()
                if self.noise.device.type == "cpu":
                    shape = self.conditions.part([row], 0, item.frames).states.shape[1], item.frames
                alike.setdefault((item.loop, item.strength, *shape), []).append(row)
        return list(alike.values())

    def longest(self, rows: list[int]) -> int:
        """Frames of the longest of these pieces."""
        return max(self.requests[row].frames for row in rows)

    def count_steps(self) -> int:
        """Steps of all batches and windows; those in which everything is kept take none."""
        runs = [(rows[0], self.keep[rows, : self.longest(rows)].all()) for rows in self.batches()]
        for row, spans in enumerate(self.spans):
            if len(spans) > 1:
                runs += [(row, self.keep[row, given:last].all()) for _, last, given, _ in spans]
        strengths = [self.requests[row].strength for row, kept in runs if not kept]
        scheduler, steps, device = self.denoiser.scheduler, self.denoiser.num_steps, self.noise.device
        counts = {one: len(set_timesteps(scheduler, steps, one, device)) for one in set(strengths)}
        return sum(counts[one] for one in strengths)

    def latents(self, on_step: Callable[[], object]) -> list[Iterable[torch.Tensor]]:
        """For each piece its latents (1, latent_channels, n) in chunks: short pieces are made here, long ones as their
        chunks are taken. `on_step` is called after each step.
        """
        made: dict[int, list[torch.Tensor]] = {}
        for rows in self.batches():
            for row, latents in zip(rows, self.denoise(rows, 0, self.longest(rows), on_step), strict=True):
                made[row] = [latents[None, :, : self.requests[row].frames]]
        return [made.get(row) or self.chunks(row, on_step) for row in range(len(self.requests))]

    def chunks(self, row: int, on_step: Callable[[], object]) -> Iterator[torch.Tensor]:
        """Latents of one piece (1, latent_channels, n), window after window."""
        for first, last, given, done in self.spans[row]:
            self.keep[row, first:given] = True
            latents = self.denoise([row], first, last, on_step)
            self.clean[row, :, given:done] = latents[0, :, given - first : done - first]
            yield latents[:, :, given - first : done - first]
            if self.state.interrupt:
                return

    def denoise(self, rows: list[int], first: int, last: int, on_step: Callable[[], object]) -> torch.Tensor:
        """Frames [first, last) of pieces, (rows, latent_channels, last - first).

        Raises:
            ValueError: if they are not finite.
        """
        keep, clean = self.keep[rows, first:last], self.clean[rows, :, first:last]
        if keep.all():
            return clean
        conditions = self.conditions.part(rows, first, last)
        given = keep[:, None].float()
        conditions.edit = torch.cat([1.0 - given, clean * given], dim=1)
        if last - first < self.conditions.visible[rows].sum(1).max():  # the length of a window, whatever the piece's
            duration_s = (last - first) / self.frame_rate
            conditions.scalars["duration_s"] = torch.full_like(conditions.scalars["duration_s"], duration_s)
        batch = Batch(
            conditions,
            self.guidance.part(rows),
            self.noise[rows, :, first:last],
            clean,
            keep if keep.any() else None,
            self.requests[rows[0]].strength,
            self.requests[rows[0]].loop,
            [self.generators[row] for row in rows],
        )
        self.state.guidance_scale = max(item.strengths.guidance_scale for item in self.requests)

        def after_step(step: int, timestep: torch.Tensor, latents: torch.Tensor, shown: Conditions) -> torch.Tensor:
            on_step()
            return latents if self.callback is None else self.call_back(rows, batch, step, timestep, latents, shown)

        latents = self.denoiser.denoise(batch, after_step, self.state)
        if not torch.isfinite(latents).all():
            raise ValueError(
                "the network gave values that are not finite (guidance_scale "
                f"{max(self.requests[row].strengths.guidance_scale for row in rows)}, {self.denoiser.unet.dtype}); "
                "lower guidance_scale or load with dtype=torch.float32"
            )
        return latents

    def call_back(
        self, rows: list[int], batch: Batch, step: int, timestep: torch.Tensor, latents: torch.Tensor, shown: Conditions
    ) -> torch.Tensor:
        """Run the callback after a step and take over what it changes: the latents, which are returned, the text
        states in `shown`, and the guidance of `batch`.

        As in diffusers the text states are given as (negative texts, texts), and the texts alone may be returned.

        Raises:
            ValueError: tensors of another shape.
        """
        texts, scale = len(shown.owner), self.state.guidance_scale
        offered = {"latents": latents}
        if "prompt_embeds" in self.callback_inputs:
            offered["prompt_embeds"] = torch.cat([shown.states[texts:], shown.states[:texts]])
        assert self.callback is not None
        changed = self.callback(step, timestep, {name: offered[name] for name in self.callback_inputs}) or {}
        embeds, allowed = changed.get("prompt_embeds", offered.get("prompt_embeds")), [tuple(shown.states.shape)]
        allowed.append((texts, *allowed[0][1:]))
        new_latents = changed.get("latents", latents)
        for name, value, shapes in (
            ("latents", new_latents, [tuple(latents.shape)]), ("prompt_embeds", embeds, allowed),
        ):  # fmt: skip
            if value is not None and (not isinstance(value, torch.Tensor) or tuple(value.shape) not in shapes):
                shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
                raise ValueError(f"callback_on_step_end returned {name} of {shape}; allowed: shape {shapes[0]}")
        if embeds is not None and embeds is not offered.get("prompt_embeds"):
            negative = embeds[:-texts] if len(embeds) > texts else shown.states[texts:]
            shown.states = torch.cat([embeds[-texts:].to(shown.states), negative.to(shown.states)])
        if self.state.guidance_scale != scale:
            check_number("guidance_scale", self.state.guidance_scale, 0, 100)
            together = [self.requests[row].strengths.grid_guidance_scale is None for row in rows]
            batch.guidance = batch.guidance.with_scale(self.state.guidance_scale, together)
        return new_latents


# What of given audio the network starts from, and which latent frames are kept.

# Latent frames beside a border that are made anew too. The encoder sees further (7 frames, 0.28 s, in the published
# model), so the nearest kept latents still carry a little of what is replaced; training masks its clips likewise.
KEEP_MARGIN = 1


def network_input(edit: Edit, sampling_rate: int, channels: int, circle: int, margin: int) -> torch.Tensor:
    """The audio as the autoencoder takes it, (1, channels, samples).

    A loop becomes a circle of `circle` samples, a whole number of latent frames, with a `margin` of its other end on
    either side. It is resampled there, by half a frame at most: a loop of 8 s moves by up to 4 cents.
    """
    audio = mix_channels(edit.audio * edit.gain, channels)
    if not edit.loop:
        return resample(audio, edit.rate, sampling_rate)[None]
    return fit_circle(audio, circle)[:, torch.arange(-margin, circle + margin) % circle][None]


def kept_frames(edit: Edit, frames: int, frame_rate: float) -> torch.Tensor:
    """(frames,) bool: latent frames that are given, none of whose neighbours touch what is to be made."""
    mask, size, turn = edit.mask, len(edit.mask), 0
    if edit.loop:  # unrolled to three turns, of which the middle one counts
        mask, turn, frame_rate = mask.repeat(3), size, frames * edit.rate / size
    total = torch.nn.functional.pad(mask.long().cumsum(0), (1, 0))  # masked samples before each
    bounds = torch.arange(frames, dtype=torch.float64)
    first = ((bounds - KEEP_MARGIN) / frame_rate * edit.rate).floor().long() + turn
    last = ((bounds + 1 + KEEP_MARGIN) / frame_rate * edit.rate).ceil().long() + turn
    inside = bounds / frame_rate * edit.rate < size
    return (total[last.clamp(0, len(mask))] == total[first.clamp(0, len(mask))]) & inside
