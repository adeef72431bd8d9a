"""The pictures of a run for a paper: traces, plane, curves.

Axes: F frames of a video, B bins of an axis; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.lines import Line2D

from vaprompt.errors import RunError
from vaprompt.evaluation.protocols import Judged, official
from vaprompt.evaluation.smoothing import NONE
from vaprompt.report.densities import densities
from vaprompt.report.evidence import Evidence
from vaprompt.report.lettering import drawable, fitted, measured
from vaprompt.report.lines import draw_line
from vaprompt.report.printing import HEAT, INCHES, OTHER, PREDICTED, TEXT, TRUE, Width, printed

DIMENSIONS = ("valence", "arousal")
SHOWN = 3
"""Videos in a picture of traces, where none is named: the worst, the middle and the best."""
TOP, BOTTOM, LEFT, RIGHT, BETWEEN = 0.38, 0.36, 0.42, 0.1, 0.4
"""Inches around panels of traces, and from one down to the next: laid out by their writings they would take minutes."""
BESIDE = 40
"""Points of a trace's width that are beside its panel, and not below its title."""
ANNOTATED_LINE: dict[str, Any] = {"color": TRUE, "linewidth": 1.5}
PREDICTED_LINE: dict[str, Any] = {"color": PREDICTED, "linewidth": 0.8}


def print_traces(
    evidence: Evidence, target: Path, *, width: Width = "single", videos: Sequence[str] = (), smooth: bool = False
) -> list[str]:
    """Draw predicted against annotated traces; return the names of the videos that are shown.

    Args:
        evidence: the run.
        target: a .svg, .pdf or .png file.
        width: of the paper's column.
        videos: whose; by default the worst, the middle and the best.
        smooth: draw the smoothed predictions; the CCC is theirs, then.

    Raises:
        RunError: a video was not scored; the nearest name is told.
        TargetError: the file cannot be written.
    """
    chosen = _chosen(evidence, videos)
    single = width == "single"
    rows = len(chosen) * (2 if single else 1)
    high = 0.46 if single else 0.64
    height = TOP + (high + BETWEEN) * rows - BETWEEN + BOTTOM
    with printed(target, width, height, arranged=True) as figure:
        places = {
            "left": LEFT / INCHES[width],
            "right": 1 - RIGHT / INCHES[width],
            "top": 1 - TOP / height,
            "bottom": BOTTOM / height,
            "hspace": BETWEEN / high,
            "wspace": 0.1,
        }
        panels = figure.subplots(rows, 1 if single else 2, sharey="row", squeeze=False, gridspec_kw=places)
        for row, video in zip(panels.reshape(len(chosen), 2), chosen, strict=True):
            shown = evidence.smooth[video.name] if smooth else video
            for axis, dimension in enumerate(DIMENSIONS):
                _draw_trace(row[axis], shown, axis, dimension)
            row[0].set_title(_heading(shown, width), loc="left", parse_math=False)
        for panel in panels[-1]:
            panel.set_xlabel("time (s)")
        filtered = smooth and evidence.smoothing != NONE
        predicted = f"predicted, {evidence.smoothing}" if filtered else "predicted"
        handles = [
            Line2D([], [], label="annotated", **ANNOTATED_LINE),
            Line2D([], [], label=predicted, **PREDICTED_LINE),
        ]
        corner = (1 - RIGHT / INCHES[width], 1 - 0.04 / height)
        figure.legend(handles=handles, loc="upper right", bbox_to_anchor=corner, ncols=2, borderpad=0, borderaxespad=0)
    return [video.name for video in chosen]


def print_plane(evidence: Evidence, target: Path, *, width: Width = "single") -> None:
    """Draw how many frames lie where on the plane: annotation, prediction, error, and arrows from one to the other.

    Raises:
        TargetError: the file cannot be written.
    """
    truths, predictions = ([series[part] for series in evidence.scored] for part in (2, 1))
    found = densities(np.concatenate(predictions), np.concatenate(truths))
    shape = (2, 2) if width == "single" else (1, 4)
    side = INCHES[width] / shape[1]
    with printed(target, width, side * shape[0] * 0.98 + 0.1) as figure:
        panels = figure.subplots(*shape, squeeze=False).ravel()
        centres = evidence.recipe.regions.centres_K2()
        for panel, title, count_BB in zip(
            panels, ("annotation", "prediction"), (found.truth_BB, found.prediction_BB), strict=False
        ):
            _draw_density(panel, count_BB, 1.0, title)
            panel.plot(centres[:, 0], centres[:, 1], "+", color=TRUE, markersize=4, markeredgewidth=0.9)
        _draw_density(panels[2], found.error_BB, found.reach, "error", ("error in valence", "error in arousal"))
        _draw_arrows(panels[3], found.arrows)


