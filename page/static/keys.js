// Keys that hold for the whole page: Enter in the prompt and Ctrl+Enter anywhere make music, Escape cancels.
(() => {
  const seen = (selector) => [...document.querySelectorAll(selector)].find((item) => item.offsetParent !== null);
  const press = (selector) => {
    const button = seen(selector);
    if (!button || button.disabled) return false;
    // The text field tells the page its last words on blur.
    document.activeElement?.dispatchEvent(new Event("change", { bubbles: true }));
    setTimeout(() => button.click(), 30);
    return true;
  };
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
})();
