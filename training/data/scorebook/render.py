"""Renders a piece to audio with tinysoundfont: each part alone at the level of its role, then produced."""

from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter1d

from training.data.scorebook.drumkits import play_kit
from training.data.scorebook.instruments import INSTRUMENTS
from training.data.scorebook.piece import Piece, Track, as_notes
from training.data.scorebook.production import Stem, kicks_of, level_of, produce, set_level

_ROLE_DB = {
    "melody": 0.0, "voice": 0.0, "chords": -5.0, "arpeggio": -6.0, "bass": -4.0, "pad": -9.0, "drums": -2.0,
    "percussion": -7.0,
}  # fmt: skip
INAUDIBLE_DB = -26.0  # parts this far below the loudest are not named in the labels
_PREROLL_S = 1.0  # music before the clip, so that it begins in the middle of sounding notes
_FRESH_PREROLL_S = 0.15  # room for slow attacks that are started before their beat
_LOOP_TAIL_S = 0.1  # music after a loop, so that its end is filtered like its middle
_RISE_S = 0.15  # in which the beginning of a note is looked for
_LEAST_S = 0.03  # shortest note


class SilenceError(ValueError):
    """Nothing sounds in a clip, or too little of the time."""


class Renderer:
    """Holds a loaded SoundFont and renders pieces with it; one for each process.

    Args:
        soundfont: path of an .sf2 or .sf3 file with a General MIDI bank.
        sampling_rate: Hz of the result. Parts are rendered at twice that up to 32 kHz, because tinysoundfont
            interpolates linearly and leaves images near the top.
        channels: 1 or 2.
        drum_samples: folder of the samples of training/data/scorebook/drumkits.py, if tracks have such kits.

    Raises:
        ValueError: if the SoundFont cannot be read or a number is out of range.
    """

    def __init__(self, soundfont: str | Path, sampling_rate: int = 24000, channels: int = 1, drum_samples: str = ""):
        import tinysoundfont  # here so that labels can be read without it

        if not 8000 <= sampling_rate <= 96000:
            raise ValueError(f"sampling_rate {sampling_rate}: must be within 8000 and 96000 Hz")
        if channels not in (1, 2):
            raise ValueError(f"channels {channels}: must be 1 or 2")
        if not Path(soundfont).is_file():
            raise ValueError(f"soundfont {soundfont}: no such file")
        self.sampling_rate = sampling_rate
        self.channels = channels
        self.drum_samples = Path(drum_samples)
        self.rate = 2 * sampling_rate if sampling_rate <= 32000 else sampling_rate
        self.synth = tinysoundfont.Synth(samplerate=self.rate)
        self.leads: dict[tuple[int, int], float] = {}
        try:
            self.font = self.synth.sfload(str(soundfont))
        except (RuntimeError, tinysoundfont.SoundFontException) as error:
            raise ValueError(f"soundfont {soundfont}: not a readable SoundFont ({error})") from None

    def part(self, track: Track, events: list[tuple[int, bool, int, int]], total: int) -> np.ndarray:
        """One part alone: float32 (`total`, 2) at `self.rate`, of events (sample, is on, pitch, velocity) in order."""
        strokes = None
        if track.kit:
            strokes, events = play_kit(self.drum_samples, track.kit, events, total, self.rate)
            if not events:
                return strokes
        bank, program = track.preset
        drums = bank == 128
        channel = 9 if drums else 0
        if self.synth.sfpreset_name(self.font, bank, program) is None:
            bank = 0  # a variant that this SoundFont does not have
        self.synth.program_select(channel, self.font, bank, program, drums)
        buffer = memoryview(bytearray(total * 8))
        place = 0
        for sample, on, pitch, velocity in events:
            if sample > place:
                self.synth.generate_simple(sample - place, buffer[place * 8 : sample * 8])
                place = sample
            if on:
                self.synth.noteon(channel, pitch, velocity)
            else:
                self.synth.noteoff(channel, pitch)
        if total > place:
            self.synth.generate_simple(total - place, buffer[place * 8 :])
        # sounds_off fades over about 50 ms, which would be audible in the next part.
        self.synth.sounds_off(channel)
        self.synth.generate_simple(round(0.15 * self.rate))
        sound = np.frombuffer(buffer, dtype=np.float32).reshape(-1, 2)
        return sound if strokes is None else sound + strokes

    def lead_s(self, track: Track) -> float:
        """How much earlier than it is to be heard a note of a track is started, seconds; 0 for drums.

        Samples begin with some milliseconds of noise or silence and rise slowly or fast. A note counts as begun in the
        middle between the times at which it reaches a twentieth and a third of its peak in the first 150 ms; the mean
        over two pitches is taken.
        """
        if track.name not in INSTRUMENTS:
            return 0.0
        if track.preset not in self.leads:
            instrument, total = INSTRUMENTS[track.name], round(_RISE_S * self.rate)
            found = []
            for pitch in ((2 * instrument.low + instrument.high) // 3, (instrument.low + 2 * instrument.high) // 3):
                sound = self.part(track, [(0, True, pitch, 90), (total - 1, False, pitch, 0)], total).mean(axis=1)
                level = np.sqrt(uniform_filter1d(np.square(sound, dtype=np.float64), round(0.003 * self.rate)))
                found += [float(np.argmax(level >= level.max() / part)) for part in (20.0, 3.0)]
            self.leads[track.preset] = round(float(np.mean(found)) / self.rate, 4)
        return self.leads[track.preset]

    def render(
        self, piece: Piece, clip_s: float, rng: np.random.Generator, loop: bool = False
    ) -> tuple[np.ndarray, list[Track], list[np.ndarray]]:
        """The whole clip.

        A loop is rendered three times in a row and the second pass is kept: notes and reverberation of the first ring
        on into its beginning, and early onsets of the third are in its end, so that its end leads into its beginning.

        Args:
            clip_s: length in seconds; of a loop a whole number of bars.
            loop: whether the clip is to repeat seamlessly.

        Returns:
            audio float32 (channels, samples) with a peak of at most 0.7; its audible tracks; and of each of them the
            notes as they are heard, (n, 4): onset and length in seconds (a note that rings in from before the clip
            has a negative onset), MIDI pitch, velocity in (0, 1].

        Raises:
            SilenceError: if nothing sounds, or a quarter of the clip or more is silent.
        """
        samples = round(clip_s * self.sampling_rate)
        preroll_s = clip_s if loop else _FRESH_PREROLL_S if piece.fresh else _PREROLL_S
        # In whole samples of the result, so that a loop repeats after exactly `samples`.
        before, after = round(preroll_s * self.sampling_rate), round(_LOOP_TAIL_S * self.sampling_rate) if loop else 0
        times = self.rate // self.sampling_rate
        cut, total = before * times, (before + samples + after) * times
        stems: list[Stem] = []
        levels: list[tuple[float, Track, np.ndarray]] = []
        for track in piece.tracks:
            lead_s = self.lead_s(track)
            if loop:
                notes = _loop_notes(piece, track, clip_s, rng)
                events = _loop_events(notes, lead_s, samples * times, clip_s, total)
            else:
                notes = _notes(piece, track, clip_s, preroll_s, rng)
                events = _events(notes, lead_s, cut, total, self.rate)
            sound = self.part(track, events, total)
            mono = 0.5 * (sound[:, 0] + sound[:, 1])
            level, loudness = _active_rms(mono, self.rate), level_of(mono[cut:])
            gain_db = _ROLE_DB[track.role] + rng.uniform(-2.0, 2.0)
            if level < 1e-6 or loudness < 1e-7:
                continue
            gain = 10.0 ** (gain_db / 20.0) / level
            levels.append((loudness * gain, track, notes[notes[:, 0] + notes[:, 1] > 0.0]))
            kicks_s = kicks_of(notes) + preroll_s if track.role == "drums" else np.zeros(0)
            kicks_s = np.concatenate([kicks_s + k * clip_s for k in (-1, 0, 1)]) if loop else kicks_s
            stems.append(Stem(track.role, gain, sound, kicks_s))
        if not levels:
            raise SilenceError(f"piece {piece.work}: nothing sounds in the clip")
        plain = sum(stem.gain * stem.sound[cut : cut + samples * times, 0] for stem in stems)
        if silent_share(plain, self.rate) >= 0.25:
            raise SilenceError(f"piece {piece.work}: a quarter of the clip is silent")
        mix = produce(stems, piece, (self.rate, self.sampling_rate), self.channels, samples, rng)
        mix = np.pad(mix, ((0, 0), (0, max(0, before + samples - mix.shape[1]))))[:, before : before + samples]
        least = max(level for level, _, _ in levels) * 10.0 ** (INAUDIBLE_DB / 20.0)
        audible = [(track, notes) for level, track, notes in levels if level > least]
        audio = set_level(mix, piece, self.sampling_rate, loop).astype(np.float32)
        return audio, [track for track, _ in audible], [notes for _, notes in audible]


def silent_share(sound: np.ndarray, rate: int) -> float:
    """Share of 100-ms pieces more than 42 dB below the whole, of a sound (samples,)."""
    size = rate // 10
    power = np.square(sound[: len(sound) // size * size], dtype=np.float64).reshape(-1, size).mean(axis=1)
    return float((power < power.mean() * 10.0**-4.2).mean())


Event = tuple[int, bool, int, int]  # sample, is on, pitch, velocity


def _played(piece: Piece, track: Track, rng: np.random.Generator) -> list[tuple[float, float, float, float, float]]:
    """Notes as played: start and end in seconds after the start of the clip, shift of both, pitch, velocity."""
    starts = piece.seconds(track.notes[:, 0])
    ends = piece.seconds(track.notes[:, 0] + track.notes[:, 1])
    spread = 0.0 if track.role in ("drums", "percussion") else 0.004
    shift = np.clip(rng.normal(0.0, 1.0, len(starts)), -2.0, 2.0) * spread
    # tinysoundfont's velocity law is shallower than usual.
    strength = np.maximum(1, np.round(127.0 * np.minimum(1.0, track.notes[:, 3]) ** 1.6)) / 127.0
    return list(zip(starts, ends, shift, track.notes[:, 2], strength, strict=True))


def _notes(piece: Piece, track: Track, clip_s: float, preroll_s: float, rng: np.random.Generator) -> np.ndarray:
    """Notes of one part as they are heard, (n, 4): onset and length in seconds, pitch, velocity; those that sound
    between `preroll_s` before the clip and its end."""
    notes = []
    for start, end, move, pitch, velocity in _played(piece, track, rng):
        if start >= clip_s or end <= -preroll_s + 0.03:
            continue
        if piece.fresh and start < -1e-6 and end < 0.25:
            continue  # too little of it is left
        first = max((max(start, 0.0) if piece.fresh else start) + move, -preroll_s)
        if first >= clip_s:
            continue
        notes.append((first, max(_LEAST_S, end + move - first), pitch, velocity))
    return as_notes(notes)


def _loop_notes(piece: Piece, track: Track, clip_s: float, rng: np.random.Generator) -> np.ndarray:
    """As `_notes`, of those that begin within a loop; onsets within [0, clip_s), lengths of at most `clip_s`."""
    return as_notes([
        ((start + move) % clip_s, max(_LEAST_S, min(end - start, clip_s)), pitch, velocity)
        for start, end, move, pitch, velocity in _played(piece, track, rng)
        if -1e-6 <= start < clip_s - 1e-6
    ])  # fmt: skip


def _in_order(events: list[Event], total: int) -> list[Event]:
    return sorted((e for e in events if 0 <= e[0] < total), key=lambda e: (e[0], e[1], e[2]))


def _events(notes: np.ndarray, lead_s: float, cut: int, total: int, rate: int) -> list[Event]:
    """Note events of one part, in the order in which they happen, for a clip that begins at sample `cut`."""
    events = []
    for onset, length, pitch, velocity in notes:
        first = max(0, cut + round((onset - lead_s) * rate))
        last = max(first + round(_LEAST_S * rate), cut + round((onset + length - lead_s) * rate))
        events += [(first, True, int(pitch), round(127.0 * velocity)), (last, False, int(pitch), 0)]
    return _in_order(events, total)


def _loop_events(notes: np.ndarray, lead_s: float, period: int, clip_s: float, total: int) -> list[Event]:
    """Note events of three passes through the notes of a loop, each pass `period` samples long."""
    events, rate = [], period / clip_s
    for onset, length, pitch, velocity in notes:
        first = round((onset - lead_s) * rate)
        last = max(first + round(_LEAST_S * rate), round((onset + length - lead_s) * rate))
        for begin in (0, period, 2 * period):
            # What would start before the first pass starts with it: that pass is not kept.
            strength = round(127.0 * velocity)
            events += [(max(0, begin + first), True, int(pitch), strength), (begin + last, False, int(pitch), 0)]
    return _in_order(events, total)


def _active_rms(audio: np.ndarray, rate: int) -> float:
    """RMS over the 50-ms pieces within 25 dB of the loudest, so that rests do not count."""
    size = rate // 20
    power = np.square(audio[: len(audio) // size * size], dtype=np.float64).reshape(-1, size).mean(axis=1)
    if power.max(initial=0.0) <= 0.0:
        return 0.0
    return float(np.sqrt(power[power > power.max() * 10.0**-2.5].mean()))
