"""What a worker of a sweep does, wherever it runs: it trains job after job from features that it reads once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vaprompt.devices import pick_device
from vaprompt.errors import HeldError, VapromptError
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.evaluation.kept import PREDICTIONS, read_scores
from vaprompt.memory import enough_memory
from vaprompt.store import FeatureStore
from vaprompt.store.cache import open_store
from vaprompt.store.leases import POLL
from vaprompt.store.urls import same_place
from vaprompt.sweeps.board import STOPPING, State
from vaprompt.sweeps.recipe import SearchRecipe
from vaprompt.sweeps.variants import Variant
from vaprompt.training.data import Resident
from vaprompt.training.facts import facts_of, require_same
from vaprompt.training.ongoing import PrunedError, Watch
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import SMALLER, TrainResult, train
from vaprompt.training.runs import is_complete, read_facts
from vaprompt.training.stacked import train_stacked
from vaprompt.training.tensorboard import TensorBoardLog, logged

LETTING_GO = 30.0
"""Seconds that a training which was killed may hold its folder, as where it waits for a busy disk, or its parent died
before it did."""


@dataclass(frozen=True)
class Work:
    """What is the same for all variants of a sweep."""

    store: str
    device: str
    memory: int | None = None
    """Bytes of features that may lie in a worker's memory at a time; None: all."""
    score: bool = True
    """Whether each run is scored once it is trained."""
    cores: int | None = None
    """That a worker may compute with; None: all."""
    log: str | None = None
    """Where epochs are told besides metrics.jsonl: `tensorboard`."""
    search: SearchRecipe | None = None
    """Whose trials the jobs are, and what stops one early; None: of no search."""


@dataclass(frozen=True)
class Job:
    """Variants that a worker trains together: one, or several stacked."""

    variants: tuple[Variant, ...]
    error: VapromptError | None = None
    """Why they cannot be trained, where that is known beforehand: no worker is given them then."""


@dataclass(frozen=True)
class Outcome:
    """What became of one variant."""

    variant: Variant
    state: State
    seconds: float = 0.0
    """That it took, scoring included; of stacked variants their share."""
    error: VapromptError | None = None
    """Why it failed."""
    was_there: bool = False
    """Whether there was nothing to do, as others had done it."""


