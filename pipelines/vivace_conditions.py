"""Everything the network is told about a batch of pieces, frame by frame.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import math
from dataclasses import dataclass, replace

import torch

from .vivace_grid import GRID_CHANNELS, frame_grid
from .vivace_theory import KEYS, parse_chords, parse_key

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
