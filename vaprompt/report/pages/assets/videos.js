/* The list of videos, to be searched, ordered and chosen from; each has its traces beside its name. */
"use strict";

const Videos = (() => {
  const { element } = Charts;
  const ORDERS = {
    worst: (a, b) => score(a, 2) - score(b, 2) || a.place - b.place,
    best: (a, b) => score(b, -2) - score(a, -2) || a.place - b.place,
    name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
    spread: (a, b) => (b.spread ?? 0) - (a.spread ?? 0) || a.place - b.place,
    long: (a, b) => b.seconds - a.seconds,
  };

  function score(video, missing) {
    return video.scores.mean ?? missing;
  }

  function shown(number, digits = 2) {
    return number == null ? "–" : Charts.fixed(number, digits);
  }

  /** Draw a small trace: for each pixel a line from the least to the greatest value. */
  function spark(canvas, traces) {
    const { width, height, density } = Heat.sharpen(canvas);
    const context = canvas.getContext("2d");
    context.scale(density, density);
    context.strokeStyle = Theme.colour("--rule");
    context.beginPath();
    context.moveTo(0, height / 2);
    context.lineTo(width, height / 2);
    context.stroke();
    const place = (value) => (height - 2) * (0.5 - value / 2) + 1;
    for (const [ends, colour, thick] of traces) {
      const columns = ends.length / 2;
      context.strokeStyle = Theme.colour(colour);
      context.lineWidth = thick;
      context.beginPath();
      let pen = false;
      const blank = (column) => column < 0 || column >= columns || Number.isNaN(ends[2 * column]);
      for (let column = 0; column < columns; column++) {
        const [low, high] = [ends[2 * column], ends[2 * column + 1]];
        if (blank(column)) {
          pen = false;
          continue;
        }
        const x = ((column + 0.5) / columns) * width;
        if (pen) context.lineTo(x, place(low));
        else context.moveTo(x, place(low));
        context.lineTo(x, place(high));
        // A line of no length would not be seen.
        if (blank(column - 1) && blank(column + 1)) context.lineTo(x + thick, place(high));
        pen = true;
      }
      context.stroke();
    }
  }

  function sparks(video) {
    const box = element("div", "sparks");
    const canvases = {};
    for (const dimension of ["valence", "arousal"]) {
      const one = element("div", "spark");
      canvases[dimension] = element("canvas");
      canvases[dimension].setAttribute("aria-hidden", "true");
      const number = video.scores[dimension];
      one.append(canvases[dimension], element("small", "soft", `${dimension} ${number == null ? "" : shown(number)}`));
      box.append(one);
    }
    const draw = async () => {
      const arrays = await (video.sparkArrays ??= Data.unpackAll(video.spark));
      for (const dimension of ["valence", "arousal"]) {
        spark(canvases[dimension], [
          [arrays[`${dimension}_truth`], "--truth", 2.2],
          [arrays[`${dimension}_predicted`], "--predicted", 1.2],
        ]);
      }
    };
    return { box, draw };
  }

  /** Fill the list, and call `choose(video)` when one is chosen. */
  function list(all, choose) {
    const search = document.getElementById("video-search");
    const order = document.getElementById("video-order");
    const count = document.getElementById("video-count");
    const host = document.getElementById("video-list");
    const entries = all.map((video, place) => entry({ ...video, place }, place));
    let visible = [];
    let chosen = null;
    const seen = new Set();
    const watcher = new IntersectionObserver((changes) => {
      for (const { target, isIntersecting } of changes) {
        const one = entries[Number(target.dataset.place)];
        if (isIntersecting) {
          seen.add(one);
          one.draw();
        } else seen.delete(one);
      }
    });

    function entry(video, place) {
      const item = element("li");
      item.id = `video-${place}`;
      item.dataset.place = place;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", "false");
      const { box, draw } = sparks(video);
      item.append(element("span", "name", video.name), element("span", "number", shown(video.scores.mean)), box);
      item.addEventListener("click", () => select(entries[place]));
      return { video, item, draw };
    }

    function select(one, quiet = false) {
      if (chosen !== null) chosen.item.setAttribute("aria-selected", "false");
      chosen = one;
      one.item.setAttribute("aria-selected", "true");
      host.setAttribute("aria-activedescendant", one.item.id);
      if (!quiet) {
        const [top, bottom] = [one.item.offsetTop - host.offsetTop, one.item.offsetTop - host.offsetTop + one.item.offsetHeight];
        if (top < host.scrollTop) host.scrollTop = top;
        if (bottom > host.scrollTop + host.clientHeight) host.scrollTop = bottom - host.clientHeight;
      }
      choose(one.video);
    }

    function refresh() {
      const wanted = search.value.trim().toLowerCase();
      visible = entries.filter(({ video }) => video.name.toLowerCase().includes(wanted));
      visible.sort((a, b) => ORDERS[order.value](a.video, b.video));
      watcher.disconnect();
      seen.clear();
      host.replaceChildren(...visible.map(({ item }) => item));
      for (const { item } of visible) watcher.observe(item);
      count.textContent =
        `${visible.length === all.length ? "" : `${visible.length} of `}${Charts.counted(all.length, "video")}`;
    }

    host.addEventListener("keydown", (event) => {
      const now = visible.indexOf(chosen);
      const moves = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: visible.length - 1 };
      if (!(event.key in moves) || !visible.length) return;
      event.preventDefault();
      select(visible[Math.min(Math.max(moves[event.key], 0), visible.length - 1)]);
    });
    search.addEventListener("input", refresh);
    order.addEventListener("change", refresh);
    const redraw = () => seen.forEach((one) => one.draw());
    Theme.changed(redraw);
    new ResizeObserver(redraw).observe(host);
    refresh();
    if (visible.length) select(visible[0], true);
  }

  return { list, shown };
})();
