"""What verifying a store finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fault:
    """Something that is not as it was written."""

    stream: str
    """Top-level group, such as `image`; empty for the root."""
    video: str
    """Empty where it is about no single video."""
    key: str
    """The file or array below the group."""
    fault: str


@dataclass(frozen=True)
class Maker:
    """What made a part of a store: versions, machine and device."""

    made_by: Mapping[str, Any]
    """As the markers say it."""
    groups: int
    """How many videos' streams say so."""


@dataclass(frozen=True)
class Verification:
    """What was found."""

    videos: int
    """Videos that have at least one stream."""
    bytes: int
    """Bytes that the markers list; all of them were read with `deep`."""
    faults: list[Fault] = field(default_factory=list)
    widths: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The shape that one embedding has in each stream, or in most of its videos."""
    makers: list[Maker] = field(default_factory=list)
    """Of those streams of videos that say it, most first."""

    @property
    def ok(self) -> bool:
        """Whether all is as it was written."""
        return not self.faults
