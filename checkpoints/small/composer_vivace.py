"""ComposerVivace: writes the notes of a piece, as masked diffusion over a grid of 16ths.

A piece is a table of tokens: a row for each 16th, a column for the chord, the feel of the beat, the lead, four voices
of harmony, the bass and four lanes of drums. The network predicts all masked tokens at once; a piece is written by
unmasking the surest ones in some ten passes (MaskGIT: Chang et al. 2022, https://arxiv.org/abs/2202.04200; absorbing
diffusion: Austin et al. 2021, https://arxiv.org/abs/2107.03006). Whatever is given stays as it is, so one network
composes, harmonises, fills gaps and varies.

The file imports what a published one may: torch and diffusers alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

QUALITIES = {
    "": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "maj7": (0, 4, 7, 11), "m7": (0, 3, 7, 10), "dim": (0, 3, 6),
    "m7b5": (0, 3, 6, 10), "sus4": (0, 5, 7),
}  # fmt: skip
VOICES = 4  # of the harmony
# Columns and how many tokens each has. Chord: 0 = none, then 12 roots above the tonic x 8 qualities. Feel of a quarter:
# 0 = four 16ths, 1 = three triplet eighths. Pitched: 0 = rest, 1 = the note before sounds on, then pitches from the
# lowest on, in the key of C. Kick: 0 or 1. Snare: none, snare, rim, clap. Cymbal: none, closed hat, open hat, ride,
# crash. Percussion: none, low tom, high tom, shaker, other.
COLUMNS = {
    "chord": 1 + 12 * len(QUALITIES), "feel": 2, "lead": 2 + 48, **{f"harmony{k}": 2 + 48 for k in range(VOICES)},
    "bass": 2 + 36, "kick": 2, "snare": 4, "cymbal": 5, "percussion": 5,
}  # fmt: skip
NAMES = tuple(COLUMNS)
STRUCTURE = ("chord", "feel")  # the first columns; what the notes follow
SIZES = tuple(COLUMNS.values())
FIRST_ROWS = tuple(sum(SIZES[:k]) + k for k in range(len(SIZES)))  # of each column in the table of embeddings
ROLE_COLUMNS = {
    "lead": ("lead",), "harmony": tuple(f"harmony{k}" for k in range(VOICES)), "bass": ("bass",),
    "drums": ("kick", "snare", "cymbal", "percussion"),
}  # fmt: skip
REST, HOLD, FIRST_PITCH = 0, 1, 2
LOWEST_PITCH = {"lead": 48, **{f"harmony{k}": 40 for k in range(VOICES)}, "bass": 24}
STEPS_PER_QUARTER = 4
MAX_STEPS_PER_BAR = 60
MAX_BEATS = 15  # of a bar
CONDITION = 64  # width of the vector that holds all conditions of the whole piece
UNKNOWN = -1  # of a condition
FAR_BARS = 15  # to the end of the tune, and more: as far as the network is told
DENSITIES = (0.5, 1, 2, 3, 4.5, 6.5, 9)  # borders of the classes: in how many of 16 steps a note of a role begins


PITCHED = tuple(NAMES.index(name) for name in LOWEST_PITCH)
# Of the notes before and after a step in each pitched column, in the table of embeddings, behind the tokens.
AROUND_ROWS = tuple(sum(SIZES[c] for c in PITCHED[:k]) for k in range(len(PITCHED)))


INTERVAL_SCALE = 10.0  # of the parameters of intervals, which learn faster by it
NEAR_STEPS = (4, 16)  # borders of the classes of distance between notes
PITCHES = max(SIZES[column] for column in PITCHED) - FIRST_PITCH


def notes_around(tokens: torch.Tensor, of: Sequence[int] = PITCHED) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest notes that begin before, and after, each step in some pitched columns, as far as they are not masked.

    Args:
        tokens: (batch, steps, columns).
        of: the columns.

    Returns:
        Two (batch, steps, 2 x columns of `of`), those before a step first: the token of the note's beginning, 0 =
        none, and how many steps away it is.
    """
    columns = tokens[..., list(of)]
    sizes = torch.tensor([SIZES[column] for column in of], device=tokens.device)
    begins = (columns >= FIRST_PITCH) & (columns < sizes)
    steps = torch.arange(tokens.shape[1], device=tokens.device)[:, None]
    notes, gaps = [], []
    for flip in (False, True):
        values, there = (x.flip(1) if flip else x for x in (columns, begins))
        last = torch.where(there, steps, -1).cummax(1).values
        last = nn.functional.pad(last[:, :-1], (0, 0, 1, 0), value=-1)  # before the step, not at it
        note, gap = torch.where(last >= 0, values.gather(1, last.clamp_min(0)), 0), steps - last
        notes.append(note.flip(1) if flip else note)
        gaps.append(gap.flip(1) if flip else gap)
    return torch.cat(notes, dim=-1), torch.cat(gaps, dim=-1)


