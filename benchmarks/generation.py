"""Seconds of audio per second, peak memory and cold start: our pipeline against its peers.

    python -m benchmarks.generation [--quick] [--peers "ACE-Step 1.5 turbo"] [--threads 2]

Each peer has the published size of its parts and random weights (benchmarks/peers.py) and runs in a process of its
own, beside ours; the two take turns. A peer whose default request would take longer than `--peer_budget_s` is run
for a few steps, and the rest is added at the median time between its passes: such figures are marked as estimates.
Where a full run fits, the estimate from few steps is kept beside it, which shows the error of estimates.

Cold start is from the start of the process to the first audio of the default request. Ours reads its weights from
disk; a peer's are made in memory, so its cold start is a lower bound: reading its checkpoint is not in it.
"""

import argparse
import statistics
import time

import torch

from benchmarks.harness import (
    Child,
    ChildError,
    alternate,
    available_memory,
    machine,
    pick_device,
    ratio,
    save,
    summary,
)
from benchmarks.peers import PEERS, count
from benchmarks.subjects import default_steps

OURS = "Vivace small"
BYTES = 4  # of an fp32 weight


def extended(answer: dict, few: int, steps: int) -> float:
    """Seconds that `steps` steps would take, from an answer for `few`: each further pass at the median distance."""
    return answer["seconds"] + (steps - few) * statistics.median(answer["between_passes"])


def weights_gb(name: str) -> float:
    """GB of the peer's fp32 weights at the published size, counted without allocating them."""
    with torch.device("meta"):
        return count(PEERS[name].parts(False))["sum"] * BYTES / 1e9


def measure(child: Child, steps: int, duration_s: float, run: int) -> tuple[float, dict]:
    """Seconds of one request of `steps` steps, of which `run` are run and the rest is added, and the child's answer."""
    answer = child.call(steps=run, duration_s=duration_s)
    return extended(answer, run, steps), answer


def side(child: Child, steps: int, duration_s: float, run_steps: int, first: dict | None = None) -> dict:
    """One side of a comparison; `run()` returns seconds for `steps`, `answers` collects the child's results."""
    answers = [] if first is None else [first]

    def run() -> float:
        seconds, answer = measure(child, steps, duration_s, run_steps)
        answers.append(answer)
        return seconds

    return {"run": run, "answers": answers}


def compare(name: str, options: argparse.Namespace) -> dict:
    """Ours against one peer. Raises a ChildError if the peer could not be run."""
    peer, duration_s = PEERS[name], options.duration_s
    steps, own_steps = peer.steps(duration_s), default_steps(options.checkpoint)
    size_gb = 0.0 if options.tiny else weights_gb(name)
    free_gb = available_memory() / 1e9
    if size_gb * 1.1 + 1.0 > min(free_gb, options.max_memory_gb):
        raise ChildError(
            f"its fp32 weights are {size_gb:.1f} GB; free {free_gb:.1f} GB, allowed {options.max_memory_gb:g} GB"
        )
    settings = {"threads": options.threads, "timeout_s": options.timeout_s}
    with Child("benchmarks.subjects:peer", {"name": name, "tiny": options.tiny}, **settings) as other:
        few = min(peer.few, steps)
        first = other.call(steps=few, duration_s=duration_s)
        estimate_s = extended(first, few, steps)
        cold_peer_s = other.ready_s + estimate_s
        with Child("benchmarks.subjects:ours", {"checkpoint": options.checkpoint}, **settings) as own:
            own_first = own.call(steps=own_steps, duration_s=duration_s)
            cold_ours_s = own.ready_s + own_first["seconds"]
            full = estimate_s * (1 if options.quick else 2) < options.peer_budget_s
            ours = side(own, own_steps, duration_s, own_steps)
            theirs = side(other, steps, duration_s, steps if full else few, first)
            rounds = 1 if options.quick else options.rounds
            found = alternate({"ours": ours["run"], "peer": theirs["run"]}, rounds, options.peer_budget_s)
            result = {
                "duration_s": duration_s,
                "default_steps": {"ours": own_steps, "peer": steps},
                "estimated": not full,
                "seconds": {key: summary(values) for key, values in found.items()},
                "times_as_fast": ratio(found["ours"], found["peer"]),
                "cold_start_s": {"ours": cold_ours_s, "peer": cold_peer_s},
                "estimate_from_few_steps_s": estimate_s,
                "peer_seconds_between_passes": statistics.median(first["between_passes"]),
                "peer_weights_gb": size_gb,
                "note": peer.note,
            }
            if peer.equal_steps:
                seconds = {"ours": [], "peer": []}
                if steps <= own_steps or not full:  # the same passes, added up to the other number of steps
                    seconds["peer"] = [extended(a, len(a["between_passes"]) + 1, own_steps)
                                       for a in theirs["answers"][1:]]  # fmt: skip
                    seconds["ours"] = found["ours"]
                else:
                    equal = side(other, own_steps, duration_s, own_steps)
                    seconds = alternate({"ours": ours["run"], "peer": equal["run"]}, rounds, options.peer_budget_s)
                result["equal_steps"] = {
                    "steps": own_steps,
                    "seconds": {key: summary(values) for key, values in seconds.items()},
                    "times_as_fast": ratio(seconds["ours"], seconds["peer"]),
                }
            last = theirs["answers"][-1]
            result["peer_audio"] = {key: last[key] for key in ("audio_s", "sampling_rate", "channels")}
            result["peak_memory_gb"] = {
                "ours": max(a["peak_memory"] for a in [own_first, *ours["answers"]]) / 1e9,
                "peer": max(a["peak_memory"] for a in theirs["answers"]) / 1e9,
            }
    return result


