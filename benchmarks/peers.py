"""The peers, built at their published sizes from their own classes with random weights.

No weights can be downloaded here, and speed does not depend on them. A configuration is the class's default where
that is the published model, otherwise what the conversion scripts of diffusers and transformers read from the
original checkpoints. `PUBLISHED` holds the parameter counts that the authors state; a test builds every part on the
meta device and compares.

Every peer is two functions: `parts(tiny)` builds the modules, `pipeline(parts)` returns `generate(steps, duration_s)`.
`tiny` keeps the structure and shrinks the widths, for tests.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import (
    AceStepPipeline,
    AceStepTransformer1DModel,
    AudioLDM2Pipeline,
    AudioLDM2ProjectionModel,
    AudioLDM2UNet2DConditionModel,
    AutoencoderKL,
    AutoencoderOobleck,
    AutoencoderSAME,
    DDIMScheduler,
    EDMDPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableAudio3DiTModel,
    StableAudio3Pipeline,
    StableAudioDiTModel,
    StableAudioPipeline,
    StableAudioProjectionModel,
)
from diffusers.pipelines.ace_step.modeling_ace_step import AceStepConditionEncoder
from diffusers.pipelines.stable_audio_3.modeling_stable_audio_3 import StableAudio3DurationEmbedder
from transformers import (
    AutoTokenizer,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    EncodecConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    Qwen3Config,
    Qwen3Model,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    T5Config,
    T5EncoderModel,
    T5GemmaConfig,
    T5GemmaEncoderModel,
)

PROMPT = "a calm piano melody in A minor with soft drums at 90 bpm"
Parts = dict[str, torch.nn.Module]
Generate = Callable[[int, float], tuple[np.ndarray, int]]


def tokenizer(max_length: int):
    """Our own tokenizer, whose ids every peer's vocabulary holds: theirs cannot be downloaded."""
    return AutoTokenizer.from_pretrained("checkpoints/small/tokenizer", model_max_length=max_length)


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def renamed(parts: Parts, network: str) -> Parts:
    """Parts with the pipeline's name of its network."""
    return {(network if name == "network" else name): module for name, module in parts.items()}


def called(pipe, duration: str, rate: int) -> Generate:
    """A pipeline at `rate` Hz whose argument `duration` is the length in seconds."""

    def generate(steps: int, duration_s: float) -> tuple[np.ndarray, int]:
        audio = pipe(PROMPT, num_inference_steps=steps, **{duration: duration_s}).audios[0]
        return audio.float().cpu().numpy(), rate

    return generate


def t5_config(tiny: bool, large: bool = False) -> T5Config:
    """T5-base, or the encoder of flan-T5-large."""
    if tiny:
        return T5Config(vocab_size=8400, d_model=32, d_ff=64, num_layers=1, num_heads=2, d_kv=16)
    if large:
        return T5Config(
            vocab_size=32128, d_model=1024, d_ff=2816, num_layers=24, num_heads=16, feed_forward_proj="gated-gelu"
        )
    return T5Config(vocab_size=32128, d_model=768, d_ff=3072, num_layers=12, num_heads=12)


# ---- MusicGen-small --------------------------------------------------------------------------------------------------


def musicgen_parts(tiny: bool) -> Parts:
    size = dict(hidden_size=32, num_hidden_layers=2, ffn_dim=64, num_attention_heads=2) if tiny else dict(
        hidden_size=1024, num_hidden_layers=24, ffn_dim=4096, num_attention_heads=16
    )  # fmt: skip
    codec = EncodecConfig(
        target_bandwidths=[2.2], sampling_rate=32000, upsampling_ratios=[8, 5, 4, 4], codebook_size=2048,
        num_filters=4 if tiny else 64, hidden_size=16 if tiny else 128, codebook_dim=16 if tiny else 128,
        use_causal_conv=False, norm_type="weight_norm", use_conv_shortcut=False,
    )  # fmt: skip
    decoder = MusicgenDecoderConfig(vocab_size=2048, num_codebooks=4, **size)
    config = MusicgenConfig(text_encoder=t5_config(tiny), audio_encoder=codec, decoder=decoder)
    model = MusicgenForConditionalGeneration(config)
    return {"text_encoder": model.text_encoder, "network": model.decoder, "codec": model.audio_encoder, "all": model}


