/* The valence-arousal plane: how much lies where, and where it is sent to. */
"use strict";

const Plane = (() => {
  const TICKS = (reach) => [-1, -0.5, 0, 0.5, 1].map((share) => [(share + 1) / 2, String(+(share * reach).toFixed(2)).replace("-", "−")]);

  /** Counts as shares of the most, on a logarithmic scale: a single frame is seen beside thousands. */
  function logarithmic(counts) {
    const most = Math.log1p(counts.reduce((greatest, count) => Math.max(greatest, count), 0));
    return counts.map((count) => (most ? Math.log1p(count) / most : 0));
  }

  function axes(context, width, height) {
    context.strokeStyle = Theme.colour("--ink-soft");
    context.globalAlpha = 0.5;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(width / 2, 0);
    context.lineTo(width / 2, height);
    context.moveTo(0, height / 2);
    context.lineTo(width, height / 2);
    context.stroke();
    context.globalAlpha = 1;
  }

  function crosses(context, width, height, centres) {
    context.strokeStyle = Theme.colour("--truth");
    context.lineWidth = 1.5;
    context.beginPath();
    for (const [valence, arousal] of centres) {
      const [x, y] = [((valence + 1) / 2) * width, ((1 - arousal) / 2) * height];
      context.moveTo(x - 4, y);
      context.lineTo(x + 4, y);
      context.moveTo(x, y - 4);
      context.lineTo(x, y + 4);
    }
    context.stroke();
  }

  /** One density. options: title, counts (bins x bins, arousal from low), bins, reach, centres, names. */
  function density(host, options) {
    const { bins, reach, counts } = options;
    const total = counts.reduce((sum, count) => sum + count, 0);
    const middle = (index) => ((index + 0.5) / bins) * 2 * reach - reach;
    const [x, y] = options.names;
    const shown = (number) => Charts.fixed(number, 2);
    return Heat.grid(host, {
      label: options.title,
      rows: bins,
      columns: bins,
      square: true,
      values: logarithmic(counts),
      x: { label: x, ticks: TICKS(reach) },
      y: { label: y, ticks: TICKS(reach) },
      over: (context, width, height) => {
        axes(context, width, height);
        if (options.centres) crosses(context, width, height, options.centres);
      },
      tell: (row, column) => {
        const count = counts[row * bins + column];
        const share = total ? (100 * count) / total : 0;
        return `${x} ${shown(middle(column))}, ${y} ${shown(middle(row))}: ${Charts.counted(count, "frame")}, ${share.toFixed(2)} %`;
      },
    });
  }

  /** Arrows from where truth lies to what was predicted there. options: title, arrows, centres. */
  function arrows(host, options) {
    const most = options.arrows.reduce((greatest, arrow) => Math.max(greatest, arrow[4]), 1);
    const cells = 11;
    const at = (valence, arousal) =>
      options.arrows.find(
        ([v, a]) =>
          Math.min(cells - 1, Math.floor(((v + 1) / 2) * cells)) === valence &&
          Math.min(cells - 1, Math.floor(((a + 1) / 2) * cells)) === arousal,
      );
    const shown = (number) => Charts.fixed(number, 2);
    return Heat.grid(host, {
      label: options.title,
      rows: cells,
      columns: cells,
      square: true,
      values: new Float32Array(cells * cells),
      x: { label: "valence", ticks: TICKS(1) },
      y: { label: "arousal", ticks: TICKS(1) },
      over: (context, width, height) => {
        axes(context, width, height);
        const place = (valence, arousal) => [((valence + 1) / 2) * width, ((1 - arousal) / 2) * height];
        for (const [valence, arousal, toValence, toArousal, count] of options.arrows) {
          const [x, y] = place(valence, arousal);
          const [tipX, tipY] = place(toValence, toArousal);
          const angle = Math.atan2(tipY - y, tipX - x);
          context.globalAlpha = 0.35 + 0.65 * Math.sqrt(count / most);
          context.strokeStyle = context.fillStyle = Theme.colour("--predicted");
          context.lineWidth = 1.6;
          context.beginPath();
          context.moveTo(x, y);
          context.lineTo(tipX, tipY);
          for (const turn of [2.6, -2.6]) {
            context.moveTo(tipX, tipY);
            context.lineTo(tipX + 6 * Math.cos(angle + turn), tipY + 6 * Math.sin(angle + turn));
          }
          context.stroke();
          context.fillStyle = Theme.colour("--truth");
          context.beginPath();
          context.arc(x, y, 2.4, 0, 2 * Math.PI);
          context.fill();
        }
        context.globalAlpha = 1;
      },
      tell: (row, column) => {
        const arrow = at(column, row);
        if (!arrow) return "too few frames here";
        const [valence, arousal, toValence, toArousal, count] = arrow;
        return `${shown(valence)}, ${shown(arousal)} goes to ${shown(toValence)}, ${shown(toArousal)} (${Charts.counted(count, "frame")})`;
      },
    });
  }

  return { density, arrows };
})();
