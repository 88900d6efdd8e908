"""The settings of a run: one frozen dataclass a command, filled from a YAML file and then from the command line.

    python -m training.train_unet --config training/configs/small/unet.yaml --learning_rate 2e-4

Each setting is one line, `name: type = option(default, help, range)`. From it come the command line, its `--help`, what
a YAML file may hold, the check of the range, and whether a run that goes on may have another value.

The architecture of a model is not here: it is the JSON beside the YAML, with the very keys of the published
`config.json`, and a key that the class does not know is an error.
"""

import argparse
import dataclasses
import difflib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import yaml

Config = TypeVar("Config")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Range:
    """The values that a setting may have; a list is within it if each of its entries is."""

    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple = ()

    def holds(self, value: Any) -> bool:
        """Whether a value, None being always allowed, is within the range."""
        if value is None:
            return True
        if isinstance(value, list):
            return bool(value) and all(map(self.holds, value))
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
            and (not self.choices or value in self.choices)
        )

    def __str__(self) -> str:
        """The range in words; nothing if every value is allowed."""
        if self.choices:
            return ", ".join(map(repr, self.choices))
        low = None if self.above is None else f"above {self.above}"
        low = low if self.at_least is None else f"at least {self.at_least}"
        high = None if self.at_most is None else f"{self.at_most}"
        high = high if self.below is None else f"below {self.below}"
        if low and high:
            return f"{low.removeprefix('at least ')} to {high}"
        return low or (f"up to {high}" if high else "")


def option(
    default: Value,
    help: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    choices: tuple = (),
    free: bool = False,
) -> Value:
    """A setting of a command: a dataclass field with all that there is to know about it.

    A subclass that only has another default writes `name: type = default`; help and range stay those of its base.

    Args:
        default: a list is copied.
        help: what `--help` says, before the range and the default.
        above, at_least, at_most, below, choices: the range; of a list, that of each entry.
        free: a run that goes on from a checkpoint may have another value than before, since it changes when and where
            something is done but not what is computed.
    """
    metadata = {"help": help, "range": Range(above, at_least, at_most, below, choices), "free": free}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def share(default: float, help: str) -> float:
    """A setting from 0 to 1."""
    return option(default, help, at_least=0, at_most=1)


def about(config_class: type, name: str) -> Mapping[str, Any]:
    """What `option` says of a setting, in the class or, if that only has another default, in a base of it."""
    for owner in config_class.__mro__:
        field = getattr(owner, "__dataclass_fields__", {}).get(name)
        if field is not None and field.metadata:
            return field.metadata
    raise TypeError(f"{config_class.__name__}.{name} is no option(...)")


@dataclass(frozen=True)
class RunConfig:
    """What every training stage shares."""

    output_dir: str = option("runs/small/stage", "run folder: checkpoints, logs, settings, final weights", free=True)
    init_from: str | None = option(
        None,
        "folder of weights to start a new run from, in their own architecture; a run that has checkpoints goes on from "
        "its own. Of stage 3 also a checkpoint folder; a network without notes gains those of model_config",
    )
    seed: int = option(0, "of the order of items, of crops and of noise", at_least=0)
    max_steps: int = option(1000, "optimiser steps of the whole run; the learning-rate schedule spans them", above=0)
    max_minutes: float | None = option(
        None, "stop with a checkpoint and final weights after this much wall time", above=0, free=True
    )
    batch_size: int = option(16, "items an optimiser step, over all processes and accumulation steps", above=0)
    gradient_accumulation_steps: int = option(1, "parts that the batch of a process is computed in", above=0)
    learning_rate: float = option(1e-3, "highest learning rate of AdamW", above=0)
    weight_decay: float = option(
        0.01, "weight decay of AdamW, on the matrices and kernels alone (training/run/trainer.py)", at_least=0
    )
    lr_scheduler: str = option("cosine", "learning-rate schedule, by any name that diffusers' get_scheduler takes")
    warmup_steps: int = option(50, "steps over which the learning rate rises from 0", at_least=0)
    max_grad_norm: float = option(1.0, "norm that gradients are clipped to", above=0)
    mixed_precision: str = option("no", "number format of the forward pass", choices=("no", "bf16", "fp16"))
    num_threads: int = option(1, "CPU threads a process; one is fastest beside other work", above=0, free=True)
    log_every: int = option(25, "steps between lines of the log", above=0, free=True)
    checkpoint_every: int = option(500, "steps between checkpoints", above=0, free=True)
    checkpoint_minutes: float = option(
        5.0, "also write a checkpoint when this much time has passed since the last", above=0, free=True
    )
    keep_checkpoints: int = option(2, "how many checkpoints, the newest, are kept", above=0, free=True)
    force: bool = option(
        False, "go on with a run although settings or data differ from those of its checkpoint", free=True
    )
    tracker: str | None = option("tensorboard", "where the log goes: any tracker of Accelerate by name", free=True)


