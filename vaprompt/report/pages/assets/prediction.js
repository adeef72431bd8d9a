/* The page of a prediction: everything follows the video's moment, and everything leads to one. */
"use strict";

(async () => {
  const $ = (id) => document.getElementById(id);
  const { element, clock } = Charts;
  const data = Data.block("prediction");
  /** Seconds that an arrow key moves by. */
  const LEAP = 5;
  /** The tail behind a point: seconds, and points in it. */
  const TAIL = 3;
  const TAIL_POINTS = 36;
  /** People shown at first; more would hide one another. */
  const MOST_SHOWN = 6;
  const COLOURS = 6;
  const DASHES = [undefined, [8, 4], [3, 3], [12, 3, 3, 3], [1, 3], [6, 2]];

  const video = $("video");
  const last = data.seconds;
  const time = await Data.unpack(data.time);
  const people = await Promise.all(data.people.map(unpacked));
  const level = data.sound ? await Data.unpack(data.sound.level) : null;
  const view = Charts.group(0, Math.max(last, 0.1));

  async function unpacked(person, index) {
    const several = data.people.length > 1;
    return {
      ...person,
      mark: several ? String(index + 1) : "",
      colour: `--run-${(index % COLOURS) + 1}`,
      shown: index < MOST_SHOWN,
      values: await Data.unpackAll(person.values),
      windows: await Data.unpackAll(person.windows),
      track: person.track ? await Data.unpackAll(person.track) : null,
    };
  }

  const there = (person, at) => !person.gone.some(([from, to]) => at >= from - 1e-3 && (at < to - 1e-3 || to >= last));
  const valued = (person, at) => ["valence", "arousal"].map((name) => Data.at(time, person.values[name], at));
  const signed = (number) => Charts.fixed(number, 2);

  function regions(person, at) {
    const { end, regions: shares } = person.windows;
    return data.phrases.map((_, region) => Data.at(end, shares, at, data.phrases.length, region));
  }

  /** The four corners of a face's crop, as shares of the picture's width and height. */
  function corners({ track }, at) {
    const [x, y, size, angle] = ["x", "y", "size", "angle"].map((part) => Data.at(track.time, track[part], at));
    const half = Math.exp(size) / 2;
    const [cosine, sine] = [half * Math.cos(angle), half * Math.sin(angle)];
    const tall = 1 / data.video.picture.shape;
    return [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([right, down]) => [
      x + cosine * right - sine * down,
      (y + sine * right + cosine * down) / tall,
    ]);
  }

  function tail(person, at) {
    const from = Math.max(0, at - TAIL);
    return Array.from({ length: TAIL_POINTS }, (_, index) =>
      valued(person, from + ((at - from) * index) / (TAIL_POINTS - 1)),
    );
  }

  // The video or the sound, and what stands in its place where there is none.
  function load() {
    // Whoever has no script has the browser's own buttons.
    video.controls = false;
    const content = $("video-content");
    if (content !== null) {
      const bytes = Uint8Array.from(atob(content.textContent), (character) => character.charCodeAt(0));
      content.remove();
      video.src = URL.createObjectURL(new Blob([bytes], { type: data.video.kind }));
    }
    return Player.create(video, { last, start: data.video.start, snap, lost });
  }

  /** The time of the frame on the screen at a moment. */
  function snap(seconds) {
    return data.whole ? time[Data.before(time, seconds + 1.2e-3)] : seconds;
  }

  function lost() {
    const where = data.video.address ? ", or the file is no longer where it was when this page was made" : "";
    $("mute").hidden = $("full").hidden = $("film-keys").hidden = true;
    const { picture } = data.video;
    $("lost").textContent = picture
      ? `This browser cannot play this video: it may not know the codec ${picture.codec}${where}. ` +
        "The traces are all here, and play as if it did. “vaprompt predict … --overlay NEW.mp4” writes a video that plays everywhere."
      : `This browser cannot play this sound: it may not know its codec${where}. The traces are all here, and play as if it did.`;
    $("lost").hidden = false;
    video.classList.add("unseen");
  }

  /** Lay the boxes over the picture, wherever it is in its frame. */
  function fit() {
    if (!data.video.picture) return;
    const { clientWidth, clientHeight } = $("stage");
    const shape = video.videoWidth > 0 ? video.videoWidth / video.videoHeight : data.video.picture.shape;
    const width = Math.min(clientWidth, clientHeight * shape);
    Object.assign($("boxes").style, {
      width: `${width}px`,
      height: `${width / shape}px`,
      left: `${(clientWidth - width) / 2}px`,
      top: `${(clientHeight - width / shape) / 2}px`,
    });
  }

  // Charts on one axis of time.
  const pick = (seconds) => player.seek(seconds);
  const common = { view, pick, zoomOnly: true };
  const charts = [];
  const traces = [];

  function chart() {
    const alone = people.length === 1;
    const spans = alone ? [{ label: "no face", ranges: people[0].gone, colour: "--faceless", striped: true }] : [];
    const series = (values) =>
      people.map((person, index) => ({
        label: alone ? "predicted" : person.name,
        values: values(person),
        colour: person.colour,
        width: 2,
        dash: DASHES[Math.floor(index / COLOURS) % DASHES.length],
        shown: person.shown,
      }));
    for (const dimension of ["valence", "arousal"]) {
      traces.push(
        Charts.timeline($(`chart-${dimension}`), {
          ...common,
          label: dimension,
          time,
          spans,
          height: 150,
          range: [-1.05, 1.05],
          ticks: [-1, -0.5, 0, 0.5, 1],
          // Where somebody is not there, several traces would only stand in one another's way.
          series: series((person) => (alone ? person.values[dimension] : present(person, person.values[dimension]))),
        }),
      );
    }
    const [{ windows }] = people;
    const gated = alone && Boolean(windows.gate);
    $("chart-gate").hidden = !gated;
    if (gated) {
      charts.push(
        Charts.timeline($("chart-gate"), {
          ...common,
          label: "gate: how much sound was let in",
          time: windows.end,
          height: 80,
          range: [0, 1],
          ticks: [0, 0.5, 1],
          series: [{ label: "gate", values: windows.gate, colour: "--gate", width: 2 }],
        }),
      );
    }
    const heard = level !== null && !data.sound.silent;
    $("chart-sound").hidden = !heard;
    if (heard) charts.push(Sound.timeline($("chart-sound"), data.sound, level, common));
    people.forEach((person) => {
      const host = $("chart-regions").appendChild(element("div"));
      person.strip = host;
      host.hidden = !person.shown;
      const { end, regions: values } = person.windows;
      const label = alone ? "regions" : `regions: ${person.name}`;
      charts.push(Heat.timeline(host, { label, rows: data.phrases, time: end, values, view, pick }));
    });
    charts.push(...traces);
  }

  function present(person, values) {
    return values.map((value, index) => (there(person, time[index]) ? value : NaN));
  }

  // What is told of each person at the moment.
  function rows() {
    $("now-rows").replaceChildren(
      ...people.map((person) => {
        const row = element("tr");
        const name = element("th");
        name.scope = "row";
        const swatch = element("i", "swatch");
        swatch.style.setProperty("--fill", `var(${person.colour})`);
        name.append(swatch, element("span", "", ` ${person.name}`));
        const cells = ["number", "number", "number", ""].map((className) => element("td", className));
        row.append(name, ...cells);
        person.row = { row, cells };
        return row;
      }),
    );
    document.querySelector(".now").classList.toggle("ungated", !people.some(({ windows }) => windows.gate));
  }

  function choosing() {
    if (people.length < 2) return;
    $("people").hidden = false;
    people.forEach((person, index) => {
      const button = element("button", "button");
      const swatch = element("i", "swatch");
      button.type = "button";
      swatch.style.setProperty("--fill", `var(${person.colour})`);
      button.append(swatch, element("span", "", ` ${person.name}`));
      button.setAttribute("aria-pressed", String(person.shown));
      button.addEventListener("click", () => {
        person.shown = !person.shown;
        button.setAttribute("aria-pressed", String(person.shown));
        person.strip.hidden = !person.shown;
        for (const trace of traces) trace.show(index, person.shown);
        moment();
      });
      $("people").append(button);
    });
  }

  /** Put everything where it is at the player's moment. */
  function moment() {
    const at = player.now();
    $("clock").textContent = clock(at, 1);
    $("seek").value = at;
    $("seek").setAttribute("aria-valuetext", clock(at, 1));
    for (const one of charts) one.mark(at);
    const [from, to] = view.view();
    if (at < from || at > to) view.pan(at - from - (to - from) * 0.1);
    const boxed = $("box-button").getAttribute("aria-pressed") === "true";
    people.forEach((person, index) => {
      const { row, cells } = person.row;
      row.hidden = !person.shown;
      const here = there(person, at);
      boxes.show(index, person.shown && boxed && here && person.track ? corners(person, at) : null);
      if (!person.shown) {
        plane.hide(index);
        bars.hide(index);
        return;
      }
      const shares = regions(person, at);
      const [valence, arousal] = valued(person, at);
      plane.show(index, tail(person, at), here);
      bars.show(index, shares);
      row.classList.toggle("gone", !here);
      const gate = person.windows.gate ? Data.at(person.windows.end, person.windows.gate, at) : null;
      const most = shares.indexOf(Math.max(...shares));
      const told = [signed(valence), signed(arousal), gate === null ? "–" : `${Math.round(100 * gate)} %`];
      [...told, `${most + 1}, ${data.phrases[most]}`].forEach((text, cell) => (cells[cell].textContent = text));
    });
  }

  /** Read out the moment to who cannot see it; not while it moves. */
  function tell() {
    const shown = people.filter((person) => person.shown);
    const parts = shown.map((person) => {
      const [valence, arousal] = valued(person, player.now());
      return `${person.name}: valence ${signed(valence)}, arousal ${signed(arousal)}`;
    });
    $("told").textContent = `${clock(player.now(), 1)}: ${parts.join("; ")}`;
  }

  function state() {
    const playing = player.playing();
    $("play").firstElementChild.textContent = playing ? "❚❚" : "▶";
    $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    $("speed").textContent = `${player.speed()}×`;
    document.body.dataset.player = player.shown();
  }

  const press = (id) => $(id).setAttribute("aria-pressed", String($(id).getAttribute("aria-pressed") !== "true"));
  const mute = () => {
    video.muted = !video.muted;
    $("mute").setAttribute("aria-pressed", String(video.muted));
  };
  const full = () => !$("full").hidden && (document.fullscreenElement ? document.exitFullscreen() : $("stage").requestFullscreen().catch(() => {}));
  const step = (frames) => {
    player.pause();
    const index = Data.before(time, player.now() + 1e-4) + frames;
    player.seek(time[Math.min(Math.max(index, 0), time.length - 1)]);
  };
  const KEYS = {
    " ": () => player.toggle(),
    k: () => player.toggle(),
    ArrowLeft: () => player.move(-LEAP),
    ArrowRight: () => player.move(LEAP),
    ",": () => step(-1),
    ".": () => step(1),
    "[": () => player.faster(-1),
    "]": () => player.faster(1),
    Home: () => player.seek(0),
    End: () => player.seek(last),
    m: mute,
    f: full,
  };

  function keys(event) {
    // On many keyboards a bracket needs AltGr, which browsers call Ctrl and Alt, or Option.
    const held = "[]".includes(event.key) ? event.metaKey : event.ctrlKey || event.metaKey || event.altKey;
    if (event.defaultPrevented || held) return;
    const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    // A button that has the focus is pressed by the space bar.
    const own = event.target.closest("button, summary") && event.key === " ";
    if (!action || own || event.target.closest("select, textarea, input:not([type=range])")) return;
    event.preventDefault();
    action();
    if (!player.playing()) tell();
  }

  function controls() {
    const click = (id, action) => $(id).addEventListener("click", action);
    click("play", player.toggle);
    click("slower", () => player.faster(-1));
    click("faster", () => player.faster(1));
    click("mute", mute);
    click("full", full);
    click("box-button", () => (press("box-button"), moment()));
    click("zoom-in", () => view.zoom(1 / 2, player.now()));
    click("zoom-out", () => view.zoom(2, player.now()));
    click("zoom-all", () => view.reset());
    video.addEventListener("click", player.toggle);
    $("seek").addEventListener("input", () => player.seek(Number($("seek").value)));
    document.addEventListener("keydown", keys);
    // Who presses a button with the mouse still wants the space bar to play.
    document.addEventListener("click", (event) => event.detail > 0 && event.target.closest("button")?.blur());
    $("box-button").hidden = player.shown() === "none" || !people.some(({ track }) => track);
    $("gone-key").hidden = !people.some(({ gone }) => gone.length);
    new ResizeObserver(fit).observe($("stage"));
    video.addEventListener("resize", fit);
  }

  const plane = Moving.plane($("plane"), { people, centres: data.centres, phrases: data.phrases });
  const bars = Moving.bars($("region-bars"), { people, phrases: data.phrases });
  const boxes = Moving.boxes($("boxes"), { people });
  rows();
  const player = load();
  chart();
  choosing();
  controls();
  player.changed((what) => (what === "state" ? state() : moment()));
  fit();
  state();
  moment();
  document.body.dataset.ready = "true";
})();
