"""One step of training: a batch of windows, its loss, and the update of the network.

On the processor two threads have half of the windows each, and meet in the recurrences, of which each computes one
direction, and in the loss, which is one for the whole batch. Each thread computes with one core, always two of them: so
the numbers do not depend on how many cores there are. On an accelerator a batch is computed as one.

CCC is no mean over windows, so gradients of parts of a batch do not add up to that of the batch. Where a batch is to be
computed in parts (`compute.at_once`), all of them are estimated without a graph first; the loss of the whole batch
gives the gradient of every estimate; then each part is estimated again, with the same dropout, and what its estimates
have as gradients goes on backwards through it (Gao et al. 2021 call it a gradient cache).

Axes: B windows in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vaprompt.lanes import pair
from vaprompt.meeting import together
from vaprompt.model.dropout import drawn_by
from vaprompt.model.estimator import Estimator
from vaprompt.seeds import derived_seed
from vaprompt.training.captured import Captured
from vaprompt.training.data import Halves, LabelledWindows, Labels, ResidentSplit
from vaprompt.training.losses import ccc_loss, region_loss
from vaprompt.training.optimiser import Optimiser
from vaprompt.training.recipe import TrainRecipe

THREADS = 2
"""Of a step on the processor."""

Output = tuple[Tensor, Tensor]
"""Values and region logits of some windows; or the loss's gradient with respect to them."""


def shards(device: torch.device) -> int:
    """Return in how many parts a batch is computed on a device, each of which has its own masks of dropout."""
    return THREADS if device.type == "cpu" else 1


def window_loss(
    value: Float[Tensor, "B *T 2"],
    region_BK: Float[Tensor, "B K"],
    windows: LabelledWindows,
    row_B: Int64[Tensor, "B"],
    recipe: TrainRecipe,
    kl_weight: float | Float[Tensor, ""],
) -> tuple[Float[Tensor, ""], Float[Tensor, "3"]]:
    """Return the loss of a batch (paper, equation 6); and it and its parts, CCC's and KL's, apart from any graph."""
    return loss_of(value, region_BK, windows.labels(row_B), recipe, kl_weight)


def loss_of(
    value: Float[Tensor, "B *T 2"],
    region_BK: Float[Tensor, "B K"],
    labels: Labels,
    recipe: TrainRecipe,
    kl_weight: float | Float[Tensor, ""],
) -> tuple[Float[Tensor, ""], Float[Tensor, "3"]]:
    """Return what `window_loss` does, of labels that were taken out.

    The weight of the KL term, lambda, is a tensor where it differs between epochs or networks.
    """
    value, region_BK = value.float(), region_BK.float()
    if recipe.model.head.output == "window":
        ccc = ccc_loss(value, labels.value_B2)
    else:
        ccc = ccc_loss(value, labels.step_value_BT2, labels.step_valid_BT)
    kl = region_loss(region_BK, labels.soft_BK, recipe.loss.temperature)
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

    def begin(self, seed: int, kl: float) -> None:
        """Begin an epoch, whose masks of dropout are drawn by this seed, and whose KL term has this weight."""
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
        generator.manual_seed(derived_seed(seed, shard))


