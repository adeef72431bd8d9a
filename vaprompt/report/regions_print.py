"""The picture of how a run mixes up regions, for a paper.

Axes: K regions, rows those of the annotation, columns predicted ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes

from vaprompt.errors import RunError
from vaprompt.report.evidence import Evidence
from vaprompt.report.lettering import LEADING, measured, wrapped
from vaprompt.report.printing import HEAT, INCHES, SMALL, Width, printed
from vaprompt.report.run_page import regions_table
from vaprompt.report.studying import Study

MOST_NAMED = 16
"""Regions that are shown with their phrases; more are shown by their numbers alone."""
MOST_LINES = 4
"""Of a phrase."""
LARGEST, SMALLEST = 6.0, 4.0
"""Sizes in points of a cell's number; where there is no room for the smallest, colours alone tell."""
PHRASE: dict[Width, float] = {"single": 86, "double": 172}
"""Points that a line of a phrase may take."""
BESIDE, BELOW, BAR = 36, 30, 34
"""Points that an axis' name and its regions' numbers take, at the left and below, and a scale of colours."""
LOW: dict[Width, float] = {"single": 0.72, "double": 0.55}
"""Height of a picture with phrases by its width, at least."""
STEPS = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class _Plan:
    """How large a picture's parts are, in points."""

    phrases: list[str]
    """Of each region, in lines; none where there is no room."""
    cell: float
    """Width of a cell."""
    height: float
    """Of the picture."""
    number: float | None
    """Size of the numbers in the cells; None: there are none, but a scale of colours."""


def print_regions(evidence: Evidence, study: Study, target: Path, *, width: Width = "single") -> None:
    """Draw for each region of the annotation which regions the prompts gave it to, in per cent.

    Raises:
        RunError: the store is not at hand, so that nothing is known of the regions.
        TargetError: the file cannot be written.
    """
    table = regions_table(evidence, study)
    if table is None:
        reason = study.notes[0] if study.notes else "no window ends at a valid label"
        raise RunError(evidence.run, fault=f"its regions are not known: {reason}", remedy="name its store with --store")
    mixed_KK = 100 * np.array(table["mixed"])
    plan = _plan(table["phrases"], len(f"{mixed_KK.max():.0f}"), width)
    with printed(target, width, plan.height / 72) as figure:
        panel = figure.subplots()
        image = panel.imshow(mixed_KK, cmap=HEAT, vmin=0, vmax=max(float(mixed_KK.max()), 1e-9), aspect="auto")
        if plan.number is None:
            figure.colorbar(image, ax=panel, aspect=40, pad=0.02).outline.set_visible(False)
        else:
            _write_numbers(panel, mixed_KK, plan.number)
        _name_regions(panel, plan, len(mixed_KK))
        panel.set_xlabel("predicted region (%)")
        panel.set_ylabel("annotated region")
        panel.spines[:].set_visible(False)
        panel.tick_params(length=0)


def _plan(phrases: Sequence[str], digits: int, width: Width) -> _Plan:
    """Return a plan with phrases where numbers have room beside them, else with numbers alone, else with colours."""
    count, whole = len(phrases), 72 * INCHES[width] - BESIDE
    cell = (whole - PHRASE[width]) / count
    if count <= MOST_NAMED and (number := _number(cell, digits)) is not None:
        names = [wrapped(phrase, PHRASE[width], SMALL, most=MOST_LINES) for phrase in phrases]
        row = LEADING * SMALL * (1 + max(name.count("\n") for name in names))
        height = max(72 * INCHES[width] * LOW[width], row * count + BELOW)
        return _Plan(names, cell, height, number)
    number = _number(whole / count, digits)
    cell = (whole if number is not None else whole - BAR) / count
    return _Plan([], cell, cell * count + BELOW, number)


def _number(cell: float, digits: int) -> float | None:
    """Return the size of a number that has room in a cell, with a little space to the next one."""
    size = min(LARGEST, cell / (measured("8" * digits, 1, bold=True) + 0.25))
    return size if size >= SMALLEST else None


def _write_numbers(panel: Axes, mixed_KK: Float64[np.ndarray, "K K"], size: float) -> None:
    for (row, column), share in np.ndenumerate(mixed_KK):
        panel.text(
            column,
            row,
            f"{share:.0f}",
            ha="center",
            va="center",
            fontsize=size,
            color="white" if share > 0.6 * mixed_KK.max() else "black",
            fontweight="bold" if row == column else "normal",
        )


def _name_regions(panel: Axes, plan: _Plan, count: int) -> None:
    columns = _every(count, plan.cell, measured(str(count), SMALL) + 3)
    panel.set_xticks([number - 1 for number in columns], [str(number) for number in columns])
    if plan.phrases:
        labels = [f"{phrase}  {number}" for number, phrase in enumerate(plan.phrases, 1)]
        panel.set_yticks(range(count), labels, parse_math=False)
    else:
        panel.set_yticks([number - 1 for number in columns], [str(number) for number in columns])


def _every(count: int, cell: float, room: float) -> list[int]:
    """Return those of the numbers from 1 that have room, at even steps."""
    step = next(step for step in STEPS if step * cell >= room or step == STEPS[-1])
    return [number for number in range(1, count + 1) if number % step == 0]
