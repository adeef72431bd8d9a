"""All runs below a folder, ranked: scores with their intervals, what differs between them, and whether it matters.

Runs of one variant, which differ in the seed alone, are one line: mean and spread.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from vaprompt.errors import RunError, VapromptError
from vaprompt.evaluation.kept import read_evaluation, read_scores
from vaprompt.evaluation.paired import Contrasts, Scored
from vaprompt.evaluation.protocols import official_series
from vaprompt.evaluation.several import Spread, difference_of_variants, spread
from vaprompt.progress import SILENT, Progress
from vaprompt.report.evidence import differing_among
from vaprompt.report.selecting import Condition, known_fields, rank
from vaprompt.training.runs import FACTS, read_facts

AXES = ("valence", "arousal", "mean")
State = Literal["scored", "trained", "unfinished"]
SEED = re.compile(r"[-_. ]?seed[-_=. ]?\d+$", re.IGNORECASE)
"""The end of a run's name that tells its seed."""


@dataclass(frozen=True)
class Entry:
    """One run."""

    run: Path
    name: str
    """Its folder, seen from the folder that was searched."""
    facts: Mapping[str, Any]
    """run.json."""
    evaluation: Mapping[str, Any] | None
    """evaluation.json; None where it was not evaluated."""

    @property
    def state(self) -> State:
        """How far it is."""
        if self.facts["status"] != "complete":
            return "unfinished"
        return "trained" if self.evaluation is None else "scored"

    @property
    def scores(self) -> Mapping[str, Any]:
        """CCC over every valid frame; of a run that was not evaluated, at the ends of the windows it stopped by."""
        found: Mapping[str, Any] = (
            self.facts.get("best") or dict.fromkeys(AXES) if self.evaluation is None else self.evaluation["official"]
        )
        return found

    @cached_property
    def described(self) -> dict[str, Any]:
        """What makes it what it is, the seed apart, by which runs of one variant are known."""
        recipe = {key: value for key, value in self.facts["recipe"].items() if key != "seed"}
        found = self.evaluation or {}
        return {
            **recipe,
            "features": self.facts["store"]["fingerprints"],
            "dataset": self.facts["store"]["dataset"],
            "stopped by": sorted(set(self.facts.get("videos", {})) - {"train"}),
            "parent": (self.facts.get("parent") or {}).get("run"),
            "scored": {"split": found.get("split"), "every": found.get("every")},
        }

    def predictions(self) -> Scored:
        """Return what it predicted beside the labels.

        Raises:
            RunError: its predictions are missing or damaged.
        """
        return official_series(read_evaluation(self.run).videos)


@dataclass(frozen=True)
class Line:
    """One variant: a run, or several that differ in the seed alone."""

    entries: list[Entry]

    @property
    def name(self) -> str:
        """The run's name; of several, what is left without the seed."""
        names = [entry.name for entry in self.entries]
        stems = {SEED.sub("", name) for name in names}
        return stems.pop() or names[0] if len(names) > 1 and len(stems) == 1 else names[0]

    @property
    def state(self) -> State:
        """How far its runs are, the least of them."""
        states = [entry.state for entry in self.entries]
        return min(states, key=("unfinished", "trained", "scored").index)

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

    name: str
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
    """What could not be read, and why."""


def find_runs(folder: Path) -> Iterator[Path]:
    """Yield the folders below one that hold a run, itself included, in the order of their names."""
    if (folder / FACTS).is_file():
        yield folder
        return
    for path, below, files in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith(".") and not name.endswith(".zarr"))
        if FACTS in files:
            below.clear()  # a run has folders of its own, such as a fine-tuned one's encoders
            yield Path(path)


