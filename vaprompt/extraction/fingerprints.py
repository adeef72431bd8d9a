"""What makes each stream of a store, before any network is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vaprompt.datasets.base import MODALITIES, Dataset
from vaprompt.encoders.ast_form import audio_fingerprint
from vaprompt.encoders.clip_form import image_fingerprint, text_part
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.faces.detector import detector_fingerprint

LABELS: Mapping[str, Any] = {
    "schema": 1,
    "values": "valence and arousal as annotated, one row a frame, cut to the shorter of annotation and video",
    "time": "container time stamps, from the first frame",
}


def dataset_fingerprints(recipe: ExtractRecipe, dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Return the fingerprints of what is made of a data set: of the streams that it has, and of `text`.

    Raises:
        DetectorError, WeightsError, RecipeError: as `stream_fingerprints`.
    """
    made = stream_fingerprints(recipe, dataset.faces, modalities=dataset.modalities)
    if dataset.annotations is not None:
        made["labels"] |= dataset.annotations.fingerprint
    for stream in {"image", "labels"} & made.keys():
        made[stream] |= dataset.rates.described
    return made


def stream_fingerprints(
    recipe: ExtractRecipe, faces: str, *, modalities: Sequence[str] = MODALITIES
) -> dict[str, dict[str, Any]]:
    """Return the fingerprints of `image` and `audio`, as far as they are taken, `labels` and `text`.

    Args:
        recipe: how the store is made.
        faces: `crops`, `frames` or `detect`, what the image stream reads.
        modalities: what is taken of the data set.

    Raises:
        DetectorError: faces are to be found, and the detector is not installed.
        WeightsError: weights are not at hand, or do not belong to their model.
        RecipeError: the recipe asks for what its encoders cannot do.
    """
    image = image_fingerprint(recipe.image)
    # Those with most fields first: the first that differs is what is told.
    made: dict[str, dict[str, Any]] = {}
    if "image" in modalities:
        # Only where it matters, so that stores of crops and whole frames do not depend on a detector.
        found = {**detector_fingerprint(), "face": recipe.face.model_dump(mode="json")} if faces == "detect" else {}
        made["image"] = {**image, "faces": faces, "frames": recipe.image_rate, **found}
    if "audio" in modalities:
        made["audio"] = audio_fingerprint(recipe.audio)
    return made | {"labels": dict(LABELS), "text": text_part(image)}
