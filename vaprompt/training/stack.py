"""Networks of one architecture that are trained side by side, as one network with one more axis.

Small steps leave a GPU mostly idle; a dozen networks take it hardly more time than one. Each has its own weights, order
of windows, masks of dropout and numbers of its recipe, and becomes what it would have become alone, but for the order
in which sums are added up.

Axes: V networks, B windows in the batch, W training windows, P parameters as in `optimiser`, K regions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call, vmap

from vaprompt.model.dropout import Dropout, drawn_by
from vaprompt.model.estimator import Estimator
from vaprompt.model.recurrence import several_networks
from vaprompt.training.captured import Captured
from vaprompt.training.data import Halves, Labels, ResidentSplit
from vaprompt.training.optimiser import Block, SideBySide
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.step import loss_of, masks_of, precise, seed_masks, shards


class _Drop(NamedTuple):
    """One place of the architecture where a network drops elements."""

    name: str
    shape: tuple[int, ...]
    """Of what a batch of one network brings there."""


class Stack:
    """A step of all networks at once."""

    def __init__(
        self, estimators: Sequence[Estimator], recipes: Sequence[TrainRecipe], splits: Sequence[ResidentSplit]
    ) -> None:
        """Take over networks of one architecture, each with its recipe and its split.

        The splits are of the same windows; only their soft labels may differ.
        """
        self._estimators, self._recipes, self._data = list(estimators), list(recipes), splits[0]
        self.device, self._on = self._data.features.place, self._data.features.device
        self._model, self._recipe = self._estimators[0], self._recipes[0]
        self._block = Block(self._estimators)
        names = [name for name, parameter in self._model.named_parameters() if parameter.requires_grad]
        self._parameters = dict(zip(names, self._block.leaves(), strict=True))
        self._fixed = self._stacked_buffers()
        soft = [split.windows.soft_WK for split in splits]
        alike = all(torch.equal(soft[0], other) for other in soft[1:])
        self._soft_VWK = (soft[0].expand(len(soft), -1, -1)) if alike else torch.stack(soft)
        self._adam = SideBySide(self._block, [recipe.optimiser for recipe in self._recipes])
        self._kl_V = torch.tensor([recipe.loss.kl for recipe in self._recipes], device=self._on)
        self._masks = [masks_of(self._on) for _ in self._estimators]
        self._drops: list[_Drop] | None = None
        self._captured: Captured | None = None
        if self._recipe.compute.graph and self._on.type == "cuda":
            every = [generator for masks in self._masks for generator in masks]
            self._captured = Captured(self._update, state=self._adam.tensors, generators=every)

    def begin(self, seeds: Sequence[int]) -> None:
        """Begin an epoch, whose masks of dropout each network draws by its own seed."""
        for masks, seed in zip(self._masks, seeds, strict=True):
            seed_masks(masks, seed)

    def __call__(self, row_VB: Int64[Tensor, "V B"]) -> Float[Tensor, "V 3"]:
        """Update every network on its windows, and return the losses and their two parts, on the device."""
        batch = row_VB.shape[1]
        halves = self._data.gathered(row_VB.flatten())
        if self._drops is None:
            self._drops = self._where_it_drops(halves, batch)
        whole = self._captured is not None and batch == self._recipe.batch
        update = self._captured if self._captured is not None and whole else self._update
        return update(row_VB.to(self._on, non_blocking=self._on.type == "cuda"), *halves)

    def state(self, network: int) -> dict[str, Float[Tensor, "..."]]:
        """Return what a network's next steps depend on, its parameters apart, as its own optimiser would."""
        return self._adam.state(network)

    def load_state(self, network: int, state: dict[str, Float[Tensor, "..."]]) -> None:
        """Let a network go on where it stood."""
        self._adam.load_state(network, state)

    def _update(self, row_VB: Tensor, image_TBI: Tensor | None, audio_BSC: Tensor | None) -> Tensor:
        networks, batch = row_VB.shape
        image_BTI, audio_BSC = Halves(image_TBI, audio_BSC).widened()
        seen = {"image_BTI": image_BTI, "audio_USA": audio_BSC}
        given = {name: part.view(networks, batch, *part.shape[1:]) for name, part in seen.items() if part is not None}
        nothing = {name: None for name, part in seen.items() if part is None}
        windows, each_V1 = self._data.windows, torch.arange(networks, device=self._on).unsqueeze(1)
        labels = Labels(
            windows.value_W2[row_VB],
            self._soft_VWK[each_V1, row_VB],
            windows.step_value_WT2[row_VB],
            windows.step_valid_WT[row_VB],
        )

        def loss(
            weights: dict[str, Tensor], given: dict[str, Tensor], labels: Labels, kl: Tensor
        ) -> tuple[Tensor, Tensor]:
            estimate = functional_call(self._model, weights, (), given | nothing)
            return loss_of(estimate.value, estimate.region_BK, labels, self._recipe, kl)

        weights = self._parameters | self._fixed | self._drawn(batch)
        with precise(self._on, self._recipe), several_networks():
            loss_V, told_V3 = vmap(loss)(weights, given, labels, self._kl_V)
        gradients = torch.autograd.grad(loss_V.sum(), list(self._parameters.values()), allow_unused=True)
        self._block.take(gradients)
        self._adam.update()
        return told_V3

    def _stacked_buffers(self) -> dict[str, Tensor]:
        own = [{**dict(one.named_buffers()), **_frozen(one)} for one in self._estimators]
        return {name: torch.stack([buffers[name] for buffers in own]) for name in own[0]}

    def _where_it_drops(self, halves: Halves, batch: int) -> list[_Drop]:
        """Return the places in the order in which a network comes to them."""
        found: list[_Drop] = []

        def note(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
            return lambda _, given: found.append(_Drop(name, tuple(given[0].shape)))

        modules = {name: module for name, module in self._model.named_modules() if isinstance(module, Dropout)}
        hooks = [module.register_forward_pre_hook(note(name)) for name, module in modules.items()]
        image_TBI, audio_BSC = halves
        first = Halves(
            None if image_TBI is None else image_TBI[:, :batch], None if audio_BSC is None else audio_BSC[:batch]
        )
        self._model.eval()
        with torch.no_grad():
            self._model(*first.widened())
        self._model.train()
        for hook in hooks:
            hook.remove()
        return found

    def _drawn(self, batch: int) -> dict[str, Tensor]:
        """Return the masks of every network, drawn as each would draw them alone, shard by shard."""
        assert self._drops is not None
        sizes = [len(part) for part in torch.arange(batch).chunk(shards(self._on))]
        drawn: dict[str, list[Tensor]] = {drop.name: [] for drop in self._drops}
        for estimator, masks in zip(self._estimators, self._masks, strict=True):
            parts: dict[str, list[Tensor]] = {drop.name: [] for drop in self._drops}
            for generator, size in zip(masks, sizes, strict=True):
                with drawn_by(generator):
                    for drop in self._drops:
                        module = _dropout(estimator, drop.name)
                        shape = tuple(size if axis == module.windows else n for axis, n in enumerate(drop.shape))
                        parts[drop.name].append(module.draw(shape, self._on))
            for name, of_shards in parts.items():
                drawn[name].append(torch.cat(of_shards, dim=_dropout(estimator, name).windows))
        return {f"{name}.kept": torch.stack(masks) for name, masks in drawn.items()}


def _dropout(estimator: Estimator, name: str) -> Dropout:
    module = estimator.get_submodule(name)
    assert isinstance(module, Dropout)
    return module


def _frozen(estimator: Estimator) -> dict[str, Tensor]:
    return {name: one.detach() for name, one in estimator.named_parameters() if not one.requires_grad}
