"""A search for the best values of some fields, with Optuna: its trials are variants, its memory is a journal.

The journal lies beside the runs and holds all trials, so that a search that was stopped goes on, and several processes
on one machine, or on several that see the folder, can take part in one.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaprompt.errors import RecipeError, RunError
from vaprompt.progress import Progress
from vaprompt.recipes import validated
from vaprompt.sweeps.board import State
from vaprompt.sweeps.recipe import SearchRecipe, Space, flattened, with_fields
from vaprompt.sweeps.variants import Sweep, Variant, as_given
from vaprompt.sweeps.work import Job, Outcome, PrunedError
from vaprompt.training.ongoing import Watch
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.runs import read_complete

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

INSTALL = "pip install 'vaprompt[sweep]'"
JOURNAL = "search.journal"
STUDY = "search"
ABOUT, OWNER = "made of", "owner"
"""What a study, and a trial of it, are marked with."""


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
    """
    require_optuna()
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = (
        optuna.pruners.MedianPruner(n_startup_trials=search.startup, n_warmup_steps=search.warmup)
        if search.pruner == "median"
        else optuna.pruners.NopPruner()
    )
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(runs / JOURNAL)))
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

    def __init__(self, sweep: Sweep, runs: Path, progress: Progress) -> None:
        """Begin a search, or go on with it.

        Raises:
            RecipeError: Optuna is not installed.
            RunError: the folder holds another search, or a damaged one.
        """
        assert sweep.search is not None
        self._sweep, self._search, self._runs = sweep, sweep.search, runs
        self._study = open_study(runs, sweep.search)
        self._distributions = {
            key: distribution(space, dict(flattened(sweep.base)).get(key))
            for key, space in sweep.search.spaces().items()
        }
        self._require_same()
        self._again = [trial.number for trial in self._study.get_trials(deepcopy=False) if _is_left_behind(trial)]
        if self._again:
            progress.say(f"going on with {len(self._again)} trials that were stopped")

    @property
    def left(self) -> int:
        """How many trials are still to be trained."""
        return len(self._again) + max(0, self._search.trials - len(self._study.get_trials(deepcopy=False)))

    def next(self) -> Job | None:
        """Return the next trial: one that was stopped, or a new one."""
        if self._again:
            number = self._again.pop(0)
        elif len(self._study.get_trials(deepcopy=False)) < self._search.trials:
            number = self._ask()
        else:
            return None
        return Job((self._variant(number),))

    def over(self, outcomes: Sequence[Outcome]) -> None:
        """Tell the study what became of trials."""
        from optuna.trial import TrialState

        for outcome in outcomes:
            number = _number(outcome.variant)
            mean = read_complete(outcome.variant.run)["best"]["mean"] if outcome.state == "done" else None
            if mean is not None:
                self._study.tell(number, mean)
            else:
                state = TrialState.PRUNED if outcome.state == "pruned" else TrialState.FAIL
                self._study.tell(number, state=state)

    def standing(self) -> list[tuple[Variant, State]]:
        """Return the trials so far and the state of each, the best first, those without a score last."""
        trials = self._study.get_trials(deepcopy=False)
        ranked = sorted(trials, key=lambda trial: (_badness(trial), trial.number))
        states: Mapping[str, State] = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed"}
        return [(self._variant(trial.number), states.get(trial.state.name, "training")) for trial in ranked]

    def _ask(self) -> int:
        import optuna

        # A sampler for each trial, so that a search that was stopped goes on with the very values.
        seed = self._search.seed + len(self._study.get_trials(deepcopy=False))
        self._study.sampler = (
            optuna.samplers.TPESampler(seed=seed)
            if self._search.sampler == "tpe"
            else optuna.samplers.RandomSampler(seed=seed)
        )
        trial = self._study.ask(self._distributions)
        trial.set_user_attr(OWNER, [platform.node(), os.getpid()])
        return trial.number

    def _variant(self, number: int) -> Variant:
        found = self._study.get_trials(deepcopy=False)[number].params
        fields = {key: as_given(self._sweep.base, key, value) for key, value in found.items()}
        name = f"trial-{number:04d}"
        recipe = validated(
            TrainRecipe,
            with_fields(self._sweep.base, fields),
            where=f"{self._sweep.source}, {name} ({fields})",
            folder=self._sweep.source.parent,
        )
        return Variant(name, recipe, self._runs / name)

    def _require_same(self) -> None:
        about = json.dumps([self._sweep.base, self._search.model_dump(mode="json", exclude={"trials"})], sort_keys=True)
        before = self._study.user_attrs.get(ABOUT)
        if before is None:
            self._study.set_user_attr(ABOUT, about)
        elif before != about:
            raise RunError(
                self._runs / JOURNAL,
                fault="holds a search that differs in more than the number of trials",
                remedy="name a new folder with --runs",
            )


def pruning(variant: Variant, search: SearchRecipe) -> Watch:
    """Return who tells the study a trial's scores behind each epoch, and ends it where the study would.

    Raises:
        RunError: the study's journal is damaged.
    """
    import optuna

    study = open_study(variant.run.parent, search)
    known = study.get_trials(deepcopy=False)[_number(variant)]
    # Optuna's own workers know a trial by this number too; there is no other way to meet it in another process.
    trial = optuna.trial.Trial(study, known._trial_id)
    told = set(known.intermediate_values)

    def watch(run: Path, history: Sequence[Mapping[str, Any]]) -> None:
        for line in history:
            epoch, mean = line["epoch"], line["validation"]["mean"]
            if mean is not None and epoch not in told:
                trial.report(mean, epoch)
                told.add(epoch)
        if len(history) < variant.recipe.epochs and told and trial.should_prune():
            raise PrunedError(run, fault="is behind the other trials", remedy="nothing is to be done")

    return watch


def distribution(space: Space, there: Any) -> BaseDistribution:
    """Return a space in Optuna's terms; the base's value, `there`, says whether only whole numbers count."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if space.choices is not None:
        return CategoricalDistribution(space.choices)
    assert space.low is not None
    assert space.high is not None
    whole = isinstance(there, int) and not isinstance(there, bool)
    if whole and space.low.is_integer() and space.high.is_integer():
        return IntDistribution(int(space.low), int(space.high), log=space.log, step=int(space.step or 1))
    return FloatDistribution(space.low, space.high, log=space.log, step=space.step)


def _number(variant: Variant) -> int:
    return int(variant.name.rpartition("-")[2])


def _badness(trial: optuna.trial.FrozenTrial) -> float:
    return -trial.value if trial.state.name == "COMPLETE" and trial.value is not None else float("inf")


def _is_left_behind(trial: optuna.trial.FrozenTrial) -> bool:
    """Say whether a trial was begun by a process of this machine that is no more."""
    if trial.state.name != "RUNNING":
        return False
    host, process = trial.user_attrs.get(OWNER, (platform.node(), -1))
    if host != platform.node():
        return False
    if process == os.getpid():
        return True
    with suppress(ProcessLookupError, OverflowError):
        if process > 0:
            os.kill(process, 0)
            return False
    return True
