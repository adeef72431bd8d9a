"""A search for the best values of some fields, with Optuna: its trials are variants, its memory is a journal.

The journal lies beside the runs and holds all trials, so that a search that was stopped goes on, and several processes
on one machine, or on several that see the folder, can take part in one. A trial under way is held by a lease, which
runs out with the process that holds it: whoever finds it then goes on with the trial.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaprompt.errors import DivergedError, RecipeError, RunError
from vaprompt.recipes import validated
from vaprompt.store.fingerprint import differences
from vaprompt.store.leases import POLL, Leases
from vaprompt.sweeps.board import State, Watcher
from vaprompt.sweeps.recipe import SearchRecipe, Space, with_fields
from vaprompt.sweeps.results import Standing
from vaprompt.sweeps.variants import Sweep, Variant, as_given, base_of, is_whole
from vaprompt.sweeps.work import Job, Outcome
from vaprompt.training.ongoing import PrunedError, Watch
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.runs import FACTS, read_complete

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

INSTALL = "pip install 'vaprompt[sweep]'"
JOURNAL = "search.journal"
STUDY = "search"
LASTING = (RecipeError, DivergedError)
"""Why a trial failed that would fail again."""
ABOUT, REASON = "made of", "reason"
"""What a study is marked with, and a trial of it that failed."""
BEGINNING = "beginning of trials"
"""Key of the lease under which trials are begun and taken over, by one process at a time."""


def require_optuna() -> None:
    """Check that the optional package is installed.

    Raises:
        RecipeError: it is not.
    """
    if find_spec("optuna") is None:
        raise RecipeError("[search]", fault="needs the package optuna", remedy=f"install it with: {INSTALL}")


def open_study(runs: Path, search: SearchRecipe) -> optuna.Study:
    """Return the study in a folder of runs, begun if there is none.

    Raises:
        RecipeError: Optuna is not installed.
        RunError: its journal is damaged.
        TargetError: its journal cannot be written.
    """
    require_optuna()
    import optuna

    from vaprompt.sweeps.journal import journal_file

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = (
        optuna.pruners.MedianPruner(n_startup_trials=search.startup, n_warmup_steps=search.warmup)
        if search.pruner == "median"
        else optuna.pruners.NopPruner()
    )
    try:
        storage = optuna.storages.JournalStorage(journal_file(runs / JOURNAL))
        return optuna.create_study(
            storage=storage, study_name=STUDY, pruner=pruner, direction="maximize", load_if_exists=True
        )
    except (
        ValueError,
        KeyError,
        TypeError,
        AssertionError,
    ) as error:  # what Optuna makes of a journal it did not write
        raise RunError(
            runs / JOURNAL, fault=f"cannot be read ({error})", remedy="restore it, or name a new folder with --runs"
        ) from None


class Search:
    """The trials of a search as jobs; see `vaprompt.sweeps.dispatch.Source`."""

    def __init__(self, sweep: Sweep, runs: Path, leases: Leases, watcher: Watcher) -> None:
        """Take part in a search: begin it, or go on with it.

        Raises:
            RecipeError: Optuna is not installed.
            RunError: the folder holds another search, or a damaged one.
        """
        self._sweep, self._search, self._runs = sweep, _of(sweep), runs
        self._study, self._leases, self._watcher = open_study(runs, self._search), leases, watcher
        self._distributions = {key: distribution(key, space) for key, space in self._search.spaces().items()}
        self._mine: set[int] = set()
        self._failed_here: dict[int, str] = {}
        """Trials that failed for something that may pass, as a full disk does, and are left to be gone on with."""
        self._waits = False
        self._require_same()

    @property
    def left(self) -> int:
        """How many trials are not over, those that others train included."""
        trials = self._trials()
        under_way = sum(not trial.state.is_finished() and trial.number not in self._failed_here for trial in trials)
        return under_way + max(0, self._search.trials - len(trials))

    def next(self) -> Job | None:
        """Return the next trial: one that was stopped, or a new one.

        Where there is none, and nothing is under way here, it waits for those that others train, and goes on with one
        whose process is gone.

        Raises:
            StoreError: others took this process for dead.
        """
        while True:
            with self._leases.holding(BEGINNING):
                number = self._left_behind()
                if number is None and len(self._trials()) < self._search.trials:
                    number = self._ask()
            if number is not None:
                self._mine.add(number)
                variant, error = self._variant(number)
                return Job((variant,), error)
            elsewhere = self._running()
            if self._mine or not any(trial < self._search.trials for trial in elsewhere):
                return None
            if not self._waits:
                self._waits = True
                self._watcher.say(f"waiting for {len(elsewhere)} trials that others train")
            time.sleep(POLL)

    def over(self, outcomes: Sequence[Outcome]) -> None:
        """Tell the study what became of trials; one whose failure may pass stays under way, for the next command."""
        from optuna.trial import TrialState

        for outcome in outcomes:
            number = _number(outcome.variant)
            mean = read_complete(outcome.variant.run)["best"]["mean"] if outcome.state == "done" else None
            if mean is not None:
                self._study.tell(number, mean, skip_if_finished=True)
            elif outcome.state == "pruned":
                self._study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)
            elif outcome.error is not None and not isinstance(outcome.error, LASTING):
                self._failed_here[number] = str(outcome.error)
            else:
                reason = "its validation CCC is undefined" if outcome.error is None else str(outcome.error)
                if not self._trials()[number].state.is_finished():
                    _trial(self._study, number).set_user_attr(REASON, reason)
                self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
            self._leases.release(_key(number))
            self._mine.discard(number)

    def begun(self) -> list[Variant]:
        """Return the trials that have left something in their folders: all are to be of one store."""
        found = (self._variant(trial.number)[0] for trial in self._trials())
        return [variant for variant in found if (variant.run / FACTS).exists()]

    def standing(self) -> list[Standing]:
        """Return how the trials so far stand, the best first, those without a score last."""
        ranked = sorted(self._trials(), key=lambda trial: (_badness(trial), trial.number))
        states: Mapping[str, State] = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed"}
        found = []
        for trial in ranked:
            variant, error = self._variant(trial.number)
            tried = None if error is None else self._fields(trial.number)
            state, reason = states.get(trial.state.name, "training"), trial.user_attrs.get(REASON)
            if state == "training" and trial.number in self._failed_here:
                state, reason = "failed", self._failed_here[trial.number]
            found.append(Standing(variant, state, reason, tried))
        return found

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _running(self) -> list[int]:
        """Return the trials that are under way, but not here, and have not failed here."""
        here = self._mine | self._failed_here.keys()
        return [trial.number for trial in self._trials() if trial.state.name == "RUNNING" and trial.number not in here]

    def _left_behind(self) -> int | None:
        """Return a trial, which is then held, that was under way in a process that is no more."""
        for number in self._running():
            if not self._leases.acquire(_key(number)):
                continue
            # Its process may have told its end and given it back since it was looked up.
            if self._trials()[number].state.name == "RUNNING":
                self._watcher.say(f"{_name(number)}: was stopped, and goes on")
                return number
            self._leases.release(_key(number))
        return None

    def _ask(self) -> int:
        import optuna

        trials = self._trials()
        # A sampler for each trial, so that a search that was stopped goes on with the very values.
        seed = self._search.seed + len(trials)
        sampler = (
            optuna.samplers.TPESampler(seed=seed)
            if self._search.sampler == "tpe"
            else optuna.samplers.RandomSampler(seed=seed)
        )
        # Asked apart, and told the journal in one line: it is never stopped at a trial without some of its values.
        apart = optuna.create_study(direction="maximize", sampler=sampler)
        apart.add_trials(trials)
        asked = apart.ask(self._distributions)
        self._study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING, params=asked.params, distributions=asked.distributions
            )
        )
        self._leases.acquire(_key(len(trials)))
        return len(trials)

    def _variant(self, number: int) -> tuple[Variant, RecipeError | None]:
        """Return a trial as a variant, and why it cannot be trained: its recipe is then the base's."""
        fields = self._fields(number)
        name, error = _name(number), None
        try:
            recipe = validated(
                TrainRecipe,
                with_fields(self._sweep.base, fields),
                where=f"{self._sweep.source}, {name} ({fields})",
                folder=self._sweep.source.parent,
            )
        except RecipeError as invalid:
            recipe, error = base_of(self._sweep, self._runs).recipe, invalid
        return Variant(name, recipe, self._runs / name), error

    def _fields(self, number: int) -> dict[str, Any]:
        """Return the values of a trial, by dotted key."""
        return {key: as_given(key, value) for key, value in self._trials()[number].params.items()}

    def _require_same(self) -> None:
        about = json.dumps([self._sweep.base, self._search.model_dump(mode="json", exclude={"trials"})], sort_keys=True)
        before = self._study.user_attrs.get(ABOUT)
        if before is None:
            self._study.set_user_attr(ABOUT, about)
        elif before != about:
            there, asked = (base | {"search": search} for base, search in map(json.loads, (before, about)))
            found = differences(there, asked)
            raise RunError(
                self._runs / JOURNAL,
                fault=f"holds a search that differs in more than the number of trials ({'; '.join(found[:5])})",
                remedy="name a new folder with --runs",
            )


