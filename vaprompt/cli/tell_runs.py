"""How a leaderboard reads in a terminal. Apart from the command, as the types named here take seconds to import."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from vaprompt.cli.output import WIDTH, print_lines, print_table, printable, score
from vaprompt.cli.progress import duration
from vaprompt.evaluation.bootstrap import LEVEL
from vaprompt.evaluation.paired import Contrast
from vaprompt.evaluation.several import Spread, differ
from vaprompt.report.entries import AXES, Entry
from vaprompt.report.leaderboard import Leaderboard, Line, RunsApart

WIDE = 4
"""Fields that differ, beyond which they are told line by line and not in columns."""
UNSEEN = 5e-4
"""Differences below which three digits are 0."""
MOST = 8
"""Videos shown of two runs."""


def print_leaderboard(found: Leaderboard) -> None:
    """Print the lines with their scores, what differs between them, and how far they are behind the best."""
    rows = [(line.name, *_scores(line), _span(line), _took(line)) for line in found.lines]
    print_table(("run", "valence", "arousal", "mean", "95 %", "time"), rows, title="CCC over every valid frame")
    if any(len(line.entries) > 1 for line in found.lines):
        print_lines(["±: standard deviation over seeds"])
    _print_fields([line.name for line in found.lines], found.fields)
    compared = [(one.line.name, one.contrasts) for one in found.behind if one.contrasts is not None]
    if compared:
        columns = ("behind the best", "by", f"{LEVEL:.0%} interval", "more than chance?")
        lines = [
            (name, score(contrasts["mean"]["difference"]), _ends(contrasts["mean"]), _verdict(contrasts["mean"]))
            for name, contrasts in compared
        ]
        print_table(columns, lines, title="Mean CCC, over the same resampled videos and seeds")
    stores = {line.store for line in found.lines}
    if len(stores) == 1:
        print_lines([f"store: {stores.pop()}"])
    print_lines(f"{one.line.name} is not compared: {one.reason}" for one in found.behind if one.reason)
    print_lines(line for note in found.notes for line in wrap(f"note: {note}", WIDTH))


def leaderboard_json(found: Leaderboard) -> dict[str, Any]:
    """Return a leaderboard as JSON-ready values."""
    # By a run and not by name: that tells a line from every other one.
    contrasts = {one.line.entries[0].run: one.contrasts for one in found.behind}
    reasons = {one.line.entries[0].run: one.reason for one in found.behind}
    return {
        "runs": [
            {
                "name": line.name,
                "state": line.state,
                "runs": [entry.run for entry in line.entries],
                "seeds": line.seeds,
                "official": {axis: line.spread(axis) for axis in AXES},
                "paper_subset": {axis: line.subset(axis) for axis in AXES},
                "interval": line.interval,
                "seconds": line.seconds,
                "epochs": line.epochs,
                "store": line.store,
                "differs": {key: values[index] for key, values in found.fields.items()},
                "behind_best": contrasts.get(line.entries[0].run),
                "not_compared": reasons.get(line.entries[0].run),
            }
            for index, line in enumerate(found.lines)
        ],
        "notes": found.notes,
    }


def print_leaderboard_csv(found: Leaderboard) -> None:
    """Print a leaderboard as CSV, one line a variant, with a column for each field that differs."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    scores = [f"{axis}{part}" for axis in AXES for part in ("", "_deviation")]
    subset = [f"paper_subset_{axis}" for axis in AXES]
    own = ("name", "state", "seeds", *scores, "interval_low", "interval_high", *subset, "epochs", "seconds", "store")
    fields = [key for key in found.fields if key != "store"]
    writer.writerow((*own, *map(printable, fields)))
    for index, line in enumerate(found.lines):
        spreads = [line.spread(axis) for axis in AXES]
        writer.writerow(
            (
                printable(line.name),
                line.state,
                len(line.entries),
                *(value for found in spreads for value in (found["mean"], found["deviation"])),
                *(line.interval or (None, None)),
                *(line.subset(axis)["mean"] for axis in AXES),
                line.epochs,
                line.seconds,
                printable(line.store),
                *(printable(_plain(found.fields[key][index])) for key in fields),
            )
        )


