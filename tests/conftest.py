"""A tiny pipeline of real parts and tiny runs of the stages, made here: nothing is downloaded."""

# ruff: noqa: E402
import json
import os
from pathlib import Path

# Before numba is imported: processes that write one cache of compiled functions at once can spoil it, and then crash.
ROOT = Path(__file__).resolve().parent.parent  # of the repository
os.environ["NUMBA_CACHE_DIR"] = str(ROOT / ".pytest_cache" / "numba" / os.environ.get("PYTEST_XDIST_WORKER", "main"))

os.environ["VIVACE_NO_SERVER"] = "1"  # of `vivace serve`, should one run here

import numpy as np
import pytest
import soundfile
import torch
from accelerate.state import AcceleratorState
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.utils import dynamic_modules_utils
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from autoencoder.autoencoder_vivace import AutoencoderVivace
from pipelines.commands.main import main as vivace
from pipelines.hub import save_checkpoint
from pipelines.pipeline_vivace import GRID_CHANNELS, VivacePipeline
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from pipelines.vivace_process import ROLL_CHANNELS
from training import encode_latents, train_autoencoder

torch.set_num_threads(1)  # models this small only wait for each other's threads
WORDS = ["<pad>", "<unk>", "</s>", "slow", "fast", "calm", "solo", "piano", "drums", "loud", "jazz", "in", "bpm"]


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """One process has one precision, unless it forgets: no test inherits that of a run in another one."""
    AcceleratorState._reset_state(True)


def make_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", model_max_length=64
    )


def make_text_encoder() -> T5EncoderModel:
    config = T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0)
    return T5EncoderModel(config).eval()


def make_pipeline(
    audio_channels: int = 1, instruments: tuple[str, ...] | None = None, reference: bool = False
) -> VivacePipeline:
    """Random weights, 8 kHz, 25 frames a second, 4 latent channels; every condition moves the output.

    With `instruments` the network plays notes, with `reference` it takes the statistics of a sound.
    """
    torch.manual_seed(0)
    vae = AutoencoderVivace(
        sampling_rate=8000,
        audio_channels=audio_channels,
        latent_channels=4,
        hop_length=320,
        stft_size=480,
        stft_hop=160,
        dim=16,
        encoder_layers=1,
        decoder_layers=1,
        phase_iterations=4,
        latents_mean=[0.1, -0.1, 0.2, 0.0],
        latents_std=[0.5, 0.6, 0.7, 0.8],
    )
    unet = UNet1DConditionModel(
        in_channels=4,
        out_channels=4,
        frame_cond_channels=GRID_CHANNELS + 1 + 4,
        block_out_channels=[16, 16],
        layers_per_block=[1, 1],
        attention=[False, True],
        attention_head_dim=8,
        cross_attention_dim=16,
        context_dim=16,
        embedding_dim=16,
        reference_channels=8 if reference else 0,
        **{} if instruments is None else {"note_channels": ROLL_CHANNELS, "note_dim": 32, "instruments": instruments},
    )
    with torch.no_grad():  # the model starts with zeroed branches; move them so that nothing is without effect
        for parameter in unet.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    pipe = VivacePipeline(
        vae=vae.eval(),
        unet=unet.eval(),
        text_encoder=make_text_encoder(),
        tokenizer=make_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        default_num_inference_steps=3,
        default_guidance_scale=2.0,
        default_duration_s=2.0,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session", autouse=True)
def own_module_cache(tmp_path_factory):
    """diffusers copies the code of a checkpoint into a cache before running it; leave the user's cache alone."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("modules"))
        patch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", folder)
        patch.setenv("HF_MODULES_CACHE", folder)  # of processes that are started here
        yield


@pytest.fixture
def run_vivace(capsys):
    """Run a command in this process: run_vivace(*words) -> (exit code, stdout, stderr)."""

    def run(*words):
        try:
            code = vivace([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def tiny_pipeline() -> VivacePipeline:
    return make_pipeline()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """The tiny pipeline as a published folder; copy it before changing a file."""
    folder = tmp_path_factory.mktemp("published") / "tiny"
    save_checkpoint(make_pipeline(), folder)
    return folder


@pytest.fixture(scope="session")
def tiny_text_encoder(tmp_path_factory):
    """A random text encoder and its tokenizer, in the folder that stage 2 reads."""
    folder = tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    make_text_encoder().save_pretrained(folder / "text_encoder")
    make_tokenizer().save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Three splits of two-second tones with a click on every beat, labelled."""
    folder = tmp_path_factory.mktemp("data")
    rate, seconds = 24000, 2.0
    time = np.arange(int(rate * seconds)) / rate
    for split, count in (("train", 6), ("validation", 2), ("test", 2)):
        (folder / split).mkdir()
        lines = []
        for i in range(count):
            bpm, hertz = 90.0 + 10.0 * i, 220.0 * 2 ** (i / 12)
            audio = 0.3 * np.sin(2 * np.pi * hertz * time) + 0.5 * ((time * bpm / 60) % 1.0 < 0.01)
            soundfile.write(folder / split / f"{i}.flac", audio, rate)
            beats = list(np.arange(0.0, seconds, 60 / bpm))
            lines.append(json.dumps({
                "file_name": f"{i}.flac", "text": ["slow calm piano", "fast drums"], "duration_s": seconds,
                "sampling_rate": rate, "bpm": bpm, "beats_per_bar": 4, "downbeat_s": 0.0, "beats_s": beats,
                "key": "A minor", "chords": [[1.0, 0, 0, 0, 1.0, 0, 0, 1.0, 0, 0, 0, 0]] * len(beats),
            }))  # fmt: skip
        (folder / split / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def encode_arguments(folder, data, text_encoder) -> list[str]:
    return ["--autoencoder", str(folder / "ae" / "final"), "--text_encoder", str(text_encoder),
            "--data_dir", str(data), "--output_dir", str(folder / "latents")]  # fmt: skip


@pytest.fixture(scope="session")
def tiny_latents(tiny_data, tiny_text_encoder, tmp_path_factory):
    """The clips as latents of a tiny trained autoencoder, which lies beside them in `ae/final`."""
    folder = tmp_path_factory.mktemp("run")
    config = "training/configs/tiny/autoencoder.yaml"
    train_autoencoder.main(["--config", config, "--data_dir", str(tiny_data), "--output_dir", str(folder / "ae")])
    encode_latents.main(encode_arguments(folder, tiny_data, tiny_text_encoder))
    return folder / "latents"