def pruning(variant: Variant, search: SearchRecipe) -> Watch:
    """Return who tells the study a trial's scores behind each epoch, and ends it where the study would.

    Raises:
        RunError: the study's journal is damaged.
    """
    study = open_study(variant.run.parent, search)
    number = _number(variant)
    trial, told = _trial(study, number), set(study.get_trials(deepcopy=False)[number].intermediate_values)

    def watch(run: Path, history: Sequence[Mapping[str, Any]]) -> None:
        for line in history:
            epoch, mean = line["epoch"], line["validation"]["mean"]
            if mean is not None and epoch not in told:
                try:
                    trial.report(mean, epoch)
                except RuntimeError:  # as Optuna says of a trial that is over
                    fault = "another process took this one for dead, and has ended the trial"
                    remedy = "run the same command again: it goes on with what is left"
                    raise RunError(run, fault=fault, remedy=remedy) from None
                told.add(epoch)
        if len(history) < variant.recipe.epochs and told and trial.should_prune():
            raise PrunedError(run, fault="is behind the other trials", remedy="nothing is to be done")

    return watch


def distribution(key: str, space: Space) -> BaseDistribution:
    """Return a field's space in Optuna's terms."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if space.choices is not None:
        return CategoricalDistribution(space.choices)
    assert space.low is not None
    assert space.high is not None
    if is_whole(key):
        return IntDistribution(int(space.low), int(space.high), log=space.log, step=int(space.step or 1))
    return FloatDistribution(space.low, space.high, log=space.log, step=space.step)


def _of(sweep: Sweep) -> SearchRecipe:
    assert sweep.search is not None
    return sweep.search


def _trial(study: optuna.Study, number: int) -> optuna.Trial:
    """Return a trial that was begun before, or in another process."""
    import optuna

    # Optuna's own workers know a trial by this number too; there is no other way to meet it in another process.
    return optuna.trial.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def _name(number: int) -> str:
    return f"trial-{number:04d}"


def _key(number: int) -> str:
    return f"trial {number}"


def _number(variant: Variant) -> int:
    return int(variant.name.rpartition("-")[2])


def _badness(trial: optuna.trial.FrozenTrial) -> float:
    return -trial.value if trial.state.name == "COMPLETE" and trial.value is not None else float("inf")