def musicgen(parts: Parts) -> Generate:
    """A step is a token position, 50 a second, with classifier-free guidance 3 as in its generation config."""
    model = parts["all"]
    encoded = tokenizer(64)(PROMPT, return_tensors="pt").to(model.device)

    def generate(steps: int, duration_s: float) -> tuple[np.ndarray, int]:
        model.generate(
            **encoded, do_sample=True, guidance_scale=3.0, max_new_tokens=steps + 3, min_new_tokens=steps + 3,
            decoder_start_token_id=2048, pad_token_id=2048, bos_token_id=2048,
        )  # fmt: skip
        # The codec is run on the whole length even where only some of its tokens were generated.
        codes = torch.randint(2048, (1, 1, 4, round(50 * duration_s)), device=model.device)
        audio = model.audio_encoder.decode(codes, [None]).audio_values
        return audio[0].float().cpu().numpy(), 32000

    return generate


# ---- AudioLDM 2 ------------------------------------------------------------------------------------------------------


def audioldm2_parts(tiny: bool) -> Parts:
    t5 = t5_config(tiny, large=True)
    words = 32 if tiny else 768
    cross = [[None, words, t5.d_model]] * 4
    network = AudioLDM2UNet2DConditionModel(
        sample_size=256, in_channels=8, out_channels=8, layers_per_block=1 if tiny else 2, cross_attention_dim=cross,
        block_out_channels=(32, 32, 32, 32) if tiny else (128, 256, 384, 640),
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",), attention_head_dim=8 if tiny else 32,
    )  # fmt: skip
    vae = AutoencoderKL(
        in_channels=1, out_channels=1, down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, block_out_channels=(32, 32, 32) if tiny else (128, 256, 512),
        latent_channels=8, layers_per_block=1 if tiny else 2,
    )  # fmt: skip
    # laion/clap-htsat-unfused is transformers' default ClapConfig.
    small = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
    clap = ClapConfig(text_config=small, projection_dim=32) if tiny else ClapConfig()
    vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=64, sampling_rate=16000, upsample_initial_channel=64 if tiny else 1024,
            upsample_rates=[5, 4, 2, 2, 2], upsample_kernel_sizes=[16, 16, 8, 4, 4], normalize_before=False,
        )
    )  # fmt: skip
    gpt2 = GPT2Config(n_embd=32, n_layer=1, n_head=2) if tiny else GPT2Config()
    return {
        "network": network,
        "vae": vae,
        "text_encoder": ClapModel(clap),
        "text_encoder_2": T5EncoderModel(t5),
        "language_model": GPT2LMHeadModel(gpt2),
        "projection_model": AudioLDM2ProjectionModel(clap.projection_dim, t5.d_model, gpt2.n_embd),
        "vocoder": vocoder,
    }


