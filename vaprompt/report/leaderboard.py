"""All runs below a folder, ranked: scores with their intervals, what differs between them, and whether it matters.

Runs of one variant, which differ in the seed alone, are one line: mean and spread.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vaprompt.errors import RunError, VapromptError
from vaprompt.evaluation.paired import Contrasts
from vaprompt.evaluation.several import Spread, difference_of_variants, spread
from vaprompt.progress import SILENT, Progress
from vaprompt.report.entries import Entry, State, find_runs, read_entry
from vaprompt.report.evidence import differing_among
from vaprompt.report.selecting import Condition, known_fields, rank

SEED = re.compile(r"[-_. ]?seed[-_=. ]?\d+$", re.IGNORECASE)
"""The end of a run's name that tells its seed."""


@dataclass(frozen=True)
class Line:
    """One variant: a run, or several that differ in the seed alone."""

    entries: list[Entry]
    name: str
    """The run's; of several, what is left without the seed, or the first one's where that is another line's name."""

    @property
    def state(self) -> State:
        """How far its runs are, the least of them."""
        states = [entry.state for entry in self.entries]
        return min(states, key=("pruned", "unfinished", "trained", "scored").index)

    def spread(self, axis: str) -> Spread:
        """Return one score's mean and deviation over the seeds."""
        return spread([entry.scores.get(axis) for entry in self.entries])

    def subset(self, axis: str) -> Spread:
        """Return the same over the paper's frames."""
        return spread([(entry.evaluation or {}).get("paper_subset", {}).get(axis) for entry in self.entries])

    @property
    def interval(self) -> list[float] | None:
        """Where the mean would lie with other videos; None of several seeds, and where it is not known."""
        if len(self.entries) > 1 or self.entries[0].evaluation is None:
            return None
        found: list[float] | None = self.entries[0].evaluation["interval"]["official"]["mean"]
        return found

    @property
    def seconds(self) -> float | None:
        """Of training, the mean over the seeds; None where it was not noted down."""
        return spread([entry.facts.get("seconds") for entry in self.entries])["mean"]

    @property
    def epochs(self) -> float | None:
        """Trained, the mean over the seeds."""
        return spread([entry.facts.get("epochs") for entry in self.entries])["mean"]

    @property
    def store(self) -> str:
        """Where its store was."""
        return str(self.entries[0].facts["store"]["path"])

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs."""
        return [int(entry.facts["recipe"].get("seed", 0)) for entry in self.entries]


@dataclass(frozen=True)
class Behind:
    """By how much the first line is better than another."""

    line: Line
    contrasts: Contrasts | None
    reason: str | None
    """Why they are not compared."""


@dataclass(frozen=True)
class Leaderboard:
    """The runs below a folder."""

    lines: list[Line]
    """Best first, unless another order was asked for."""
    fields: dict[str, list[Any]]
    """What differs between the lines, and each line's value."""
    behind: list[Behind] = field(default_factory=list)
    """Every other scored line against the best one."""
    notes: list[str] = field(default_factory=list)
    """What could not be read, and why, and what to know of the scores."""
    lacking: bool = False
    """Whether there are runs that could not be read."""


def leaderboard(
    folders: Sequence[Path],
    *,
    where: Sequence[str] = (),
    sort: str = "mean",
    compare: bool = True,
    progress: Progress = SILENT,
) -> Leaderboard:
    """Return the runs below folders, those of one variant together, ranked and compared.

    Args:
        folders: to search; a run counts as well.
        where: conditions such as `loss.kl<=0.2` or `name=gru*`, names as seen from each folder; a run has to meet all
            of them.
        sort: what to rank by: a score, highest first, or `name`, `seconds`, `epochs` or a field, lowest first.
        compare: whether to compare each line with the best, for which all predictions are read.
        progress: who is told how far it is.

    Raises:
        RunError: a folder holds no run, none can be read, or none meets the conditions.
        ConditionError: a condition is none, or a field is one that no run has.
    """
    entries, notes = _read(folders)
    lacking = bool(notes)
    conditions = [Condition.parse(text, known_fields(entries)) for text in where]
    chosen = [entry for entry in entries if all(condition.holds(entry) for condition in conditions)]
    if not chosen:
        raise RunError(None, fault=f"no run of {len(entries)} meets {' and '.join(where)}", remedy="ask for less")
    lines = rank(_lines(_called_apart(chosen)), sort, known_fields(entries))
    behind = compared_with_best(lines, progress) if compare else []
    return Leaderboard(lines, _differing(lines), behind, notes + _notes(lines), lacking)


