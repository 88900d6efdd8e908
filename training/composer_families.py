"""Composers that write step after step: a WaveNet and an encoder-decoder, on the tokens of `ComposerVivace`.

Both write the notes of a 16th from those before it, over chords that are given. They are what `ComposerVivace` is
compared with.
"""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from transformers import T5Config, T5Model
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from pipelines.composer_vivace import FIRST_ROWS, MAX_BEATS, MAX_STEPS_PER_BAR, NAMES, ROLE_COLUMNS, SIZES, STRUCTURE

NOTES = range(len(STRUCTURE), len(NAMES))  # the columns that are written


def silent_columns(conditions: dict[str, torch.Tensor]) -> set[int]:
    """Columns of the roles that are silent, of one piece."""
    states = zip(ROLE_COLUMNS.values(), conditions["states"][0].tolist(), strict=True)
    return {NAMES.index(name) for names, state in states if state == 0 for name in names}


class StepComposer(ModelMixin, ConfigMixin):
    """What both have in common: how tokens and conditions enter, and how the columns of a step are written in turn."""

    def make_parts(self, width: int, text_dim: int, instruments: int) -> None:
        rows = sum(SIZES) + len(SIZES)
        self.past = nn.EmbeddingBag(rows, width, mode="sum")  # of the step before
        self.here = nn.Embedding(rows, width)  # of the columns of this step that are there already
        self.structure = nn.EmbeddingBag(rows, width, mode="sum")  # chord and feel of this step
        self.place = nn.Embedding(MAX_STEPS_PER_BAR + 1, width)
        self.beats, self.mode = nn.Embedding(MAX_BEATS + 1, width), nn.Embedding(3, width)
        self.states = nn.ModuleList(nn.Embedding(3, width) for _ in ROLE_COLUMNS)
        self.player = nn.ModuleList(nn.Embedding(instruments + 1, width) for _ in range(3))
        self.text, self.tempo = nn.Linear(text_dim, width), nn.Linear(2, width)
        self.heads = nn.ModuleList(nn.Sequential(nn.GELU(), nn.Linear(width, SIZES[column])) for column in NOTES)
        for embedding in self.modules():
            if isinstance(embedding, (nn.Embedding, nn.EmbeddingBag)):
                nn.init.normal_(embedding.weight, std=0.2)

    def rows(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens + torch.tensor(FIRST_ROWS, device=tokens.device)

    def words(self, conditions: dict[str, torch.Tensor]) -> torch.Tensor:
        """(batch, width) of the conditions of the whole piece, those of `ComposerVivace.forward`."""
        bpm = conditions["bpm"].float()
        known = (bpm > 0).float()
        x = self.tempo(torch.stack([known * torch.log2(bpm.clamp_min(1) / 100), known], dim=1))
        x = x + self.beats(conditions["beats"].clamp(0, MAX_BEATS)) + self.mode(conditions["minor"] + 1)
        x = x + self.text(conditions["text"].float())
        for row, table in enumerate(self.states):
            x = x + table(conditions["states"][:, row] + 1)
        for row, table in enumerate(self.player):
            x = x + table(conditions["players"][:, row] + 1)
        return x

    def entering(self, tokens: torch.Tensor, first_step: torch.Tensor, steps_per_bar: torch.Tensor):
        """(batch, steps, width) of each step: the tokens of the step before, its own chord and feel, its place."""
        batch, steps, _ = tokens.shape
        rows = self.rows(tokens)
        past = self.past(rows.reshape(batch * steps, -1)).view(batch, steps, -1)
        past = nn.functional.pad(past[:, :-1], (0, 0, 1, 0))
        structure = rows[..., : len(STRUCTURE)].reshape(batch * steps, -1)
        place = (first_step[:, None] + torch.arange(steps, device=tokens.device)) % steps_per_bar[:, None]
        return past + self.structure(structure).view(batch, steps, -1) + self.place(place)

    def columns(self, hidden: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (batch, steps, sum of `SIZES`) of each column from what precedes it; those of chord and feel are 0."""
        rows, logits = self.rows(tokens), [hidden.new_zeros(*hidden.shape[:2], size) for size in SIZES]
        for head, column in zip(self.heads, NOTES, strict=True):
            logits[column] = head(hidden)
            hidden = hidden + self.here(rows[..., column])
        return torch.cat(logits, dim=-1)

    def draw(
        self, hidden: torch.Tensor, silent: set[int], generator: torch.Generator, temperature: float
    ) -> torch.Tensor:
        """(columns,) tokens of one step from its hidden state (width,); those of chord and feel are 0."""
        tokens = torch.zeros(len(NAMES), dtype=torch.long)
        for head, column in zip(self.heads, NOTES, strict=True):
            if column not in silent:
                p = (head(hidden) / temperature).softmax(-1)
                tokens[column] = torch.multinomial(p, 1, generator=generator)[0]
            hidden = hidden + self.here.weight[FIRST_ROWS[column] + tokens[column]]
        return tokens


class ComposerWaveNet(StepComposer):
    """Dilated causal gated convolutions (van den Oord et al. 2016, https://arxiv.org/abs/1609.03499).

    Args:
        width: channels.
        dilations: of a stack of layers with two taps each; the network sees 1 + stacks x their sum steps.
        stacks: how often the stack is repeated.
        text_dim: width of the text states.
        instruments: names that the conditions index.
    """

    @register_to_config
    def __init__(
        self,
        width: int = 160,
        dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128),
        stacks: int = 2,
        text_dim: int = 128,
        instruments: list[str] | None = None,
    ):
        super().__init__()
        self.make_parts(width, text_dim, len(instruments or ()))
        self.spans = [dilation for _ in range(stacks) for dilation in dilations]
        self.taps = nn.ModuleList(nn.Linear(2 * width, 2 * width) for _ in self.spans)
        self.enter_words = nn.ModuleList(nn.Linear(width, 2 * width, bias=False) for _ in self.spans)
        self.out = nn.ModuleList(nn.Linear(width, 2 * width) for _ in self.spans)  # residual and skip

    def layer(self, k: int, x: torch.Tensor, before: torch.Tensor, words: torch.Tensor):
        """Residual and skip of a layer from its input now and a dilation ago."""
        gate, value = (self.taps[k](torch.cat([before, x], dim=-1)) + self.enter_words[k](words)).chunk(2, dim=-1)
        return self.out[k](gate.sigmoid() * value.tanh()).chunk(2, dim=-1)

    def forward(self, tokens, first_step, steps_per_bar, conditions, visible=None) -> torch.Tensor:
        """Logits of every token from what precedes it; arguments as of `ComposerVivace.forward`."""
        x = self.entering(tokens, first_step, steps_per_bar)
        words, skips = self.words(conditions)[:, None], torch.zeros_like(x)
        for k, span in enumerate(self.spans):
            before = nn.functional.pad(x, (0, 0, span, 0))[:, : x.shape[1]]
            residual, skip = self.layer(k, x, before, words)
            x, skips = x + residual, skips + skip
        return self.columns(skips, tokens)


class Live:
    """Writes a piece bar by bar with a `ComposerWaveNet`; its memory does not grow. `steps_per_bar` are 16ths."""

    def __init__(self, model: ComposerWaveNet, steps_per_bar: int, seed: int):
        self.model, self.bar = model, steps_per_bar
        self.generator = torch.Generator().manual_seed(seed)
        width = model.config.width
        self.queues = [torch.zeros(span, width) for span in model.spans]  # inputs of each layer, as rings
        self.number = 0
        self.last: torch.Tensor | None = None

    @torch.no_grad()
    def next_bar(
        self, structure: torch.Tensor, conditions: dict[str, torch.Tensor], temperature: float = 1.0
    ) -> torch.Tensor:
        """Tokens (steps of a bar, columns) of the next bar, over the tokens of chord and feel `structure` (steps of a
        bar, 2); the conditions of `ComposerVivace`, for one piece, may change from bar to bar."""
        model, words, out = self.model, self.model.words(conditions)[0], []
        silent = silent_columns(conditions)
        for step in range(self.bar):
            rows = torch.tensor(FIRST_ROWS)
            x = model.structure((structure[step] + rows[: len(STRUCTURE)])[None])[0] + model.place.weight[step]
            if self.last is not None:
                x = x + model.past((self.last + rows)[None])[0]
            skips = torch.zeros_like(x)
            for k, (span, queue) in enumerate(zip(model.spans, self.queues, strict=True)):
                at = self.number % span
                before, queue[at] = queue[at].clone(), x
                residual, skip = model.layer(k, x, before, words)
                x, skips = x + residual, skips + skip
            tokens = model.draw(skips, silent, self.generator, temperature)
            tokens[: len(STRUCTURE)] = structure[step]
            self.last, self.number = tokens, self.number + 1
            out.append(tokens)
        return torch.stack(out)


class ComposerSeq2Seq(StepComposer):
    """Encoder-decoder: the encoder reads the words and the chord sheet by quarters, the decoder writes step after step
    (T5: Raffel et al. 2020, https://arxiv.org/abs/1910.10683).

    Args:
        width, attention_heads, layers, encoder_layers, hidden: of the T5 model.
        text_dim: width of the text states.
        instruments: names that the conditions index.
    """

    @register_to_config
    def __init__(
        self,
        width: int = 192,
        attention_heads: int = 3,
        layers: int = 5,
        encoder_layers: int = 2,
        hidden: int = 512,
        text_dim: int = 128,
        instruments: list[str] | None = None,
    ):
        super().__init__()
        self.make_parts(width, text_dim, len(instruments or ()))
        self.t5 = T5Model(
            T5Config(
                vocab_size=1, d_model=width, d_kv=width // attention_heads, d_ff=hidden, num_heads=attention_heads,
                dropout_rate=0.0, num_layers=encoder_layers, num_decoder_layers=layers,
                feed_forward_proj="gated-silu", relative_attention_num_buckets=64, relative_attention_max_distance=256,
            )
        )  # fmt: skip
        self.t5.shared = self.t5.encoder.embed_tokens = self.t5.decoder.embed_tokens = None  # they enter from outside

    def encode(self, tokens: torch.Tensor, conditions: dict[str, torch.Tensor]) -> torch.Tensor:
        """Of the words and of chord and feel of each quarter: (batch, 1 + quarters, width)."""
        rows = self.rows(tokens)[:, ::4, : len(STRUCTURE)]
        sheet = self.structure(rows.reshape(-1, len(STRUCTURE))).view(*rows.shape[:2], -1)
        return self.t5.encoder(
            inputs_embeds=torch.cat([self.words(conditions)[:, None], sheet], dim=1)
        ).last_hidden_state

    def forward(self, tokens, first_step, steps_per_bar, conditions, visible=None) -> torch.Tensor:
        """Logits of every token from what precedes it; arguments as of `ComposerVivace.forward`."""
        encoded = self.encode(tokens, conditions)
        x = self.entering(tokens, first_step, steps_per_bar) + self.words(conditions)[:, None]
        hidden = self.t5.decoder(inputs_embeds=x, encoder_hidden_states=encoded, use_cache=False).last_hidden_state
        return self.columns(hidden, tokens)


@torch.no_grad()
def write_steps(
    model: StepComposer,
    structure: torch.Tensor,
    steps_per_bar: int,
    conditions: dict[str, torch.Tensor],
    seed: int,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Tokens (steps, columns) of a piece over the chords and the feel `structure` (steps, 2), whole bars."""
    if isinstance(model, ComposerWaveNet):
        live = Live(model, steps_per_bar, seed)
        return torch.cat([live.next_bar(bar, conditions, temperature) for bar in structure.split(steps_per_bar)])
    steps = len(structure)
    tokens = torch.zeros(1, steps, len(NAMES), dtype=torch.long)
    tokens[0, :, : len(STRUCTURE)] = structure
    encoded, words = model.encode(tokens, conditions), model.words(conditions)[0]
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    generator = torch.Generator().manual_seed(seed)
    rows = torch.tensor(FIRST_ROWS)
    silent = silent_columns(conditions)
    for step in range(steps):
        x = model.structure((structure[step] + rows[: len(STRUCTURE)])[None])[0] + words
        x = x + model.place.weight[step % steps_per_bar]
        if step:
            x = x + model.past((tokens[0, step - 1] + rows)[None])[0]
        out = model.t5.decoder(
            inputs_embeds=x[None, None], encoder_hidden_states=encoded, past_key_values=cache, use_cache=True
        )
        tokens[0, step] = model.draw(out.last_hidden_state[0, -1], silent, generator, temperature)
        tokens[0, step, : len(STRUCTURE)] = structure[step]
    return tokens[0]
