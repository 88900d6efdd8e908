"""Time and memory of our pipeline as the piece gets longer, 5 s to 10 min.

    python -m benchmarks.growth [--quick] [--threads 2]

Each length runs in a process of its own, so that its peak memory is its own; lengths that take less than
`--repeat_below_s` are run again, in turn over all lengths, and the median is printed.
"""

import argparse

from benchmarks.harness import Child, ChildError, alternate, machine, save, summary
from benchmarks.subjects import default_steps

LENGTHS_S = (5.0, 15.0, 60.0, 180.0, 600.0)


def run(options: argparse.Namespace) -> dict:
    result = {"machine": machine(options.threads), "lengths": {}, "not_run": {}}
    sides = {}
    children = []
    try:
        for duration_s in options.lengths_s:
            name = f"{duration_s:g}"
            try:
                child = Child(
                    "benchmarks.subjects:ours", {"checkpoint": options.checkpoint}, options.threads, options.timeout_s
                )
                children.append(child)
                answer = child.call(steps=options.steps, duration_s=duration_s)
            except ChildError as error:
                result["not_run"][name] = str(error)
                continue
            result["lengths"][name] = {
                "seconds": summary([answer["seconds"]]),
                "peak_memory_gb": answer["peak_memory"] / 1e9,
                "audio_s": answer["audio_s"],
            }
            save("growth", result)
            if answer["seconds"] < options.repeat_below_s:
                sides[name] = lambda child=child, d=duration_s: child.call(steps=options.steps, duration_s=d)["seconds"]
            else:
                child.close()
        # The first request of a process also pays for what it sets up once: where there is time, it is not counted.
        for name, values in alternate(sides, 1 if options.quick else 3).items():
            result["lengths"][name]["seconds"] = summary(values)
    finally:
        for child in children:
            child.close()
    save("growth", result)
    return result


def table(result: dict) -> str:
    lines = ["| length | seconds | seconds of audio per second | peak memory |", "|---|---|---|---|"]
    for name, row in result["lengths"].items():
        seconds = row["seconds"]["median"]
        lines.append(f"| {name} s | {seconds:.2f} | {float(name) / seconds:.2f} | {row['peak_memory_gb']:.2f} GB |")
    lines += [f"| {name} s | not run: {reason} | | |" for name, reason in result["not_run"].items()]
    return "\n".join(lines)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="checkpoints/small", help="published folder")
    parser.add_argument("--lengths_s", type=float, nargs="+", default=None, help="seconds of music")
    parser.add_argument("--steps", type=int, help="inference steps; default: the checkpoint's")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--repeat_below_s", type=float, default=15.0, help="a request faster than this is repeated")
    parser.add_argument("--timeout_s", type=float, default=600.0, help="longest single request, seconds")
    parser.add_argument("--quick", action="store_true", help="up to 60 s, once")
    options = parser.parse_args(argv)
    options.steps = options.steps or default_steps(options.checkpoint)
    if options.lengths_s is None:
        options.lengths_s = LENGTHS_S[:3] if options.quick else LENGTHS_S
    return options


if __name__ == "__main__":
    print(table(run(parse())))
