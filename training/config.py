"""Run configuration: one frozen dataclass a stage, filled from a YAML file and then from the command line.

    python -m training.train_unet --config training/configs/small/unet.yaml --learning_rate 2e-4

The architecture of a model is not here: it is the JSON beside the YAML, with the very keys of the published
`config.json`, and a key that the class does not know is an error.
"""

import dataclasses
import difflib
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar, get_args, get_type_hints

import yaml
from transformers import HfArgumentParser

Config = TypeVar("Config")


@dataclass(frozen=True)
class RunConfig:
    """What every training stage shares."""

    output_dir: str = "runs/small/stage"
    """run folder: checkpoints, logs, resolved config, final weights"""
    init_from: str | None = None
    """folder of weights to start from (a new run only; a run that has checkpoints goes on from its own)"""
    seed: int = 0
    max_steps: int = 1000
    """optimiser steps of the whole run; the learning-rate schedule spans them"""
    max_minutes: float | None = None
    """stop cleanly (checkpoint and final weights written) after this much wall time"""
    batch_size: int = 16
    """items an optimiser step, over all processes and accumulation steps"""
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    """of matrices and kernels alone (training/trainer.py)"""
    lr_scheduler: str = "cosine"
    """any name that diffusers.optimization.get_scheduler takes"""
    warmup_steps: int = 50
    max_grad_norm: float = 1.0
    mixed_precision: str = "no"
    """no, bf16 or fp16"""
    num_threads: int = 1
    """CPU threads a process; one is fastest beside any other work"""
    log_every: int = 25
    checkpoint_every: int = 500
    checkpoint_minutes: float = 5.0
    """also write a checkpoint when this much time has passed since the last"""
    keep_checkpoints: int = 2
    force: bool = False
    """go on with a run although settings or data differ from those of its checkpoint"""
    tracker: str | None = "tensorboard"
    """any Accelerate tracker by name, or null"""


@dataclass(frozen=True)
class StageRun(RunConfig):
    """What stages 1 and 3 share."""

    model_config: str = "training/configs/small/unet.json"
    """architecture: JSON of the model's `__init__` arguments"""
    data_dir: str = "data/scorebook"
    """folder written by the stage before"""
    crop_frames: int = 64
    """latent frames an item"""
    ema_decay: float = 0.999
    compile: bool = False
    num_workers: int = 0
    """data-loader processes"""
    dry_run: bool = False
    """tell parameters, memory, batch, epochs and time (training/dry_run.py), train and write nothing"""


@dataclass(frozen=True)
class AutoencoderRun(StageRun):
    """Stage 1."""

    model_config: str = "training/configs/small/autoencoder.json"
    output_dir: str = "runs/small/autoencoder"
    log_weight: float = 1.0
    """L1 between log magnitudes, weighted by band"""
    mel_weight: float = 1.0
    """L1 between log-mel magnitudes"""
    power_weight: float = 1.0
    """L1 between magnitudes to the power 0.3"""
    stft_weight: float = 1.0
    """distance of magnitudes; this and the next are of AutoencoderEncodec, which gives audio and not spectra"""
    waveform_weight: float = 0.1
    """L1 between samples"""
    kl_weight: float = 1e-3
    adversarial_weight: float = 0.0
    """hinge loss of the discriminators; where this and the next are 0 there are none"""
    feature_weight: float = 0.0
    """distance of what the discriminators see"""
    balance: bool = False
    """weights are shares of the gradient at the output (EnCodec's balancer) and not factors of the losses"""
    discriminator_filters: int = 32
    discriminator_learning_rate: float = 3e-4
    discriminator_start: int = 0
    """steps before the discriminators are trained"""
    discriminator_warmup_steps: int = 0
    """steps that they learn alone before the autoencoder hears of them"""
    freeze_encoder: bool = False
    """train the decoder alone, so that latents, and what was trained on them, stay valid"""
    latent_noise: float = 0.1
    """standard deviation of the noise added to latents in training, so that the decoder bears with generated ones"""
    pca_clips: int = 200
    """clips from which the linear path is initialised; 0 leaves it random"""
    validate_every: int = 500
    validate_clips: int = 32
    demo_clips: int = 2
    """validation clips that the tracker gets with their spectrograms, as they are and decoded"""


