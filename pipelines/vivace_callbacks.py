"""The state of a running call, and how callbacks and other threads reach it through the pipeline.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from diffusers import SchedulerMixin


@dataclass(eq=False)
class CallState:
    """What a callback reads and changes of its call through the pipeline's properties.

    Attributes:
        guidance_scale: the largest of the call's pieces; what a callback sets holds for the rest of its batch.
        grid_guidance_scale: the largest that was given, 0 = none.
        scheduler: a copy of the pipeline's, so that calls in several threads do not share its step counter.
        num_timesteps: steps that the call will take.
        interrupt: whether to take no further step.
    """

    guidance_scale: float
    grid_guidance_scale: float = 0.0
    scheduler: SchedulerMixin | None = None
    num_timesteps: int = 0
    interrupt: bool = False


# (pipeline, state) of each call in whose callback the running code is.
CALLBACKS: ContextVar[tuple[tuple[object, CallState], ...]] = ContextVar("vivace_callbacks", default=())


def on_cpu() -> AbstractContextManager:
    """In here new tensors are made on the CPU, as the code expects, also after `torch.set_default_device`."""
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


def made_on_cpu(function: Callable) -> Callable:
    """A function whose body runs in `on_cpu`."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        with on_cpu():
            return function(*args, **kwargs)

    return run


class CallStateMixin:
    """Properties of a pipeline that read and change the call in whose callback the running code is.

    A pipeline may be called in several threads or tasks at once, and within a callback: what a call changes is its own.
    """

    maybe_free_model_hooks: Callable  # of DiffusionPipeline

    def _begin_without_calls(self, guidance_scale: float) -> None:
        """Set up a new pipeline, which no call has used."""
        self.latest_state = CallState(guidance_scale)  # of the call that began last
        self.running_states: set[CallState] = set()

    @property
    def scheduler(self) -> SchedulerMixin:
        """The pipeline's scheduler; in a callback the copy that its call steps with."""
        state = self._state_in_callback
        return vars(self)["scheduler"] if state is None else state.scheduler

    @scheduler.setter
    def scheduler(self, scheduler: SchedulerMixin) -> None:
        vars(self)["scheduler"] = scheduler

    @property
    def _state_in_callback(self) -> CallState | None:
        """Of the call in whose callback the running code is; None outside of callbacks."""
        return next((state for pipe, state in reversed(CALLBACKS.get()) if pipe is self), None)

    @property
    def _state(self) -> CallState:
        """In a callback that of its call, else that of the call that began last."""
        return self._state_in_callback or self.latest_state

    @property
    def guidance_scale(self) -> float:
        return self._state.guidance_scale

    @property
    def _guidance_scale(self) -> float:
        """What diffusers' callbacks set: the guidance of all pieces of the batch, from the next step on."""
        return self._state.guidance_scale

    @_guidance_scale.setter
    def _guidance_scale(self, scale: float) -> None:
        self._state.guidance_scale = scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        return max(self._state.guidance_scale, self._state.grid_guidance_scale) > 1.0

    @property
    def num_timesteps(self) -> int:
        return self._state.num_timesteps

    @property
    def interrupt(self) -> bool:
        return self._state.interrupt

    @property
    def _interrupt(self) -> bool:
        """What diffusers' callbacks set to end their call; set elsewhere it ends all calls that are running."""
        return self._state.interrupt

    @_interrupt.setter
    def _interrupt(self, interrupt: bool) -> None:
        inside = self._state_in_callback
        for state in [self.latest_state, *self.running_states] if inside is None else [inside]:
            state.interrupt = bool(interrupt)

    @contextmanager
    def _running(self, state: CallState) -> Iterator[None]:
        """While a call runs, `_interrupt` set from outside of its callbacks reaches it as well."""
        self.latest_state = state
        self.running_states.add(state)
        try:
            yield
        finally:
            self.running_states.discard(state)
            self.maybe_free_model_hooks()

    def _bind_callback(self, function: Callable, state: CallState) -> Callable:
        """A user's callback as f(step, timestep, tensors), in which the pipeline's properties are those of its call."""

        def run(step: int, timestep: torch.Tensor, tensors: dict) -> dict | None:
            token = CALLBACKS.set((*CALLBACKS.get(), (self, state)))
            try:
                return function(self, step, timestep, tensors)
            finally:
                CALLBACKS.reset(token)

        return run
