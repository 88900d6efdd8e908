"""The UNet's linear path: it is the best linear filter, training starts from it, and it changes no promise."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

from pipelines.unet_1d_condition_vivace import NUM_FILTER_LEVELS, LinearPath, UNet1DConditionModel
from tests.helpers.runs import log_lines
from tests.pipelines.test_unet import make_inputs, make_unet
from training import flow, train_unet

FLOW = FlowMatchEulerDiscreteScheduler()
DIFFUSION = DDPMScheduler(prediction_type="v_prediction", clip_sample=False)
POLE = 0.9  # of the slow channel; the other one is white


def slow_and_white(batch: int, frames: int, seed: int) -> torch.Tensor:
    """Latents (batch, 2, frames) of unit variance: a first-order autoregression and white noise."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((batch, frames))
    slow = np.empty_like(steps)
    slow[:, 0] = steps[:, 0]
    for i in range(1, frames):
        slow[:, i] = POLE * slow[:, i - 1] + math.sqrt(1 - POLE**2) * steps[:, i]
    return torch.from_numpy(np.stack([slow, rng.standard_normal((batch, frames))], axis=1)).float()


class Clips:
    """As much of LatentCrops as the spectrum needs; every third clip is short."""

    crop_frames = 128

    def __init__(self):
        self.latents = slow_and_white(400, 128, 0)

    def __len__(self) -> int:
        return len(self.latents)

    def read(self, index: int, _) -> dict[str, torch.Tensor]:
        mask = torch.arange(128) < (60 if index % 3 == 0 else 128)
        return {"latents": self.latents[index] * mask, "frame_mask": mask}


@pytest.fixture(scope="module")
def power() -> torch.Tensor:
    return flow.power_spectrum(Clips(), seed=0)


def test_spectrum_is_that_of_the_process(power):
    turn = torch.exp(-2j * math.pi * torch.arange(129) / 256)
    slow = (1 - POLE**2) / (1 - POLE * turn).abs().square()
    assert power.shape == (2, 129)
    assert ((power[0, 4:] / slow[4:]).log().abs() < 0.4).all()  # below, the window smears the peak
    assert ((power[1] - 1).abs() < 0.25).all()


def path_of(power, scheduler, taps: int = 33) -> LinearPath:
    path = LinearPath(2, taps)
    path.weight.data = flow.wiener_filters(power, scheduler, taps)
    return path


@torch.no_grad()
@pytest.mark.parametrize("scheduler", [FLOW, DIFFUSION], ids=["flow", "v_prediction"])
@pytest.mark.parametrize("time", [60, 250, 400, 500, 800, 940])
def test_no_linear_prediction_is_better(power, scheduler, time):
    """Errors reach the bound of a Wiener filter, and what is left has nothing in common with the input's frames."""
    clean, times = slow_and_white(300, 128, 1), torch.full((300,), float(time))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    noisy, target = (f(scheduler, clean, noise, times) for f in (flow.add_noise, flow.target))
    rest = (target - path_of(power, scheduler)(noisy, times))[..., 20:-20]
    a, s = (float(x[0]) for x in flow.noise_levels(scheduler, times, clean))
    turn = torch.exp(-2j * math.pi * torch.arange(4096) / 4096)
    spectrum = (1 - POLE**2) / (1 - POLE * turn).abs().square()
    p, q = (1.0, -1.0) if scheduler is FLOW else (a, -s)
    least = [((p * a - q * s) ** 2 * x / (s * s + a * a * x)).mean() for x in (spectrum, torch.ones(1))]
    for channel in range(2):
        assert float(rest[:, channel].square().mean()) == pytest.approx(float(least[channel]), rel=0.05)
    shared = (rest * noisy[..., 20:-20]).mean(dim=(0, 2)) / noisy.square().mean(dim=(0, 2))
    assert (shared.abs() < 0.06).all()


@torch.no_grad()
def test_between_two_levels_filters_are_mixed():
    path = LinearPath(3, 5)
    torch.nn.init.normal_(path.weight)
    sample, step = torch.randn(1, 3, 11), 1000 / (NUM_FILTER_LEVELS - 1)
    at = [path(sample, torch.tensor([step * place])) for place in (4, 4.25, 5, NUM_FILTER_LEVELS - 1)]
    torch.testing.assert_close(at[1], 0.75 * at[0] + 0.25 * at[2])
    filters = path.weight[-1]
    whole = torch.nn.functional.conv1d(sample, filters[:, None], padding=2, groups=3)
    torch.testing.assert_close(at[3], whole)


@torch.no_grad()
def test_it_is_added_to_what_the_layers_predict_and_not_to_padding():
    plain, more = make_unet(), make_unet(linear_taps=3)
    more.load_state_dict(plain.state_dict(), strict=False)
    inputs = make_inputs(frames=14)
    inputs["sample"][..., 11:] = math.nan
    mask = torch.arange(14).expand(3, -1) < 11
    visible = inputs["sample"].nan_to_num()
    expected = plain(**inputs, frame_mask=mask).sample + more.linear_path(visible, inputs["timestep"]) * mask[:, None]
    made = more(**inputs, frame_mask=mask).sample
    torch.testing.assert_close(made, expected)
    torch.testing.assert_close(
        made[..., :11],
        more(**{**inputs, "sample": visible[..., :11], "frame_cond": inputs["frame_cond"][..., :11]}).sample,
    )


