"""What the tests of distillation and of rewards share."""

import pytest
import torch

from pipelines.hub import save_checkpoint
from pipelines.pipeline_vivace import VivacePipeline
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from tests.conftest import make_pipeline
from training import lora
from training.encode_latents import load_text_encoder


@pytest.fixture(scope="session")
def teacher(tiny_latents, tiny_text_encoder, tmp_path_factory):
    """A published checkpoint of what made the latents, with a network that plays notes."""
    folder = tmp_path_factory.mktemp("teacher") / "tiny"
    encoder, tokenizer = load_text_encoder(str(tiny_text_encoder))
    pipe = make_pipeline(instruments=("piano", "drums"))
    sizes = {"block_out_channels": [32, 32], "embedding_dim": 32, "context_dim": 32}  # the widths of equal bits
    torch.manual_seed(0)
    pipe.unet = UNet1DConditionModel.from_config(pipe.unet.config, **sizes).eval()
    with torch.no_grad():
        for parameter in pipe.unet.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    pipe = VivacePipeline(
        lora.load_autoencoder(f"{tiny_latents}/vae"), pipe.unet, encoder, tokenizer, pipe.scheduler,
        default_num_inference_steps=12, default_guidance_scale=6.0, default_score_guidance_scale=1.5,
    )  # fmt: skip
    save_checkpoint(pipe, folder, fp16=False)
    return folder
