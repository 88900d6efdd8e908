"""A folder of your own music -> a LoRA adapter that plays in its style, for --lora."""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

from pipelines.commands import arguments

EXAMPLES = """examples:
  vivace finetune my_music --out mine
  vivace finetune my_music --out mine --dry_run              what is found, and how long it takes
  vivace generate "slow piano, 8 bars" --lora mine:0.8

given again, the same command goes on where it was stopped; more settings: python -m training.finetune --help"""
NEEDED = ("accelerate", "datasets", "librosa", "peft", "yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("music", help="folder of audio files, captions beside them or not (docs/own-music.md)")
    add("--out", default="mine", help="folder of the adapter to write; default mine")
    add("--checkpoint", help="what it is for: folder or user/name on the Hub; default checkpoints/small")
    add("--lora_rank", type=arguments.positive, help="more learns more, and overfits sooner; default 8")
    add("--max_steps", type=arguments.positive, help="steps of training; default 300")
    add("--max_minutes", type=arguments.number, help="stop training after so long; default: all steps")
    add("--learning_rate", type=arguments.number, help="highest learning rate; default 0.003")
    add("--pieces", type=int, help="made without and with the adapter, for what was gained and lost; default 8, 0 none")
    add("--seed", type=int, help="of the training and of the pieces; default 0")
    add("--threads", type=arguments.positive, help="CPU threads; default 1")
    add("--dry_run", action="store_true", default=None, help="say what was found and how long it takes, train nothing")


def run(args: argparse.Namespace) -> int:
    if not Path(args.music).exists():
        raise ValueError(f"music is {args.music!r}: no such folder")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"finetune needs {', '.join(missing)}: pip install 'vivace-music[train]'")
    words = {"music": args.music, "output_dir": args.out, "num_threads": args.threads}
    for name in ("checkpoint", "lora_rank", "max_steps", "max_minutes", "learning_rate", "pieces", "seed", "dry_run"):
        words[name] = getattr(args, name)
    given = [f"--{name}={value}" for name, value in words.items() if value is not None]
    return subprocess.run([sys.executable, "-m", "training.finetune", *given]).returncode
