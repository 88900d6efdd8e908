"""Which code a figure comes from."""

import subprocess

import pytest

from training.metrics import provenance
from training.run import checkpoints


@pytest.fixture
def git(tmp_path):
    """Runs git in a new repository in tmp_path/repository with one commit; gives what it prints."""
    folder = tmp_path / "repository"
    folder.mkdir()

    def run(*words: str) -> str:
        settings = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *settings, *words], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    run("init", "--quiet")
    (folder / "code.py").write_text("print(1)\n")
    run("add", "code.py")
    run("commit", "--quiet", "-m", "first")
    return run


def test_a_commit_is_its_digits_and_a_plus_where_files_differ(git, tmp_path):
    folder = tmp_path / "repository"
    head = git("rev-parse", "HEAD")
    assert checkpoints.git_commit(folder) == head[:12]
    git("tag", "-a", "v1", "-m", "a release")
    (folder / "result.json").write_text("{}")  # not tracked
    assert checkpoints.git_commit(folder) == head[:12]
    (folder / "code.py").write_text("print(2)\n")
    assert checkpoints.git_commit(folder) == head[:12] + "+"


def test_there_is_no_commit_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert checkpoints.git_commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")  # no git at all
    assert checkpoints.git_commit() is None


def test_runs_and_figures_name_the_same_commit(tmp_path):
    assert provenance.provenance(tmp_path)["commit"] == checkpoints.provenance(str(tmp_path))["git_commit"]
