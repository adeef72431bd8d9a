"""How a report reads in a terminal. Apart from the command, as the types named here take seconds to import."""

from __future__ import annotations

from typing import Any

from vaprompt.cli.output import print_table, score
from vaprompt.report.report import Report


def report_json(made: Report) -> dict[str, Any]:
    """Return what was made, as plain values."""
    return {
        "report": made.path,
        "bytes": made.bytes,
        "runs": [
            {"run": one.evidence.run, "official": one.official, "paper_subset": one.subset, "interval": one.interval}
            for one in made.ranked
        ]
        or [{"run": run} for run in made.runs],
        "differences": [
            {"better": pair.better, "worse": pair.worse, "difference": pair.contrasts, "not_compared": pair.reason}
            for pair in made.pairs
        ],
        "notes": made.notes,
    }


def print_comparison(made: Report) -> None:
    """Print the leaderboard of several runs, and every two runs' difference."""
    if not made.ranked:
        return
    rows = [(one.name, *(score(one.official[axis]) for axis in ("valence", "arousal", "mean"))) for one in made.ranked]
    print_table(("run", "valence", "arousal", "mean"), rows, title="CCC over every valid frame")
    compared = [(pair.better, pair.worse, pair.contrasts["mean"]) for pair in made.pairs if pair.contrasts is not None]
    if compared:
        differences = [
            (better, worse, score(mean["difference"]), _ends(mean["interval"])) for better, worse, mean in compared
        ]
        title = "By how much the mean is better, 95 % over the same resampled videos"
        print_table(("run", "less", "difference", "interval"), differences, title=title)


def _ends(interval: list[float] | None) -> str:
    return "-" if interval is None else f"{score(interval[0])} to {score(interval[1])}"
