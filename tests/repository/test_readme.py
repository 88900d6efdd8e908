"""Promises of README.md and docs/, checked: the quickstart, the first sound, links, the file tree, pages from code."""

import re
import runpy
import shlex
import subprocess
import sys
import tomllib

import pytest
import soundfile
import yaml

from tests.conftest import ROOT
from training.checkpoint_code import stale_files

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKED = "import sys\nfor name in ('autoencoder', 'pipelines', 'training', 'app'): sys.modules[name] = None\n"


def test_python_quickstart_runs_without_the_repository_importable(tmp_path):
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    block = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0]
    done = subprocess.run([sys.executable, "-c", BLOCKED + block], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert soundfile.info(tmp_path / "trio.wav").frames == 441000
    # 4 bars of 4 beats at 96 bpm are exactly 10 s of 24 kHz mono.
    assert "(1, 2, 441000) 44100 [7]" in done.stdout
    assert "'bpm': 96" in done.stdout


def test_first_command_writes_the_same_file_twice(tmp_path):
    command = re.findall(r"^\.venv/bin/(?:vivace|python -m pipelines\.)\s?generate (.*)$", README, flags=re.MULTILINE)[
        0
    ]
    files = []
    for name in ("first.wav", "second.wav"):
        arguments = shlex.split(command)
        arguments[arguments.index("--out") + 1] = str(tmp_path / name)
        run = [sys.executable, "-m", "pipelines.commands.main", "generate", *arguments, "--seed", "7"]
        done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert "A minor" in done.stdout and "72" in done.stdout
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    audio, rate = soundfile.read(tmp_path / "first.wav")
    assert len(audio) == 4 * 4 * 60 * rate // 72  # four bars at 72 bpm
    assert abs(audio).max() > 0.01


def test_python_files_named_in_the_tree_exist():
    (tree,) = re.findall(r"```\n(app\.py .*?)```", (ROOT / "docs" / "design.md").read_text(), flags=re.DOTALL)
    folder = ROOT
    for line in tree.splitlines():
        if not line.startswith(" "):
            folder = ROOT / line.split()[0]
            assert folder.exists(), line
            continue
        named = re.findall(r"\w+\.py", line)
        assert named or (folder / line.split()[0]).exists(), line
        assert [name for name in named if not (folder / name).is_file()] == [], line


def test_shipped_code_is_the_code_of_this_commit():
    stale = stale_files(ROOT / "checkpoints" / "small")
    assert not stale, f"run `make checkpoint-code`: {', '.join(stale)}"


def test_shipped_files_are_small():
    assert sum(path.stat().st_size for path in (ROOT / "checkpoints" / "small").rglob("*")) < 48e6


def anchors(page: str) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_every_page_is_listed_in_the_readme():
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in README, page.name


def test_the_readme_can_be_read_in_five_minutes():
    assert len(README.splitlines()) <= 170 and len(README.split()) <= 1500


def test_the_page_of_samples_plays_every_sample():
    samples = ROOT / "docs" / "samples"
    page = (samples / "index.html").read_text()
    played = re.findall(r'<audio [^>]*src="([^"]+)"', page)
    there = [*samples.glob("*.flac"), *samples.glob("composed/*.ogg")]
    assert sorted(played) == sorted(path.relative_to(samples).as_posix() for path in there)
    for source in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert (ROOT / "docs" / "samples" / source).is_file(), source


def test_pages_made_from_the_code_are_fresh():
    for name, make in runpy.run_path(str(ROOT / "docs" / "make_pages.py"))["PAGES"].items():
        assert (ROOT / "docs" / name).read_text() == make(), f"docs/{name} differs from the code: run `make docs`"


def test_the_citation_has_the_version_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project["version"] and citation["license"] == "Apache-2.0"
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()
