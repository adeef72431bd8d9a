"""What a training's regions are compared with at its start: prototypes from the store, or from a context that learns.

Axes: K regions, E CLIP's joint space.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from vaprompt.encoders.clip_form import text_fingerprint
from vaprompt.encoders.recipes import ImageEncoderRecipe
from vaprompt.errors import StoreError, WeightsError
from vaprompt.model.prompts import Context
from vaprompt.recipes import validated
from vaprompt.regions import RegionRecipe, prototypes
from vaprompt.store import FeatureStore
from vaprompt.training.recipe import TrainRecipe


def prototypes_of(store: FeatureStore, recipe: TrainRecipe, device: str) -> tuple[Float[Tensor, "K E"], Context | None]:
    """Return the prototypes that a training starts with, on the processor, and what of them learns.

    Raises:
        StoreError: the store lacks a prompt, or does not say which CLIP it was made with.
        WeightsError: its CLIP's weights are not at hand.
        FingerprintError: they are not those that the store was made with.
    """
    regions, prompt = recipe.regions, recipe.model.prompt
    if prompt.words == "templates":
        return from_templates(store, regions), None
    clip = _clip_of(store, prompt.weights)
    from vaprompt.encoders.context import ContextTower

    with _fields_of_prompts():
        tower = ContextTower(clip, regions.phrases, prompt.context, device)
    with torch.no_grad():
        prototype_KE = tower(tower.start_MD).cpu()
    return prototype_KE, Context(tower.start_MD.cpu(), tower)


def from_templates(store: FeatureStore, regions: RegionRecipe) -> Float[Tensor, "K E"]:
    """Return the prototypes of regions whose prompts a store holds.

    Raises:
        StoreError: it lacks one.
    """
    try:
        return torch.from_numpy(prototypes(store.text(), regions.phrases, regions.templates))
    except StoreError as error:
        raise StoreError(error.where or store.location, fault=error.fault, remedy=error.remedy) from None


def require_prompts(store: FeatureStore, recipe: TrainRecipe) -> None:
    """Check that `prototypes_of` will find what it needs, without loading a network; raises as that does."""
    prompt = recipe.model.prompt
    if prompt.words == "templates":
        from_templates(store, recipe.regions)
    else:
        _clip_of(store, prompt.weights)


def _clip_of(store: FeatureStore, weights: str | None) -> ImageEncoderRecipe:
    """Return the CLIP that a store was made with, with its weights where they lie here."""
    made_by = store.recipe.get("image")
    if not made_by:
        raise StoreError(
            store.location,
            fault="does not say which CLIP it was made with, so that no context can be learned",
            remedy='set model.prompt.words = "templates", or extract again',
        )
    where = str(store.location)
    if weights is not None:
        made_by, where = {**made_by, "weights": weights}, f"model.prompt.weights = {weights}"
    clip = validated(ImageEncoderRecipe, made_by, where=where)
    with _fields_of_prompts():
        store.require("text", text_fingerprint(clip))
    return clip


@contextmanager
def _fields_of_prompts() -> Iterator[None]:
    """Have errors name the field of the prompts where they name that of an extraction recipe, which is none here."""
    try:
        yield
    except WeightsError as error:
        where, fault, remedy = (
            str(text).replace("image.weights", "model.prompt.weights")
            for text in (error.where, error.fault, error.remedy)
        )
        raise WeightsError(where if error.where else None, fault=fault, remedy=remedy) from None