class Trainer:
    """Trains jobs one after the other, in this process."""

    def __init__(self, work: Work) -> None:
        """Prepare to do `work`; nothing is read before the first job."""
        self._work = replace(work, device=pick_device(work.device))
        self._stores: dict[str | None, FeatureStore] = {}
        self._residents: dict[tuple[Any, ...], Resident | VapromptError] = {}

    def carry_out(self, job: Job) -> list[Outcome]:
        """Train a job's variants, and score them; what was done before is not done again."""
        if self._work.cores is not None:
            torch.set_num_threads(self._work.cores)
        with logged(self._work.log) as log:
            outcomes = self._stacked(job.variants, log) if len(job.variants) > 1 else [self._one(job.variants[0], log)]
            for outcome in outcomes:
                if log is not None and outcome.state == "done":
                    log.whole(outcome.variant.run)
        return outcomes

    def _stacked(self, variants: Sequence[Variant], log: TensorBoardLog | None) -> list[Outcome]:
        """Train variants of one architecture as one stack; one after the other where memory does not suffice for it."""
        started = time.perf_counter()
        try:
            with enough_memory(variants[0].run, remedy=SMALLER):
                store, resident = self._features(variants[0].recipe)
                ended = train_stacked(
                    store,
                    [variant.recipe for variant in variants],
                    [variant.run for variant in variants],
                    device=self._work.device,
                    memory=self._work.memory,
                    resident=resident,
                    watch=log,
                )
        except VapromptError:
            return [self._one(variant, log) for variant in variants]
        share = (time.perf_counter() - started) / len(variants)
        outcomes = []
        for variant, result in zip(variants, ended, strict=True):
            if isinstance(result, VapromptError) and not isinstance(result, HeldError):
                outcomes.append(Outcome(variant, "failed", share, result))
                continue
            scored = self._one(variant, log)
            was_there = scored.was_there and not (isinstance(result, TrainResult) and result.trained)
            outcomes.append(replace(scored, seconds=share + scored.seconds, was_there=was_there))
        return outcomes

    def _one(self, variant: Variant, log: TensorBoardLog | None) -> Outcome:
        started = time.perf_counter()
        try:
            # Wherever memory ends, in reading or in scoring too, it is this variant that fails and no other.
            with enough_memory(variant.run, remedy=SMALLER):
                was_there = is_over(variant, self._work)
                if is_complete(variant.run):
                    # By others, since it was looked at: of this recipe and store?
                    facts = facts_of(self._store(variant.recipe), variant.recipe, self._work.device, STOPPING)
                    require_same(variant.run, read_facts(variant.run), facts)
                else:
                    self._train(variant, log)
                if self._work.score and not is_scored(variant, self._work.store):
                    evaluate(variant.run, store=self._work.store, device=self._work.device)
        except PrunedError:
            return Outcome(variant, "pruned", time.perf_counter() - started)
        except VapromptError as error:
            return Outcome(variant, "failed", time.perf_counter() - started, _bare(error))
        return Outcome(variant, "done", time.perf_counter() - started, was_there=was_there)

    def _train(self, variant: Variant, log: TensorBoardLog | None) -> None:
        store, resident = self._features(variant.recipe)
        watches: list[Watch] = [] if log is None else [log]
        if self._work.search is not None:
            from vaprompt.sweeps.search import pruning

            watches.append(pruning(variant, self._work.search))

        def watch(run: Path, history: Sequence[Mapping[str, Any]]) -> None:
            for each in watches:
                each(run, history)

        since = time.monotonic()
        while True:
            try:
                train(
                    store,
                    variant.recipe,
                    variant.run,
                    device=self._work.device,
                    memory=self._work.memory,
                    resident=resident,
                    watch=watch,
                )
                return
            except HeldError:
                if time.monotonic() - since > LETTING_GO:
                    raise
            time.sleep(POLL)

    def _store(self, recipe: TrainRecipe) -> FeatureStore:
        """Return the store with a recipe's stream, opened once.

        Raises:
            StoreError: it lacks it, or is damaged.
        """
        if recipe.stream not in self._stores:
            self._stores[recipe.stream] = open_store(self._work.store, stream=recipe.stream)
        return self._stores[recipe.stream]

    def _features(self, recipe: TrainRecipe) -> tuple[FeatureStore, Resident]:
        """Return the store, and its features that a recipe needs, which are read once.

        Raises:
            StoreError: it lacks them, or they are damaged.
        """
        store = self._store(recipe)
        key = (recipe.stream, recipe.model.modalities)
        if key not in self._residents:
            try:
                # Others beside this one wait until all is in the cache; one alone need not.
                wait = self._work.cores is not None
                self._residents[key] = Resident(
                    store, recipe, device=self._work.device, most=self._work.memory, wait=wait
                )
            except VapromptError as error:
                self._residents[key] = error  # what is wrong with a store is wrong for all variants: it is read once
        found = self._residents[key]
        if isinstance(found, VapromptError):
            raise found
        return store, found


def _bare(error: VapromptError) -> VapromptError:
    """Return an error without what led to it, which would keep in memory all that was being computed."""
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


def is_over(variant: Variant, work: Work) -> bool:
    """Say whether a variant is trained and, where it is to be, scored.

    Raises:
        RunError: what is there is no run.
    """
    return is_complete(variant.run) and (not work.score or is_scored(variant, work.store))


def is_scored(variant: Variant, store: str) -> bool:
    """Say whether its predictions and scores are there, made as a sweep on a store makes them."""
    return scores_of(variant, store) is not None and (variant.run / PREDICTIONS).exists()


def scores_of(variant: Variant, store: str) -> Mapping[str, Any] | None:
    """Return a variant's evaluation.json; None where it has none that is whole, or one that a sweep would not make.

    Whoever asks `evaluate` for the training split, another store or windows that end elsewhere leaves one of that: it
    is no score to put beside the others.

    Args:
        variant: whose folder is looked into.
        store: the sweep's: its path or URL.
    """
    try:
        found = read_scores(variant.run)
        if found is None or found["split"] != STOPPING or found.get("every") is not None:
            return None
        return found if same_place(str(found["made_by"].get("store")), store) else None
    except VapromptError:
        return None
