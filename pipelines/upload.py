"""A checkpoint folder -> a repository on the Hub: staged and checked here, then one commit, then the tag.

What is uploaded is a staged copy: the folder's own weights and code, an fp16 variant beside weights that are stored in
fp32, a card with the repository's name, samples. A commit on the Hub is whole or absent, and it also removes what the
folder no longer has, so that no file of an older version stays.
"""

import json
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

from pipelines.card import FIGURES, folder_hash, read_figures, read_notes, write_card
from pipelines.hub import ROOT, WEIGHTS, check_checkpoint, halve, load_published

SAMPLES = (  # (prompt, seed) of what a card lets people hear first
    ("mellow jazz trio with piano, upright bass and drums, 96 bpm, 4 bars", 1),
    ("slow solo piano in A minor, 72 bpm, 4 bars", 7),
    ("lively folk dance for flute and guitar in G major, 6/8, 100 bpm, 8 bars", 3),
)
# Of an older version, where the new one has no such file. LICENSE, README.md and whatever people add stay.
STALE = ["*.py", "*.json", "*.safetensors", "*.bin", "samples/*"]
LOCAL_FACTS = re.compile(r'"(?:_name_or_path|name_or_path|is_local|local_files_only)"')


def add_variant(folder: Path) -> None:
    """Half-precision weights as variant "fp16" beside the default ones, which stay as they are."""
    for part, stem in WEIGHTS.items():
        for path in sorted((folder / part).glob(f"{stem}.safetensors")):
            variant = path.with_name(f"{stem}.fp16.safetensors")
            shutil.copyfile(path, variant)
            halve(variant)


def stage(
    source: Path, folder: Path, repo: str, figures: str | None = None, licence: str | None = None, samples: int = 0
) -> dict:
    """Write into the new folder `folder` what the repository is to hold.

    Args:
        source: a checkpoint.
        folder: does not exist yet.
        repo: user/name, for the card.
        figures: JSON of `training.evaluate` of these very weights.
        licence: Hub's name of the weights' licence; None = as the card in `source` says.
        samples: how many pieces to make for the card, up to 3.

    Returns:
        The checkpoint's model_index.json.

    Raises:
        ValueError: a damaged checkpoint, figures of other weights, or a path of this machine in a configuration.
    """
    index = check_checkpoint(source)
    if not 0 <= samples <= len(SAMPLES):
        raise ValueError(f"samples is {samples}; allowed: whole numbers from 0 to {len(SAMPLES)}")
    measured = None if figures is None else read_figures(figures)
    if measured is not None and measured["checkpoint_sha256"] != folder_hash(source):
        raise ValueError(
            f"figures is {figures!r}, which measured other weights or settings than those in {source}; evaluate these"
        )
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(".*", "__pycache__", "samples"))
    for path in sorted(folder.rglob("*.json")):
        if LOCAL_FACTS.search(path.read_text()):
            raise ValueError(
                f"checkpoint {source}: {path.relative_to(folder)} tells a path of a machine; save it again"
            )
    if not (folder / "LICENSE").is_file() and licence in (None, "apache-2.0"):
        shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    if measured is not None:
        (folder / FIGURES).write_text(json.dumps(measured, indent=2) + "\n")
    add_variant(folder)
    write_card(folder, index, repo, read_notes(source), licence, make_samples(folder, samples))
    return index


def make_samples(folder: Path, count: int) -> list[dict]:
    """Pieces in folder/samples, made with the staged files themselves, which so are tried before they are uploaded."""
    if not count:
        return []
    pipe, rows = load_published(folder), []
    pipe.set_progress_bar_config(disable=True)
    (folder / "samples").mkdir()
    for number, (prompt, seed) in enumerate(SAMPLES[:count], 1):
        file = f"samples/{number}.flac"
        pipe(prompt, seed=seed).save(folder / file)
        rows.append({"file": file, "prompt": prompt, "seed": seed})
    return rows


@contextmanager
def plain_errors(repo: str):
    """What the Hub refuses, as one line.

    Raises:
        OSError: no token, no right, no network, an upload that broke off.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise OSError(
                f"the Hub refuses to write to {repo} ({status}); log in with a token that may: hf auth login"
            ) from error
        raise OSError(f"the Hub could not take {repo}; nothing was changed there, try again ({error})") from error
    except (OSError, RuntimeError, errors.HTTPError) as error:
        raise OSError(f"the upload to {repo} broke off; nothing was changed there, try again ({error})") from error


def push(folder: Path, repo: str, private: bool = False, tag: str | None = None, kind: str = "model") -> dict:
    """Make a repository hold what a folder holds, in one commit, and tag it.

    Args:
        folder: to upload.
        repo: user/name; made if it does not exist.
        private: of a new repository.
        tag: of the commit.
        kind: "model" or "space".

    Returns:
        `url`, `commit` and `tag`.

    Raises:
        ValueError: a name that is none, or a tag that exists.
        OSError: see `plain_errors`.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with plain_errors(repo):
        sdk = "gradio" if kind == "space" else None
        url = api.create_repo(repo, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk)
        taken = [ref.name for ref in api.list_repo_refs(repo, repo_type=kind).tags]
    if tag in taken:
        raise ValueError(f"tag is {tag!r}, which {repo} has already; give a new one")
    with plain_errors(repo):
        done = api.upload_folder(
            repo_id=repo,
            repo_type=kind,
            folder_path=folder,
            commit_message=f"Upload {folder.name}" if tag is None else f"Version {tag}",
            delete_patterns=STALE,
        )
        if tag is not None:
            api.create_tag(repo, repo_type=kind, tag=tag, revision=done.oid)
    return {"url": str(url), "commit": done.oid, "tag": tag}
