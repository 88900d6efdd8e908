// What holds for the whole page: whose it is, keys, the first sign of life, and errors beside their fields.
(() => {
  // The server finds a browser's pieces by this secret: after a reload, and in another tab.
  if (!/(^|; )vivace=[0-9a-f]{32}(;|$)/.test(document.cookie)) {
    const secret = [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
    const framed = window.top !== window && location.protocol === "https:"; // as Spaces are shown
    const scope = framed ? "SameSite=None; Secure; Partitioned" : "SameSite=Lax";
    document.cookie = `vivace=${secret}; path=/; max-age=31536000; ${scope}`;
  }

  const seen = (selector) => [...document.querySelectorAll(selector)].find((item) => item.offsetParent !== null);
  const press = (selector) => {
    const button = seen(selector);
    if (!button || button.disabled) return false;
    // The text field tells the page its last words on blur.
    document.activeElement?.dispatchEvent(new Event("change", { bubbles: true }));
    setTimeout(() => button.click(), 30);
    return true;
  };
  // Enter in the prompt and Ctrl+Enter anywhere make music, Shift+Enter makes a new line, Escape cancels.
  addEventListener(
    "keydown",
    (event) => {
      const prompt = event.target.matches?.(".prompt textarea") && event.key === "Enter" && !event.shiftKey;
      const anywhere = event.key === "Enter" && (event.ctrlKey || event.metaKey);
      const done = (prompt || anywhere) && !event.isComposing ? press(".go") : event.key === "Escape" && press(".cancel");
      if (done) {
        event.preventDefault();
        event.stopPropagation();
      }
    },
    true,
  );

  // The space bar plays what is in the player in sight, where nothing else has the focus.
  addEventListener("keydown", (event) => {
    if (event.key !== " " || event.target.closest?.("input, textarea, select, button, a, summary, .deck, [contenteditable]")) return;
    const deck = seen(".deck:not(.deck-empty)")?.parentElement.deck;
    if (!deck) return;
    event.preventDefault();
    deck.toggle();
  });

  // Gradio takes Shift+Enter for "submit".
  for (const kind of ["keydown", "keypress"])
    addEventListener(
      kind,
      (event) => event.target.matches?.(".prompt textarea") && event.shiftKey && event.key === "Enter" && event.stopPropagation(),
      true,
    );

  // Scroll only where an element, with some room below it, is out of sight.
  function reveal(element, room, block) {
    const box = element.getBoundingClientRect();
    if (box.top >= 0 && box.bottom + room <= innerHeight) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    element.scrollIntoView({ behavior: calm ? "auto" : "smooth", block });
  }

  // Called when a button starts something: the answer is on the screen before the server has said a word.
  window.vivaceBegin = (id) => {
    reveal(document.getElementById(id), Math.min(240, innerHeight / 3), "start");
    return '<div class="status busy" role="status"><progress></progress><span>Sending the request</span></div>';
  };

  // A chip leads to its field; its cross lets the words count again; the word beside an unknown one takes its place.
  window.vivaceChips = (element, trigger) =>
    element.addEventListener("click", (event) => {
      const { field, clear, swap, near } = event.target.closest("button")?.dataset || {};
      if (clear) trigger("act", { field: clear });
      const words = swap && seen(".prompt textarea");
      if (words) {
        words.value = words.value.replace(new RegExp(`(?<!\\p{L})${swap}(?!\\p{L})`, "giu"), near);
        words.dispatchEvent(new Event("input", { bubbles: true }));
      }
      const box = field && seen(`.field-${CSS.escape(field)} :is(input, textarea)`);
      if (!box) return;
      reveal(box, 40, "center");
      box.focus({ preventScroll: true });
    });

  // A MIDI file that is dropped anywhere is the notes to play, audio is a piece to edit.
  const hand = (files, tab, box) => {
    [...document.querySelectorAll('[role="tab"]')].find((item) => item.textContent.trim() === tab && item.offsetParent)?.click();
    const closed = document.querySelector(`${box} > button:not(.open)`);
    closed?.click();
    document.querySelector(`${box} button[aria-label="Clear"]`)?.click();
    setTimeout(() => {
      const input = document.querySelector(`${box} input[type="file"]`);
      if (!input) return;
      input.files = files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
      reveal(document.querySelector(box), 40, "center");
    }, 350);
  };
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    const files = event.dataTransfer?.files;
    if (!files?.length || event.defaultPrevented) return;
    event.preventDefault();
    if (!/\.midi?$/i.test(files[0].name)) hand(files, "Edit", "#bring");
    else if (document.querySelector("#notes")) hand(files, "Generate", "#notes");
  });

  // Repeat an error below the field that it is about.
  window.vivaceStatus = (element, watch) => {
    const show = () => {
      const desk = element.closest(".desk");
      desk?.querySelectorAll(".field-error").forEach((line) => line.remove());
      desk?.querySelectorAll(".field-wrong").forEach((field) => field.classList.remove("field-wrong"));
      const status = element.querySelector(".status.error");
      const field = status?.dataset.field && desk?.querySelector(`.field-${CSS.escape(status.dataset.field)}`);
      if (!field) return;
      if (field.offsetParent === null) field.closest(".more")?.querySelector("button").click();
      const line = document.createElement("p");
      line.className = "field-error";
      line.textContent = status.querySelector("span").textContent;
      field.classList.add("field-wrong");
      field.append(line);
      setTimeout(() => reveal(line, 8, "center"), 60);
    };
    watch("value", show);
    show();
  };
})();
