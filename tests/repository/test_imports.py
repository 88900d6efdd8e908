"""The house rules that an import statement can break: who may import whom, what is published alone, file size."""

import ast
import sys
from pathlib import Path

from diffusers.utils.dynamic_modules_utils import get_relative_imports

from tests.conftest import ROOT

PIPELINE = ROOT / "pipelines" / "pipeline_vivace.py"
# Published beside the pipeline's file.
HELPERS = sorted([*(ROOT / "pipelines").glob("vivace_*.py"), ROOT / "pipelines" / "composer_vivace.py"])
PUBLISHED = [
    *sorted((ROOT / "autoencoder").glob("autoencoder_*.py")),
    PIPELINE,
    *HELPERS,
    ROOT / "pipelines" / "unet_1d_condition_vivace.py",
]
OURS = {"app", "autoencoder", "page", "pipelines", "space", "training", "benchmarks", "tests"}
MAY_IMPORT = {
    "autoencoder": {"autoencoder"},
    "pipelines": {"pipelines"},
    "training": {"training", "pipelines", "autoencoder"},
    "app.py": {"pipelines", "page"},
    "page": {"pipelines", "page"},
    "space": {"pipelines"},
}
LINE_LIMIT = 700


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere; relative imports count as '.'."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." if node.level else node.module.split(".")[0])
    return found


def sources() -> list[Path]:
    tops = [ROOT / top for top in ("autoencoder", "page", "pipelines", "space", "training")]
    return [ROOT / "app.py", *(path for top in tops for path in sorted(top.rglob("*.py")))]


def siblings(path: Path) -> set[str]:
    """Stems that a file imports from its own folder."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom) and node.level]
    return {node.module for node in nodes}


def test_published_files_stand_alone():
    # Reading and writing audio files needs a library: inside the function that does it, with an error that names it.
    allowed = set(sys.stdlib_module_names) | {"torch", "numpy", "diffusers", "transformers"}
    for path in PUBLISHED:
        more = {"."} if path in (PIPELINE, *HELPERS) else set()
        assert imported(path) <= allowed | more, f"{path.name} imports {imported(path) - allowed - more}"


def test_the_pipeline_names_every_helper():
    """diffusers loads from the Hub only the helpers that the pipeline's own file names."""
    named, stems = siblings(PIPELINE), {path.stem for path in HELPERS}
    assert named == stems
    for path in HELPERS:
        assert siblings(path) <= stems, f"{path.name} imports {siblings(path) - stems}"
        assert "pipeline_vivace" not in siblings(path)


def test_diffusers_finds_the_same_helpers():
    """It looks for lines that begin with `from .name import`, docstrings included."""
    for path in (PIPELINE, *HELPERS):
        assert set(get_relative_imports(path)) == siblings(path), path.name


def test_no_circle_of_published_files():
    """diffusers fetches what a fetched file imports, and would never come to an end."""
    needed = {path.stem: siblings(path) for path in (PIPELINE, *HELPERS)}
    while needed:
        free = {stem for stem, others in needed.items() if not others & needed.keys()}
        assert free, f"circle among {sorted(needed)}"
        needed = {stem: others for stem, others in needed.items() if stem not in free}


def test_published_stems_are_unique_to_this_project():
    stems = [path.stem for path in PUBLISHED]
    assert len(set(stems)) == len(stems)
    assert all("vivace" in stem or "encodec" in stem for stem in stems)


def test_who_imports_whom():
    for path in sources():
        top = path.relative_to(ROOT).parts[0]
        extra = (imported(path) & OURS) - MAY_IMPORT[top]
        assert not extra, f"{path.relative_to(ROOT)} imports {extra}"


def test_only_training_imports_accelerate():
    for path in sources():
        if path.relative_to(ROOT).parts[0] != "training":
            assert "accelerate" not in imported(path), path


def test_nothing_asks_for_forbidden_audio_libraries():
    for path in sources():
        assert not imported(path) & {"torchaudio", "torchcodec", "flash_attn", "xformers"}, path


def test_files_stay_small():
    for path in sources():
        lines = len(path.read_text().splitlines())
        assert lines <= LINE_LIMIT, f"{path.relative_to(ROOT)} has {lines} lines"


# What only POSIX systems have: Windows has none of it, macOS not all. Beside these, the standard library of Linux.
POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
POSIX_NAMES = {
    "chown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getpriority", "getuid",
    "kill", "killpg", "lchown", "mkfifo", "nice", "sched_getaffinity", "sched_setaffinity", "setpriority", "setsid",
    "sysconf", "uname", "SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "AF_UNIX",
}  # fmt: skip


def posix_only(source: str) -> list[str]:
    """Uses of what only POSIX systems have that no `except AttributeError` or `except ImportError` catches."""
    tree, guarded = ast.parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            caught = {name.id for handler in node.handlers if handler.type for name in ast.walk(handler.type)
                      if isinstance(name, ast.Name)}  # fmt: skip
            if caught & {"AttributeError", "ImportError"}:
                guarded |= {id(inner) for part in node.body for inner in ast.walk(part)}
    found = []
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in ("os", "signal", "socket") and node.attr in POSIX_NAMES:
                found.append(f"{node.value.id}.{node.attr}")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [name for name in names if name.split(".")[0] in POSIX_MODULES]
    return found


def test_what_users_run_needs_nothing_that_windows_has_not():
    for folder in ("pipelines", "autoencoder", "page"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            assert not posix_only(path.read_text()), path
    assert set(posix_only("import os\nos.getuid()\nimport fcntl")) == {"os.getuid", "fcntl"}
    assert not posix_only("import os\ntry:\n    os.getuid()\nexcept AttributeError:\n    pass")
