/* The camera and the microphone, sent as pictures and sound; what the server says of the last seconds, as it says it.

Two pictures are under way at most, one that is worked on and one that waits: whoever is slower than the camera skips
pictures and stays in the present. */
"use strict";

const Live = (() => {
  const { rate, window: span, phrases, centres, faces, pictures } = Data.block("serve").run;
  const PICTURE = 1;
  const SOUND = 2;
  const MOST_UNDER_WAY = 2;
  const WIDEST = 640;
  const QUALITY = 0.85;
  /** Seconds that the traces show, and how many of a second. */
  const SHOWN = 30;
  const FINE = 10;
  /** Seconds for which a point stands when no other follows. */
  const STANDS = 1.5;
  const TAIL = 3;
  /** Seconds between what a screen reader is told. */
  const SAID_EVERY = 5;
  const PERSON = { name: faces ? "the face" : pictures ? "the whole picture" : "the sound", mark: "", colour: "--predicted" };

  const at = (id) => document.getElementById(id);
  const [view, stage, video, start, stop, microphone, told, figures, meter] = [
    "live-view", "live-stage", "live-video", "live-start", "live-stop", "live-sound", "live-told", "live-figures", "live-level",
  ].map(at);
  let session = null;
  let parts = null;

  function show(text) {
    told.textContent = text;
  }

  /** What the browser says of a camera that it does not give. */
  function why(error) {
    if (!navigator.mediaDevices) return "browsers give the camera to pages of this machine or by https only: go through ssh -L";
    if (error.name === "NotAllowedError") return "the browser was told not to give it to this page";
    if (error.name === "NotFoundError") return "there is none here";
    return error.name === "NotReadableError" ? "another program uses it" : error.message || error.name;
  }

  async function devices() {
    const picture = { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" };
    // As it is heard: what browsers do for telephony would change how loud speech is.
    const sound = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    if (microphone.checked) {
      try {
        return [await navigator.mediaDevices.getUserMedia({ video: picture, audio: sound }), ""];
      } catch (error) {
        const stream = await navigator.mediaDevices.getUserMedia({ video: picture });
        return [stream, `without sound: the microphone cannot be used (${why(error)}); `];
      }
    }
    return [await navigator.mediaDevices.getUserMedia({ video: picture }), ""];
  }

  /** Everything of one view, from its start to its end, which may come while it starts, and another view after it. */
  class Session {
    constructor() {
      Object.assign(this, { stream: null, note: "", closed: false, underWay: 0, encoding: false, skipped: 0, zero: null, shift: null });
      Object.assign(this, { points: [], said: -Infinity, arrived: [], canvas: document.createElement("canvas") });
    }

    async begin() {
      [this.stream, this.note] = await devices();
      if (this.closed) return this.close();
      view.hidden = false;
      prepare();
      show("loading");
      video.srcObject = this.stream;
      await video.play();
      this.fit();
      const sound = this.stream.getAudioTracks().length ? await this.listen() : null;
      const address = new URL("live", location.href);
      address.protocol = address.protocol.replace("http", "ws");
      this.socket = new WebSocket(address);
      this.socket.binaryType = "arraybuffer";
      this.socket.addEventListener("open", () => this.socket.send(JSON.stringify({ sound })));
      this.socket.addEventListener("message", (event) => this.hear(JSON.parse(event.data)));
      this.socket.addEventListener("close", () => this.end(this.fault || "the server ended it"));
      // A camera that is pulled out, or taken away in the browser's own bar.
      for (const track of this.stream.getTracks()) track.addEventListener("ended", () => this.end("the camera or microphone is gone"));
    }

    /** Take pictures in the shape that the camera has now: a phone's is another one once it is turned. */
    fit() {
      const [width, height] = [video.videoWidth, video.videoHeight];
      if (this.width === width && this.height === height) return;
      Object.assign(this, { width, height });
      const shrink = Math.min(1, WIDEST / Math.max(width, height));
      this.canvas.width = Math.round(width * shrink);
      this.canvas.height = Math.round(height * shrink);
      stage.style.setProperty("--shape", width / height);
    }

    /** End with a reason, unless another view has begun. */
    end(reason) {
      if (session === this) end(reason);
    }

    /** Have sound handed out; returns its rate. */
    async listen() {
      this.context = new AudioContext();
      await this.context.audioWorklet.addModule("recorder.js");
      const recorder = new AudioWorkletNode(this.context, "recorder", { numberOfOutputs: 0 });
      this.context.createMediaStreamSource(this.stream).connect(recorder);
      recorder.port.addEventListener("message", ({ data }) => this.sendSound(data.first, data.piece));
      recorder.port.start();
      await this.context.resume();
      return Math.round(this.context.sampleRate);
    }

    now() {
      return performance.now() / 1000 - this.zero;
    }

    hear(message) {
      if ("fault" in message) this.fault = message.fault;
      else if ("opened" in message) {
        this.zero = performance.now() / 1000;
        this.timer = setInterval(() => this.sendPicture(), 1000 / rate);
        show(`${this.note}watching`);
      }
      if ("took" in message) this.underWay--;
      if ("point" in message) this.draw(message.point);
    }

    sendPicture() {
      if (this.encoding || this.underWay >= MOST_UNDER_WAY) {
        this.skipped++;
        return;
      }
      this.underWay++;
      this.encoding = true;  // one at a time: a busy browser is not always done with them in their order
      const taken = this.now();
      this.fit();
      this.canvas.getContext("2d").drawImage(video, 0, 0, this.canvas.width, this.canvas.height);
      this.canvas.toBlob((blob) => this.sendEncoded(taken, blob), "image/jpeg", QUALITY);
    }

    async sendEncoded(taken, blob) {
      try {
        if (blob) this.send(PICTURE, taken, await blob.arrayBuffer());
        else this.underWay--;
      } finally {
        this.encoding = false;
      }
    }

    /** Sound has a clock of its own: the piece that was under way the shortest tells how the two lie to each other. */
    sendSound(first, piece) {
      if (this.zero === null) return;
      const seconds = first / this.context.sampleRate;
      const seen = this.now() - (seconds + piece.length / this.context.sampleRate);
      this.shift = this.shift === null || Math.abs(seen - this.shift) > 1 ? seen : Math.min(this.shift + 1e-5, seen);
      if (seconds + this.shift >= 0) this.send(SOUND, seconds + this.shift, piece.buffer);
    }

    send(kind, time, content) {
      if (this.socket.readyState !== WebSocket.OPEN) return;
      const message = new Uint8Array(9 + content.byteLength);
      const head = new DataView(message.buffer);
      head.setUint8(0, kind);
      head.setFloat64(1, time, true);
      message.set(new Uint8Array(content), 9);
      this.socket.send(message);
    }

    draw(point) {
      const late = this.now() - point.time;
      this.points.push(point);
      while (this.points[0].time < point.time - SHOWN - STANDS) this.points.shift();
      this.arrived.push(this.now());
      while (this.arrived[0] < this.now() - 5) this.arrived.shift();
      const seen = this.points.filter(({ time, there }) => there && time >= point.time - TAIL);
      if (seen.length) parts.plane.show(0, seen.map(({ valence, arousal }) => [valence, arousal]), point.there);
      else parts.plane.hide(0);
      if (point.there) parts.bars.show(0, point.regions);
      // As in a mirror, which is how people know themselves.
      parts.boxes.show(0, point.face && corners(point.face, video.videoWidth / video.videoHeight).map(([x, y]) => [1 - x, y]));
      meter.value = point.level;
      trace(this.points, point.time);
      this.tell(point, late);
    }

    tell(point, late) {
      const number = (value) => Charts.fixed(value, 2);
      const what = point.there ? `valence ${number(point.valence)}, arousal ${number(point.arousal)}` : "no face is seen";
      const dropped = this.skipped + point.dropped;
      const passed = Math.max(this.arrived[this.arrived.length - 1] - this.arrived[0], 1e-3);
      const speed = this.arrived.length > 1 ? ((this.arrived.length - 1) / passed).toFixed(1) : "…";
      const gate = point.there && point.gate !== null ? `; sound let in ${Math.round(100 * point.gate)} %` : "";
      const filling = point.there && point.filled < span - 0.05 ? `; the window fills: ${Math.floor(point.filled)} of ${span} s` : "";
      figures.textContent = `${what}${gate}${filling}; ${speed} points a second, ${late.toFixed(1)} s behind the camera, ${dropped} pictures left out`;
      figures.dataset.points = Number(figures.dataset.points || 0) + 1;
      if (this.now() - this.said > SAID_EVERY) {
        this.said = this.now();
        at("live-said").textContent = what;
      }
    }

    close() {
      this.closed = true;
      clearInterval(this.timer);
      for (const track of this.stream ? this.stream.getTracks() : []) track.stop();
      if (this.context) this.context.close();
      if (this.socket) this.socket.close();
      if (video.srcObject === this.stream) video.srcObject = null;
    }
  }

  /** The corners of a face's crop, as shares of the picture: centre, side in widths, angle. */
  function corners([x, y, side, angle], shape) {
    const [cosine, sine] = [(Math.cos(angle) * side) / 2, (Math.sin(angle) * side) / 2];
    return [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([u, v]) => [x + u * cosine - v * sine, y + (u * sine + v * cosine) * shape]);
  }

  const time = Float64Array.from({ length: SHOWN * FINE + 1 }, (_, index) => index / FINE - SHOWN);
  const traces = { valence: new Float64Array(time.length).fill(NaN), arousal: new Float64Array(time.length).fill(NaN) };

  /** Fill the traces, which end now, with the points: each stands until the next. */
  function trace(points, now) {
    let next = 0;
    for (let index = 0; index < time.length; index++) {
      while (next < points.length && points[next].time <= now + time[index] + 1e-6) next++;
      const point = points[next - 1];
      const stands = point && point.there && now + time[index] - point.time < STANDS;
      for (const name of ["valence", "arousal"]) traces[name][index] = stands ? point[name] : NaN;
    }
    parts.chart.plot.setData([time, ...["valence", "arousal"].map((name) => Data.gapped(traces[name]))], false);
    parts.chart.plot.redraw();
  }

  /** What is drawn into, made when it is first needed. */
  function prepare() {
    parts = parts || {
      plane: Moving.plane(at("plane"), { people: [PERSON], centres, phrases }),
      bars: Moving.bars(at("live-regions"), { people: [PERSON], phrases }),
      boxes: Moving.boxes(at("live-boxes"), { people: [PERSON] }),
      chart: Charts.timeline(at("live-trace"), {
        label: "Valence and arousal of the last seconds",
        time,
        range: [-1, 1],
        ticks: [-1, -0.5, 0, 0.5, 1],
        series: [
          { label: "valence", values: traces.valence, colour: "--predicted", width: 2 },
          { label: "arousal", values: traces.arousal, colour: "--error", width: 2, dash: [6, 3] },
        ],
      }),
    };
    parts.plane.hide(0);
    parts.boxes.show(0, null);
  }

  async function begin() {
    start.hidden = true;
    stop.hidden = false;
    microphone.disabled = true;
    stop.focus();
    show("asking for the camera");
    const begun = new Session();
    session = begun;
    try {
      await begun.begin();
    } catch (error) {
      begun.end(`the camera cannot be used: ${why(error)}`);
    }
  }

  /** End it, with a reason unless it was asked for. */
  function end(reason) {
    const ended = session;
    session = null;
    if (ended) ended.close();
    if (stop.hidden) return;
    const focused = document.activeElement === stop;
    stop.hidden = true;
    start.hidden = false;
    microphone.disabled = false;
    if (focused) start.focus();
    show(reason);
    if (parts) parts.boxes.show(0, null);
  }

  start.addEventListener("click", begin);
  stop.addEventListener("click", () => end("stopped"));
  addEventListener("pagehide", () => end(""));

  return { corners };
})();