def rotate(values: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864).

    Args:
        values: (batch, heads, positions, dim).
        cos, sin: of the angles, (batch, 1, positions, dim / 2).
    """
    a, b = values.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


@dataclass
class Prepared:
    """What a pass of the network needs that does not depend on the tokens, so that one may serve many passes.

    Attributes:
        places: (batch, steps, width), where in its bar and its phrase each step stands.
        cos, sin: of the rotary embedding's angles, see `rotate`.
        modulation: for each block its three scales, shifts and gates from the conditions, each (batch, 1, width).
        windows: (rows, pitches), see `ComposerVivace._with_intervals`.
    """

    places: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    modulation: list[tuple[torch.Tensor, ...]]
    windows: torch.Tensor


class Block(nn.Module):
    """Convolution over time, attention and a feed-forward net, each with scale, shift and gate from the conditions."""

    def __init__(self, width: int, heads: int, kernel: int, condition: int):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(3))
        self.modulation = nn.Linear(condition, 9 * width)
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.mix = nn.Linear(width, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def modulate(self, condition: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Scale, shift and gate of the three parts from the conditions (batch, dim), each (batch, 1, width)."""
        parts = self.modulation(condition)[:, None].chunk(9, dim=-1)
        return tuple(part if k % 3 == 1 else 1.0 + part for k, part in enumerate(parts))

    def forward(
        self,
        x: torch.Tensor,
        modulation: tuple[torch.Tensor, ...],
        cos: torch.Tensor,
        sin: torch.Tensor,
        visible: torch.Tensor | None,
        wanted: torch.Tensor | slice = slice(None),
    ) -> torch.Tensor:
        """x (batch, positions, width); modulation, cos and sin of `Prepared`; visible (batch, positions) bool or None =
        all; the result is that of the `wanted` positions."""

        def enter(k: int) -> torch.Tensor:
            y = torch.addcmul(modulation[3 * k + 1], self.norms[k](x), modulation[3 * k])
            return y if visible is None or k == 2 else y * visible[..., None]

        y = self.conv(enter(0).transpose(1, 2)).transpose(1, 2)
        x = torch.addcmul(x, modulation[2], self.mix(nn.functional.gelu(y)))
        q, k, v = (
            part.view(*x.shape[:2], self.heads, -1).transpose(1, 2) for part in self.qkv(enter(1)).chunk(3, dim=-1)
        )
        # Written out: few positions, and torch's fused kernel is slow backwards in bfloat16 on a CPU.
        x, q, cos_q, sin_q = x[:, wanted], q[:, :, wanted], cos[:, :, wanted], sin[:, :, wanted]
        likeness = rotate(q, cos_q, sin_q) @ rotate(k, cos, sin).transpose(-1, -2) * q.shape[-1] ** -0.5
        if visible is not None:
            likeness = likeness.masked_fill(~visible[:, None, None], -1e4)
        y = likeness.float().softmax(-1).to(v.dtype) @ v
        x = torch.addcmul(x, modulation[5], self.out(y.transpose(1, 2).reshape(*x.shape)))
        return torch.addcmul(x, modulation[8], self.down(nn.functional.gelu(self.up(enter(2)))))


