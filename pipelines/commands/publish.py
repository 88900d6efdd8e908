"""A checkpoint or a finished training run -> a repository on the Hub, with its code, card, figures and samples."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from pipelines.commands import arguments

EXAMPLES = """examples:
  vivace publish checkpoints/small --repo user/vivace-small
  vivace publish runs/mine --repo user/mine --private --tag v1
  vivace publish checkpoints/mine --repo user/mine --figures runs/evaluate.json --license cc-by-4.0 --space

log in first: hf auth login. Publishing again replaces the files and leaves none of an older version."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", help="checkpoint folder, or run folder of stage 3 (with final/ and config.json)")
    add("--repo", required=True, help="user/name on the Hub; made if it does not exist")
    add("--private", action="store_true", help="a new repository is for you alone")
    add("--tag", help="name of this version, as in v1")
    add("--figures", metavar="JSON", help="result of training.evaluate of these weights, for the card")
    add("--license", help="of the weights, as the Hub writes it; default: as in the card there, else apache-2.0")
    add("--samples", type=int, default=3, help="pieces to make for the card, 0 to 3; default 3")
    add("--space", action="store_true", help="also publish the page, as user/name-demo")
    add("--dry_run", metavar="FOLDER", help="write what would be uploaded to this new folder, and upload nothing")
    arguments.add_json(parser)


def run_module(*words: str) -> None:
    """Run a program of this project that `pipelines` does not import. Raises a RuntimeError if it fails, with its last
    line."""
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(f"python -m {' '.join(words)}: {lines[-1] if lines else f'exit code {done.returncode}'}")


def find_source(source: str, scratch: Path) -> Path:
    """The checkpoint to publish; a run is exported first. Raises a ValueError if it is neither."""
    folder = Path(source)
    if (folder / "final").is_dir() and (folder / "config.json").is_file():
        run_module("training.export", "--run", source, "--output_dir", str(scratch / folder.name))
        return scratch / folder.name
    return folder


def run(args: argparse.Namespace) -> int:
    from huggingface_hub.utils import validate_repo_id

    from pipelines.hub import quiet_libraries
    from pipelines.upload import push, stage

    validate_repo_id(args.repo)
    if args.repo.count("/") != 1:
        raise ValueError(f"repo is {args.repo!r}; allowed: user/name")
    if args.dry_run is not None and Path(args.dry_run).exists():
        raise ValueError(f"dry_run is {args.dry_run!r}, which exists; give a new folder")
    quiet_libraries()
    with tempfile.TemporaryDirectory(prefix="vivace-") as scratch:
        source = find_source(args.source, Path(scratch))
        staged = Path(scratch, "staged", args.repo.rpartition("/")[2]) if args.dry_run is None else Path(args.dry_run)
        staged.parent.mkdir(parents=True, exist_ok=True)
        stage(source, staged, args.repo, args.figures, args.license, args.samples)
        result = {"repo": args.repo, "files": sum(path.is_file() for path in staged.rglob("*"))}
        result["megabytes"] = round(sum(path.stat().st_size for path in staged.rglob("*")) / 1e6, 1)
        if args.dry_run is None:
            result |= push(staged, args.repo, args.private, args.tag)
            if args.space:
                page = Path(scratch, "space")
                run_module("space.export", str(page), "--model", args.repo)
                result["space"] = push(page, f"{args.repo}-demo", args.private, kind="space")["url"]
    if args.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{name:<10} {value}" for name, value in result.items() if value is not None))
    return 0
