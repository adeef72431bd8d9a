"""All ways by which a store's content reaches the program; each is given a folder that holds one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vaprompt.recipes import validated
from vaprompt.store import FeatureStore
from vaprompt.store.verification import verify
from vaprompt.training.data import Resident
from vaprompt.training.recipe import TrainRecipe

RECIPE = validated(TrainRecipe, {"window": {"seconds": 0.5, "stride": 0.1, "frames": 3}}, where="fuzz")


def _arrays(path: Path) -> None:
    store = FeatureStore.open(path)
    for video in store.videos():
        for features in (store.image(video), store.audio(video), store.labels(video)):
            assert all(isinstance(values, np.ndarray) for values in vars(features).values())
        store.notes(video)
        store.split(video)
    store.text()


def _info(path: Path) -> None:
    FeatureStore.open(path).info()


def _done(path: Path) -> None:
    store = FeatureStore.open(path)
    for stream in store.streams:
        store.fingerprint(stream)
        store.require(stream, store.fingerprint(stream))
        for video in store.done(stream):
            store.marker(stream, video)
            store.summary(stream, video)
    store.failed()


def _train(path: Path) -> None:
    Resident(FeatureStore.open(path), RECIPE).split("train", RECIPE)


STORE = {
    "info": _info,
    "arrays": _arrays,
    "done": _done,
    "train": _train,
    "verify": verify,
    "verify --deep": lambda path: verify(path, deep=True),
}