def print_apart(found: RunsApart) -> None:
    """Print how two runs differ."""
    entries = (found.first, found.second)
    rows = [
        (name, *(score(entry.scores.get(axis)) for axis in AXES), _state(entry))
        for name, entry in zip("AB", entries, strict=True)
    ]
    print_lines(f"{name}: {entry.run}" for name, entry in zip("AB", entries, strict=True))
    print_table(("run", "valence", "arousal", "mean", "scored on"), rows, title="CCC")
    if found.fields:
        lines = [(key, *(_brief(value) for value in values)) for key, values in found.fields.items()]
        print_table(("field", "A", "B"), lines, title="What differs")
    else:
        print_lines(["they do not differ in any field"])
    if found.contrasts is not None:
        lines = [
            (axis, score(contrast["difference"]), _ends(contrast), _verdict(contrast))
            for axis, contrast in ((axis, found.contrasts[axis]) for axis in AXES)  # type: ignore[literal-required]
        ]
        columns = ("CCC", "B less A", f"{LEVEL:.0%} interval", "more than chance?")
        print_table(columns, lines, title=f"Over the same resampled videos, {found.contrasts['videos']} of them")
        videos = [(name, score(one), score(other)) for name, one, other in found.videos[:MOST]]
        left = "" if len(found.videos) <= MOST else f", {MOST} of {len(found.videos)}"
        print_table(("video", "A", "B"), videos, title=f"Mean CCC by video, most different first{left}")
    if found.reason is not None:
        print_lines(wrap(f"the scores are not compared: {found.reason}", WIDTH))


def apart_json(found: RunsApart) -> dict[str, Any]:
    """Return how two runs differ as JSON-ready values."""
    return {
        "runs": [
            {"run": entry.run, "state": entry.state, "official": dict(entry.scores)}
            for entry in (found.first, found.second)
        ],
        "fields": found.fields,
        "difference": found.contrasts,
        "not_compared": found.reason,
        "videos": {name: [one, other] for name, one, other in found.videos},
    }


def _print_fields(names: Sequence[str], fields: dict[str, list[Any]]) -> None:
    """Print what differs: in columns where there is room, else field by field."""
    if not fields or len(names) < 2:
        return
    if len(fields) <= WIDE:
        rows = [(name, *(_brief(values[index]) for values in fields.values())) for index, name in enumerate(names)]
        print_table(("run", *fields), rows, title="What differs")
        return
    told = [
        (name, ", ".join(f"{key}={_brief(values[index])}" for key, values in fields.items()))
        for index, name in enumerate(names)
    ]
    print_table(("run", "what differs"), told)


def _scores(line: Line) -> list[str]:
    return [_spread(line.spread(axis)) for axis in AXES]


def _spread(found: Spread) -> str:
    deviation = found["deviation"]
    return score(found["mean"]) if deviation is None else f"{score(found['mean'])}±{deviation:.3f}"


def _span(line: Line) -> str:
    if line.state != "scored":
        return "not evaluated" if line.state == "trained" else line.state
    if len(line.entries) > 1:
        return f"{len(line.entries)} seeds"
    return "-" if line.interval is None else f"{score(line.interval[0])} to {score(line.interval[1])}"


def _took(line: Line) -> str:
    return "-" if line.seconds is None else duration(line.seconds)


def _state(entry: Entry) -> str:
    told = {"scored": "every valid frame", "trained": "windows' ends", "unfinished": "nothing yet"}
    return told.get(entry.state, "nothing, pruned")


def _ends(contrast: Contrast) -> str:
    interval = contrast["interval"]
    return "-" if interval is None else f"{score(interval[0])} to {score(interval[1])}"


def _verdict(contrast: Contrast) -> str:
    found = differ(contrast)
    if found and abs(contrast["difference"] or 0.0) < UNSEEN:
        return "yes, by < 0.001"  # as runs of the same bits but the last: it is shown as 0.000
    return {None: "not known", True: "yes", False: "no"}[found]


def _brief(value: Any) -> str:
    """Return a value for people to read: of a digest as much as `store info` shows."""
    return re.sub(r"\b(sha256:[0-9a-f]{12})[0-9a-f]{52}\b", r"\1", _plain(value))


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(str(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()  # as in a recipe, and as --where takes it
    return "-" if value is None else str(value)
