/* The report of one run: puts charts where the page has room for them. */
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const { element, clock } = Charts;
  const report = Data.block("report");

  function curves() {
    const { epoch, train, score, best, stopping } = report.curves;
    if (!epoch.length) return;
    Charts.curves($("curve-loss"), {
      label: "Training loss",
      x: epoch,
      xLabel: "epoch",
      mark: best,
      series: [
        { label: "loss", values: train.loss, colour: "--predicted" },
        { label: "its CCC part", values: train.ccc, colour: "--truth", dash: [8, 4] },
        { label: "its KL part", values: train.kl, colour: "--smoothed", dash: [3, 3] },
      ],
    });
    Charts.curves($("curve-score"), {
      label: `CCC on ${stopping}, at the windows’ ends`,
      x: epoch,
      xLabel: "epoch",
      mark: best,
      series: [
        { label: "mean", values: score.mean, colour: "--predicted", width: 3 },
        { label: "valence", values: score.valence, colour: "--truth", dash: [8, 4] },
        { label: "arousal", values: score.arousal, colour: "--smoothed", dash: [3, 3] },
      ],
    });
  }

  async function planes() {
    const { plane, centres } = report;
    const counts = await Data.unpackAll({ truth: plane.truth, prediction: plane.prediction, error: plane.error });
    const common = { bins: plane.bins, names: ["valence", "arousal"] };
    Plane.density($("plane-truth"), { ...common, title: "Annotation", counts: counts.truth, reach: 1, centres });
    Plane.density($("plane-prediction"), { ...common, title: "Prediction", counts: counts.prediction, reach: 1, centres });
    Plane.density($("plane-error"), {
      ...common,
      title: "Error: prediction less annotation",
      names: ["error in valence", "error in arousal"],
      counts: counts.error,
      reach: plane.reach,
    });
    Plane.arrows($("plane-arrows"), { title: "From annotation to prediction", arrows: plane.arrows });
  }

  /** Everything about one video; replaced when another one is chosen. */
  const detail = (() => {
    let shown = [];
    let wanted = null;
    let view = null;
    let traces = [];
    let smooth = false;

    function clear() {
      for (const part of shown) part.destroy();
      shown = [];
      traces = [];
      view = null;
      $("window-panel").hidden = true;
    }

    async function show(video) {
      wanted = video;
      const block = Data.block(video.block);
      const arrays = await Data.unpackAll(block.arrays);
      const windows = block.windows ? await Data.unpackAll(block.windows.arrays) : null;
      const level = block.sound ? await Data.unpack(block.sound.level) : null;
      if (wanted !== video) return; // another one was chosen meanwhile
      clear();
      const { mean, valence, arousal, rmse } = video.scores;
      const { shown: number } = Videos;
      $("video-name").textContent = video.name;
      $("video-scores").textContent =
        `CCC ${number(mean, 3)} (valence ${number(valence, 3)}, arousal ${number(arousal, 3)}), RMSE ${number(rmse, 3)}; ` +
        `${Charts.counted(video.frames, "frame")}, ${clock(video.seconds)}`;
      const time = arrays.time;
      view = Charts.group(time[0], Math.max(time[time.length - 1], time[0] + 0.1));
      const pick = windows ? (seconds) => choose(Heat.nearest(windows.end, seconds), true) : null;
      const spans = [
        { label: "not annotated", ranges: Charts.ranges(block.invalid, time), colour: "--invalid" },
        { label: "no face", ranges: Charts.ranges(block.faceless || [], time), colour: "--faceless", striped: true },
      ];
      traces = ["valence", "arousal"].map((dimension) =>
        Charts.timeline($(`chart-${dimension}`), {
          label: dimension,
          time,
          view,
          spans,
          pick,
          height: 170,
          range: [-1.05, 1.05],
          ticks: [-1, -0.5, 0, 0.5, 1],
          series: [
            { label: "annotated", values: arrays[`${dimension}_truth`], colour: "--truth", width: 2.6 },
            { label: "predicted", values: arrays[`${dimension}_predicted`], colour: "--predicted", shown: !smooth },
            {
              label: `smoothed (${report.smoothing})`,
              values: arrays[`${dimension}_smoothed`],
              colour: "--smoothed",
              width: 2,
              shown: smooth,
            },
          ],
        }),
      );
      shown.push(...traces);
      $("chart-gate").hidden = !windows?.gate;
      if (windows?.gate) {
        shown.push(
          Charts.timeline($("chart-gate"), {
            label: "gate: how much sound was let in",
            time: windows.end,
            view,
            pick,
            height: 90,
            range: [0, 1],
            ticks: [0, 0.5, 1],
            series: [{ label: "gate", values: windows.gate, colour: "--gate", width: 2 }],
          }),
        );
      }
      $("chart-sound").hidden = !level;
      if (level) shown.push(Sound.timeline($("chart-sound"), block.sound, level, { view, pick }));
      $("chart-regions").hidden = !windows;
      if (windows) {
        shown.push(
          Heat.timeline($("chart-regions"), {
            label: "regions",
            rows: report.phrases,
            time: windows.end,
            values: windows.regions,
            view,
            pick,
          }),
        );
        panel(block, windows);
      }
      $("video-notes").textContent = block.silence ? `Its sound is not shown: ${block.silence}.` : "";
    }

    let choose = () => {};

    function panel(block, windows) {
      $("window-panel").hidden = false;
      const slider = $("window-choice");
      const count = windows.end.length;
      const regions = report.phrases.length;
      slider.max = count - 1;
      let map = null;
      const bars = report.phrases.map((phrase, index) => {
        const row = element("li");
        const track = element("div", "track");
        const fill = element("div", "fill");
        const aim = element("div", "aim");
        const number = element("span", "number");
        track.append(fill, aim);
        row.append(element("span", "badge", String(index + 1)), element("span", "name", phrase), track, number);
        return { row, fill, aim, number };
      });
      const list = element("ul", "bars");
      list.append(...bars.map(({ row }) => row));
      $("window-regions").replaceChildren(
        element("p", "chart-title small", "Regions: prediction, and the soft target as a mark"),
        list,
      );
      $("window-attention").hidden = !block.windows.steps;

      choose = (index, jump) => {
        slider.value = index;
        const end = windows.end[index];
        const title = `Window that ends at ${clock(end, 1)}`;
        $("window-title").textContent = title;
        slider.setAttribute("aria-valuetext", title);
        for (const trace of shown) {
          trace.mark?.(end);
          trace.band?.(Math.max(end - report.window, view.from), end);
        }
        if (jump && (end < view.view()[0] || end > view.view()[1])) view.pan(end - view.view()[1]);
        bars.forEach(({ fill, aim, number }, region) => {
          const share = windows.regions[index * regions + region];
          const target = windows.target[index * regions + region];
          fill.style.setProperty("--share", share);
          aim.style.setProperty("--aim", target);
          aim.hidden = Number.isNaN(target);
          number.textContent = `${Math.round(100 * share)} %`;
        });
        if (block.windows.steps) map = attention(block, windows, index, map);
      };
      slider.oninput = () => choose(Number(slider.value), true);
      choose(count - 1 >> 1, false);
    }

    function attention(block, windows, index, map) {
      const [steps, heard] = block.windows.steps;
      const own = windows.attention.subarray(index * steps * heard, (index + 1) * steps * heard);
      const most = own.reduce((greatest, share) => Math.max(greatest, share), 0) || 1;
      const values = own.map((share) => share / most);
      const end = windows.end[index];
      const soundEnd = end - windows.audio_age[index];
      const seen = (row) => end - windows.age[index * steps + row];
      const sounded = (column) => soundEnd - report.audioWindow * (1 - (column + 0.5) / heard);
      const back = (share) => `${(-report.audioWindow * (1 - share)).toFixed(0)} s`.replace("-", "−");
      if (map) map.destroy();
      const made = Heat.grid($("window-attention"), {
        label: `Attention: which sound each picture listened to, in the window that ends at ${clock(end, 1)}`,
        title: "Attention: which sound each picture listened to",
        rows: steps,
        columns: heard,
        values,
        x: { label: `sound, up to ${clock(soundEnd, 1)}`, ticks: [0, 0.5, 1].map((share) => [share, back(share)]) },
        y: { label: "picture", ticks: [[0.02, clock(seen(0))], [0.98, clock(seen(steps - 1))]] },
        tell: (row, column) =>
          `picture at ${clock(seen(row), 1)}, sound at ${clock(sounded(column), 1)}: ` +
          `${(100 * own[row * heard + column]).toFixed(1)} % (even: ${(100 / heard).toFixed(1)} %)`,
      });
      return made;
    }

    function toggleSmooth() {
      smooth = !smooth;
      $("smooth").setAttribute("aria-pressed", String(smooth));
      for (const trace of traces) {
        trace.show(1, !smooth);
        trace.show(2, smooth);
      }
    }

    $("zoom-in").addEventListener("click", () => view && view.zoom(1 / 2));
    $("zoom-out").addEventListener("click", () => view && view.zoom(2));
    $("zoom-all").addEventListener("click", () => view && view.reset());
    $("smooth").addEventListener("click", toggleSmooth);
    return { show };
  })();

  curves();
  planes();
  Videos.list(report.videos, detail.show);
})();
