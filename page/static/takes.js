// The list of pieces made in this session. Every text is set as text, never as HTML.
(() => {
  const GROUPS = [
    [["star", "\u2606"], ["play", "Play"], ["edit", "Edit"]],
    [["restore", "Restore settings"], ["more", "More like this"]],
    [["a", "A"], ["b", "B"]],
    [["wav", "WAV"], ["flac", "FLAC"], ["mid", "MIDI"], ["zip", "Stems"]],
    [["remove", "Remove"]],
  ];
  const AIMS = { star: "Favourite", a: "Compare as A", b: "Compare as B", wav: "Download WAV", flac: "Download FLAC", mid: "Download MIDI", zip: "Download stems" };
  const FILES = ["wav", "flac", "mid", "zip"];
  let more = false; // a piece like another one was asked for

  const element = (kind, properties, ...children) => {
    const made = Object.assign(document.createElement(kind), properties);
    made.append(...children);
    return made;
  };

  function control(take, action, text, act) {
    const ariaLabel = `${AIMS[action] || text}: ${take.title}`;
    if (FILES.includes(action))
      return element("a", { textContent: text, ariaLabel, href: take[action], download: `${take.name}.${action}` });
    const item = element("button", { type: "button", textContent: text, ariaLabel });
    item.dataset.action = action;
    if (action === "star") {
      item.ariaPressed = take.star;
      if (take.star) item.textContent = "\u2605";
    } else if (take.slot === action) item.ariaPressed = true;
    item.onclick = () => {
      more = action === "more";
      act({ action });
    };
    return item;
  }

  // The name of a piece, to type over: Enter keeps it, Escape does not.
  function title(take, act) {
    const box = element("span", { className: "take-title", textContent: take.title, contentEditable: true, role: "textbox", ariaLabel: "Name of the piece", spellcheck: false });
    box.onkeydown = (event) => {
      if (event.key === "Escape") box.textContent = take.title;
      if (event.key === "Enter" || event.key === "Escape") {
        event.preventDefault();
        event.stopPropagation();
        box.blur();
      }
    };
    box.onblur = () => box.textContent !== take.title && act({ action: "rename", text: box.textContent });
    return box;
  }

  function row(take, act) {
    const line = (name) => element("span", { className: `take-${name}`, textContent: take[name] });
    const groups = GROUPS.map((group) => {
      const shown = group.filter(([action]) => ![...FILES, "restore", "more"].includes(action) || take[action]);
      return element("span", { className: "take-group" }, ...shown.map(([action, text]) => control(take, action, text, act)));
    });
    const item = element("li", {},
      element("div", { className: "take-words" }, line("kind"), title(take, act), line("about")),
      element("div", { className: "take-actions" }, ...groups));
    item.dataset.take = take.id;
    return item;
  }

  window.vivaceTakes = (element, props, trigger, watch) => {
    const show = () => {
      const list = element.querySelector(".takes");
      const { takes = [], total = 0 } = props.value || {};
      list.replaceChildren(...takes.map((take) => row(take, (data) => trigger("act", { id: take.id, ...data }))));
      const none = total ? "No piece fits the search." : "Nothing yet. What you make and upload stands here.";
      element.querySelector(".takes-note").textContent = takes.length ? "" : none;
    };
    watch("value", show);
    show();
  };

  // The settings of the piece are in the form by now, without its seed.
  window.vivaceMore = () => {
    if (more) setTimeout(() => document.getElementById("generate").click(), 100);
    more = false;
  };
})();
