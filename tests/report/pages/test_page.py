"""What a page may and may not do, whatever it is given to show."""

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from tests.browsing import Tab
from tests.report.pages.small import HOSTILE, write_small
from vaprompt.errors import TargetError
from vaprompt.report.pages.page import ASSETS, CHART_SCRIPTS, Page, embedded, write_page

ROOT = Path(__file__).parents[3]


def test_whatever_is_given_is_shown_as_text(tab: Tab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    page = write_small(
        monkeypatch,
        tmp_path / "page.html",
        "<p id='shown' title='{{ text }}'>{{ text }}</p><p id='read'></p>",
        script="document.getElementById('read').textContent = Data.block('told').text;",
        data={"told": {"text": HOSTILE}},
        text=HOSTILE,
    )
    tab.open(page)
    assert tab.one("#shown").text.split() == HOSTILE.split()
    assert tab.one("#shown").get_attribute("title") == HOSTILE
    assert tab.script("return document.getElementById('read').textContent") == HOSTILE
    assert tab.script("return window.stolen") is None
    assert len(tab.all("img")) == 0


def test_a_script_that_is_not_the_pages_own_does_not_run(tab: Tab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    page = write_small(monkeypatch, tmp_path / "page.html", "<div id='hole'></div>")
    text = page.read_text()
    hole = "<script>window.stolen = 1</script><img src=x onerror='window.stolen = 2'>"
    page.write_text(text.replace("<div id='hole'></div>", hole))
    tab.open(page)
    assert tab.script("return window.stolen") is None
    refused = [complaint for complaint in tab.forgive() if "Content Security Policy" in complaint]
    assert len(refused) == 3


def test_a_page_can_ask_for_nothing(tab: Tab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    script = """
      window.asked = fetch("http://127.0.0.1:9/").then(() => "answered", () => "refused");
      const image = new Image(); image.src = "http://127.0.0.1:9/picture.png";
    """
    tab.open(write_small(monkeypatch, tmp_path / "page.html", "<p>here</p>", script=script))
    assert tab.script("return window.asked") == "refused"
    refused = [complaint for complaint in tab.forgive() if "Content Security Policy" in complaint]
    assert len(refused) >= 2


def test_names_that_are_no_unicode_are_written_all_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    page = write_small(
        monkeypatch, tmp_path / "page.html", "<p>{{ name }}</p>", name="a\udcffb", data={"n": "a\udcffb"}
    )
    text = page.read_text()
    assert "<p>a\\udcffb</p>" in text
    assert '"a\\udcffb"' in text


def test_data_cannot_hold_what_is_no_json_or_closes_its_block():
    assert "<" not in embedded({"</script>": "<!--<script>"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded([float("nan")])


def test_a_page_that_cannot_be_written_says_so(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match="cannot be written"):
        write_page(Page("base.html", "title"), tmp_path / "file" / "page.html")


def test_what_is_kept_of_other_people_is_as_pinned_and_has_its_licence():
    version = re.search(r"^UPLOT := (\S+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert version
    assert f"(v{version[1]})" in (ASSETS / "uplot" / "uPlot.iife.min.js").read_text()[:100]
    assert "The MIT License" in (ASSETS / "uplot" / "LICENSE").read_text()
    digest = hashlib.sha256((ASSETS / "uplot" / "uPlot.iife.min.js").read_bytes()).hexdigest()
    assert digest == "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"


def test_every_file_of_the_page_room_is_in_the_package():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "vaprompt/report/pages"],
        check=True, capture_output=True, text=True, cwd=ROOT,
    ).stdout.split()  # fmt: skip
    for name in CHART_SCRIPTS:
        assert f"vaprompt/report/pages/assets/{name}" in listed
