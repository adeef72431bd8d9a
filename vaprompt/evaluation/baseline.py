"""What the temporal model has to beat: ridge regression on the window means of the same features.

Axes: W windows, X features of a window, N image embeddings, A cached audio windows of a video.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from vaprompt.store import FeatureStore
from vaprompt.training.inputs import Inputs, read_inputs
from vaprompt.training.recipe import TrainRecipe
from vaprompt.windows import Windows

ALPHAS = tuple(10.0**power for power in range(-1, 6))
FOLDS = 4


class RidgeBaseline:
    """Ridge regression from a window's mean image and mean audio embedding to valence and arousal at its end."""

    def __init__(self, recipe: TrainRecipe, model: Pipeline | GridSearchCV) -> None:
        """Keep a fitted model; see `fit`."""
        self.recipe = recipe
        self.model = model

    @classmethod
    def fit(cls, store: FeatureStore, recipe: TrainRecipe) -> RidgeBaseline | None:
        """Fit on the windows of the store's training split; None where it has no labelled one.

        The penalty is chosen by cross-validation over training videos where there are two or more.
        """
        inputs, values, groups = [], [], []
        for index, video in enumerate(store.videos("train")):
            known = read_inputs(store, video, recipe.model.modalities)
            windows = known.labelled(recipe.window)
            if len(windows.end_W):
                inputs.append(window_means(windows, known))
                values.append(known.labels.value_F2[windows.target_W])
                groups.append(np.full(len(windows.end_W), index))
        if not groups:
            return None
        model = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
        if len(groups) > 1:
            folds = GroupKFold(min(FOLDS, len(groups)))
            model = GridSearchCV(model, {"ridge__alpha": ALPHAS}, cv=folds, scoring="neg_mean_squared_error")
            model.fit(np.concatenate(inputs), np.concatenate(values), groups=np.concatenate(groups))
        else:
            model.fit(np.concatenate(inputs), np.concatenate(values))
        return cls(recipe, model)

    def predict_at(self, end_W: Float64[np.ndarray, "W"], known: Inputs) -> Float32[np.ndarray, "W 2"]:
        """Return valence and arousal in [-1, 1] at the ends of windows, in seconds."""
        windows = known.windows(end_W, self.recipe.window)
        prediction_W2: np.ndarray = self.model.predict(window_means(windows, known))
        return prediction_W2.clip(-1, 1).astype(np.float32)


def window_means(windows: Windows, known: Inputs) -> Float32[np.ndarray, "W X"]:
    """Return each window's mean image embedding beside its mean audio embedding, as far as they were read."""
    parts = []
    if known.image_NI is not None:
        parts.append(_gathered_means(known.image_NI, windows.image_WT))
    if known.audio_ASC is not None:
        audio_AC = known.audio_ASC.mean(axis=1, dtype=np.float32)
        parts.append(audio_AC[windows.audio_W])
    return np.concatenate(parts, axis=1)


def _gathered_means(embedding_NX: np.ndarray, row_WT: np.ndarray) -> Float32[np.ndarray, "W X"]:
    """Return the mean of each window's rows, without the windows ever standing in memory whole."""
    mean_WX = np.zeros((len(row_WT), embedding_NX.shape[1]), np.float32)
    for step in range(row_WT.shape[1]):
        mean_WX += embedding_NX[row_WT[:, step]]
    mean_WX /= row_WT.shape[1]
    return mean_WX
