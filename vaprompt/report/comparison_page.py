"""`vaprompt report RUN RUN ...`: one page that sets runs side by side: scores, recipes, paired differences, traces.

Axes: F frames of a video; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from vaprompt.errors import RunError
from vaprompt.evaluation.paired import Contrasts, paired_difference, why_not_comparable
from vaprompt.evaluation.protocols import Judged
from vaprompt.progress import SILENT, Progress
from vaprompt.report.evidence import Evidence, differing_fields
from vaprompt.report.pages import packing
from vaprompt.report.pages.page import CHART_SCRIPTS, CHART_STYLES, Page
from vaprompt.report.run_page import SPARK

SCRIPTS = (*CHART_SCRIPTS, "heat.js", "videos.js", "comparison.js")
STYLES = (*CHART_STYLES, "heat.css", "run.css")


@dataclass(frozen=True)
class Standing:
    """One run in the leaderboard."""

    evidence: Evidence
    name: str
    """Its folder's name; its path where two are called alike."""

    @property
    def official(self) -> Mapping[str, Any]:
        """Its scores over every valid frame."""
        found: Mapping[str, Any] = self.evidence.evaluation.result["official"]
        return found

    @property
    def subset(self) -> Mapping[str, Any]:
        """Its scores over the paper's frames."""
        found: Mapping[str, Any] = self.evidence.evaluation.result["paper_subset"]
        return found

    @property
    def interval(self) -> Mapping[str, Any]:
        """Where its official score would lie with other videos."""
        found: Mapping[str, Any] = self.evidence.evaluation.result["interval"]["official"]
        return found


@dataclass(frozen=True)
class Pair:
    """Two runs, the better one second."""

    worse: str
    better: str
    contrasts: Contrasts | None
    """None where they are not compared."""
    reason: str | None
    """Why they are not."""


def standings(several: Sequence[Evidence]) -> list[Standing]:
    """Return the runs, best official mean first, those without one last.

    Raises:
        RunError: a run is given twice.
    """
    if len({one.run.resolve() for one in several}) < len(several):
        raise RunError(None, fault="a run is given twice", remedy="name each run of the report once")
    alike = Counter(one.name for one in several)
    named = [Standing(one, one.name if alike[one.name] == 1 else str(one.run)) for one in several]
    return sorted(
        named, key=lambda one: -np.inf if one.official["mean"] is None else one.official["mean"], reverse=True
    )


def pairs(ranked: Sequence[Standing], progress: Progress = SILENT) -> list[Pair]:
    """Return every two runs' difference, in the order of the leaderboard."""
    found = []
    both = list(combinations(ranked, 2))
    with progress.task("comparing", total=len(both), unit="pairs") as task:
        for better, worse in both:
            reason = _incomparable(worse.evidence, better.evidence)
            contrasts = None if reason else paired_difference(worse.evidence.scored, better.evidence.scored)
            found.append(Pair(worse.name, better.name, contrasts, reason))
            task.advance(1, f"{worse.name} and {better.name}")
    return found


def comparison_page(ranked: Sequence[Standing], compared: Sequence[Pair]) -> Page:
    """Return the page about several runs."""
    fields = differing_fields([one.evidence for one in ranked])
    videos = _videos(ranked)
    results = [one.evidence.evaluation.result for one in ranked]
    context = {
        "ranked": ranked,
        "compared": [pair for pair in compared if pair.contrasts is not None],
        "apart": [pair for pair in compared if pair.contrasts is None],
        "fields": list(fields.items()),
        "notes": list(dict.fromkeys(note for result in results for note in result["notes"])),
        "videos": videos,
        "reach": _reach(compared),
    }
    data: dict[str, Any] = {"report": _overview(ranked, videos)}
    for index, name in enumerate(videos):
        data[f"video-{index}"] = _traces(ranked, name)
    title = f"{len(ranked)} runs: report"
    return Page("comparison.html", title, context, data, SCRIPTS, STYLES)


def _incomparable(first: Evidence, second: Evidence) -> str | None:
    splits = [one.evaluation.result["split"] for one in (first, second)]
    if splits[0] != splits[1]:
        return f"one is scored on the {splits[0]} split and the other on {splits[1]}"
    return why_not_comparable(first.scored, second.scored)


