"""One step of training: a batch of windows, its loss, and the update of the network.

On the processor two threads have half of the windows each, and meet in the recurrences, of which each computes one
direction, and in the loss, which is one for the whole batch. Each thread computes with one core, always two of them: so
the numbers do not depend on how many cores there are. On an accelerator a batch is computed as one.

Axes: B windows in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vaprompt.lanes import pair
from vaprompt.meeting import together
from vaprompt.model.dropout import drawn_by
from vaprompt.model.estimator import Estimate, Estimator
from vaprompt.training.captured import Captured
from vaprompt.training.data import Halves, LabelledWindows, Labels, ResidentSplit
from vaprompt.training.losses import ccc_loss, region_loss
from vaprompt.training.optimiser import Optimiser
from vaprompt.training.recipe import TrainRecipe

THREADS = 2
"""Of a step on the processor."""


def shards(device: torch.device) -> int:
    """Return in how many parts a batch is computed on a device, each of which has its own masks of dropout."""
    return THREADS if device.type == "cpu" else 1


def window_loss(
    value: Float[Tensor, "B *T 2"],
    region_BK: Float[Tensor, "B K"],
    windows: LabelledWindows,
    row_B: Int64[Tensor, "B"],
    recipe: TrainRecipe,
) -> tuple[Float[Tensor, ""], Float[Tensor, "3"]]:
    """Return the loss of a batch (paper, equation 6); and it and its parts, CCC's and KL's, apart from any graph."""
    return loss_of(value, region_BK, windows.labels(row_B), recipe, recipe.loss.kl)


def loss_of(
    value: Float[Tensor, "B *T 2"],
    region_BK: Float[Tensor, "B K"],
    labels: Labels,
    recipe: TrainRecipe,
    kl_weight: float | Float[Tensor, ""],
) -> tuple[Float[Tensor, ""], Float[Tensor, "3"]]:
    """Return what `window_loss` does, for a weight of the KL term that may be a tensor."""
    value, region_BK = value.float(), region_BK.float()
    if recipe.model.head.output == "window":
        ccc = ccc_loss(value, labels.value_B2)
    else:
        ccc = ccc_loss(value, labels.step_value_BT2, labels.step_valid_BT)
    kl = region_loss(region_BK, labels.soft_BK)
    loss = ccc + kl_weight * kl
    return loss, torch.stack((loss.detach(), ccc.detach(), kl.detach()))


def precise(device: torch.device, recipe: TrainRecipe) -> torch.autocast:
    """Return the context in which a network computes with a recipe's precision."""
    # Weights that are cast once and kept would be lost to a recorded step.
    half = recipe.compute.precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False)


@runtime_checkable
class Step(Protocol):
    """Trains on one batch."""

    device: torch.device
    """Where it wants the rows."""

    def begin(self, seed: int) -> None:
        """Begin an epoch, whose masks of dropout are drawn by this seed."""
        ...

    def __call__(self, row_B: Int64[Tensor, "B"]) -> Float[Tensor, "3"]:
        """Update the network on training windows, and return the loss and its two parts, on the device."""
        ...


def step_on(device: torch.device) -> type[SharedStep] | type[WholeStep]:
    """Return the kind of step that a device takes."""
    return SharedStep if device.type == "cpu" else WholeStep


def masks_of(device: torch.device) -> list[torch.Generator]:
    """Return what draws the masks of dropout in each shard."""
    return [torch.Generator(device) for _ in range(shards(device))]


def seed_masks(masks: Sequence[torch.Generator], seed: int) -> None:
    """Begin an epoch's masks."""
    for shard, generator in enumerate(masks):
        generator.manual_seed((seed + (shard + 1) * 2**32) % 2**63)


