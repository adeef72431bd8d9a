"""Charts over time as a person uses them: by mouse, by keyboard, by ear, on a phone, in the dark."""

from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains

from tests.browsing import PHONE, Tab
from tests.report.pages.small import write_small
from vaprompt.report.pages.page import shown_score

BODY = """
<section class="card"><header><h2>Two charts that zoom together</h2><p>Drawn by a test.</p></header>
<div id="one"></div><div id="two"></div></section>
<section class="card"><h2>Curves</h2><div id="curves"></div></section>
<button class="button" type="button" data-theme-button hidden>Colours: <span></span></button>
"""
SCRIPT = """
  const count = 36000, time = Float64Array.from({length: count}, (_, index) => index / 30);
  const wave = (shift) => Float64Array.from(time, (t) => 0.5 * Math.sin(t / 40 + shift));
  const spike = wave(0); spike[20000] = 0.98;
  const gaps = wave(1); gaps.fill(NaN, 3000, 9000);
  window.view = Charts.group(0, time[count - 1]);
  window.picked = [];
  const shared = {time, view, range: [-1, 1], ticks: [-1, 0, 1], pick: (t) => picked.push(t)};
  window.one = Charts.timeline(document.getElementById("one"), {...shared, label: "valence", series: [
    {label: "annotated", values: gaps, colour: "--truth", width: 2.5},
    {label: "predicted", values: spike, colour: "--predicted"},
    {label: "smoothed", values: wave(0.4), colour: "--smoothed", dash: [6, 4], shown: false},
  ], spans: [{label: "invalid", ranges: [[100, 300]], colour: "--invalid"},
             {label: "no face", ranges: [[700, 760]], colour: "--faceless", striped: true}]});
  window.two = Charts.timeline(document.getElementById("two"), {...shared, label: "gate", height: 100, range: [0, 1],
    series: [{label: "gate", values: wave(0).map((x) => 0.5 + x / 2), colour: "--gate"}], ticks: [0, 0.5, 1]});
  one.mark(900); one.band(890, 900);
  window.curve = Charts.curves(document.getElementById("curves"), {label: "loss", xLabel: "epoch", mark: 3,
    x: [1, 2, 3, 4, 5], series: [{label: "train", values: [2, 1.2, 0.9, 0.8, 0.75], colour: "--predicted"},
    {label: "validation", values: [1.9, 1.3, null, 1.25, 1.4], colour: "--truth"}]});
"""


@pytest.fixture
def charts(tab: Tab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tab:
    tab.open(write_small(monkeypatch, tmp_path / "page.html", BODY, script=SCRIPT))
    tab.one("#two canvas")
    return tab


def view(tab: Tab) -> tuple[float, float]:
    return tuple(tab.script("return view.view()"))


def highest(tab: Tab, chart: str, series: int) -> float:
    """Return the greatest value at which pixels of a series' colour are seen."""
    return tab.script(
        """
        const chart = window[arguments[0]], plot = chart.plot;
        plot.series.forEach((_, index) => index && index !== arguments[1] && plot.setSeries(index, {show: false}));
        plot.redraw();
        return new Promise((done) => requestAnimationFrame(() => {
          const {left, top, width, height} = plot.bbox, canvas = plot.ctx.canvas;
          const pixels = plot.ctx.getImageData(left, top, width, height).data;
          const probe = document.createElement("canvas").getContext("2d");
          probe.fillStyle = plot.series[arguments[1]].stroke(); probe.fillRect(0, 0, 1, 1);
          const wanted = probe.getImageData(0, 0, 1, 1).data;
          for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
            const at = 4 * (y * width + x);
            if ([0, 1, 2].every((k) => Math.abs(pixels[at + k] - wanted[k]) < 60)) return done(1 - 2 * y / height);
          }
          done(null);
        }));
        """,
        chart,
        series,
    )


def test_a_single_frame_is_seen_among_thirty_to_a_pixel(charts: Tab):
    assert highest(charts, "one", 2) == pytest.approx(0.98, abs=0.03)


def test_a_frame_without_neighbours_is_a_dot(charts: Tab):
    draw = """
        const host = document.body.appendChild(document.createElement("div"));
        const [name, time, values, to] = arguments;
        window[name] = Charts.timeline(host, {label: name, time, range: [-1, 1], view: Charts.group(0, to),
          series: [{label: "annotated", values: values.map((value) => value ?? NaN), colour: "--truth"}]});
    """
    charts.script(draw, "lonely", [0, 1, 2, 3, 4], [0.1, 0.1, None, 0.8, None], 4)
    charts.script(draw, "single", [0], [0.5], 0.1)
    assert highest(charts, "lonely", 1) == pytest.approx(0.8, abs=0.06)
    assert highest(charts, "single", 1) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([-0.0004, 0.0001], ["\u22120.0004", "\u22120.0002", "0.0000"]),
        ([-1.0, 1.0], ["\u22121.0", "0.0", "0.5"]),
        ([2.0, 40.0], ["10", "20", "40"]),
    ],
)
def test_ticks_have_the_decimals_that_tell_them_apart(charts: Tab, values: list[float], ticks: list[str]):
    written = charts.script(
        """
        const written = [], write = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...at) {
          written.push(text);
          return write.call(this, text, ...at);
        };
        const host = document.body.appendChild(document.createElement("div"));
        Charts.curves(host, {label: "small", xLabel: "epoch", x: [1, 2], series: [
          {label: "mean", values: arguments[0], colour: "--truth"}]});
        return new Promise((done) => setTimeout(() => {
          CanvasRenderingContext2D.prototype.fillText = write;
          done(written);
        }, 100));
        """,
        values,
    )
    assert set(ticks) <= set(written)
    assert len(written) == len(set(written))
    assert not {"-0", "\u22120", "\u22120.0", "\u22120.0000"} & set(written)


