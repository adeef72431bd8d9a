"""Whom a prediction is about: a person whose face was found or given, or the whole picture; and when it is asked.

Axes: F frames of the video, W windows, N pictures that exist of a subject, M of them that are used,
A audio windows, S stretches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float16, Float32, Float64, Int64

from vaprompt.encoders.base import AudioEncoder, ImageEncoder
from vaprompt.extraction.encode_media import audio_batches, encode_pictures
from vaprompt.extraction.grid import audio_ends
from vaprompt.extraction.pictures import Picture, chosen_pictures, visible_frames
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.faces.tracking import Person
from vaprompt.prediction.given_crops import GivenCrops
from vaprompt.prediction.stream import stream_estimates, used_rows
from vaprompt.training.runs import Run, WindowEstimates
from vaprompt.windows import TOLERANCE, WindowRecipe, cut_windows, dense_ends, interpolate

MOST_GAPS = 3

Subject = Person | GivenCrops | None
"""None stands for whole frames."""


@dataclass(frozen=True)
class SubjectPrediction:
    """What a run says of one subject of a video."""

    value_F2: Float32[np.ndarray, "F 2"]
    """Valence and arousal of every frame, in [-1, 1]."""
    end_W: Float64[np.ndarray, "W"]
    """When its windows end, in seconds from the first frame, ascending."""
    windows: WindowEstimates
    """What was said at these ends."""


@dataclass(frozen=True)
class _Asked:
    """The windows of one subject; pictures are named by the index of their frame."""

    end_W: Float64[np.ndarray, "W"]
    frame_WT: Int64[np.ndarray, "W T"]
    audio_W: Int64[np.ndarray, "W"]


def predict_subjects(
    run: Run,
    recipe: ExtractRecipe,
    media: Path,
    time_F: Float64[np.ndarray, "F"],
    people: Sequence[Subject],
    seeing: ImageEncoder | None,
    hearing: AudioEncoder | None,
    every: int | None = None,
    reached: Callable[[float], None] = lambda seconds: None,
) -> list[SubjectPrediction]:
    """Return valence and arousal of every frame for each subject, in bounded memory.

    The video is decoded once for all of them, only pictures that some window uses are encoded, and sound is encoded
    once. Frames in which a person's face is not there are interpolated in time between those in which it is.

    Args:
        run: what predicts.
        recipe: how the run's store was made.
        media: the video, or its sound, or the folder of face crops.
        time_F: its frames' times, in seconds from the first.
        people: the subjects; crops that are given are the only one.
        seeing: encodes pictures; None where the run leaves them out.
        hearing: encodes sound; None where the run leaves it out.
        every: windows end at every so many frames; by default at every stride of the run's recipe.
        reached: told the time up to which the video is predicted, in seconds.

    Raises:
        MediaError: picture or sound cannot be decoded.
    """
    last = float(time_F[-1])
    audio_end_A = audio_ends(last, window=recipe.audio.window, hop=recipe.audio.hop)
    asked = [_asked(person, time_F, audio_end_A, recipe.image_rate, run.recipe.window, every) for person in people]
    end_W, audio_W = (np.concatenate([getattr(one, name) for one in asked]) for name in ("end_W", "audio_W"))
    # One number for each picture: by frame first, as they are decoded, then by person.
    key_WT = np.concatenate([one.frame_WT * len(people) + number for number, one in enumerate(asked)])
    order_W = np.argsort(end_W, kind="stable")
    used_M, image_WT = used_rows(key_WT[order_W])
    index_M, person_M = np.divmod(used_M, len(people))
    image: Iterator[Float16[np.ndarray, "_ D"]] | None = None
    audio: Iterator[Float16[np.ndarray, "_ S D"]] | None = None
    if seeing is not None:
        pictures = _pictures(media, index_M, person_M, people, recipe, time_F)
        image = (batch.embedding_ND for batch in encode_pictures(pictures, recipe, seeing))
    if hearing is not None:
        # Crops are silent, as a video without sound is.
        sound = None if isinstance(people[0], GivenCrops) else media
        audio = (batch.embedding_WSD for batch in audio_batches(sound, recipe.audio, hearing, last=last))
    estimates = stream_estimates(
        run, image_WT, audio_W[order_W], image, audio, lambda done: reached(float(end_W[order_W[done - 1]]))
    )
    # Windows were asked in the order of time; each subject's own stand together again.
    own = np.split(np.argsort(order_W), np.cumsum([len(one.end_W) for one in asked])[:-1])
    parts = [estimates.rows(row_V) for row_V in own]
    return [
        SubjectPrediction(interpolate(one.end_W, part.value_W2, time_F), one.end_W, part)
        for one, part in zip(asked, parts, strict=True)
    ]


def gaps_note(visible_F: Bool[np.ndarray, "F"], time_F: Float64[np.ndarray, "F"]) -> str | None:
    """Return when a face was gone, in words; None where it was there throughout."""
    change = np.flatnonzero(np.diff(np.concatenate(([True], visible_F, [True])).astype(np.int8)))
    if not len(change):
        return None
    gaps = [(time_F[first], time_F[last - 1]) for first, last in change.reshape(-1, 2)]
    shown = ", ".join(f"{first:.2f} to {last:.2f} s" for first, last in gaps[:MOST_GAPS])
    more = f" and {len(gaps) - MOST_GAPS} more times" if len(gaps) > MOST_GAPS else ""
    gone = int(len(visible_F) - visible_F.sum())
    return f"no face in {gone} of {len(visible_F)} frames, filled by interpolation: {shown}{more}"


def _pictures(
    media: Path,
    index_M: Int64[np.ndarray, "M"],
    person_M: Int64[np.ndarray, "M"],
    people: Sequence[Subject],
    recipe: ExtractRecipe,
    time_F: Float64[np.ndarray, "F"],
) -> Iterator[Picture]:
    if isinstance(people[0], GivenCrops):
        return people[0].pictures(index_M, time_F)
    found = [person for person in people if not isinstance(person, GivenCrops)]
    return chosen_pictures(media, index_M, person_M, found, recipe.face)


def _asked(
    person: Subject,
    time_F: Float64[np.ndarray, "F"],
    audio_end_A: Float64[np.ndarray, "A"],
    rate: str | float,
    recipe: WindowRecipe,
    every: int | None,
) -> _Asked:
    end_W = dense_ends(time_F, seconds=recipe.seconds, stride=recipe.stride, every=every)
    if person is not None:
        # Nothing is asked of moments without a face, and the ends of each stretch are what gaps are filled from.
        shown_W = person.visible(len(time_F))[np.searchsorted(time_F, end_W + TOLERANCE, side="right") - 1]
        end_W = np.unique(np.concatenate((end_W[shown_W], time_F[person.first_S], time_F[person.last_S])))
        end_W = end_W[np.diff(end_W, prepend=-np.inf) > TOLERANCE]
    index_N = visible_frames(time_F, rate, person)
    windows = cut_windows(
        end_W,
        time_F=time_F,
        image_time_N=time_F[index_N],
        audio_end_A=audio_end_A,
        seconds=recipe.seconds,
        frames=recipe.frames,
    )
    return _Asked(windows.end_W, index_N[windows.image_WT], windows.audio_W)
