"""One pipeline in several threads, in asyncio and within its own callbacks: each call as if it ran alone."""

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchHeunDiscreteScheduler

REQUESTS = [
    {"prompt": "slow piano", "seed": 1, "num_inference_steps": 5},
    {"prompt": " ".join(["fast drums"] * 50), "seed": 2, "num_inference_steps": 7, "guidance_scale": 4.0},
    {"prompt": ["calm", "loud jazz"], "seed": [3, 4], "num_inference_steps": 3, "loop": True, "bpm": 120, "bars": 1},
    {"prompt": "jazz", "seed": 5, "duration_s": 15.0, "num_inference_steps": 4, "negative_prompt": "drums"},
]
SCHEDULERS = [
    None,
    FlowMatchHeunDiscreteScheduler(),
    DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
]


def audios(out) -> list[np.ndarray]:
    return [np.asarray(audio) for audio in out.audios]


def same(given: list, wanted: list) -> None:
    for one, other in zip(given, wanted, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda one: type(one).__name__)
def test_threads_give_what_calls_in_a_row_give(tiny_pipeline, scheduler):
    tiny_pipeline.scheduler = scheduler or tiny_pipeline.scheduler
    wanted = [audios(tiny_pipeline(**request)) for request in REQUESTS]
    barrier = threading.Barrier(len(REQUESTS))

    def work(request: dict) -> list[np.ndarray]:
        torch.set_num_threads(1)
        barrier.wait()
        return audios(tiny_pipeline(**request))

    for _ in range(3):
        with ThreadPoolExecutor(len(REQUESTS)) as pool:
            same(list(pool.map(work, REQUESTS)), wanted)


def test_tasks_of_asyncio(tiny_pipeline):
    wanted = [audios(tiny_pipeline(**request)) for request in REQUESTS]

    async def together() -> list:
        return await asyncio.gather(*(asyncio.to_thread(tiny_pipeline, **request) for request in REQUESTS))

    same([audios(out) for out in asyncio.run(together())], wanted)


def test_a_callback_may_call_the_pipeline(tiny_pipeline):
    wanted = [audios(tiny_pipeline(**request)) for request in REQUESTS[:2]]
    inner, seen = [], []

    def on_step(pipe, step, timestep, tensors):
        if step == 1:
            inner.append(audios(pipe(**REQUESTS[1])))
        seen.append((pipe is tiny_pipeline, pipe.num_timesteps, pipe.guidance_scale, len(pipe.scheduler.timesteps)))

    outer = audios(tiny_pipeline(**REQUESTS[0], callback_on_step_end=on_step))
    same([outer, inner[0]], wanted)
    assert seen == [(True, 5, 2.0, 5)] * 5  # of the call whose callback it is, also after the inner one


def test_what_a_call_changes_is_its_own(tiny_pipeline):
    before = vars(tiny_pipeline.scheduler).copy()
    tiny_pipeline("piano", num_inference_steps=7)
    assert tiny_pipeline.scheduler.step_index is None
    assert all(before[name] is value for name, value in vars(tiny_pipeline.scheduler).items())


def test_interrupt_in_a_callback_ends_that_call_alone(tiny_pipeline):
    taken, both = {"a": 0, "b": 0}, threading.Barrier(2)

    def on_step(name: str):
        def count(pipe, step, timestep, tensors):
            taken[name] += 1
            if step == 0:
                both.wait()
                pipe._interrupt = name == "a"
                assert pipe.interrupt == (name == "a")
                both.wait()

        return count

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: tiny_pipeline("piano", callback_on_step_end=on_step(name)), taken))
    assert taken == {"a": 1, "b": 3}


def test_interrupt_from_outside_ends_all_calls(tiny_pipeline):
    taken, begun, go_on = [], threading.Barrier(3), threading.Event()

    def on_step(pipe, step, timestep, tensors):
        taken.append(step)
        if step == 0:
            begun.wait()
            go_on.wait()

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(tiny_pipeline, "piano", callback_on_step_end=on_step) for _ in range(2)]
        begun.wait()
        tiny_pipeline._interrupt = True
        go_on.set()
        assert all(job.result().audios.shape == (1, 1, 16000) for job in jobs)
    assert taken == [0, 0] and tiny_pipeline.interrupt
    assert not tiny_pipeline.running_states
    tiny_pipeline("piano", callback_on_step_end=lambda pipe, step, timestep, tensors: taken.append(step))
    assert taken == [0, 0, 0, 1, 2] and not tiny_pipeline.interrupt  # the next call begins anew


def test_streams_in_turn_with_calls(tiny_pipeline):
    requests = [
        {"prompt": "piano", "duration_s": 60.0, "seed": seed, "num_inference_steps": 2, "normalize": False}
        for seed in (1, 2)
    ]
    wanted = [tiny_pipeline(**request).audios[0] for request in requests]
    chunks: list[list[np.ndarray]] = [[], []]
    for first, second in itertools.zip_longest(*(tiny_pipeline.stream(**request) for request in requests)):
        tiny_pipeline("loud", num_inference_steps=3)
        chunks[0].append(first)
        chunks[1].append(second)
    same([[np.concatenate(one, axis=1)] for one in chunks], [[one] for one in wanted])


def test_a_stream_that_is_left_is_no_longer_running(tiny_pipeline):
    stream = tiny_pipeline.stream("piano", duration_s=60.0, num_inference_steps=1, guidance_scale=7.0)
    next(stream)
    assert len(tiny_pipeline.running_states) == 1 and tiny_pipeline.guidance_scale == 7.0
    stream.close()
    assert not tiny_pipeline.running_states
