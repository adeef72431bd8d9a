"""What all engines have in common: what they are told of an extraction, what they are asked for, and what they tell.

Axes: P prompts, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from vaprompt.datasets.base import Dataset
from vaprompt.extraction.plan import Job
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.progress import Task


@dataclass(frozen=True)
class Work:
    """What an engine has to know, wherever it runs."""

    dataset: Dataset
    recipe: ExtractRecipe
    store: Path
    stream: str | None
    """The name that the features are kept under."""
    fingerprints: Mapping[str, Mapping[str, Any]]
    device: str | Sequence[str]
    """Where the networks run: `auto`, a device of torch, or several."""


@dataclass(frozen=True)
class Told:
    """Whom an engine tells what became of each job; called by one thread of the engine at a time."""

    finished: Callable[[Job], None]
    failed: Callable[[Job, str], None]
    """Told the reason as well."""
    lost: Callable[[Job], Job | None]
    """Told of a job whose worker is gone; returns what is still to be done of it, None where nothing is."""


@runtime_checkable
class Engine(Protocol):
    """What extracts jobs into a store."""

    @property
    def about(self) -> dict[str, Any]:
        """Where it works, for the log."""
        ...

    def prepare(self, jobs: int) -> None:
        """Begin with what takes a while and can be done beside loading encoders: so many jobs will be asked for."""
        ...

    def embed(self, texts: Sequence[str]) -> Float32[np.ndarray, "P D"]:
        """Return the embeddings of prompts.

        Raises:
            WeightsError: the encoder's weights are not at hand.
        """
        ...

    def run(self, jobs: Iterator[Job | None], told: Told, task: Task) -> None:
        """Extract jobs, several at once; the next is asked for when there is room for it.

        A job is what is missing of one video. Doing it twice, or by two engines at the same time, ends with the same
        bytes in the store (on the processor), so that a job that may or may not have been done is simply done again.

        Args:
            jobs: what is to be done; asked by one thread at a time. None: nothing now, ask again.
            told: is told what became of each job. A job fails by its own files; anything else ends the run.
            task: is told how far it is.

        Raises:
            WeightsError: an encoder's weights are not at hand, or its values do not fit the store.
            DetectorError: faces are to be found, and the detector is not installed.
            DeviceError: a device was asked for that is not there.
            TargetError: the store cannot be written.
            StoreError: the store is damaged.
            ClusterError: the machines that it works on cannot do it.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds on to."""
        ...
