"""What every page owes to people who do not see it as its makers do."""

import pytest

from tests.browsing import Tab

NAMES = """
const faults = [], ids = new Set();
for (const one of document.querySelectorAll("[id]")) {
  if (ids.has(one.id)) faults.push(`id ${one.id} twice`);
  ids.add(one.id);
}
const named = (one) => one.getAttribute("aria-label") || one.labels?.length || one.textContent.trim()
  || document.getElementById(one.getAttribute("aria-labelledby"));
for (const one of document.querySelectorAll("button, input, select, a, [tabindex='0'], [role=group]"))
  if (!named(one)) faults.push(`${one.tagName} #${one.id} .${one.className} has no name`);
for (const one of document.querySelectorAll("[aria-describedby], [aria-labelledby], [aria-activedescendant]"))
  for (const name of ["aria-describedby", "aria-labelledby", "aria-activedescendant"])
    for (const id of (one.getAttribute(name) || "").split(" ").filter(Boolean))
      if (!document.getElementById(id)) faults.push(`${name} ${id} is nowhere`);
for (const one of document.querySelectorAll("canvas"))
  if (!one.closest("[aria-hidden=true], .uplot") && !one.getAttribute("aria-label")) faults.push("a canvas");
let level = 0;
for (const one of document.querySelectorAll("h1, h2, h3, h4")) {
  const now = Number(one.tagName[1]);
  if (now > level + 1) faults.push(`h${now} behind h${level}`);
  level = now;
}
for (const one of document.querySelectorAll("th")) if (!one.scope) faults.push(`no scope: ${one.textContent}`);
if (!document.documentElement.lang) faults.push("no language");
return faults;
"""
CONTRAST = """
const channels = (colour) => {
  const context = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d");
  context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data];
};
const linear = (c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = (rgb) => rgb.slice(0, 3).map((c) => linear(c / 255))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (one) => {
  for (; one; one = one.parentElement) {
    const colour = channels(getComputedStyle(one).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return [255, 255, 255, 255];
};
const pale = new Set();
for (const one of document.querySelectorAll("main *, header *, nav *, footer *")) {
  if (![...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
  // What stands in a coloured shape is not on the page's own ground.
  if (one.closest("option, .cell, title, .plane-mark") || !one.checkVisibility()) continue;
  const style = getComputedStyle(one);
  const [a, b] = [light(channels(one instanceof SVGElement ? style.fill : style.color)), light(behind(one))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) pale.add(`${one.tagName}.${one.className} ${contrast}: ${one.textContent.slice(0, 30)}`);
}
return [...pale];
"""


def unnamed(tab: Tab) -> list[str]:
    """Return faults: each control has a name, ids are unique, headings follow one another, images are described."""
    found: list[str] = tab.script(NAMES)
    return found


def pale(tab: Tab) -> list[str]:
    """Return the visible texts whose contrast is below 4.5, as the page is now."""
    found: list[str] = tab.script(CONTRAST)
    return found


def edges(tab: Tab, selector: str) -> list[tuple[float, float]]:
    """Return where each element that is seen begins and ends from left to right, in pixels."""
    found = tab.script(
        "return [...document.querySelectorAll(arguments[0])].map(one => one.getBoundingClientRect())"
        ".filter(box => box.width).map(box => [box.left, box.right])",
        selector,
    )
    return [(float(left), float(right)) for left, right in found]


def lies_over_each_other(tab: Tab) -> None:
    """Check that a moment lies at the same place in all charts and strips over time."""
    charts, strips = (
        edges(tab, "#chart-valence .u-over, #chart-arousal .u-over, #chart-sound .u-over"),
        edges(tab, ".strip canvas"),
    )
    assert len(charts) > 1
    assert strips
    for box in (*charts, *strips):
        assert box == pytest.approx(charts[0], abs=1)
