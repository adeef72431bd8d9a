"""One run as a leaderboard sees it: what its folder tells, and what it is known by beside others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from vaprompt.errors import RunError
from vaprompt.evaluation.kept import RESULT, read_evaluation, read_scores
from vaprompt.evaluation.paired import Scored
from vaprompt.evaluation.protocols import official_series
from vaprompt.report.evidence import told_sources, tuning
from vaprompt.training.runs import FACTS, PRUNED, STOPPING_FOLD, read_facts

AXES = ("valence", "arousal", "mean")
State = Literal["scored", "trained", "unfinished", "pruned"]


@dataclass(frozen=True)
class Entry:
    """One run."""

    run: Path
    name: str
    """Its folder, seen from the folder that was searched; from the one above all of them where names would be alike."""
    facts: Mapping[str, Any]
    """run.json."""
    evaluation: Mapping[str, Any] | None
    """evaluation.json; None where it was not evaluated."""

    @property
    def state(self) -> State:
        """How far it is."""
        if self.facts["status"] != "complete":
            return "pruned" if self.facts["status"] == PRUNED else "unfinished"
        return "trained" if self.evaluation is None else "scored"

    @property
    def is_fold(self) -> bool:
        """Whether it is of a cross-validation, whose folds stop by videos of their own and not by a split."""
        return STOPPING_FOLD in self.facts.get("videos", {})

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
        features = self.facts["store"]["fingerprints"]
        parent = self.facts.get("parent")
        if parent is not None:
            # Each fine-tuning has a stream and features of its own. What it is, is where it started from, and how.
            recipe.pop("stream", None)
            features = parent["fingerprints"]
        found = self.evaluation or {}
        return {
            **recipe,
            "finetune": tuning(self.facts),
            "features": features,
            "dataset": self.facts["store"]["dataset"],
            "sources": told_sources(self.facts),
            "videos": {split: _told(names) for split, names in self.facts.get("videos", {}).items()},
            "parent": None if parent is None else f"{Path(parent['run']).name} ({parent['checkpoint'][7:15]})",
            "scored": {
                "split": found.get("split"),
                "every": found.get("every"),
                "videos": _told(found["videos"]) if found else None,
            },
        }

    def predictions(self) -> Scored:
        """Return what it predicted beside the labels.

        Raises:
            RunError: its predictions are missing or damaged.
        """
        return official_series(read_evaluation(self.run).videos)


def _told(names: Iterable[str]) -> str:
    """Return how many videos there are, and a digest of which."""
    ordered = sorted(names)
    digest = hashlib.sha256("\n".join(ordered).encode(errors="backslashreplace")).hexdigest()
    return f"{len(ordered)} ({digest[:8]})"


def find_runs(folder: Path) -> Iterator[Path]:
    """Yield the folders below one that hold a run, itself included, in the order of their names."""
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
    _require(_Facts, facts, run / FACTS, "train the run again")
    evaluation = read_scores(run) if facts["status"] == "complete" else None
    if evaluation is not None:
        _require(_Evaluation, evaluation, run / RESULT, f"make it with: vaprompt evaluate {run}")
    return Entry(run, name, facts, evaluation)


class _Part(BaseModel):
    """As much of a file as a leaderboard needs."""

    model_config = ConfigDict(strict=True)


class _Store(_Part):
    path: str
    fingerprints: dict[str, Any]
    dataset: dict[str, Any]
    sources: dict[str, str] = {}


class _Parent(_Part):
    run: str
    checkpoint: str
    fingerprints: dict[str, Any]


class _Seeded(_Part):
    seed: int


class _Scores(_Part):
    valence: FiniteFloat | None
    arousal: FiniteFloat | None
    mean: FiniteFloat | None


class _Facts(_Part):
    status: str
    recipe: _Seeded
    store: _Store
    videos: dict[str, list[str]] = {}
    finetune: dict[str, Any] | None = None
    parent: _Parent | None = None
    best: _Scores | None = None
    epochs: int | None = None
    seconds: FiniteFloat | None = None


class _Mean(_Part):
    mean: Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)] | None


class _Intervals(_Part):
    official: _Mean


class _Evaluation(_Part):
    split: str
    every: int | None = None
    official: _Scores
    paper_subset: _Scores
    interval: _Intervals
    videos: dict[str, _Scores]


def _require(kind: type[_Part], content: Mapping[str, Any], file: Path, remedy: str) -> None:
    try:
        kind.model_validate(content)
    except ValidationError as error:
        found = error.errors()[0]
        field = ".".join(map(str, found["loc"]))
        fault = f"lacks '{field}'" if found["type"] == "missing" else f"has a '{field}' that cannot be ({found['msg']})"
        raise RunError(file, fault=fault, remedy=remedy) from None