class ComposerVivace(ModelMixin, ConfigMixin):
    """The network.

    Args:
        width, layers, heads, kernel: of the blocks.
        patch: steps that share a position of the blocks.
        text_dim: width of the text states; their mean is a condition, and what `cast` reads.
        instruments: names that the conditions `lead`, `harmony` and `bass` index.
        ends: the network is told how far the end of the tune is. Weights of before this have no such table.
    """

    @register_to_config
    def __init__(
        self,
        width: int = 192,
        layers: int = 6,
        heads: int = 6,
        kernel: int = 7,
        patch: int = 4,
        text_dim: int = 128,
        instruments: list[str] | None = None,
        ends: bool = False,
    ):
        super().__init__()
        # Each column's tokens and its mask; then the notes before a step, then those after it.
        around = sum(SIZES[column] for column in PITCHED)
        self.tokens = nn.EmbeddingBag(sum(SIZES) + len(SIZES) + 2 * around, width, mode="sum")
        self.step = nn.Embedding(MAX_STEPS_PER_BAR + 1, width)
        self.beats = nn.Embedding(MAX_BEATS + 1, width)
        self.phases = nn.Linear(2 * len(self.phrases), width)
        self.enter = nn.Linear(patch * width, width)
        self.mode, self.bpm = nn.Embedding(3, width), nn.Linear(33, width)
        self.states = nn.ModuleList(nn.Embedding(3, width) for _ in ROLE_COLUMNS)
        self.density = nn.ModuleList(nn.Embedding(len(DENSITIES) + 2, width) for _ in ROLE_COLUMNS)
        self.player = nn.ModuleList(nn.Embedding(len(instruments or ()) + 1, width) for _ in range(3))
        self.text = nn.Linear(text_dim + 1, width)
        self.casting = nn.Linear(text_dim, len(ROLE_COLUMNS) + 3 * len(instruments or ()))
        self.condition = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, CONDITION), nn.SiLU())
        self.blocks = nn.ModuleList(Block(width, heads, kernel, CONDITION) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.exit = nn.Linear(width, patch * width)
        # What stands at a step and beside it goes round the blocks, which see whole patches.
        self.near, self.near_mix = nn.Conv1d(width, width, 5, padding=2, groups=width), nn.Linear(width, width)
        self.predict = nn.Linear(width, sum(SIZES))
        # By side, class of distance, column and interval in semitones from -(PITCHES - 1) on.
        self.intervals = nn.Parameter(torch.zeros(2, len(NEAR_STEPS) + 1, len(PITCHED), 2 * PITCHES - 1))
        for embedding in self.modules():
            if isinstance(embedding, (nn.Embedding, nn.EmbeddingBag)):
                nn.init.normal_(embedding.weight, std=0.3)
        self.end = nn.Embedding(FAR_BARS + 2, width) if ends else None  # 0 = unknown
        if self.end is not None:
            nn.init.zeros_(self.end.weight)

    def cast(self, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Who plays, by the words alone. A grid that is filled token by token cannot decide this: each of hundreds of
        tokens may begin a part, so that sooner or later one does.

        Args:
            text: (batch, text_dim), the mean of the text states.

        Returns:
            Logits that each of `ROLE_COLUMNS` plays, (batch, 4), and of the instruments of lead, harmony and bass,
            (batch, 3, instruments).
        """
        states, players = self.casting(text).tensor_split([len(ROLE_COLUMNS)], dim=-1)
        return states, players.unflatten(-1, (3, -1))

    phrases = (1, 2, 4, 8, 16)  # bars, of the sine waves that tell where in a phrase a step stands

    def angles(self, bars: torch.Tensor) -> torch.Tensor:
        """Of the rotary embedding, (batch, 1, positions, dim / 2), for positions in bars (batch, positions): a part
        turns whole times a bar, so that attention finds the same place in other bars, the rest slowly."""
        pairs = self.config.width // self.config.heads // 2
        fast = [1, 2, 3, 4, 6, 8][: pairs // 2]
        slow = [1 / 64 * 32 ** (k / max(pairs - len(fast) - 1, 1)) for k in range(pairs - len(fast))]
        turns = torch.tensor([*fast, *slow], dtype=torch.float32, device=bars.device)
        return 2.0 * math.pi * (bars[:, None, :, None] * turns)

    def forward(
        self,
        tokens: torch.Tensor,
        first_step: torch.Tensor,
        steps_per_bar: torch.Tensor,
        conditions: dict[str, torch.Tensor],
        visible: torch.Tensor | None = None,
        with_cast: bool = False,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of every token of every column, (batch, steps, sum of `SIZES`); with `with_cast` those of `cast` too.

        Args:
            tokens: (batch, steps, columns) int64; the size of a column stands for a masked token. Steps are a multiple
                of `patch`.
            first_step: (batch,) the number of the first row's step, counted from the start of the piece.
            steps_per_bar: (batch,).
            conditions: (batch,) each, `UNKNOWN` where nothing is stated: `beats` of a bar (2 in 6/8, 3 in 3/4; at most
                `MAX_BEATS`), `minor` 0 or 1, `bpm` quarters a minute,
                `states` (batch, 4) 1 = the role plays, 0 = it is silent, `density` (batch, 4) a class of `DENSITIES`,
                `players` (batch, 3) an instrument of lead, harmony, bass; `text` (batch, text_dim), zero = none. And
                `to_end` (batch, steps), in how many bars the tune ends, 0 in its last one; it may be missing.
            visible: (batch, steps) bool, False = padding; None = all.
        """
        prepared = self.prepare(first_step, steps_per_bar, conditions, tokens.shape[1])
        logits = self.predict_logits(tokens, prepared, visible)
        return (logits, *self.cast(conditions["text"])) if with_cast else logits

    def prepare(
        self, first_step: torch.Tensor, steps_per_bar: torch.Tensor, conditions: dict[str, torch.Tensor], steps: int
    ) -> Prepared:
        """What does not depend on the tokens of so many steps; other arguments as of `forward`."""
        condition = self._condition(conditions, self.step.weight.dtype)
        number = first_step[:, None] + torch.arange(steps, device=first_step.device)
        bars = number / steps_per_bar[:, None]
        turn = 2.0 * math.pi * bars[..., None] / torch.tensor(self.phrases, device=bars.device)
        places = self.step(number % steps_per_bar[:, None])
        places = places + self.phases(torch.cat([turn.sin(), turn.cos()], dim=-1).to(condition.dtype))
        if self.end is not None and "to_end" in conditions:
            places = places + self.end(conditions["to_end"].clamp(UNKNOWN, FAR_BARS) + 1)
        angles = self.angles(bars[:, :: self.config.patch]).to(condition.dtype)
        windows = (INTERVAL_SCALE * self.intervals).unfold(-1, PITCHES, 1).flatten(0, 3)
        return Prepared(
            places,
            angles.cos(),
            angles.sin(),
            [block.modulate(condition) for block in self.blocks],
            torch.cat([windows, windows.new_zeros(1, PITCHES)]),
        )

    def predict_logits(
        self,
        tokens: torch.Tensor,
        prepared: Prepared,
        visible: torch.Tensor | None = None,
        chosen: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits as of `forward`, of the `chosen` steps (number,) alone."""
        batch, steps, _ = tokens.shape
        behind = sum(SIZES) + len(SIZES)
        second = behind + sum(SIZES[column] for column in PITCHED)
        offsets = [behind + row for row in AROUND_ROWS] + [second + row for row in AROUND_ROWS]
        around, gaps = notes_around(tokens)
        rows = torch.cat([tokens, around], dim=-1)
        rows = (rows + torch.tensor([*FIRST_ROWS, *offsets], device=tokens.device)).view(batch * steps, -1)
        x = self.tokens(rows).view(batch, steps, -1) + prepared.places
        patch = self.config.patch
        chosen = torch.arange(steps, device=x.device) if chosen is None else chosen
        wanted, place = (chosen // patch).unique(return_inverse=True)  # patches
        near = self.near(x.transpose(1, 2)).transpose(1, 2)[:, chosen]
        near = self.near_mix(nn.functional.gelu(near))
        x = self.enter(x.reshape(batch, steps // patch, -1))
        seen = None if visible is None else visible.view(batch, -1, patch).any(-1)
        for block, modulation in zip(self.blocks, prepared.modulation, strict=True):
            last = block is self.blocks[-1]
            x = block(x, modulation, prepared.cos, prepared.sin, seen, wanted if last else slice(None))
        x = self.exit(self.norm(x)).reshape(batch, len(wanted) * patch, -1)[:, patch * place + chosen % patch]
        logits = self.predict(nn.functional.gelu(x + near))
        return self._with_intervals(logits, around[:, chosen], gaps[:, chosen], prepared.windows)

    def _with_intervals(
        self, logits: torch.Tensor, around: torch.Tensor, gaps: torch.Tensor, windows: torch.Tensor
    ) -> torch.Tensor:
        """Logits plus what the intervals from the notes before and after speak for; see `notes_around`. `windows` has a
        row for each side, class of distance, column and place of the note, and a last one for no note."""
        _, classes, columns, length = self.intervals.shape
        places = length - PITCHES + 1
        near = torch.bucketize(gaps, torch.tensor(NEAR_STEPS, device=gaps.device))
        side = torch.arange(2 * columns, device=gaps.device) // columns
        column = torch.arange(2 * columns, device=gaps.device) % columns
        rows = ((side * classes + near) * columns + column) * places + (PITCHES - 1 - (around - FIRST_PITCH))
        rows = torch.where(around > 0, rows, len(windows) - 1)
        rows = rows.unflatten(-1, (2, columns)).transpose(-1, -2).reshape(-1, 2)  # both sides of each column
        bias = nn.functional.embedding_bag(rows, windows, mode="sum").view(*logits.shape[:2], columns, PITCHES)
        parts = list(logits.split(SIZES, dim=-1))
        for k, c in enumerate(PITCHED):
            low, pitches = parts[c].split([FIRST_PITCH, SIZES[c] - FIRST_PITCH], dim=-1)
            parts[c] = torch.cat([low, pitches + bias[:, :, k, : pitches.shape[-1]]], dim=-1)
        return torch.cat(parts, dim=-1)

    def _condition(self, conditions: dict[str, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        """One vector (batch, `CONDITION`) of all conditions of the whole piece."""
        bpm = conditions["bpm"].to(dtype)
        known = bpm > 0
        octave = torch.log2(bpm.clamp_min(1.0) / 100.0)[:, None] * known[:, None]
        waves = octave * math.pi * 2.0 ** (torch.arange(16, device=bpm.device, dtype=dtype) / 4 - 2)
        x = self.bpm(torch.cat([waves.sin(), waves.cos() * known[:, None], known[:, None].to(dtype)], dim=1))
        x = x + self.mode(conditions["minor"] + 1) + self.beats(conditions["beats"].clamp(0, MAX_BEATS))
        for row in range(len(ROLE_COLUMNS)):
            x = x + self.states[row](conditions["states"][:, row] + 1)
            x = x + self.density[row](conditions["density"][:, row] + 1)
        for row, table in enumerate(self.player):
            x = x + table(conditions["players"][:, row] + 1)
        text = conditions["text"].to(dtype)
        given = text.abs().sum(1, keepdim=True).gt(0).to(dtype)
        return self.condition(x + self.text(torch.cat([text, given], dim=1)))


def casting_loss(plays: torch.Tensor, instruments: torch.Tensor, conditions: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of `ComposerVivace.cast` in nats, a scalar; conditions that are `UNKNOWN`, and pieces without
    text, do not count.

    Args:
        plays, instruments: the logits.
        conditions: `states`, `players` and `text` of `ComposerVivace.forward`.
    """
    worded = conditions["text"].any(1, keepdim=True)
    states, players = (torch.where(worded, conditions[name], UNKNOWN) for name in ("states", "players"))
    sums = nn.functional.binary_cross_entropy_with_logits(plays.float(), states.clamp_min(0).float(), reduction="none")
    roles = sums[states != UNKNOWN].sum() / (states != UNKNOWN).sum().clamp_min(1)
    named = nn.functional.cross_entropy(
        instruments.flatten(0, 1).float(), players.flatten(), ignore_index=UNKNOWN, reduction="sum"
    )
    return roles + named / (players != UNKNOWN).sum().clamp_min(1)


def masked_loss(logits: torch.Tensor, target: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of the tokens to be found, in nats.

    Args:
        logits: (batch, steps, sum of `SIZES`).
        target: (batch, steps, columns).
        chosen: (batch, steps, columns) bool, the tokens that count.

    Returns:
        Sums (columns,) over the tokens that count, and how many there are of each column.
    """
    sums, counts = [], []
    for column, part in enumerate(logits.split(SIZES, dim=-1)):
        wanted = chosen[..., column]
        sums.append(nn.functional.cross_entropy(part[wanted].float(), target[..., column][wanted], reduction="sum"))
        counts.append(wanted.sum())
    return torch.stack(sums), torch.stack(counts)