class SharedStep:
    """A step of two threads on the processor."""

    def __init__(self, estimator: Estimator, optimiser: Optimiser, data: ResidentSplit, recipe: TrainRecipe) -> None:
        """Prepare to train a network whose optimiser has two parts."""
        self._estimator, self._optimiser, self._data, self._recipe = estimator, optimiser, data, recipe
        self.device = torch.device("cpu")
        self._masks = masks_of(self.device)

    def begin(self, seed: int) -> None:
        """Begin an epoch; see `Step`."""
        seed_masks(self._masks, seed)

    def __call__(self, row_B: Int64[Tensor, "B"]) -> Float[Tensor, "3"]:
        """Update the network, and return the loss and its two parts; see `Step`."""
        rows = row_B.chunk(THREADS)
        estimates = together(pair(), self._estimate, list(zip(rows, self._masks, strict=True)))
        outputs = [(estimate.value, estimate.region_BK) for estimate in estimates]
        value, region_BK = (torch.cat([part.detach() for part in parts]) for parts in zip(*outputs, strict=True))
        leaves = (value.requires_grad_(), region_BK.requires_grad_())
        loss, told = window_loss(*leaves, self._data.windows, row_B, self._recipe)
        slopes = [torch.split(part, [len(row) for row in rows]) for part in torch.autograd.grad(loss, leaves)]
        gradients = together(pair(), self._gradients, list(zip(outputs, zip(*slopes, strict=True), strict=True)))

        def update(part: int) -> None:
            with torch.no_grad():
                for index in self._optimiser.of_part(part):
                    _add_up([gradient[index] for gradient in gradients], self._optimiser.gradients[index])
                self._optimiser.update(part)

        pair().map(update, range(THREADS))
        return told

    def _estimate(self, share: tuple[Tensor, torch.Generator]) -> Estimate:
        row_B, masks = share
        with drawn_by(masks), precise(self.device, self._recipe):
            estimate: Estimate = self._estimator(*self._data.batch(row_B))
        return estimate

    def _gradients(
        self, share: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Float[Tensor, "..."] | None, ...]:
        outputs, slopes = share
        known = [index for index, output in enumerate(outputs) if output.requires_grad]
        return torch.autograd.grad(
            [outputs[index] for index in known],
            self._optimiser.parameters,
            [slopes[index] for index in known],
            allow_unused=True,
        )


def _add_up(parts: list[Tensor | None], total: Tensor) -> None:
    there = [part for part in parts if part is not None]
    if not there:
        total.zero_()
    elif len(there) == 1:
        total.copy_(there[0])
    else:
        torch.add(*there, out=total)


class WholeStep:
    """A step on an accelerator, which the processor only starts."""

    def __init__(self, estimator: Estimator, optimiser: Optimiser, data: ResidentSplit, recipe: TrainRecipe) -> None:
        """Prepare to train a network."""
        self._estimator, self._optimiser, self._data, self._recipe = estimator, optimiser, data, recipe
        self.device = data.features.place
        self._on = data.features.device
        self._masks = masks_of(self._on)
        for parameter, gradient in zip(optimiser.parameters, optimiser.gradients, strict=True):
            parameter.grad = gradient
        self._captured: Captured | None = None
        if recipe.compute.graph and self._on.type == "cuda":
            self._captured = Captured(self._update, state=optimiser.tensors, generators=self._masks)

    def begin(self, seed: int) -> None:
        """Begin an epoch; see `Step`."""
        seed_masks(self._masks, seed)

    def __call__(self, row_B: Int64[Tensor, "B"]) -> Float[Tensor, "3"]:
        """Update the network, and return the loss and its two parts; see `Step`."""
        # A last batch that is smaller than the others is not worth recording.
        whole = self._captured is not None and len(row_B) == self._recipe.batch
        update = self._captured if self._captured is not None and whole else self._update
        return update(row_B.to(self._on, non_blocking=True), *self._data.gathered(row_B))

    def _update(self, row_B: Tensor, image_TBI: Tensor | None, audio_BSC: Tensor | None) -> Tensor:
        with drawn_by(self._masks[0]), precise(self._on, self._recipe):
            estimate = self._estimator(*Halves(image_TBI, audio_BSC).widened())
        loss, told = window_loss(estimate.value, estimate.region_BK, self._data.windows, row_B, self._recipe)
        self._optimiser.clear()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.update()
        return told
