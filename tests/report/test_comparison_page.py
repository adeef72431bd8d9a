"""The report of several runs: who is best, by how much, in what they differ, and what is not compared."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.browsing import PHONE, Tab
from tests.cli.calling import call
from tests.planted import plant_store
from tests.report.runs import EVIL, make_run, planted
from vaprompt.evaluation.paired import paired_difference
from vaprompt.report.comparison_page import comparison_page, pairs, standings
from vaprompt.report.evidence import gather
from vaprompt.report.pages.page import shown_score, write_page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with runs a, b and c, of which c is scored on frames of its own."""
    folder = tmp_path_factory.mktemp("compared")
    store = planted(folder, validation=3)
    make_run(store, folder / "a")
    make_run(store, folder / "b", loss={"kl": 0.0}, epochs=3)
    other = plant_store(folder / "other.zarr", validation=3, seconds=20.0)
    make_run(other, folder / "c")
    return folder


@pytest.fixture
def opened(tab: Tab, folder: Path, tmp_path: Path) -> Tab:
    ranked = standings([gather(folder / name) for name in "abc"])
    write_page(comparison_page(ranked, pairs(ranked)), tmp_path / "page.html")
    tab.open(tmp_path / "page.html")
    tab.one("#chart-arousal canvas")
    return tab


def test_the_leaderboard_has_the_best_first(opened: Tab, folder: Path):
    means = {
        name: json.loads((folder / name / "evaluation.json").read_text())["official"]["mean"]
        for name in ("a", "b", "c")
    }
    best_first = sorted(means, key=lambda name: -means[name])
    rows = opened.all("#leaderboard tbody tr")
    assert [row.text.split()[1] for row in rows] == best_first
    for row, name in zip(rows, best_first, strict=True):
        assert f"{means[name]:.3f}" in row.text
    assert f"The best is {best_first[0]}" in opened.one(".lead").text


def test_two_runs_on_the_same_frames_have_a_paired_difference(opened: Tab, folder: Path):
    one, two = (gather(folder / name) for name in "ab")
    better, worse = sorted((one, two), key=lambda run: -run.evaluation.result["official"]["mean"])
    expected = paired_difference(worse.scored, better.scored)["mean"]
    (row,) = opened.all("#differences tbody tr")
    assert row.text.startswith(f"{better.name} {worse.name}")
    assert expected["interval"] is not None
    for number in (expected["difference"], *expected["interval"]):
        assert f"{number:+.3f}".replace("-", "\u2212") in row.text


def test_runs_on_other_frames_are_not_compared_and_it_says_why(opened: Tab, folder: Path):
    notes = [note.text for note in opened.all(".notes .note")]
    for name in "ab":
        (note,) = [text for text in notes if text.startswith((f"{name} and c ", f"c and {name} "))]
        assert "are not compared" in note
        assert "frames of 'video6' are scored in one" in note
    opened.wait(lambda: opened.one("#video-notes").text)
    assert "of the runs have other frames of this video" in opened.one("#video-notes").text


def test_fields_that_differ_stand_side_by_side(opened: Tab):
    rows = {row.text.split()[0]: row.text for row in opened.all("#fields tbody tr")}
    assert set(rows) == {"train.epochs", "train.loss.kl"}
    columns = [cell.text for cell in opened.all("#fields thead th")][1:]
    values = dict(zip(columns, rows["train.loss.kl"].split()[1:], strict=True))
    assert values == {"a": "0.2", "b": "0.0", "c": "0.2"}


def test_traces_of_all_runs_stand_over_one_another(opened: Tab, folder: Path):
    opened.script("document.querySelector('#chart-valence .chart-area').focus()")
    opened.press("end")
    said = opened.script("return document.querySelector('#chart-valence output').textContent")
    name = opened.one("#video-name").text
    for run in "ab":
        video = next(video for video in gather(folder / run).evaluation.videos if video.name == name)
        if len(video.time_F) == 300:
            assert f"{run} {shown_score(float(video.prediction_F2[-1, 0]), 2)}" in said or "c " in said
    assert "annotated" in said
    opened.script("document.querySelector('#curve-score .chart-area').focus()")
    opened.press("home", "end")
    said = opened.script("return document.querySelector('#curve-score output').textContent")
    assert said.startswith("epoch 3: ")
    assert "undefined" in said


