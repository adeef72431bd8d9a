"""Takes the pictures of pages in README.md and docs/ from a demo: `make screenshots`.

    python docs/screenshots.py demo

The folder is that of `vaprompt demo`. A second run, without prompts, is trained there to be compared with. Needs
Chromium and its driver, as the tests of pages do.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import av
from PIL import Image
from selenium.webdriver import Chrome

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.browsing import Tab, chromium  # noqa: E402  the tests' browser, which watches for errors and requests
from tests.serving.film import SIZE, pictures, seen_best  # noqa: E402
from tests.serving.process import started  # noqa: E402
from vaprompt.media.appearance import appearance  # noqa: E402

DOCS = ROOT / "docs"
OTHER = "run-without-prompts"
DENSITY = 1.25
COLOURS = 256
FILMED, WATCHED = 900, 20.0
"""Pictures of a person before the camera, and seconds for which the page watches before its own is taken."""


def main() -> None:
    """Make the pages that are missing, and the pictures."""
    demo = Path(sys.argv[1])
    vaprompt("evaluate", demo / "run", "--tune-smoothing")
    if not (demo / OTHER / "evaluation.json").exists():
        vaprompt("train", demo / "store.zarr", ROOT / "train/demo.toml", "--run", demo / OTHER, "--set", "loss.kl=0")
        vaprompt("evaluate", demo / OTHER)
    pages = {"report": [demo / "run", "--data", demo / "data"], "comparison": [demo / "run", demo / OTHER]}
    for name, arguments in pages.items():
        vaprompt("report", *arguments, "--out", demo / f"{name}.html")
    shutil.copyfile(demo / "run" / "traces.png", DOCS / "traces.png")
    person = seen_best(sorted((demo / "data").rglob("*.mp4"))[:8], every=200)
    with tempfile.TemporaryDirectory() as folder:
        profile, room, film = (Path(folder) / name for name in ("profile", "room", "film.mjpeg"))
        room.mkdir()
        before_the_camera(person, film)
        with chromium(profile, f"--use-file-for-fake-video-capture={film}") as chrome:
            picture(chrome, demo, person, room)


def picture(chrome: Chrome, demo: Path, person: Path, room: Path) -> None:
    """Take all pictures."""
    tab = Tab(chrome, DOCS)
    tab.resize(1280, 900, density=DENSITY)
    tab.open(demo / "report.html")
    tab.one("#chart-regions canvas")
    take(tab, "report-videos", "#videos")
    take(tab, "report-plane", "#plane")
    take(tab, "report-regions", "#regions")
    tab.media(scheme="dark")
    take(tab, "report-dark", "#videos")
    tab.media()
    tab.open(demo / "comparison.html")
    tab.one("#chart-arousal canvas")
    take(tab, "comparison", "#differences")
    prediction(tab, demo)
    serve(tab, demo, person, room)
    faults = tab.faults()
    if faults:
        raise SystemExit(f"a page complains: {faults}")


def prediction(tab: Tab, demo: Path) -> None:
    """Take the pictures of a prediction's page: that of the widest video which the demo predicts shows two people."""
    names = {path.stem for path in (demo / "predictions").glob("*.csv")}
    found = [path for path in (demo / "data").rglob("*.mp4") if path.stem in names]
    media = max(found, key=lambda path: appearance(path).shape)
    vaprompt("predict", demo / "run", media, "--person", "all", "--out", demo / "pages", "--page")
    tab.allowed.append(media.resolve().as_uri())
    tab.open(demo / "pages" / f"{media.stem}.html")
    tab.wait(lambda: tab.script("return document.body.dataset.player === 'video'"), "the video")
    tab.press(*["arrow_right"] * 6)
    there = "const v = document.getElementById('video'); return v.currentTime > 29 && !v.seeking"
    tab.wait(lambda: tab.script(there), "the moment")
    take(tab, "prediction", "#watch")
    take(tab, "prediction-traces", "#traces")


def serve(tab: Tab, demo: Path, person: Path, room: Path) -> None:
    """Take the picture of the local page: two videos, and a drawn person before the camera."""
    with started(demo / "run", room, "--faces", "detect") as server:
        address = f"{server.host}/"
        tab.allowed.append(f"ws://{address}")
        tab.open(f"http://{address}")
        tab.one("#files").send_keys(str(person.resolve()))
        tab.wait(lambda: tab.all('.job[data-state="done"]'), "the video")
        tab.one("#live-start").click()
        tab.wait(lambda: tab.all("#live-figures[data-points]"), "the camera")
        time.sleep(WATCHED)
        tab.wait(lambda: "valence" in tab.one("#live-figures").text, "a face")
        take(tab, "serve", "main")
        tab.chrome.get("about:blank")


def before_the_camera(person: Path, film: Path) -> None:
    """Write a video as a browser's made-up camera takes it: 30 pictures a second, each a jpg."""
    with av.open(str(film), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=30, options={"qmin": "2", "qmax": "2"})
        (stream.width, stream.height), stream.pix_fmt = SIZE, "yuvj420p"
        for rgb_HWC in islice(pictures(person, every=1), FILMED):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24")))
        container.mux(stream.encode(None))


def take(tab: Tab, name: str, selector: str) -> None:
    """Keep a picture of one part of the page, in few colours, as what is drawn has few."""
    tab.settle()
    path = tab.picture(name, of=selector)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def vaprompt(*arguments: object) -> None:
    """Run one command."""
    command = [sys.executable, "-m", "vaprompt", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)  # noqa: S603


if __name__ == "__main__":
    main()
