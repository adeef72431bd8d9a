"""A run's folder while it is trained: what is written behind each epoch, and where one that was killed goes on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaprompt.errors import DivergedError, VapromptError
from vaprompt.files import published, write_json
from vaprompt.metrics import Scores, scores
from vaprompt.model.estimator import Estimator
from vaprompt.model.prompts import Context
from vaprompt.recipes import write_recipe
from vaprompt.training.checkpoint import (
    BEST,
    GoesOn,
    TrainingState,
    clear_best,
    load_state,
    require_best,
    save_state,
    save_weights,
)
from vaprompt.training.data import ResidentSplit
from vaprompt.training.loop import Epoch, predict_windows
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.runs import CHECKPOINT, FACTS, METRICS, PRUNED, RECIPE, STATE

SHOWN = 5
"""Videos that a message names at most."""

SAVING = 5.0
"""Seconds of training that may be lost when it is killed: no state is saved sooner after the one before."""

Watch = Callable[[Path, Sequence[Mapping[str, Any]]], None]
"""Is told of a run's folder and its epochs so far, as in metrics.jsonl; what it raises ends the training."""


class PrunedError(VapromptError):
    """A search stops a training early: whoever watches it raises this."""


class Ongoing:
    """One run under way."""

    def __init__(
        self, run: Path, recipe: TrainRecipe, facts: dict[str, Any], stopping: str, watch: Watch | None = None
    ) -> None:
        """Begin to write, or to go on, with a run in a folder that nobody else writes into."""
        self.run, self.recipe, self.state = run, recipe, TrainingState()
        self._facts, self._stopping, self._saved = facts, stopping, time.monotonic()
        self._watch, self._told = watch, time.monotonic()
        self._named = 0
        """The best epoch of the state on disk."""
        # The facts come first: they hold the recipe too, and make the folder a run that can be gone on with.
        write_json(run / FACTS, facts)
        with published(run / RECIPE) as aside:
            write_recipe(recipe, aside)

    def estimator(self, prototype_KE: Tensor, context: Context | None, silence_SA: Tensor | None) -> Estimator:
        """Return the network as it starts, by the recipe's seed."""
        torch.manual_seed(self.recipe.seed)
        dims = self._facts["dims"]
        return Estimator(
            self.recipe.model,
            image_dim=dims.get("image", 0),
            audio_dim=dims.get("audio", 0),
            prototype_KE=prototype_KE,
            centre_K2=torch.from_numpy(self.recipe.regions.centres_K2()).float(),
            context=context,
            silence_SA=silence_SA if self.recipe.model.modality_dropout else None,
        )

    def goes_on(self, estimator: Estimator, optimiser: GoesOn) -> bool:
        """Take up where a killed training stood, tell who watches, and say whether there was one.

        Raises:
            RunError: its state or the weights of its best epoch are damaged, or those are gone.
        """
        path = self.run / STATE
        if path.exists():
            self.state = load_state(path, estimator, optimiser)
            self._named = self.state.best_epoch
            require_best(path, self._named)
            # It may have been killed between the state and what they make of it.
            self._tell()
        # Bests of epochs that are trained again are none yet.
        clear_best(self.run, keep={self._named})
        return path.exists()

    @property
    def over(self) -> bool:
        """Whether the last epoch is done, or patience ended."""
        state, recipe = self.state, self.recipe
        return state.epoch >= recipe.epochs or state.epoch - state.best_epoch >= recipe.patience

    @property
    def seed(self) -> int:
        """Of the next epoch, so that a training that goes on needs no random state from before."""
        return (self.recipe.seed * 1_000_003 + self.state.epoch + 1) % 2**63

    @property
    def kl(self) -> float:
        """Weight of the KL term in the next epoch."""
        return self.recipe.loss.kl_at(self.state.epoch, self.recipe.epochs)

    def require_numbers(self, epoch: Epoch, training: ResidentSplit) -> None:
        """Refuse to go on from an epoch that broke.

        Raises:
            DivergedError: its loss is not a number.
        """
        step = epoch.broken()
        if step is not None:
            raise self._broken("the loss is no longer a number in", step, epoch, training)

    def validated(self, estimator: Estimator, epoch: Epoch, training: ResidentSplit, unseen: ResidentSplit) -> Scores:
        """Return the CCC of the predictions at the ends of the windows that decide when to stop, pooled over all.

        Raises:
            DivergedError: one is no number, as behind a last step whose loss was one, and whose gradient was not.
        """
        prediction_W2 = predict_windows(estimator, unseen)
        wrong_W = ~np.isfinite(prediction_W2).all(axis=1)
        if wrong_W.any():
            names = _names(unseen, torch.from_numpy(wrong_W))
            fault = f"predictions for {names} are no longer numbers behind"
            raise self._broken(fault, len(epoch.row_NB) - 1, epoch, training)
        return scores(prediction_W2, unseen.windows.value_W2.cpu().numpy())

    def took(self, epoch: Epoch, validated: Scores, weights: Mapping[str, Tensor], *, beside: int = 1) -> str:
        """Take note of an epoch, and keep its weights if they are the best; return it in a few words.

        Its time is shared among the runs that are trained `beside` each other in a stack, this one with them.
        """
        state, losses = self.state, epoch.means()
        state.epoch += 1
        now = time.monotonic()
        state.seconds += (now - self._told) / beside
        self._told = now
        state.history.append({"epoch": state.epoch, "train": losses, self._stopping: validated})
        mean = validated["mean"]
        if _gains(mean, state.best_mean, self.recipe.min_gain) or state.best_epoch == 0:
            state.best_epoch, state.best_mean = state.epoch, mean
            save_weights(self._best(), weights)
            clear_best(self.run, keep={self._named, state.best_epoch})
        # The metrics are written whole from the state, so that a line of an epoch that was lost cannot stay.
        _write_metrics(self.run / METRICS, state.history)
        shown = "undefined" if mean is None else f"{mean:.3f}"
        return f"epoch {state.epoch}: loss {losses['loss']:.3f}, {self._stopping} CCC {shown}"

    def keep(self, weights: Mapping[str, Tensor], optimiser: Mapping[str, Tensor]) -> None:
        """Keep the state to go on from, if the one before is old enough, and tell who watches."""
        if time.monotonic() - self._saved >= SAVING and not self.over:
            save_state(self.run / STATE, self.state, weights, optimiser)
            self._saved, self._named = time.monotonic(), self.state.best_epoch
            clear_best(self.run, keep={self._named})
        self._tell()

    def complete(self) -> dict[str, Any]:
        """Say in the folder that the run is done, and return what it says."""
        # A copy: until the facts say that all is done, the state may be gone on from, which names the file.
        with published(self.run / CHECKPOINT) as aside:
            shutil.copyfile(self._best(), aside)
        best = self.state.history[self.state.best_epoch - 1][self._stopping]
        facts = self._facts | {
            "status": "complete",
            "epochs": self.state.epoch,
            "seconds": round(self.state.seconds, 3),
            "best_epoch": self.state.best_epoch,
            "best": {axis: best[axis] for axis in ("valence", "arousal", "mean")},
        }
        write_json(self.run / FACTS, facts)
        tidy(self.run)
        return facts

    def withdraw(self) -> None:
        """Leave nothing of a run of which no epoch is done, so that another store can be trained on in its folder."""
        if self.state.epoch == 0:
            # A training that was killed before it kept a state leaves more than it is gone on with.
            clear_best(self.run)
            for name in (METRICS, FACTS, RECIPE):
                (self.run / name).unlink(missing_ok=True)
            with suppress(OSError):  # others may have put something there
                self.run.rmdir()

    def _tell(self) -> None:
        if self._watch is not None:
            try:
                self._watch(self.run, self.state.history)
            except PrunedError:
                write_json(self.run / FACTS, self._facts | {"status": PRUNED})
                raise

    def _best(self) -> Path:
        return self.run / BEST.format(self.state.best_epoch)

    def _broken(self, fault: str, step: int, epoch: Epoch, training: ResidentSplit) -> DivergedError:
        """Return what to say of what is no number: where it came up, on what, and what there is to go back to."""
        names = _names(training, torch.from_numpy(epoch.row_NB[step]))
        good = f"{self._best()} holds the best epoch" if self.state.best_epoch else "no epoch was finished before"
        return DivergedError(
            self.run,
            fault=f"{fault} step {step + 1} of epoch {self.state.epoch + 1}, on windows of {names}; {good}",
            remedy="lower optimiser.learning_rate, or leave out videos with strange features",
        )


def tidy(run: Path) -> None:
    """Delete what a complete run has no use for, which one that was killed at the very end leaves."""
    with suppress(OSError):  # nothing depends on it, and others may only be allowed to look
        (run / STATE).unlink(missing_ok=True)
        clear_best(run)


def _gains(mean: float | None, best: float | None, least: float) -> bool:
    return mean is not None and (best is None or mean > best + least)


def _names(split: ResidentSplit, row_B: Tensor) -> str:
    """Return the videos of windows, a few of them by name."""
    names = [split.videos[video] for video in sorted(set(split.windows.video_W.cpu()[row_B].tolist()))]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _write_metrics(target: Path, history: list[dict[str, Any]]) -> None:
    with published(target) as aside:
        aside.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in history), encoding="utf-8")
