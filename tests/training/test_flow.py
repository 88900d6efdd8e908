"""The noise process agrees with itself and with diffusers' schedulers."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)

from pipelines.vivace_process import noise_level
from training import flow

SCHEDULERS = {"flow": FlowMatchEulerDiscreteScheduler(), "flow, shift 3": FlowMatchEulerDiscreteScheduler(shift=3.0)}
for kind in ("epsilon", "v_prediction"):
    SCHEDULERS[f"ddpm {kind}"] = DDPMScheduler(prediction_type=kind, clip_sample=False)
    SCHEDULERS[f"ddim {kind}"] = DDIMScheduler(prediction_type=kind, clip_sample=False)
    SCHEDULERS[f"dpm-solver {kind}"] = DPMSolverMultistepScheduler(prediction_type=kind)


@pytest.fixture(params=SCHEDULERS)
def scheduler(request):
    kind = type(SCHEDULERS[request.param])
    return kind.from_config(SCHEDULERS[request.param].config)  # a fresh one: schedulers keep state


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def implied_target(scheduler, noisy, clean, timesteps):
    """The target under which `noisy` came from `clean`."""
    a, s = flow.noise_levels(scheduler, timesteps, noisy)
    return flow.target(scheduler, clean, (noisy - a * clean) / s, timesteps)


def run_sampler(scheduler, network, noise, steps=100):
    scheduler.set_timesteps(steps)
    sample = noise * scheduler.init_noise_sigma if hasattr(scheduler, "init_noise_sigma") else noise
    generator = torch.Generator().manual_seed(1)
    for timestep in scheduler.timesteps:
        prediction = network(sample, timestep.expand(len(sample)))
        sample = scheduler.step(prediction, timestep, sample, generator=generator).prev_sample
    return sample


def test_noisy_latents_are_the_schedulers_own(scheduler):
    clean, noise = draw(5, 4, 7), draw(5, 4, 7, seed=1)
    scheduler.set_timesteps(100)  # before it DPMSolver pairs descending timesteps with ascending sigmas
    timesteps = scheduler.timesteps[[0, 10, 50, 90, 99]]
    expected = (
        scheduler.scale_noise(clean, timesteps, noise)
        if isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
        else scheduler.add_noise(clean, noise, timesteps)
    )
    torch.testing.assert_close(flow.add_noise(scheduler, clean, noise, timesteps), expected, atol=2e-6, rtol=2e-6)


def test_training_and_sampling_have_the_same_noise_levels(scheduler):
    timesteps = torch.tensor([0, 1, 250, 500, 999])
    for time, *own in zip(timesteps, *flow.noise_levels(scheduler, timesteps, draw(5)), strict=True):
        assert [float(value) for value in own] == pytest.approx(noise_level(scheduler, time), abs=1e-6)


def test_endpoints(scheduler):
    clean, noise = draw(2, 4, 7), draw(2, 4, 7, seed=1)
    if flow.prediction_type(scheduler) == flow.FLOW:
        first, last, tolerance = 0.0, 1000.0, 0.0
    else:
        first, last, tolerance = 0, 999, 0.05  # the variance-preserving process only comes near its ends
    start = flow.add_noise(scheduler, clean, noise, torch.full((2,), first))
    end = flow.add_noise(scheduler, clean, noise, torch.full((2,), last))
    torch.testing.assert_close(start, clean, atol=tolerance, rtol=0)
    torch.testing.assert_close(end, noise, atol=tolerance, rtol=0)


def test_target_is_the_derivative_of_the_path(scheduler):
    clean, noise = draw(3, 4, 7).double(), draw(3, 4, 7, seed=1).double()
    timesteps = torch.tensor([100, 500, 900])
    a, s = (c.double() for c in flow.noise_levels(scheduler, timesteps, clean))
    kind, step = flow.prediction_type(scheduler), 1e-5
    if kind == flow.FLOW:  # d x / d sigma along (1 - sigma) x_0 + sigma eps
        derivative = ((a - step) * clean + (s + step) * noise - (a * clean + s * noise)) / step
    else:  # with a = cos phi and s = sin phi, v = d x / d phi; epsilon is then x sin phi + v cos phi
        phi = torch.atan2(s, a)
        ahead = torch.cos(phi + step) * clean + torch.sin(phi + step) * noise
        behind = torch.cos(phi - step) * clean + torch.sin(phi - step) * noise
        derivative = (ahead - behind) / (2 * step)
        if kind == "epsilon":
            derivative = (a * clean + s * noise) * s + derivative * a
    expected = flow.target(scheduler, clean, noise, timesteps).double()
    torch.testing.assert_close(derivative, expected, atol=1e-5, rtol=1e-5)


def test_prediction_gives_back_the_clean_latents(scheduler):
    clean, noise = draw(3, 4, 7), draw(3, 4, 7, seed=1)
    timesteps = torch.tensor([10, 500, 900])
    noisy = flow.add_noise(scheduler, clean, noise, timesteps)
    prediction = flow.target(scheduler, clean, noise, timesteps)
    (a, s), kind = flow.noise_levels(scheduler, timesteps, noisy), flow.prediction_type(scheduler)
    recovered = {
        flow.FLOW: lambda: noisy - s * prediction,  # x_0 = x_sigma - sigma v
        "epsilon": lambda: (noisy - s * prediction) / a,  # x_0 = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t)
        "v_prediction": lambda: a * noisy - s * prediction,  # x_0 = sqrt(abar_t) x_t - sqrt(1 - abar_t) v
    }[kind]()
    torch.testing.assert_close(recovered, clean, atol=2e-5, rtol=1e-5)


def test_oracle_network_recovers_the_data(scheduler):
    clean = draw(2, 4, 16)
    result = run_sampler(scheduler, lambda x, t: implied_target(scheduler, x, clean, t), draw(2, 4, 16, seed=2))
    limit = 1e-5 if flow.prediction_type(scheduler) == flow.FLOW else 1e-3
    assert (result - clean).norm() / clean.norm() < limit


def test_best_network_for_gaussian_data_samples_its_distribution(scheduler):
    """Unlike the oracle, this network must be integrated: a wrong sign or time scale moves mean and spread."""
    mean, std = 0.5, 0.4

    def network(noisy, timesteps):
        a, s = flow.noise_levels(scheduler, timesteps, noisy)
        clean = mean + a * std**2 / (a**2 * std**2 + s**2) * (noisy - a * mean)  # E[x_0 | x_t]
        return implied_target(scheduler, noisy, clean, timesteps)

    result = run_sampler(scheduler, network, draw(4, 50, 100, seed=3))
    assert result.mean() == pytest.approx(mean, abs=0.02)
    # DDPM's "fixed_small" variance is the posterior's for data without spread: 100 ancestral steps fall a little short
    assert result.std() == pytest.approx(std, abs=0.04 if isinstance(scheduler, DDPMScheduler) else 0.02)


def test_dtype_of_the_process_is_fp32(scheduler):
    clean, noise = draw(2, 4, 7).half(), draw(2, 4, 7).half()
    timesteps = torch.tensor([10, 900])
    assert flow.add_noise(scheduler, clean, noise, timesteps).dtype == torch.float32
    assert flow.target(scheduler, clean, noise, timesteps).dtype == torch.float32


@pytest.mark.parametrize(
    "wrong",
    [
        EulerDiscreteScheduler(),
        DDPMScheduler(prediction_type="sample", clip_sample=False),
        DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        DDPMScheduler(),  # clips samples to [-1, 1]
        FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
    ],
)
def test_unsupported_scheduler_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^scheduler: "):
        flow.prediction_type(wrong)


def test_timesteps_of_the_flow_are_logit_normal():
    timesteps = flow.sample_timesteps(SCHEDULERS["flow"], 4096, flow.UniformSampler(0), logit_mean=-0.3, logit_std=0.7)
    assert timesteps.dtype == torch.float32 and timesteps.min() > 0 and timesteps.max() < 1000
    logits = torch.logit(timesteps.double() / 1000)
    assert logits.mean() == pytest.approx(-0.3, abs=0.01)
    assert logits.std() == pytest.approx(0.7, abs=0.01)


def test_timesteps_of_diffusion_are_stratified_integers():
    timesteps = flow.sample_timesteps(SCHEDULERS["ddpm epsilon"], 1024, flow.UniformSampler(0))
    assert timesteps.dtype == torch.int64 and timesteps.min() >= 0 and timesteps.max() <= 999
    assert torch.histc(timesteps.float(), 8, 0, 1000).sub(128).abs().max() <= 2
    with pytest.raises(ValueError, match="logit_mean"):
        flow.sample_timesteps(SCHEDULERS["ddpm epsilon"], 8, flow.UniformSampler(0), logit_mean=1.0)
    with pytest.raises(ValueError, match="logit_std"):
        flow.sample_timesteps(SCHEDULERS["flow"], 8, flow.UniformSampler(0), logit_std=0.0)


def test_every_batch_covers_the_interval():
    sampler = flow.UniformSampler(3)
    for _ in range(5):
        assert (sampler.draw(16) * 16).long().unique().numel() == 16


@pytest.mark.parametrize("drawn", [[], [1], [16], [7, 3, 12]])
def test_resume_is_exact(drawn):
    torch.manual_seed(0)
    state_before = torch.get_rng_state()
    sampler = flow.UniformSampler(5)
    for count in drawn:
        sampler.draw(count)
    state = sampler.state_dict()
    expected = [sampler.draw(9), sampler.draw(4)]
    resumed = flow.UniformSampler(5)
    resumed.draw(2)
    resumed.load_state_dict(state)
    for points in expected:
        assert torch.equal(resumed.draw(len(points)), points)
    assert torch.equal(torch.get_rng_state(), state_before)
    assert not torch.equal(flow.UniformSampler(6).draw(9), flow.UniformSampler(5).draw(9))
