"""The page of a prediction: the video, or the sound alone, plays, and what was predicted of each person moves along.

It is one file; the video lies beside it, inside it, or where a server says (`footage.Footage`). Long videos are reduced
so that the page of two hours stays far below 20 MB, and no peak of a trace is lost.

Axes: F frames of a video, W windows, K regions, D looks at a face; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from vaprompt.faces.tracking import Person
from vaprompt.media.appearance import Appearance
from vaprompt.media.loudness import Loudness
from vaprompt.prediction.predict import PredictedVideo
from vaprompt.regions import RegionRecipe
from vaprompt.report.footage import Footage
from vaprompt.report.pages import packing
from vaprompt.report.pages.page import CHART_SCRIPTS, CHART_STYLES, Page
from vaprompt.report.pages.sound import packed_sound

SCRIPTS = (*CHART_SCRIPTS, "heat.js", "sound.js", "player.js", "moving.js", "prediction.js")
STYLES = (*CHART_STYLES, "heat.css", "run.css", "prediction.css")
MOST_FRAMES = 800_000
"""Frames on a page, of everybody in it; of more, the telling ones are kept. Each takes some 5 bytes."""
MOST_WINDOWS = 150_000
"""Windows, likewise; each takes some 10 bytes."""
MOST_LOOKS = 300_000
"""Places of faces, likewise; each takes some 8 bytes."""
WHOLE, SOUND = "the whole picture", "the sound"


@dataclass(frozen=True)
class Download:
    """A file that the page offers."""

    name: str
    address: str
    """URL, relative to the page or absolute."""


@dataclass(frozen=True)
class Screening:
    """One video's prediction and what it is shown with."""

    people: Sequence[PredictedVideo]
    """Of one video, at least one; the most prominent first."""
    regions: RegionRecipe
    footage: Footage
    appearance: Appearance | None
    """None where there is nothing but sound."""
    loudness: Loudness | None = None
    """None where nobody listened."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What else to say, as name and text; the run, for instance."""
    downloads: Sequence[Download] = ()
    name: str = ""
    """What to call the video; by default its file's name."""
    start: float = 0.0
    """The media's own time of the first row, in seconds: of the first frame, or of where sound alone begins."""

    @property
    def title(self) -> str:
        """What the video is called."""
        return self.name or self.people[0].media.name


def prediction_page(screening: Screening) -> Page:
    """Return the page that shows a video with what was predicted of the people in it."""
    first = screening.people[0]
    footage = screening.footage
    context = {
        "screening": screening,
        "footage": footage,
        "frames": len(first.time_F),
        "seconds": float(first.time_F[-1]),
        "names": [who(video) for video in screening.people],
        "notes": notes(screening),
        "interpolation": first.interpolation,
        "silence": _silence(screening),
    }
    return Page(
        "prediction.html",
        f"{screening.title}: valence and arousal",
        context,
        {"prediction": _data(screening)},
        SCRIPTS,
        STYLES,
        footage.policy,
    )


def who(video: PredictedVideo) -> str:
    """Return what the subject of a prediction is called."""
    if not video.seen:
        return SOUND
    if video.track is None:
        return WHOLE
    return "the face" if video.person is None else f"person {video.person}"


def notes(screening: Screening) -> list[str]:
    """Return what is to be remarked, once each; what is not said of everybody says of whom it is."""
    everybody = [set(video.notes) for video in screening.people]
    common = set.intersection(*everybody)
    found = [note for note in screening.people[0].notes if note in common]
    for video in screening.people:
        found += [f"{who(video)}: {note}" for note in video.notes if note not in common]
    return found


def _silence(screening: Screening) -> str:
    if screening.loudness is None:
        return "the sound was not listened to"
    if not screening.loudness.silent:
        return ""
    return "nothing but silence" if screening.appearance is None else "the video has no sound, or nothing but silence"


def _data(screening: Screening) -> dict[str, Any]:
    people, look = screening.people, screening.appearance
    time_F = people[0].time_F
    values_FC = np.concatenate([video.value_F2 for video in people], axis=1)
    kept_F = packing.telling(values_FC, MOST_FRAMES // len(people))
    return {
        "title": screening.title,
        "video": {
            "address": screening.footage.address,
            "kind": screening.footage.kind,
            "start": screening.start,
            "picture": None
            if look is None
            else {"codec": look.codec, "width": look.width, "height": look.height, "shape": look.shape},
        },
        "seconds": float(time_F[-1]),
        "frames": len(time_F),
        "whole": len(kept_F) == len(time_F),
        "time": packing.times(time_F[kept_F]),
        "people": [
            {
                "name": who(video),
                "values": {
                    dimension: packing.series(video.value_F2[kept_F, axis])
                    for axis, dimension in enumerate(("valence", "arousal"))
                },
                "gone": _gone(video),
                "windows": _windows(video, MOST_WINDOWS // len(people)),
                "track": None if video.track is None else _track(video.track, video.margin, MOST_LOOKS // len(people)),
            }
            for video in people
        ],
        "sound": None if screening.loudness is None else packed_sound(screening.loudness),
        "phrases": list(screening.regions.phrases),
        "centres": screening.regions.centres_K2().tolist(),
    }


def _gone(video: PredictedVideo) -> list[list[float]]:
    """Return the stretches of time without the face, in seconds: from the first frame without it to the next with."""
    if video.track is None or video.face_F is None:
        return []
    time_F = video.time_F
    edge = packing.spans(~video.face_F)
    return [
        [round(float(time_F[first]), 4), round(float(time_F[min(behind, len(time_F) - 1)]), 4)]
        for first, behind in zip(edge[::2], edge[1::2], strict=True)
    ]


def _windows(video: PredictedVideo, most: int) -> dict[str, Any]:
    rows = _some(len(video.end_W), most)
    arrays = {
        "end": packing.times(video.end_W[rows]),
        "regions": packing.shares(video.windows.region_WK[rows]),
    }
    if video.windows.gate_W is not None:
        arrays["gate"] = packing.shares(video.windows.gate_W[rows])
    return arrays


def _track(track: Person, margin: float, most: int) -> dict[str, Any]:
    """Return where a face's crop lies: centre and logarithm of the side in widths of the picture, and angle."""
    rows = _some(len(track.time_D), most)
    placed_D4 = track.placement_D4[rows] + np.array([0, 0, np.log(margin), 0])

    def packed(values_D: Float64[np.ndarray, "D"]) -> dict[str, Any]:
        return packing.series(values_D, max(float(np.abs(values_D).max()), 1e-6))

    names = ("x", "y", "size", "angle")
    return {"time": packing.times(track.time_D[rows])} | {
        name: packed(placed_D4[:, part]) for part, name in enumerate(names)
    }


def _some(count: int, most: int) -> Int64[np.ndarray, "M"]:
    """Return the numbers of at most some `most` rows, evenly spread, the first and the last among them."""
    return np.unique(np.append(np.arange(0, count, -(-count // max(most, 1))), count - 1))
