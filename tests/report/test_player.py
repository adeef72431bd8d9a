"""What a prediction's page runs by: frames and moments, whatever the browser tells of them, and when."""

from pathlib import Path

import numpy as np
import pytest

from tests.browsing import Tab
from tests.media.clips import write_clip
from tests.report.playing import TIME_F, TIMES, at, film, frames_asked_for, go, plays, runs_by, show, sound
from tests.report.predictions import predicted


def test_keys_in_quick_succession_each_count(tab: Tab, clip: Path, tmp_path: Path):
    show(tab, tmp_path / "talk.html", [predicted(clip, TIME_F)])
    # A key every few milliseconds, while the browser is still showing what an earlier one asked for.
    hurry = """
        const [count, done] = arguments;
        let left = count;
        const next = () => {
          document.body.dispatchEvent(new KeyboardEvent("keydown", { key: ".", bubbles: true }));
          if (--left) setTimeout(next, left % 7);
          else done();
        };
        next();
    """
    for first in (0, 60):
        tab.chrome.execute_async_script(hurry, 60)
        tab.wait(lambda: not tab.script("return document.getElementById('video').seeking"))
        tab.settle()
        assert at(tab) == pytest.approx(TIME_F[first + 60], abs=1e-3)


def test_an_mkv_whose_sound_begins_after_its_picture_stays_with_its_traces(tab: Tab, tmp_path: Path):
    clip = write_clip(tmp_path / "late.mkv", times_ms=TIMES, sound=sound(7), sound_start=0.5)
    show(tab, tmp_path / "late.html", [predicted(clip, TIME_F)])
    # Chromium shows its first frames nowhere, and is where it says that it is; it may take its time to tell so.
    tab.wait(lambda: at(tab) > 0.3)
    tab.settle()
    shown = at(tab)
    assert shown == pytest.approx(film(tab, "currentTime"), abs=0.07)
    # From there to a frame that it shows, and as far back as it goes.
    tab.press(*["."] * (30 - round(np.searchsorted(TIME_F, shown - 1e-3))))
    tab.wait(lambda: not film(tab, "seeking"))
    assert at(tab) == pytest.approx(TIME_F[30], abs=1e-3)
    assert film(tab, "currentTime") == pytest.approx(TIME_F[30], abs=5e-3)
    tab.press("home")
    tab.wait(lambda: not film(tab, "seeking") and at(tab) > 0.3)
    assert at(tab) == pytest.approx(shown, abs=1e-3)


def test_a_video_none_of_whose_frames_is_told_of_is_where_it_says_that_it_is(tab: Tab, tmp_path: Path):
    clip = write_clip(tmp_path / "late.mkv", times_ms=TIMES, sound=sound(7), sound_start=0.5)
    with tab.beforehand("HTMLVideoElement.prototype.requestVideoFrameCallback = () => 0"):
        show(tab, tmp_path / "late.html", [predicted(clip, TIME_F)])
    tab.wait(lambda: at(tab) > 0.3)
    assert at(tab) == pytest.approx(film(tab, "currentTime"), abs=0.07)


def test_an_mp4_whose_time_stamps_begin_late_is_gone_through_to_its_end(tab: Tab, tmp_path: Path):
    """Chromium takes it to be as long as it lasts, as if it began at 0, and went no further."""
    late = [5000 + time for time in TIMES]
    clip = write_clip(tmp_path / "late.mp4", times_ms=late, sound=sound(8), sound_start=5.0)
    show(tab, tmp_path / "late.html", [predicted(clip, TIME_F)])
    tab.press("end")
    tab.wait(lambda: film(tab, "currentTime") > 5 + TIME_F[-1] - 1e-3)
    tab.settle()
    assert at(tab) == pytest.approx(TIME_F[-1], abs=1e-3)


HEARS_WHAT_IS_SAID = "document.getElementById('video').requestVideoFrameCallback = (heard) => (window.tell = heard)"
"""From its next frame on a page hears of frames what is said, and of no others."""
TELL = "window.tell(0, { mediaTime: arguments[0] })"


def test_a_frame_told_of_late_does_not_take_a_page_back(tab: Tab, clip: Path, tmp_path: Path):
    show(tab, tmp_path / "talk.html", [predicted(clip, TIME_F)])
    tab.script(HEARS_WHAT_IS_SAID)
    go(tab, 60)
    tab.wait(lambda: tab.script("return window.tell !== undefined"))
    tab.script(TELL, TIME_F[59])
    tab.press(".")
    assert at(tab) == pytest.approx(TIME_F[61], abs=1e-3)
    # In play it follows what it is told.
    tab.press("k")
    tab.wait(
        lambda: not tab.script("const video = document.getElementById('video'); return video.paused || video.seeking")
    )
    tab.script(TELL, TIME_F[70])
    assert at(tab) == pytest.approx(TIME_F[70], abs=1e-3)


