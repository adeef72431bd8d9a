"""What of an encoder is trained, how it behaves meanwhile, and how it gets by with less memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from open_clip.transformer import PatchDropout
from torch import nn
from torch.utils.checkpoint import checkpoint

from vaprompt.encoders.trainable import Anatomy, TrainableEncoder
from vaprompt.errors import RecipeError
from vaprompt.finetuning.recipe import TuningRecipe

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
DROPS = (nn.modules.dropout._DropoutNd, PatchDropout)
"""What must be told that it is trained. Everything else stays as it is when it predicts: a BatchNorm's statistics are
those of its own training, not of the few windows that fit the memory."""


def choose(encoder: TrainableEncoder, recipe: TuningRecipe, stream: str) -> dict[str, nn.Parameter]:
    """Let the part of an encoder learn that the recipe names, freeze the rest, and return what learns, by name.

    Args:
        encoder: an encoder, freshly loaded.
        recipe: which part.
        stream: `image` or `audio`, for the error.

    Raises:
        RecipeError: it has no such part.
    """
    learning = {}
    network: nn.Module | None = encoder.network
    if network is None and recipe.tune != "none":
        raise RecipeError(
            f"{stream}.tune = {recipe.tune}",
            fault="the run hears the log-Mel picture itself, of which nothing can be trained",
            remedy=f"set {stream}.tune = none",
        )
    if network is not None:
        wanted = _names(network, encoder.anatomy, recipe, stream)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name in wanted)
            if parameter.requires_grad:
                learning[name] = parameter
    if recipe.tune != "none" and not learning:
        raise RecipeError(
            f"{stream}.tune = {recipe.tune}",
            fault=f"{encoder.recipe.model} has no parameters of this kind",
            remedy=f"set {stream}.tune = all",
        )
    return learning


def set_learning(encoder: TrainableEncoder, learning: bool) -> None:
    """Switch what drops at random on or off; all else is as in prediction."""
    encoder.eval()
    for module in encoder.modules():
        if isinstance(module, DROPS):
            module.train(learning)


def save_memory(encoder: TrainableEncoder) -> None:
    """Let the blocks that learn, and those behind them, keep their input alone for the way back."""
    network: Any = encoder.network
    reached = False
    for name in encoder.anatomy.blocks:
        block = network.get_submodule(name.removesuffix("."))
        reached = reached or any(parameter.requires_grad for parameter in block.parameters())
        if reached:
            # Dropout is the same when the block is computed again: checkpoint keeps the random state.
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def tuned_tensors(learning: Mapping[str, Mapping[str, nn.Parameter]]) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield what learns in all encoders, each under `stream.name`."""
    for stream, parameters in learning.items():
        for name, parameter in parameters.items():
            yield f"{stream}.{name}", parameter


def _names(network: nn.Module, anatomy: Anatomy, recipe: TuningRecipe, stream: str) -> set[str]:
    names = {name for name, _ in network.named_parameters() if name.startswith(anatomy.tower)}
    match recipe.tune:
        case "none":
            return set()
        case "all":
            return names
        case "norms":
            normed = [name for name, module in network.named_modules() if isinstance(module, NORMS)]
            return {name for name in names if name.rpartition(".")[0] in normed}
    if not anatomy.blocks:
        fault = "the network's blocks are not known here"
        raise RecipeError(f"{stream}.tune = last", fault=fault, remedy=f"set {stream}.tune = all, or norms")
    if recipe.blocks > len(anatomy.blocks):
        fault = f"the network has {len(anatomy.blocks)} blocks"
        raise RecipeError(f"{stream}.blocks = {recipe.blocks}", fault=fault, remedy="set as many at most")
    last = (*anatomy.blocks[-recipe.blocks :], *anatomy.behind)
    return {name for name in names if name.startswith(last)}
