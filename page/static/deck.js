// The player: waveform and spectrogram, or the notes, under a grid of beats; gapless loop, of a region too, which is
// chosen by mouse or keyboard; zoom; a click on each beat; and each part of a piece with its own volume.
(() => {
  const { contextFor, readWav, readZip, makeSource, makeClicks, spectrogram, peaks } = window.vivaceSound;
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;
  let sounding = null; // one deck at a time

  class Deck {
    constructor(element, props, watch, trigger, composes) {
      this.root = element.querySelector(".deck");
      this.props = props;
      this.find = (name) => this.root.querySelector(`[data-part="${name}"]`);
      this.tracks = [];
      this.sounds = new Map();
      this.current = 0;
      this.position = 0;
      this.region = null;
      this.node = null; // the source that tells the time; those of other parts begin with it
      this.mix = trigger ? JSON.parse(sessionStorage.vivaceMix || "{}") : {}; // role: {mute, solo, volume}
      this.zoom = 1;
      this.roll = trigger ? new window.VivaceRoll(this, this.find("roll"), trigger, composes) : null;
      this.listen();
      watch("value", () => this.show(props.value));
      this.show(props.value);
    }

    get track() {
      return this.tracks[this.current];
    }

    // Whether the rest of the sound is still being made.
    get partial() {
      return this.sound.there < this.duration - 0.01;
    }

    listen() {
      this.find("play").addEventListener("click", () => this.toggle());
      this.find("loop").addEventListener("click", () => this.setLoop(!this.loop));
      this.find("click").addEventListener("click", () => this.setClick(!this.clicks));
      this.find("volume").addEventListener("input", () => this.setClick(this.clicks));
      this.find("clear").addEventListener("click", () => this.select(null));
      for (const name of ["from", "to"])
        this.find(name).addEventListener("change", () => {
          const values = ["from", "to"].map((part) => parseFloat(this.find(part).value));
          this.select(values.some(Number.isNaN) ? null : values);
        });
      this.find("closer").addEventListener("click", () => this.setZoom(this.zoom * 2));
      this.find("wider").addEventListener("click", () => this.setZoom(this.zoom / 2));
      const view = this.find("view");
      view.addEventListener("pointerdown", (event) => this.press(event));
      this.root.addEventListener("keydown", (event) => this.key(event));
      new ResizeObserver(() => this.draw()).observe(view);
      new MutationObserver(() => this.draw()).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    }

    // A new value came from the server, unless it is the one that this deck wrote itself.
    async show(value) {
      const tracks = value?.tracks || [];
      const key = JSON.stringify(tracks.map((track) => track.url));
      if (key === this.shown) return;
      this.shown = key;
      const more = Boolean(this.track?.coming && (value.goes_on || tracks[0]?.coming)); // of what is here, and plays on
      if (!more) this.stop();
      this.tracks = tracks;
      this.current = tracks[value?.current] ? value.current : 0;
      this.region = null;
      this.selectable = Boolean(value?.selectable);
      if (!more) {
        this.position = 0;
        this.setLoop(Boolean(this.track?.loop));
        this.setZoom(1);
      }
      this.root.classList.toggle("deck-empty", !tracks.length);
      this.root.classList.toggle("deck-selectable", this.selectable);
      this.chips();
      if (!tracks.length || !(await this.load()) || !more) return;
      const waits = this.waits;
      this.seek(this.now());
      if (waits) this.play();
    }

    async load() {
      const track = this.track;
      if (!this.sounds.has(track.url)) {
        const answer = await fetch(track.url);
        if (!answer.ok) {
          this.say("This piece has expired; make it again from its settings.");
          return false;
        }
        if (this.sounds.size > 8) this.sounds.clear();
        this.sounds.set(track.url, readWav(await answer.arrayBuffer(), track.coming));
      }
      if (track !== this.track) return false;
      this.sound = this.sounds.get(track.url);
      this.duration = this.sound.channels[0].length / this.sound.rate;
      this.position = this.position < this.duration ? this.position : 0;
      for (const kind of ["wav", "flac", "mp3", "ogg", "mid", "zip"]) {
        const link = this.find(kind);
        link.hidden = Boolean(track.coming) || (kind !== "wav" && !track[kind]);
        link.href = kind === "wav" ? track.url : track[kind] || "";
        link.download = `${track.name}.${kind}`;
      }
      this.say(track.about);
      this.find("click").hidden = !track.bpm;
      this.setClick(this.clicks);
      this.root.dataset.coming = track.coming ? this.sound.there : "";
      if (!track.coming) this.root.dataset.ready = track.id;
      this.roll?.show(track);
      this.root.classList.toggle("deck-notes", Boolean(this.roll?.score));
      this.fields();
      this.draw();
      if (this.roll?.score && track.zip) this.loadParts(track);
      return true;
    }

    // The parts of a piece, each alone; until they are there its mix plays.
    async loadParts(track) {
      if (!this.sound.parts) {
        const sound = this.sound, answer = await fetch(track.zip);
        if (!answer.ok) return;
        const parts = {};
        for (const { name, bytes } of await readZip(await answer.arrayBuffer())) parts[name.split(".").at(-2)] = readWav(bytes);
        sound.parts = parts;
      }
      if (track !== this.track) return;
      this.root.dataset.parts = Object.keys(this.sound.parts).join(" ");
      if (this.node && this.mixed()) this.seek(this.now());
    }

    setMix(role, kind, value) {
      this.mix[role] = { ...this.mix[role], [kind]: value };
      sessionStorage.vivaceMix = JSON.stringify(this.mix);
      for (const [name, level] of Object.entries(this.levels || {}))
        level.gain.setTargetAtTime(this.gain(name), level.context.currentTime, 0.01);
      this.roll?.mix();
    }

    gain(role) {
      const own = this.mix[role] || {}, alone = Object.values(this.mix).some((one) => one.solo);
      return own.mute || (alone && !own.solo) ? 0 : (own.volume ?? 1);
    }

    // Whether the beats click, as loud as the slider beside it says.
    setClick(on) {
      this.clicks = Boolean(on);
      this.find("click").setAttribute("aria-pressed", this.clicks);
      this.find("volume").hidden = !this.clicks || !this.track?.bpm;
      const gain = this.clicks ? Number(this.find("volume").value) : 0;
      if (this.clickLevel) this.clickLevel.gain.setTargetAtTime(gain, this.clickLevel.context.currentTime, 0.01);
      else if (on && this.node && this.track.bpm) this.seek(this.now());
    }

    mixed() {
      return Object.keys(this.mix).some((role) => this.gain(role) !== 1) || Object.values(this.mix).some((one) => one.solo);
    }

    // Show so many times less of the piece; what plays, or else the middle, stays in sight.
    setZoom(zoom) {
      const box = this.find("scroll"), share = (box.scrollLeft + box.clientWidth / 2) / Math.max(1, box.scrollWidth);
      const place = this.node ? this.now() / this.duration : share;
      this.zoom = clamp(zoom, 1, clamp(2 ** Math.floor(Math.log2((this.duration || 1) / 1.5)), 1, 32));
      this.find("wide").style.width = `${100 * this.zoom}%`;
      this.find("wider").disabled = this.zoom === 1;
      box.scrollLeft = place * box.scrollWidth - box.clientWidth / 2;
    }

    say(text) {
      this.find("about").textContent = text;
    }

    chips() {
      const box = this.find("chips");
      box.replaceChildren();
      box.hidden = this.tracks.length < 2;
      this.tracks.forEach((track, index) => {
        const chip = document.createElement("button");
        chip.type = "button";
        chip.textContent = track.label;
        chip.setAttribute("aria-pressed", index === this.current);
        chip.addEventListener("click", () => this.choose(index));
        box.append(chip);
      });
    }

    // Another take from the same moment on.
    async choose(index) {
      const playing = this.node !== null;
      this.position = this.now();
      this.stop();
      this.current = index;
      this.props.value = { ...this.props.value, current: index };
      [...this.find("chips").children].forEach((chip, i) => chip.setAttribute("aria-pressed", i === index));
      if ((await this.load()) && playing) this.play();
    }

    now() {
      if (!this.node) return this.position;
      const passed = this.position + Math.max(0, this.node.context.currentTime - this.startedAt);
      if (!this.loop) return Math.min(passed, this.duration);
      const { loopStart, loopEnd } = this.node, end = loopEnd || this.duration;
      return passed < end ? passed : loopStart + ((passed - loopStart) % (end - loopStart));
    }

    async play() {
      if (!this.sound) return;
      if (sounding && sounding !== this) sounding.stop();
      sounding = this;
      const context = contextFor(this.sound.rate);
      if (context.state === "suspended") await context.resume();
      if (this.node) return;
      const { parts } = this.sound, [first, last] = this.region || [0, this.duration];
      if (this.position >= this.duration - 0.01 || (this.loop && this.position >= last)) this.position = this.loop ? first : 0;
      this.startedAt = context.currentTime + (parts ? 0.02 : 0); // all parts at one moment
      this.levels = {};
      this.nodes = [];
      const start = (sound, gain) => {
        const source = makeSource(context, sound, this.loop, this.region), level = new GainNode(context, { gain });
        source.connect(level).connect(context.destination);
        source.start(this.startedAt, this.position, ...(this.partial ? [Math.max(0, this.sound.there - this.position)] : []));
        this.nodes.push(source);
        return level;
      };
      for (const [role, sound] of Object.entries(parts || { all: this.sound })) this.levels[role] = start(sound, this.gain(role));
      this.clickLevel = null;
      if (this.clicks && this.track.bpm) {
        this.sound.clicks ||= makeClicks(this.sound, this.track);
        this.clickLevel = start(this.sound.clicks, Number(this.find("volume").value));
      }
      const node = this.nodes[0];
      node.onended = () => node === this.node && this.finish();
      this.node = node;
      this.mark(true);
      const follow = () => {
        if (this.node !== node) return;
        this.head();
        requestAnimationFrame(follow);
      };
      follow();
    }

    stop() {
      if (this.waits) this.mark((this.waits = false));
      if (!this.node) return;
      this.position = this.now();
      this.node = null;
      for (const node of this.nodes) node.stop();
      this.mark(false);
    }

    // The end, or that of what there is so far: then it goes on when more of it is made.
    finish() {
      this.node = null;
      this.waits = this.partial;
      this.position = this.waits ? this.sound.there : 0;
      this.mark(this.waits);
      this.head();
    }

    mark(playing) {
      const button = this.find("play");
      button.setAttribute("aria-label", playing ? "Pause" : "Play");
      button.dataset.playing = playing;
    }

    toggle() {
      if (this.node || this.waits) this.stop();
      else this.play();
    }

    setLoop(loop) {
      const moment = this.now();
      this.loop = loop;
      this.find("loop").setAttribute("aria-pressed", loop);
      if (this.node) {
        this.position = moment;
        this.startedAt = this.node.context.currentTime;
        for (const node of this.nodes) node.loop = loop;
      }
    }

    seek(seconds) {
      const playing = this.node !== null;
      this.stop();
      this.position = clamp(seconds, 0, Math.max(0, this.sound.there - 0.001));
      this.head();
      if (playing) this.play();
    }

    key(event) {
      if (!this.sound || event.target.matches("input, select, a")) return;
      const beat = this.track.bpm ? 60 / this.track.bpm : 1;
      const onButton = event.target.matches("button");
      const move = { ArrowLeft: -beat, ArrowRight: beat }[event.key];
      if (event.key === " " && !onButton) this.toggle();
      else if (event.key === "l" || event.key === "L") this.setLoop(!this.loop);
      else if ((event.key === "m" || event.key === "M") && this.track.bpm) this.setClick(!this.clicks);
      else if (event.key === "Home") this.seek(0);
      else if (move && event.shiftKey && this.selectable) {
        const [first, last] = this.region || [this.now(), this.now()];
        this.select([first, last + move]);
      } else if (move) this.seek(this.now() + move);
      else if (/^[1-9]$/.test(event.key) && this.tracks[event.key - 1]) this.choose(event.key - 1);
      else return;
      event.preventDefault();
    }

    // Seconds under the pointer; a drag chooses a region where there is one to choose, or moves the end of the one that
    // is chosen; a click moves the playhead.
    press(event) {
      if (!this.sound || event.button) return;
      const box = this.find("view").getBoundingClientRect();
      const at = (moved) => clamp((moved.clientX - box.left) / box.width, 0, 1) * this.duration;
      const x = event.clientX, pixel = (seconds) => box.left + (seconds / this.duration) * box.width;
      const end = (this.region || []).findIndex((seconds) => Math.abs(pixel(seconds) - x) < 8);
      const first = end < 0 ? at(event) : this.region[1 - end];
      let dragged = false;
      const move = (moved) => {
        dragged ||= Math.abs(moved.clientX - x) > 4;
        if (dragged && this.selectable) this.select([first, at(moved)], false);
      };
      const up = (moved) => {
        removeEventListener("pointermove", move);
        removeEventListener("pointerup", up);
        if (dragged && this.selectable) this.select([first, at(moved)]);
        else if (!dragged) this.seek(at(moved));
      };
      addEventListener("pointermove", move);
      addEventListener("pointerup", up);
    }

    snap(seconds) {
      const { bpm, downbeat_s, beats_per_bar } = this.track, unit = this.find("snap").value;
      if (!bpm || unit === "off") return seconds;
      const step = (60 / bpm) * (unit === "bar" ? beats_per_bar : 1);
      return downbeat_s + Math.round((seconds - downbeat_s) / step) * step;
    }

    // Choose [from, to] in seconds, or nothing; `done` writes it into the value that the server gets.
    select(region, done = true) {
      if (region && this.sound) {
        const ends = region.map((s) => clamp(this.snap(s), 0, this.duration)).sort((a, b) => a - b);
        this.region = ends[1] - ends[0] < 0.02 ? null : ends.map((s) => Math.round(s * 1000) / 1000);
      } else this.region = null;
      this.fields();
      this.roll?.score && this.roll.region();
      if (!done) return;
      if (this.region && !this.node) this.seek(this.region[0]);
      else if (this.node && this.loop) this.seek(this.region ? clamp(this.now(), ...this.region) : this.now());
      this.props.value = { ...this.props.value, region: this.region };
    }

    fields() {
      ["from", "to"].forEach((name, i) => (this.find(name).value = this.region ? this.region[i].toFixed(2) : ""));
      const shade = this.find("region");
      shade.hidden = !this.region;
      if (!this.region) return;
      shade.style.left = `${(100 * this.region[0]) / this.duration}%`;
      shade.style.width = `${(100 * (this.region[1] - this.region[0])) / this.duration}%`;
    }

    head() {
      const now = this.now(), { bpm, downbeat_s, beats_per_bar } = this.track;
      this.find("head").style.left = `${(100 * now) / this.duration}%`;
      if (this.zoom > 1 && this.node) {
        const box = this.find("scroll"), x = (now / this.duration) * box.scrollWidth - box.scrollLeft;
        if (x < 0 || x > box.clientWidth) box.scrollLeft += x - 0.1 * box.clientWidth;
      }
      let text = `${clock(now)} / ${clock(this.duration)}`;
      const beat = bpm ? Math.floor(((now - downbeat_s) * bpm) / 60 + 1e-3) : -1;
      const bar = Math.floor(beat / beats_per_bar);
      if (beat >= 0) text += `  ·  bar ${bar + 1}, beat ${(beat % beats_per_bar) + 1}`;
      const begun = Object.keys(this.track.sections || {}).filter((first) => first <= bar); // in their order
      if (begun.length) text += `  ·  ${this.track.sections[begun.at(-1)]}`;
      this.find("time").textContent = text;
    }

    // A canvas, emptied, in the pixels of the screen: [context, width, height, pixels to a CSS pixel].
    canvas(canvas) {
      const scale = Math.min(devicePixelRatio || 1, 2, 12000 / Math.max(1, canvas.clientWidth));
      canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
      canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
      return [canvas.getContext("2d"), canvas.width, canvas.height, scale];
    }

    draw() {
      if (!this.sound) return;
      const style = getComputedStyle(this.root);
      const colour = (name) => style.getPropertyValue(`--deck-${name}`).trim();
      const [wave, width, height, scale] = this.canvas(this.find("wave"));
      if (width < 10) return;
      const lane = 18 * scale;
      this.grid(wave, width, height, scale, colour, true);
      wave.fillStyle = colour("wave");
      const columns = Math.floor(width / scale / 3), middle = (height + lane) / 2, reach = (height - lane) / 2;
      peaks(this.sound, columns).forEach(([low, high], x) => {
        const top = middle - high * reach, bottom = middle - low * reach;
        wave.fillRect(x * 3 * scale, top, 2 * scale, Math.max(scale, bottom - top));
      });
      wave.fillStyle = colour("accent");
      for (const [first, last] of this.track.made || [])
        wave.fillRect((first / this.duration) * width, height - 3 * scale, ((last - first) / this.duration) * width, 3 * scale);
      if (this.roll?.score) {
        this.roll.draw();
        this.head();
        return;
      }
      const [spec, wide, high] = this.canvas(this.find("spec"));
      const across = Math.min(wide, 700), rows = 96, levels = spectrogram(this.sound, across, rows);
      const image = new ImageData(across, rows), ramp = ["paper", "cool", "warm"].map((name) => rgb(colour(name)));
      for (let x = 0; x < across; x++)
        for (let y = 0; y < rows; y++) {
          const place = 4 * ((rows - 1 - y) * across + x);
          image.data.set(blend(ramp, levels[x * rows + y]), place);
        }
      const small = new OffscreenCanvas(across, rows);
      small.getContext("2d").putImageData(image, 0, 0);
      spec.imageSmoothingEnabled = true;
      spec.drawImage(small, 0, 0, wide, high);
      this.grid(spec, wide, high, scale, colour, false);
      this.head();
    }

    // A line on each beat, a stronger one with its number on each bar; beats are left out where they would crowd.
    grid(canvas, width, height, scale, colour, numbers) {
      const { bpm, downbeat_s, beats_per_bar, sections } = this.track;
      if (!bpm) return;
      const starts = Object.keys(sections || {});
      let free = 0; // right of what is written
      const beat = 60 / bpm, px = (beat / this.duration) * width;
      const first = Math.ceil(-downbeat_s / beat - 1e-6);
      const barPx = px * beats_per_bar, every = Math.max(1, Math.ceil((26 * scale) / barPx));
      canvas.font = `${11 * scale}px ui-sans-serif, system-ui, sans-serif`;
      for (let k = first; downbeat_s + k * beat < this.duration - 1e-3; k++) {
        const bar = k % beats_per_bar === 0, x = ((downbeat_s + k * beat) / this.duration) * width;
        if (!bar && px < 7 * scale) continue;
        canvas.fillStyle = colour(bar ? "bar" : "beat");
        canvas.fillRect(x, numbers ? (bar ? 0 : 18 * scale) : 0, scale, height);
        const index = Math.floor(k / beats_per_bar);
        const name = sections?.[index], close = starts.some((first) => first > index && first < index + every);
        if (bar && numbers && index >= 0 && x >= free && (name || (index % every === 0 && !close))) {
          const text = name ? `${index + 1} ${name}` : String(index + 1);
          canvas.fillStyle = colour("ink");
          canvas.fillText(text, x + 4 * scale, 12 * scale);
          free = x + 4 * scale + canvas.measureText(text).width;
        }
      }
    }
  }

  function rgb(hex) {
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  }

  function blend(ramp, level) {
    const place = level * (ramp.length - 1), low = Math.min(Math.floor(place), ramp.length - 2), share = place - low;
    return [...ramp[low].map((value, i) => value + share * (ramp[low + 1][i] - value)), 255];
  }

  window.vivaceDeck = (element, ...rest) => (element.deck = new Deck(element, ...rest));
})();
