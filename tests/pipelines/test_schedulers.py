"""Every scheduler of diffusers samples what the network was trained for, or is refused with advice that works."""

import importlib
import inspect
import math
import pkgutil
import re

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, SchedulerMixin, schedulers

from pipelines.pipeline_vivace import VivacePipeline
from tests.conftest import make_pipeline

MEAN, STD = 0.5, 0.5
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
TRAINED = {
    "flow_prediction": FlowMatchEulerDiscreteScheduler(),
    "epsilon": DDPMScheduler(clip_sample=False),
}
SETTINGS = {
    "flow_prediction": [
        {}, FLOW, {"prediction_type": "flow_prediction"}, {"invert_sigmas": True}, {"use_dynamic_shifting": True},
        {"stochastic_sampling": True}, {**FLOW, "use_karras_sigmas": True}, {"num_train_timesteps": 500},
    ],
    "epsilon": [{}, {"use_flow_sigmas": True}, {"skip_prk_steps": True}],
}  # fmt: skip
WORKS = {
    "flow_prediction": {
        "FlowMapEulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler",
        "FlowMatchLCMScheduler", "LTXEulerAncestralRFScheduler",
    },
    "epsilon": {
        "DDIMScheduler", "DDPMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler",
        "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "LMSDiscreteScheduler", "UniPCMultistepScheduler",
    },
}  # fmt: skip
REFUSED = {"EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "IPNDMScheduler", "CMStochasticIterativeScheduler"}


def classes() -> list[type]:
    found = []
    for module in pkgutil.iter_modules(schedulers.__path__):
        if module.name.startswith("scheduling_") and not module.name.endswith("_flax"):
            try:
                loaded = importlib.import_module(f"diffusers.schedulers.{module.name}")
            except ImportError:  # one that needs a package
                continue
            own = [one for one in vars(loaded).values() if inspect.isclass(one) and one.__module__ == loaded.__name__]
            found += [one for one in own if issubclass(one, SchedulerMixin) and one is not SchedulerMixin]
    return found


class NormalData(torch.nn.Module):
    """The best network for data that is normal: its prediction is a linear function of what it sees."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, network, trained: SchedulerMixin, predicts: str):
        super().__init__()
        self.config, self.predicts = network.config, predicts
        if predicts != "flow_prediction":  # log of noise over data at each timestep, between them straight
            self.ratios = 0.5 * torch.log((1 - trained.alphas_cumprod) / trained.alphas_cumprod).double().numpy()

    def forward(self, sample, timestep, **told):
        place = float(timestep[0])
        if self.predicts == "flow_prediction":
            a, s = 1.0 - place / 1000.0, place / 1000.0
        else:
            ratio = math.exp(np.interp(place, np.arange(1000), self.ratios))
            a = 1.0 / math.sqrt(1.0 + ratio**2)
            s = ratio * a
        data = MEAN + a * STD**2 / (a**2 * STD**2 + s**2) * (sample - a * MEAN)
        noise = (sample - a * data) / max(s, 1e-4)
        return (noise if self.predicts == "epsilon" else noise - data,)


def make(predicts: str) -> VivacePipeline:
    trained = TRAINED[predicts]
    pipe = make_pipeline()
    pipe = VivacePipeline(**pipe.components | {"scheduler": trained}, max_duration_s=60.0)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet = NormalData(pipe.unet, trained, predicts)
    clean = MEAN + STD * torch.randn(1, 4, 200, generator=torch.Generator().manual_seed(4))
    pipe.encode_audio = lambda audio: clean
    return pipe


def run(pipe, **task) -> torch.Tensor:
    return pipe("piano", seed=1, num_inference_steps=20, guidance_scale=1.0, output_type="latent", **task).audios


@pytest.mark.parametrize("predicts", TRAINED)
def test_works_or_is_refused_with_advice_that_works(predicts, caplog):
    diffusers.utils.logging.set_verbosity_error()
    pipe, works, refused = make(predicts), set(), set()
    tasks = {"duration_s": 8.0}, {"audio": np.zeros(64000, np.float32), "sampling_rate": 8000, "strength": 0.6}
    for kind in classes():
        allowed = inspect.signature(kind.__init__).parameters
        for settings in SETTINGS[predicts]:
            if not set(settings) <= set(allowed):
                continue
            try:
                scheduler = kind.from_config(TRAINED[predicts].config, **settings)
            except (TypeError, ValueError):  # no such scheduler can be made
                continue
            pipe.scheduler, place = scheduler, f"{kind.__name__} {settings} for {predicts}"
            try:
                made = [run(pipe, **task) for task in tasks]
            except ValueError as error:
                words = str(error)
                refused.add(kind.__name__)
                assert words.startswith(f"scheduler is a {kind.__name__}") and "allowed: " in words, place
                assert "\n" not in words and len(words) < 600, place
                advised = re.search(r"(\w+)\.from_config\(scheduler\.config, (.*)\)$", words)
                if advised:
                    change = eval(f"dict({advised[2]})")
                    assert set(change) <= set(allowed), place
                    pipe.scheduler = getattr(diffusers, advised[1], kind).from_config(scheduler.config, **change)
                    made = [run(pipe, **task) for task in tasks]
                else:
                    continue
            else:
                if not settings:
                    works.add(kind.__name__)
            for latents in made:
                assert torch.isfinite(latents).all(), place
                assert abs(latents.mean() - MEAN) < 0.2 and 0.22 < latents.std() < 0.72, place
    assert WORKS[predicts] <= works
    assert refused >= REFUSED and not works & REFUSED


class Careless(FlowMatchEulerDiscreteScheduler):
    def step(self, model_output, timestep, sample, **rest):
        return super().step(model_output + 0.01 * torch.randn_like(model_output), timestep, sample, **rest)


def test_noise_that_no_seed_decides_is_refused():
    pipe = make("flow_prediction")
    pipe.scheduler = Careless()
    with pytest.raises(
        ValueError, match=r"scheduler is a Careless, .*it draws noise that no seed decides\); allowed: "
    ):
        run(pipe)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)  # that of diffusers takes the seed's
    torch.testing.assert_close(run(pipe, duration_s=8.0), run(pipe, duration_s=8.0), rtol=0, atol=0)


def test_a_scheduler_of_from_pipe_is_checked_against_the_network():
    pipe = make("flow_prediction")
    with pytest.raises(ValueError, match="scheduler is a IPNDMScheduler"):
        run(VivacePipeline.from_pipe(pipe, scheduler=diffusers.IPNDMScheduler()))


def test_checking_draws_nothing(tiny_pipeline):
    before = torch.get_rng_state()
    tiny_pipeline.scheduler = diffusers.FlowMatchLCMScheduler(shift=2.5)
    tiny_pipeline("piano", seed=1)
    assert torch.equal(before, torch.get_rng_state())
