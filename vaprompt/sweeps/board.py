"""How far each variant of a sweep is, as its folder tells: whoever trains it, here or on another machine.

Every epoch leaves a line in metrics.jsonl, so that nothing has to be sent to whoever watches.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from vaprompt.files import parsed_json
from vaprompt.sweeps.variants import Variant
from vaprompt.training.runs import METRICS

State = Literal["waiting", "training", "done", "failed", "pruned"]
STOPPING = "validation"
"""The split whose score decides on the best epoch."""


@dataclass(frozen=True)
class Row:
    """One variant, as it stands."""

    label: str
    state: State
    epoch: int
    """Epochs done."""
    epochs: int
    """Epochs at most."""
    mean: float | None
    """Mean validation CCC of the latest epoch."""
    best: float | None
    left: float | None
    """Seconds until its last epoch, at its pace so far; patience may end it sooner. None while that is not known."""
    reason: str | None
    """Why it failed."""


@dataclass
class _Place:
    variant: Variant
    state: State = "waiting"
    begun: float = 0.0
    epoch_at_begin: int = 0
    reason: str | None = None
    scores: list[float | None] = field(default_factory=list)


class Board:
    """The variants of a sweep, and how far each is. It may be asked from any thread."""

    def __init__(
        self, variants: Sequence[Variant] = (), *, trials: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with variants of which none is under way.

        Args:
            variants: those that are known beforehand.
            trials: how many there will be where they are found while it runs.
            clock: returns seconds.
        """
        self._clock, self._lock, self._trials = clock, threading.Lock(), trials
        self._places = {variant.label: _Place(variant) for variant in variants}

    def begin(self, variant: Variant) -> None:
        """Take note that a variant is now trained; it may be new."""
        with self._lock:
            place = self._places.setdefault(variant.label, _Place(variant))
            place.scores = _scores(variant.run)
            place.state, place.begun, place.epoch_at_begin = "training", self._clock(), len(place.scores)

    def end(self, variant: Variant, state: State, reason: str | None = None) -> None:
        """Take note that a variant is over; it may be new."""
        with self._lock:
            place = self._places.setdefault(variant.label, _Place(variant))
            place.state, place.reason, place.scores = state, reason, _scores(variant.run)

    def rows(self) -> list[Row]:
        """Return how far each is, in the sweep's order."""
        with self._lock:
            return [self._row(label, place) for label, place in self._places.items()]

    def counts(self) -> dict[State, int]:
        """Return how many are in each state, those not known yet among the waiting, without looking at any folder."""
        with self._lock:
            states = [place.state for place in self._places.values()]
        states += ["waiting"] * (self._trials - len(states))
        return {state: states.count(state) for state in ("waiting", "training", "done", "failed", "pruned")}

    def _row(self, label: str, place: _Place) -> Row:
        if place.state == "training":
            place.scores = _scores(place.variant.run)
        recipe, epoch = place.variant.recipe, len(place.scores)
        known = [score for score in place.scores if score is not None]
        left = None
        gained = epoch - place.epoch_at_begin
        if place.state == "training" and gained > 0:
            left = (self._clock() - place.begun) / gained * (recipe.epochs - epoch)
        return Row(
            label,
            place.state,
            epoch,
            recipe.epochs,
            place.scores[-1] if place.scores else None,
            max(known, default=None),
            left,
            place.reason,
        )


@runtime_checkable
class Watcher(Protocol):
    """Who is shown a board while a sweep runs."""

    @contextmanager
    def watching(self, board: Board) -> Iterator[None]:
        """Show a board as long as the block runs."""
        ...

    def say(self, text: str) -> None:
        """Print one line that stays."""
        ...


class Nobody:
    """The default: nobody watches."""

    @contextmanager
    def watching(self, board: Board) -> Iterator[None]:
        """Show nothing."""
        yield

    def say(self, text: str) -> None:
        """Say nothing."""


def _scores(run: Path) -> list[float | None]:
    """Return the mean score of each epoch that a run's folder tells of."""
    try:
        lines = [parsed_json(line) for line in (run / METRICS).read_text(encoding="utf-8").splitlines()]
        return [line[STOPPING]["mean"] for line in lines]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # before the first epoch, or a file that a later epoch will write whole
