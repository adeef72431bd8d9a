"""What the attributes of a store's groups must be, whoever wrote them: checked once, where they are read.

Digests tell of accidents; they are no protection against somebody who makes them fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

SPLITS = ("train", "validation", "test")
FAILED = "failed"
TEXT = "text"
MADE_AS = "fingerprint_digest"
"""Attribute of a marker: the digest of the fingerprint of the stream that it was written for; older ones lack it."""
MADE_BY = "made_by"
"""Attribute of the root, and of a marker: on what, and by which versions it was made; never compared."""

COUNTS = {
    "image": ("encoded", "frames", "seconds"),
    "audio": ("windows", "seconds"),
    "labels": ("frames", "valid", "seconds"),
}
"""Stream -> the counts in its markers; the first is the length of its arrays."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


def kind_of(folder: str) -> str:
    """Return what a top-level folder holds, whatever name it was extracted under: `image` for `image.b32`."""
    return folder.partition(".")[0]


def attribute_faults(group: str, attributes: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a group's attributes, for a group's key such as `image/video1`, or `` for the root."""
    stream, _, video = group.partition("/")
    if not stream:
        for name in ("dataset", "recipe", "made_by", "streams"):
            if not isinstance(attributes.get(name, {}), dict):
                yield f"gives no {name} but {shown(attributes[name])}"
    elif kind_of(stream) == FAILED:
        if video and not isinstance(attributes.get("reason"), str):
            yield "gives no reason"
    elif not video and not isinstance(attributes.get("fingerprint"), dict):
        yield "has no fingerprint"
    if kind_of(stream) != FAILED and (video or kind_of(stream) == TEXT) and attributes.get("status") == "done":
        yield from marker_faults(stream, attributes, complete=False)


def marker_faults(stream: str, marker: Mapping[str, Any], *, complete: bool = True) -> Iterator[str]:
    """Yield what is wrong with a marker by itself; unless `complete`, what it leaves out is no fault."""
    files = marker.get("files")
    if not isinstance(files, dict) or not all(is_file(key, facts) for key, facts in files.items()):
        yield "lists its files in another form"
    if kind_of(stream) == TEXT:
        if not _are(marker.get("prompts"), str):
            yield "gives no prompts"
    else:
        yield from summary_faults(stream, marker, complete=complete)


def summary_faults(stream: str, summary: Mapping[str, Any], *, complete: bool = False) -> Iterator[str]:
    """Yield what is wrong with what a video's marker says beside its files."""
    kind = kind_of(stream)
    if kind in COUNTS:
        if summary.get("split", None if complete else SPLITS[0]) not in SPLITS:
            yield f"gives the split {shown(summary.get('split'))}, which is none of {', '.join(SPLITS)}"
        counts = summary.get("counts", {})
        if not isinstance(counts, dict) or not all(
            _is_count(counts.get(name, None if complete else 0)) for name in COUNTS[kind]
        ):
            yield f"does not give the counts {', '.join(COUNTS[kind])}"
    if not isinstance(summary.get(MADE_BY, {}), dict):
        yield f"gives no {MADE_BY} but {shown(summary[MADE_BY])}"
    if not _are(summary.get("notes", []), str):
        yield "gives notes that are no texts"
    source = summary.get("source", {})
    if not isinstance(source, dict) or not _are(list(source.values()), dict):
        yield "gives its sources in another form"


def shown(value: object) -> str:
    """Return a value from a file as an error may show it."""
    return ascii(str(value))[1:-1][:40]


def _are(values: object, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _is_count(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < 2**53  # type: ignore[operator]


def is_file(key: object, facts: object) -> bool:
    """Say whether this is an entry of a marker's `files`, whatever the file's name."""
    return (
        isinstance(key, str)
        and isinstance(facts, dict)
        and type(facts.get("bytes")) is int
        and facts["bytes"] >= 0
        and isinstance(facts.get("sha256"), str)
        and _SHA256.fullmatch(facts["sha256"]) is not None
    )
