"""A prediction's page in a browser: how it is opened, and what it is asked."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from tests.browsing import Tab
from vaprompt.prediction.predict import PredictedVideo
from vaprompt.regions import RegionRecipe
from vaprompt.report.footage import Footage, beside
from vaprompt.report.pages.page import write_page
from vaprompt.report.prediction_page import Download, Screening, prediction_page
from vaprompt.report.screening import screen

TIMES = tuple(int(time) for time in np.cumsum([0, *[33, 67] * 79]))
"""Milliseconds: a rate that varies, 8 s."""
TIME_F = np.array(TIMES) / 1000


def sound(seconds: float) -> np.ndarray:
    """Return a note that is struck four times."""
    time = np.arange(int(seconds * 44100)) / 44100
    return (0.5 * np.sin(2 * math.pi * 220 * time) * (time % 2 < 1))[:, None].astype(np.float32)


def screening(
    people: list[PredictedVideo], footage: Footage | None = None, regions: RegionRecipe | None = None
) -> Screening:
    downloads = [Download(video.csv.name, "x") for video in people]
    about = {"run": "runs/first"}
    return screen(people, regions or RegionRecipe(), footage or Footage(), about=about, downloads=downloads)


def show(
    tab: Tab,
    page: Path,
    people: list[PredictedVideo],
    footage: Footage | None = None,
    regions: RegionRecipe | None = None,
    *,
    loaded: bool = True,
) -> Tab:
    """Write a prediction's page and open it; wait until it is there, and its video as well if that is `loaded`."""
    media = people[0].media
    tab.allowed.append(media.as_uri())
    write_page(prediction_page(screening(people, footage or beside(media, page), regions)), page)
    tab.open(page)
    tab.wait(lambda: tab.script("return document.body.dataset.ready === 'true'"))
    tab.wait(lambda: not loaded or runs_by(tab) != "wait")
    return tab


def runs_by(tab: Tab) -> str:
    """Return what the page runs by: video, none, or wait while that is not known."""
    return str(tab.script("return document.body.dataset.player"))


def film(tab: Tab, name: str) -> Any:
    """Return a property of the page's video."""
    return tab.script("return document.getElementById('video')[arguments[0]]", name)


def plays(tab: Tab, *, from_: float = 0) -> None:
    """Wait until the video plays, and is beyond a moment."""
    tab.wait(lambda: not film(tab, "paused") and not film(tab, "seeking") and film(tab, "currentTime") > from_)


def frames_asked_for(tab: Tab, during: int = 20) -> float:
    """Return how often a page asks to be called with the screen's next frame, of as many frames as go by meanwhile."""
    counting = """
        const [during, done] = arguments;
        const own = window.requestAnimationFrame;
        let asked = 0;
        let left = during;
        window.requestAnimationFrame = (called) => (asked++, own(called));
        const frame = () => {
          if (left--) return own(frame);
          window.requestAnimationFrame = own;
          done(asked / during);
        };
        own(frame);
    """
    return float(tab.chrome.execute_async_script(counting, during))


def at(tab: Tab) -> float:
    """Return the moment that the page is at, in seconds."""
    return float(tab.script("return document.getElementById('seek').value"))


def go(tab: Tab, frame: int) -> None:
    """Step to a frame (from 0) from the beginning, by the keyboard, and wait until it is on the screen."""
    tab.press("home", *["."] * frame)
    tab.wait(lambda: not tab.script("return document.getElementById('video').seeking"))
    tab.settle()
