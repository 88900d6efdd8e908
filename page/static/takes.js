// The list of pieces made in this session. Every text is set as text, never as HTML.
(() => {
  const ACTIONS = [
    ["play", "Play"],
    ["edit", "Edit"],
    ["restore", "Restore settings"],
    ["a", "A"],
    ["b", "B"],
    ["remove", "Remove"],
  ];

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
    for (const [action, text] of ACTIONS) {
      if (action === "restore" && !take.restorable) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.dataset.action = action;
      const aim = { a: "Compare as A", b: "Compare as B" }[action] || text;
      button.setAttribute("aria-label", `${aim}: ${take.title}`);
      if (take.slot === action) button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => act(take.id, action));
      buttons.append(button);
    }
    for (const kind of ["wav", "flac"]) {
      const link = document.createElement("a");
      link.textContent = kind.toUpperCase();
      link.href = take[kind];
      link.download = `${take.name}.${kind}`;
      link.setAttribute("aria-label", `Download ${kind.toUpperCase()}: ${take.title}`);
      buttons.append(link);
    }
    item.append(words, buttons);
    return item;
  }

  window.vivaceTakes = (element, props, trigger, watch) => {
    const show = () => {
      const list = element.querySelector(".takes");
      const { takes = [], total = 0 } = props.value || {};
      list.replaceChildren(...takes.map((take) => row(take, (id, action) => trigger("act", { id, action }))));
      const none = total ? "No piece fits the search." : "Nothing yet. What you make and upload in this session stands here.";
      element.querySelector(".takes-note").textContent = takes.length ? "" : none;
    };
    watch("value", show);
    show();
  };
})();
