"""From runs on disk to the page about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vaprompt.devices import pick_device
from vaprompt.errors import RunError, TargetError
from vaprompt.evaluation.smoothing import Smoothing
from vaprompt.files import require_file
from vaprompt.progress import SILENT, Progress
from vaprompt.report.comparison_page import Pair, Standing, comparison_page, pairs, standings
from vaprompt.report.evidence import gather
from vaprompt.report.pages.page import write_page
from vaprompt.report.run_page import run_page
from vaprompt.report.studying import study

SUFFIXES = (".html", ".htm")


@dataclass(frozen=True)
class Report:
    """A page that was written."""

    path: Path
    bytes: int
    runs: list[Path]
    notes: list[str] = field(default_factory=list)
    """What is not on the page, and why."""
    lacking: bool = False
    """Whether something is not on it that should be."""
    ranked: list[Standing] = field(default_factory=list)
    """Several runs, best first."""
    pairs: list[Pair] = field(default_factory=list)
    """Every two of them."""


def write_report(
    runs: Sequence[Path],
    target: Path,
    *,
    store: Path | str | None = None,
    data: Path | None = None,
    smoothing: Smoothing | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Report:
    """Write the page about one run, or about several side by side.

    Args:
        runs: folders of complete runs that were evaluated.
        target: the page, a .html file; its folder is made.
        store: the store to ask the network about, of one run; by default where it was when the run was trained.
        data: the data set that the store was made of, for the sound, of one run.
        smoothing: the filter of the smoothed traces; by default the one that `evaluate` chose.
        device: `auto`, `cpu`, `cuda`, ...
        progress: who is told how far it is.

    Raises:
        RunError: a run is not complete, or has no predictions (the error says which command makes them).
        StoreError, FingerprintError: the store that is named cannot be used.
        DatasetError, RecipeError: the data set cannot be.
        TargetError: the page cannot be written, or is to have another suffix.
    """
    if target.suffix.lower() not in SUFFIXES:
        raise TargetError(target, fault=f"'{target.suffix}' is no suffix of a page", remedy="name a .html file")
    require_file(target)
    if not runs:
        raise RunError(None, fault="no run is given", remedy="name one or more folders that 'vaprompt train' wrote")
    several = [gather(run, smoothing) for run in runs]
    if len(several) > 1:
        ranked = standings(several)
        compared = pairs(ranked, progress)
        size = write_page(comparison_page(ranked, compared), target)
        notes = [f"{pair.worse} and {pair.better} are not compared: {pair.reason}" for pair in compared if pair.reason]
        return Report(target, size, list(runs), notes, bool(notes), ranked, compared)
    (evidence,) = several
    found = study(evidence, store=store, data=data, device=pick_device(device), progress=progress)
    size = write_page(run_page(evidence, found), target)
    return Report(target, size, list(runs), found.notes, found.lacking)
