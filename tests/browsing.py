"""A real Chromium for the tests of pages: found, started once a session, and watched for whatever goes wrong in it.

Debian's packages `chromium` and `chromium-driver` have what is needed. The variables VAPROMPT_CHROMIUM and
VAPROMPT_CHROMEDRIVER name other ones; VAPROMPT_SCREENSHOTS names the folder in which pictures of the pages are kept.
"""

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
HERE = ("data:", "blob:", "about:")
WIDE = (1280, 900)
PHONE = (390, 844)
PATIENCE = 20
TALLEST = 12_000

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-search-engine-choice-screen",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--lang=en-GB",
    # No name is looked up: whatever a page asks for elsewhere fails at once, and is seen in the log of requests.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


def programs() -> tuple[str, str]:
    """Return where the browser and its driver are; skip the test where they are not."""
    browser = os.environ.get("VAPROMPT_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    driver = os.environ.get("VAPROMPT_CHROMEDRIVER") or shutil.which("chromedriver")
    if browser is None or driver is None:
        missing = "Chromium" if browser is None else "chromedriver"
        pytest.skip(f"no {missing} here: install Debian's chromium and chromium-driver, or name it in a variable")
    return browser, driver


@contextmanager
def chromium(profile: Path, *flags: str) -> Iterator[Chrome]:
    """Yield a browser with an empty profile, started with further flags."""
    browser, driver = programs()
    options = ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}", f"--window-size={WIDE[0]},{WIDE[1]}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options=options, service=Service(executable_path=driver))
    try:
        chrome.set_page_load_timeout(60)
        yield chrome
    finally:
        chrome.quit()


class Tab:
    """One test's view of the browser: what it opened, what was asked for and complained of meanwhile."""

    def __init__(self, chrome: Chrome, pictures: Path) -> None:
        self.chrome = chrome
        self.pictures = pictures
        self.allowed: list[str] = []
        """Beginnings of the URLs that may be asked for."""
        self.complaints: list[str] = []
        """Errors and warnings in the console, and exceptions that nobody caught."""
        self.requests: list[str] = []
        """Every URL that was asked for, in order."""
        self.resize(*WIDE)
        self.media()
        chrome.get("about:blank")
        self._read_logs()
        self.complaints.clear()
        self.requests.clear()

    def open(self, page: Path | str) -> None:
        """Open a file or an address; it may ask for itself, and for nothing else unless `allowed` says so."""
        address = page.resolve().as_uri() if isinstance(page, Path) else page
        self.allowed.append(address.partition("#")[0])
        self.chrome.get(address)

    @contextmanager
    def beforehand(self, source: str) -> Iterator[None]:
        """Run JavaScript in pages that are opened meanwhile, before anything of their own."""
        script = {"source": source}
        added = self.chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
        yield
        self.chrome.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)

    def resize(self, width: int, height: int, *, density: float = 1, touch: bool = False) -> None:
        """Show the page in a window of so many CSS pixels; at a density of 4, as one zoomed to 400 % is seen."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": density, "mobile": touch}
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.chrome.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})

    def media(self, *, scheme: str = "light") -> None:
        """Prefer a light or a dark page."""
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def settle(self) -> None:
        """Wait until what is to be drawn is drawn."""
        for _ in range(3):
            self.script("return new Promise((done) => requestAnimationFrame(() => setTimeout(done, 30)))")

    def script(self, source: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return what it returns."""
        return self.chrome.execute_script(source, *arguments)

    def one(self, selector: str) -> WebElement:
        """Return the first element of a CSS selector, as soon as there is one."""
        return self.wait(lambda: next(iter(self.all(selector)), None), selector)

    def all(self, selector: str) -> list[WebElement]:
        """Return the elements of a CSS selector that are there now."""
        return self.chrome.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, condition: Callable[[], Any], what: str = "") -> Any:
        """Return what the condition gives as soon as that is true."""
        return WebDriverWait(self.chrome, PATIENCE, poll_frequency=0.02).until(lambda _: condition(), what)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, wherever the focus is."""
        for key in keys:
            self.chrome.switch_to.active_element.send_keys(getattr(Keys, key.upper(), key))

    def picture(self, name: str, of: str | None = None) -> Path:
        """Keep a picture of the page, or of the first element of a selector, as NAME.png and return its path."""
        if of is None:
            size = self.chrome.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], TALLEST)}
        else:
            # What draws itself once it is seen has to be seen.
            self.script("arguments[0].scrollIntoView({behavior: 'instant'})", self.one(of))
            self.settle()
            place = (
                "const box = arguments[0].getBoundingClientRect();"
                "return [box.x + scrollX, box.y + scrollY, box.width, box.height];"
            )
            clip = dict(zip(("x", "y", "width", "height"), self.script(place, self.one(of)), strict=True))
        view = {"captureBeyondViewport": True, "clip": {**clip, "scale": 1}}
        taken = self.chrome.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", **view})
        target = self.pictures / f"{name}.png"
        target.write_bytes(base64.b64decode(taken["data"]))
        return target

    def faults(self) -> list[str]:
        """Return what a page must not do: complain in the console, or ask for anything that is not its own."""
        self._read_logs()
        strangers = [
            f"asked for {url[:200]}"
            for url in self.requests
            if not url.startswith(HERE) and not url.startswith(tuple(self.allowed))
        ]
        return [*self.complaints, *strangers]

    def forgive(self) -> list[str]:
        """Return the faults so far, which a test provoked, and forget them."""
        found = self.faults()
        self.complaints.clear()
        self.requests.clear()
        return found

    def overflow(self) -> int:
        """Return by how many CSS pixels the page is wider than its window."""
        return int(self.script("const e = document.documentElement; return e.scrollWidth - e.clientWidth"))

    def _read_logs(self) -> None:
        for entry in self.chrome.get_log("browser"):
            if entry["level"] in ("SEVERE", "WARNING"):
                self.complaints.append(f"{entry['level']}: {entry['message']}")
        for entry in self.chrome.get_log("performance"):
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                self.requests.append(event["params"]["request"]["url"])


def pictures_folder(factory: pytest.TempPathFactory) -> Path:
    """Return where pictures of pages are kept."""
    given = os.environ.get("VAPROMPT_SCREENSHOTS")
    folder = Path(given) if given else factory.getbasetemp() / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