@dataclass(frozen=True)
class LatentsRun:
    """Stage 2."""

    autoencoder: str = "runs/small/autoencoder/final"
    text_encoder: str = "runs/small/text_aligned"
    """folder with text_encoder/ and tokenizer/, or a checkpoint folder that has both"""
    data_dir: str = "data/scorebook"
    output_dir: str = "latents/small"
    reuse_from: str | None = None
    """folder of other latents: what there was made from the same clips by the same autoencoder, or from the same
    captions by the same text encoder, is copied and not made anew. `output_dir` itself is always used so"""
    num_threads: int = 1
    num_workers: int = 0
    """threads that read audio ahead of the autoencoder; a GPU needs some"""
    retellings: int = 0
    """captions more for each training clip that has the scorebook's labels, in many words (training/text_retelling.py);
    a network that has heard the scorebook's few words alone does not follow a user's"""


@dataclass(frozen=True)
class UNetRun(StageRun):
    """Stage 3."""

    data_dir: str = "latents/small"
    output_dir: str = "runs/small/unet"
    scheduler_config: str = "training/configs/small/scheduler.json"
    """scheduler with `_class_name`; it decides the process and the target (training/flow.py)"""
    crop_frames: int = 128
    """latent frames of the longest item; shorter clips are padded"""
    text_dropout: float = 0.1
    token_dropout: float = 0.0
    """share of the text's tokens that are hidden, each on its own: what is asked for has to be found in the others"""
    text_noise: float = 0.0
    """standard deviation of noise on the text's states, whose root mean square is 1: a word never heard lies beside
    those that were"""
    scalar_dropout: float = 0.15
    """each of duration, bpm, key, beats per bar, on its own"""
    grid_dropout: float = 0.1
    chord_dropout: float = 0.2
    all_dropout: float = 0.05
    """text, scalars and grid together: the unconditional branch of guidance"""
    mask_probability: float = 0.25
    """share of items trained as inpainting (prefix, suffix, middle or several regions given)"""
    given_weight: float = 0.1
    """loss weight of the frames that are given"""
    logit_mean: float = 0.0
    logit_std: float = 1.0
    validate_every: int = 500
    validate_clips: int = 64
    evaluate_every: int | None = None
    """steps between evaluations by ear (training/watch.py), and one at the end; null = none"""
    evaluate_clips: int = 8
    evaluate_steps: int = 12
    evaluate_guidance: float = 2.5
    demo_clips: int = 2
    """clips that an evaluation also makes at each strength of `demo_guidance`, for the tracker"""
    demo_guidance: list[float] = dataclasses.field(default_factory=lambda: [1.0, 4.0])
    """guidance scales beside `evaluate_guidance`; 1 = none"""
    best_metric: str = "validation/all"
    """the figure whose best weights are kept in `output_dir/best` while `evaluate_every` is set"""
    text_encoder: str | None = None
    """folder of the text encoder for evaluation; null = the one that the latents were made with"""
    tagger: str = "checkpoints/tagger"
    beat_tracker: str = "checkpoints/beat_tracker"
    key_network: str = "checkpoints/key"
    """listeners of the evaluation; one that is not there leaves its figures out"""


