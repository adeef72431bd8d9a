/* Light and dark: colours are the style sheet's, so that what is drawn and what is written agree. */
"use strict";

const Theme = (() => {
  const probe = document.createElement("span");
  const listeners = new Set();
  const known = new Map();
  const schemes = ["light dark", "light", "dark"];
  const names = { "light dark": "as the system", light: "light", dark: "dark" };

  /** The colour of a custom property such as "--predicted", as CSS that a canvas takes. */
  function colour(property) {
    if (!known.has(property)) {
      if (!probe.isConnected) {
        probe.hidden = true;
        document.body.append(probe);
      }
      probe.style.color = `var(${property})`;
      known.set(property, getComputedStyle(probe).color);
    }
    return known.get(property);
  }

  /** Red, green and blue of a custom property, 0 to 255. */
  function channels(property) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    const context = canvas.getContext("2d");
    context.fillStyle = colour(property);
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  }

  /** Call `draw` whenever the colours change; returns what ends that. */
  function changed(draw) {
    listeners.add(draw);
    return () => listeners.delete(draw);
  }

  function tell() {
    known.clear();
    for (const draw of listeners) draw();
  }

  function connect(button) {
    const show = () => {
      button.querySelector("span").textContent = names[document.documentElement.style.colorScheme || schemes[0]];
    };
    button.addEventListener("click", () => {
      const now = document.documentElement.style.colorScheme || schemes[0];
      document.documentElement.style.colorScheme = schemes[(schemes.indexOf(now) + 1) % schemes.length];
      show();
      tell();
    });
    show();
    button.hidden = false;
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
  for (const button of document.querySelectorAll("[data-theme-button]")) connect(button);
  return { colour, channels, changed };
})();