def _read(folders: Sequence[Path]) -> tuple[list[Entry], list[str]]:
    """Return the runs below folders, each once, and why others cannot be read."""
    found: dict[Path, tuple[Path, str]] = {}
    for folder in folders:
        runs = list(find_runs(folder))
        if not runs:
            fault = "holds no run" if folder.exists() else "holds no run: there is no such folder"
            raise RunError(folder, fault=fault, remedy="give the folder that 'vaprompt sweep' wrote with --runs")
        for run in runs:
            # Folders may lie in one another.
            whole = run.resolve()
            found.setdefault(whole, (run, whole.name if run == folder else str(run.relative_to(folder))))
    entries, faults = [], []
    for run, name in found.values():
        try:
            entries.append(read_entry(run, name))
        except VapromptError as error:
            faults.append(error)
    if not entries:
        raise faults[0]
    return entries, [str(fault) for fault in faults]


def _called_apart(entries: list[Entry]) -> list[Entry]:
    """Return runs so that no two have one name, as runs below different folders may have."""
    if len({entry.name for entry in entries}) == len(entries):
        return entries
    above = os.path.commonpath([entry.run.absolute() for entry in entries])
    return [replace(entry, name=str(entry.run.absolute().relative_to(above))) for entry in entries]


def _differing(lines: Sequence[Line]) -> dict[str, list[Any]]:
    """Return what differs between lines; of what they were scored on, only between those that were."""
    described = [line.entries[0].described for line in lines]
    scored = next((one["scored"] for one in described if one["scored"]["split"] is not None), None)
    alike = [one if one["scored"]["split"] is not None else {**one, "scored": scored} for one in described]
    fields = differing_among(alike)
    for key in fields:
        if key.startswith("scored."):
            fields[key] = [one["scored"][key.removeprefix("scored.")] for one in described]
    if len({line.store for line in lines}) > 1:
        fields["store"] = [line.store for line in lines]
    return fields


def _notes(lines: Sequence[Line]) -> list[str]:
    notes = []
    trained = [entry for line in lines for entry in line.entries if entry.state == "trained"]
    folds = [entry.name for entry in trained if entry.is_fold]
    unscored = [entry.name for entry in trained if not entry.is_fold]
    if folds:
        notes.append(
            f"{len(folds)} runs are folds of a cross-validation, such as {folds[0]}: their scores are those of the "
            "videos that each stopped by; crossvalidation.json has those of the videos left out"
        )
    if unscored:
        notes.append(
            f"{len(unscored)} runs are not evaluated, such as {unscored[0]}: their scores are those at the ends of the "
            "validation windows (mend with: vaprompt evaluate RUN)"
        )
    scored = [line.entries[0].described["scored"] for line in lines if line.state == "scored"]
    if len({(one["split"], one["videos"]) for one in scored}) > 1:
        notes.append("not all runs are scored on the same videos: their order says little")
    return notes


def _lines(entries: Sequence[Entry]) -> list[Line]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        key = json.dumps([entry.described, entry.state], sort_keys=True, default=str)
        groups.setdefault(key, []).append(entry)
    parts = [part for group in groups.values() for part in _of_distinct_seeds(group)]
    stems = [_stem(part) for part in parts]
    alike = Counter(stems)
    return [Line(part, stem if alike[stem] == 1 else part[0].name) for part, stem in zip(parts, stems, strict=True)]


