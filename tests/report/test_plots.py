"""Pictures of traces: they appear whole or not at all, and draw what they are given."""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from vaprompt.errors import TargetError
from vaprompt.report.plots import TRUE, Trace, plot_traces, traces_figure


def trace(frames: int, *, annotated: bool = True, name: str = "video_$1$_<right>") -> Trace:
    time_F = np.arange(frames) / 25
    true_F2 = np.stack([np.sin(time_F), np.cos(time_F)], axis=1).astype(np.float32)
    valid_F = np.ones(frames, bool)
    valid_F[frames // 3 : frames // 2] = False
    true_F2[~valid_F] = -5
    predicted_F2 = np.zeros((frames, 2), np.float32)
    return Trace(name, time_F, predicted_F2, true_F2, valid_F) if annotated else Trace(name, time_F, predicted_F2)


@pytest.mark.parametrize("frames", [1, 2, 500, 20_000])
@pytest.mark.parametrize("annotated", [True, False])
def test_a_picture_is_drawn_for_any_length(tmp_path: Path, frames: int, annotated: bool):
    target = tmp_path / "new folder" / "traces.png"
    plot_traces(target, [trace(frames, annotated=annotated)], title="a $run$", note="drawn faces only")
    with Image.open(target) as picture:
        assert picture.width > 1000
    assert [path.name for path in target.parent.iterdir()] == ["traces.png"]


def test_frames_without_a_face_are_marked_even_a_single_one(tmp_path: Path):
    seen = trace(200, annotated=False)
    gone = [Trace(seen.name, seen.time_F, seen.predicted_F2, face_F=np.arange(200) != 100)]
    there = [Trace(seen.name, seen.time_F, seen.predicted_F2, face_F=np.ones(200, bool))]
    for name, traces in (("gone", gone), ("there", there), ("plain", [seen])):
        plot_traces(tmp_path / f"{name}.svg", traces, title="a")
    assert "no face" in (tmp_path / "gone.svg").read_text()
    assert "no face" not in (tmp_path / "there.svg").read_text() + (tmp_path / "plain.svg").read_text()


def test_gaps_are_drawn_at_once_however_many_there_are():
    seen = trace(2000, annotated=False)
    few, many = (traces_figure([replace(seen, face_F=np.arange(2000) % every != 1)], title="a") for every in (1000, 2))
    assert len(many.findobj()) == len(few.findobj())


@pytest.mark.parametrize("frames", [1, 2, 60, 30_000])
def test_a_frame_without_a_neighbour_is_a_dot(frames: int):
    """Of the annotation: a line alone would draw nothing of it."""
    alone_F = np.arange(frames) % max(frames // 6, 2) == 0
    base = replace(trace(frames), true_F2=np.full((frames, 2), 0.5, np.float32), valid_F=alone_F)
    nothing, something = (
        _coloured(traces_figure([replace(base, valid_F=valid_F), replace(base, valid_F=~alone_F)], title="a"))
        for valid_F in (np.zeros(frames, bool), alone_F)
    )
    assert something > nothing + 2 * 5 * alone_F.sum()


def test_the_axis_of_a_single_frame_begins_at_its_time():
    figure = traces_figure([trace(1)], title="a")
    assert all(panel.get_xlim()[0] == 0 < panel.get_xlim()[1] for panel in figure.axes)


def _coloured(figure: Figure) -> int:
    """Return how many dots of a picture have the colour of annotations."""
    figure.canvas.draw()
    colour = np.round(255 * np.array(to_rgb(TRUE["color"])))
    return int((np.asarray(figure.canvas.buffer_rgba())[..., :3] == colour).all(axis=-1).sum())


def test_every_trace_has_its_row(tmp_path: Path):
    one, three = tmp_path / "one.png", tmp_path / "three.png"
    plot_traces(one, [trace(100)], title="one")
    plot_traces(three, [trace(100), trace(50), trace(80, annotated=False)], title="three")
    with Image.open(one) as low, Image.open(three) as high:
        assert high.height > 1.8 * low.height


@pytest.mark.parametrize(
    "name",
    ["video1", "a-video-with-a-long-name_" * 8, "words " * 30, "W" * 120],
    ids=["short", "long", "words", "wide"],
)
@pytest.mark.parametrize("rows", [1, 6])
def test_no_writing_lies_on_another_or_is_cut_off(name: str, rows: int):
    everything = [replace(trace(200, name=name), face_F=np.arange(200) != 100) for _ in range(rows)]
    title = "validation: official mean CCC 0.86 (0.80 to 0.90 with other videos, 95 %), 6 of 80 videos, best first"
    figure = traces_figure(everything, title=f"{title} {name}", note=f"a remark {name} " * 3)
    figure.canvas.draw()
    # Without the numbers at the axes, of which some are beyond their ends and never drawn.
    writings = [found for found in figure.findobj(Text) if any(sign.isalpha() for sign in found.get_text())]
    assert len(writings) == 2 + 4 + 2 + 3 * rows  # title, remark; legend; time twice; name, valence, arousal
    boxes = [(found.get_text(), found.get_window_extent()) for found in writings]
    whole = figure.bbox
    for text, box in boxes:
        inside = whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1
        assert inside, text
    for index, (text, box) in enumerate(boxes):
        for other, beside in boxes[index + 1 :]:
            assert not box.overlaps(beside), (text, other)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (os.fsdecode(b"caf\xe9.mp4"), r"caf\udce9.mp4"),
        ("日本 café.mp4", r"\u65e5\u672c café.mp4"),
        ("a\tb\x1b.mp4", r"a\tb\x1b.mp4"),
        ("\U0001f9d1.mp4", r"\U0001f9d1.mp4"),
    ],
    ids=["bytes", "ideographs", "controls", "emoji"],
)
def test_letters_that_no_font_has_are_shown_as_escapes(tmp_path: Path, name: str, shown: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_traces(tmp_path / "a.svg", [trace(30, name=name)], title=name, note=name)
        figure = traces_figure([trace(30, name=name)], title=name, note=name)
    assert [found.get_text() for found in figure.findobj(Text)].count(shown) == 3


def test_an_svg_keeps_the_names_as_they_are(tmp_path: Path):
    plot_traces(tmp_path / "a.svg", [trace(30)], title="run", note="note")
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_a_format_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(TargetError, match=r"use \.png or \.svg"):
        plot_traces(tmp_path / "a.jpeg", [trace(30)], title="run")
    assert not list(tmp_path.iterdir())


def test_no_trace_is_a_mistake_of_the_caller(tmp_path: Path):
    with pytest.raises(ValueError, match="no trace"):
        plot_traces(tmp_path / "a.png", [], title="run")


def test_an_unwritable_target_is_told_in_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError) as caught:
        plot_traces(tmp_path / "file" / "a.png", [trace(30)], title="run")
    assert str(tmp_path / "file") in str(caught.value)
    assert "\n" not in str(caught.value)