@dataclass(frozen=True)
class StageRun(RunConfig):
    """What stages 1 and 3 share."""

    model_config: str = option(
        "training/configs/small/unet.json", "architecture: JSON of the arguments of the model's class"
    )
    data_dir: str = option("data/scorebook", "folder written by the stage before", free=True)
    crop_frames: int = option(64, "latent frames of an item", above=0)
    ema_decay: float = option(
        0.999, "decay of the averaged weights, those that are saved at the end", at_least=0, below=1
    )
    compile: bool = option(False, "compile the network with torch.compile", free=True)
    num_workers: int = option(0, "data-loader processes; 0 = none but this one", at_least=0, free=True)
    dry_run: bool = option(
        False, "print parameters, memory, batch, epochs and time; train nothing, write nothing", free=True
    )


@dataclass(frozen=True)
class AutoencoderRun(StageRun):
    """Stage 1: train the autoencoder on clips of audio."""

    model_config: str = "training/configs/small/autoencoder.json"
    output_dir: str = "runs/small/autoencoder"
    log_weight: float = option(1.0, "weight of the L1 between log magnitudes, weighted by band", at_least=0)
    mel_weight: float = option(1.0, "weight of the L1 between log-mel magnitudes", at_least=0)
    power_weight: float = option(1.0, "weight of the L1 between magnitudes to the power 0.3", at_least=0)
    image_weight: float = option(
        1.0, "weight of the L1 between levels of the stereo image, where stereo_bands codes it", at_least=0
    )
    low_weight: float = option(
        1.0, "weight of the L1 between log magnitudes of the long window, where low_size asks for them", at_least=0
    )
    stft_weight: float = option(
        1.0, "weight of the distance of magnitudes; of AutoencoderEncodec alone, which gives audio", at_least=0
    )
    waveform_weight: float = option(
        0.1, "weight of the L1 between samples; of AutoencoderEncodec alone, which gives audio", at_least=0
    )
    kl_weight: float = option(1e-3, "weight of the KL divergence of the posterior from a standard normal", at_least=0)
    adversarial_weight: float = option(
        0.0, "weight of the hinge loss of the discriminators; with this and feature_weight 0 there are none", at_least=0
    )
    feature_weight: float = option(
        0.0, "weight of the distance between the discriminators' features of input and output", at_least=0
    )
    balance: bool = option(
        False, "weights are shares of the gradient at the output (EnCodec's balancer), not factors of the losses"
    )
    discriminator_filters: int = option(32, "filters of each discriminator", above=0)
    discriminator_learning_rate: float = option(3e-4, "highest learning rate of the discriminators", above=0)
    discriminator_start: int = option(0, "steps before the discriminators are trained", at_least=0)
    discriminator_warmup_steps: int = option(
        0, "steps that the discriminators learn before the autoencoder is trained against them", at_least=0
    )
    freeze_encoder: bool = option(
        False, "train the decoder alone, so that latents, and what was trained on them, stay valid"
    )
    latent_noise: float = option(
        0.1, "standard deviation of noise added to the latents, so that the decoder bears generated ones", at_least=0
    )
    pca_clips: int = option(200, "clips from which the linear path starts; 0 = a random start", at_least=0)
    validate_every: int = option(500, "steps between validations", above=0, free=True)
    validate_clips: int = option(32, "clips of a validation", above=0)
    demo_clips: int = option(
        2, "validation clips that the tracker gets, as they are and decoded, with spectrograms", at_least=0, free=True
    )


@dataclass(frozen=True)
class LatentsRun:
    """Stage 2: encode clips and captions, once, for stage 3."""

    autoencoder: str = option("runs/small/autoencoder/final", "folder of the autoencoder")
    text_encoder: str = option(
        "runs/small/text_aligned", "folder with text_encoder/ and tokenizer/; a checkpoint folder has both"
    )
    data_dir: str = option("data/scorebook", "folder of clips: training.data.scorebook's or training.data.prepare's")
    output_dir: str = option("latents/small", "folder to write; what is there and still right is used again")
    reuse_from: str | None = option(
        None,
        "folder of other latents, from which is copied what was made of the same clips by the same autoencoder, or of "
        "the same captions by the same text encoder",
    )
    num_threads: int = option(1, "CPU threads", above=0)
    num_workers: int = option(0, "threads that read audio ahead of the autoencoder; a GPU needs some", at_least=0)
    importance: float = share(
        0.0,
        "latents are scaled so that channels on which more of the sound hangs have a variance above 1: their "
        "importance to this power. With 1 equal errors are equally audible, with 0 all variances are 1",
    )
    retellings: int = option(
        0,
        "more captions for each training clip with the scorebook's labels, in many words (training/text/rewording.py): "
        "a network that was trained on the scorebook's few words alone does not follow a user's",
        at_least=0,
    )


