/* The report of several runs: their courses and their traces over one another. */
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const report = Data.block("report");
  const DASHES = [undefined, [8, 4], [2, 3], [12, 4, 2, 4]];

  /** A run's looks: a colour, and a dash where colours come round again. */
  function looks(index) {
    return { colour: `--run-${(index % 6) + 1}`, dash: DASHES[Math.floor(index / 6) % DASHES.length] };
  }

  function curves() {
    const last = Math.max(0, ...report.curves.flat().map(([epoch]) => epoch));
    if (!last) return;
    const epochs = Array.from({ length: last }, (_, index) => index + 1);
    Charts.curves($("curve-score"), {
      label: "Mean CCC by epoch",
      x: epochs,
      xLabel: "epoch",
      height: 260,
      series: report.curves.map((points, index) => {
        const known = new Map(points);
        return { label: report.runs[index], values: epochs.map((epoch) => known.get(epoch) ?? null), ...looks(index) };
      }),
    });
  }

  let shown = [];
  let view = null;
  let wanted = null;

  async function show(video) {
    wanted = video;
    const block = Data.block(video.block);
    const arrays = await Data.unpackAll(block.arrays);
    if (wanted !== video) return; // another one was chosen meanwhile
    for (const chart of shown) chart.destroy();
    const time = arrays.time;
    const number = Videos.shown;
    view = Charts.group(time[0], Math.max(time[time.length - 1], time[0] + 0.1));
    $("video-name").textContent = video.name;
    $("video-scores").textContent = video.runs.map((score, run) => `${report.runs[run]} ${number(score, 3)}`).join("; ");
    const spans = [{ label: "not annotated", ranges: Charts.ranges(block.invalid, time), colour: "--invalid" }];
    shown = ["valence", "arousal"].map((dimension) =>
      Charts.timeline($(`chart-${dimension}`), {
        label: dimension,
        time,
        view,
        spans,
        height: 220,
        range: [-1.05, 1.05],
        ticks: [-1, -0.5, 0, 0.5, 1],
        series: [
          { label: "annotated", values: arrays[`${dimension}_truth`], colour: "--ink", width: 2.6 },
          ...block.runs.map((run) => ({ label: report.runs[run], values: arrays[`${dimension}_${run}`], ...looks(run) })),
        ],
      }),
    );
    const left = report.runs.length - block.runs.length;
    $("video-notes").textContent = left ? `${left} of the runs have other frames of this video, and are not drawn.` : "";
  }

  $("zoom-in").addEventListener("click", () => view && view.zoom(1 / 2));
  $("zoom-out").addEventListener("click", () => view && view.zoom(2));
  $("zoom-all").addEventListener("click", () => view && view.reset());
  curves();
  Videos.list(report.videos, show);
})();
