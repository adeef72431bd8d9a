/* What part of a common time axis charts show, and how that is changed: by mouse, finger and keyboard. */
"use strict";

const Zooming = (() => {
  /** Seconds that are shown at least. */
  const LEAST = 0.5;
  let made = 0;

  /** What part of a common time axis several charts show. */
  function group(from, to) {
    const listeners = new Set();
    const key = `group-${++made}`;
    let view = [from, to];

    function set(low, high) {
      const span = Math.min(Math.max(high - low, Math.min(LEAST, to - from)), to - from);
      const start = Math.min(Math.max(low + (high - low - span) / 2, from), to - span);
      if (start === view[0] && start + span === view[1]) return;
      view = [start, start + span];
      for (const listener of listeners) listener(view);
    }

    return {
      key,
      from,
      to,
      set,
      view: () => view,
      reset: () => set(from, to),
      /** Show `factor` times as long a stretch, `centre` staying where it is. */
      zoom: (factor, centre = (view[0] + view[1]) / 2) =>
        set(centre - (centre - view[0]) * factor, centre + (view[1] - centre) * factor),
      pan: (seconds) => {
        const moved = Math.min(Math.max(seconds, from - view[0]), to - view[1]);
        set(view[0] + moved, view[1] + moved);
      },
      /** Call `listener` with the view whenever it changes; returns what ends that. */
      changed: (listener) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    };
  }

  /** Zoom and move by wheel (with a key held, so that the page still scrolls), finger and drag; choose by click. */
  function gestures(plot, view, pick) {
    const over = plot.over;
    const fingers = new Map();
    let pressed = null;
    const seconds = (event) => plot.posToVal(event.clientX - over.getBoundingClientRect().left, "x");
    const perPixel = () => (view.view()[1] - view.view()[0]) / over.clientWidth;

    over.addEventListener(
      "wheel",
      (event) => {
        if (event.ctrlKey || event.metaKey) {
          event.preventDefault();
          view.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 120), seconds(event));
        } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
          event.preventDefault();
          view.pan((event.deltaX || event.deltaY) * perPixel());
        }
      },
      { passive: false },
    );
    over.addEventListener("dblclick", () => view.reset());
    over.addEventListener("pointerdown", (event) => {
      pressed = { x: event.clientX, y: event.clientY };
      if (event.pointerType === "touch") fingers.set(event.pointerId, event);
    });
    over.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (before === undefined) return;
      if (fingers.size === 1) {
        view.pan((before.clientX - event.clientX) * perPixel());
      } else if (fingers.size === 2) {
        const [other] = [...fingers.values()].filter((finger) => finger.pointerId !== event.pointerId);
        const apart = (finger) => Math.max(Math.abs(finger.clientX - other.clientX), 10);
        view.zoom(apart(before) / apart(event), (seconds(event) + seconds(other)) / 2);
      }
      fingers.set(event.pointerId, event);
    });
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
      over.addEventListener(name, (event) => fingers.delete(event.pointerId));
    }
    over.addEventListener("click", (event) => {
      const still = pressed && Math.abs(event.clientX - pressed.x) < 4 && Math.abs(event.clientY - pressed.y) < 4;
      if (still && pick) pick(seconds(event));
    });
  }

  /** Move a cursor by the keys that `Charts` names; `tell` reads out where it is. */
  function keyboard(area, plot, view, { pick, zoomOnly }, tell) {
    let at = null;
    area.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (zoomOnly) {
        if (!zoom(view, event.key)) return;
        event.preventDefault();
        return;
      }
      const [from, to] = view.view();
      at = Math.min(Math.max(at ?? (from + to) / 2, from), to);
      const step = ((to - from) / 100) * (event.shiftKey ? 10 : 1);
      const moves = { ArrowLeft: at - step, ArrowRight: at + step, Home: view.from, End: view.to };
      if (event.key in moves) {
        at = Math.min(Math.max(moves[event.key], view.from), view.to);
        if (at < from) view.pan(at - from);
        if (at > to) view.pan(at - to);
      } else if ((event.key === "Enter" || event.key === " ") && pick) pick(at);
      else if (!zoom(view, event.key, at)) return;
      event.preventDefault();
      // Behind uPlot's own microtask, which puts a new view in place.
      queueMicrotask(() => {
        plot.setCursor({ left: plot.valToPos(at, "x"), top: plot.over.clientHeight / 2 });
        tell();
      });
    });
  }

  /** Zoom by a key around a moment; false if the key is not one of those. */
  function zoom(view, key, at) {
    if (key === "+" || key === "=") view.zoom(1 / 2, at);
    else if (key === "-") view.zoom(2, at);
    else if (key === "0" || key === "Escape") view.reset();
    else return false;
    return true;
  }

  return { group, gestures, keyboard };
})();
