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
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.browsing import Tab, chromium  # noqa: E402  the tests' browser, which watches for errors and requests

DOCS = ROOT / "docs"
OTHER = "run-without-prompts"
DENSITY = 1.25
COLOURS = 256


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
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as chrome:
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
        faults = tab.faults()
    if faults:
        raise SystemExit(f"a page complains: {faults}")


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
