// The piano roll: the chords and notes of a piece, a lane for each role, changed by mouse, touch and keys, with undo; and
// a mixer.
(() => {
  const TICKS = 960, ROLES = ["lead", "harmony", "bass", "drums"];
  const NAMES = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"];
  const STEPS = { "1/4": 960, "1/8": 480, "1/8 triplet": 320, "1/16": 240, "1/16 triplet": 160, "1/32": 120, free: 1 };
  const EDGE = 7, DRAG = 4; // pixels: the end of a note that lengthens it, and what a click may move
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const element = (kind, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(kind), properties);
    made.append(...children);
    return made;
  };
  const button = (text, act, properties = {}) =>
    element("button", { type: "button", textContent: text, onclick: act, ...properties });

  class Lane {
    constructor(roll, role) {
      Object.assign(this, { roll, role, drums: role === "drums" });
      this.canvas = element("canvas", { tabIndex: 0, className: "roll-canvas" });
      this.canvas.dataset.role = role;
      this.tip = element("span", { className: "roll-tip" });
      this.name = element("span", { className: "roll-name" });
      const press = (kind) => (event) => roll.deck.setMix(role, kind, event.target.getAttribute("aria-pressed") !== "true");
      this.mute = button("Mute", press("mute"), { ariaLabel: `Mute ${role}` });
      this.solo = button("Solo", press("solo"), { ariaLabel: `Solo ${role}` });
      this.volume = element("input", { type: "range", min: 0, max: 1.5, step: 0.05, value: 1, ariaLabel: `Volume of ${role}` });
      this.volume.oninput = () => roll.deck.setMix(role, "volume", Number(this.volume.value));
      const head = element("header", { className: "roll-head" }, this.name, this.mute, this.solo, this.volume, this.tip);
      this.root = element("div", { className: "roll-lane" }, head, this.canvas);
      this.root.dataset.role = role;
      this.canvas.addEventListener("pointerdown", (event) => this.down(event));
      this.canvas.addEventListener("pointermove", (event) => this.hover(event));
      this.canvas.addEventListener("pointerleave", () => (this.tip.textContent = ""));
      this.canvas.addEventListener("contextmenu", (event) => {
        event.preventDefault();
        const note = this.at(event).note;
        if (note) roll.change(() => roll.remove(note));
      });
      // A touch that begins on a note moves it; any other scrolls.
      const held = (event) => this.at(event.touches[0]).note && event.preventDefault();
      this.canvas.addEventListener("touchstart", held, { passive: false });
      this.canvas.addEventListener("keydown", (event) => this.key(event));
    }

    // The rows that the lane shows, lowest first: drum classes, or pitches around those that are played.
    fit() {
      const { score, notes } = this.roll, pitches = this.own().map((note) => note.pitch);
      if (this.drums) this.rows = score.drums.map(([, ...keys]) => keys[0] ?? 56);
      else {
        const middle = { lead: 72, harmony: 60, bass: 40 }[this.role];
        let low = Math.min(...pitches, pitches.length ? 108 : middle) - 3, high = Math.max(...pitches, pitches.length ? 21 : middle) + 3;
        while (high - low < 14) [low, high] = [low - 1, high + 1];
        [low, high] = [Math.max(21, low), Math.min(108, high)];
        this.rows = Array.from({ length: high - low + 1 }, (_, i) => low + i);
      }
      this.canvas.style.height = `${clamp(this.rows.length * 6, 66, 150)}px`;
      const track = score.tracks.find((one) => one.role === this.role);
      const player = track?.instrument && track.instrument !== this.role ? `, ${track.instrument}` : "";
      this.name.textContent = `${this.role[0].toUpperCase()}${this.role.slice(1)}${player}`;
      this.canvas.ariaLabel =
        `${this.name.textContent}: ${pitches.length} notes. Click to add, drag to move, Delete removes; ` +
        "comma and full stop choose a note, arrows move it, with Shift they lengthen it.";
      this.root.classList.toggle("roll-silent", !pitches.length);
      return notes;
    }

    own() {
      return this.roll.notes.filter((note) => note.role === this.role);
    }

    row(pitch) {
      if (!this.drums) return pitch - this.rows[0];
      const found = this.roll.score.drums.findIndex(([, ...keys]) => keys.includes(pitch));
      return found < 0 ? this.rows.length - 1 : found;
    }

    label(row) {
      if (this.drums) return this.roll.score.drums[row][0];
      return `${NAMES[this.rows[row] % 12]}${Math.floor(this.rows[row] / 12) - 1}`;
    }

    // {x, y, width, height} of a note in CSS pixels.
    box(note) {
      const { clientWidth, clientHeight } = this.canvas, tall = clientHeight / this.rows.length;
      const x = this.roll.pixel(note.on, clientWidth), end = this.roll.pixel(note.on + note.length, clientWidth);
      return { x, y: clientHeight - (this.row(note.pitch) + 1) * tall, width: Math.max(this.drums ? 5 : 3, end - x), height: tall };
    }

    // Tick, row and note under a pointer or a touch.
    at(point) {
      const frame = this.canvas.getBoundingClientRect(), x = point.clientX - frame.left, y = point.clientY - frame.top;
      const row = clamp(Math.floor((1 - y / frame.height) * this.rows.length), 0, this.rows.length - 1);
      const near = this.own().reverse().find((note) => {
        const box = this.box(note), slack = box.width < 8 ? 3 : 0;
        return x >= box.x - slack && x <= box.x + box.width + slack && y >= box.y - 1 && y <= box.y + box.height + 1;
      });
      const box = near && !this.drums ? this.box(near) : { width: 0 };
      const atEnd = box.width >= 6 && x > box.x + box.width - Math.min(EDGE, box.width / 3);
      return { tick: this.roll.tick(x, frame.width), row, note: near, atEnd };
    }

    hover(event) {
      const { tick, row, atEnd, note } = this.at(event), { score } = this.roll;
      const beat = Math.floor(tick / score.beat), bars = Math.round(score.bar / score.beat);
      this.tip.textContent = `${this.label(row)}, bar ${Math.floor(beat / bars) + 1}, beat ${(beat % bars) + 1}`;
      this.canvas.style.cursor = atEnd ? "ew-resize" : note ? "grab" : "crosshair";
    }

    down(event) {
      if (event.button) return;
      const { roll } = this, from = this.at(event), x = event.clientX, y = event.clientY;
      const before = roll.copy(), tall = this.canvas.clientHeight / this.rows.length;
      let note = from.note, moved = false, added = false;
      let part = note ? (from.atEnd ? "length" : "place") : "new";
      const start = note && { ...note };
      roll.choose(note || null);
      this.canvas.focus({ preventScroll: true });
      const add = () => {
        note = roll.add(this.role, roll.snap(from.tick, Math.floor), this.rows[from.row]);
        [added, part] = [Boolean(note), "length"];
        if (note) roll.sound(note);
      };
      const move = (now) => {
        if (now.pointerId !== event.pointerId) return;
        const [dx, dy] = [now.clientX - x, now.clientY - y];
        moved ||= Math.hypot(dx, dy) > DRAG;
        if (!moved) return;
        if (part === "new" && event.pointerType === "mouse") add();
        if (!note) return;
        const ticks = roll.tick(dx, this.canvas.clientWidth) - roll.tick(0, this.canvas.clientWidth);
        if (part === "length" && !this.drums) {
          const end = roll.snap(added ? from.tick + ticks : start.on + start.length + ticks, added ? Math.ceil : Math.round);
          note.length = clamp(end - note.on, roll.step > 1 ? Math.min(roll.step, 240) : 30, roll.last - note.on);
        } else if (part === "place") {
          note.on = clamp(roll.snap(start.on + ticks, Math.round), 0, roll.last - 30);
          const row = clamp(this.row(start.pitch) - Math.round(dy / tall), 0, this.rows.length - 1);
          if (row !== this.row(note.pitch)) {
            note.pitch = this.rows[row];
            roll.sound(note);
          }
        }
        this.draw();
      };
      const up = (now) => {
        if (now.pointerId !== event.pointerId) return;
        for (const kind of ["pointermove", "pointerup", "pointercancel"]) removeEventListener(kind, kind === "pointermove" ? move : up);
        if (now.type === "pointerup" && part === "new" && !moved) add();
        if (note && added) roll.choose(note);
        roll.keep(before);
      };
      addEventListener("pointermove", move);
      addEventListener("pointerup", up);
      addEventListener("pointercancel", up);
    }

    key(event) {
      const { roll } = this, note = roll.chosen?.role === this.role ? roll.chosen : null;
      const own = this.own().sort((a, b) => a.on - b.on || a.pitch - b.pitch), step = Math.max(roll.step, 30);
      const sideways = { ArrowLeft: -step, ArrowRight: step }[event.key], upwards = { ArrowUp: 1, ArrowDown: -1 }[event.key];
      const next = { ",": -1, ".": 1 }[event.key];
      if ((event.ctrlKey || event.metaKey) && /^[zy]$/i.test(event.key)) roll.turn(event.shiftKey || /y/i.test(event.key));
      else if (next && own.length) roll.choose(note ? own[(own.indexOf(note) + next + own.length) % own.length] : own.at(next > 0 ? 0 : -1));
      else if (event.key === "Enter" && !event.ctrlKey) {
        const tick = roll.snap((roll.deck.now() - roll.score.downbeat_s) / roll.score.tick_s, Math.floor);
        roll.change(() => roll.choose(roll.add(this.role, tick, this.rows[this.rows.length >> 1])));
      } else if (note && /^(Delete|Backspace)$/.test(event.key)) roll.change(() => roll.remove(note));
      else if (note && sideways)
        roll.change(() => {
          if (event.shiftKey) note.length = clamp(note.length + sideways, 30, roll.last - note.on);
          else note.on = clamp(note.on + sideways, 0, roll.last - 30);
        });
      else if (note && upwards)
        roll.change(() => {
          note.pitch = this.rows[clamp(this.row(note.pitch) + upwards, 0, this.rows.length - 1)];
          roll.sound(note);
        });
      else return;
      event.preventDefault();
      event.stopPropagation();
    }

    draw() {
      const [paint, width, height, scale] = this.roll.deck.canvas(this.canvas), { roll, rows } = this, { score } = roll;
      const colour = (name) => roll.colour(name), tall = height / rows.length;
      rows.forEach((pitch, row) => {
        const dark = this.drums ? row % 2 : score.scale ? !score.scale.includes(pitch % 12) : [1, 3, 6, 8, 10].includes(pitch % 12);
        if (!dark) return;
        paint.fillStyle = colour("shade");
        paint.fillRect(0, height - (row + 1) * tall, width, tall);
      });
      const step = roll.step > 1 && roll.pixel(roll.step, width) - roll.pixel(0, width) > 7 * scale ? roll.step : score.beat;
      for (let tick = 0; tick <= roll.last; tick += step) {
        paint.fillStyle = colour(tick % score.bar === 0 ? "bar" : "beat");
        paint.fillRect(roll.pixel(tick, width), 0, scale, height);
      }
      for (const note of this.own()) {
        const box = this.box(note), chosen = note === roll.chosen;
        paint.globalAlpha = 0.45 + 0.55 * (note.velocity / 127);
        paint.fillStyle = colour(chosen ? "accent" : roll.isNew(note) ? "new" : this.role);
        paint.fillRect(box.x * scale, box.y * scale + scale / 2, Math.max(2, (box.width - 1) * scale), Math.max(2, box.height * scale - scale));
        paint.globalAlpha = 1;
      }
    }
  }

  class Roll {
    constructor(deck, box, trigger, composes) {
      Object.assign(this, { deck, box, trigger, composes, fields: [], edits: new Map(), step: 240, length: 480, chosen: null, edit: { notes: [], chords: [] } });
      this.lanes = ROLES.map((role) => new Lane(this, role));
      this.chords = element("div", { className: "roll-chords", role: "group", ariaLabel: "Chords" });
      this.chordSay = element("p", { className: "roll-wrong", role: "alert", hidden: true });
      this.undo = button("Undo", () => this.turn(false), { className: "roll-undo" });
      this.redo = button("Redo", () => this.turn(true));
      this.bin = button("Delete note", () => this.change(() => this.remove(this.chosen)));
      this.grid = element("select", { ariaLabel: "Grid of the notes" }, ...Object.keys(STEPS).map((name) => new Option(name, name, false, name === "1/16")));
      this.grid.onchange = () => {
        this.step = STEPS[this.grid.value];
        this.draw();
      };
      this.say = element("span", { className: "roll-say", role: "status" });
      const ask = (action) => () => this.ask(action);
      this.play = button("Play these notes", ask("notes"), { className: "roll-play" });
      this.sounds = button("Other sound, same notes", ask("sound"));
      this.bars = button("New notes for these bars", ask("rewrite"), { hidden: !composes });
      this.split = button("Make the parts", ask("parts"), { className: "roll-split" });
      this.parts = element("p", { className: "roll-parts", hidden: true },
        "Mute, solo and volume need each part on its own. ", this.split);
      box.append(this.chords, this.chordSay, ...this.lanes.map((lane) => lane.root));
      this.tools = deck.find("tools");
      this.tools.append(
        this.parts,
        element("div", { className: "roll-bar" }, this.undo, this.redo, this.bin, element("label", {}, "Grid ", this.grid), this.say),
        element("div", { className: "roll-bar" }, this.play, this.sounds, this.bars),
      );
    }

    // The notes of a piece; what was changed in them before is still there.
    show(track) {
      this.track = track;
      this.score = track?.roll || null;
      this.box.hidden = this.tools.hidden = !this.score;
      if (!this.score) return;
      this.last = this.score.bars * this.score.bar;
      this.original = this.score.tracks.flatMap((one, place) =>
        one.notes.map(([on, length, pitch, velocity]) => ({ place, role: one.role, on, length, pitch, velocity })),
      );
      if (!this.edits.has(track.id)) {
        const first = { notes: this.original.map((note) => ({ ...note })), chords: [...this.score.chords] };
        const kept = JSON.parse(sessionStorage[`vivace ${track.id}`] || "null"); // of before a reload
        this.edits.set(track.id, { ...(kept || first), past: kept ? [first] : [], future: [] });
      }
      this.edit = this.edits.get(track.id);
      this.fields = this.score.chords.map((_, bar) => this.chordField(bar));
      this.chords.replaceChildren(...this.fields);
      this.names = new Set(this.original.map((note) => this.name(note)));
      this.chosen = null;
      this.refresh();
    }

    get notes() {
      return this.edit.notes;
    }

    // The chords of a bar, to type over; what is no chord is marked, and the server says why.
    chordField(bar) {
      const width = (100 * this.score.bar * this.score.tick_s) / this.deck.duration;
      const left = (100 * (this.score.downbeat_s + bar * this.score.bar * this.score.tick_s)) / this.deck.duration;
      const field = element("input", { type: "text", spellcheck: false, autocomplete: "off", ariaLabel: `Chords of bar ${bar + 1}` });
      field.style.cssText = `left: ${left}%; width: ${Math.min(width, 100 - left)}%`;
      field.onchange = () => this.change(() => (this.edit.chords[bar] = field.value.trim()));
      field.onkeydown = (event) => {
        event.stopPropagation();
        if (event.key === "Escape") field.value = this.edit.chords[bar];
        if (event.key === "Enter") (this.fields[bar + 1] || this.play).focus();
        if (event.key === "Enter" || event.key === "Escape") event.preventDefault();
      };
      return field;
    }

    async check(field) {
      const text = field.value, beats = Math.round(this.score.bar / this.score.beat);
      const answer = text && text !== this.score.chords[this.fields.indexOf(field)]
        ? await fetch(`./vivace/chords?${new URLSearchParams({ bar: text, beats })}`) : null;
      const { error } = answer?.ok ? await answer.json() : { error: "" };
      if (field.value !== text) return;
      field.ariaInvalid = Boolean(error);
      field.title = error || text;
      this.marks();
    }

    // What stands below the chords, and whether the piece can be played.
    marks() {
      const wrong = this.fields.findIndex((field) => field.ariaInvalid === "true");
      this.chordSay.hidden = wrong < 0;
      this.chordSay.textContent = wrong < 0 ? "" : `Bar ${wrong + 1}: ${this.fields[wrong].title}`;
      this.play.disabled = wrong >= 0 || !this.changed().length;
    }

    name(note) {
      return [note.role, note.on, note.length, note.pitch, note.velocity].join();
    }

    isNew(note) {
      return !this.names.has(this.name(note));
    }

    tick(x, width) {
      return ((x / width) * this.deck.duration - this.score.downbeat_s) / this.score.tick_s;
    }

    pixel(tick, width) {
      return ((this.score.downbeat_s + tick * this.score.tick_s) / this.deck.duration) * width;
    }

    snap(tick, round) {
      return clamp(round(tick / this.step + (round === Math.floor ? 1e-6 : 0)) * this.step, 0, this.last);
    }

    colour(name) {
      return getComputedStyle(this.box).getPropertyValue(`--deck-${name}`).trim();
    }

    copy() {
      return { notes: this.notes.map((note) => ({ ...note })), chords: [...this.edit.chords] };
    }

    add(role, on, pitch) {
      if (on >= this.last || on < 0) return null;
      const found = this.score.tracks.findIndex((track) => track.role === role);
      const length = role === "drums" ? 120 : Math.min(this.length, this.last - on);
      const note = { place: found, role, on: Math.round(on), length, pitch, velocity: 102 };
      this.notes.push(note);
      return note;
    }

    remove(note) {
      if (this.notes.includes(note)) this.notes.splice(this.notes.indexOf(note), 1);
      this.choose(null);
    }

    choose(note) {
      this.chosen = note;
      if (note && note.role !== "drums") this.length = note.length;
      this.bin.disabled = !note;
      this.draw();
    }

    change(act) {
      const before = this.copy();
      act();
      this.keep(before);
    }

    // Remember what was before, if it was changed.
    keep(before) {
      const text = ({ notes, chords }) => [...notes.map((note) => this.name(note)), ...chords].join(";");
      if (text(before) !== text(this.edit)) {
        this.edit.past.push(before);
        this.edit.future.length = 0;
        this.remember();
      }
      this.refresh();
    }

    // Changes outlive a reload of the page.
    remember() {
      try {
        sessionStorage[`vivace ${this.track.id}`] = JSON.stringify({ notes: this.notes, chords: this.edit.chords });
      } catch {} // the browser has no room left
    }

    turn(forward) {
      const [from, to] = forward ? [this.edit.future, this.edit.past] : [this.edit.past, this.edit.future];
      if (!from.length) return;
      to.push(this.copy());
      Object.assign(this.edit, from.pop());
      this.remember();
      this.chosen = null;
      this.refresh();
    }

    // Bars, counted from 0, in which the notes or the chords differ from those that sound.
    changed() {
      const now = new Set(this.notes.map((note) => this.name(note))), bars = new Set(this.otherChords());
      const differ = [...this.original.filter((note) => !now.has(this.name(note))), ...this.notes.filter((note) => this.isNew(note))];
      for (const note of differ)
        for (let bar = Math.floor(note.on / this.score.bar); bar * this.score.bar < note.on + note.length; bar++) bars.add(bar);
      return [...bars].filter((bar) => bar < this.score.bars).sort((a, b) => a - b);
    }

    otherChords() {
      return [...this.edit.chords.keys()].filter((bar) => this.edit.chords[bar] !== this.score.chords[bar]);
    }

    refresh() {
      this.fields.forEach((field, bar) => {
        field.value = field.title = this.edit.chords[bar];
        field.classList.toggle("roll-other", field.value !== this.score.chords[bar]);
        this.check(field);
      });
      const bars = this.changed().map((bar) => bar + 1), many = bars.length > 6;
      this.undo.disabled = !this.edit.past.length;
      this.redo.disabled = !this.edit.future.length;
      this.bin.disabled = !this.chosen;
      const follow = this.composes && this.otherChords().length && this.notes.some(({ role }) => /harmony|bass/.test(role));
      this.say.textContent = !bars.length ? "" : many ? `${bars.length} bars differ from what you hear`
        : `${bars.length === 1 ? "Bar" : "Bars"} ${bars.join(", ")} ${bars.length === 1 ? "differs" : "differ"} from what you hear`;
      if (follow) this.say.textContent += "; harmony and bass will follow the new chords";
      this.box.dataset.notes = this.notes.length;
      for (const lane of this.lanes) lane.fit();
      this.marks();
      this.region();
      this.mix();
      this.draw();
    }

    region() {
      this.bars.disabled = !this.deck.region;
      this.bars.title = this.deck.region ? "" : "First drag over the waveform to choose bars";
    }

    // The buttons of the mixer, and the offer to make the parts where the piece has none.
    mix() {
      const { mix } = this.deck;
      for (const lane of this.lanes) {
        lane.mute.ariaPressed = Boolean(mix[lane.role]?.mute);
        lane.solo.ariaPressed = Boolean(mix[lane.role]?.solo);
        lane.volume.value = mix[lane.role]?.volume ?? 1;
        lane.root.classList.toggle("roll-muted", this.deck.gain(lane.role) === 0);
      }
      this.parts.hidden = Boolean(this.track.zip) || !this.deck.mixed();
    }

    ask(action) {
      const tracks = this.score.tracks.map(({ role }) => ({ role, notes: [] }));
      for (const note of [...this.notes].sort((a, b) => a.on - b.on)) {
        let place = note.place < 0 ? tracks.findIndex((track) => track.role === note.role) : note.place;
        if (place < 0) place = tracks.push({ role: note.role, notes: [] }) - 1;
        tracks[place].notes.push([note.on, note.length, note.pitch, note.velocity]);
      }
      const { chords } = this.edit;
      this.trigger("act", { action, id: this.track.id, notes: tracks, chords, region: this.deck.region });
    }

    // A short tone at the pitch of a note that is placed.
    sound(note) {
      if (note.role === "drums" || this.deck.node) return;
      const context = window.vivaceSound.contextFor(this.deck.sound.rate);
      if (context.state === "suspended") context.resume();
      const tone = new OscillatorNode(context, { type: "triangle", frequency: 440 * 2 ** ((note.pitch - 69) / 12) });
      const level = new GainNode(context, { gain: 0.15 }), now = context.currentTime;
      level.gain.setTargetAtTime(0, now + 0.12, 0.04);
      tone.connect(level).connect(context.destination);
      tone.start();
      tone.stop(now + 0.4);
    }

    draw() {
      if (!this.score || this.box.clientWidth < 10) return;
      for (const lane of this.lanes) lane.draw();
    }
  }

  window.VivaceRoll = Roll;
})();
