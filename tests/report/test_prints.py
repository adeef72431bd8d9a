"""Pictures for a paper: of its columns' widths, with text that is text, the same bytes each time."""

import json
import os
import re
import shutil
import warnings
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from tests.cli.calling import call
from tests.report.runs import EVIL, hostile_run, make_run, planted
from vaprompt.errors import RunError, TargetError
from vaprompt.evaluation.smoothing import Smoothing, smoothed
from vaprompt.report.evidence import Evidence, gather
from vaprompt.report.explaining import Explained
from vaprompt.report.lines import COLUMNS, thinned
from vaprompt.report.printing import STYLE, Width
from vaprompt.report.prints import print_curves, print_traces
from vaprompt.report.regions_print import print_regions
from vaprompt.report.studying import Study

KINDS = ("traces", "plane", "regions", "curves")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("printed")
    return make_run(planted(folder, validation=4), folder / "run")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return the figures that a test saves, in order, to measure what is in them."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *given: Any, **named: Any) -> None:
        figures.append(figure)
        save(figure, *given, **named)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def texts(svg: Path) -> str:
    return " ".join(" ".join(text.split()) for text in ET.parse(svg).getroot().itertext())


@pytest.mark.parametrize("kind", KINDS)
def test_each_picture_has_a_columns_width_and_text_that_can_be_searched(made: Path, tmp_path: Path, kind: str):
    for width, inches in (("single", 3.25), ("double", 6.875)):
        out = tmp_path / f"{kind}-{width}.svg"
        told = call("plot", kind, made, "--out", out, "--width", width, "--json")
        assert told.code == 0
        assert told.json["plot"] == str(out)
        root = ET.parse(out).getroot()
        assert root.get("width") == f"{72 * inches:g}pt"
        assert len(list(root.iter("{http://www.w3.org/2000/svg}text"))) > 5
    expected = {
        "traces": ("valence", "arousal", "annotated", "predicted", "CCC"),
        "plane": ("annotation", "prediction", "error in valence"),
        "regions": ("neutral and emotionally ordinary", "predicted region (%)"),
        "curves": ("training loss", "KL part", "CCC, validation", "epoch"),
    }
    for text in expected[kind]:
        assert text in texts(out)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_run_gives_the_same_bytes(made: Path, tmp_path: Path, kind: str):
    for suffix in (".svg", ".pdf"):
        one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
        assert call("plot", kind, made, "--out", one).code == call("plot", kind, made, "--out", two).code == 0
        assert one.read_bytes() == two.read_bytes()


def test_a_pdf_carries_its_fonts_and_a_png_is_fit_for_print(made: Path, tmp_path: Path):
    assert call("plot", "curves", made, "--out", tmp_path / "a.pdf").code == 0
    assert b"/FontFile2" in (tmp_path / "a.pdf").read_bytes()
    assert call("plot", "curves", made, "--out", tmp_path / "a.png", "--width", "double").code == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == pytest.approx(6.875 * 300, abs=1)


def test_videos_are_the_worst_the_middle_and_the_best_or_those_that_are_named(made: Path, tmp_path: Path):
    ranked = list(json.loads((made / "evaluation.json").read_text())["videos"])
    told = call("plot", "traces", made, "--out", tmp_path / "a.svg", "--json")
    assert told.json["videos"] == [ranked[0], ranked[2], ranked[3]]
    named = call(
        "plot", "traces", made, "--out", tmp_path / "b.svg", "--video", ranked[1], "--smooth", "mean:2", "--json"
    )
    assert named.json["videos"] == [ranked[1]]
    assert ranked[1] in texts(tmp_path / "b.svg")
    assert ranked[0] not in texts(tmp_path / "b.svg")
    wrong = call("plot", "traces", made, "--out", tmp_path / "c.svg", "--video", "vidoe7")
    assert wrong.code == 2
    assert "has no scores of a video 'vidoe7'; nearest is 'video7'" in wrong.fault
    assert not (tmp_path / "c.svg").exists()


