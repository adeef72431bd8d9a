/* Hands out the microphone's samples, mono, in pieces. Runs where browsers make sound, which is no place for the page. */
"use strict";

const PIECE = 2048;

registerProcessor(
  "recorder",
  class extends AudioWorkletProcessor {
    constructor() {
      super();
      this.piece = new Int16Array(PIECE);
      this.filled = 0;
      // The number of the piece's first sample since sound began, by the clock of whoever makes it.
      this.first = 0;
    }

    process([channels]) {
      const length = channels.length ? channels[0].length : 0;
      for (let index = 0; index < length; index++) {
        let sum = 0;
        for (const channel of channels) sum += channel[index];
        const sample = Math.max(-1, Math.min(1, sum / channels.length));
        if (this.filled === 0) this.first = currentFrame + index;
        this.piece[this.filled++] = Math.round(sample * 32767);
        if (this.filled === PIECE) {
          this.port.postMessage({ first: this.first, piece: this.piece }, [this.piece.buffer]);
          this.piece = new Int16Array(PIECE);
          this.filled = 0;
        }
      }
      return true;
    }
  },
);
