"""How pictures for print look: a paper's column widths, text that stays text, colours for every kind of sight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure

from vaprompt.errors import TargetError
from vaprompt.files import published, require_file

Width = Literal["single", "double"]
INCHES: dict[Width, float] = {"single": 3.25, "double": 6.875}
"""One and two columns of the conference paper that the ABAW challenges ask for."""
FORMATS = (".svg", ".pdf", ".png")
DOTS, MOST_DOTS = 300, 2**16 - 1
"""Of a .png: an inch, and along a side, which is matplotlib's limit."""

# Okabe and Ito's palette; lines differ in lightness, width and dash as well, for print in grey.
TRUE, PREDICTED, OTHER = "#E69F00", "#0072B2", "#CC79A7"
HEAT = "Blues"
"""One hue, whose lightness falls all the way: ordered for every kind of sight, and in grey."""

TEXT, SMALL = 7.5, 6.5
"""Sizes of letters in points: titles and axes' names; numbers and legends."""
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    # Text stays text, to be searched, read out and edited: in SVG by name, in PDF with the font's outlines inside.
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    # The same picture has the same bytes.
    "svg.hashsalt": "vaprompt",
}


@contextmanager
def printed(target: Path, width: Width, height: float, *, arranged: bool = False) -> Iterator[Figure]:
    """Yield a figure as wide as a column and `height` inches high, and publish it when the block ends well.

    Args:
        target: a file of one of `FORMATS`.
        width: of the paper's column.
        height: in inches.
        arranged: the caller gives the panels their places; else these are found by drawing the picture twice.

    Raises:
        TargetError: the suffix is none of `FORMATS`, a .png would be too high, or the file cannot be written.
    """
    require_format(target)
    if target.suffix.lower() == ".png" and height * DOTS > MOST_DOTS:
        raise TargetError(
            target,
            fault=f"would be {height * DOTS:,.0f} dots high, of which a .png may have {MOST_DOTS:,}",
            remedy="show fewer videos, or use .svg or .pdf",
        )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(INCHES[width], height), layout=None if arranged else "constrained")
        yield figure
        dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None, "ModDate": None}}
        with published(target) as aside:
            figure.savefig(aside, format=target.suffix[1:].lower(), dpi=DOTS, metadata=dates.get(target.suffix.lower()))


def require_format(target: Path) -> None:
    """Refuse a target before the work for it is done.

    Raises:
        TargetError: the suffix is none of `FORMATS`, or it cannot be written.
    """
    if target.suffix.lower() not in FORMATS:
        raise TargetError(
            target, fault=f"'{target.suffix}' is no format for a picture", remedy=f"use {', '.join(FORMATS)}"
        )
    require_file(target)