def _reach(compared: Sequence[Pair]) -> float:
    """Return how far the scale of differences reaches to each side."""
    ends = [
        abs(end)
        for pair in compared
        if pair.contrasts is not None
        for end in pair.contrasts["mean"]["interval"] or [pair.contrasts["mean"]["difference"] or 0.0]
    ]
    return max([0.01, *ends]) * 1.05


def _videos(ranked: Sequence[Standing]) -> list[str]:
    """Return the names of all videos, those first on which the runs differ most."""
    names = {name for one in ranked for name in one.evidence.evaluation.result["videos"]}
    return sorted(names, key=lambda name: (-_spread(_scores(ranked, name)), name))


def _scores(ranked: Sequence[Standing], name: str) -> list[float | None]:
    return [one.evidence.evaluation.result["videos"].get(name, {}).get("mean") for one in ranked]


def _spread(scores: Sequence[float | None]) -> float:
    known = [score for score in scores if score is not None]
    return max(known) - min(known) if known else 0.0


def _overview(ranked: Sequence[Standing], videos: Sequence[str]) -> dict[str, Any]:
    listed = []
    for index, name in enumerate(videos):
        scores = _scores(ranked, name)
        known = [score for score in scores if score is not None]
        judged = _judged(ranked, name)
        first = next(video for video in judged if video is not None)
        listed.append(
            {
                "name": name,
                "block": f"video-{index}",
                "frames": len(first.time_F),
                "seconds": float(first.time_F[-1]),
                "spread": _spread(scores),
                "runs": scores,
                "scores": {"mean": sum(known) / len(known) if known else None, "valence": None, "arousal": None},
                "spark": _spark(judged),
            }
        )
    return {
        "runs": [one.name for one in ranked],
        "videos": listed,
        "curves": [_curve(one.evidence) for one in ranked],
    }


def _curve(evidence: Evidence) -> list[list[Any]]:
    """Return epochs and the mean score at each."""
    return [[line["epoch"], line.get(evidence.stopping, {}).get("mean")] for line in evidence.history]


def _judged(ranked: Sequence[Standing], name: str) -> list[Judged | None]:
    """Return each run's view of a video; None where it has none."""
    return [{video.name: video for video in one.evidence.evaluation.videos}.get(name) for one in ranked]


def _spark(judged: Sequence[Judged | None]) -> dict[str, Any]:
    """Return small traces: the truth, and between which values the runs' predictions lie."""
    known = [video for video in judged if video is not None]
    first = known[0]
    columns = min(SPARK, len(first.time_F))
    found = {}
    truth_F2 = np.where(first.valid_F[:, None], first.truth_F2, np.nan)
    for axis, dimension in enumerate(("valence", "arousal")):
        low, high = packing.extremes(truth_F2[:, axis].astype(np.float64), columns)
        found[f"{dimension}_truth"] = packing.series(np.stack((low, high), axis=1).ravel())
        ends = [packing.extremes(video.prediction_F2[:, axis].astype(np.float64), columns) for video in known]
        same = [pair for pair in ends if len(pair[0]) == columns]
        spread = np.stack(
            (np.min([low for low, _ in same], axis=0), np.max([high for _, high in same], axis=0)), axis=1
        )
        found[f"{dimension}_predicted"] = packing.series(spread.ravel())
    return found


def _traces(ranked: Sequence[Standing], name: str) -> dict[str, Any]:
    judged = _judged(ranked, name)
    first = next(video for video in judged if video is not None)
    truth_F2 = np.where(first.valid_F[:, None], first.truth_F2, np.nan)
    arrays = {"time": packing.times(first.time_F)}
    runs = []
    for axis, dimension in enumerate(("valence", "arousal")):
        arrays[f"{dimension}_truth"] = packing.series(truth_F2[:, axis])
    for index, video in enumerate(judged):
        if video is None or len(video.time_F) != len(first.time_F):
            continue  # of other frames: it cannot stand over the same times
        runs.append(index)
        for axis, dimension in enumerate(("valence", "arousal")):
            arrays[f"{dimension}_{index}"] = packing.series(video.prediction_F2[:, axis])
    return {"arrays": arrays, "runs": runs, "invalid": packing.spans(~first.valid_F)}
