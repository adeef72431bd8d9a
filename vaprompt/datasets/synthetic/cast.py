"""Who plays in which video, and what befalls it: everything that Aff-Wild2 contains, dealt out by rule.

Six annotated people already show all of it; smaller sets lack some (in brackets: the least number of people):

- training 1 and 2 (4): one video with two people, `X` and its twin `X_right`; `X` begins with invalid frames and
  `X_right` lacks crops.
- training 3 (5): an avi with an invalid stretch inside and two annotation rows more than frames.
- validation 1 (3): variable frame rate, missing crops (that of frame 1 among them).
- validation 2 (6): `Y_right` without plain twin, and a silent stretch in the sound.
- test 1 (3): no audio track.

Larger sets repeat these in other combinations. Frame rates are dealt to the recordings in turn, and the number in a
file's name is never the real one, as in the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from vaprompt.datasets.base import Split
from vaprompt.datasets.synthetic.person import Surroundings
from vaprompt.datasets.synthetic.recipe import SyntheticRecipe
from vaprompt.datasets.synthetic.trajectory import random_source

RATES = tuple(Fraction(*rate) for rate in ((25, 1), (30000, 1001), (12, 1), (30, 1), (10, 1), (15, 1), (20, 1), (8, 1)))
_CLAIMED = (60, 24, 30, 25, 15)
_SIZES = ("1280x720", "1920x1080", "640x360", "484x360")


@dataclass(frozen=True)
class Role:
    """One annotated person in a recording."""

    name: str
    split: Split
    place: int
    """0 for the person on the left or alone, 1 for the one on the right."""
    invalid_start: bool = False
    invalid_inside: bool = False
    missing_crops: bool = False
    more_rows: int = 0
    """Annotation rows beyond the last frame."""


@dataclass(frozen=True)
class Recording:
    """One media file and the people in it."""

    stem: str
    container: Literal["mp4", "avi"]
    batch: int
    """1 or 2: the delivery that the file came with."""
    rate: Fraction
    """Frames a second; the greatest one where the rate varies."""
    seconds: float
    people: tuple[int, ...]
    """Numbers of the one or two people seen and heard."""
    surroundings: Surroundings
    roles: tuple[Role, ...]
    variable: bool = False
    audio: bool = True
    silence: bool = False
    fine_audio: bool = False
    """44.1 kHz stereo in place of 16 kHz mono."""


def split_sizes(recipe: SyntheticRecipe) -> dict[Split, int]:
    """Return how many annotated people each split has."""
    validation = max(1, round(recipe.videos * recipe.validation_share))
    test = max(1, round(recipe.videos * recipe.test_share))
    return {"train": max(1, recipe.videos - validation - test), "validation": validation, "test": test}


def deal(recipe: SyntheticRecipe) -> tuple[Recording, ...]:
    """Return the data set's recordings, training first."""
    recordings: list[Recording] = []
    for split, size in split_sizes(recipe).items():
        left, turn = size, 0
        while left:
            recording = _recording(recipe, split, turn, room=left, number=len(recordings))
            recordings.append(recording)
            left, turn = left - len(recording.roles), turn + 1
    return tuple(recordings)


def _recording(recipe: SyntheticRecipe, split: Split, turn: int, *, room: int, number: int) -> Recording:
    """Return recording `turn` of a split that has `room` people left; it is the data set's number `number`."""
    random = random_source(recipe.seed, "cast", number)
    stem = _stem(number, RATES[number % len(RATES)])
    # Which peculiarities recur, and with which others, follows from the turn alone.
    train, validation, test = split == "train", split == "validation", split == "test"
    twin = train and turn % 12 == 0 and room >= 2
    lone_right = not twin and ((validation and turn % 6 == 1) or (train and turn % 9 == 5) or (test and turn % 5 == 2))
    people = (2 * number, 2 * number + 1) if twin or lone_right else (2 * number,)
    flags = {
        "invalid_start": (train and turn % 7 in (0, 4)) or (validation and turn % 6 == 3),
        "invalid_inside": (train and turn % 7 in (1, 5)) or (validation and turn % 6 == 2),
        "missing_crops": turn % 3 == 0 if not twin else False,
    }
    avi = train and turn % 7 == 1
    first = Role(
        name=f"{stem}_right" if lone_right else stem,
        split=split,
        place=1 if lone_right else 0,
        more_rows=2 if avi else 0,
        **flags,
    )
    second = (Role(name=f"{stem}_right", split=split, place=1, missing_crops=True),) if twin else ()
    return Recording(
        stem=stem,
        container="avi" if avi else "mp4",
        batch=2 if number % 4 == 3 else 1,
        rate=RATES[number % len(RATES)],
        seconds=recipe.seconds * float(random.uniform(0.9, 1.1)),
        people=people,
        surroundings="familiar" if train else "foreign",
        roles=(first, *second),
        variable=(validation and turn % 6 == 0) or (train and turn % 8 == 6),
        audio=not ((test and turn % 4 == 0) or (train and turn % 9 == 2)),
        silence=(validation and turn % 6 == 1) or (train and turn % 9 == 3),
        fine_audio=number % 3 == 1,
    )


def _stem(number: int, rate: Fraction) -> str:
    """Return a file name such as Aff-Wild2's, whose middle number is not the frame rate."""
    if number % 5 == 4:
        return f"video{number + 3}"
    claimed = next(claim for claim in (*_CLAIMED[number % 5 :], *_CLAIMED) if abs(claim - rate) > 1)
    tail = ("", "", "-1", "", "_1")[number % 5] if number > 4 else ""
    return f"{10 + 7 * number}-{claimed}-{_SIZES[number % len(_SIZES)]}{tail}"
