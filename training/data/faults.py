"""What recordings suffer from, made on purpose: steady noise, reverb, a narrow band."""

from collections.abc import Callable

import numpy as np

Change = Callable[[np.ndarray], np.ndarray]  # audio (channels, samples) -> the same, spoilt


def filtered(audio: np.ndarray, response: Callable[[np.ndarray], np.ndarray], rate: int) -> np.ndarray:
    """Audio whose spectrum is multiplied by a response of frequencies in Hz."""
    size = audio.shape[-1]
    return np.fft.irfft(np.fft.rfft(audio) * response(np.fft.rfftfreq(size, 1.0 / rate)), n=size)


def noise(clean: np.ndarray, rate: int, rng: np.random.Generator, snr_db: float | None = None) -> Change:
    """Steady noise, 0 to 25 dB below the clip unless said: from white to brown, uneven as the noise of rooms and
    amplifiers is, and between the same and another in each channel."""
    channels, size = clean.shape
    slope = rng.uniform(0.0, 2.0)
    hertz = 2.0 ** np.linspace(5.0, 14.4, 9)
    uneven = rng.normal(0.0, rng.uniform(0.0, 6.0), len(hertz))

    def response(frequencies: np.ndarray) -> np.ndarray:
        octaves = np.log2(np.maximum(frequencies, 20.0))
        return 10.0 ** (np.interp(octaves, np.log2(hertz), uneven) / 20.0) * 2.0 ** (-octaves * slope / 2.0)

    apart = rng.uniform(0.0, 1.0)
    drawn = rng.standard_normal((1, size)) + apart * rng.standard_normal((channels, size))
    made = filtered(drawn, response, rate)
    level = 10.0 ** (-(rng.uniform(0.0, 25.0) if snr_db is None else snr_db) / 20.0)
    made *= level * np.sqrt(np.mean(clean**2) / max(np.mean(made**2), 1e-20))
    return lambda audio: audio + made


def reverb(clean: np.ndarray, rate: int, rng: np.random.Generator, rt60_s: float | None = None) -> Change:
    """A room: some early reflections, and noise that has fallen by 60 dB after .3 to 2 s, sooner the higher it is. The
    direct sound stays as loud as it was, and the room is 9 dB softer to 3 dB louder."""
    rt60_s = rng.uniform(0.3, 2.0) if rt60_s is None else rt60_s
    channels, length = len(clean), round(1.2 * rt60_s * rate)
    time_s = np.arange(length) / rate
    tail = rng.standard_normal((channels, length))
    dull = filtered(tail, lambda f: 1.0 / (1.0 + (f / rng.uniform(1500.0, 5000.0)) ** 2), rate)
    room = 0.5 * tail * 10.0 ** (-3.0 * time_s / (rng.uniform(0.3, 0.7) * rt60_s)) + dull * 10.0 ** (
        -3.0 * time_s / rt60_s
    )
    room[:, : round(rng.uniform(0.002, 0.03) * rate)] = 0.0
    room /= np.sqrt((room**2).sum(1, keepdims=True))
    for place_s in rng.uniform(0.004, 0.06, rng.integers(3, 10)):
        room[:, round(place_s * rate)] += rng.normal(0.0, 0.2, channels)
    room *= 10.0 ** (rng.uniform(-9.0, 3.0) / 20.0) / np.sqrt((room**2).sum(1, keepdims=True))

    def change(audio: np.ndarray) -> np.ndarray:
        size = 1 << (audio.shape[1] + length).bit_length()
        wet = np.fft.irfft(np.fft.rfft(audio, n=size) * np.fft.rfft(room, n=size), n=size)
        return audio + wet[:, : audio.shape[1]]

    return change


def band(clean: np.ndarray, rate: int, rng: np.random.Generator, hertz: float | None = None) -> Change:
    """Nothing above 3 to 12 kHz, by a filter that falls within 1 to 12 % of that."""
    edge = float(np.exp(rng.uniform(np.log(3000.0), np.log(12000.0)))) if hertz is None else hertz
    width = rng.uniform(0.01, 0.12) * edge
    return lambda audio: filtered(audio, lambda f: np.clip((edge + width - f) / width, 0.0, 1.0) ** 2, rate)


FAULTS = {"noise": noise, "reverb": reverb, "band": band}


def draw(clean: np.ndarray, rate: int, rng: np.random.Generator) -> dict[str, Change]:
    """One to three faults of a clip, in the order in which they come about: the room, then noise and the band of the
    medium, either first."""
    count = rng.choice([1, 2, 3], p=[0.6, 0.32, 0.08])
    chosen = set(rng.choice([*FAULTS], count, replace=False, p=[0.38, 0.36, 0.26]).tolist())
    order = ("reverb", "noise", "band") if rng.random() < 0.5 else ("reverb", "band", "noise")
    return {name: FAULTS[name](clean, rate, rng) for name in order if name in chosen}
