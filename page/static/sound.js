// Sound of the page: 16-bit WAV files read as they are, played without a gap, and looked at through a short FFT.
(() => {
  const contexts = new Map();

  // One context for each sampling rate, so that a loop is wrapped in the file's own samples, not in resampled ones.
  function contextFor(rate) {
    if (!contexts.has(rate)) {
      try {
        contexts.set(rate, new AudioContext({ sampleRate: rate }));
      } catch {
        contexts.set(rate, new AudioContext());
      }
    }
    return contexts.get(rate);
  }

  // {rate, channels: Float32Array[], there: seconds in it} of a RIFF file of 16-bit PCM, with silence up to `seconds`.
  function readWav(bytes, seconds = 0) {
    const view = new DataView(bytes);
    const word = (at) => String.fromCharCode(...new Uint8Array(bytes, at, 4));
    if (word(0) !== "RIFF" || word(8) !== "WAVE") throw new Error("not a WAV file");
    let at = 12, rate = 0, count = 0, bits = 0;
    while (at + 8 <= view.byteLength) {
      const size = view.getUint32(at + 4, true);
      if (word(at) === "fmt ") {
        count = view.getUint16(at + 10, true);
        rate = view.getUint32(at + 12, true);
        bits = view.getUint16(at + 22, true);
      } else if (word(at) === "data") {
        if (bits !== 16) throw new Error(`a WAV file of ${bits} bits`);
        const length = Math.floor(Math.min(size, view.byteLength - at - 8) / (2 * count));
        const channels = Array.from({ length: count }, () => new Float32Array(Math.max(length, Math.round(seconds * rate))));
        for (let i = 0; i < length; i++)
          for (let c = 0; c < count; c++)
            channels[c][i] = view.getInt16(at + 8 + 2 * (i * count + c), true) / 32768;
        return { rate, channels, there: length / rate };
      }
      at += 8 + size + (size % 2);
    }
    throw new Error("a WAV file without samples");
  }

  // The files of a zip: [{name, bytes}].
  async function readZip(bytes) {
    const view = new DataView(bytes), files = [];
    let end = bytes.byteLength - 22;
    while (end > 0 && view.getUint32(end, true) !== 0x06054b50) end--;
    let at = view.getUint32(end + 16, true); // of the central directory
    for (let left = view.getUint16(end + 10, true); left > 0; left--) {
      const [packed, size, extra, comment] = [[20, 4], [28, 2], [30, 2], [32, 2]].map(([place, wide]) =>
        wide === 4 ? view.getUint32(at + place, true) : view.getUint16(at + place, true),
      );
      const name = new TextDecoder().decode(new Uint8Array(bytes, at + 46, size));
      const local = view.getUint32(at + 42, true);
      const begin = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      let content = new Blob([new Uint8Array(bytes, begin, packed)]);
      if (view.getUint16(at + 10, true) === 8)
        content = new Response(content.stream().pipeThrough(new DecompressionStream("deflate-raw")));
      files.push({ name, bytes: await content.arrayBuffer() });
      at += 46 + size + extra + comment;
    }
    return files;
  }

  // A node that plays the samples; looped, the first of the region follows its last with nothing between.
  function makeSource(context, sound, loop, region = null) {
    if (!sound.buffer) {
      sound.buffer = context.createBuffer(sound.channels.length, sound.channels[0].length, sound.rate);
      sound.channels.forEach((samples, c) => sound.buffer.copyToChannel(samples, c));
    }
    const node = context.createBufferSource();
    node.buffer = sound.buffer;
    node.loop = loop;
    [node.loopStart, node.loopEnd] = region || [0, 0];
    return node;
  }

  // A short tone on each beat, a higher one on the first of a bar, as long as a sound whose beats are known.
  function makeClicks({ rate, channels }, { bpm, downbeat_s, beats_per_bar }) {
    const samples = new Float32Array(channels[0].length), beat = 60 / bpm;
    for (let k = Math.ceil(-downbeat_s / beat - 1e-6), at; (at = Math.round((downbeat_s + k * beat) * rate)) < samples.length; k++)
      for (let i = 0, hz = k % beats_per_bar ? 1175 : 1760; i < 0.04 * rate; i++)
        samples[at + i] = Math.sin((2 * Math.PI * hz * i) / rate) * Math.exp(-i / (0.006 * rate));
    return { rate, channels: [samples] };
  }

  // What the speakers would get for `rounds` rounds of the loop; the browser test compares it with the file.
  async function renderLoop(sound, rounds) {
    const length = sound.channels[0].length * rounds;
    const context = new OfflineAudioContext(sound.channels.length, length, sound.rate);
    const node = makeSource(context, sound, true);
    node.connect(context.destination);
    node.start();
    return (await context.startRendering()).getChannelData(0);
  }

  function mono(sound) {
    if (sound.channels.length === 1) return sound.channels[0];
    return sound.channels[0].map((_, i) => sound.channels.reduce((sum, c) => sum + c[i], 0) / sound.channels.length);
  }

  // In-place FFT of a power of two (Cooley and Tukey 1965).
  function fft(re, im) {
    const n = re.length;
    for (let i = 1, j = 0; i < n; i++) {
      let bit = n >> 1;
      for (; j & bit; bit >>= 1) j ^= bit;
      j ^= bit;
      if (i < j) {
        [re[i], re[j]] = [re[j], re[i]];
        [im[i], im[j]] = [im[j], im[i]];
      }
    }
    for (let size = 2; size <= n; size *= 2) {
      const angle = (-2 * Math.PI) / size;
      for (let k = 0; k < size / 2; k++) {
        const wr = Math.cos(angle * k), wi = Math.sin(angle * k);
        for (let i = k; i < n; i += size) {
          const j = i + size / 2;
          const tr = wr * re[j] - wi * im[j], ti = wr * im[j] + wi * re[j];
          re[j] = re[i] - tr;
          im[j] = im[i] - ti;
          re[i] += tr;
          im[i] += ti;
        }
      }
    }
  }

  // Levels 0..1 of `columns` moments in `rows` bands, spaced in octaves from 60 Hz up: Float32Array, column by column.
  function spectrogram(sound, columns, rows, size = 1024) {
    const samples = mono(sound), out = new Float32Array(columns * rows);
    const top = Math.min(sound.rate / 2, 16000), octaves = Math.log2(top / 60);
    const hann = Float32Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));
    const re = new Float32Array(size), im = new Float32Array(size), power = new Float32Array(size / 2);
    for (let x = 0; x < columns; x++) {
      const first = Math.round(((x + 0.5) / columns) * samples.length - size / 2);
      for (let i = 0; i < size; i++) {
        re[i] = (samples[first + i] || 0) * hann[i];
        im[i] = 0;
      }
      fft(re, im);
      for (let i = 0; i < size / 2; i++) power[i] = re[i] * re[i] + im[i] * im[i];
      for (let y = 0; y < rows; y++) {
        const bin = (hz) => (hz * size) / sound.rate;
        const low = bin(60 * 2 ** ((octaves * y) / rows)), high = bin(60 * 2 ** ((octaves * (y + 1)) / rows));
        let most = 0;
        for (let b = Math.round(low); b <= Math.max(Math.round(low), Math.round(high) - 1); b++)
          most = Math.max(most, power[b] || 0);
        out[x * rows + y] = Math.min(1, Math.max(0, (10 * Math.log10(most + 1e-9) + 30) / 70));
      }
    }
    return out;
  }

  // [lowest, highest] sample in each of `columns` stretches.
  function peaks(sound, columns) {
    const samples = mono(sound), out = [];
    for (let x = 0; x < columns; x++) {
      const first = Math.floor((x / columns) * samples.length);
      const last = Math.max(first + 1, Math.floor(((x + 1) / columns) * samples.length));
      let low = 1, high = -1;
      for (let i = first; i < last; i++) {
        low = Math.min(low, samples[i]);
        high = Math.max(high, samples[i]);
      }
      out.push([low, high]);
    }
    return out;
  }

  window.vivaceSound = { contextFor, readWav, readZip, makeSource, makeClicks, renderLoop, spectrogram, peaks };
})();
