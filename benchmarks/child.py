"""The program of a `harness.Child`: builds one subject, then answers requests, one JSON line each.

python -m benchmarks.child module:function '{"argument": 1}' THREADS
"""

import importlib
import json
import os
import sys


def main() -> None:
    subject, arguments, threads = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    # Answers keep the real stdout to themselves; whatever a library prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import torch

    from training.run.progress import peak_memory

    torch.set_num_threads(threads)
    module, function = subject.split(":")
    run = getattr(importlib.import_module(module), function)(**arguments)
    print(json.dumps({"peak_memory": peak_memory()}), file=answers)
    for line in sys.stdin:
        print(json.dumps({**run(**json.loads(line)), "peak_memory": peak_memory()}), file=answers)


if __name__ == "__main__":
    main()