def read_entry(run: Path, name: str) -> Entry:
    """Return what one run's folder tells of it.

    Raises:
        RunError: it is no run, or damaged.
    """
    facts = read_facts(run)
    try:
        facts["status"], facts["recipe"]["seed"], facts["store"]["fingerprints"], facts["store"]["dataset"]
        return Entry(run, name, facts, read_scores(run) if facts["status"] == "complete" else None)
    except (KeyError, TypeError) as error:
        raise RunError(run / FACTS, fault=f"lacks {error}", remedy="train the run again") from None


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
        where: conditions such as `loss.kl<=0.2` or `name=gru*`; a run has to meet all of them.
        sort: what to rank by: a score, highest first, or `name`, `seconds`, `epochs` or a field, lowest first.
        compare: whether to compare each line with the best, for which all predictions are read.
        progress: who is told how far it is.

    Raises:
        RunError: a folder holds no run, or none meets the conditions.
        ConditionError: a condition is none, or a field is one that no run has.
    """
    entries: list[Entry] = []
    notes: list[str] = []
    for folder in folders:
        found = list(find_runs(folder))
        if not found:
            raise RunError(
                folder, fault="holds no run", remedy="give the folder that 'vaprompt sweep' wrote with --runs"
            )
        for run in found:
            name = run.name if run == folder else str(run.relative_to(folder))
            try:
                entries.append(read_entry(run, name))
            except VapromptError as error:
                notes.append(str(error))
    conditions = [Condition.parse(text, known_fields(entries)) for text in where]
    chosen = [entry for entry in entries if all(condition.holds(entry) for condition in conditions)]
    if entries and not chosen:
        raise RunError(None, fault=f"no run of {len(entries)} meets {' and '.join(where)}", remedy="ask for less")
    lines = rank(_lines(chosen), sort, known_fields(entries))
    fields = differing_among([line.entries[0].described for line in lines]) if lines else {}
    if len({line.store for line in lines}) > 1:
        fields["store"] = [line.store for line in lines]
    behind = compared_with_best(lines, progress) if compare else []
    unscored = [entry.name for entry in chosen if entry.state == "trained"]
    if unscored:
        notes.append(
            f"{len(unscored)} runs are not evaluated, such as {unscored[0]}: their scores are those at the ends of the "
            "validation windows (mend with: vaprompt evaluate RUN)"
        )
    return Leaderboard(lines, fields, behind, notes)


def _lines(entries: Sequence[Entry]) -> list[Line]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        key = json.dumps([entry.described, entry.state == "unfinished"], sort_keys=True, default=str)
        groups.setdefault(key, []).append(entry)
    return [line for group in groups.values() for line in _of_distinct_seeds(group)]


def _of_distinct_seeds(group: list[Entry]) -> list[Line]:
    """Return one line, or, where a seed was trained twice, one for each run: they are copies, and no evidence."""
    seeds = [entry.facts["recipe"]["seed"] for entry in group]
    return [Line(group)] if len(set(seeds)) == len(seeds) else [Line([entry]) for entry in group]


def compared_with_best(lines: Sequence[Line], progress: Progress = SILENT) -> list[Behind]:
    """Return by how much the best scored line's CCC is above each other one's, over the same resampled videos."""
    scored = [line for line in lines if line.state == "scored" and line.spread("mean")["mean"] is not None]
    if len(scored) < 2:
        return []
    best = max(scored, key=lambda line: line.spread("mean")["mean"] or 0.0)
    found = []
    with progress.task("comparing", total=len(scored), unit="variants") as task:
        theirs = [entry.predictions() for entry in best.entries]
        task.advance(1, best.name)
        for line in scored:
            if line is best:
                continue
            try:
                contrasts = difference_of_variants([entry.predictions() for entry in line.entries], theirs)
                found.append(Behind(line.name, contrasts, None))
            except RunError as error:
                found.append(Behind(line.name, None, error.fault))
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
    alone = [entry.name for entry in entries if entry.evaluation is None]
    if alone:
        reason = f"{alone[0]} is not evaluated (vaprompt evaluate {alone[0]})"
    else:
        try:
            contrasts = difference_of_variants([one.predictions()], [other.predictions()])
        except RunError as error:
            reason = error.fault
    return RunsApart(one, other, fields, contrasts, reason, _videos(one, other))


def _videos(first: Entry, second: Entry) -> list[tuple[str, float | None, float | None]]:
    one, other = ((entry.evaluation or {}).get("videos", {}) for entry in (first, second))
    both = [(name, one[name]["mean"], other[name]["mean"]) for name in sorted({*one} & {*other})]

    def apart(item: tuple[str, float | None, float | None]) -> float:
        return -1.0 if item[1] is None or item[2] is None else abs(item[2] - item[1])

    return sorted(both, key=apart, reverse=True)
