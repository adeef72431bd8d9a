/* Line charts on uPlot that can be reached by mouse, finger and keyboard, are read out, and zoom together.

uPlot draws the least and the greatest value of each pixel column where points are denser than pixels, so that whole
series are handed over and no peak is lost. */
"use strict";

const Charts = (() => {
  const KEYS =
    "Left and right arrow keys move the cursor, plus and minus zoom, 0 shows everything, Enter chooses the moment.";
  const ZOOM_KEYS = "Plus and minus zoom, 0 shows everything.";
  const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 36000];
  /** Pixels beside the time of every chart: for the axis on the left, for half of the last label on the right. */
  const EDGES = { left: 46, right: 18 };
  const FONT = "12px system-ui, sans-serif";
  let made = 0;

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  /** Seconds as minutes and seconds, such as 1:05 or 1:05.3. */
  function clock(seconds, digits = 0) {
    const sign = seconds < 0 ? "-" : "";
    const whole = Math.abs(seconds);
    const minutes = Math.floor(whole / 60);
    const rest = (whole - 60 * minutes).toFixed(digits);
    return `${sign}${minutes}:${rest.padStart(digits ? digits + 3 : 2, "0")}`;
  }

  /** A number with a true minus, and no minus where it is rounded to nothing. */
  function fixed(number, digits) {
    const text = number.toFixed(digits);
    return text.replace("-", Number(text) === 0 ? "" : "−");
  }

  /** How many of a thing there are, such as 1 frame or 12 frames. */
  function counted(count, thing) {
    return `${count} ${thing}${count === 1 ? "" : "s"}`;
  }

  /** Ticks of an axis, which are `step` apart, with the decimals that tell them apart. */
  function tickLabels(ticks, step) {
    let digits = 0;
    while (digits < 9 && Math.abs(step - Number(step.toFixed(digits))) > step / 1e6) digits++;
    return ticks.map((tick) => fixed(tick, digits));
  }

  /** Stretches of frames (first, behind the last, first, ...) as stretches of seconds. */
  function ranges(spans, time) {
    const found = [];
    for (let index = 0; index < spans.length; index += 2) {
      found.push([time[spans[index]], time[Math.min(spans[index + 1], time.length - 1)]]);
    }
    return found;
  }

  function axis(extra) {
    return {
      stroke: () => Theme.colour("--ink-soft"),
      grid: { stroke: () => Theme.colour("--grid"), width: 1 },
      ticks: { stroke: () => Theme.colour("--grid"), width: 1, size: 4 },
      font: FONT,
      labelFont: FONT,
      labelSize: 18,
      gap: 4,
      ...extra,
    };
  }

  function sample(series) {
    const line = element("i", "sample");
    line.style.setProperty("--line", `var(${series.colour})`);
    line.style.setProperty("--thick", `${series.width || 1.5}px`);
    line.style.setProperty("--kind", series.dash ? "dashed" : "solid");
    return line;
  }

  /** The buttons that name each series, show its value at the cursor, and hide it. */
  function legend(host, chart, all, format) {
    return all.map((series, index) => {
      const button = element("button", "series");
      button.type = "button";
      const value = element("b", "value", "");
      button.append(sample(series), element("span", "", series.label), value);
      const show = (shown) => {
        button.setAttribute("aria-pressed", String(shown));
        chart().setSeries(index + 1, { show: shown });
      };
      button.setAttribute("aria-pressed", String(series.shown !== false));
      button.addEventListener("click", () => show(button.getAttribute("aria-pressed") !== "true"));
      host.append(button);
      return { show, tell: (number) => (value.textContent = number == null ? "" : format(number)) };
    });
  }

  /** Diagonal stripes of a colour, as a filling; they join at the borders of their tile. */
  function stripes(context, colour) {
    const size = Math.round(8 * uPlot.pxRatio);
    const tile = new OffscreenCanvas(size, size);
    const pen = tile.getContext("2d");
    pen.strokeStyle = colour;
    pen.lineWidth = uPlot.pxRatio;
    pen.beginPath();
    for (const shift of [-size, 0, size]) {
      pen.moveTo(shift - 1, size + 1);
      pen.lineTo(shift + size + 1, -1);
    }
    pen.stroke();
    return context.createPattern(tile, "repeat");
  }

  /** Paint stretches of time behind the lines: {ranges: [[from, to]] in seconds, ascending, colour, striped}. */
  function paintSpans(plot, spans) {
    const { ctx, bbox } = plot;
    const last = bbox.left + bbox.width;
    ctx.save();
    for (const { ranges, colour, striped } of spans) {
      ctx.fillStyle = striped ? stripes(ctx, Theme.colour(colour)) : Theme.colour(colour);
      let left = null;
      let right = null;
      const fill = () => left !== null && ctx.fillRect(left, bbox.top, right - left, bbox.height);
      for (const [from, to] of ranges) {
        const start = Math.max(Math.floor(plot.valToPos(from, "x", true)), bbox.left);
        const end = Math.min(Math.max(Math.ceil(plot.valToPos(to, "x", true)), start + 1), last);
        if (end <= bbox.left || start >= last) continue;
        // Single frames that share a pixel, or touch, are painted once.
        if (left !== null && start <= right) right = Math.max(right, end);
        else {
          fill();
          [left, right] = [start, end];
        }
      }
      fill();
    }
    ctx.restore();
  }

  /** The points of a series that are seen (first to last) and have no neighbour, so that no line leads to them. */
  function alone(values, [first, last]) {
    const found = [];
    for (let index = first; index <= last; index++) {
      if (values[index] != null && values[index - 1] == null && values[index + 1] == null) found.push(index);
    }
    return found;
  }

  /** A chart over time.

  options: label; time (seconds); series [{label, values, colour, width, dash, shown}]; view (a group); range [low,
  high]; height; unit; spans [{label, ranges, colour, striped}]; pick(seconds); format(number); ticks (of the values);
  zoomOnly: keys zoom and do no more, where the page itself moves by the others. */
  function timeline(host, options) {
    const view = options.view || Zooming.group(options.time[0], options.time[options.time.length - 1]);
    const format = options.format || ((number) => fixed(number, 2));
    const { area, head, spoken } = frame(host, options, options.zoomOnly ? ZOOM_KEYS : KEYS);
    let values = [];
    const plot = new uPlot(
      {
        width: Math.max(area.clientWidth, 120),
        height: options.height || 160,
        legend: { show: false },
        padding: [8, EDGES.right, 0, 0],
        scales: {
          x: { time: false, range: (_, low, high) => [low, high] },
          y: { range: () => options.range },
        },
        axes: [
          axis({ incrs: STEPS, values: (_, splits, __, ___, gap) => splits.map((at) => clock(at, gap < 1 ? 1 : 0)), size: 28 }),
          axis({ size: EDGES.left, ...(options.ticks ? { splits: () => options.ticks } : {}), label: options.unit }),
        ],
        series: [
          {},
          ...options.series.map((series) => ({
            label: series.label,
            stroke: () => Theme.colour(series.colour),
            width: series.width || 1.5,
            dash: series.dash,
            show: series.shown !== false,
            pxAlign: 0,
            points: {
              show: false,
              size: 6,
              fill: () => Theme.colour(series.colour),
              filter: (drawn, row) => alone(drawn.data[row], drawn.series[0].idxs),
            },
          })),
        ],
        cursor: {
          sync: { key: view.key, scales: ["x", null], setSeries: false },
          drag: { x: true, y: false, setScale: false },
          y: false,
          points: { size: 7 },
          bind: { dblclick: () => () => null },
        },
        hooks: {
          drawClear: [(drawn) => paintSpans(drawn, options.spans || [])],
          setSelect: [
            (drawn) => {
              if (drawn.select.width < 4) return;
              view.set(drawn.posToVal(drawn.select.left, "x"), drawn.posToVal(drawn.select.left + drawn.select.width, "x"));
              drawn.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
            },
          ],
          setCursor: [
            (drawn) => {
              const index = drawn.cursor.idx;
              values.forEach((entry, row) => entry.tell(index == null ? null : drawn.data[row + 1][index]));
            },
          ],
        },
      },
      [options.time, ...options.series.map((series) => Data.gapped(series.values))],
      area,
    );
    values = legend(head, () => plot, options.series, format);
    for (const span of options.spans || []) if (span.ranges.length) head.append(key(span));
    const said = () => {
      const index = plot.cursor.idx;
      if (index == null) return;
      const shown = options.series.filter((_, row) => plot.series[row + 1].show);
      const parts = shown.map((series) => {
        const number = series.values[index];
        return `${series.label} ${Number.isNaN(number) ? "none" : format(number)}`;
      });
      spoken.textContent = `${clock(options.time[index], 1)}: ${parts.join(", ")}`;
    };
    Zooming.gestures(plot, view, options.pick);
    Zooming.keyboard(area, plot, view, options, said);
    const marks = marker(plot);
    const show = ([low, high]) => plot.setScale("x", { min: low, max: high });
    show(view.view());
    const ends = [view.changed(show), Theme.changed(() => plot.redraw(false)), fitted(area, plot)];
    return {
      plot,
      view,
      mark: marks.point,
      band: marks.band,
      show: (row, shown) => values[row].show(shown),
      destroy: () => {
        for (const end of ends) end();
        plot.destroy();
        host.replaceChildren();
      },
    };
  }

  /** What stands above a chart, the area that takes keys, and what is read out. */
  function frame(host, options, keys) {
    host.classList.add("chart");
    host.setAttribute("role", "group");
    host.setAttribute("aria-label", options.label);
    const head = element("div", "chart-head");
    const title = element("span", "chart-title", options.title || options.label);
    const area = element("div", "chart-area");
    const help = element("span", "sr-only", keys);
    const spoken = element("output", "sr-only");
    help.id = `chart-keys-${++made}`;
    spoken.setAttribute("aria-live", "polite");
    area.tabIndex = 0;
    area.setAttribute("role", "application");
    area.setAttribute("aria-label", options.label);
    area.setAttribute("aria-describedby", help.id);
    head.append(title);
    host.replaceChildren(head, area, help, spoken);
    return { head, area, spoken };
  }

  function key(span) {
    const entry = element("span", "span-key");
    const swatch = element("i", span.striped ? "swatch striped" : "swatch");
    swatch.style.setProperty("--fill", `var(${span.colour})`);
    entry.append(swatch, element("span", "", span.label));
    return entry;
  }

  /** A line and a band over the chart that move without it being drawn again. */
  function marker(plot) {
    const line = element("div", "chart-mark");
    const stretch = element("div", "chart-band");
    let point = null;
    let range = null;
    line.hidden = stretch.hidden = true;
    plot.over.append(stretch, line);
    const place = () => {
      const width = plot.over.clientWidth;
      if (point !== null) {
        const left = plot.valToPos(point, "x");
        line.hidden = left < -1 || left > width + 1;
        line.style.transform = `translateX(${left}px)`;
      } else line.hidden = true;
      if (range !== null) {
        const left = Math.max(plot.valToPos(range[0], "x"), 0);
        const right = Math.min(plot.valToPos(range[1], "x"), width);
        stretch.hidden = right <= left;
        stretch.style.transform = `translateX(${left}px)`;
        stretch.style.width = `${Math.max(right - left, 0)}px`;
      } else stretch.hidden = true;
    };
    plot.hooks.setScale = [...(plot.hooks.setScale || []), place];
    plot.hooks.setSize = [...(plot.hooks.setSize || []), place];
    return {
      point: (seconds) => ((point = seconds), place()),
      band: (from, to) => ((range = from == null ? null : [from, to]), place()),
    };
  }

  /** Keep a chart as wide as what it stands in; returns what ends that. */
  function fitted(area, plot) {
    const observer = new ResizeObserver(() => {
      const width = Math.max(area.clientWidth, 120);
      if (width !== plot.width) plot.setSize({ width, height: plot.height });
    });
    observer.observe(area);
    return () => observer.disconnect();
  }

  /** A chart over whole numbers, such as epochs: label, x, xLabel, series, range (null: from the values), height. */
  function curves(host, options) {
    const format = options.format || ((number) => fixed(number, 3));
    const { area, head, spoken } = frame(host, options, "Left and right arrow keys move the cursor.");
    let values = [];
    const plot = new uPlot(
      {
        width: Math.max(area.clientWidth, 120),
        height: options.height || 220,
        legend: { show: false },
        padding: [10, 14, 0, 0],
        scales: {
          x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) },
          y: options.range ? { range: () => options.range } : {},
        },
        axes: [
          axis({ size: 30, label: options.xLabel, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] }),
          axis({
            size: (_, labels) => Math.max(50, 14 + 7 * Math.max(...(labels ?? []).map((label) => label.length))),
            values: (_, ticks, __, ___, step) => tickLabels(ticks, step),
          }),
        ],
        series: [
          {},
          ...options.series.map((series) => ({
            label: series.label,
            stroke: () => Theme.colour(series.colour),
            width: series.width || 2,
            dash: series.dash,
            show: series.shown !== false,
            pxAlign: 0,
            spanGaps: true,
            points: { show: options.x.length <= 60, size: 5 },
          })),
        ],
        cursor: { drag: { x: false, y: false }, y: false },
        hooks: {
          setCursor: [
            (drawn) => {
              const index = drawn.cursor.idx;
              values.forEach((entry, row) => entry.tell(index == null ? null : drawn.data[row + 1][index]));
            },
          ],
          draw: options.mark == null ? [] : [(drawn) => dashedLine(drawn, options.mark)],
        },
      },
      [options.x, ...options.series.map((series) => series.values)],
      area,
    );
    values = legend(head, () => plot, options.series, format);
    let at = 0;
    area.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: options.x.length - 1 };
      if (!(event.key in moves)) return;
      event.preventDefault();
      at = Math.min(Math.max(moves[event.key], 0), options.x.length - 1);
      plot.setCursor({ left: plot.valToPos(options.x[at], "x"), top: 10 });
      const parts = options.series.map((series) => {
        const number = series.values[at];
        return `${series.label} ${number == null ? "undefined" : format(number)}`;
      });
      spoken.textContent = `${options.xLabel} ${options.x[at]}: ${parts.join(", ")}`;
    });
    const ends = [Theme.changed(() => plot.redraw(false)), fitted(area, plot)];
    return { plot, destroy: () => (ends.forEach((end) => end()), plot.destroy(), host.replaceChildren()) };
  }

  function dashedLine(plot, x) {
    const { ctx, bbox } = plot;
    const left = plot.valToPos(x, "x", true);
    ctx.save();
    ctx.strokeStyle = Theme.colour("--ink-soft");
    ctx.setLineDash([4, 4]);
    ctx.beginPath();
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
    ctx.restore();
  }

  return { timeline, curves, group: Zooming.group, ranges, clock, fixed, counted, element, EDGES };
})();
