"""What makes each stream of a store, before any network is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vaprompt.encoders.registry import audio_fingerprint, image_fingerprint
from vaprompt.extraction.recipe import ExtractRecipe

LABELS: Mapping[str, Any] = {
    "schema": 1,
    "values": "valence and arousal as annotated, one row a frame, cut to the shorter of annotation and video",
    "time": "container time stamps, from the first frame",
}


def stream_fingerprints(recipe: ExtractRecipe, faces: str) -> dict[str, dict[str, Any]]:
    """Return the fingerprints of `image`, `audio`, `labels` and `text`.

    Args:
        recipe: how the store is made.
        faces: `crops` or `frames`, what the image stream reads.

    Raises:
        WeightsError: weights are not at hand, or do not belong to their model.
        RecipeError: the recipe asks for what its encoders cannot do.
    """
    image = image_fingerprint(recipe.image)
    text = {key: image[key] for key in ("schema", "kind", "model", "weights", "precision")}
    return {
        "image": {**image, "faces": faces, "frames": recipe.image_rate},
        "audio": audio_fingerprint(recipe.audio),
        "labels": dict(LABELS),
        "text": {**text, "output": "text embedding, not normalised"},
    }
