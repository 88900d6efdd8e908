"""Cost of guidance and of settings that save time."""

import time
from contextlib import contextmanager

import numpy as np

from training.tasks.common import PIECE_S, Bench, Figure, most

ROUNDS = 3
TEXT = "mellow jazz trio with piano and upright bass"


@contextmanager
def rows_counted(unet):
    """Yield a list to which each forward pass of the network appends its number of rows."""
    rows: list[int] = []
    hook = unet.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    try:
        yield rows
    finally:
        hook.remove()


def speed(bench: Bench, count: int) -> list[Figure]:
    """CPU seconds for ten seconds of music (the best of three rounds) and rows of the network for each setting."""
    pipe, shared = bench.pipe, {"bpm": 100, "duration_s": PIECE_S, "seed": bench.seed}
    kinds = {
        "guided": {},
        "guidance off": {"guidance_scale": 1.0},
        "guidance at noise levels 0.3 to 1": {"guidance_interval": (0.3, 1.0)},
        "words and grid guided apart": {"grid_guidance_scale": pipe.config.default_guidance_scale + 1.0},
        "rescale 0.7": {"guidance_rescale": 0.7},
        "APG (eta 0, norm 2.5)": {"apg_eta": 0.0, "apg_norm_threshold": 2.5},
        "loop": {"loop": True, "duration_s": None, "bars": 4},
    }
    took: dict[str, list[float]] = {name: [] for name in kinds}
    rows: dict[str, int] = {}
    for _ in range(ROUNDS):
        for name, more in kinds.items():
            with rows_counted(pipe.unet) as passes:
                began = time.process_time()
                pipe(TEXT, **shared | more)
                took[name].append(time.process_time() - began)
            rows[name] = sum(passes)
    steps = pipe.config.default_num_inference_steps
    figures = [most("guidance off: rows of the network a step", rows["guidance off"] / steps, 1, 1)]
    for name, values in took.items():
        figures.append(
            Figure(f"{name}: processor seconds for 10 s of music", min(values), ROUNDS,
                   beside={"rows a step": rows[name] / steps})
        )  # fmt: skip
    return [*figures, *sliced(bench)]


def sliced(bench: Bench) -> list[Figure]:
    """A batch of four in one pass and sliced row by row, which must give the same music."""
    pipe, texts = bench.pipe, [TEXT] * 4
    request = {"bpm": 100, "duration_s": PIECE_S, "seed": list(range(4))}
    made, took = [], []
    for rows in (None, 1):
        if rows is not None:
            pipe.enable_guidance_slicing(rows)
        began = time.process_time()
        made.append(np.stack(pipe(texts, **request).audios))
        took.append(time.process_time() - began)
    pipe.disable_guidance_slicing()
    return [
        Figure(
            "batch of 4: processor seconds for 10 s of music each", took[0] / 4, 4, beside={"row by row": took[1] / 4}
        ),
        most(
            "batch of 4: row by row against one pass, largest difference",
            float(np.abs(made[0] - made[1]).max()),
            4,
            1e-4,
        ),
    ]