def test_numbers_are_written_as_in_the_tables(charts: Tab):
    numbers = [-0.004, -0.006, 0.0, -1.5]
    assert charts.script("return arguments[0].map((number) => Charts.fixed(number, 2))", numbers) == [
        shown_score(number, 2) for number in numbers
    ]


def test_dragging_zooms_all_charts_and_a_double_click_shows_everything_again(charts: Tab):
    over = charts.one("#one .u-over")
    width = over.size["width"]
    ActionChains(charts.chrome).move_to_element(over).move_by_offset(-width // 4, 0).click_and_hold().move_by_offset(
        width // 2, 5
    ).release().perform()
    low, high = view(charts)
    assert low == pytest.approx(300, abs=10)
    assert high == pytest.approx(900, abs=10)
    for chart in ("one", "two"):
        shown = charts.script(f"const x = {chart}.plot.scales.x; return [x.min, x.max]")
        assert shown == pytest.approx([low, high])
    assert charts.script("return picked") == []
    ActionChains(charts.chrome).double_click(over).perform()
    assert view(charts) == pytest.approx((0, 35999 / 30))


def test_a_click_chooses_the_moment(charts: Tab):
    ActionChains(charts.chrome).move_to_element(charts.one("#two .u-over")).click().perform()
    assert charts.script("return picked") == pytest.approx([600], abs=3)


def test_the_wheel_zooms_with_a_key_held_and_scrolls_the_page_without(charts: Tab):
    wheel = """
      const over = document.querySelector("#one .u-over"), box = over.getBoundingClientRect();
      return !over.dispatchEvent(new WheelEvent("wheel", {deltaY: -60, ctrlKey: arguments[0], cancelable: true,
        bubbles: true, clientX: box.left + box.width / 4, clientY: box.top + 20}));
    """
    assert charts.script(wheel, False) is False
    assert view(charts) == pytest.approx((0, 35999 / 30))
    assert charts.script(wheel, True) is True
    low, high = view(charts)
    assert high - low == pytest.approx(35999 / 30 * 0.6065, rel=1e-3)
    assert low + (high - low) / 4 == pytest.approx(300, abs=2)


def test_everything_is_done_by_keyboard_and_read_out(charts: Tab):
    charts.script("document.querySelector('#one .chart-area').focus()")
    charts.press("+", "+", "arrow_right", "arrow_right")
    low, high = view(charts)
    assert high - low == pytest.approx(35999 / 30 / 4)
    said = charts.script("return document.querySelector('#one output').textContent")
    assert said.startswith("10:0")
    assert "annotated" in said
    assert "predicted" in said
    assert "smoothed" not in said
    charts.press("enter")
    assert len(charts.script("return picked")) == 1
    charts.press("end")
    assert view(charts)[1] == pytest.approx(35999 / 30)
    charts.press("0")
    assert view(charts) == pytest.approx((0, 35999 / 30))
    for button in charts.all("#one .series"):
        assert button.get_attribute("aria-pressed") in ("true", "false")
    smoothed = charts.all("#one .series")[2]
    charts.script("arguments[0].focus()", smoothed)
    charts.press("enter")
    assert smoothed.get_attribute("aria-pressed") == "true"
    assert charts.script("return one.plot.series[3].show") is True
    charts.script("document.querySelector('#curves .chart-area').focus()")
    charts.press("arrow_right", "arrow_right")
    said = charts.script("return document.querySelector('#curves output').textContent")
    assert said == "epoch 3: train 0.900, validation undefined"


def test_two_fingers_zoom_and_one_moves(charts: Tab):
    finger = """
      const over = document.querySelector("#one .u-over"), box = over.getBoundingClientRect();
      for (const [type, id, share] of arguments[0]) over.dispatchEvent(new PointerEvent(type, {pointerId: id,
        pointerType: "touch", clientX: box.left + share * box.width, clientY: box.top + 30, bubbles: true}));
    """
    charts.script(
        finger, [["pointerdown", 1, 0.4], ["pointerdown", 2, 0.6], ["pointermove", 1, 0.2], ["pointerup", 2, 0.6]]
    )
    low, high = view(charts)
    assert high - low == pytest.approx(35999 / 30 / 2, rel=0.01)
    charts.script(finger, [["pointermove", 1, 0.3], ["pointerup", 1, 0.3]])
    assert view(charts)[0] == pytest.approx(low - (high - low) / 10, rel=0.01)


def test_pictures_of_the_charts(charts: Tab):
    charts.picture("charts-light")
    charts.one("[data-theme-button]").click()
    charts.one("[data-theme-button]").click()
    assert charts.script("return getComputedStyle(document.documentElement).colorScheme") == "dark"
    charts.script("return new Promise(requestAnimationFrame)")
    charts.picture("charts-dark")
    charts.resize(*PHONE, density=2, touch=True)
    charts.wait(lambda: charts.script("return one.plot.width") < 390)
    assert charts.overflow() == 0
    charts.picture("charts-phone")
    charts.resize(320, 256, density=4)
    charts.wait(lambda: charts.script("return one.plot.width") < 320)
    assert charts.overflow() == 0


def test_the_page_follows_the_system_into_the_dark(charts: Tab):
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = charts.script(paper)
    before = charts.script("return Theme.colour('--predicted')")
    charts.media(scheme="dark")
    charts.wait(lambda: charts.script(paper) != light)
    charts.wait(lambda: charts.script("return Theme.colour('--predicted')") != before)
