// The list of pieces made in this session. Every text is set as text, never as HTML.
(() => {
  const GROUPS = [
    [["play", "Play"], ["edit", "Edit"], ["restore", "Restore settings"]],
    [["a", "A"], ["b", "B"]],
    [["wav", "WAV"], ["flac", "FLAC"], ["mid", "MIDI"], ["zip", "Stems"]],
    [["remove", "Remove"]],
  ];
  const AIMS = { a: "Compare as A", b: "Compare as B", wav: "Download WAV", flac: "Download FLAC", mid: "Download MIDI", zip: "Download stems" };
  const FILES = ["wav", "flac", "mid", "zip"];

  function control(take, action, text, act) {
    const file = FILES.includes(action);
    const item = document.createElement(file ? "a" : "button");
    item.textContent = text;
    item.setAttribute("aria-label", `${AIMS[action] || text}: ${take.title}`);
    if (file) {
      item.href = take[action];
      item.download = `${take.name}.${action}`;
      return item;
    }
    item.type = "button";
    item.dataset.action = action;
    if (take.slot === action) item.setAttribute("aria-pressed", "true");
    item.addEventListener("click", () => act(take.id, action));
    return item;
  }

  function row(take, act) {
    const item = document.createElement("li");
    item.dataset.take = take.id;
    const words = document.createElement("div");
    words.className = "take-words";
    for (const [name, text] of [["kind", take.kind], ["title", take.title], ["meta", take.about]]) {
      const line = document.createElement("span");
      line.className = `take-${name}`;
      line.textContent = text;
      words.append(line);
    }
    const buttons = document.createElement("div");
    buttons.className = "take-actions";
    for (const group of GROUPS) {
      const box = document.createElement("span");
      box.className = "take-group";
      for (const [action, text] of group)
        if (FILES.includes(action) ? take[action] : action !== "restore" || take.restorable) box.append(control(take, action, text, act));
      buttons.append(box);
    }
    item.append(words, buttons);
    return item;
  }

  window.vivaceTakes = (element, props, trigger, watch) => {
    const show = () => {
      const list = element.querySelector(".takes");
      const { takes = [], total = 0 } = props.value || {};
      list.replaceChildren(...takes.map((take) => row(take, (id, action) => trigger("act", { id, action }))));
      const none = total ? "No piece fits the search." : "Nothing yet. What you make and upload stands here.";
      element.querySelector(".takes-note").textContent = takes.length ? "" : none;
    };
    watch("value", show);
    show();
  };
})();
