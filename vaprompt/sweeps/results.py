"""What is known of a sweep's variants once they are trained: scores from their folders, or why they failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vaprompt.errors import RunError
from vaprompt.recipes import without_none
from vaprompt.store.fingerprint import differing
from vaprompt.sweeps.board import State
from vaprompt.sweeps.variants import Variant
from vaprompt.sweeps.work import Outcome, scores_of
from vaprompt.training.runs import read_facts


@dataclass(frozen=True)
class Standing:
    """How a variant stood before this call, or stands by what others did."""

    variant: Variant
    state: State
    reason: str | None = None
    """Why it failed."""
    tried: Mapping[str, Any] | None = None
    """The values that were to be tried, where there can be no recipe of them: the variant has the base's then."""


@dataclass(frozen=True)
class Found:
    """One variant, and what became of it."""

    variant: Variant
    state: State
    reason: str | None
    """Why it failed."""
    best: Mapping[str, float | None] | None
    """CCC of the best epoch at the ends of the validation windows; None where it was not trained to its end."""
    epochs: int | None
    scores: Mapping[str, Any] | None
    """The content of evaluation.json; None where it was not scored as a sweep scores."""
    seconds: float | None
    """That it took in this call; None where it was there before."""
    fields: Mapping[str, Any]
    """In which its recipe differs from the sweep's base, or would."""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        scores = self.scores
        return {
            "variant": self.variant.name,
            "run": str(self.variant.run),
            "seed": self.variant.recipe.seed,
            "set": dict(self.fields),
            "state": self.state,
            "reason": self.reason,
            "epochs": self.epochs,
            "best": None if self.best is None else dict(self.best),
            "official": None if scores is None else scores["official"],
            "paper_subset": None if scores is None else scores["paper_subset"],
            "interval": None if scores is None else scores["interval"],
            "seconds": self.seconds,
        }


def found_in(standing: Standing, outcome: Outcome | None, base: Mapping[str, Any], store: str) -> Found:
    """Return what is known of a variant.

    Args:
        standing: the variant, whose folder is looked into, and how it stands without this call.
        outcome: what its worker said in this call; None where it had nothing to do with it.
        base: the fields of the training recipe that the sweep starts from.
        store: what it is trained and scored on: its path or URL.
    """
    variant = standing.variant
    own = without_none(variant.recipe.model_dump(mode="json"))
    best, epochs = None, None
    try:
        facts = read_facts(variant.run)
        if facts["status"] == "complete":
            best, epochs = facts["best"], facts["epochs"]
    except RunError:
        pass
    return Found(
        variant,
        standing.state if outcome is None else outcome.state,
        standing.reason if outcome is None or outcome.error is None else str(outcome.error),
        best,
        epochs,
        scores_of(variant, store),
        None if outcome is None or outcome.was_there else outcome.seconds,
        {key: value for key, (_, value) in differing(base, own).items()} if standing.tried is None else standing.tried,
    )
