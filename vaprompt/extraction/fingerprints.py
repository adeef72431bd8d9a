"""What makes each stream of a store, before any network is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vaprompt.encoders.ast_form import audio_fingerprint
from vaprompt.encoders.clip_form import image_fingerprint, text_part
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.faces.detector import detector_fingerprint

LABELS: Mapping[str, Any] = {
    "schema": 1,
    "values": "valence and arousal as annotated, one row a frame, cut to the shorter of annotation and video",
    "time": "container time stamps, from the first frame",
}


def stream_fingerprints(recipe: ExtractRecipe, faces: str) -> dict[str, dict[str, Any]]:
    """Return the fingerprints of `image`, `audio`, `labels` and `text`.

    Args:
        recipe: how the store is made.
        faces: `crops`, `frames` or `detect`, what the image stream reads.

    Raises:
        DetectorError: faces are to be found, and the detector is not installed.
        WeightsError: weights are not at hand, or do not belong to their model.
        RecipeError: the recipe asks for what its encoders cannot do.
    """
    image = image_fingerprint(recipe.image)
    # Only where it matters, so that stores of crops and whole frames do not depend on a detector.
    found = {**detector_fingerprint(), "face": recipe.face.model_dump(mode="json")} if faces == "detect" else {}
    return {
        "image": {**image, "faces": faces, "frames": recipe.image_rate, **found},
        "audio": audio_fingerprint(recipe.audio),
        "labels": dict(LABELS),
        "text": text_part(image),
    }