def audioldm2(parts: Parts) -> Generate:
    """16 kHz mono. Its text encoders, projection and language model run once, before the pipeline is called."""
    scheduler = DDIMScheduler(
        beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    modules = renamed(parts, "unet")
    pipe = quiet(
        AudioLDM2Pipeline(
            **modules, scheduler=scheduler, tokenizer=tokenizer(64), tokenizer_2=tokenizer(64),
            feature_extractor=ClapFeatureExtractor(),
        )
    )  # fmt: skip

    def encode() -> dict[str, torch.Tensor]:
        # encode_prompt asks for tokenizers of certain classes, which need the vocabularies of their checkpoints.
        encoded = tokenizer(64)(PROMPT, return_tensors="pt").to(pipe.device)
        clap = pipe.text_encoder.get_text_features(**encoded)
        clap = getattr(clap, "pooler_output", clap)[:, None]
        t5 = pipe.text_encoder_2(**encoded)[0]
        one = encoded.attention_mask[:, :1]
        projected = pipe.projection_model(clap, t5, attention_mask=one, attention_mask_1=encoded.attention_mask)
        generated = pipe.generate_language_model(
            projected.hidden_states, attention_mask=projected.attention_mask, max_new_tokens=8
        )
        given = {"prompt_embeds": t5, "generated_prompt_embeds": generated}
        return {**given, "attention_mask": encoded.attention_mask}

    def generate(steps: int, duration_s: float) -> tuple[np.ndarray, int]:
        with torch.no_grad():
            given, against = encode(), encode()
        negative = {f"negative_{name}": value for name, value in against.items()}
        out = pipe(audio_length_in_s=duration_s, num_inference_steps=steps, **given, **negative)
        return np.atleast_2d(out.audios[0]), 16000

    return generate


# ---- Stable Audio Open 1.0 -------------------------------------------------------------------------------------------


def stable_audio_open_parts(tiny: bool) -> Parts:
    t5 = t5_config(tiny)
    network = StableAudioDiTModel(
        sample_size=64, num_layers=1, attention_head_dim=16, num_attention_heads=2, num_key_value_attention_heads=2,
        cross_attention_dim=32, global_states_input_dim=64, cross_attention_input_dim=32,
    ) if tiny else StableAudioDiTModel()  # fmt: skip
    vae = AutoencoderOobleck(encoder_hidden_size=4, decoder_channels=4) if tiny else AutoencoderOobleck()
    projection = StableAudioProjectionModel(t5.d_model, t5.d_model, min_value=0, max_value=512)
    return {"network": network, "vae": vae, "text_encoder": T5EncoderModel(t5), "projection_model": projection}


def stable_audio_open(parts: Parts) -> Generate:
    """Makes its whole window (47.55 s at the published size) whatever the request, and cuts it.

    Its published scheduler needs torchsde; the one here, which its conversion script names, also costs a pass a step.
    """
    modules = renamed(parts, "transformer")
    scheduler = EDMDPMSolverMultistepScheduler(
        sigma_min=0.3, sigma_max=500, sigma_data=1.0, sigma_schedule="exponential", prediction_type="v_prediction",
        algorithm_type="sde-dpmsolver++", solver_order=2,
    )  # fmt: skip
    pipe = quiet(StableAudioPipeline(**modules, tokenizer=tokenizer(128), scheduler=scheduler))
    return called(pipe, "audio_end_in_s", 44100)


# ---- Stable Audio 3 small --------------------------------------------------------------------------------------------


def stable_audio_3_parts(tiny: bool) -> Parts:
    gemma = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
                 num_key_value_heads=2, head_dim=16) if tiny else dict(
        hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12,
        num_key_value_heads=12, head_dim=64)  # fmt: skip
    words = gemma["hidden_size"]
    # The class's defaults are the medium model. Width 1024, 20 layers of plain attention meet the paper's 459 M.
    network = StableAudio3DiTModel(
        embed_dim=32 if tiny else 1024, depth=1 if tiny else 20, num_heads=2 if tiny else 16,
        use_differential_attention=False, cond_token_dim=words, global_cond_dim=words,
    )  # fmt: skip
    vae = AutoencoderSAME(encoder_channels=32, encoder_transformer_depths=(1,)) if tiny else AutoencoderSAME()
    config = T5GemmaConfig(
        is_encoder_decoder=False, encoder={**gemma, "vocab_size": 256000 if not tiny else 8400}, vocab_size=256000
    )
    return {
        "network": network,
        "vae": vae,
        "text_encoder": T5GemmaEncoderModel(config),
        "duration_embedder": StableAudio3DurationEmbedder(output_dim=words),
    }


def stable_audio_3(parts: Parts) -> Generate:
    """8 ping-pong steps without guidance, as its pipeline runs the distilled checkpoint."""
    modules = renamed(parts, "transformer")
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, stochastic_sampling=True)
    pipe = quiet(StableAudio3Pipeline(**modules, tokenizer=tokenizer(256), scheduler=scheduler))
    return called(pipe, "duration", 44100)