def print_curves(evidence: Evidence, target: Path, *, width: Width = "single") -> None:
    """Draw the training's loss and the score that decides when to stop, epoch by epoch.

    Raises:
        RunError: the run has no metrics.jsonl.
        TargetError: the file cannot be written.
    """
    if not evidence.history:
        raise RunError(evidence.run, fault="has no metrics.jsonl", remedy="restore it, or train the run again")
    epoch = [line["epoch"] for line in evidence.history]
    stopping = evidence.stopping
    shape = (2, 1) if width == "single" else (1, 2)
    with printed(target, width, 3.2 if width == "single" else 2.0) as figure:
        losses, scores = figure.subplots(*shape, sharex=True).ravel()
        looks: list[tuple[str, dict[str, Any]]] = [
            ("loss", {"color": PREDICTED, "linestyle": "-"}),
            ("ccc", {"color": TRUE, "linestyle": "--"}),
            ("kl", {"color": OTHER, "linestyle": ":"}),
        ]
        for name, look in looks:
            label = {"loss": "loss", "ccc": "CCC part", "kl": "KL part"}[name]
            _draw_curve(losses, epoch, [line.get("train", {}).get(name) for line in evidence.history], label, look)
        for (_, look), name in zip(looks, ("mean", *DIMENSIONS), strict=True):
            _draw_curve(scores, epoch, [line.get(stopping, {}).get(name) for line in evidence.history], name, look)
        losses.set_ylabel("training loss")
        scores.set_ylabel(drawable(f"CCC, {stopping}"), parse_math=False)
        for panel in (losses, scores):
            best = evidence.facts.get("best_epoch")
            if isinstance(best, int):
                panel.axvline(best, color="0.6", linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
            panel.legend(loc="best")
            panel.xaxis.get_major_locator().set_params(integer=True)
        scores.set_xlabel("epoch")
        if width == "double":
            losses.set_xlabel("epoch")


def _chosen(evidence: Evidence, videos: Sequence[str]) -> list[Judged]:
    ranked = evidence.ranked
    if not videos:
        places = np.unique(np.linspace(0, len(ranked) - 1, min(SHOWN, len(ranked))).round().astype(int))
        return [ranked[place] for place in places]
    known = {video.name: video for video in ranked}
    for name in videos:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise RunError(evidence.run, fault=f"has no scores of a video '{name}'", remedy=f"nearest is '{near[0]}'")
    return [known[name] for name in videos]


def _heading(video: Judged, width: Width) -> str:
    """Return a video's name and the CCC of the line that is shown; where there is no room, the name is shortened."""
    mean = official([video])["mean"]
    score = f" (CCC {'undefined' if mean is None else f'{mean:z.2f}'})"
    panel = 72 * INCHES[width] / (1 if width == "single" else 2) - BESIDE
    return fitted(video.name, panel - measured(score, TEXT), TEXT) + score


def _draw_trace(panel: Axes, video: Judged, axis: int, dimension: str) -> None:
    truth_F = np.where(video.valid_F, video.truth_F2[:, axis], np.nan).astype(np.float64)
    panel.axhline(0, color="0.85", linewidth=0.6, zorder=0)
    predicted_F = video.prediction_F2[:, axis].astype(np.float64)
    draw_line(panel, video.time_F, truth_F, **ANNOTATED_LINE)
    draw_line(panel, video.time_F, predicted_F, **PREDICTED_LINE)
    panel.set_ylim(-1.05, 1.05)
    panel.set_yticks((-1, 0, 1))
    panel.set_ylabel(dimension)


def _draw_density(
    panel: Axes, count_BB: np.ndarray, reach: float, title: str, names: tuple[str, str] = DIMENSIONS
) -> None:
    shown_BB = np.ma.masked_equal(count_BB, 0)
    norm = LogNorm(vmin=1, vmax=max(int(count_BB.max()), 2))
    shades = ListedColormap(colormaps[HEAT](np.linspace(0.3, 1, 256)))  # a single frame is to be seen on white
    panel.imshow(shown_BB, origin="lower", extent=(-reach, reach, -reach, reach), cmap=shades, norm=norm)
    _frame(panel, reach, title, names)


def _draw_arrows(panel: Axes, arrows: Sequence[tuple[float, float, float, float, int]]) -> None:
    for valence, arousal, to_valence, to_arousal, _ in arrows:
        panel.annotate(
            "",
            (to_valence, to_arousal),
            (valence, arousal),
            arrowprops={
                "arrowstyle": "->",
                "color": PREDICTED,
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 0,
                "mutation_scale": 5,
            },
        )
    panel.plot([arrow[0] for arrow in arrows], [arrow[1] for arrow in arrows], ".", color=TRUE, markersize=2)
    panel.set_aspect("equal")
    _frame(panel, 1.0, "annotation to prediction", DIMENSIONS)


def _frame(panel: Axes, reach: float, title: str, names: tuple[str, str]) -> None:
    panel.axhline(0, color="0.8", linewidth=0.5, zorder=0)
    panel.axvline(0, color="0.8", linewidth=0.5, zorder=0)
    panel.set_xlim(-reach, reach)
    panel.set_ylim(-reach, reach)
    ticks = (-reach, 0, reach)
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.set_title(title)
    panel.set_xlabel(names[0], labelpad=0)
    panel.set_ylabel(names[1], labelpad=-2)


def _draw_curve(
    panel: Axes, epoch: Sequence[int], values: Sequence[float | None], label: str, look: dict[str, Any]
) -> None:
    known = [np.nan if value is None else value for value in values]
    panel.plot(epoch, known, label=label, linewidth=1.1, marker=".", markersize=3, **look)
