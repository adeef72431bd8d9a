"""Whether a video's features can be computed with: numbers throughout, and of the file that its labels are of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float16

from vaprompt.errors import StoreError
from vaprompt.store import FeatureStore
from vaprompt.store.content import finite_halves
from vaprompt.store.layout import medium_of


def require_finite(
    store: FeatureStore, kind: str, name: str, piece: Float16[np.ndarray, "_ ..."], row: int = 0
) -> None:
    """Refuse embeddings of a video that are infinite or no numbers, which would spread through all computed of them.

    Args:
        store: where they are from, for what is said.
        kind: `image` or `audio`.
        name: the video.
        piece: some rows of its embeddings, contiguous.
        row: which of the video's is the first of them.

    Raises:
        StoreError: some are; the first is named by its frame, or its window of sound.
    """
    if finite_halves(piece.reshape(-1).view(np.uint8).data):
        return
    wrong = row + int(np.argmin(np.isfinite(piece).reshape(len(piece), -1).all(axis=1)))
    if kind == "image":
        what = f"frame {int(store.image_times(name)[0][wrong])} of video '{name}'"
    else:
        what = f"the window of sound that ends at {float(store.audio_ends(name)[wrong]):g} s of video '{name}'"
    raise StoreError(
        store.location,
        fault=f"the {kind} features of {what} are not finite, and can be neither trained nor predicted on",
        remedy=f"delete {kind}/{name} in the store and extract again, or leave it out with: vaprompt store subset",
    )


def require_one_state(store: FeatureStore, video: str, modalities: Sequence[str]) -> None:
    """Refuse features that were made of another state of a video's file than its labels, with which they are paired.

    A refresh under one name leaves another's as they are, and one that was stopped may have begun with some.

    Raises:
        StoreError: a stream is.
    """
    # By the markers and not the index: of what they tell the features are read, or refused if they are made anew.
    labels = medium_of(store.marker("labels", video))
    for kind in modalities:
        own = medium_of(store.marker(kind, video))
        if None not in (own, labels) and own != labels:
            raise StoreError(
                store.location,
                fault=f"has {kind} features of video '{video}' that are of another state of its file than its labels",
                remedy="run again the 'vaprompt extract' that made them, with --refresh",
            )
