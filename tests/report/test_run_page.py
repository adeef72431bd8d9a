"""The report of a run as a person meets it in a browser: it explains, is searched, zoomed, and stays at home."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains

from tests.browsing import PHONE, Tab
from tests.report.everybody import lies_over_each_other, pale, unnamed
from tests.report.runs import EVIL, LONG, hostile_run, make_run, planted
from vaprompt.media.loudness import STEP, Loudness
from vaprompt.report.evidence import Evidence, gather
from vaprompt.report.pages.page import shown_score, write_page
from vaprompt.report.run_page import run_page
from vaprompt.report.studying import Study, conditions, study


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    folder = tmp_path_factory.mktemp("reported")
    return gather(make_run(planted(folder, validation=3), folder / "first", smooth=True))


@pytest.fixture(scope="module")
def studied(evidence: Evidence) -> Study:
    """Return what is known of the run, with sound that is made up."""
    found = study(evidence)
    for index, video in enumerate(evidence.evaluation.videos):
        count = int(video.time_F[-1] / STEP) + 1
        level_G = np.linspace(-60, -20, count).astype(np.float32)
        found.heard.loudness[video.name] = Loudness(level_G, np.arange(count) % 100 < 60, silent=index == 2)
    return replace(found, conditions=conditions(evidence, found.explained, found.heard))


@pytest.fixture(scope="module")
def page(evidence: Evidence, studied: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("page") / "report.html"
    write_page(run_page(evidence, studied), target)
    return target


@pytest.fixture
def opened(tab: Tab, page: Path) -> Tab:
    tab.open(page)
    tab.one("#chart-regions canvas")
    return tab


def names(tab: Tab) -> list[str]:
    return [element.get_attribute("textContent") for element in tab.all("#video-list .name")]


def test_scores_stand_beside_ridge_and_the_paper_with_their_intervals(opened: Tab, evidence: Evidence):
    shown = opened.one("#scores").text
    official = evidence.evaluation.result["official"]
    for score in (*(official[axis] for axis in ("valence", "arousal", "mean")), 0.4655, 0.6068, 0.5361):
        assert f"{score:.3f}".replace("-", "\u2212") in shown
    low, high = evidence.evaluation.result["interval"]["official"]["mean"]
    assert f"{low:.3f} to {high:.3f}".replace("-", "\u2212") in shown
    for text in ("ridge regression", "this run, smoothed", "every valid frame", "the paper's frames"):
        assert text in shown
    assert len(opened.all("#scores .whisker .ends")) == 4


def test_what_differs_from_the_papers_recipe_is_marked(opened: Tab):
    rows = {row.text for row in opened.all("#what tbody tr")}
    assert "training: model.width 32 256" in rows
    assert "training: window.seconds 4.0 10.0" in rows
    assert not any("loss.kl" in row or "seed" in row for row in rows)
    marked = [fact.text for fact in opened.all(".facts div") if "not the paper" in fact.text]
    assert any(fact.startswith("window\n4 s") for fact in marked)
    assert not any(fact.startswith(("seed", "store", "prompts", "modalities")) for fact in marked)


def test_the_course_of_the_training_is_drawn(opened: Tab, evidence: Evidence):
    assert len(opened.all("#training canvas")) == 2
    opened.script("document.querySelector('#curve-score .chart-area').focus()")
    opened.press("end")
    mean = evidence.history[-1]["validation"]["mean"]
    assert f"mean {shown_score(mean)}" in opened.script(
        "return document.querySelector('#curve-score output').textContent"
    )


def test_videos_come_worst_first_and_are_searched_ordered_and_chosen(opened: Tab, evidence: Evidence):
    worst_first = list(evidence.evaluation.result["videos"])
    assert names(opened) == worst_first
    assert opened.one("#video-name").text == worst_first[0]
    opened.one("#video-search").send_keys(worst_first[1].upper())
    assert names(opened) == [worst_first[1]]
    assert opened.one("#video-count").text == "1 of 3 videos"
    opened.one("#video-search").clear()
    opened.one("#video-search").send_keys("nothing is called so")
    assert names(opened) == []
    opened.one("#video-search").clear()
    opened.press("a", "backspace")
    opened.script(
        "const o = arguments[0]; o.value = 'name'; o.dispatchEvent(new Event('change'))", opened.one("#video-order")
    )
    assert names(opened) == sorted(worst_first)
    opened.script("document.getElementById('video-list').focus()")
    opened.press("home", "arrow_down")
    opened.wait(lambda: opened.one("#video-name").text == sorted(worst_first)[1])
    (selected,) = opened.all("#video-list [aria-selected=true]")
    assert sorted(worst_first)[1] in selected.text
    assert opened.one("#video-list").get_attribute("aria-activedescendant") == selected.get_attribute("id")


def test_traces_are_those_that_were_predicted_and_zoom_together(opened: Tab, evidence: Evidence):
    video = evidence.ranked[0]
    opened.one("#zoom-in").click()
    said = {}
    for dimension in ("valence", "arousal"):
        opened.script(f"document.querySelector('#chart-{dimension} .chart-area').focus()")
        opened.press("end")
        said[dimension] = opened.script(f"return document.querySelector('#chart-{dimension} output').textContent")
    for axis, dimension in enumerate(("valence", "arousal")):
        assert f"predicted {shown_score(float(video.prediction_F2[-1, axis]), 2)}" in said[dimension]
        assert f"annotated {shown_score(float(video.truth_F2[-1, axis]), 2)}" in said[dimension]
    ticks = (
        "return document.querySelectorAll('#chart-valence .u-over, #chart-gate .u-over, #chart-sound .u-over').length"
    )
    assert opened.script(ticks) == 3
    lies_over_each_other(opened)
    opened.one("#zoom-all").click()


def test_the_smoothed_trace_is_switched_on(opened: Tab, evidence: Evidence):
    button = opened.one("#smooth")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    pressed = [item.get_attribute("aria-pressed") for item in opened.all("#chart-valence .series")]
    assert pressed == ["true", "false", "true"]
    assert str(evidence.smoothing) in opened.one("#chart-valence").text
    opened.script("document.querySelector('#chart-valence .chart-area').focus()")
    opened.press("end")
    said = opened.script("return document.querySelector('#chart-valence output').textContent")
    smooth = evidence.smooth[evidence.ranked[0].name].prediction_F2[-1, 0]
    assert shown_score(float(smooth), 2) in said
    assert "predicted" not in said


def test_a_click_chooses_the_window_that_is_explained(opened: Tab, evidence: Evidence, studied: Study):
    found = studied.explained[evidence.ranked[0].name]
    ActionChains(opened.chrome).move_to_element(opened.one("#chart-valence .u-over")).click().perform()
    middle = (evidence.ranked[0].time_F[-1]) / 2
    window = int(np.abs(found.end_W - middle).argmin())
    title = opened.one("#window-title").text
    assert f"0:{found.end_W[window]:04.1f}" in title
    shown = [bar.text.splitlines()[-1] for bar in opened.all("#window-regions li")]
    assert shown == [f"{round(100 * float(share))} %" for share in found.region_WK[window]]
    slider = opened.one("#window-choice")
    opened.script("arguments[0].focus()", slider)
    opened.press("arrow_right")
    assert opened.one("#window-title").text != title
    assert slider.get_attribute("aria-valuetext") == opened.one("#window-title").text


def test_attention_over_the_chosen_window_is_read_cell_by_cell(opened: Tab, evidence: Evidence, studied: Study):
    found = studied.explained[evidence.ranked[0].name]
    assert found.attention_WTS is not None
    _, pictures, sounds = found.attention_WTS.shape
    window = int(opened.one("#window-choice").get_attribute("value"))
    opened.script("document.querySelector('#window-attention canvas').focus()")
    opened.press("arrow_left", "arrow_down")
    told = opened.one("#window-attention output").text
    row, column = pictures // 2 - 1, sounds // 2 - 1
    share = 100 * float(found.attention_WTS[window, row, column])
    assert f"picture at 0:{found.image_WT[window, row]:04.1f}" in told
    shown = float(told.split(": ")[1].split(" %")[0])
    assert shown == pytest.approx(share, abs=0.1 + 100 * float(found.attention_WTS.max()) / 255)
    assert f"even: {100 / sounds:.1f} %" in told
    # The sound that the step stands for, of the 4 s up to the end of the window of sound.
    middle = found.audio_end_W[window] - 4 * (1 - (column + 0.5) / sounds)
    assert float(told.split("sound at 0:")[1].split(":")[0]) == pytest.approx(middle, abs=0.15)


def test_the_plane_tells_how_many_frames_lie_where(opened: Tab, evidence: Evidence):
    counts = opened.script(
        "const {plane} = Data.block('report');"
        "return Promise.all(['truth', 'prediction', 'error'].map((name) => Data.unpack(plane[name])))"
        ".then((all) => all.map((one) => one.reduce((sum, count) => sum + count, 0)));"
    )
    assert counts == [evidence.evaluation.result["official"]["frames"]] * 3
    canvas = opened.one("#plane-truth canvas")
    opened.script("arguments[0].focus()", canvas)
    opened.press("arrow_right")
    told = opened.one("#plane-truth output").text
    assert told.startswith("valence 0.03, arousal 0.00: ")
    assert " frame" in told
    assert len(opened.all("#plane canvas")) == 4


def test_regions_are_a_table_that_needs_no_eyes(opened: Tab, evidence: Evidence):
    rows = opened.all("#regions .mix tbody tr")
    assert len(rows) == 10
    for row, phrase in zip(rows, evidence.recipe.regions.phrases, strict=False):
        assert phrase in row.text
        shares = [int(cell.text.splitlines()[0]) for cell in row.find_elements("css selector", ".cell")]
        assert 96 <= sum(shares) <= 104


def test_errors_are_told_apart_by_voice_and_face(opened: Tab, studied: Study):
    shown = [row.text for row in opened.all("#conditions tbody tr")]
    named = ("all frames", "a voice is heard", "no voice is heard", "a face is seen", "no face is seen")
    assert [row.name for row in studied.conditions] == list(named)
    for row, name, found in zip(shown, named, studied.conditions, strict=True):
        assert row.startswith(name)
        assert found.rmse is not None
        assert f"{found.rmse[0]:.3f}" in row
        assert f"{found.rmse[1]:.3f}" in row


def test_the_page_is_for_everybody(opened: Tab):
    assert unnamed(opened) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_enough(opened: Tab, scheme: str):
    opened.media(scheme=scheme)
    opened.settle()
    assert pale(opened) == []


def test_pictures_of_the_report(opened: Tab):
    opened.picture("report-light")
    opened.picture("report-videos", of="#videos")
    opened.media(scheme="dark")
    opened.picture("report-dark")
    opened.media()
    opened.resize(*PHONE, density=2, touch=True)
    opened.settle()
    assert opened.overflow() == 0
    opened.picture("report-phone")
    opened.resize(320, 256, density=4)
    opened.settle()
    assert opened.overflow() == 0


def test_whatever_stands_in_a_run_is_shown_as_text(tab: Tab, tmp_path: Path):
    evidence = gather(hostile_run(tmp_path))
    found = study(evidence)
    write_page(run_page(evidence, found), tmp_path / "page.html")
    tab.open(tmp_path / "page.html")
    tab.one("#chart-regions canvas")
    assert tab.script("return window.stolen") is None
    assert len(tab.all("img")) == 0
    shown = tab.script("return document.body.textContent")
    assert shown.count(EVIL) > 15
    assert LONG in shown
    bars = tab.all("#window-regions .name")
    assert bars[0].get_attribute("textContent") == f"{EVIL} 0"
    assert bars[8].get_attribute("textContent") == LONG
    assert tab.overflow() == 0
    tab.picture("report-hostile")
    tab.resize(*PHONE, density=1)
    tab.settle()
    assert tab.overflow() == 0


def test_numbers_of_two_digits_stand_on_one_line(tab: Tab, tmp_path: Path):
    phrases = [f"face {number}" for number in range(12)]
    store = planted(tmp_path, train=3, validation=2, phrases=phrases)
    grid = {"valence": [-0.6, -0.2, 0.2, 0.6], "arousal": [-0.6, 0, 0.6]}
    evidence = gather(make_run(store, tmp_path / "run", regions={**grid, "phrases": phrases}))
    write_page(run_page(evidence, study(evidence)), tmp_path / "page.html")
    tab.open(tmp_path / "page.html")
    tab.wait(lambda: len(tab.all("#window-regions .badge")) == 12)
    lines = """
        return [...document.querySelectorAll(".badge")].map((badge) => {
          const text = document.createRange();
          text.selectNodeContents(badge);
          return text.getClientRects().length;
        });
    """
    assert set(tab.script(lines)) == {1}


def test_without_scripts_scores_and_tables_are_there(tab: Tab, page: Path):
    tab.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        tab.open(page)
        shown = tab.one("main").text
    finally:
        tab.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    for text in ("Charts need JavaScript", "ridge regression", "soft target against prediction", "a voice is heard"):
        assert text in shown


def test_the_same_run_gives_the_same_page(evidence: Evidence, studied: Study, page: Path, tmp_path: Path):
    write_page(run_page(gather(evidence.run), studied), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()