def _stem(entries: Sequence[Entry]) -> str:
    """Return what runs' names have in common besides the seed; of a single run, its name."""
    stems = {SEED.sub("", entry.name).rstrip("/") for entry in entries}
    return stems.pop() or entries[0].name if len(entries) > 1 and len(stems) == 1 else entries[0].name


def _of_distinct_seeds(group: list[Entry]) -> list[list[Entry]]:
    """Return one group, or, where a seed was trained twice, one for each run: they are copies, and no evidence."""
    seeds = [entry.facts["recipe"]["seed"] for entry in group]
    return [group] if len(set(seeds)) == len(seeds) else [[entry] for entry in group]


def compared_with_best(lines: Sequence[Line], progress: Progress = SILENT) -> list[Behind]:
    """Return by how much the best scored line's CCC is above each other one's, over the same resampled videos."""
    scored = [line for line in lines if line.state == "scored" and line.spread("mean")["mean"] is not None]
    if len(scored) < 2:
        return []
    best = max(scored, key=lambda line: line.spread("mean")["mean"] or 0.0)
    others = [line for line in scored if line is not best]
    found = []
    with progress.task("comparing", total=len(scored), unit="variants") as task:
        try:
            theirs = [entry.predictions() for entry in best.entries]
        except RunError as error:
            return [Behind(line, None, str(error)) for line in others]
        task.advance(1, best.name)
        for line in others:
            try:
                contrasts = difference_of_variants([entry.predictions() for entry in line.entries], theirs)
                found.append(Behind(line, contrasts, None))
            except RunError as error:
                found.append(Behind(line, None, str(error)))
            task.advance(1, line.name)
    return found


@dataclass(frozen=True)
class RunsApart:
    """How two runs differ."""

    first: Entry
    second: Entry
    fields: dict[str, list[Any]]
    """What differs in their recipes, features and data sets, and in what they were scored on: both values."""
    contrasts: Contrasts | None
    """The second's CCC less the first's, over the same resampled videos."""
    reason: str | None
    """Why their scores are not compared."""
    videos: list[tuple[str, float | None, float | None]]
    """Each video's mean CCC in both, those first that differ most."""


def runs_apart(first: Path, second: Path) -> RunsApart:
    """Return how two runs differ.

    Raises:
        RunError: one is no run, or damaged.
    """
    one, other = entries = [read_entry(run, str(run)) for run in (first, second)]
    fields = differing_among([{**entry.described, "seed": entry.facts["recipe"]["seed"]} for entry in entries])
    stores = [str(entry.facts["store"]["path"]) for entry in entries]
    if stores[0] != stores[1]:
        fields["store"] = stores
    contrasts, reason = None, None
    alone = [entry for entry in entries if entry.state != "scored"]
    if alone and alone[0].state == "unfinished":
        reason = f"{alone[0].name} is not finished"
    elif alone and alone[0].state == "pruned":
        reason = f"{alone[0].name} was stopped early by its search"
    elif alone and alone[0].is_fold:
        reason = f"{alone[0].name} is a fold of a cross-validation: crossvalidation.json beside it has its scores"
    elif alone:
        reason = f"{alone[0].name} is not evaluated (vaprompt evaluate {alone[0].name})"
    else:
        try:
            contrasts = difference_of_variants([one.predictions()], [other.predictions()])
        except RunError as error:
            reason = str(error)
    return RunsApart(one, other, fields, contrasts, reason, _videos(one, other))


def _videos(first: Entry, second: Entry) -> list[tuple[str, float | None, float | None]]:
    one, other = ((entry.evaluation or {}).get("videos", {}) for entry in (first, second))
    both = [(name, one[name]["mean"], other[name]["mean"]) for name in sorted({*one} & {*other})]

    def apart(item: tuple[str, float | None, float | None]) -> float:
        return -1.0 if item[1] is None or item[2] is None else abs(item[2] - item[1])

    return sorted(both, key=apart, reverse=True)
