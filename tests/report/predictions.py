"""Predictions that are made up, of clips that are: what pages and pictures of them are to show is known."""

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from vaprompt.faces.tracking import Person
from vaprompt.prediction.predict import PredictedVideo
from vaprompt.training.runs import WindowEstimates


def track(time_F: Float64[np.ndarray, "F"], number: int, gone: tuple[float, float] | None = None) -> Person:
    """Return a face that moves to the right and turns a little, and is away for a while."""
    time_D = time_F[::5]
    share_D = time_D / time_F[-1]
    placement_D4 = np.stack(
        (0.25 * number + 0.2 * share_D, 0.3 + 0.02 * share_D, np.log(0.2 + 0 * share_D), 0.3 * share_D), axis=1
    )
    if gone is None:
        first_S, last_S = [0], [len(time_F) - 1]
    else:
        left, back = np.searchsorted(time_F, gone)
        first_S, last_S = [0, int(back)], [int(left) - 1, len(time_F) - 1]
    return Person(time_D, placement_D4, np.array(first_S), np.array(last_S), 1.0)


def predicted(
    media: Path,
    time_F: Float64[np.ndarray, "F"],
    *,
    number: int = 1,
    several: bool = False,
    gone: tuple[float, float] | None = None,
    whole: bool = False,
    gate: bool = True,
    regions: int = 9,
    notes: tuple[str, ...] = (),
) -> PredictedVideo:
    """Return a prediction; person `number` has traces of their own."""
    share_F = time_F / max(time_F[-1], 1e-9)
    value_F2 = np.stack((0.8 * np.sin(5 * share_F + number), 0.6 * np.cos(7 * share_F * number)), axis=1)
    end_W = np.unique(np.append(np.arange(0, time_F[-1], 0.5), time_F[-1]))
    random = np.random.default_rng(number)
    windows = WindowEstimates(
        np.stack([np.interp(end_W, time_F, value_F2[:, axis]) for axis in (0, 1)], axis=1).astype(np.float32),
        random.dirichlet(np.ones(regions), len(end_W)).astype(np.float32),
        np.linspace(0.2, 0.9, len(end_W)).astype(np.float32) if gate else None,
    )
    person = None if whole else track(time_F, number, gone)
    csv = media.parent / (f"{media.stem}.person{number}.csv" if several else f"{media.stem}.csv")
    return PredictedVideo(
        media,
        csv,
        time_F,
        value_F2.astype(np.float32),
        end_W,
        windows,
        list(notes),
        face_F=None if person is None else person.visible(len(time_F)),
        person=number if several else None,
        interpolation="windows end every 0.5 s; frames between by time",
        track=person,
    )
