/* Videos on the server's page: chosen or dropped, sent one after the other, followed by stages, opened. */
"use strict";

const Serve = (() => {
  const { bytes, suffixes } = Data.block("serve");
  const list = document.getElementById("jobs");
  const drop = document.getElementById("drop");
  const files = document.getElementById("files");
  const said = document.getElementById("said");
  const lost = document.getElementById("lost");
  const gone = lost.textContent;
  /** Milliseconds until a server that refused is asked again. */
  const AGAIN = 5000;
  const rows = new Map();
  const sending = [];
  let told = [];
  let busy = false;

  /** A number of bytes, such as 3.4 MB. */
  function size(count) {
    return count < 1e6 ? `${Math.ceil(count / 1e3)} kB` : `${(count / 1e6).toFixed(count < 1e8 ? 1 : 0)} MB`;
  }

  /** A length of time as an estimate is told. */
  function left(seconds) {
    if (seconds < 90) return `${Math.ceil(seconds)} s`;
    return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
  }

  function button(text, act, label) {
    const made = Charts.element("button", "button", text);
    made.type = "button";
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  }

  function link(text, address, className, label) {
    const made = Charts.element("a", `button ${className}`, text);
    made.href = address;
    made.setAttribute("aria-label", label);
    return made;
  }

  /** A row of the list, made once and then changed, so that what has the focus keeps it. */
  function row(id, name) {
    const item = Charts.element("li", "job");
    const bar = document.createElement("progress");
    const made = {
      item,
      bar,
      told: Charts.element("span", "told"),
      acts: Charts.element("span", "acts"),
      notes: Charts.element("div", "notes"),
      shown: "",
      stage: "",
      since: 0,
    };
    bar.max = 1;
    bar.setAttribute("aria-label", `Progress of ${name}`);
    item.append(Charts.element("span", "name", name), made.told, bar, made.acts, made.notes);
    rows.set(id, made);
    return made;
  }

  /** Show what is done of a stage; `share` is null where that is not known. */
  function progress(made, text, share) {
    made.told.textContent = text;
    made.bar.hidden = share === undefined;
    if (share === null) made.bar.removeAttribute("value");
    else if (share !== undefined) made.bar.value = share;
  }

  function acts(made, state, ...buttons) {
    if (made.shown === state) return;
    const had = made.acts.contains(document.activeElement);
    made.shown = made.item.dataset.state = state;
    made.acts.replaceChildren(...buttons);
    if (had && buttons.length) buttons[0].focus();
  }

  /** What a stage says, and how long it will yet take at the speed so far. */
  function stageText(made, { name, done, total, unit }) {
    const now = performance.now() / 1000;
    if (made.stage !== name) Object.assign(made, { stage: name, since: now, from: done });
    if (!total || total <= 0) return [`${name}${done ? `, ${Math.round(done)} ${unit}` : ""}`, null];
    const share = Math.min(done / total, 1);
    const passed = now - made.since;
    const rest = done > made.from && passed > 1 ? ((total - done) * passed) / (done - made.from) : 0;
    const shown = unit === "s" ? `${Charts.clock(done)} of ${Charts.clock(total)}` : `${Math.round(done)} of ${Math.round(total)} ${unit}`;
    return [`${name}: ${shown}${rest >= 1 ? `, about ${left(rest)} left` : ""}`, share];
  }

  function show(job) {
    const made = rows.get(job.id) || row(job.id, job.name);
    const address = (file) => `jobs/${job.id}/${encodeURIComponent(file)}`;
    const away = (text) => button(text, () => remove(job.id), `${text} ${job.name}`);
    const before = made.item.dataset.state;
    if (job.state === "waiting") {
      progress(made, job.place > 1 ? `waiting, ${job.place - 1} before it` : "waiting, next", null);
      acts(made, "waiting", away("Cancel"));
    } else if (job.state === "working") {
      progress(made, ...stageText(made, job.stage));
      acts(made, "working", away("Cancel"));
    } else if (job.state === "done") {
      const facts = job.facts;
      const people = facts.people > 1 ? `${facts.people} people, ` : "";
      progress(made, `${people}${Charts.counted(facts.frames, "frame")}, ${Charts.clock(facts.seconds)}; ${facts.interpolation}`);
      const page = job.files.filter((file) => file.endsWith(".html"));
      const tables = job.files.filter((file) => file.endsWith(".csv"));
      acts(
        made,
        "done",
        ...page.map((file) => link("Open", address(file), "open", `Open the page of ${job.name}`)),
        ...tables.map((file, number) =>
          link(tables.length > 1 ? `CSV ${number + 1}` : "CSV", address(file), "", `CSV of ${job.name}`),
        ),
        away("Remove"),
      );
      if (!made.notes.childElementCount) {
        made.notes.append(...facts.notes.map((note) => Charts.element("p", "note", note)));
      }
    } else {
      progress(made, job.state === "failed" ? job.error : "cancelled");
      acts(made, job.state, away("Remove"));
    }
    if (before && before !== job.state) said.textContent = `${job.name}: ${job.state}`;
    return made;
  }

  /** Bring the list in line with what the server says; what is being sent stands behind. */
  function update(jobs) {
    told = jobs;
    const known = new Set([...jobs.map((job) => job.id), ...sending.map((one) => one.id)]);
    for (const [id, made] of rows) {
      if (!known.has(id)) {
        made.item.remove();
        rows.delete(id);
      }
    }
    const order = [...jobs.map((job) => show(job).item), ...sending.map((one) => rows.get(one.id).item)];
    order.forEach((item, index) => {
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] || null);
    });
  }

  async function remove(id) {
    try {
      await fetch(`jobs/${id}`, { method: "DELETE" });
    } catch {
      lost.hidden = false;
    }
  }

  let made = 0;

  /** Put files into the queue of those that are sent, one after the other. */
  function add(chosen) {
    for (const file of chosen) {
      const one = { id: `sending-${++made}`, file, request: null };
      const shown = row(one.id, file.name);
      sending.push(one);
      progress(shown, "waits to be sent", null);
      acts(shown, "sending", button("Cancel", () => giveUp(one), `Cancel ${file.name}`));
      const fault = file.size > bytes ? `has ${size(file.size)}; ${size(bytes)} are allowed` : file.size ? "" : "is empty";
      if (fault) refuse(one, fault);
    }
    update(told);
    next();
  }

  function refuse(one, fault) {
    one.refused = true;
    const shown = rows.get(one.id);
    progress(shown, `not taken: ${fault}`);
    acts(shown, "failed", button("Remove", () => giveUp(one), `Remove ${one.file.name}`));
    said.textContent = `${one.file.name} is not taken: ${fault}`;
  }

  function giveUp(one) {
    // Before the request ends, so that nothing is said of why it did.
    if (sending.includes(one)) sending.splice(sending.indexOf(one), 1);
    if (one.request) one.request.abort();
    update(told);
  }

  function next() {
    const one = busy ? undefined : sending.find((waiting) => !waiting.refused);
    if (one === undefined) return;
    busy = true;
    const shown = rows.get(one.id);
    // fetch does not tell how much has been sent.
    const request = (one.request = new XMLHttpRequest());
    request.open("POST", `jobs?name=${encodeURIComponent(one.file.name)}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) =>
      progress(shown, `sending: ${size(event.loaded)} of ${size(one.file.size)}`, event.loaded / one.file.size),
    );
    request.addEventListener("loadend", () => {
      busy = false;
      if (request.status === 201) {
        giveUp(Object.assign(one, { request: null }));
      } else if (sending.includes(one)) {
        refuse(one, request.response?.error || "the server broke off; it may be gone, or the file is no video");
      }
      next();
    });
    request.send(one.file);
  }

  files.addEventListener("change", () => {
    add([...files.files]);
    files.value = "";
  });
  // Anywhere on the page: a file that misses the field would be opened in its place.
  let depth = 0;
  const holdsFiles = (event) => [...event.dataTransfer.types].includes("Files");
  addEventListener("dragenter", (event) => holdsFiles(event) && drop.classList.toggle("over", ++depth > 0));
  addEventListener("dragleave", (event) => holdsFiles(event) && drop.classList.toggle("over", --depth > 0));
  addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    depth = 0;
    drop.classList.remove("over");
    add([...event.dataTransfer.files]);
  });

  let stream = null;
  let again = 0;

  /** Follow what the server tells while the page is seen: browsers have six connections to it, for all their pages.
  They ask again where the server is gone, but not where it refuses. */
  function follow() {
    clearTimeout(again);
    if (stream) stream.close();
    if (document.hidden) return;
    const events = (stream = new EventSource("events"));
    events.addEventListener("message", (event) => {
      lost.hidden = true;
      update(JSON.parse(event.data).jobs);
    });
    events.addEventListener("error", async () => {
      const refused = events.readyState === EventSource.CLOSED;
      if (refused) again = setTimeout(follow, AGAIN);
      const why = (refused && (await refusal())) || gone;
      if (stream !== events) return;
      lost.textContent = why;
      lost.hidden = false;
    });
  }

  /** Why this page may ask for nothing any more, as after the server was started anew with a token; "" where it may. */
  async function refusal() {
    try {
      const answer = await fetch("state");
      return answer.ok ? "" : await answer.text();
    } catch {
      return "";
    }
  }

  document.addEventListener("visibilitychange", follow);
  follow();

  return { add, suffixes };
})();
