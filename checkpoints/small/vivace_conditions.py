"""Everything that the network reads of a batch of pieces: text states, weights of several texts in time, grid, scalars.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import itertools
import math
import re
import threading
from dataclasses import dataclass, replace

import torch
from diffusers.utils import logging

from .vivace_theory import GRID_CHANNELS, KEYS, frame_grid, parse_chords, parse_key

# Several texts in one piece, as a timeline or a morph: at each frame they share the prediction by their weights, so
# that each keeps its own pooled text, which attention with a mask over one joint text could not give it.

CROSSFADE_S = 1.0  # between two texts of a timeline, centred on the second one's start


def is_timeline(prompt: object) -> bool:
    """Whether a prompt is a list of (start, text) pairs."""
    return isinstance(prompt, (list, tuple)) and len(prompt) > 0 and all(
        isinstance(entry, (list, tuple)) and len(entry) == 2 and not isinstance(entry[0], (list, tuple))
        and (not isinstance(entry[0], str) or re.fullmatch(r"\s*bar\s.*", entry[0]) is not None)
        for entry in prompt
    )  # fmt: skip


def read_start(start: float | str, bpm: float | None, beats_per_bar: int | None) -> float:
    """Seconds of a timeline's entry: a number, or "bar 5", whose start counts from bar 1.

    Raises:
        ValueError: neither of them, or bars without a tempo.
    """
    if isinstance(start, str):
        match = re.fullmatch(r"\s*bar\s+(\d{1,5})\s*", start)
        if match is None or int(match[1]) < 1:
            raise ValueError(f"prompt starts an entry at {start!r}; allowed: seconds, or a bar from 1, as in 'bar 5'")
        if bpm is None:
            raise ValueError(f"prompt starts an entry at {start!r}, which needs a tempo: give bpm")
        return (int(match[1]) - 1) * beats_per_bar * 60.0 / bpm
    if isinstance(start, bool) or not isinstance(start, (int, float)) or not start >= 0:
        raise ValueError(f"prompt starts an entry at {start!r}; allowed: seconds from 0, or a bar, as in 'bar 5'")
    return float(start)


def timeline_weights(starts_s: list[float], frames: int, frame_rate: float, duration_s: float) -> torch.Tensor:
    """Share of each text in each frame, (texts, frames): one after another, with crossfades of `CROSSFADE_S`.

    Raises:
        ValueError: a first entry that does not start at 0, entries out of order, or one that starts after the end.
    """
    if starts_s[0] != 0:
        raise ValueError(f"prompt's first entry starts at {starts_s[0]:g} s; it must start at 0 (or 'bar 1')")
    for before, start in itertools.pairwise(starts_s):
        if start <= before:
            raise ValueError(f"prompt has an entry at {start:g} s after one at {before:g} s; they must be in order")
    if starts_s[-1] >= duration_s:
        raise ValueError(f"prompt has an entry at {starts_s[-1]:g} s, but the piece is {duration_s:g} s long")
    times = (torch.arange(frames, dtype=torch.float64) + 0.5) / frame_rate
    entered = [((times - start) / CROSSFADE_S + 0.5).clamp(0.0, 1.0) for start in starts_s[1:]]
    entered = torch.stack([torch.ones_like(times), *entered, torch.zeros_like(times)])
    return (entered[:-1] - entered[1:]).float()  # what an entry has gained, less what the next one has


def morph_weights(frames: int) -> torch.Tensor:
    """(2, frames): from the first text alone to the second alone, in a straight line."""
    share = (torch.arange(frames, dtype=torch.float64) + 0.5) / frames
    return torch.stack([1.0 - share, share]).float()


# Everything the network is told about a batch of pieces, frame by frame.

TOKENS = 16  # a text is padded to a multiple
ABSENT = {"duration_s": math.nan, "bpm": math.nan, "key": -1, "beats_per_bar": -1}


def take_frames(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Frames of (batch, channels, frames) at (batch, n) positions -> (batch, channels, n)."""
    return values.gather(2, index[:, None].expand(-1, values.shape[1], -1))


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
        scalars: (batch,) each; `ABSENT` tells what stands for unknown.
        visible: (batch, frames) bool, False = padding.
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

    def part(self, rows: list[int], first: int, last: int) -> "Conditions":
        """These items and frames [first, last); texts that are silent there are left out."""
        device = self.visible.device
        rows = torch.tensor(rows, device=device)
        heard, kept_out = (
            torch.isin(owner, rows) & (weights[:, first:last] > 0).any(dim=1)
            for owner, weights in ((self.owner, self.weights), (self.unwanted_owner, self.unwanted_weights))
        )
        new_place = torch.zeros(len(self.visible), dtype=torch.long, device=device)
        new_place[rows] = torch.arange(len(rows), device=device)
        text = torch.cat([heard, kept_out]).nonzero()[:, 0]
        states, read = self.states[text], self.states_mask[text]
        longest = int((read.any(0) * torch.arange(1, read.shape[1] + 1, device=device)).max())
        more = TOKENS * max(1, -(-longest // TOKENS)) - read.shape[1]  # whatever texts there are elsewhere
        return Conditions(
            states=torch.nn.functional.pad(states, (0, 0, 0, more)),
            states_mask=torch.nn.functional.pad(read, (0, more)),
            owner=new_place[self.owner[heard]],
            weights=self.weights[heard, first:last],
            unwanted_owner=new_place[self.unwanted_owner[kept_out]],
            unwanted_weights=self.unwanted_weights[kept_out, first:last],
            grid=self.grid[rows, :, first:last],
            edit=self.edit[rows, :, first:last],
            scalars={name: values[rows] for name, values in self.scalars.items()},
            visible=self.visible[rows, first:last],
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
        )


def item_grid(known: dict, frames: int, frame_rate: float) -> torch.Tensor:
    """The grid (22, frames) of what is known of a piece: its tempo, meter, first downbeat and chords."""
    bpm, beats, chroma = known["bpm"], known["beats_per_bar"], None
    if bpm is None:
        return frame_grid(frames, frame_rate)
    bpm = known["bpm"] * known.get("stretch", 1.0)
    downbeat_s = known["downbeat_s"]
    if known["chords"] is not None:
        beats_needed = math.ceil((frames / frame_rate - downbeat_s) * bpm / 60.0) + 1
        chroma = parse_chords(known["chords"], beats, max(beats_needed, 1))
    return frame_grid(frames, frame_rate, bpm, beats, downbeat_s, chroma, first_beat_s=downbeat_s)


def make_conditions(
    requests: list, states: torch.Tensor, states_mask: torch.Tensor, latent_channels: int, frame_rate: float, device
) -> Conditions:
    """Conditions of requests (`vivace_request.Request`), whose texts were encoded in the order of `Conditions.states`.

    Everything is to be generated: `edit` has a mask of ones and no latents yet.
    """
    batch, frames = len(requests), max(item.frames for item in requests)
    grid = torch.zeros(batch, GRID_CHANNELS, frames, dtype=torch.float32)
    edit = torch.zeros(batch, 1 + latent_channels, frames, dtype=torch.float32)
    edit[:, 0] = 1.0
    owner = torch.tensor([row for row, item in enumerate(requests) for _ in item.texts])
    unwanted_owner = [row for row, item in enumerate(requests) for _ in item.unwanted]
    unwanted_owner = torch.tensor(unwanted_owner, dtype=torch.long)
    weights = torch.zeros(len(owner), frames, dtype=torch.float32)
    unwanted_weights = torch.zeros(len(unwanted_owner), frames, dtype=torch.float32)
    kinds = {name: torch.float32 if isinstance(value, float) else torch.long for name, value in ABSENT.items()}
    scalars = {name: torch.full((batch,), value, dtype=kinds[name]) for name, value in ABSENT.items()}
    for row, item in enumerate(requests):
        known = item.known
        weights[owner == row, : item.frames] = item.weights
        unwanted_weights[unwanted_owner == row, : item.frames] = item.unwanted_weights
        grid[row, :, : item.frames] = item_grid(known, item.frames, frame_rate)
        scalars["duration_s"][row] = item.frames / frame_rate
        if known["key"] is not None:
            scalars["key"][row] = KEYS.index(parse_key(known["key"]))
        if known["beats_per_bar"] is not None:
            scalars["beats_per_bar"][row] = known["beats_per_bar"]
        if known["bpm"] is not None:
            scalars["bpm"][row] = float(known["bpm"])
    lengths = torch.tensor([item.frames for item in requests])
    visible = torch.arange(frames) < lengths[:, None]
    parts = (states, states_mask, owner, weights, unwanted_owner, unwanted_weights, grid, edit)
    moved = [part.to(device) for part in parts]
    return Conditions(*moved, {name: values.to(device) for name, values in scalars.items()}, visible.to(device))


# Prompts -> text states for the network.

MAX_TEXT_TOKENS = 64
TOKENIZING = threading.Lock()  # a fast tokenizer keeps how it cuts and pads: calls in threads must take turns
logger = logging.get_logger(__name__)


def token_limit(tokenizer) -> int:
    """How many tokens of a text the network gets, in training as in use: what the tokenizer states, at most 64."""
    return min(tokenizer.model_max_length, MAX_TEXT_TOKENS)


def check_text(name: str, text: str) -> None:
    """Raise a ValueError for half of a character, as of an emoji that was cut: a text of it cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is {text!a}, whose {text[error.start]!a} is half of a character; give whole ones"
        ) from error


def encode_texts(pipe, prompts: list[str], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Text states (batch, tokens, dim) and which of them are text (batch, tokens) bool.

    Raises:
        ValueError: if the pipeline was loaded without its text encoder.
    """
    if pipe.text_encoder is None or pipe.tokenizer is None:
        raise ValueError("prompt needs a text_encoder and a tokenizer; this pipeline has none, give prompt_embeds")
    limit = token_limit(pipe.tokenizer)
    with TOKENIZING:
        inputs = pipe.tokenizer(prompts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        lengths = [len(ids) for ids in pipe.tokenizer(prompts, verbose=False).input_ids]
    if max(lengths) > limit:
        logger.warning(f"prompt is cut to its first {limit} tokens")
    ids, mask = inputs.input_ids.to(device), inputs.attention_mask.to(device)
    if device.type != "cpu":
        return pipe.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask.bool()
    states = []
    for own, read in zip(ids, mask.bool(), strict=True):  # unpadded: rounding depends on the shape of what is encoded
        few = pipe.text_encoder(input_ids=own[read][None]).last_hidden_state[0]
        states.append(few.new_zeros(len(read), few.shape[1]).masked_scatter(read[:, None], few))
    return torch.stack(states), mask.bool()


def text_states(pipe, requests: list, per_prompt: int, embeds: tuple, negative_embeds: tuple, device) -> tuple:
    """States (texts + unwanted, tokens, dim) and masks (texts + unwanted, tokens): the texts of all requests, then what
    is to be kept out of them. Every text is encoded once.

    Args:
        pipe: the pipeline.
        requests: see `vivace_request.Request`.
        per_prompt: requests for each prompt.
        embeds: states and mask in place of the texts, (prompts, tokens, dim) and (prompts, tokens), or None, None.
        negative_embeds: likewise.
        device: where to.
    """
    wanted = [text for item in requests for text in item.texts]
    unwanted = [text for item in requests for text in item.unwanted]
    texts = list(dict.fromkeys(text for text in wanted + unwanted if text is not None and text.strip()))
    encoded = pipe.encode_prompt(texts, device) if texts else None

    def branch(names: list[str | None], given: tuple, argument: str) -> tuple[torch.Tensor, torch.Tensor]:
        states, mask = given
        if states is not None:
            mask = torch.ones(states.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
            if states.ndim != 3 or mask.shape != states.shape[:2] or len(states) * per_prompt != len(names):
                raise ValueError(
                    f"{argument} has shape {tuple(states.shape)} and a mask of {tuple(mask.shape)}; needed: "
                    f"(prompts, tokens, dim) and (prompts, tokens) for {len(names) // per_prompt} prompts"
                )
            return states.to(device).repeat_interleave(per_prompt, 0), mask.to(device).repeat_interleave(per_prompt, 0)
        if encoded is None:  # no text at all, and nothing to learn its width from but the network
            width = pipe.unet.config.cross_attention_dim
            no_text = torch.zeros(len(names), 1, width, dtype=torch.float32, device=device)
            return no_text, torch.zeros(len(names), 1, dtype=torch.bool, device=device)
        rows = [texts.index(name) if name in texts else None for name in names]
        present = torch.tensor([row is not None for row in rows], dtype=torch.bool, device=device)
        rows = [row or 0 for row in rows]
        return encoded[0][rows], encoded[1][rows] & present[:, None]

    branches = branch(wanted, embeds, "prompt_embeds"), branch(unwanted, negative_embeds, "negative_prompt_embeds")
    tokens = max(mask.shape[1] for _, mask in branches)
    pad = torch.nn.functional.pad
    states = [pad(states.to(pipe.unet.dtype), (0, 0, 0, tokens - states.shape[1])) for states, _ in branches]
    return torch.cat(states), torch.cat([pad(mask, (0, tokens - mask.shape[1])) for _, mask in branches])