@torch.no_grad()
def test_half_precision_keeps_the_noise_exact():
    unet = make_unet(linear_taps=1)
    for parameter in unet.parameters():
        parameter.zero_()
    unet.linear_path.weight[-1] = 1.0
    sample = torch.randn(2, 4, 9)
    assert torch.equal(unet.half()(sample, 1000).sample, sample)


@pytest.mark.parametrize("changes", [{"linear_taps": 4}, {"linear_taps": -1}, {"linear_taps": 3, "out_channels": 6}])
def test_what_does_not_fit_is_refused(changes):
    with pytest.raises(ValueError, match="linear_taps must be 0 or, where in_channels equals out_channels, odd"):
        make_unet(**changes)


def test_a_new_network_starts_from_the_filters_and_goes_on(tiny_latents, tmp_path):
    sizes = json.loads(Path("training/configs/tiny/unet.json").read_text())
    (tmp_path / "unet.json").write_text(json.dumps({**sizes, "linear_taps": 65}))
    run = ["--config", "training/configs/tiny/unet.yaml", "--data_dir", str(tiny_latents)]
    out = ["--output_dir", str(tmp_path / "run"), "--model_config", str(tmp_path / "unet.json")]
    train_unet.main([*run, *out, "--max_steps", "2", "--validate_every", "2"])
    first = log_lines(tmp_path / "run", "validation/all")[0]["validation/all"]
    trained = UNet1DConditionModel.from_pretrained(tmp_path / "run/final")  # of crops shorter than the filters, too
    assert trained.linear_path.weight.abs().max() > 0.5

    plain = ["--output_dir", str(tmp_path / "plain"), "--max_steps", "2", "--validate_every", "2"]
    train_unet.main([*run, *plain])
    assert first < log_lines(tmp_path / "plain", "validation/all")[0]["validation/all"]


def test_latents_of_another_width_are_told_before_filters_are_made(tiny_latents, tmp_path):
    sizes = json.loads(Path("training/configs/tiny/unet.json").read_text())
    wide = {**sizes, "in_channels": 6, "out_channels": 6, "linear_taps": 5}
    (tmp_path / "unet.json").write_text(json.dumps(wide))
    run = ["--config", "training/configs/tiny/unet.yaml", "--data_dir", str(tiny_latents)]
    with pytest.raises(ValueError, match=r"in_channels is 6; the latents in .* have 4 channels"):
        train_unet.main([*run, "--output_dir", str(tmp_path / "run"), "--model_config", str(tmp_path / "unet.json")])


def test_weights_for_other_latents_keep_what_fits(tiny_latents, tmp_path):
    """First and last layers begin anew, so that at first only the linear path predicts; all else is as it was."""
    sizes = json.loads(Path("training/configs/tiny/unet.json").read_text())
    more = 2 - sizes["in_channels"]
    wide = {"in_channels": 2, "out_channels": 2, "frame_cond_channels": sizes["frame_cond_channels"] + more}
    torch.manual_seed(1)
    start = UNet1DConditionModel(**sizes | wide)
    for parameter in start.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    start.save_pretrained(tmp_path / "start" / "unet")
    (tmp_path / "unet.json").write_text(json.dumps({**sizes, "linear_taps": 65}))
    train_unet.main([
        "--config", "training/configs/tiny/unet.yaml", "--data_dir", str(tiny_latents),
        "--output_dir", str(tmp_path / "run"), "--model_config", str(tmp_path / "unet.json"),
        "--init_from", str(tmp_path / "start"), "--max_steps", "1", "--learning_rate", "1e-30", "--weight_decay", "0",
    ])  # fmt: skip
    grown = UNet1DConditionModel.from_pretrained(tmp_path / "run/final")
    assert grown.config.in_channels == sizes["in_channels"] and grown.config.linear_taps == 65
    old, new = start.state_dict(), grown.state_dict()
    fresh = ("conv_in.", "conv_out.", "linear_path.", "conv_frame_cond.weight")
    assert all(torch.allclose(old[name], new[name]) for name in old if not name.startswith(fresh))
    shared = sizes["frame_cond_channels"] - sizes["in_channels"]
    name = "conv_frame_cond.weight"
    assert torch.allclose(old[name][:, :shared], new[name][:, :shared]) and not new[name][:, shared:].any()
    sample = torch.randn(2, sizes["in_channels"], 9)
    with torch.no_grad():
        linear = grown.linear_path(sample, torch.full((2,), 500.0))
        assert torch.allclose(grown(sample, 500).sample, linear, atol=1e-6) and linear.abs().max() > 0.1
