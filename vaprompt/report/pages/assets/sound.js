/* How loud it is over time, and where a voice is heard, as vaprompt/report/pages/sound.py packs it. */
"use strict";

const Sound = (() => {
  /** A chart of the level; `level` is the unpacked one, `options` are those of a timeline. */
  function timeline(host, block, level, options) {
    const { step, voice, silent } = block;
    const time = Float64Array.from(level, (_, index) => index * step);
    return Charts.timeline(host, {
      label: silent ? "sound: none" : "sound level (dB of full scale)",
      time,
      height: 90,
      range: [-80, 0],
      ticks: [-80, -40, 0],
      format: (decibels) => `${Math.round(decibels)} dB`.replace("-", "−"),
      spans: [{ label: "a voice", ranges: Charts.ranges(voice, time), colour: "--voice" }],
      series: [{ label: "level", values: decibels(block, level), colour: "--sound" }],
      ...options,
    });
  }

  /** Shares of the way up from silence as dB of full scale. */
  function decibels({ lowest }, level) {
    return level.map((share) => lowest * (1 - share));
  }

  return { timeline, decibels };
})();