def test_pictures_of_the_comparison(opened: Tab):
    opened.picture("comparison-light")
    opened.media(scheme="dark")
    opened.picture("comparison-dark")
    opened.resize(*PHONE, density=2, touch=True)
    opened.settle()
    assert opened.overflow() == 0
    opened.picture("comparison-phone")


def test_a_runs_name_is_text_and_two_alike_are_told_apart(tab: Tab, folder: Path, tmp_path: Path):
    names = []
    for place, source in ((tmp_path / EVIL.replace("/", "_"), "a"), (tmp_path / "x" / "b", "b")):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(folder / source)
        names.append(place)
    ranked = standings([gather(names[0]), gather(names[1]), gather(folder / "c")])
    # A link is resolved: the run is called as its folder is.
    assert {one.name for one in ranked} == {"a", "b", "c"}
    copied = tmp_path / "copies" / EVIL.replace("/", "_")
    copied.mkdir(parents=True)
    for file in (folder / "a").iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    ranked = standings([gather(copied), gather(folder / "b")])
    write_page(comparison_page(ranked, pairs(ranked)), tmp_path / "page.html")
    tab.open(tmp_path / "page.html")
    tab.one("#chart-arousal canvas")
    assert tab.script("return window.stolen") is None
    assert len(tab.all("img")) == 0
    assert EVIL.replace("/", "_") in tab.one("#leaderboard").text


def test_the_command_writes_the_page_and_tells_the_differences(folder: Path, tmp_path: Path):
    told = call("report", folder / "a", folder / "b", "--out", tmp_path / "two.html")
    assert told.code == 0
    assert "By how much the mean is better" in told.out
    assert max(map(len, told.out.splitlines())) <= 80 + len(str(tmp_path))
    whole = call("report", folder / "a", folder / "b", folder / "c", "--out", tmp_path / "three.html", "--json")
    assert whole.code == 3
    assert len(whole.json["differences"]) == 3
    assert sum(one["difference"] is None for one in whole.json["differences"]) == 2
    assert len(whole.json["notes"]) == 2
    means = [run["official"]["mean"] for run in whole.json["runs"]]
    assert means == sorted(means, reverse=True)
    assert (tmp_path / "three.html").stat().st_size == whole.json["bytes"]


def test_the_command_refuses_in_one_line(folder: Path, tmp_path: Path):
    twice = call("report", folder / "a", folder / "a", "--out", tmp_path / "page.html")
    assert twice.code == 2
    assert "a run is given twice" in twice.fault
    suffix = call("report", folder / "a", "--out", tmp_path / "page.pdf")
    assert suffix.code == 2
    assert "name a .html file" in suffix.fault
    (tmp_path / "folder.html").mkdir()
    taken = call("report", folder / "a", "--out", tmp_path / "folder.html")
    assert taken.code == 2
    assert taken.fault.endswith("folder.html: is a folder; name a file in it")
    none = call("report", tmp_path, "--out", tmp_path / "page.html")
    assert none.code == 2
    assert "is not a run" in none.fault
    wrong = call("report", folder / "a", "--smooth", "gauss:3", "--out", tmp_path / "page.html")
    assert wrong.code == 2
    assert not (tmp_path / "page.html").exists()


def test_the_command_reports_one_run_and_says_what_is_missing(folder: Path, tmp_path: Path):
    one = call("report", folder / "a", "--out", tmp_path / "one.html", "--smooth", "median:2")
    assert one.code == 0
    assert "--data DATA" in one.out
    assert "median:2" in (tmp_path / "one.html").read_text()
    gone = tmp_path / "moved"
    gone.mkdir()
    for file in (folder / "a").iterdir():
        (gone / file.name).write_bytes(file.read_bytes())
    facts = json.loads((gone / "run.json").read_text())
    facts["store"]["path"] = str(tmp_path / "gone.zarr")
    (gone / "run.json").write_text(json.dumps(facts))
    lacking = call("report", gone, "--out", tmp_path / "lacking.html", "--json")
    assert lacking.code == 3
    assert "there is no feature store" in lacking.json["notes"][0]
    assert np.isclose((tmp_path / "lacking.html").stat().st_size, lacking.json["bytes"])
