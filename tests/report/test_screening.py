"""What a prediction's page is made of: how the video looks, where it lies, and how much of it fits."""

import json
import os
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.clips import write_clip
from tests.report.predictions import predicted
from vaprompt.errors import MediaError
from vaprompt.media.appearance import Appearance, appearance
from vaprompt.prediction.predict import PredictionReport
from vaprompt.regions import RegionRecipe
from vaprompt.report import footage, screening
from vaprompt.report.footage import Footage, address
from vaprompt.report.pages import packing
from vaprompt.report.pages.page import render
from vaprompt.report.prediction_page import Screening, prediction_page
from vaprompt.report.screening import screen, write_pages

TIME_F = np.arange(25) / 25


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4")


@given(
    st.lists(st.binary(min_size=1, max_size=9).filter(lambda name: not set(name) & set(b"/\0")), min_size=1),
    st.integers(0, 3),
)
def test_an_address_leads_from_the_page_to_the_file_whatever_its_name(parts: list[bytes], up: int):
    names = [os.fsdecode(part) for part in parts]
    names = [name if name not in (".", "..") else "dots" for name in names]
    file = Path("/data", *names)
    page = Path("/data", *["pages"] * up, "page.html")
    found = address(file, page)
    whole = urljoin(f"file://{page}", found)
    assert unquote_to_bytes(whole.removeprefix("file://")) == os.fsencode(file)


def test_a_video_looks_as_its_player_shows_it(clip: Path, tmp_path: Path):
    assert appearance(clip) == Appearance(64, 48, 1.0, 0.0, "h264")
    turned = appearance(write_clip(tmp_path / "turned.mp4", rotation=90))
    assert (turned.width, turned.height, turned.shape) == (48, 64, 0.75)
    late = write_clip(tmp_path / "late.mp4", times_ms=range(500, 1500, 40), sound=np.zeros((44100, 1), np.float32))
    assert appearance(late).start == pytest.approx(0.5, abs=0.03)


def test_of_long_series_what_is_kept_holds_every_peak():
    random = np.random.default_rng(1)
    value_NC = np.cumsum(random.normal(size=(50_000, 3)), axis=0)
    kept_M = packing.telling(value_NC, 6000)
    assert len(kept_M) <= 6002
    assert (np.diff(kept_M) > 0).all()
    shown_NC = np.full_like(value_NC, np.nan)
    shown_NC[kept_M] = value_NC[kept_M]
    for column_N, shown_N in zip(value_NC.T, shown_NC.T, strict=True):
        np.testing.assert_array_equal(packing.extremes(column_N, 500), packing.extremes(shown_N, 500))
    np.testing.assert_array_equal(packing.telling(value_NC[:100], 100), np.arange(100))


def test_two_hours_of_four_people_fit_into_a_page(clip: Path):
    time_F = np.arange(2 * 3600 * 30) / 30
    people = [predicted(clip, time_F, number=number, several=True) for number in range(1, 5)]
    shown = Screening(people, RegionRecipe(), Footage("clip.mp4"), Appearance(64, 48, 1.0, 0.0, "h264"))
    assert len(render(prediction_page(shown))) < 20_000_000


def test_a_page_lies_beside_the_csv_and_says_where_the_video_is(clip: Path, tmp_path: Path):
    out = tmp_path / "a b"
    out.mkdir()
    report = PredictionReport()
    for number in (1, 2):
        made = predicted(clip, TIME_F, number=number, several=True)
        report.done.append(made.__class__(**{**vars(made), "csv": out / made.csv.name}))
    shown = write_pages(report, about={"run": "first"})
    assert [page.path for page in shown.values()] == [out / "clip.html"]
    text = (out / "clip.html").read_text()
    assert 'src="../clip.mp4"' in text
    assert 'href="clip.person1.csv"' in text
    again = write_pages(report, about={"run": "first"})
    assert again == shown
    assert (out / "clip.html").read_text() == text


def test_a_video_too_large_to_be_held_stays_beside_its_page_and_a_note_says_so(clip: Path, monkeypatch):
    report = PredictionReport([predicted(clip, TIME_F)])
    (held,) = write_pages(report, about={}, embed=True).values()
    assert held.notes == []
    assert "clip.mp4?" not in held.path.read_text()
    monkeypatch.setattr(footage, "MOST_EMBEDDED", clip.stat().st_size - 1)
    (beside,) = write_pages(report, about={}, embed=True).values()
    assert beside.notes == [screening.TOO_LARGE]
    assert 'src="clip.mp4"' in beside.path.read_text()


def test_a_video_that_is_gone_by_now_has_no_page_and_the_others_have(clip: Path, tmp_path: Path):
    gone = predicted(tmp_path / "gone.mp4", TIME_F)
    report = PredictionReport([gone, predicted(clip, TIME_F)])
    assert list(write_pages(report, about={})) == [clip]
    assert report.failed[str(gone.media)].endswith("there is no such file; check the path")
    with pytest.raises(MediaError, match="no such file"):
        screen([gone], RegionRecipe(), Footage(), about={})


@pytest.mark.parametrize("sound", [None, np.zeros((0, 1), np.float32), np.zeros((22050, 1), np.float32)])
def test_no_sound_is_said_not_drawn(sound: np.ndarray | None, tmp_path: Path):
    clip = write_clip(tmp_path / "quiet.mp4", sound=sound)
    page = prediction_page(screen([predicted(clip, TIME_F, whole=True)], RegionRecipe(), Footage(), about={}))
    assert page.context["silence"] == "the video has no sound, or nothing but silence"
    json.dumps(page.data, allow_nan=False)