def test_a_step_right_after_play_is_where_a_page_stays(tab: Tab, clip: Path, tmp_path: Path):
    show(tab, tmp_path / "talk.html", [predicted(clip, TIME_F)])
    tab.script(HEARS_WHAT_IS_SAID)
    go(tab, 60)
    tab.wait(lambda: tab.script("return window.tell !== undefined"))
    # Both before the browser comes to say that it plays.
    tab.script("""
        for (const key of ["k", "."]) document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    """)
    tab.wait(lambda: film(tab, "paused") and not film(tab, "seeking"))
    tab.settle()
    tab.script(TELL, TIME_F[59])
    assert at(tab) == pytest.approx(TIME_F[61], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("seeks", [True, False])
def test_a_video_that_is_paused_elsewhere_is_where_it_is_though_no_frame_was_told(
    tab: Tab, clip: Path, tmp_path: Path, seeks: bool
):
    show(tab, tmp_path / "talk.html", [predicted(clip, TIME_F)])
    tab.script(HEARS_WHAT_IS_SAID)
    go(tab, 20)
    tab.wait(lambda: tab.script("return window.tell !== undefined"))
    tab.press("[", "[", "[", "k")
    plays(tab)
    if seeks:
        tab.press("arrow_right")
    else:
        tab.script("Object.defineProperty(document, 'hidden', { value: true })")
    sent = at(tab)
    plays(tab, from_=sent + 0.15)
    assert at(tab) == sent
    tab.script("document.getElementById('video').pause()")
    tab.settle()
    now = film(tab, "currentTime")
    assert now > sent + 0.15
    assert at(tab) == pytest.approx(TIME_F[now >= TIME_F][-1], abs=2e-3)
    # The frame that it stopped at may be told of later.
    frame = int(np.flatnonzero(now >= TIME_F)[-1]) - 1
    tab.script(TELL, TIME_F[frame])
    assert at(tab) == pytest.approx(TIME_F[frame], abs=1e-3)


HELD = """
    window.held = true;
    const { get } = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "readyState");
    Object.defineProperty(HTMLMediaElement.prototype, "readyState", {
      get() {
        return window.held ? 0 : get.call(this);
      },
    });
    window.addEventListener("loadeddata", (event) => window.held && event.stopImmediatePropagation(), true);
"""
"""A video that takes long to load."""


@pytest.mark.slow
@pytest.mark.parametrize(("then", "player"), [("loadeddata", "video"), ("error", "none")])
def test_who_presses_play_before_a_video_is_there_sees_it_play(
    tab: Tab, clip: Path, tmp_path: Path, then: str, player: str
):
    with tab.beforehand(HELD):
        show(tab, tmp_path / "talk.html", [predicted(clip, TIME_F)], loaded=False)
    assert runs_by(tab) == "wait"
    tab.press("[", "[", "[", "k")
    tab.wait(lambda: at(tab) > 0.2)
    before = at(tab)
    # Some file's loading ends one way or the other.
    tab.script("window.held = false; document.getElementById('video').dispatchEvent(new Event(arguments[0]))", then)
    assert runs_by(tab) == player
    assert tab.one("#play").get_attribute("aria-label") == "Pause"
    tab.wait(lambda: at(tab) > before + 0.3)
    if player == "video":
        plays(tab, from_=before + 0.3)
        assert frames_asked_for(tab) == 0
    tab.press("k")
    tab.wait(lambda: tab.one("#play").get_attribute("aria-label") == "Play")  # a video tells that it rests, later
    tab.settle()
    stood = at(tab)
    assert frames_asked_for(tab) == 0
    assert at(tab) == stood < TIME_F[-1]


@pytest.mark.slow
def test_where_a_browser_tells_of_no_frames_a_page_looks_once_a_frame(tab: Tab, clip: Path, tmp_path: Path):
    with tab.beforehand("delete HTMLVideoElement.prototype.requestVideoFrameCallback"):
        show(tab, tmp_path / "talk.html", [predicted(clip, TIME_F)])
    tab.press("[", "[", "[", "k")
    plays(tab)
    assert 0.9 <= frames_asked_for(tab) <= 1.1
    for _ in range(3):
        tab.press("arrow_right", "arrow_left")
        plays(tab)
    assert 0.9 <= frames_asked_for(tab) <= 1.1
    # It pauses where it is, and not where it was sent to before.
    sent = at(tab)
    plays(tab, from_=sent + 0.3)
    tab.press("k")
    tab.settle()
    assert frames_asked_for(tab) == 0
    assert at(tab) > sent + 0.2
    assert film(tab, "currentTime") - 0.1 < at(tab) <= film(tab, "currentTime")