@dataclass(frozen=True)
class LatentRun(StageRun):
    """What stage 3 and distillation share: latents with their conditions, and which of these are left out."""

    data_dir: str = "latents/small"
    crop_frames: int = option(128, "latent frames of the longest item; shorter clips are padded", above=0)
    text_dropout: float = share(0.1, "share of items without text")
    token_dropout: float = share(
        0.0, "share of tokens that are hidden, each on its own, so that no word is the only clue"
    )
    text_noise: float = option(
        0.0,
        "standard deviation of noise on the text's states, whose root mean square is 1, for unseen words",
        at_least=0,
    )
    scalar_dropout: float = share(0.15, "share of items without duration, bpm, key or beats per bar, each on its own")
    grid_dropout: float = share(0.1, "share of items without beats and chords")
    chord_dropout: float = share(0.2, "share of items with beats that have no chords")
    note_dropout: float = share(0.2, "of a network with notes: share of items in which every role is free")
    role_dropout: float = share(
        0.5,
        "share of the others in which each role is free with probability one half, so that a role without notes comes "
        "to mean: play what fits. A role that does not play in the clip says so unless it is dropped",
    )
    span_dropout: float = share(0.2, "share of items in which all roles, or some, are free in a span of bars")
    instrument_dropout: float = share(0.3, "share of roles whose instrument is unknown, each on its own")
    velocity_spread: float = option(
        0.0,
        "the velocities of each role are multiplied by 2 to a power of up to this, or divided: parts are mixed to a "
        "level, so that only differences of velocity are heard",
        at_least=0,
    )
    reference_dropout: float = share(0.5, "of a network with a reference: share of items whose sound is free")
    all_dropout: float = share(0.05, "share of items without any condition: the unconditional branch of guidance")
    mask_probability: float = share(
        0.25, "share of items trained as inpainting: beginning, end, middle or several regions given"
    )
    given_weight: float = option(0.1, "weight in the loss of the frames that are given", at_least=0)
    logit_mean: float = option(0.0, "mean of the logit of the noise level that a flow scheduler trains on")
    logit_std: float = option(1.0, "standard deviation of that logit", above=0)
    validate_every: int = option(500, "steps between validations", above=0, free=True)
    validate_clips: int = option(64, "clips of a validation", above=0)


@dataclass(frozen=True)
class AdapterRun(LatentRun):
    """What stage 3 and rewards share: an adapter may be trained in place of the network."""

    lora_rank: int | None = option(
        None,
        "train a LoRA adapter of this rank for the checkpoint folder init_from, and none of its own weights "
        "(training/lora.py); null = train the network",
        at_least=1,
        at_most=1024,
    )
    lora_alpha: float | None = option(
        None, "the adapter is scaled by this over its rank; null = the rank, which makes 1", above=0
    )


@dataclass(frozen=True)
class UNetRun(AdapterRun):
    """Stage 3: train the UNet on latents."""

    output_dir: str = "runs/small/unet"
    scheduler_config: str = option(
        "training/configs/small/scheduler.json",
        "JSON of a scheduler with `_class_name`; it decides the noise process and the target (training/flow.py)",
    )
    evaluate_every: int | None = option(
        None, "steps between evaluations of generated clips (training/watch.py); null = none", above=0, free=True
    )
    evaluate_clips: int = option(8, "clips of such an evaluation", above=0, free=True)
    evaluate_steps: int = option(12, "inference steps of an evaluation", above=0, free=True)
    evaluate_guidance: float = option(2.5, "guidance scale of an evaluation", at_least=0, free=True)
    demo_clips: int = option(
        2, "clips that an evaluation also makes at each scale of demo_guidance, for the tracker", at_least=0, free=True
    )
    demo_guidance: list[float] = option(
        [1.0, 4.0], "guidance scales beside evaluate_guidance; 1 = none", at_least=0, free=True
    )
    best_metric: str = option(
        "validation/all", "figure whose best weights are kept in output_dir/best, with evaluate_every", free=True
    )
    text_encoder: str | None = option(
        None, "folder of the text encoder for evaluations; null = the one that made the latents", free=True
    )
    tagger: str = option(
        "checkpoints/tagger", "folder of the tagger for evaluations; without one its figures are left out", free=True
    )
    beat_tracker: str = option("checkpoints/beat_tracker", "folder of the beat tracker, likewise", free=True)
    key_network: str = option("checkpoints/key", "folder of the key network, likewise", free=True)


