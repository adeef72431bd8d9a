"""What each edition of the ABAW challenges gave out, and which of them a folder holds.

The counts are those of the public annotation files (docs/affwild2.md); an edition is told by the number of its
files, since names of folders differ from one download to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vaprompt.datasets.base import SPLITS, Split

NEAR = 0.1
"""A split that differs from an edition's by at most this share is taken for that edition, with something amiss."""
SUBSET, UNKNOWN = "subset", "unknown"


@dataclass(frozen=True)
class Expected:
    """What an edition's split holds; None where it is not known."""

    videos: int
    sides: int | None = None
    """How many of the names end in `_left` or `_right`."""
    frames: int | None = None
    invalid: int | None = None
    """Rows of -5."""


@dataclass(frozen=True)
class Edition:
    """One or several editions of the same files."""

    name: str
    splits: Mapping[Split, Expected]


EDITIONS = (
    Edition(
        "ABAW5-ABAW10",
        {
            "train": Expected(356, 9, 1_682_057, 2_200),
            "validation": Expected(76, 5, 383_814, 1_793),
            "test": Expected(162, 15, 927_210),
        },
    ),
    Edition("ABAW3", {"validation": Expected(71), "test": Expected(152)}),
)


@dataclass(frozen=True)
class Recognised:
    """Which edition a data set is."""

    name: str
    """An edition's name, `subset` for a part of one, `unknown` for more than any holds."""
    edition: Edition | None
    """What to compare with; for a subset the latest edition, of which it is likely to be a part."""
    near: bool
    """Whether it is meant to be the whole edition, so that a different count is a fault."""
    complete: bool
    """Whether the files of all splits are as many as the edition's; a list of test videos need not be there."""


def recognise(videos: Mapping[Split, int]) -> Recognised:
    """Return the edition that has this many videos in its splits; a test split of 0 means no list of test videos."""
    near = [edition for edition in EDITIONS if _near(edition, videos)]
    if near:
        edition = min(near, key=lambda edition: _distance(edition, videos))
        present = (split for split in edition.splits if split != "test" or videos[split])
        complete = all(videos[split] == edition.splits[split].videos for split in present)
        return Recognised(edition.name, edition, near=True, complete=complete)
    latest = EDITIONS[0]
    if all(videos[split] <= latest.splits[split].videos for split in SPLITS):
        return Recognised(SUBSET, latest, near=False, complete=False)
    return Recognised(UNKNOWN, None, near=False, complete=False)


def _near(edition: Edition, videos: Mapping[Split, int]) -> bool:
    # Where an edition's count is not known, the latest bounds it: later editions only added videos.
    bounded = (videos[split] <= EDITIONS[0].splits[split].videos for split in SPLITS if split not in edition.splits)
    return all(bounded) and _distance(edition, videos) <= NEAR


def _distance(edition: Edition, videos: Mapping[Split, int]) -> float:
    """Return the greatest share by which a split differs; a list of test videos need not be there."""
    present = (split for split in edition.splits if split != "test" or videos[split])
    expected = {split: edition.splits[split].videos for split in present}
    return max(abs(videos[split] - count) / count for split, count in expected.items())