def parse_config(config_class: type[Config], argv: list[str] | None = None) -> Config:
    """Defaults < YAML file (`--config FILE`) < command line.

    Exits with code 2 and one line on stderr for a missing file or an unknown key (naming the nearest valid one).
    """
    argv, absent = take_nulls(list(sys.argv[1:] if argv is None else argv), config_class)
    names = [field.name for field in dataclasses.fields(config_class)]
    parser = HfArgumentParser(config_class, allow_abbrev=False)
    parser.add_argument("--config", default=None, help="YAML file with any of these keys")
    known = vars(parser.parse_known_args(argv)[0])
    if known["config"] is not None:
        path = Path(known["config"])
        if not path.is_file():
            parser.error(f"--config {path}: no such file")
        values = yaml.safe_load(path.read_text()) or {}
        for key in values:
            if key not in names:
                nearest = difflib.get_close_matches(key, names, n=1)
                parser.error(f"{path}: unknown key {key!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else ""))
        kinds = {field.name: field.type for field in dataclasses.fields(config_class)}
        # PyYAML reads 3e-4 as a string; the field's type decides.
        parser.set_defaults(**{k: float(v) if kinds[k] is float and v is not None else v for k, v in values.items()})
    arguments = vars(parser.parse_args(argv))
    config = config_class(**{name: None if name in absent else arguments[name] for name in names})
    problem = invalid(config)
    if problem:
        parser.error(problem)
    return config


def take_nulls(argv: list[str], config_class: type) -> tuple[list[str], set[str]]:
    """Take `--name null` and `--name=null` out of a command line, for the settings that YAML may set to null too.

    Returns what is left, and the names that were set to null.
    """
    # Not `field.type`, which HfArgumentParser overwrites with the type without None.
    optional = {f"--{name}" for name, kind in get_type_hints(config_class).items() if type(None) in get_args(kind)}
    left: list[str] = []
    absent: dict[str, bool] = {}
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in optional:
            left.append(word)
            continue
        value = value if equals else next(words, None)
        absent[name[2:]] = value == "null"  # the last one counts, as in argparse
        if value != "null":
            left += [name] if value is None else [name, value]
    return left, {name for name, null in absent.items() if null}


def command(main: Callable[[], object]) -> NoReturn:
    """Run a stage as a program: what the user can mend is one line on stderr and exit code 2, not a traceback.

    A number that `main` returns is the exit code; Ctrl-C is 130, as in a shell.
    """
    try:
        code = main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, OSError, FloatingPointError) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(code if isinstance(code, int) else 0)


NOT_NEGATIVE = {
    "text_noise",
    "adversarial_weight",
    "feature_weight",
    "discriminator_start",
    "discriminator_warmup_steps",
    "demo_clips",
}


def invalid(config: object) -> str | None:
    """The first value out of range, as one line, or None."""
    positive = {
        "max_steps",
        "batch_size",
        "gradient_accumulation_steps",
        "crop_frames",
        "learning_rate",
        "num_threads",
        "log_every",
        "checkpoint_every",
        "checkpoint_minutes",
        "keep_checkpoints",
        "max_minutes",
        "validate_every",
        "evaluate_every",
        "evaluate_clips",
        "evaluate_steps",
        "max_text_tokens",
        "discriminator_filters",
        "discriminator_learning_rate",
    }
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, float) and value != value:
            return f"{field.name} is NaN"
        if field.name in positive and value is not None and not value > 0:
            return f"{field.name} is {value}; allowed: above 0"
        if field.name in NOT_NEGATIVE and value < 0:
            return f"{field.name} is {value}; allowed: at least 0"
        if field.name.endswith(("_dropout", "_probability")) and not 0.0 <= value <= 1.0:
            return f"{field.name} is {value}; allowed: 0 to 1"
        if field.name == "ema_decay" and not 0.0 <= value < 1.0:
            return f"{field.name} is {value}; allowed: 0 to below 1"
        if field.name == "demo_guidance" and any(scale < 0.0 for scale in value):
            return f"demo_guidance is {value}; allowed: scales of at least 0"
    if getattr(config, "mixed_precision", "no") not in ("no", "bf16", "fp16"):
        return f"mixed_precision is {config.mixed_precision!r}; allowed: 'no', 'bf16', 'fp16'"
    return None


def load_model_config(path: str, model_class: type) -> dict:
    """Read an architecture JSON, refusing keys that the class does not take (diffusers would only log them)."""
    values = json.loads(Path(path).read_text())
    allowed = set(inspect.signature(model_class.__init__).parameters) - {"self"}
    for key in values:
        if not key.startswith("_") and key not in allowed:
            nearest = difflib.get_close_matches(key, allowed, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise ValueError(f"{path}: {model_class.__name__} has no argument {key!r}{hint}")
    return {key: value for key, value in values.items() if not key.startswith("_")}