class Parser(argparse.ArgumentParser):
    """argparse prints its usage before an error; here an error is one line."""

    def error(self, message: str) -> NoReturn:
        print("error: " + " ".join(message.split()), file=sys.stderr)
        raise SystemExit(2)


def reader(kind: type, nullable: bool) -> Callable[[str], Any]:
    """What makes a value of a type of a word of the command line; "null" is None where that is allowed."""

    def read(word: str) -> Any:
        if nullable and word == "null":
            return None
        if kind is bool:
            truth = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(word.lower())
            if truth is None:
                raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
            return truth
        try:
            return kind(word)
        except ValueError:
            wanted = {int: "a whole number", float: "a number"}[kind]
            raise argparse.ArgumentTypeError(f"{word!r} is not {wanted}") from None

    return read


def make_parser(config_class: type) -> Parser:
    """The command line of a dataclass of options: one `--name` a field, and `--config`."""
    parser = Parser(description=inspect.getdoc(config_class), allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of these settings; the command line wins")
    kinds = get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        kind, default = kinds[field.name], getattr(config_class(), field.name)
        nullable = isinstance(kind, UnionType)  # X | None
        kind = get_args(kind)[0] if nullable else kind
        settings: dict[str, Any] = {"default": default}
        if get_origin(kind) is list:
            kind, settings["nargs"] = get_args(kind)[0], "+"
        elif kind is bool:
            settings |= {"nargs": "?", "const": True}
        allowed = about(config_class, field.name)["range"]
        shown = " ".join(map(str, default)) if isinstance(default, list) else default
        shown = "null" if shown is None else str(shown).lower() if kind is bool else shown
        ends = [f"allowed: {allowed}"] * bool(str(allowed)) + [f"default: {shown}"]
        text = f"{about(config_class, field.name)['help']} ({'; '.join(ends)})".replace("%", "%%")
        names = dict.fromkeys((f"--{field.name}", f"--{field.name.replace('_', '-')}"))
        for name in names:  # `--max-steps` is taken too, and not shown
            parser.add_argument(name, type=reader(kind, nullable), metavar=kind.__name__.upper(), help=text, **settings)
            text = argparse.SUPPRESS
        if kind is bool and default:
            off = (f"--no_{field.name}", f"--no-{field.name.replace('_', '-')}")
            parser.add_argument(*off, dest=field.name, action="store_false", help="sets it to false")
    return parser


def parse_config(config_class: type[Config], argv: list[str] | None = None) -> Config:
    """Defaults < YAML file (`--config FILE`) < command line.

    Exits with code 2 and one line on stderr for a missing file, an unknown key (naming the nearest valid one), or a
    value of another type or out of range.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser(config_class)
    config_file = parser.parse_args(argv).config
    if config_file is not None:
        argv = words_of(Path(config_file), [field.name for field in dataclasses.fields(config_class)], parser) + argv
    values = vars(parser.parse_args(argv))
    del values["config"]
    config = config_class(**values)
    problem = invalid(config)
    if problem:
        parser.error(problem)
    return config


def words_of(path: Path, names: list[str], parser: Parser) -> list[str]:
    """The settings of a YAML file as words of the command line, so that both are read and checked alike."""
    if not path.is_file():
        parser.error(f"--config {path}: no such file")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        parser.error(f"{path}: {error}")
    if not isinstance(values, dict):
        parser.error(f"{path} holds no settings; allowed: lines of `name: value`")
    words = []
    for key, value in values.items():
        if key not in names:
            nearest = difflib.get_close_matches(key, names, n=1)
            parser.error(f"{path}: unknown key {key!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else ""))
        if isinstance(value, list):
            words += [f"--{key}", *map(str, value)]
        else:
            words.append(f"--{key}={'null' if value is None else value}")
    return words


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


def invalid(config: object) -> str | None:
    """The first value out of range, as one line, or None."""
    for field in dataclasses.fields(config):
        value, allowed = getattr(config, field.name), about(type(config), field.name)["range"]
        if isinstance(value, float) and value != value:
            return f"{field.name} is NaN"
        if not allowed.holds(value):
            each = "one or more " + ("of " if allowed.choices else "numbers of ") if isinstance(value, list) else ""
            return f"{field.name} is {value!r}; allowed: {each}{allowed}"
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