def test_the_score_is_that_of_the_line_that_is_shown(made: Path, tmp_path: Path):
    evidence = gather(made, Smoothing("gaussian", 1.0))
    video = evidence.ranked[-1]
    truth_F2 = np.repeat(np.sin(np.arange(len(video.time_F)) / 40)[:, None], 2, axis=1).astype(np.float32)
    noise_F2 = np.random.default_rng(1).normal(size=truth_F2.shape).astype(np.float32)
    rough = replace(video, truth_F2=truth_F2, prediction_F2=(truth_F2 + noise_F2).clip(-1, 1))
    evidence = replace(evidence, evaluation=replace(evidence.evaluation, videos=[rough]))
    for smooth, shown, named in (
        (False, rough, "predicted"),
        (True, smoothed(rough, evidence.smoothing), "gaussian:1"),
    ):
        print_traces(evidence, tmp_path / "a.svg", smooth=smooth)
        x, y = shown.prediction_F2[rough.valid_F].astype(float), truth_F2[rough.valid_F].astype(float)
        ccc = 2 * ((x - x.mean(0)) * (y - y.mean(0))).mean(0) / (x.var(0) + y.var(0) + (x.mean(0) - y.mean(0)) ** 2)
        assert f"(CCC {ccc.mean():.2f})" in texts(tmp_path / "a.svg")
        assert named in texts(tmp_path / "a.svg")
        assert ("predicted, gaussian:1" in texts(tmp_path / "a.svg")) is smooth


def test_no_peak_of_a_long_trace_is_lost():
    value_F = np.sin(np.arange(47_435) / 3000)
    value_F[[17, 20_000, 47_434]] = (0.99, -0.98, 0.97)
    value_F[30_000:31_000] = np.nan
    time_P, value_P = thinned(np.arange(47_435) / 30, value_F)
    assert len(time_P) == len(value_P) == 2 * COLUMNS
    assert {0.99, -0.98, 0.97} <= set(value_P[np.isfinite(value_P)].round(6))
    assert (np.diff(time_P) >= 0).all()
    assert np.isnan(value_P).any()
    for time, value in zip(time_P, value_P, strict=True):
        if np.isfinite(value):
            near = np.abs(np.arange(47_435) / 30 - time) < 47_435 / 30 / COLUMNS + 1e-9
            assert np.isclose(value_F[near], value).any()


def test_whatever_a_run_is_called_is_drawn_as_text(tmp_path: Path):
    run = hostile_run(tmp_path)
    text = (run / "evaluation.json").read_text()
    for kind in KINDS:
        told = call("plot", kind, run, "--out", tmp_path / f"{kind}.svg")
        assert told.code == 0, told.err
        assert not list(ET.parse(tmp_path / f"{kind}.svg").getroot().iter("{http://www.w3.org/2000/svg}script"))
    shown = re.sub(r"\s+", " ", texts(tmp_path / "regions.svg"))
    assert "<img src=x" in shown
    assert "very very" in shown
    assert EVIL in json.loads(text)["notes"]


@pytest.mark.parametrize("width", ["single", "double"])
@pytest.mark.parametrize("name", ["W" * 120, "日本語" * 60, os.fsdecode(b"caf\xe9") * 30], ids=["wide", "cjk", "bytes"])
def test_whatever_a_video_is_called_its_score_is_within_the_picture(
    made: Path, tmp_path: Path, drawn: list[Figure], name: str, width: Width
):
    evidence = gather(made)
    video = replace(evidence.ranked[0], name=name)
    renamed = replace(evidence, evaluation=replace(evidence.evaluation, videos=[video]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        print_traces(renamed, tmp_path / "a.png", width=width)
    drawn[0].draw_without_rendering()
    (title,) = [found for found in drawn[0].findobj(Text) if "CCC" in found.get_text()]
    assert re.search(r"… \(CCC -?\d\.\d\d\)$", title.get_text())
    assert title.get_window_extent().x1 <= drawn[0].bbox.x1


@pytest.mark.parametrize("width", ["single", "double"])
def test_no_writing_of_traces_lies_on_another_however_many_there_are(
    made: Path, tmp_path: Path, drawn: list[Figure], width: Width
):
    evidence = gather(made)
    videos = [replace(evidence.ranked[0], name=f"video {number}") for number in range(20)]
    many = replace(evidence, evaluation=replace(evidence.evaluation, videos=videos))
    shown = print_traces(many, tmp_path / "a.svg", width=width, videos=[video.name for video in videos])
    assert shown == [video.name for video in videos]
    with rc_context(STYLE):
        drawn[0].draw_without_rendering()
    require_apart(drawn[0])


def test_a_png_that_would_be_too_high_is_refused(made: Path, tmp_path: Path):
    evidence = gather(made)
    with pytest.raises(TargetError, match=r"dots high.*65,535; show fewer videos, or use \.svg or \.pdf"):
        print_traces(evidence, tmp_path / "a.png", videos=[evidence.ranked[0].name] * 200)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("width", ["single", "double"])
@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (5, 5), (9, 9)], ids=str)
def test_regions_can_be_read_however_many_there_are(
    made: Path, tmp_path: Path, drawn: list[Figure], shape: tuple[int, int], width: Width
):
    count = shape[0] * shape[1]
    evidence, study = mixed_up(gather(made), shape)
    print_regions(evidence, study, tmp_path / "a.png", width=width)
    (figure,) = drawn
    assert figure.get_figwidth() < figure.get_figheight() * 2
    assert figure.get_figheight() < 8.9  # a page
    with rc_context(STYLE):
        figure.draw_without_rendering()
    texts = require_apart(figure)
    named = sum("region of the plane" in " ".join(found.get_text().split()) for found in texts)
    assert named == (count if count <= (9 if width == "single" else 16) else 0)


