"""Epochs of fine-tuning: windows come from the loading processes, steps follow each other, the state is saved.

Axes: B windows in the batch, W windows of a split; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from vaprompt.errors import RunError
from vaprompt.finetuning.loading import RawWindow
from vaprompt.finetuning.material import Material
from vaprompt.finetuning.recipe import FinetuneRecipe
from vaprompt.finetuning.state import Learners, TuningState
from vaprompt.finetuning.step import RawBatch, RawEncoders, backward
from vaprompt.finetuning.workers import Workers
from vaprompt.media.ahead import ahead
from vaprompt.memory import is_lack_of_memory
from vaprompt.metrics import Scores, scores
from vaprompt.model.estimator import Estimate, Estimator
from vaprompt.progress import Task
from vaprompt.seeds import derived_seed
from vaprompt.training.data import LabelledWindows
from vaprompt.training.loop import EpochLosses, end_values
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.step import window_loss

AT_ONCE = 4
"""What `auto` means on the processor, where no size is faster than another and memory is shared with everything."""
NAMED = 3
"""Videos of a batch that an error names."""


@dataclass(frozen=True)
class Part:
    """The windows of one split: their labels, and where they begin in the material."""

    windows: LabelledWindows
    first: int


@dataclass
class Session:
    """All that a step needs."""

    run: Path
    recipe: FinetuneRecipe
    heads_recipe: TrainRecipe
    """Its batch is that of a step; its loss is minimised."""
    encoders: RawEncoders
    estimator: Estimator
    learners: Learners
    material: Material
    workers: Workers
    device: torch.device
    at_once: int = field(init=False)
    """Windows in the encoders at once; becomes fewer where `auto` does not fit the memory."""

    def __post_init__(self) -> None:
        automatic = AT_ONCE if self.device.type == "cpu" else self.heads_recipe.batch
        self.at_once = min(automatic if self.recipe.at_once == "auto" else self.recipe.at_once, self.heads_recipe.batch)

    def train_epoch(
        self, state: TuningState, part: Part, task: Task, saved: Callable[[TuningState], None]
    ) -> EpochLosses:
        """Train on every window once, from the step on where `state` stands, and return the mean losses.

        Args:
            state: counts the steps and their losses.
            part: the training windows.
            task: told of every window.
            saved: called behind every step; keeps the state if it is time to.

        Raises:
            RunError: the loss is no longer a number, or the memory does not suffice.
            MediaError: raw media cannot be read.
        """
        epoch = state.epoch + 1
        size = self.heads_recipe.batch
        order_W = torch.randperm(
            len(part.windows), generator=torch.Generator().manual_seed(derived_seed(self.recipe.seed, epoch))
        )
        rows = [row_B for row_B in torch.split(order_W, size) if len(row_B) > 1]
        task.advance(min(state.step * size, len(order_W)), "resumed" if state.step else "")
        self.encoders.set_learning(True)
        self.estimator.train()
        todo = rows[state.step :]
        with closing(self._batches(todo, part.first, augmented=epoch)) as batches:
            for row_B, batch in zip(todo, batches, strict=True):
                losses = self._step(batch, part, row_B, epoch, state.step + 1)
                state.step += 1
                state.sums = [total + value for total, value in zip(state.sums, losses, strict=True)]
                task.advance(len(row_B), f"step {state.step} of {len(rows)}, loss {losses[0]:.3f}")
                saved(state)
        loss, ccc, kl = (total / len(rows) for total in state.sums)
        return EpochLosses(loss=loss, ccc=ccc, kl=kl)

    def validate(self, part: Part, task: Task) -> Scores:
        """Return the CCC of `predictions`, pooled over all windows."""
        return scores(self.predictions(part, task), part.windows.value_W2.cpu().numpy())

    def predictions(self, part: Part, task: Task) -> Float32[np.ndarray, "W 2"]:
        """Return valence and arousal at the end of every window, from raw media, clipped to [-1, 1].

        Raises:
            RunError: one is no number, or the memory does not suffice.
            MediaError: raw media cannot be read.
        """
        self.encoders.set_learning(False)
        self.estimator.eval()
        rows = list(torch.split(torch.arange(len(part.windows)), self.heads_recipe.batch))
        found = []
        with closing(self._batches(rows, part.first, augmented=None)) as batches, torch.no_grad():
            for batch in batches:
                found.append(self._halving(lambda raw=batch: self.predict(raw)))  # type: ignore[misc]
                task.advance(len(batch))
        joined: Float32[np.ndarray, "W 2"] = np.concatenate(found)
        wrong_W = np.flatnonzero(~np.isfinite(joined).all(axis=1))
        if len(wrong_W):
            raise self._no_number("predictions are no longer numbers", part, wrong_W.tolist())
        return joined

    @torch.no_grad()
    def predict(self, batch: RawBatch) -> Float32[np.ndarray, "B 2"]:
        """Return valence and arousal at the end of each window, (B, 2), clipped to [-1, 1]."""
        values = []
        for some in batch.parts(self.at_once):
            embeddings = self.encoders.encode(some)
            values.append(end_values(self.estimator(embeddings.image_BTI, embeddings.audio_BSA)))
        return torch.cat(values).float().cpu().numpy()

    def _step(self, batch: RawBatch, part: Part, row_B: Tensor, epoch: int, step: int) -> list[float]:
        learners, seed = self.learners, derived_seed(self.recipe.seed, epoch, step)
        weight = torch.tensor(self.heads_recipe.loss.kl, device=self.device)

        def losses(estimate: Estimate) -> tuple[Tensor, Tensor]:
            rows = row_B.to(self.device)
            return window_loss(estimate.value, estimate.region_BK, part.windows, rows, self.heads_recipe, weight)

        def attempt() -> list[float]:
            # Freed first, so that an attempt that ran out of memory leaves nothing behind.
            learners.optimizer.zero_grad()
            found = backward(
                self.encoders,
                self.estimator,
                batch,
                losses,
                at_once=self.at_once,
                seed=seed,
                scale=learners.scaler.scale,
            )
            return [float(value) for value in found.tolist()]

        found: list[float] = self._halving(attempt)
        if not all(value - value == 0 for value in found):
            fault = f"the loss is no longer a number in step {step} of epoch {epoch},"
            raise self._no_number(fault, part, row_B.tolist())
        learners.scaler.step(learners.optimizer)
        learners.scaler.update()
        return found

    def _halving(self, attempt: Callable[[], Any]) -> Any:
        """Do what needs memory; where `auto` windows at once do not fit, with half as many, until they do."""
        while True:
            try:
                return attempt()
            except (RuntimeError, MemoryError) as error:
                if not is_lack_of_memory(error):
                    raise
                if self.recipe.at_once != "auto" or self.at_once == 1:
                    raise self._no_room() from None
            self.at_once = -(-self.at_once // 2)
            self.learners.optimizer.zero_grad()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _batches(self, rows: Sequence[Tensor], first: int, *, augmented: int | None) -> Generator[RawBatch]:
        """Yield batches of windows on the device, one collected while the one before is computed with."""
        seed = self.recipe.seed

        def requests() -> Iterator[Any]:
            for row_B in rows:
                for row in row_B.tolist():
                    yield self.material.request(first + row, None if augmented is None else (seed, augmented, row))

        def collected() -> Iterator[RawBatch]:
            with closing(self.workers.windows(requests())) as windows:
                for row_B in rows:
                    yield collate([next(windows) for _ in row_B], pinned=self.device.type == "cuda")

        with closing(ahead(collected(), 1)) as batches:
            for batch in batches:
                yield RawBatch(
                    *(
                        None if value is None else value.to(self.device, non_blocking=self.device.type == "cuda")
                        for value in (batch.image_BTSSC, batch.mel_BFM)
                    )
                )

    def _no_number(self, fault: str, part: Part, rows: Sequence[int]) -> RunError:
        names = sorted({self.material.video(part.first + row) for row in rows})
        shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        kept = sorted(self.run.glob("best-*.safetensors"))
        good = f"the best epoch so far is kept in {kept[-1]}" if kept else "no epoch was finished before"
        return RunError(
            self.run,
            fault=f"{fault} on windows of {shown}; {good}",
            remedy="lower optimiser.encoder_learning_rate, or set precision = fp32, in a new run",
        )

    def _no_room(self) -> RunError:
        ways = ["at_once", *(["batch"] if self.at_once == 1 else [])]
        ways += [] if self.recipe.checkpointing else ["and turn checkpointing on"]
        return RunError(
            self.run,
            fault=f"{self.at_once} windows at once do not fit into the memory of {self.device}",
            remedy=f"lower {', '.join(ways)}, or train less of the encoders (image.tune = last)",
        )


def collate(windows: Sequence[RawWindow], *, pinned: bool) -> RawBatch:
    """Return windows as one batch on the processor, in memory that a GPU can fetch it from if `pinned`."""

    def together(values: Sequence[np.ndarray | None]) -> Tensor | None:
        there = [value for value in values if value is not None]
        if not there:
            return None
        joined = torch.from_numpy(np.stack(there))
        return joined.pin_memory() if pinned else joined

    return RawBatch(
        together([window.image_TSSC for window in windows]), together([window.mel_FM for window in windows])
    )


class Interval:
    """Says when so many seconds have passed since it last said so."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to wait."""
        self._seconds, self._clock, self._latest = seconds, clock, clock()

    def passed(self) -> bool:
        """Say it, and begin anew."""
        if self._clock() - self._latest < self._seconds:
            return False
        self._latest = self._clock()
        return True
