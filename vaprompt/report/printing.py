"""How pictures for print look: a paper's column widths, text that stays text, colours for every kind of sight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure

from vaprompt.errors import TargetError
from vaprompt.files import published

Width = Literal["single", "double"]
INCHES: dict[Width, float] = {"single": 3.25, "double": 6.875}
"""One and two columns of the conference paper that the ABAW challenges ask for."""
FORMATS = (".svg", ".pdf", ".png")

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
def printed(target: Path, width: Width, height: float) -> Iterator[Figure]:
    """Yield a figure as wide as a column and `height` inches high, and publish it when the block ends well.

    Raises:
        TargetError: the suffix is none of `FORMATS`, or the file cannot be written.
    """
    require_format(target)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(INCHES[width], height), layout="constrained")
        yield figure
        dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None, "ModDate": None}}
        with published(target) as aside:
            figure.savefig(aside, format=target.suffix[1:].lower(), dpi=300, metadata=dates.get(target.suffix.lower()))


def require_format(target: Path) -> None:
    """Refuse a target before the work for it is done.

    Raises:
        TargetError: the suffix is none of `FORMATS`.
    """
    if target.suffix.lower() not in FORMATS:
        raise TargetError(
            target, fault=f"'{target.suffix}' is no format for a picture", remedy=f"use {', '.join(FORMATS)}"
        )
