"""The page of sound alone: it plays, the traces run with it, and nothing speaks of pictures."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.browsing import PHONE, Tab
from tests.media.clips import WAV_RATE, write_wav
from tests.report.playing import at, film, plays, runs_by, show
from tests.report.predictions import predicted
from vaprompt.media.clock import steady_times
from vaprompt.prediction.predict import PredictedVideo
from vaprompt.report.footage import inside

SECONDS, RATE = 6, 30


def heard(folder: Path) -> PredictedVideo:
    """Return a prediction from a file of sound."""
    time_L = np.arange(SECONDS * WAV_RATE) / WAV_RATE
    media = write_wav(folder / "a voice.wav", 0.5 * np.sin(2 * np.pi * 220 * time_L) * (time_L % 2 < 1))
    return replace(predicted(media, steady_times(SECONDS * RATE, RATE), whole=True, gate=False), seen=False)


@pytest.mark.parametrize("held", [False, True])
def test_sound_alone_plays_with_its_traces(tab: Tab, tmp_path: Path, held: bool):
    video = heard(tmp_path)
    show(tab, tmp_path / "voice.html", [video], inside(video.media) if held else None)
    assert runs_by(tab) == "video"
    assert tab.one("#video").tag_name == "audio"
    assert not any(tab.one(f"#{name}").is_displayed() for name in ("full", "box-button", "lost", "video"))
    assert tab.one("#chart-sound").is_displayed()
    text = tab.one("body").text
    assert f"Valence and arousal of the sound, {SECONDS * RATE} rows" in text
    assert "none: the file holds sound alone" in text
    assert not any(word in text for word in ("video", "full screen", "picture "))
    # It runs by the sound, at a row at a time, to the last one.
    tab.press(".", ".")
    assert at(tab) == pytest.approx(2 / RATE, abs=1e-3)
    assert film(tab, "currentTime") == pytest.approx(2 / RATE, abs=2e-3)
    tab.press("f", "]", "]", "]", "]", "]", "k")
    plays(tab, from_=1)
    before, shown, after = film(tab, "currentTime"), at(tab), film(tab, "currentTime")
    assert before - 0.5 < shown <= after
    tab.wait(lambda: at(tab) == pytest.approx((SECONDS * RATE - 1) / RATE, abs=1e-3))
    tab.wait(lambda: tab.one("#play").get_attribute("aria-label") == "Play")
    tab.resize(*PHONE)
    tab.settle()
    assert tab.overflow() == 0
    tab.picture("prediction-of-sound")


def test_sound_that_begins_late_is_heard_where_its_rows_are(tab: Tab, tmp_path: Path):
    late = 5.5
    media = tmp_path / "late.webm"
    with av.open(str(media), "w") as container:
        stream = container.add_stream("libopus", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, SECONDS * 48000), np.int16), "s16", "mono")
        frame.sample_rate, frame.time_base, frame.pts = 48000, Fraction(1, 48000), round(late * 48000)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    video = replace(predicted(media, steady_times(SECONDS * RATE, RATE), whole=True, gate=False), seen=False)
    show(tab, tmp_path / "late.html", [video])
    assert runs_by(tab) == "video"
    tab.press(*["."] * RATE)
    assert at(tab) == pytest.approx(1, abs=1e-3)
    assert film(tab, "currentTime") == pytest.approx(late + 1, abs=0.01)


def test_sound_that_cannot_be_played_is_told(tab: Tab, tmp_path: Path):
    video = heard(tmp_path)
    page = tmp_path / "voice.html"
    show(tab, page, [video])
    video.media.rename(tmp_path / "moved.wav")
    tab.open(page)
    tab.wait(lambda: runs_by(tab) == "none")
    assert "This browser cannot play this sound: it may not know its codec, or the file is no longer" in (
        tab.one("#lost").text
    )
    assert all("ERR_FILE_NOT_FOUND" in fault for fault in tab.forgive())