def require_apart(figure: Figure) -> list[Text]:
    """Return a drawn figure's texts, none of which may lie on another or beyond the edge."""
    texts = [found for found in figure.findobj(Text) if found.get_text() and found.get_visible()]
    # A letter's box is higher than its ink: lines that touch do not lie on one another.
    left_N, low_N, right_N, high_N = np.array([found.get_window_extent().padded(-2).extents for found in texts]).T
    assert min(left_N.min(), low_N.min()) >= 0
    assert right_N.max() <= figure.bbox.x1
    assert high_N.max() <= figure.bbox.y1
    beside_NN = (left_N[:, None] >= right_N) | (low_N[:, None] >= high_N)
    assert (beside_NN | beside_NN.T)[~np.eye(len(texts), dtype=bool)].all()
    return texts


def mixed_up(evidence: Evidence, shape: tuple[int, int]) -> tuple[Evidence, Study]:
    """Return a run with a grid of regions whose phrases differ at their ends alone, and how it mixes them up."""
    count = shape[0] * shape[1]
    phrases = tuple(f"a rather long name of a region of the plane {number}" for number in range(count))
    changes = {"phrases": phrases, "valence": tuple(range(shape[0])), "arousal": tuple(range(shape[1]))}
    regions = evidence.recipe.regions.model_copy(update=changes)
    soft_WK = np.eye(count, dtype=np.float32)
    nothing_W = np.zeros(count)
    explained = Explained(nothing_W, soft_WK, soft_WK, None, None, np.zeros((count, 0)), nothing_W, None)
    recipe = evidence.recipe.model_copy(update={"regions": regions})
    return replace(evidence, recipe=recipe), Study(explained={"video": explained})


def test_what_cannot_be_drawn_is_refused_in_one_line(made: Path, tmp_path: Path):
    for kind in KINDS:
        told = call("plot", kind, made, "--out", tmp_path / "a.gif")
        assert told.code == 2
        assert "'.gif' is no format for a picture; use .svg, .pdf, .png" in told.fault
        (tmp_path / "folder.svg").mkdir(exist_ok=True)
        folder = call("plot", kind, tmp_path, "--out", tmp_path / "folder.svg")
        assert folder.code == 2
        assert folder.fault.endswith("folder.svg: is a folder; name a file in it")
        bare = call("plot", kind, tmp_path, "--out", tmp_path / "a.svg")
        assert bare.code == 2
        assert "is not a run" in bare.fault
    evidence = gather(made)
    with pytest.raises(RunError, match="its regions are not known: because; name its store with --store"):
        print_regions(evidence, Study(notes=["because"]), tmp_path / "a.svg")
    shutil.copytree(made, tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    with pytest.raises(RunError, match=r"has no metrics\.jsonl"):
        print_curves(gather(tmp_path / "run"), tmp_path / "a.svg")


def test_a_single_video_of_a_single_frame_is_drawn(made: Path, tmp_path: Path):
    evidence = gather(made)
    assert print_traces(evidence, tmp_path / "a.svg", videos=["video6"]) == ["video6"]
