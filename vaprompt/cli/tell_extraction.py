"""How an extraction reads for a person. Apart from `tell`, whose imports take seconds."""

from __future__ import annotations

from collections.abc import Sequence

from vaprompt.datasets.base import Problem
from vaprompt.extraction.pipeline import ExtractionReport

PROBLEMS_SHOWN = 10


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """Return what does not fit together in a data set, the first few of it."""
    lines = [f"{problem.video}: {problem.kind}: {problem.detail}" for problem in problems[:PROBLEMS_SHOWN]]
    if len(problems) > PROBLEMS_SHOWN:
        lines.append(f"and {len(problems) - PROBLEMS_SHOWN} more of the kind; --json lists them all")
    return lines


def extraction_lines(report: ExtractionReport) -> list[str]:
    """Return the counts of an extraction, and why videos failed or are not what would be made now."""
    counts = [
        f"{len(report.done)} videos encoded",
        *([f"{len(report.elsewhere)} by others meanwhile"] if report.elsewhere else []),
        f"{len(report.skipped)} were there before",
        f"{len(report.failed)} failed",
    ]
    lines = [", ".join(counts), *(f"  {video}: {reason}" for video, reason in report.failed.items())]
    if report.changed:
        lines.append(f"{len(report.changed)} made of what has changed since; --refresh makes them again:")
        lines += [f"  {video}: {reason}" for video, reason in report.changed.items()]
    return lines
