"""Run tasks by name, and their results as a table."""

import time
from collections.abc import Callable

from tqdm import tqdm

from training.tasks.common import Bench, Figure
from training.tasks.compose import compose
from training.tasks.contract import contract, level
from training.tasks.edits import edits, tempo
from training.tasks.exclusions import exclusions
from training.tasks.grid import control, lengths
from training.tasks.long import long, texts
from training.tasks.loops import loops
from training.tasks.notes import notes, parts, timbre
from training.tasks.sounds import sounds
from training.tasks.speed import speed

TASKS: dict[str, Callable[[Bench, int], list[Figure]]] = {
    "lengths": lengths,
    "control": control,
    "loops": loops,
    "edits": edits,
    "tempo": tempo,
    "long": long,
    "texts": texts,
    "exclusions": exclusions,
    "notes": notes,
    "timbre": timbre,
    "parts": parts,
    "sounds": sounds,
    "contract": contract,
    "level": level,
    "speed": speed,
    "compose": compose,
}
# Clips of a task; others have `USUAL_COUNT`.
COUNTS = {
    "loops": 100, "control": 32, "tempo": 200, "edits": 32, "exclusions": 100, "notes": 96, "timbre": 12, "sounds": 24,
    "compose": 48,
}  # fmt: skip
USUAL_COUNT = 16


def choose_tasks(names: str) -> list[str]:
    """Names of tasks, comma-separated, or "all". Raises a ValueError for an unknown name."""
    chosen = list(TASKS) if names == "all" else [name.strip() for name in names.split(",")]
    for name in chosen:
        if name not in TASKS:
            raise ValueError(f"tasks has {name!r}; allowed: all, or some of {', '.join(TASKS)}")
    return chosen


def run_tasks(bench: Bench, names: list[str], quick: int | None) -> dict:
    """Run tasks of `TASKS`; the figures of each, and how long it took. `quick` is a number of clips for each task in
    place of its own; some tasks use fewer."""
    result: dict[str, dict] = {}
    for name in tqdm(names, desc="tasks", unit="task", disable=None):
        began = time.monotonic()
        count = COUNTS.get(name, USUAL_COUNT) if quick is None else quick
        figures = TASKS[name](bench, count)
        result[name] = {"figures": [vars(figure) for figure in figures], "wall_s": round(time.monotonic() - began, 1)}
    return result


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value == int(value) else f"{value:.2g}" if abs(value) < 0.01 else f"{value:.3f}"


def markdown(result: dict) -> str:
    """The figures as one markdown table."""
    lines = ["| task | figure | value | wanted | met | beside | n |", "|---|---|---|---|---|---|---|"]
    for task, done in result.items():
        for figure in done["figures"]:
            beside = ", ".join(f"{name} {number(value)}" for name, value in figure["beside"].items())
            met = {None: "", True: "yes", False: "**no**"}[figure["met"]]
            cells = [task, figure["name"], number(figure["value"]), figure["wanted"], met, beside, str(figure["count"])]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
