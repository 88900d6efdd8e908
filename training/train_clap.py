"""A small CLAP (Wu et al. 2023; Elizalde et al. 2023): captions and clips that belong together are near each other.

    python -m training.train_clap --config training/configs/small/clap.yaml

transformers' `ClapModel`, trained from nothing on the train split with the symmetric contrastive loss of Radford et al.
(2021); only the word vectors start from those of our text encoder, reduced by principal components. Augmentation is
level, a gentle filter and stripes left out, no noise and no band limit: an embedding that ignores damage could not
measure it. The weights go to `export_dir` in fp16, with tokenizer, feature extractor and a card of test figures.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from tokenizers.processors import TemplateProcessing
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import (
    AutoModelForTextEncoding,
    AutoTokenizer,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    PreTrainedTokenizerBase,
)
from transformers.audio_utils import spectrogram, window_function

from training import loop
from training.config import RunConfig, command, parse_config
from training.data.clips import read_audio, read_rows, without_blanks
from training.metrics.clap import CARD_FILE, ClapEmbedder, retrieval_figures

FLOOR_DB = -100.0  # of ClapFeatureExtractor
WINDOW_S = 5
WORD_SCALE = 0.1  # standard deviation of the word vectors at the start


@dataclass(frozen=True)
class ClapRun(RunConfig):
    """Run of the small CLAP."""

    model_config: str = "training/configs/small/clap.json"
    """keys of transformers' ClapConfig"""
    output_dir: str = "runs/small/clap"
    export_dir: str = "checkpoints/clap"
    text_encoder: str = "checkpoints/small"
    """folder with tokenizer/ and text_encoder/, whose word vectors the text tower starts from"""
    max_text_tokens: int = 48
    validate_every: int = 250


class Pairs:
    """Crops of clips with one of their captions each, as the model takes them; spectrograms wait in memory in fp16.

    Args:
        data_dir, split: where the rows are.
        extractor: decides rate, mel bands and crop length.
        tokenizer: of the captions.
        max_text_tokens: captions are cut and padded to this.

    Raises:
        ValueError: no row has a caption, or a clip's rate is not the extractor's.
    """

    def __init__(
        self,
        data_dir: str,
        split: str,
        extractor: ClapFeatureExtractor,
        tokenizer: PreTrainedTokenizerBase,
        max_text_tokens: int,
    ):
        self.tokenizer, self.max_text_tokens = tokenizer, max_text_tokens
        self.rows = [row for row in map(without_blanks, read_rows(data_dir, split)) if row["text"]]
        if not self.rows:
            raise ValueError(f"data_dir {data_dir}: no row of {split} has a caption in `text`")
        self.crop = extractor.nb_max_samples // extractor.hop_length + 1
        self.mel = [self._spectrogram(row, extractor) for row in tqdm(self.rows, desc=f"{split} spectrograms")]

    def _spectrogram(self, row: dict, extractor: ClapFeatureExtractor) -> np.ndarray:
        """dB mel of the whole clip, as the extractor makes it of a window: (frames, bands), at least one crop long."""
        if row["sampling_rate"] != extractor.sampling_rate:
            raise ValueError(
                f"{row['path']} has {row['sampling_rate']} Hz, other clips {extractor.sampling_rate}; make them equal"
            )
        mel = spectrogram(
            read_audio(row).mean(dim=0).numpy(),
            window_function(extractor.fft_window_size, "hann"),
            frame_length=extractor.fft_window_size,
            hop_length=extractor.hop_length,
            power=2.0,
            mel_filters=extractor.mel_filters_slaney,
            log_mel="dB",
        ).T.astype(np.float16)
        repeats = -(-self.crop // len(mel))
        return np.tile(mel, (repeats, 1)) if repeats > 1 else mel

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """`input_features` (1, frames, bands), `input_ids` and `attention_mask` (tokens,)."""
        mel, texts = self.mel[index], self.rows[index]["text"]
        start = int(rng.integers(0, len(mel) - self.crop + 1))
        crop = augment(mel[start : start + self.crop].astype(np.float32), rng)
        words = self.tokenizer(
            texts[int(rng.integers(len(texts)))],
            padding="max_length",
            truncation=True,
            max_length=self.max_text_tokens,
            return_tensors="pt",
        )
        return {
            "input_features": torch.from_numpy(crop)[None],
            "input_ids": words["input_ids"][0],
            "attention_mask": words["attention_mask"][0],
        }


def augment(mel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(frames, bands) in dB at another level, gently filtered, perhaps with a stripe of time or bands left out."""
    frames, bands = mel.shape
    curve = np.interp(np.linspace(0, 4, bands), np.arange(5), rng.normal(0.0, 1.5, size=5))
    mel = np.maximum(mel + rng.uniform(-12.0, 6.0) + curve, FLOOR_DB).astype(np.float32)
    if rng.random() < 0.5:
        start, width = int(rng.integers(frames)), int(rng.integers(1, frames // 6 + 2))
        mel[start : start + width] = mel.mean()
    if rng.random() < 0.5:
        start, width = int(rng.integers(bands)), int(rng.integers(1, bands // 8 + 2))
        mel[:, start : start + width] = mel.mean()
    return mel


def contrastive_loss(audio: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Mean of the cross-entropies audio -> text and text -> audio (Radford et al. 2021, figure 3).

    `ClapModel(return_loss=True)` takes the direction text -> audio twice.

    Args:
        audio, text: (batch, d) unit vectors; row i belongs to row i.
        scale: inverse temperature.
    """
    logits = scale * audio.float() @ text.float().T
    wanted = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted))


