"""Pictures of predicted against true valence and arousal over time.

Axes: F frames of a video; the last axis of 2 is (valence, arousal).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline

from vaprompt.errors import TargetError
from vaprompt.files import published
from vaprompt.report.lettering import LEADING, wrapped
from vaprompt.report.lines import draw_line

# Okabe and Ito's palette, told apart with every kind of colour vision; the lines differ in width and lightness as well.
PREDICTED: dict[str, Any] = {"color": "#0072B2", "linewidth": 1.2}
TRUE: dict[str, Any] = {"color": "#E69F00", "linewidth": 2.6}
INVALID = "0.92"
NO_FACE: dict[str, Any] = {"facecolor": "none", "edgecolor": "0.7", "hatch": "////", "linewidth": 0}
DIMENSIONS = ("valence", "arousal")
FORMATS = (".png", ".svg")
DOTS = 120
WIDTH = 11
"""Of a picture, in inches."""
FULL, HALF = 72 * WIDTH - 24, 36 * WIDTH - 56
"""Points that a line of the title or of the small print may take, and one above a panel, less what is beside it."""
TITLE_SIZE, NAME_SIZE, NOTE_SIZE = 12, 9, 8


@dataclass(frozen=True)
class Trace:
    """One video's valence and arousal over time."""

    name: str
    """Shown above the panels."""
    time_F: Float64[np.ndarray, "F"]
    """Seconds from the first frame, ascending."""
    predicted_F2: Float[np.ndarray, "F 2"]
    """Predicted valence and arousal in [-1, 1]."""
    true_F2: Float[np.ndarray, "F 2"] | None = None
    """Annotated valence and arousal; None where there is no annotation."""
    valid_F: Bool[np.ndarray, "F"] | None = None
    """False where the annotation does not count: the true line has a gap there. None: it counts everywhere."""
    face_F: Bool[np.ndarray, "F"] | None = None
    """False where no face was seen and the prediction is interpolated. None: faces were not looked for."""


def plot_traces(target: Path, traces: Sequence[Trace], *, title: str, note: str = "") -> None:
    """Draw each trace as a row of two panels, valence and arousal, and publish the picture at `target`.

    Args:
        target: a .png or .svg file; its folder is made.
        traces: at least one; each is a row.
        title: shown at the top.
        note: small print at the bottom, such as what the encoders know.

    Raises:
        TargetError: the suffix is neither .png nor .svg, or the file cannot be written.
        ValueError: there is no trace.
    """
    if target.suffix not in FORMATS:
        raise TargetError(
            target, fault=f"'{target.suffix}' is no format for a plot", remedy=f"use {' or '.join(FORMATS)}"
        )
    figure = traces_figure(traces, title=title, note=note)
    with published(target) as aside:
        figure.savefig(aside, format=target.suffix[1:], dpi=DOTS)


def traces_figure(traces: Sequence[Trace], *, title: str, note: str = "") -> Figure:
    """Return the picture that `plot_traces` publishes, still to be drawn.

    Raises:
        ValueError: there is no trace.
    """
    if not traces:
        raise ValueError("nothing to draw: no trace")
    heading, remark = wrapped(title, FULL, TITLE_SIZE, bold=True), wrapped(note, FULL, NOTE_SIZE)
    names = [wrapped(trace.name, HALF, NAME_SIZE) for trace in traces]
    height = 1.1 + 1.75 * len(traces) + _more(heading, TITLE_SIZE) + _more(remark, NOTE_SIZE)
    height += sum(_more(name, NAME_SIZE) for name in names)
    figure = Figure(figsize=(WIDTH, height), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(heading, fontsize=TITLE_SIZE, fontweight="bold", x=0.01, ha="left", parse_math=False)
    panels = figure.subplots(len(traces), len(DIMENSIONS), sharey="row", squeeze=False)
    for row, trace, name in zip(panels, traces, names, strict=True):
        for column, dimension in enumerate(DIMENSIONS):
            _draw(row[column], trace, column, dimension)
        row[0].set_title(name, fontsize=NAME_SIZE, loc="left", parse_math=False)
    for panel in panels[-1]:
        panel.set_xlabel("time (s)", fontsize=9)
    annotated = [trace for trace in traces if trace.true_F2 is not None]
    invalid = any(trace.valid_F is not None and not trace.valid_F.all() for trace in annotated)
    faceless = any(trace.face_F is not None and not trace.face_F.all() for trace in traces)
    _add_legend(panels[0, -1], annotated=bool(annotated), invalid=invalid, faceless=faceless)
    if remark:
        figure.supxlabel(remark, fontsize=NOTE_SIZE, color="0.35", parse_math=False)
    return figure


def _more(text: str, size: float) -> float:
    """Return how many inches a text's lines take beyond the first."""
    return text.count("\n") * LEADING * size / 72


def _draw(panel: Axes, trace: Trace, column: int, dimension: str) -> None:
    panel.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    if trace.true_F2 is not None:
        true_F = trace.true_F2[:, column].astype(np.float64)
        if trace.valid_F is not None:
            true_F[~trace.valid_F] = np.nan
            _shade(panel, trace.time_F, ~trace.valid_F, color=INVALID, linewidth=0)
        draw_line(panel, trace.time_F, true_F, **TRUE)
    if trace.face_F is not None:
        _shade(panel, trace.time_F, ~trace.face_F, **NO_FACE)
    draw_line(panel, trace.time_F, trace.predicted_F2[:, column].astype(np.float64), **PREDICTED)
    panel.set_ylim(-1.05, 1.05)
    panel.set_yticks((-1, 0, 1))
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_ylabel(dimension, fontsize=9)


def _shade(panel: Axes, time_F: np.ndarray, where_F: np.ndarray, **looks: Any) -> None:
    """Fill the panel's whole height where it is so, up to the next frame, so that a single frame is seen too."""
    if not where_F.any():
        return
    edge = np.flatnonzero(np.diff(np.concatenate(([False], where_F, [False])).astype(np.int8)))
    until_F = np.append(time_F[1:], time_F[-1])
    spans = [(time_F[first], until_F[behind - 1]) for first, behind in edge.reshape(-1, 2)]
    corners = [corner for left, right in spans for corner in ((left, 0), (left, 1), (right, 1), (right, 0), (left, 0))]
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY] * len(spans)
    # One patch, hatched once: each of thousands of gaps takes as long by itself.
    panel.add_patch(PathPatch(Outline(corners, codes), transform=panel.get_xaxis_transform(), zorder=0, **looks))


def _add_legend(panel: Axes, *, annotated: bool, invalid: bool, faceless: bool) -> None:
    handles: list[Artist] = [Line2D([], [], label="predicted", **PREDICTED)]
    if annotated:
        handles.append(Line2D([], [], label="annotated", **TRUE))
    if invalid:
        handles.append(Patch(color=INVALID, label="marked as invalid"))
    if faceless:
        handles.append(Patch(label="no face: interpolated", **NO_FACE))
    # Above the right panel, which has no name: beside the title it would lie on top of a long one.
    looks: dict[str, Any] = {"ncols": 4, "fontsize": 8, "frameon": False, "borderaxespad": 0.2, "columnspacing": 1.0}
    panel.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), handlelength=1.5, **looks)
