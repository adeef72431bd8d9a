/* Heat maps drawn by hand: cells of a grid, coloured from nothing to most, reached by mouse and by arrow keys. */
"use strict";

const Heat = (() => {
  /** Numbers for which there is room beside a strip at its highest (heat.css). */
  const MOST_NUMBERS = 29;

  /** 256 colours between the style sheet's two ends, as red, green, blue. */
  function ramp() {
    const low = Theme.channels("--heat-0");
    const high = Theme.channels("--heat-1");
    const accent = Theme.channels("--heat-mid");
    const colours = new Uint8Array(256 * 3);
    for (let step = 0; step < 256; step++) {
      const share = step / 255;
      const [from, to, part] = share < 0.5 ? [low, accent, 2 * share] : [accent, high, 2 * share - 1];
      for (let channel = 0; channel < 3; channel++) {
        colours[3 * step + channel] = Math.round(from[channel] + part * (to[channel] - from[channel]));
      }
    }
    return colours;
  }

  /** Paint rows x columns values from 0 to 1 (row 0 at the bottom) over the whole canvas, each cell a flat colour. */
  function paint(canvas, values, rows, columns) {
    const colours = ramp();
    const image = new ImageData(columns, rows);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const value = values[row * columns + column];
        const step = 3 * Math.round(255 * Math.min(Math.max(value, 0), 1));
        const at = 4 * ((rows - 1 - row) * columns + column);
        image.data.set(colours.subarray(step, step + 3), at);
        image.data[at + 3] = 255;
      }
    }
    stretched(canvas, image);
  }

  /** Fill a canvas with a small image, whose pixels become cells. */
  function stretched(canvas, image) {
    const cells = new OffscreenCanvas(image.width, image.height);
    cells.getContext("2d").putImageData(image, 0, 0);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(cells, 0, 0, canvas.width, canvas.height);
  }

  /** Make a canvas as sharp as the screen is; returns its size in CSS pixels. */
  function sharpen(canvas) {
    const { clientWidth, clientHeight } = canvas;
    const density = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(clientWidth * density));
    canvas.height = Math.max(1, Math.round(clientHeight * density));
    return { width: clientWidth, height: clientHeight, density };
  }

  /** A grid of cells with axes.

  options: label; rows; columns; values (0 to 1, row 0 at the bottom); tell(row, column) -> text; x and y: {label,
  ticks: [[share of the axis, text]]}; over(context, width, height): what is drawn on top; square. */
  function grid(host, options) {
    host.classList.add("heat");
    const figure = Charts.element("figure");
    const caption = Charts.element("figcaption", "chart-title", options.title || options.label);
    const box = Charts.element("div", options.square ? "heat-box square" : "heat-box");
    const canvas = Charts.element("canvas");
    const spoken = Charts.element("output", "heat-told small");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", `${options.label}. Arrow keys move from cell to cell.`);
    spoken.setAttribute("aria-live", "polite");
    box.append(ticks("y", options.y), canvas, ticks("x", options.x));
    figure.append(caption, box, spoken);
    host.replaceChildren(figure);
    let at = null;

    function draw() {
      const { width, height, density } = sharpen(canvas);
      paint(canvas, options.values, options.rows, options.columns);
      const context = canvas.getContext("2d");
      context.save();
      context.scale(density, density);
      if (options.over) options.over(context, width, height);
      if (at !== null) {
        const [row, column] = at;
        context.strokeStyle = Theme.colour("--error");
        context.lineWidth = 2;
        const [w, h] = [width / options.columns, height / options.rows];
        context.strokeRect(column * w, height - (row + 1) * h, w, h);
      }
      context.restore();
    }

    function choose(row, column) {
      at = [Math.min(Math.max(row, 0), options.rows - 1), Math.min(Math.max(column, 0), options.columns - 1)];
      spoken.textContent = options.tell(...at);
      draw();
    }

    canvas.addEventListener("pointermove", (event) => {
      const area = canvas.getBoundingClientRect();
      const column = Math.floor(((event.clientX - area.left) / area.width) * options.columns);
      const row = Math.floor((1 - (event.clientY - area.top) / area.height) * options.rows);
      choose(row, column);
    });
    canvas.addEventListener("pointerleave", () => {
      at = null;
      spoken.textContent = "";
      draw();
    });
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] };
      if (!(event.key in moves)) return;
      event.preventDefault();
      const [row, column] = at ?? [Math.floor(options.rows / 2), Math.floor(options.columns / 2)];
      choose(row + moves[event.key][0], column + moves[event.key][1]);
    });
    const observer = new ResizeObserver(draw);
    observer.observe(canvas);
    const ends = [Theme.changed(draw), () => observer.disconnect()];
    return {
      draw,
      update: (values) => {
        options.values = values;
        draw();
      },
      destroy: () => (ends.forEach((end) => end()), host.replaceChildren()),
    };
  }

  function ticks(side, axis) {
    const strip = Charts.element("div", `heat-${side}`);
    strip.setAttribute("aria-hidden", "true");
    const scale = Charts.element("div", "scale");
    for (const [share, text] of axis.ticks) {
      const tick = Charts.element("span", "", text);
      tick.style.setProperty("--at", `${100 * share}%`);
      scale.append(tick);
    }
    strip.append(scale, Charts.element("span", "name", axis.label));
    return strip;
  }

  /** Rows of shares over time, such as the regions' probabilities; zooms with the charts of its view.

  options: label; rows [text]; time (ends of the windows, seconds); values (time x rows, 0 to 1); view; pick(seconds). */
  function timeline(host, options) {
    const { rows, time, values, view } = options;
    host.classList.add("chart");
    host.setAttribute("role", "group");
    host.setAttribute("aria-label", options.label);
    const head = Charts.element("div", "chart-head");
    const told = Charts.element("span", "soft", "");
    const line = Charts.element("div", "strip");
    line.style.gridTemplateColumns = `${Charts.EDGES.left}px minmax(0, 1fr) ${Charts.EDGES.right}px`;
    const names = Charts.element("ol", "strip-names");
    line.style.setProperty("--rows", rows.length);
    const canvas = Charts.element("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${options.label}: most likely over the whole video is ${most()}`);
    head.append(Charts.element("span", "chart-title", options.label), told);
    // Where numbers do not fit beside all rows, they stand beside every second, third, ... of them.
    const every = Math.ceil(rows.length / MOST_NUMBERS);
    for (let row = 1; row <= rows.length; row += every) {
      const name = names.appendChild(Charts.element("li", "", String(row)));
      name.style.setProperty("--row", row);
    }
    const over = Charts.element("div", "strip-over");
    const marked = Charts.element("div", "chart-mark");
    let point = null;
    marked.hidden = true;
    over.append(marked);
    line.append(names, canvas, over);
    host.replaceChildren(head, line);

    function most() {
      const sums = rows.map((_, row) => time.reduce((sum, _, index) => sum + values[index * rows.length + row], 0));
      const highest = sums.indexOf(Math.max(...sums));
      return `${highest + 1}, ${rows[highest]}`;
    }

    let colours = ramp();

    function draw() {
      sharpen(canvas);
      const [from, to] = view.view();
      // A column of the screen shows the window that ends nearest to it.
      const strip = new ImageData(canvas.width, rows.length);
      let index = 0;
      for (let x = 0; x < canvas.width; x++) {
        const at = from + ((x + 0.5) / canvas.width) * (to - from);
        while (index + 1 < time.length && time[index + 1] - at < at - time[index]) index++;
        for (let row = 0; row < rows.length; row++) {
          // The root of a share: a region with a tenth is seen beside one with a half.
          const step = 3 * Math.round(255 * Math.sqrt(Math.min(1, Math.max(0, values[index * rows.length + row]))));
          const pixel = 4 * (row * canvas.width + x);
          strip.data.set(colours.subarray(step, step + 3), pixel);
          strip.data[pixel + 3] = 255;
        }
      }
      stretched(canvas, strip);
    }

    function seconds(event) {
      const area = canvas.getBoundingClientRect();
      const [from, to] = view.view();
      return from + ((event.clientX - area.left) / area.width) * (to - from);
    }
    canvas.addEventListener("pointermove", (event) => {
      const area = canvas.getBoundingClientRect();
      const row = Math.min(rows.length - 1, Math.max(0, Math.floor(((event.clientY - area.top) / area.height) * rows.length)));
      const index = nearest(time, seconds(event));
      told.textContent = `${Charts.clock(time[index])}: ${Math.round(100 * values[index * rows.length + row])} % ${row + 1}, ${rows[row]}`;
    });
    canvas.addEventListener("pointerleave", () => (told.textContent = ""));
    canvas.addEventListener("click", (event) => options.pick && options.pick(seconds(event)));
    const observer = new ResizeObserver(draw);
    observer.observe(canvas);
    const recolour = () => {
      colours = ramp();
      draw();
    };
    function place() {
      const [from, to] = view.view();
      const share = point === null ? -1 : (point - from) / (to - from);
      marked.hidden = share < 0 || share > 1;
      marked.style.left = `calc(${100 * share}% - 1px)`;
    }
    const ends = [view.changed(draw), view.changed(place), Theme.changed(recolour), () => observer.disconnect()];
    return {
      draw,
      mark: (seconds) => ((point = seconds), place()),
      destroy: () => (ends.forEach((end) => end()), host.replaceChildren()),
    };
  }

  /** The index of the number that is nearest to `wanted`, in ascending numbers. */
  function nearest(numbers, wanted) {
    let low = 0;
    let high = numbers.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (numbers[middle] < wanted) low = middle;
      else high = middle;
    }
    return wanted - numbers[low] <= numbers[high] - wanted ? low : high;
  }

  return { grid, timeline, nearest, sharpen };
})();