class Contrast(nn.Module):
    """The model and its loss in one forward, so that DDP sees every parameter."""

    def __init__(self, model: ClapModel):
        super().__init__()
        self.model = model

    def forward(self, input_features: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor):
        """The loss of a batch: (batch, 1, frames, bands), (batch, tokens), (batch, tokens) -> ()."""
        out = self.model(input_ids=input_ids, attention_mask=attention_mask, input_features=input_features)
        # One temperature; the model's second follows it, so that its own logits are right both ways.
        self.model.logit_scale_t.data.copy_(self.model.logit_scale_a.data)
        scale = self.model.logit_scale_a.clamp(max=float(np.log(100.0))).exp()
        return contrastive_loss(out.audio_embeds, out.text_embeds, scale)


def make_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """Our text encoder's tokenizer, with an end mark in front too: CLAP's text tower pools its first token.

    Raises:
        ValueError: no tokenizer there.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(Path(folder) / "tokenizer")
    except (OSError, ValueError):
        raise ValueError(f"text_encoder {folder}: no tokenizer/ there that transformers can read") from None
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{end} $A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    return tokenizer


def make_model(config: ClapRun, tokenizer: PreTrainedTokenizerBase) -> ClapModel:
    """A model with random weights but for its word vectors.

    Raises:
        ValueError: captions longer than the text tower has positions for, or vectors narrower than its own.
    """
    shape = json.loads(Path(config.model_config).read_text())
    positions = shape["text_config"]["max_position_embeddings"] - 2
    if config.max_text_tokens > positions:
        raise ValueError(
            f"max_text_tokens is {config.max_text_tokens}; allowed: up to {positions}, as {config.model_config} has it"
        )
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    shape["text_config"] |= {"vocab_size": len(tokenizer), **ids}
    model = ClapModel(ClapConfig(**shape))
    known = AutoModelForTextEncoding.from_pretrained(Path(config.text_encoder) / "text_encoder")
    known, table = known.get_input_embeddings().weight.float(), model.text_model.embeddings.word_embeddings.weight
    # transformers' own start is meant for towers many times as wide: this one brings the loss down about twice as fast.
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    if known.shape[1] < table.shape[1]:
        raise ValueError(
            f"text_encoder {config.text_encoder}: vectors of {known.shape[1]}; needed: at least {table.shape[1]}"
        )
    with torch.no_grad():
        centred = known[: len(table)] - known[: len(table)].mean(dim=0)
        basis = torch.linalg.svd(centred, full_matrices=False).Vh[: table.shape[1]]
        reduced = centred @ basis.T
        table.copy_(reduced * (WORD_SCALE / reduced.std()))
        table[tokenizer.pad_token_id] = 0.0
    return model


@torch.no_grad()
def validate(network: Contrast, pairs: Pairs, config: ClapRun) -> dict[str, float]:
    """Loss on the validation split, the same crops and captions every time."""
    network.eval()
    items = [pairs.read(i, loop.item_rng(config.seed, 5, i)) for i in range(len(pairs))]
    batches = [
        items[i : i + config.batch_size] for i in range(0, len(items) - config.batch_size + 1, config.batch_size)
    ]
    losses = [network(**{k: torch.stack([item[k] for item in part]) for k in part[0]}) for part in batches or [items]]
    network.train()
    return {"validation/loss": float(torch.stack(losses).mean())}


def export(model: ClapModel, extractor, tokenizer, config: ClapRun, steps: int) -> dict:
    """Write the folder that evaluation loads, measure it on the test split, and return its card."""
    folder = Path(config.export_dir)
    partial = folder.with_name(folder.name + ".partial")
    model.half().save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    extractor.save_pretrained(partial)
    card = {
        "name": "Vivace scorebook CLAP (transformers ClapModel, tiny)",
        "trained_on": config.data_dir,
        "clips": len(read_rows(config.data_dir, "train")),
        "steps": steps,
        "batch_size": config.batch_size,
        "seed": config.seed,
        "text_encoder": config.text_encoder,
    }
    loop.write_json(partial / CARD_FILE, card)
    embedder = ClapEmbedder(str(partial))
    rows = [row for row in map(without_blanks, read_rows(config.data_dir, "test")) if row["text"]]
    audio = embedder.embed([read_audio(row).mean(dim=0).numpy() for row in rows], rows[0]["sampling_rate"])
    for captions in ("text", "text_heldout"):
        told = [(vector, row) for vector, row in zip(audio, rows, strict=True) if row.get(captions)]
        if told:
            text = embedder.embed_text([row[captions][0] for _, row in told])
            card[f"test_retrieval_{captions}"] = retrieval_figures(np.stack([v for v, _ in told]), text)
    loop.write_json(partial / CARD_FILE, card)
    loop.replace_folder(partial, folder)
    return card


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    config = parse_config(ClapRun, argv)
    accelerator = loop.start(config)
    rate = read_rows(config.data_dir, "train")[0]["sampling_rate"]
    tokenizer = make_tokenizer(config.text_encoder)
    model = make_model(config, tokenizer)
    extractor = ClapFeatureExtractor(
        feature_size=model.config.audio_config.num_mel_bins,
        sampling_rate=rate,
        hop_length=rate // 50,
        max_length_s=WINDOW_S,
        fft_window_size=1024,
        frequency_min=30,
        frequency_max=rate // 2,
        truncation="rand_trunc",
    )
    network = Contrast(model)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )
    schedule = get_scheduler(
        config.lr_scheduler, optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=config.max_steps
    )
    model.to(accelerator.device)
    ema = EMAModel(model.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    prepared, optimizer = accelerator.prepare(network, optimizer)
    accelerator.register_for_checkpointing(schedule, ema)
    step = loop.resume(accelerator, config)
    made = [Pairs(config.data_dir, s, extractor, tokenizer, config.max_text_tokens) for s in ("train", "validation")]
    loader = loop.make_loader(made[0], config, step, accelerator)
    progress = loop.Progress(accelerator, config, step, "clap")
    for batch in loader:
        # Dropout is a function of (seed, step, process): a run that goes on draws what an unbroken one would.
        torch.manual_seed(loop.torch_rng(config.seed, 6, step, accelerator.process_index).initial_seed())
        with accelerator.accumulate(prepared):
            loss = prepared(**{k: v.to(accelerator.device) for k, v in batch.items()})
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(prepared.parameters(), config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        if not accelerator.sync_gradients:
            continue
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()} at step {step}; the last checkpoint is kept")
        step += 1
        schedule.step()
        ema.step(model.parameters())
        progress.add(step, {"loss": loss.detach()})
        stop = step == config.max_steps or progress.out_of_time()
        if step % config.validate_every == 0 or stop:
            with loop.ema_weights(ema, model):
                progress.report(step, validate(network, made[1], config))
        if stop or progress.due(step):
            loop.save_checkpoint(accelerator, config, step)
        if stop:
            break
        progress.leave_if_asked(step)
    progress.close()
    loop.save_final(accelerator, model, ema, config)
    if accelerator.is_main_process:
        final = ClapModel.from_pretrained(Path(config.output_dir) / "final", dtype=torch.float32)
        card = export(final, extractor, tokenizer, config, step)
        for captions in ("text", "text_heldout"):
            print(f"{config.export_dir}: retrieval on test, {captions}: {card.get(f'test_retrieval_{captions}')}")


if __name__ == "__main__":
    command(main)