# ---- ACE-Step 1.5 turbo ----------------------------------------------------------------------------------------------


def ace_step_parts(tiny: bool) -> Parts:
    heads = dict(num_attention_heads=2, num_key_value_heads=1, head_dim=16)
    size = dict(hidden_size=32, intermediate_size=64, **heads) if tiny else {}
    network = AceStepTransformer1DModel(is_turbo=True, **size, **({"num_hidden_layers": 2} if tiny else {}))
    layers = dict(num_lyric_encoder_hidden_layers=2, num_timbre_encoder_hidden_layers=2, text_hidden_dim=32)
    condition = AceStepConditionEncoder(**size, **(layers if tiny else {}))
    vae = AutoencoderOobleck(
        encoder_hidden_size=4 if tiny else 128, decoder_channels=4 if tiny else 128,
        downsampling_ratios=[2, 4, 4, 6, 10], sampling_rate=48000,
    )  # fmt: skip
    qwen = Qwen3Config(vocab_size=8400, num_hidden_layers=1, **size) if tiny else Qwen3Config(
        vocab_size=151669, hidden_size=1024, num_hidden_layers=28, intermediate_size=3072, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128,
    )  # fmt: skip
    return {"network": network, "condition_encoder": condition, "vae": vae, "text_encoder": Qwen3Model(qwen)}


def ace_step(parts: Parts) -> Generate:
    """Text to music without lyrics; the turbo checkpoint has its guidance distilled."""
    modules = renamed(parts, "transformer")
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0)
    pipe = quiet(AceStepPipeline(**modules, tokenizer=tokenizer(256), scheduler=scheduler))
    return called(pipe, "audio_duration", 48000)


@dataclass(frozen=True)
class Peer:
    """`steps`: network passes of its default request of `duration_s` (a guided pass, two rows, counts once).
    `few`: steps from which the rest is estimated where a default request takes too long.
    `published`: parameter counts as stated by the authors, in millions, and how far a part may be from them."""

    parts: Callable[[bool], Parts]
    pipeline: Callable[[Parts], Generate]
    steps: Callable[[float], int]
    few: int
    equal_steps: bool
    published: dict[str, float]
    tolerance: float
    note: str


PEERS = {
    "MusicGen-small": Peer(
        musicgen_parts, musicgen, lambda duration_s: round(50 * duration_s), 20, False,
        {"all": 587.0, "text_encoder": 110.0}, 0.01, "32 kHz mono, autoregressive: 50 tokens a second",
    ),
    "AudioLDM 2": Peer(
        audioldm2_parts, audioldm2, lambda _: 200, 3, True, {"network": 350.0, "sum": 1100.0}, 0.03,
        "16 kHz mono, 200 steps, guided",
    ),
    "Stable Audio Open 1.0": Peer(
        stable_audio_open_parts, stable_audio_open, lambda _: 100, 2, True, {"network": 1057.0, "vae": 156.0}, 0.005,
        "44.1 kHz stereo, 100 steps, guided, always its window of 47.55 s",
    ),
    "Stable Audio 3 small": Peer(
        stable_audio_3_parts, stable_audio_3, lambda _: 8, 3, True, {"network": 459.0, "vae": 108.0}, 0.006,
        "44.1 kHz stereo, 8 steps, distilled",
    ),
    "ACE-Step 1.5 turbo": Peer(
        ace_step_parts, ace_step, lambda _: 8, 3, True, {"vae": 169.0, "text_encoder": 596.0}, 0.01,
        "48 kHz stereo, 8 steps, distilled",
    ),
}  # fmt: skip


def count(parts: Parts) -> dict[str, int]:
    """Parameters of each part, and of all together as `sum` ("all" holds the others and is not added)."""
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in parts.items()}
    return {**counts, "sum": counts.get("all") or sum(counts.values())}
