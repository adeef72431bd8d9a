"""What determines an image embedding, known before the network is loaded and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vaprompt.encoders.open_clip_facts import IMAGENET, MEAN, STD, open_clip_config
from vaprompt.encoders.recipes import EMBEDDED, ImageEncoderRecipe
from vaprompt.encoders.weights import Weights, image_weights
from vaprompt.errors import RecipeError

SCHEMA = 1
"""Raised whenever clip.py changes what an embedding is."""


def image_fingerprint(recipe: ImageEncoderRecipe, weights: Weights | None = None) -> dict[str, Any]:
    """Return everything that determines an image embedding, without loading the network.

    Raises:
        WeightsError: the weights are not at hand, or do not belong to the model.
        RecipeError: there is no such model, or it wants its pictures prepared in a way that is not known here.
    """
    weights = weights or image_weights(recipe)
    config, preparation = clip_config(recipe), dict(weights.preprocessor or {})
    if recipe.model == EMBEDDED:
        preparation = dict(config.get("preprocess_cfg", {}))
    resize, interpolation = preparation.get("resize_mode", "shortest"), preparation.get("interpolation", "bicubic")
    size = config["model_cfg"]["vision_cfg"].get("image_size", 224)
    if (
        resize not in ("shortest", "squash")
        or interpolation not in ("bicubic", "bilinear")
        or not isinstance(size, int)
    ):
        raise RecipeError(
            f"image.model = {recipe.model}",
            fault=f"wants pictures of size {size}, resized by '{resize}' and '{interpolation}'",
            remedy="choose a model with square pictures, 'shortest' or 'squash', 'bicubic' or 'bilinear'",
        )
    mean, std = preparation.get("mean", MEAN), preparation.get("std", STD)
    if recipe.normalisation == "imagenet":
        mean, std = IMAGENET
    # Only where it is so: fingerprints of recipes that do not ask for it stay what they were.
    activation = {"activation": "the model's, whatever its weights were trained with"}
    return {
        **(activation if recipe.activation == "model" else {}),
        "schema": SCHEMA,
        "kind": recipe.kind,
        "model": recipe.model,
        "weights": weights.digest,
        "output": "image embedding after the projection, not normalised",
        "precision": recipe.precision,
        "size": size,
        "resize": resize,
        "interpolation": f"{interpolation}, antialiased",
        "mean": list(mean),
        "std": list(std),
    }


def text_fingerprint(recipe: ImageEncoderRecipe) -> dict[str, Any]:
    """Return everything that determines a prompt's embedding; raises as `image_fingerprint`."""
    return text_part(image_fingerprint(recipe))


def text_part(image: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of an image embedding's fingerprint determines a prompt's embedding, too."""
    shared = {key: image[key] for key in ("schema", "kind", "model", "weights", "precision")}
    return {**shared, "output": "text embedding, not normalised"}


def clip_config(recipe: ImageEncoderRecipe) -> dict[str, Any]:
    """Return `model_cfg` and, for the miniature, `preprocess_cfg`, as open_clip's config files have them.

    Raises:
        RecipeError: there is no such model.
    """
    if recipe.model == EMBEDDED:
        from vaprompt.encoders import embedded

        return dict(embedded.clip_config())
    return {"model_cfg": open_clip_config(recipe.model)}
