/* The data that the page carries: JSON blocks, and arrays as vaprompt/report/pages/packing.py packs them. */
"use strict";

const Data = (() => {
  const TYPES = { i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array, i4: Int32Array, u4: Uint32Array };
  const GAP = -32768;

  if (!("DecompressionStream" in window)) {
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = "This browser is too old to draw the charts: they need one of 2024 or later. Tables are all here.";
    document.querySelector("main").prepend(note);
  }

  /** The value of the block called `name`; null where the page has none. */
  function block(name) {
    const element = document.getElementById(`data-${name}`);
    return element === null ? null : JSON.parse(element.textContent);
  }

  /** The numbers of a packed array; NaN where there is a gap. */
  async function unpack(packed) {
    if ("start" in packed) {
      return Float64Array.from({ length: packed.count }, (_, index) => packed.start + index * packed.step);
    }
    const bytes = Uint8Array.from(atob(packed.data), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    const whole = new TYPES[packed.type](await new Response(stream).arrayBuffer());
    const numbers = new Float64Array(whole.length);
    for (let index = 0; index < whole.length; index++) {
      // Sums run over at the type's range, as the differences did.
      if (packed.differences && index > 0) whole[index] += whole[index - 1];
      numbers[index] = packed.type === "i2" && whole[index] === GAP ? NaN : whole[index] * packed.scale;
    }
    return numbers;
  }

  /** Several packed arrays at once: an object of the same names. */
  async function unpackAll(packed) {
    const names = Object.keys(packed);
    const arrays = await Promise.all(names.map((name) => unpack(packed[name])));
    return Object.fromEntries(names.map((name, index) => [name, arrays[index]]));
  }

  /** Numbers as uPlot takes them: null where there is a gap. */
  function gapped(numbers) {
    return numbers.some(Number.isNaN) ? Array.from(numbers, (number) => (Number.isNaN(number) ? null : number)) : numbers;
  }

  /** The least and the greatest of the numbers that fall on each of `columns` pixels: no peak is lost. */
  function extremes(numbers, columns) {
    const low = new Float32Array(columns).fill(NaN);
    const high = new Float32Array(columns).fill(NaN);
    for (let index = 0; index < numbers.length; index++) {
      const number = numbers[index];
      if (Number.isNaN(number)) continue;
      const column = Math.min(columns - 1, Math.floor((index * columns) / numbers.length));
      if (!(number >= low[column])) low[column] = number;
      if (!(number <= high[column])) high[column] = number;
    }
    return { low, high };
  }

  /** The index of the last of ascending numbers that is not above `wanted`; the first where all are. */
  function before(numbers, wanted) {
    let low = 0;
    let high = numbers.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (numbers[middle] <= wanted) low = middle;
      else high = middle;
    }
    return low;
  }

  /** A series at a moment, on a straight line between its times; `columns` series may lie in one array, row by row. */
  function at(time, values, wanted, columns = 1, column = 0) {
    const low = before(time, wanted);
    const high = Math.min(low + 1, time.length - 1);
    const [from, to] = [values[low * columns + column], values[high * columns + column]];
    const share = high > low ? Math.min(Math.max((wanted - time[low]) / (time[high] - time[low]), 0), 1) : 0;
    return from + share * (to - from);
  }

  return { block, unpack, unpackAll, gapped, extremes, before, at };
})();