def run(options: argparse.Namespace) -> dict:
    """All peers, one after the other; what fails is named with its reason and the rest goes on."""
    result = {"machine": machine(options.threads), "device": pick_device(), "peers": {}, "not_run": {}}
    for name in options.peers or PEERS:
        began = time.perf_counter()
        print(f"{name} ...", flush=True)
        try:
            result["peers"][name] = compare(name, options)
            result["peers"][name]["wall_s"] = time.perf_counter() - began
        except (ChildError, OSError) as error:
            result["not_run"][name] = str(error)
        save("generation", result)
    return result


def table(result: dict) -> str:
    """Markdown rows; estimates carry a tilde."""
    lines = [
        "| | steps | seconds of audio per second | ours is faster by | at equal steps | peak memory | cold start |",
        "|---|---|---|---|---|---|---|",
    ]
    own = list(result["peers"].values())
    if own:
        middle = statistics.median
        speed = middle(p["duration_s"] / p["seconds"]["ours"]["median"] for p in own)
        memory = middle(p["peak_memory_gb"]["ours"] for p in own)
        cold = middle(p["cold_start_s"]["ours"] for p in own)
        steps = own[0]["default_steps"]["ours"]
        lines.append(f"| {OURS} | {steps} | {speed:.2f} | 1 | 1 | {memory:.2f} GB | {cold:.1f} s |")
    for name, p in result["peers"].items():
        about = "~" if p["estimated"] else ""
        equal = f"~{p['equal_steps']['times_as_fast']:.1f}x" if "equal_steps" in p else "(autoregressive)"
        lines.append(
            f"| {name} | {p['default_steps']['peer']} | {about}{p['duration_s'] / p['seconds']['peer']['median']:.4f} "
            f"| {about}{p['times_as_fast']:.1f}x | {equal} | {p['peak_memory_gb']['peer']:.2f} GB "
            f"| {about}{p['cold_start_s']['peer']:.1f} s |"
        )
    lines += [f"| {name} | not run: {reason} | | | | | |" for name, reason in result["not_run"].items()]
    return "\n".join(lines)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), help="pipelines of diffusers to compare with")
    parser.add_argument("--checkpoint", default="checkpoints/small", help="published folder")
    parser.add_argument("--duration_s", type=float, default=10.0, help="seconds of music a request")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, in turn")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--peer_budget_s", type=float, default=60.0, help="seconds that a comparison may repeat for")
    parser.add_argument("--timeout_s", type=float, default=400.0, help="longest single request")
    parser.add_argument("--max_memory_gb", type=float, default=20.0, help="a peer whose weights need more is not run")
    parser.add_argument("--quick", action="store_true", help="one round each")
    parser.add_argument("--tiny", action="store_true", help="shrunken peers: tests the benchmark, measures nothing")
    return parser.parse_args(argv)


if __name__ == "__main__":
    print(table(run(parse())))
