/* What moves with a video: a point with a tail on the plane, bars of regions, boxes around faces.

Everything is made once and then only told where it is, so that a frame costs next to nothing; colours are the style
sheet's. People are {name, mark, colour}, mark being the short text that tells them apart. */
"use strict";

const Moving = (() => {
  const { element } = Charts;
  const SVG = "http://www.w3.org/2000/svg";

  function drawn(tag, attributes, className) {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (className) made.setAttribute("class", className);
    return made;
  }

  function written(text, x, y, className) {
    const made = drawn("text", { x, y }, className);
    made.textContent = text;
    return made;
  }

  /** The valence-arousal plane. options: people, centres [[valence, arousal]], phrases.
  `show(person, points, there)` puts a person's point where the last of `points` is and draws its tail along the
  others; hollow where the face is not there. `hide(person)` takes both away. */
  function plane(host, { people, centres, phrases }) {
    const picture = drawn("svg", { viewBox: "-1.3 -1.12 2.44 2.44", role: "img", "aria-label": "valence-arousal plane" });
    picture.append(drawn("rect", { x: -1, y: -1, width: 2, height: 2 }, "plane-field"));
    for (const at of [-0.5, 0, 0.5]) {
      const className = at === 0 ? "plane-axis" : "plane-grid";
      picture.append(drawn("line", { x1: at, x2: at, y1: -1, y2: 1 }, className));
      picture.append(drawn("line", { x1: -1, x2: 1, y1: at, y2: at }, className));
    }
    centres.forEach(([valence, arousal], region) => {
      const cross = drawn("g", { transform: `translate(${valence} ${-arousal})` }, "plane-region");
      const name = drawn("title", {});
      name.textContent = `${region + 1}: ${phrases[region]}`;
      cross.append(name, written(String(region + 1), 0, 0.035, "plane-number"));
      picture.append(cross);
    });
    for (const at of [-1, 0, 1]) {
      const text = String(at).replace("-", "−");
      picture.append(written(text, at, 1.13, "plane-tick"), written(text, -1.09, 0.03 - at, "plane-tick"));
    }
    picture.append(written("valence", 0, 1.27, "plane-name"));
    const arousal = written("arousal", 0, 0, "plane-name");
    arousal.setAttribute("transform", "translate(-1.19 0) rotate(-90)");
    picture.append(arousal);
    const points = people.map(({ mark, colour }) => {
      const group = drawn("g", {}, "plane-person");
      group.style.setProperty("--own", `var(${colour})`);
      // Three tails of different length over one another: the nearer, the denser.
      const tails = [1, 2 / 3, 1 / 3].map(() => drawn("polyline", {}, "plane-tail"));
      const dot = drawn("circle", { r: 0.055 }, "plane-dot");
      const name = written(mark, 0, 0, "plane-mark");
      group.append(...tails, dot, name);
      picture.append(group);
      return { group, tails, dot, name };
    });
    host.replaceChildren(picture);
    return {
      show(person, path, there) {
        const { group, tails, dot, name } = points[person];
        const [valence, arousal] = path[path.length - 1];
        group.removeAttribute("display");
        group.classList.toggle("gone", !there);
        dot.setAttribute("cx", valence);
        dot.setAttribute("cy", -arousal);
        name.setAttribute("x", valence);
        name.setAttribute("y", -arousal + 0.035);
        tails.forEach((tail, index) => {
          const from = Math.floor((path.length * index) / tails.length);
          tail.setAttribute("points", path.slice(from).map(([v, a]) => `${v.toFixed(4)},${(-a).toFixed(4)}`).join(" "));
        });
      },
      hide: (person) => points[person].group.setAttribute("display", "none"),
    };
  }

  /** Bars of regions, a column for each person. `show(person, shares)` sets them, `hide(person)` takes them away. */
  function bars(host, { people, phrases }) {
    const table = element("table", "region-bars");
    const head = element("tr");
    head.append(element("th", "", "region"), ...people.map(({ name }) => element("th", "", name)));
    head.querySelectorAll("th").forEach((cell) => (cell.scope = "col"));
    const body = element("tbody");
    const cells = people.map(() => []);
    phrases.forEach((phrase, region) => {
      const row = element("tr");
      const title = element("th", "region-name");
      title.scope = "row";
      title.append(element("span", "badge", String(region + 1)), element("span", "region-phrase", phrase));
      row.append(title);
      people.forEach(({ colour }, person) => {
        const cell = element("td");
        const track = element("div", "track");
        const fill = element("div", "fill");
        const number = element("span", "number");
        track.style.setProperty("--own", `var(${colour})`);
        track.append(fill, number);
        cell.append(track);
        row.append(cell);
        cells[person].push({ cell, fill, number });
      });
      body.append(row);
    });
    const header = element("thead");
    header.append(head);
    header.hidden = people.length < 2;
    table.append(header, body);
    host.replaceChildren(table);
    const shown = (person, yes) => {
      head.children[person + 1].hidden = !yes;
      for (const { cell } of cells[person]) cell.hidden = !yes;
    };
    return {
      show(person, shares) {
        shown(person, true);
        const most = shares.indexOf(Math.max(...shares));
        cells[person].forEach(({ cell, fill, number }, region) => {
          fill.style.setProperty("--share", shares[region].toFixed(4));
          number.textContent = `${Math.round(100 * shares[region])} %`;
          cell.classList.toggle("most", region === most);
        });
      },
      hide: (person) => shown(person, false),
    };
  }

  /** Boxes over a picture. `show(person, corners)` takes four corners as shares of its width and height; null: none. */
  function boxes(host, { people }) {
    const picture = drawn("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none" });
    const marks = people.map(({ mark, name, colour }) => {
      const box = drawn("polygon", {}, "face-box");
      const shadow = drawn("polygon", {}, "face-shadow");
      const label = element("span", "face-mark", mark || name);
      for (const made of [box, label]) made.style.setProperty("--own", `var(${colour})`);
      picture.append(shadow, box);
      return { box, shadow, label };
    });
    host.setAttribute("aria-hidden", "true");
    host.replaceChildren(picture, ...marks.map(({ label }) => label));
    return {
      show(person, corners) {
        const { box, shadow, label } = marks[person];
        for (const made of [box, shadow]) made.toggleAttribute("hidden", corners === null);
        label.hidden = corners === null;
        if (corners === null) return;
        const points = corners.map(([x, y]) => `${x.toFixed(5)},${y.toFixed(5)}`).join(" ");
        box.setAttribute("points", points);
        shadow.setAttribute("points", points);
        const left = Math.min(...corners.map(([x]) => x));
        const top = Math.min(...corners.map(([, y]) => y));
        label.style.left = `${Math.max(0, 100 * left)}%`;
        // It stands on the box; on one that leaves the picture, inside it.
        label.style.top = `max(${100 * top}%, 1.1rem)`;
      },
    };
  }

  return { plane, bars, boxes };
})();
