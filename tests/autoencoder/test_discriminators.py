"""Discriminators and balancer at known answers."""

import pytest
import torch

from autoencoder.discriminators import (
    Balancer,
    MultiScaleSTFTDiscriminator,
    discriminator_loss,
    feature_loss,
    generator_loss,
    saturated,
)


@pytest.mark.parametrize("channels", [1, 2])
def test_scores_are_local_and_features_come_from_every_layer(channels):
    torch.manual_seed(0)
    judge = MultiScaleSTFTDiscriminator(channels, windows=(256, 64), filters=4)
    audio = 0.1 * torch.randn(2, channels, 2048)
    scores, features = judge(audio)
    assert [s.shape[:3] for s in scores] == [(2, 1, 29), (2, 1, 125)]  # (samples - window) / hop + 1 frames
    assert [len(f) for f in features] == [5, 5]
    later = audio.clone()
    later[..., 1900:] += 1.0
    assert torch.equal(judge(later)[0][1][:, :, :80], scores[1][:, :, :80])
    assert all(torch.isfinite(s).all() for s in judge(audio[..., :10])[0])  # shorter than any window


def test_encodec_sizes():
    """Parameters of EnCodec's discriminator (32 filters), counted from its layers with the norms' gains."""

    def conv(inputs, outputs, taps):
        return inputs * outputs * taps + 2 * outputs  # weights, bias, norm gain

    one = conv(2, 32, 27) + 3 * conv(32, 32, 27) + conv(32, 32, 9) + conv(32, 1, 9)
    assert sum(p.numel() for p in MultiScaleSTFTDiscriminator().parameters()) == 3 * one


def test_hinge_at_known_scores():
    real, fake = [torch.tensor([2.0, 0.5])], [torch.tensor([-2.0, 0.0])]
    assert discriminator_loss(real, fake).item() == pytest.approx(0.25 + 0.5)
    assert discriminator_loss([torch.ones(3)], [-torch.ones(3)]).item() == 0.0
    assert generator_loss([torch.tensor([1.0, 0.0]), torch.tensor([3.0])]).item() == pytest.approx(0.25)


def test_feature_matching_is_relative_and_one_sided():
    real = [[torch.full((2, 3), 2.0, requires_grad=True), torch.full((4,), 10.0)]]
    fake = [[torch.full((2, 3), 3.0, requires_grad=True), torch.full((4,), 10.0)]]
    loss = feature_loss(real, fake)
    loss.backward()
    assert loss.item() == pytest.approx(0.25)  # (1 / 2 + 0) / 2
    assert real[0][0].grad is None and fake[0][0].grad is not None


def test_balanced_gradients_have_the_asked_shares_at_any_scale():
    x = torch.randn(4, 10, requires_grad=True)
    directions = torch.nn.functional.normalize(torch.randn(2, 10), dim=1)
    for scale in (1e-4, 1.0, 1e4):
        output = x * 1.0
        balancer = Balancer({"a": 3.0, "b": 1.0, "off": 0.0}, total_norm=2.0)
        losses = {"a": scale * (output * directions[0]).sum(), "b": (output * directions[1]).sum()}
        gradient = balancer.gradient(losses, output)  # "off" is not even there
        expected = 2.0 * (0.75 * directions[0] + 0.25 * directions[1])
        torch.testing.assert_close(gradient, expected.expand(4, 10), atol=1e-5, rtol=1e-4)


def test_the_average_is_unbiased_and_kept():
    balancer = Balancer({"a": 1.0}, decay=0.5)
    for size in (1.0, 4.0):
        output = torch.zeros(1, 1, requires_grad=True) * 1.0
        gradient = balancer.gradient({"a": size * output.sum()}, output)
    assert gradient.item() == pytest.approx(4.0 / ((0.5 * 1.0 + 4.0) / 1.5))
    again = Balancer({"a": 1.0}, decay=0.5)
    again.load_state_dict(balancer.state_dict())
    output = torch.zeros(1, 1, requires_grad=True) * 1.0
    losses = {"a": 3.0 * output.sum()}
    assert torch.equal(again.gradient(losses, output), balancer.gradient(losses, output))


def test_what_is_not_finite_is_named():
    output = torch.zeros(1, 1, requires_grad=True) * 1.0
    with pytest.raises(FloatingPointError, match="loss mel has a gradient"):
        Balancer({"mel": 1.0}).gradient({"mel": output.sqrt().sum() * float("inf")}, output)


def test_a_discriminator_that_has_won_is_seen():
    assert not saturated([0.0] * 199)
    assert saturated([1.0] + [1e-4] * 200)
    assert not saturated([1e-4] * 150 + [0.5] + [1e-4] * 49)


def test_the_discriminator_learns_to_tell_and_a_generator_to_fool_it():
    """Noise against a tone: a few steps separate the scores, and the generator's loss pulls noise across."""
    torch.manual_seed(0)
    judge = MultiScaleSTFTDiscriminator(windows=(128,), filters=4)
    optimizer = torch.optim.Adam(judge.parameters(), lr=3e-3, betas=(0.5, 0.9))
    real = torch.sin(torch.arange(2048) * 0.3).expand(4, 1, 2048)
    for _ in range(30):
        loss = discriminator_loss(judge(real)[0], judge(0.7 * torch.randn(4, 1, 2048))[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fake = (0.7 * torch.randn(4, 1, 2048)).requires_grad_()
    before = generator_loss(judge(fake)[0])
    assert loss < 1.0 < before
    (gradient,) = torch.autograd.grad(before, fake)
    with torch.no_grad():
        assert generator_loss(judge(fake - 5.0 * gradient / gradient.norm())[0]) < before
