"""Comparing what made two things, field by field, so that a refusal names the fields and not just "stale"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vaprompt.errors import FingerprintError

Fingerprint = Mapping[str, Any]
"""Whatever determines a stream's values, as plain JSON: strings, numbers, lists, nested mappings."""


def differing(left: Fingerprint, right: Fingerprint) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two fingerprints differ with both values, nested fields with dots, in order of names.

    What one of them has not is `nothing`.
    """
    here, there = dict(_flat(left)), dict(_flat(right))
    both = {key: (here.get(key, "nothing"), there.get(key, "nothing")) for key in sorted(here.keys() | there.keys())}
    return {key: values for key, values in both.items() if values[0] != values[1]}


def differences(stored: Fingerprint, asked: Fingerprint, *, other: str = "asked for") -> list[str]:
    """Return one text for each field in which two fingerprints differ; `other` says where the second's values are."""
    return [f"{key}: {here} here, {there} {other}" for key, (here, there) in differing(stored, asked).items()]


def require_equal(
    stored: Fingerprint, asked: Fingerprint, *, where: Path | str, remedy: str, other: str = "asked for"
) -> None:
    """Do nothing if the two fingerprints are equal.

    Raises:
        FingerprintError: they differ; the fault lists every differing field with both values.
    """
    found = differences(stored, asked, other=other)
    if found:
        raise FingerprintError(where, fault=f"was made differently ({'; '.join(found)})", remedy=remedy)


def _flat(fingerprint: Fingerprint, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in fingerprint.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            # JSON knows no tuples: what was written as one comes back as a list.
            yield prefix + key, list(value) if isinstance(value, tuple) else value