def in_parts(row_B: Int64[Tensor, "B"], at_once: int | None) -> list[Tensor]:
    """Return a batch in parts of about the same size, none larger than what may be in the network at once."""
    count = 1 if at_once is None else -(-len(row_B) // at_once)
    return list(row_B.tensor_split(count))


def slopes(
    outputs: Sequence[Output],
    row_B: Int64[Tensor, "B"],
    windows: LabelledWindows,
    recipe: TrainRecipe,
    kl_weight: Float[Tensor, ""],
) -> tuple[list[Output], Float[Tensor, "3"]]:
    """Return the gradient of a batch's loss with respect to each part's output, and the loss and its parts."""
    value, region_BK = (torch.cat([part.detach() for part in parts]) for parts in zip(*outputs, strict=True))
    leaves = (value.requires_grad_(), region_BK.requires_grad_())
    loss, told = window_loss(*leaves, windows, row_B, recipe, kl_weight)
    sizes = [len(value) for value, _ in outputs]
    value_slopes, region_slopes = (torch.split(part, sizes) for part in torch.autograd.grad(loss, leaves))
    return list(zip(value_slopes, region_slopes, strict=True)), told


@contextmanager
def drawing_again(masks: Sequence[torch.Generator]) -> Iterator[None]:
    """Let what the block draws be drawn once more behind it."""
    before = [generator.get_state() for generator in masks]
    yield
    for generator, state in zip(masks, before, strict=True):
        generator.set_state(state)


class SharedStep:
    """A step of two threads on the processor."""

    def __init__(self, estimator: Estimator, optimiser: Optimiser, data: ResidentSplit, recipe: TrainRecipe) -> None:
        """Prepare to train a network whose optimiser has two parts."""
        self._estimator, self._optimiser, self._data, self._recipe = estimator, optimiser, data, recipe
        self.device = torch.device("cpu")
        self._masks, self._weight = masks_of(self.device), torch.tensor(recipe.loss.kl)

    def begin(self, seed: int, kl: float) -> None:
        """Begin an epoch; see `Step`."""
        seed_masks(self._masks, seed)
        self._weight.fill_(kl)

    def __call__(self, row_B: Int64[Tensor, "B"]) -> Float[Tensor, "3"]:
        """Update the network, and return the loss and its two parts; see `Step`."""
        parts = in_parts(row_B, self._recipe.compute.at_once)
        twice = len(parts) > 1
        if twice:
            with drawing_again(self._masks):
                outputs = [self._outputs(part_B, graph=False) for part_B in parts]
        else:
            outputs = [self._outputs(row_B)]
        flat = [output for part in outputs for output in part]
        gradients, told = slopes(flat, row_B, self._data.windows, self._recipe, self._weight)
        for number, part_B in enumerate(parts):
            part = self._outputs(part_B) if twice else outputs[number]
            mine, gradients = gradients[: len(part)], gradients[len(part) :]
            self._descend(part, mine, first=number == 0, last=number == len(parts) - 1)
        return told

    def _outputs(self, row_B: Tensor, *, graph: bool = True) -> list[Output]:
        """Return what each thread's windows give."""

        def estimate(share: tuple[Tensor, torch.Generator]) -> Output:
            rows, masks = share
            with torch.set_grad_enabled(graph), drawn_by(masks), precise(self.device, self._recipe):
                found = self._estimator(*self._data.batch(rows))
            return found.value, found.region_BK

        rows = row_B.chunk(THREADS)
        return together(pair(), estimate, list(zip(rows, self._masks[: len(rows)], strict=True)))

    def _descend(self, outputs: list[Output], slopes: list[Output], *, first: bool, last: bool) -> None:
        """Add the gradients of a part of a batch to those of the parts before; behind the last, update the network."""
        gradients = together(pair(), self._gradients, list(zip(outputs, slopes, strict=True)))

        def update(part: int) -> None:
            with torch.no_grad():
                for index in self._optimiser.of_part(part):
                    before = [] if first else [self._optimiser.gradients[index]]
                    found = [gradient[index] for gradient in gradients]
                    _add_up([*before, *found], self._optimiser.gradients[index])
                if last:
                    self._optimiser.update(part)

        pair().map(update, range(THREADS))

    def _gradients(self, share: tuple[Output, Output]) -> tuple[Float[Tensor, "..."] | None, ...]:
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
        torch.add(there[0], there[1], out=total)
        for part in there[2:]:
            total.add_(part)


class WholeStep:
    """A step on an accelerator, which the processor only starts."""

    def __init__(self, estimator: Estimator, optimiser: Optimiser, data: ResidentSplit, recipe: TrainRecipe) -> None:
        """Prepare to train a network."""
        self._estimator, self._optimiser, self._data, self._recipe = estimator, optimiser, data, recipe
        self.device = data.features.place
        self._on = data.features.device
        self._masks, self._weight = masks_of(self._on), torch.tensor(recipe.loss.kl, device=self._on)
        for parameter, gradient in zip(optimiser.parameters, optimiser.gradients, strict=True):
            parameter.grad = gradient
        self._captured: Captured | None = None
        if recipe.compute.graph and self._on.type == "cuda":
            self._captured = Captured(self._update, state=optimiser.tensors, generators=self._masks)

    def begin(self, seed: int, kl: float) -> None:
        """Begin an epoch; see `Step`."""
        seed_masks(self._masks, seed)
        self._weight.fill_(kl)

    def __call__(self, row_B: Int64[Tensor, "B"]) -> Float[Tensor, "3"]:
        """Update the network, and return the loss and its two parts; see `Step`."""
        parts = in_parts(row_B, self._recipe.compute.at_once)
        if len(parts) > 1:
            return self._update_in_parts(row_B, parts)
        # A last batch that is smaller than the others is not worth recording.
        whole = self._captured is not None and len(row_B) == self._recipe.batch
        update = self._captured if self._captured is not None and whole else self._update
        return update(row_B.to(self._on, non_blocking=self._on.type == "cuda"), *self._data.gathered(row_B))

    def _update(self, row_B: Tensor, image_TBI: Tensor | None, audio_BSC: Tensor | None) -> Tensor:
        output = self._output(image_TBI, audio_BSC)
        loss, told = window_loss(*output, self._data.windows, row_B, self._recipe, self._weight)
        self._optimiser.clear()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.update()
        return told

    def _update_in_parts(self, row_B: Tensor, parts: Sequence[Tensor]) -> Tensor:
        with drawing_again(self._masks), torch.no_grad():
            outputs = [self._output(*self._data.gathered(part_B)) for part_B in parts]
        rows = row_B.to(self._on, non_blocking=self._on.type == "cuda")
        gradients, told = slopes(outputs, rows, self._data.windows, self._recipe, self._weight)
        self._optimiser.clear()
        for part_B, gradient in zip(parts, gradients, strict=True):
            output = self._output(*self._data.gathered(part_B))
            known = [pair for pair in zip(output, gradient, strict=True) if pair[0].requires_grad]
            torch.autograd.backward([value for value, _ in known], [slope for _, slope in known])
        self._optimiser.update()
        return told

    def _output(self, image_TBI: Tensor | None, audio_BSC: Tensor | None) -> Output:
        with drawn_by(self._masks[0]), precise(self._on, self._recipe):
            estimate = self._estimator(*Halves(image_TBI, audio_BSC).widened())
        return estimate.value, estimate.region_BK
