"""All benchmarks, one after the other: `python -m benchmarks [--quick] [--threads 2]`.

Each part is written to runs/benchmarks/ as it comes and its failure does not stop the next; at the end all go into
one file, and the tables are printed ready for the README.
"""

import argparse
import time
import traceback

from benchmarks import generation, growth, roofline, training_step
from benchmarks.harness import RESULTS, machine, save

PARTS = {"roofline": roofline, "training_step": training_step, "growth": growth, "generation": generation}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter pieces")
    options = parser.parse_args(argv)
    shared = ["--threads", str(options.threads)] + ["--quick"] * options.quick
    began = time.perf_counter()
    whole: dict = {"machine": machine(options.threads), "quick": options.quick, "parts": {}, "failed": {}}
    tables = []
    for name, module in PARTS.items():
        print(f"== {name}", flush=True)
        start = time.perf_counter()
        try:
            whole["parts"][name] = module.run(module.parse(shared))
            tables.append(f"### {name}\n\n{module.table(whole['parts'][name])}\n")
        except Exception as error:  # whatever one part meets, the others are still to be measured
            traceback.print_exc()
            whole["failed"][name] = f"{type(error).__name__}: {error}"
        whole.setdefault("wall_s", {})[name] = time.perf_counter() - start
        save("benchmarks", whole)
    print("\n".join(tables))
    print(f"{RESULTS / 'benchmarks.json'}  {time.perf_counter() - began:.0f} s")
    if whole["failed"]:
        raise SystemExit(f"failed: {', '.join(whole['failed'])}")


if __name__ == "__main__":
    main()
