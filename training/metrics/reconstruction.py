"""Reconstruction metrics of one clip: distances of a decoded waveform from the one that was encoded."""

import librosa
import numpy as np
import soxr
import torch
from transformers import EncodecModel

MELS = 80
FLOOR = 1e-4  # -80 dB below the strongest mel magnitude of the reference
RESOLUTIONS = (512, 1024, 2048)  # samples of a window
SIDE_LIMIT_DB = 30.0  # level difference between the channels at which a sound counts as fully left or right


def _pair(estimate: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if estimate.shape != reference.shape or estimate.ndim != 1 or not len(estimate):
        raise ValueError(f"estimate has shape {estimate.shape}, reference {reference.shape}; needed: equal, (samples,)")
    return estimate.astype(np.float64), reference.astype(np.float64)


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019), means removed; -120 to 120. Raises a
    ValueError for shapes that differ or are not (samples,)."""
    estimate, reference = _pair(estimate, reference)
    estimate, reference = estimate - estimate.mean(), reference - reference.mean()
    target = np.dot(estimate, reference) / max(np.dot(reference, reference), 1e-20) * reference
    ratio = np.dot(target, target) / max(np.dot(estimate - target, estimate - target), 1e-20)
    return float(np.clip(10.0 * np.log10(max(ratio, 1e-12)), -120.0, 120.0))


def mel_magnitudes(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """(MELS, frames) of audio (samples,): bands up to half the sampling rate (Slaney), window 1024, hop 256."""
    return librosa.feature.melspectrogram(y=audio, sr=sampling_rate, n_fft=1024, hop_length=256, n_mels=MELS, power=1.0)


def log_mel_distance(estimate: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Mean absolute difference of log10 `mel_magnitudes`, both floored 80 dB below the strongest value of the
    reference. 0.05 is 1 dB. Raises a ValueError for shapes that differ or are not (samples,).
    """
    estimate, reference = _pair(estimate, reference)
    wanted, got = mel_magnitudes(reference, sampling_rate), mel_magnitudes(estimate, sampling_rate)
    floor = max(FLOOR * wanted.max(), 1e-10)
    return float(np.mean(np.abs(np.log10(np.maximum(got, floor)) - np.log10(np.maximum(wanted, floor)))))


def stft_distance(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Multi-resolution STFT distance (Yamamoto et al. 2020): spectral convergence plus L1 of natural-log magnitudes,
    averaged over windows of 512, 1024 and 2048 samples, hop a quarter; log magnitudes floored at -80 dB. Raises a
    ValueError for shapes that differ or are not (samples,).
    """
    estimate, reference = _pair(estimate, reference)
    total = 0.0
    for size in RESOLUTIONS:
        wanted, got = (np.abs(librosa.stft(a, n_fft=size, hop_length=size // 4)) for a in (reference, estimate))
        floor = max(FLOOR * wanted.max(), 1e-10)
        convergence = np.linalg.norm(got - wanted) / max(np.linalg.norm(wanted), 1e-10)
        log_l1 = np.mean(np.abs(np.log(np.maximum(got, floor)) - np.log(np.maximum(wanted, floor))))
        total += convergence + log_l1
    return float(total / len(RESOLUTIONS))


def stereo_error(estimate: np.ndarray, reference: np.ndarray) -> float | None:
    """Error of the stereo image in dB: by how much the level difference between the channels differs.

    Mean over windows of 2048 samples and bins, weighted by the reference's energy; level differences are limited to 30
    dB. None unless both (channels, samples) have two channels. Raises a ValueError for lengths that differ.
    """
    if len(estimate) != 2 or len(reference) != 2:
        return None
    if estimate.shape != reference.shape:
        raise ValueError(f"estimate has shape {estimate.shape}, reference {reference.shape}; needed: equal")

    def sides(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        power = np.abs(librosa.stft(audio.astype(np.float64), n_fft=2048, hop_length=1024)) ** 2  # (2, bins, frames)
        floor = 1e-8 * max(power.max(), 1e-12)
        difference = 10.0 * np.log10((power[0] + floor) / (power[1] + floor))
        return np.clip(difference, -SIDE_LIMIT_DB, SIDE_LIMIT_DB), power.sum(axis=0)

    (got, _), (wanted, energy) = sides(estimate), sides(reference)
    return float((np.abs(got - wanted) * energy).sum() / max(energy.sum(), 1e-20))


def reconstruction_figures(estimate: np.ndarray, reference: np.ndarray, sampling_rate: int) -> dict[str, float | None]:
    """All metrics of one clip (channels, samples): `si_sdr_db`, `log_mel`, `mr_stft` (means over channels) and
    `stereo_db`. If only one of the two is mono, the other is mixed down. Raises a ValueError for lengths that differ.
    """
    if len(estimate) != len(reference):
        estimate, reference = (audio.mean(axis=0, keepdims=True) for audio in (estimate, reference))
    pairs = list(zip(estimate, reference, strict=True))
    return {
        "si_sdr_db": float(np.mean([si_sdr(got, wanted) for got, wanted in pairs])),
        "log_mel": float(np.mean([log_mel_distance(got, wanted, sampling_rate) for got, wanted in pairs])),
        "mr_stft": float(np.mean([stft_distance(got, wanted) for got, wanted in pairs])),
        "stereo_db": stereo_error(estimate, reference),
    }


# A published neural codec, for comparison.


class Codec:
    """EnCodec, clip by clip: an `EncodecModel` by its folder or Hub id, at a bandwidth in kilobits a second (None = its
    highest). Raises a ValueError for a bandwidth that the model does not have."""

    def __init__(self, name: str, kbps: float | None = None):
        self.model = EncodecModel.from_pretrained(name).eval()
        allowed = self.model.config.target_bandwidths
        if kbps is not None and kbps not in allowed:
            raise ValueError(f"codec_kbps is {kbps:g}; allowed with {name}: {', '.join(f'{k:g}' for k in allowed)}")
        self.kbps = max(allowed) if kbps is None else kbps

    @torch.no_grad()
    def reconstruct(self, audio: np.ndarray, sampling_rate: int) -> np.ndarray:
        """A mono clip (samples,) through encoder, quantiser and decoder; same rate and length."""
        config = self.model.config
        own = soxr.resample(audio, sampling_rate, config.sampling_rate).astype(np.float32)
        own = torch.from_numpy(own)[None, None].expand(1, config.audio_channels, -1)
        decoded = self.model(own, bandwidth=self.kbps).audio_values[0].mean(0).numpy()
        back = soxr.resample(decoded, config.sampling_rate, sampling_rate).astype(np.float32)[: len(audio)]
        return np.pad(back, (0, len(audio) - len(back)))
