"""The page of a prediction as a person meets it: the video plays, everything runs with it, and leads to a moment."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains

from tests.browsing import PHONE, Tab
from tests.media.clips import grey, write_clip
from tests.report.everybody import lies_over_each_other, pale, unnamed
from tests.report.playing import TIME_F, at, go, runs_by, screening, show
from tests.report.predictions import predicted
from tests.report.runs import EVIL, LONG
from vaprompt.regions import RegionRecipe
from vaprompt.report.footage import inside
from vaprompt.report.overlay import write_overlay

GONE = (3.0, 5.0)


def numbers(tab: Tab, row: int) -> list[float]:
    cells = tab.all("#now-rows tr")[row].find_elements("css selector", "td.number")
    return [float(cell.text.replace("\u2212", "-")) for cell in cells[:2]]


def on_screen(tab: Tab) -> float:
    """Return how bright the video is near its lower edge."""
    with Image.open(tab.picture("prediction-stage", of="#stage")) as picture:
        grey_HW = np.asarray(picture.convert("L"), float)
    return float(grey_HW[-20:-10, 40:60].mean())


def test_everything_runs_with_the_video_and_leads_to_a_moment(tab: Tab, clip: Path, tmp_path: Path):
    people = [
        predicted(clip, TIME_F, number=1, several=True),
        predicted(clip, TIME_F, number=2, several=True, gone=GONE, notes=("gone for a while",)),
    ]
    (tmp_path / "pages").mkdir()
    show(tab, tmp_path / "pages" / "talk.html", people)
    assert runs_by(tab) == "video"
    assert "person 2: gone for a while" in tab.one(".notes").text
    lies_over_each_other(tab)

    # Frame by frame: picture, numbers, point, box and bars are those of the frame.
    for frame in (0, 1, 6):
        go(tab, frame)
        assert at(tab) == pytest.approx(TIME_F[frame], abs=1e-3)
        assert on_screen(tab) == pytest.approx(grey(frame + 1), abs=4)
        for row, video in enumerate(people):
            assert numbers(tab, row) == pytest.approx(video.value_F2[frame], abs=0.0051)
            dot = tab.all(".plane-dot")[row]
            point = [float(dot.get_attribute(name)) for name in ("cx", "cy")]
            assert point == pytest.approx([video.value_F2[frame, 0], -video.value_F2[frame, 1]], abs=1e-3)
            bars = tab.all(f".region-bars td:nth-child({row + 2}) .number")
            share_K = np.array([np.interp(TIME_F[frame], video.end_W, video.windows.region_WK[:, k]) for k in range(9)])
            assert [int(bar.text.split()[0]) for bar in bars] == pytest.approx(100 * share_K, abs=1)
            assert video.track is not None
            x, y, size, angle = video.track.placement(TIME_F[frame])
            turned = math.exp(size) / 2 * math.sqrt(2) * np.exp(1j * (angle + math.pi * np.array([-3, -1, 1, 3]) / 4))
            corners = np.stack((x + turned.real, (y + turned.imag) * 320 / 240), axis=1)
            drawn = tab.all(".face-box")[row].get_attribute("points")
            assert [float(part) for part in drawn.replace(" ", ",").split(",")] == pytest.approx(
                corners.ravel(), abs=2e-3
            )
    first = tab.all(".plane-tail")[0].get_attribute("points").split(" ")[0].split(",")
    assert [float(part) for part in first] == pytest.approx(
        [people[0].value_F2[0, 0], -people[0].value_F2[0, 1]], abs=1e-3
    )

    # A click on a trace goes there; arrows move by 5 s; a face that is not there has no box and a hollow point.
    over = tab.one("#chart-arousal .u-over")
    ActionChains(tab.chrome).move_to_element_with_offset(over, 0, 10).click().perform()
    tab.wait(lambda: abs(at(tab) - TIME_F[-1] / 2) < 0.1)
    assert GONE[0] < at(tab) < GONE[1]
    hidden = [box.get_attribute("hidden") is not None for box in tab.all(".face-box")]
    hollow = ["gone" in person.get_attribute("class") for person in tab.all(".plane-person")]
    assert hidden == hollow == [False, True]
    before = at(tab)
    tab.press("arrow_left")
    tab.wait(lambda: at(tab) == 0)
    tab.press("arrow_right")
    assert at(tab) == pytest.approx(5, abs=0.07)
    assert tab.one("#told").get_attribute("textContent").startswith("0:05.0: person 1: valence ")

    # It plays at the chosen speed up to the end, and the marks of all charts move along.
    tab.press("]", "]", "[")
    # On many keyboards a bracket needs AltGr, which browsers call Ctrl and Alt.
    event = "new KeyboardEvent('keydown', {key: ']', ctrlKey: true, altKey: true, bubbles: true})"
    tab.script(f"document.body.dispatchEvent({event})")
    assert tab.script("return document.getElementById('video').playbackRate") == 1.5
    marks = "return [...document.querySelectorAll('#traces .chart-mark')].map((e) => e.style.transform + e.style.left)"
    stood = tab.script(marks)
    assert len(stood) == 5
    tab.press(" ")
    tab.wait(lambda: tab.one("#play").get_attribute("aria-label") == "Pause")
    tab.wait(lambda: at(tab) == pytest.approx(TIME_F[-1], abs=1e-3))
    assert all(now != then for now, then in zip(tab.script(marks), stood, strict=True))
    tab.wait(lambda: tab.one("#play").get_attribute("aria-label") == "Play")

    # Whoever is not wanted is not shown.
    tab.one("#people button").click()
    assert [row.is_displayed() for row in tab.all("#now-rows tr")] == [False, True]
    assert tab.all(".plane-person")[0].get_attribute("display") == "none"
    tab.one("#people button").click()

    assert before > 0
    go(tab, 20)
    assert unnamed(tab) == []
    assert pale(tab) == []
    tab.picture("prediction")
    tab.media(scheme="dark")
    tab.settle()
    assert pale(tab) == []
    tab.picture("prediction-dark")
    tab.media()
    for width, height, density in ((*PHONE, 2), (320, 256, 4)):
        tab.resize(width, height, density=density)
        tab.settle()
        assert tab.overflow() == 0
    tab.resize(*PHONE, density=2)
    tab.picture("prediction-phone")


def test_the_phrases_are_whole_beside_three_people(tab: Tab, clip: Path, tmp_path: Path):
    show(tab, tmp_path / "three.html", [predicted(clip, TIME_F, number=number, several=True) for number in (1, 2, 3)])
    beyond = "(phrase) => phrase.scrollHeight - phrase.clientHeight"
    cut = f"return [...document.querySelectorAll('.region-phrase')].map({beyond})"
    for width in (1280, 390):
        tab.resize(width, 900)
        tab.settle()
        assert max(tab.script(cut)) <= 0, width


def test_a_single_frame_has_a_page(tab: Tab, tmp_path: Path):
    clip = write_clip(tmp_path / "one.mp4", times_ms=(0,), size=(320, 240))
    show(tab, tmp_path / "one.html", [predicted(clip, np.zeros(1), whole=True)])
    assert "1 frame, 0:00 of time" in tab.one(".lead").text


@pytest.mark.parametrize("side", [3, 5, 9])
def test_numbers_and_marks_stay_beside_the_rows_of_any_grid(tab: Tab, clip: Path, tmp_path: Path, side: int):
    grid = tuple(np.linspace(-0.9, 0.9, side).tolist())
    regions = RegionRecipe(valence=grid, arousal=grid, phrases=[f"face {number}" for number in range(side**2)])
    show(tab, tmp_path / "grid.html", [predicted(clip, TIME_F, regions=side**2)], regions=regions)
    parts = """
        const box = (selector) => [...document.querySelectorAll(selector)].map((part) => {
          const {top, bottom} = part.getBoundingClientRect();
          return [Number(part.textContent), top, bottom];
        });
        return [".strip canvas", ".strip .chart-mark", ".strip-names li"].map(box);
    """
    for width in (1280, PHONE[0]):
        tab.resize(width, 900)
        tab.settle()
        [(_, top, bottom)], marks, names = tab.script(parts)
        assert marks == [[0, pytest.approx(top), pytest.approx(bottom)]]
        assert bottom - top < 300
        numbers_N, top_N, bottom_N = np.array(names).T
        row = (bottom - top) / side**2
        np.testing.assert_allclose((top_N + bottom_N) / 2, top + (numbers_N - 0.5) * row, atol=1)
        assert (bottom_N[:-1] <= top_N[1:] + 0.5).all()
        assert numbers_N[0] == 1
    tab.picture(f"prediction-{side}x{side}")


def test_a_page_that_holds_its_video_can_be_carried_away(tab: Tab, clip: Path, tmp_path: Path):
    show(tab, tmp_path / "alone.html", [predicted(clip, TIME_F, gate=False)], inside(clip))
    assert runs_by(tab) == "video"
    go(tab, 9)
    assert on_screen(tab) == pytest.approx(grey(10), abs=4)
    assert [cell.is_displayed() for cell in tab.all(".now thead th")] == [True, True, True, False, True]
    assert not tab.one("#chart-gate").is_displayed()
    assert not any(url.startswith("file:") and "talk.mp4" in url for url in tab.requests)


def test_without_a_codec_a_face_or_a_sound_the_traces_play_and_it_says_so(tab: Tab, tmp_path: Path):
    media = write_clip(tmp_path / "old.avi", times_ms=range(0, 1200, 40), video="mpeg4")
    time_F = np.arange(30) / 25
    people = [predicted(media, time_F, whole=True, notes=("no face was found",))]
    show(tab, tmp_path / "old.html", people)
    assert runs_by(tab) == "none"
    lost = tab.one("#lost").text
    assert "cannot play this video: it may not know the codec mpeg4" in lost
    assert "--overlay NEW.mp4" in lost
    assert tab.one("#silence").text == "Sound: the video has no sound, or nothing but silence."
    assert not tab.one("#chart-sound").is_displayed()
    assert "no face was found" in tab.one(".notes").text
    assert not any(tab.one(f"#{name}").is_displayed() for name in ("mute", "full", "box-button"))
    tab.press(" ")
    tab.wait(lambda: at(tab) == pytest.approx(time_F[-1], abs=1e-3))
    tab.press("arrow_left", ".")
    assert at(tab) == pytest.approx(0.04, abs=1e-3)
    tab.picture("prediction-unplayable")
    # Its overlay does play here.
    write_overlay(screening(people), tmp_path / "plays.mp4")
    tab.open(tmp_path / "plays.mp4")
    tab.wait(lambda: tab.script("const v = document.querySelector('video'); return v.videoWidth === 1280 && !v.error"))
    # What is gone cannot be played either; that the browser says so is no fault of the page.
    media.rename(tmp_path / "moved.avi")
    tab.open(tmp_path / "old.html")
    tab.wait(lambda: tab.script("return document.body.dataset.player === 'none'"))
    assert "no longer where it was" in tab.one("#lost").text
    assert all("ERR_FILE_NOT_FOUND" in fault for fault in tab.forgive())


def test_whatever_names_phrases_and_notes_hold_is_text(tab: Tab, clip: Path, tmp_path: Path):
    # A name cannot hold a slash; what else it holds must neither run nor keep the video from being found.
    media = tmp_path / "<img src=x onerror=alert(1)>#?%41&\"' {{ 7 * 7 }}.mp4"
    media.write_bytes(clip.read_bytes())
    phrases = [*(f"{EVIL} {number}" for number in range(8)), LONG]
    people = [predicted(media, TIME_F, number=number, several=True, notes=(EVIL, LONG)) for number in (1, 2)]
    show(tab, tmp_path / "page.html", people, regions=RegionRecipe(phrases=phrases))
    assert runs_by(tab) == "video"
    assert tab.script("return window.stolen") is None
    assert tab.all("img") == []
    assert tab.one("h1").text == media.name
    shown = tab.script("return document.body.textContent")
    assert LONG in shown
    names = [name.get_attribute("textContent") for name in tab.all(".region-phrase")]
    assert names == phrases
    assert media.name.removesuffix(".mp4") + ".person1.csv" in tab.one("#about").text
    for size in ((1280, 900), PHONE):
        tab.resize(*size)
        tab.settle()
        assert tab.overflow() == 0
    tab.picture("prediction-hostile")
